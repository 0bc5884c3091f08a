"""What connections of every kind need: ports, logins, certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.sections import Strict

LOOPBACK = ("127.0.0.1", "::1", "localhost")
Port = Annotated[int, Field(ge=1, le=65535)]


def require_https(url: str) -> str:
    """The URL. Raises ValueError for one that is not https, but for http to this computer: a
    login's code, a cookie or a message would be read on the way."""
    parts = urlsplit(url)
    to_itself = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or to_itself):
        # What follows the host may be a secret, as of a chat's webhook.
        given = f"{parts.scheme}://{parts.hostname or ''}"
        raise ValueError(f"expected https://HOST, or http to this computer alone, got {given}")
    return url


HttpsUrl = Annotated[str, AfterValidator(require_https)]


class Login(Strict):
    """Where a user and password, or a token, are kept: never in the configuration itself."""

    #: HOSPITAL for LDCT_HOSPITAL_USER and LDCT_HOSPITAL_PASSWORD, or LDCT_HOSPITAL_TOKEN.
    env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = None
    #: YAML with `user` and `password`, or `token`, that its owner alone can read.
    file: Path | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Login:
        if (self.env is None) == (self.file is None):
            raise ValueError("name either env or file")
        return self


class Tls(Strict):
    """Certificates for one connection, as PEM files."""

    #: The authority that signed the other side's certificate; the system's unless set.
    ca: Path | None = None
    #: Our own, where the other side asks for one.
    certificate: Path | None = None
    #: Of our certificate.
    key: Path | None = None

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        return self
