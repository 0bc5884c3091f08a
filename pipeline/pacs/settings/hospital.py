"""The YAML of a hospital: where series come from, which of them, and where results go.

It holds no secrets: it names the environment variables or the file that do.
"""

from __future__ import annotations

import re
from datetime import date
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.config.connection import Port, Tls
from pipeline.config.dose import DoseKeys
from pipeline.config.schedule import Schedule
from pipeline.config.sections import Strict
from pipeline.core.errors import ConfigError
from pipeline.pacs.settings.alerts import Alerts
from pipeline.pacs.settings.atna import Atna
from pipeline.pacs.settings.endpoints import (
    TAGS,
    Destination,
    Destinations,
    Name,
    Source,
    StudyFolder,
    Title,
)

Seconds = Annotated[float, Field(ge=0)]


class Priority(IntEnum):
    """Of a rule's series, by DICOM's words (PS3.3 C.30.1): a higher one is done first."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2


class Dates(Strict):
    """Allowed study dates: within the last days, or since and until, both included."""

    #: Not older than so many days; 0: today alone.
    within_days: Annotated[int, Field(ge=0)] | None = None
    #: The first day.
    since: date | None = None
    #: The last day.
    until: date | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Dates:
        if self.within_days is not None and (self.since or self.until):
            raise ValueError("within_days, or since and until, not both")
        return self


class RoutingRule(Strict):
    """A series matches where it meets every condition that is set."""

    #: In the ledger, in messages and in `ldct status`.
    name: str
    #: One of these values of Modality (0008,0060).
    modality: tuple[str, ...] = ("CT",)
    #: A regular expression, searched for anywhere in Series Description, in any case.
    description: str | None = None
    #: One of these values of Body Part Examined, in any case.
    body_part: tuple[str, ...] | None = None
    #: One of these values of Convolution Kernel, in any case.
    kernel: tuple[str, ...] | None = None
    #: One of these values of Station Name, in any case.
    station: tuple[str, ...] | None = None
    #: One of these values of Institution Name, in any case.
    institution: tuple[str, ...] | None = None
    #: One of these AE titles sent it by C-STORE; a series that was asked for has no sender.
    calling: tuple[Title, ...] | None = None
    #: Study Date.
    date: Dates | None = None
    #: The least number of images.
    instances: Annotated[int, Field(ge=1)] = 1
    #: By DICOM's words (PS3.3 C.30.1); series of a higher one are done first.
    priority: Literal["high", "medium", "low"] = "medium"
    #: The names of the destinations of its results; all of them unless set.
    send: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None

    @field_validator("description")
    @classmethod
    def _expression(cls, text: str | None) -> str | None:
        try:
            re.compile(text or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return text


class Receive(Strict):
    """A C-STORE service class provider (PS3.4 B)."""

    #: The address that is listened on.
    host: str = "127.0.0.1"
    #: The port that is listened on.
    port: Port = 11112
    #: The AE title by which it is called.
    title: Title = "LDCT"
    #: The AE titles that may connect; any unless set.
    callers: tuple[Title, ...] = ()
    #: With a certificate and its key; with a ca, only for clients whose certificate it signed.
    tls: Tls | None = None
    #: A study is complete so long after its last image, with no association open, none that broke
    #: off in the middle, and once the source, if there is one, has no more images of it.
    silence_s: Seconds = 30
    #: After so long a study is taken as it is.
    patience_s: Seconds = 900
    #: The largest image that is taken: it is held in memory while it comes.
    max_image_mib: Annotated[int, Field(ge=1)] = 2048
    #: What came is kept so long after its result was sent, so that images that come late join it.
    keep_s: Seconds = 4 * 3600

    @model_validator(mode="after")
    def _server_certificate(self) -> Receive:
        if self.tls and self.tls.certificate is None:
            raise ValueError("tls: a receiver needs a certificate and its key")
        return self


class Retry(Strict):
    """How often, and after which pauses, a step that failed on the network is tried again."""

    #: Failures after which a step waits for a person.
    attempts: Annotated[int, Field(ge=1)] = 6
    #: The first pause; each is twice the one before.
    first_s: Seconds = 60
    #: The longest pause.
    longest_s: Seconds = 3600
    #: How often a worker may crash on a series before that waits for a person.
    crashes: Annotated[int, Field(ge=1)] = 5

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        return min(self.longest_s, self.first_s * 2 ** min(failures - 1, 32))


class Pacs(DoseKeys):
    """A hospital's configuration."""

    #: As `ldct apply` takes it; a name alone is the version in use when a series is found.
    model: str
    #: Private to its owner: the ledger, and patients' images while they are worked on.
    work: Path
    #: Where series are asked for; none where a sender brings all of them (`receive`).
    source: Source | None = None
    #: A series is worked on where one rule matches; the first one that does counts.
    rules: Annotated[list[RoutingRule], Field(min_length=1)]
    #: Where derived series go: one destination, or a list of several with names.
    send: Destinations
    #: Of `ldct pacs receive`.
    receive: Receive = Receive()
    #: After failures of the network.
    retry: Retry = Retry()
    #: Of `ldct schedule`.
    schedule: Schedule | None = None
    #: Who hears of what needs a person.
    alerts: Alerts | None = None
    #: Where audit messages (PS3.15 A.5) go; none unless set.
    atna: Atna | None = None
    #: Seconds for which a series must not have grown before it is retrieved.
    settle_s: Seconds = 60
    #: What is unlike the model's training is sent with a note (flag), or held until
    #: `ldct pacs release` (hold).
    drift: Literal["flag", "hold"] = "flag"
    #: `reader`: a reader accepts each result before it is sent (`ldct review`).
    release: Literal["automatic", "reader"] = "automatic"
    #: Days from sending to deletion of a result; none: it stays.
    keep_results_days: Annotated[float, Field(ge=0)] | None = None
    #: Whether a DICOM SR with figures goes with each denoised series.
    structured_report: bool = False
    #: Lossless compression of the derived images.
    compress: Literal["none", "j2k", "jpegls", "rle"] = "none"
    #: The share of the model's correction; none: the model's own.
    strength: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _folders_apart(self) -> Pacs:
        """What is written below the source would be found as new studies."""
        if not isinstance(self.source, StudyFolder):
            return self
        source = self.source.folder.resolve()
        results = [("send.folder", each.folder) for each in self.destinations]
        for key, folder in [("work", self.work), *results]:
            place = folder.resolve() if folder else None
            if place and (place.is_relative_to(source) or source.is_relative_to(place)):
                raise ValueError(f"{key} and source.folder must not lie in each other")
        return self

    @model_validator(mode="after")
    def _named_destinations(self) -> Pacs:
        names = [each.name for each in self.destinations]
        if len(names) > 1 and (None in names or len(set(names)) < len(names)):
            raise ValueError("send: each of several destinations needs a name of its own")
        for rule in self.rules:
            if unknown := set(rule.send or ()).difference(names):
                raise ValueError(f"rule {rule.name}: send: no destination {sorted(unknown)[0]}")
        return self

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Where derived series go, one or several."""
        return (self.send,) if isinstance(self.send, Destination) else self.send

    def destinations_of(self, rule: str) -> tuple[Destination, ...]:
        """Where the results of a rule's series go.

        Raises ConfigError where that rule is there no more and others name their destinations: no
        result goes where it was not meant to.
        """
        named = [each for each in self.rules if each.name == rule]
        if not named and any(each.send is not None for each in self.rules):
            raise ConfigError(
                f"rule {rule} is in the YAML no more: where its results go is not known; put it "
                "back, with `send`, then `ldct retry`"
            )
        chosen = named[0].send if named else None
        return tuple(each for each in self.destinations if chosen is None or each.name in chosen)

    def priority_of(self, rule: str) -> Priority:
        """The priority of the rule of that name; medium where it is there no more."""
        named = (each.priority for each in self.rules if each.name == rule)
        return Priority[next(named, "medium").upper()]


def load_pacs(path: Path) -> Pacs:
    """Read a hospital's YAML; raises ConfigError that names the file, the key and the fault."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    try:
        return Pacs.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        key = ".".join(str(part) for part in fault["loc"] if part not in TAGS)
        raise ConfigError(f"{path}: {key}: {fault['msg']}") from error
