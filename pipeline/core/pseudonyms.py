"""Who a patient is, without saying so: keyed hashes instead of names and IDs.

The key belongs to the installation, not to a store or a run, so that a patient has one
pseudonym, and stays on one side of the split, for ever.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from pipeline.core.errors import ConfigError

KEY_BYTES = 32


def key_file() -> Path:
    """LDCT_KEY_FILE, or the default place in the user's configuration."""
    named = os.environ.get("LDCT_KEY_FILE")
    return Path(named) if named else Path.home() / ".config" / "ldct" / "patient.key"


def installation_key() -> bytes:
    """The secret key, made at first use and readable by its owner only.

    Raises ConfigError where the file is unreadable or too short to be a key.
    """
    path = key_file()
    try:
        if not path.exists():
            _make_key(path)
    except OSError as error:
        raise ConfigError(f"cannot use the key file {path} (LDCT_KEY_FILE): {error}") from error
    return read_key(path)


def read_key(path: Path) -> bytes:
    """A key from a file; raises ConfigError where it is unreadable or too short to be one."""
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot use the key file {path} (LDCT_KEY_FILE): {error}") from error
    if len(key) < KEY_BYTES:
        raise ConfigError(f"the key file {path} holds {len(key)} bytes, expected {KEY_BYTES}")
    return key


def _make_key(path: Path) -> None:
    """Write a new key whole; of two processes that start at once, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent)  # readable by its owner only
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
        with suppress(FileExistsError):
            os.link(partial, path)
    finally:
        os.unlink(partial)


def pseudonym(key: bytes, prefix: str, *parts: str) -> str:
    """`prefix`-HMAC of the parts (RFC 2104, SHA-256), 12 hexadecimal digits."""
    message = "\0".join(part.strip() for part in parts).encode()
    return f"{prefix}-{hmac.new(key, message, hashlib.sha256).hexdigest()[:12]}"


def patient_pseudonym(key: bytes, patient_id: str, issuer: str = "") -> str:
    """A patient's pseudonym on this installation, of PatientID and IssuerOfPatientID."""
    return pseudonym(key, "p", patient_id, issuer)


def unit_interval(key: bytes, patient: str) -> float:
    """A patient's fixed place in [0, 1), which decides the side of the split."""
    drawn = hmac.new(key, b"split\0" + patient.encode(), hashlib.sha256).digest()
    return int.from_bytes(drawn[:8], "big") / 2**64
