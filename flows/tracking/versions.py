"""A version of a model: how it is named, its row in a list, and what it was registered with."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field

from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json
from pipeline.core.verdicts import Verdict


@dataclass(frozen=True)
class VersionRow:
    """A version as a list of models shows it.

    created: ISO 8601. gate, reader_study: "passed", "failed" or "" where there was none. headline:
    Task.headline of its figures. qualified: the outcome of `ldct qualify` by site.
    """

    name: str
    version: int
    aliases: list[str]
    created: str
    gate: str
    strength: float
    reader_study: str
    headline: Json
    data_digest: str
    config_digest: str
    weights_sha256: str
    qualified: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded:
    """What a version was registered with: its figures and its gate's verdict."""

    figures: Json
    verdict: Verdict

    @property
    def patients(self) -> Json:
        """The figures by patient; empty for a task that has none."""
        return self.figures.get("patients", {})

    def to_dict(self) -> Json:
        """{"figures", "gate"}, as figures.json beside the weights holds them."""
        return {"figures": self.figures, "gate": self.verdict.to_dict()}


@dataclass(frozen=True)
class VersionDetails:
    """Everything that is known of a version."""

    row: VersionRow
    recorded: Recorded
    config: RunConfig

    def to_dict(self) -> Json:
        """As `ldct models show --json` prints it."""
        return {**asdict(self.row), **self.recorded.to_dict(), "config": self.config.resolved()}


_REFERENCE = re.compile(r"^(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/@]+))?$")


@dataclass(frozen=True)
class Reference:
    """NAME (its champion), NAME@alias, NAME/VERSION or models:/...; version and alias exclude
    each other."""

    name: str
    version: str | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises ConfigError for what names no model."""
        match = _REFERENCE.match(text)
        if match is None:
            raise ConfigError(f"{text} names no model; write NAME@alias or NAME/VERSION")
        return cls(match["name"], match["version"], match["alias"])
