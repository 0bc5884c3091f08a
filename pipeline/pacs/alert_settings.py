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
    """A mail server (RFC 5321). security: TLS after STARTTLS (RFC 3207, port 587), from the start
    (RFC 8314, port 465), or none, which only a server on this computer may be asked without.

    login: user and password.
    """

    host: str
    port: Port = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    tls: Tls = Tls()
    login: Login | None = None
    sender: Address
    to: Annotated[tuple[Address, ...], Field(min_length=1)]
    timeout_s: Timeout = 30

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Mail:
        if self.security == "none" and self.host not in LOOPBACK:
            raise ValueError("security: none can be read by others on the network; use starttls")
        return self


class Webhook(Strict):
    """A service that takes an HTTP POST of JSON.

    url_file: holds the URL in place of `url`, where that is a secret, as of chat services; its
    owner alone can read it. login: a token, sent as Bearer, or user and password.
    """

    url: str | None = None
    url_file: Path | None = None
    login: Login | None = None
    tls: Tls = Tls()
    timeout_s: Timeout = 10

    @model_validator(mode="after")
    def _one_url(self) -> Webhook:
        if (self.url is None) == (self.url_file is None):
            raise ValueError("name either url or url_file")
        if self.url is not None:
            require_private_url(self.url)
        return self


class Alerts(Strict):
    """What is sent where. of: which conditions. site: stands in every message.

    look_s: how often the conditions are looked at. gather_s: what changes of a condition so soon
    after its last message waits for the next one.
    """

    mail: Mail | None = None
    webhook: Webhook | None = None
    of: tuple[Kind, ...] = KINDS
    site: Annotated[str, Field(pattern=r"^[^\r\n]{0,80}$")] = ""
    look_s: Annotated[float, Field(ge=1)] = 60
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
