"""The section `atna` of a hospital's YAML: where audit messages go, and what is in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.connection import LOOPBACK, Port, Tls
from pipeline.config.sections import Strict


class Atna(Strict):
    """An audit record repository (IHE ATNA): a syslog server, over TLS by RFC 5425."""

    #: The audit record repository.
    host: str
    #: 6514 for TLS (RFC 5425).
    port: Port = 6514
    #: With ca, and certificate and key where the server asks for ours; null, only for a server on
    #: this computer: TCP in the clear.
    tls: Tls | None = Tls()
    #: AuditSourceID.
    source: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$")] = "LDCT"
    #: AuditEnterpriseSiteID.
    site: Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,64}$")] | None = None
    #: `pseudonyms`: study and patient are named by this installation's keyed hashes; `identifiers`:
    #: by Study Instance UID and Patient ID (0010,0020).
    identity: Literal["pseudonyms", "identifiers"] = "pseudonyms"
    #: How often what waits is sent.
    send_s: Annotated[float, Field(gt=0)] = 10
    #: How long the server is waited for.
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 30

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Atna:
        if self.tls is None and self.host not in LOOPBACK:
            raise ValueError("without tls audit messages can be read by others on the network")
        return self
