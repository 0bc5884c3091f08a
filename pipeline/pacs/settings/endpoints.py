"""Where series come from and where results go, in a hospital's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from pipeline.config.connection import LOOPBACK, Login, Port, Tls
from pipeline.config.sections import Strict

#: Application entity title: up to 16 characters, no backslash (PS3.5 6.2).
Title = Annotated[str, Field(pattern=r"^[^\\\s][^\\]{0,15}$")]
#: Of a destination, in the ledger, in messages and in names of files.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]


class Dicomweb(Strict):
    """A DICOMweb service (PS3.18), by the URL that /studies is added to."""

    #: What /studies is added to.
    url: str
    #: User and password, or a token, sent as Bearer.
    login: Login | None = None
    #: Certificates, where the system's authorities are not enough, or where the service asks for
    #: ours.
    tls: Tls = Tls()
    #: How long an answer is waited for.
    timeout_s: Annotated[float, Field(gt=0)] = 60

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected http://HOST/PATH or https://HOST/PATH")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("no user, password, query or fragment in a URL; see login")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Dicomweb:
        parts = urlsplit(self.url)
        if self.login and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("a login over http can be read by others on the network; use https")
        return self


class Dimse(Strict):
    """An application entity that takes C-STORE and answers C-FIND (PS3.4 B and C)."""

    #: Its address.
    host: str
    #: Its port.
    port: Port
    #: Its AE title.
    called: Title
    #: The AE title of this software.
    calling: Title = "LDCT"
    #: TLS, with our certificate where it asks for one; in the clear unless set.
    tls: Tls | None = None
    #: How long an answer is waited for.
    timeout_s: Annotated[float, Field(gt=0)] = 60
    #: An item is done when the entity has committed to its storage (PS3.4 J).
    commit: bool = False
    #: After so long without its report it is asked again.
    commit_patience_s: Annotated[float, Field(gt=0)] = 3600


class MoveDestination(Strict):
    """Where a source sends what it is asked for by C-MOVE: title, host and port are known to it.

    While a series is retrieved, and only then, this is listened on.
    """

    #: The AE title that the source knows for it.
    title: Title = "LDCT"
    #: The address that is listened on.
    host: str = "127.0.0.1"
    #: The port that is listened on; another one than `receive.port`.
    port: Port = 11113
    #: With a certificate and its key.
    tls: Tls | None = None

    @model_validator(mode="after")
    def _server_certificate(self) -> MoveDestination:
        if self.tls and self.tls.certificate is None:
            raise ValueError("tls: what listens needs a certificate and its key")
        return self


class DimseSource(Strict):
    """A PACS that is searched by C-FIND and retrieved from by C-GET, or by C-MOVE to `move`."""

    #: The PACS.
    dimse: Dimse
    #: C-GET, on the association that we open, or C-MOVE, for which the PACS opens one to us.
    retrieve: Literal["get", "move"] = "get"
    #: Where the PACS sends to, with `retrieve: move`.
    move: MoveDestination | None = None

    @model_validator(mode="after")
    def _where_to(self) -> DimseSource:
        if (self.retrieve == "move") != (self.move is not None):
            raise ValueError("retrieve: move and move: {title, host, port} go together")
        if self.dimse.commit:
            raise ValueError("dimse.commit is of a destination")
        return self


class StudyFolder(Strict):
    """A folder of studies in place of a PACS: nothing in it is moved, changed or deleted."""

    #: Searched with all its subfolders.
    folder: Path


def _kind_of_source(value: object) -> str:
    kinds = ((StudyFolder, "folder", _FOLDER), (DimseSource, "dimse", _ENTITY))
    for kind, key, tag in kinds:
        if isinstance(value, kind) or (isinstance(value, dict) and key in value):
            return tag
    return _SERVICE


_FOLDER, _SERVICE, _ENTITY = "<folder>", "<dicomweb>", "<dimse>"
Source = Annotated[
    Annotated[StudyFolder, Tag(_FOLDER)]
    | Annotated[DimseSource, Tag(_ENTITY)]
    | Annotated[Dicomweb, Tag(_SERVICE)],
    Discriminator(_kind_of_source),
]


class Destination(Strict):
    """Where derived series are sent: exactly one of the three ways."""

    #: Which one it is, where there are several.
    name: Name | None = None
    #: By STOW-RS.
    dicomweb: Dicomweb | None = None
    #: By C-STORE.
    dimse: Dimse | None = None
    #: As files, STUDY/SERIES/*.dcm.
    folder: Path | None = None

    @property
    def label(self) -> str:
        """What people see: the name, or what it is where it has none."""
        if self.name:
            return self.name
        if self.dimse:
            return self.dimse.called
        return str(urlsplit(self.dicomweb.url).hostname) if self.dicomweb else "folder"

    @model_validator(mode="after")
    def _one_way(self) -> Destination:
        if [self.dicomweb, self.dimse, self.folder].count(None) != 2:
            raise ValueError("name either dicomweb or dimse or folder")
        return self


def _how_many(value: object) -> str:
    return _SEVERAL if isinstance(value, list | tuple) else _ONE


_ONE, _SEVERAL = "<one>", "<several>"
Destinations = Annotated[
    Annotated[Destination, Tag(_ONE)]
    | Annotated[tuple[Destination, ...], Field(min_length=1), Tag(_SEVERAL)],
    Discriminator(_how_many),
]
#: Parts of a key in pydantic's errors that no YAML has.
TAGS = (_FOLDER, _SERVICE, _ENTITY, _ONE, _SEVERAL)
