"""Credentials, from the environment or a file; TLS from files. Nothing here prints them."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from pipeline.config.connection import Login, Tls
from pipeline.core.errors import ConfigError


@dataclass(frozen=True)
class Credentials:
    """A user and password, or a token; none of them in the repr."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def credentials(login: Login) -> Credentials:
    """Read the user and password, or token, from where a login says.

    Raises ConfigError that names the variable or file, never what it holds.
    """
    if login.file is not None:
        return _checked(_read_file(login.file), str(login.file))
    prefix = f"LDCT_{login.env}_"
    names = ("user", "password", "token")
    found = {name: os.environ.get(prefix + name.upper(), "") for name in names}
    return _checked(found, f"the environment: {prefix}USER and {prefix}PASSWORD, or {prefix}TOKEN")


def read_private(path: Path, what: str) -> str:
    """The text of a file that holds a secret. Raises ConfigError, which names `what`, where it is
    not there, or others than its owner can read it."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(f"{path} can be read by others than its owner; `chmod 600 {path}`")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"cannot read {what} {path}: {why}") from None


def _read_file(path: Path) -> dict[str, str]:
    try:
        found = yaml.safe_load(read_private(path, "the login"))
    except yaml.YAMLError:
        # The parser's own message would quote the line, and with it the secret.
        raise ConfigError(f"the login {path} is not valid YAML") from None
    if not isinstance(found, dict) or not found.keys() <= {"user", "password", "token"}:
        raise ConfigError(f"the login {path} must hold user and password, or token")
    return {name: str(value) for name, value in found.items()}


def _checked(found: dict[str, str], source: str) -> Credentials:
    login = Credentials(**found)
    if bool(login.token) == bool(login.user and login.password):
        raise ConfigError(f"expected user and password, or a token, in {source}")
    return login


def client_context(tls: Tls) -> ssl.SSLContext:
    """The TLS context of a client: the server's certificate and name are checked.

    Raises ConfigError for a file that is missing or cannot be used.
    """
    return _with_identity(ssl.create_default_context(cafile=_existing(tls.ca)), tls)


def server_context(tls: Tls) -> ssl.SSLContext:
    """The TLS context of a server; with a ca, only for clients that it signed (PS3.15 B.9).

    Raises ConfigError for a certificate that cannot be used.
    """
    context = _with_identity(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), tls)
    if ca := _existing(tls.ca):
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _with_identity(context: ssl.SSLContext, tls: Tls) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate:
        try:
            context.load_cert_chain(tls.certificate, tls.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"cannot use the certificate {tls.certificate}: {error}") from error
    return context


def _existing(path: Path | None) -> str | None:
    if path is not None and not path.is_file():
        raise ConfigError(f"there is no certificate authority {path}")
    return None if path is None else str(path)
