"""How readers reach the review page from their own workstations: one YAML, `--access`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, model_validator

from pipeline.config.connection import LOOPBACK, HttpsUrl, Login, Port, Tls, require_https
from pipeline.config.sections import Strict
from pipeline.core.errors import ConfigError
from pipeline.review.access.roles import Role

Word = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0)]


class Listen(Strict):
    """Where the server listens."""

    host: Word = "127.0.0.1"
    port: Port = 8443


class OpenIdConnect(Strict):
    """An identity provider that readers log in to (OpenID Connect Core 1.0, code flow).

    secret: where the client's secret is kept, as a token. ca: the authority of the provider's
    certificate, the system's if None.
    """

    issuer: HttpsUrl
    client: Word
    secret: Login
    ca: Path | None = None


class SignedHeader(Strict):
    """A proxy in front that readers log in to, and that says in a header who they are.

    The header must hold a JSON Web Token that the proxy or its identity provider signed: a plain
    name in a header could come from anybody. keys: the URL or file of the public keys (JWKS).
    """

    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
    issuer: Word
    audience: Word
    keys: Word
    ca: Path | None = None

    @model_validator(mode="after")
    def _over_tls(self) -> SignedHeader:
        if "://" in self.keys:
            require_https(self.keys)
        return self


class Session(Strict):
    """How long a login lasts: without use, and at most."""

    idle_s: Seconds = 1800
    longest_s: Seconds = 36000


class AccessSettings(Strict):
    """Who may use the page, from where, and as what.

    address: what readers type, such as https://review.example.org:8443. name_claim and
    roles_claim: where the login says a reader's name, and their groups (a dotted path for nested
    claims). roles: which groups have which role.
    """

    address: HttpsUrl
    listen: Listen = Listen()
    tls: Tls = Tls()
    oidc: OpenIdConnect | None = None
    proxy: SignedHeader | None = None
    name_claim: Word = "preferred_username"
    roles_claim: Word = "groups"
    roles: dict[Role, Annotated[list[Word], Field(min_length=1)]]
    session: Session = Session()

    @model_validator(mode="after")
    def _one_login(self) -> AccessSettings:
        if (self.oidc is None) == (self.proxy is None):
            raise ValueError("name either oidc or proxy: readers log in")
        if not self.roles:
            raise ValueError("roles: without any, no login is let in")
        return self

    @model_validator(mode="after")
    def _over_tls(self) -> AccessSettings:
        parts = urlsplit(self.address)
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("address: expected https://HOST[:PORT] and nothing behind it")
        if self.listen.host not in LOOPBACK and self.tls.certificate is None:
            raise ValueError(
                f"listen.host {self.listen.host}: others than this computer reach it, so tls needs "
                "a certificate and its key"
            )
        return self

    @property
    def origin(self) -> str:
        """As a browser writes it: scheme, host and, if it is not the usual one, port."""
        parts = urlsplit(self.address.lower())
        usual = 443 if parts.scheme == "https" else 80
        port = "" if parts.port in (None, usual) else f":{parts.port}"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}{port}"

    @property
    def is_secure(self) -> bool:
        """Whether browsers come over TLS."""
        return self.origin.startswith("https://")


def load_access(path: Path) -> AccessSettings:
    """The settings of a YAML. Raises ConfigError that names the key."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML") from error
    try:
        return AccessSettings.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
