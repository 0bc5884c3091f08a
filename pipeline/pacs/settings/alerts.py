"""The section `alerts` of a hospital's YAML: who hears of what needs a person, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from pipeline.config.connection import LOOPBACK, Login, Port, Tls, require_https
from pipeline.config.sections import Strict

#: Without line ends, which would begin another header.
Address = Annotated[str, Field(pattern=r"^[^\s@<>,]+@[^\s@<>,]+$")]
Timeout = Annotated[float, Field(gt=0, le=120)]
#: What alerts can be of.
Kind = Literal["dead", "held", "unmatched", "failed"]
KINDS: tuple[Kind, ...] = ("dead", "held", "unmatched", "failed")


class Mail(Strict):
    """A mail server (RFC 5321)."""

    #: The mail server.
    host: str
    #: 587 for STARTTLS, 465 for TLS from the start.
    port: Port = 587
    #: TLS after STARTTLS (RFC 3207), TLS from the start (RFC 8314), or none, which only a server on
    #: this computer may be asked without.
    security: Literal["starttls", "tls", "none"] = "starttls"
    #: Certificates, where the system's authorities are not enough.
    tls: Tls = Tls()
    #: User and password.
    login: Login | None = None
    #: The address in From.
    sender: Address
    #: The addresses that are written to.
    to: Annotated[tuple[Address, ...], Field(min_length=1)]
    #: How long an answer is waited for.
    timeout_s: Timeout = 30

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Mail:
        if self.security == "none" and self.host not in LOOPBACK:
            raise ValueError("security: none can be read by others on the network; use starttls")
        return self


class Webhook(Strict):
    """A service that takes an HTTP POST of JSON."""

    #: Where the JSON is posted to.
    url: str | None = None
    #: A file that holds the URL in place of `url`, where that is a secret, as of chat services; its
    #: owner alone can read it.
    url_file: Path | None = None
    #: A token, sent as Bearer, or user and password.
    login: Login | None = None
    #: Certificates, where the system's authorities are not enough.
    tls: Tls = Tls()
    #: How long an answer is waited for.
    timeout_s: Timeout = 10

    @model_validator(mode="after")
    def _one_url(self) -> Webhook:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("name either url or url_file")
        if self.url is not None:
            require_private_url(self.url)
        return self


class Alerts(Strict):
    """What is sent where."""

    #: By mail.
    mail: Mail | None = None
    #: By a POST of JSON.
    webhook: Webhook | None = None
    #: Which conditions are sent.
    of: tuple[Kind, ...] = KINDS
    #: Stands in every message: which installation it is.
    site: Annotated[str, Field(pattern=r"^[^\r\n]{0,80}$")] = ""
    #: How often the conditions are looked at.
    look_s: Annotated[float, Field(ge=1)] = 60
    #: What changes of a condition so soon after its last message waits for the next one.
    gather_s: Annotated[float, Field(ge=0)] = 900

    @model_validator(mode="after")
    def _somewhere(self) -> Alerts:
        if not (self.mail or self.webhook):
            raise ValueError("name mail, webhook or both")
        return self


def require_private_url(url: str) -> None:
    """Raises ValueError for what is no https URL, but http to this computer, or has a login."""
    if "@" in urlsplit(require_https(url)).netloc:
        raise ValueError("no user or password in a URL; see login")
