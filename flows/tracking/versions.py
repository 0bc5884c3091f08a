"""A version of a model: how it is named, its row in a list, and what it was registered with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.core.errors import ConfigError
from pipeline.core.types import Json
from pipeline.core.verdicts import QUALIFIED_AT, READER_STUDY, Check, Verdict

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.config.run import RunConfig
    from pipeline.models.adapters.card import ModelCard

#: Tags of a version: what a reader study found; with a site's name, the outcome of its
#: qualification, and with DIGEST, which.
READERS, QUALIFIED, DIGEST = "reader_study", "qualified.", ".digest"


@dataclass(frozen=True)
class VersionRow:
    """A version as a list of models shows it.

    created: ISO 8601. gate, reader_study: "passed", "failed" or "" where there was none. headline:
    Task.headline of its figures. qualified: the outcome of `ldct qualify` by site. task, anatomy,
    dose: "" where not known. metrics: of its run, by name: of the test patients as
    pipeline.evaluation.stable_metrics has them, which versions from before lack.
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
    task: str = ""
    anatomy: str = ""
    dose: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls, version: ModelVersion, metrics: Mapping[str, float], aliases: list[str] | None = None
    ) -> VersionRow:
        """By what the registry has of a version, and its run's metrics. aliases: where they are not
        with the version, as in what a search finds."""
        created = datetime.fromtimestamp(version.creation_timestamp / 1000, tz=UTC)
        tags = version.tags
        names = ("gate", "reader_study", "data_digest", "config_digest", "weights_sha256")
        return cls(
            name=version.name,
            version=int(version.version),
            aliases=list(version.aliases) if aliases is None else aliases,
            created=created.isoformat(timespec="seconds"),
            strength=float(tags.get("strength", 1)),
            headline=json.loads(tags.get("headline", "{}")),
            qualified={
                name.removeprefix(QUALIFIED): outcome
                for name, outcome in tags.items()
                if name.startswith(QUALIFIED) and not name.endswith(DIGEST)
            },
            metrics=dict(sorted(metrics.items())),
            **{name: tags.get(name, "") for name in (*names, "task", "anatomy", "dose")},
        )


@dataclass(frozen=True)
class Recorded:
    """What a version was registered with: its figures and its gate's verdict."""

    figures: Json
    verdict: Verdict

    @property
    def patients(self) -> Json:
        """The figures by patient; empty for a task that has none."""
        return self.figures.get("patients", {})

    def verdict_by(self, tags: Mapping[str, str]) -> Verdict:
        """The gate's verdict as it is now: checks that wait pass once their tag says so."""
        return Verdict.of(
            replace(check, passed=tags.get(tag) == "passed") if (tag := waits_for(check)) else check
            for check in self.verdict.checks
        )

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


def waits_for(check: Check) -> str:
    """The tag that a check waits for, since readers or a hospital settle it after registration; ""
    for one that does not wait."""
    if check.name == READER_STUDY:
        return READERS
    if check.name.startswith(QUALIFIED_AT):
        return f"{QUALIFIED}{check.name.removeprefix(QUALIFIED_AT)}"
    return ""


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


def card_of(version: ModelVersion) -> ModelCard:
    """The card of a version, without what its training saw. Raises ConfigError where another
    program registered it."""
    from pipeline.models.adapters.card import ModelCard

    tags = version.tags
    if "weights_sha256" not in tags:
        raise ConfigError(f"{version.name} version {version.version} was not registered by ldct")
    return ModelCard(
        name=version.name,
        version=int(version.version),
        weights_sha256=tags["weights_sha256"],
        config_digest=tags["config_digest"],
        data_digest=tags["data_digest"],
        parameters=int(tags["parameters"]),
        strength=float(tags.get("strength", 1)),  # versions of old have none
    )
