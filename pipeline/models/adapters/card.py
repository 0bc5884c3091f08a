"""The card of a registered model, as derived series cite it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipeline.config.dose import DoseChoice, DoseRequest
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.core.verdicts import Verdict
from pipeline.dicom.derived.write import DENOISED, Operation, gate_failed

if TYPE_CHECKING:  # a card alone needs no torch
    from pipeline.models.adapters.base import ModelAdapter
    from pipeline.quality.uncertainty import Calibration

#: Of a saved model: its complete configuration, beside the weights.
CONFIG = "config.yaml"
#: Of a registered one, beside them: what they must be, {"weights_sha256", "config_digest"}.
DIGESTS = "digests.json"


@dataclass(frozen=True)
class ModelCard:
    """Which model, at which strength: what a derived series records.

    dose: how much dose it is to make up for; None for a model that is not dose-conditioned. seen:
    what its training saw, by pipeline.inference.traits; None where it was not recorded.
    uncertainty: how far its voxels may be off; None where that was not calibrated. gate: the
    verdict on the version as it is now; None for one that comes with the software.
    """

    name: str
    version: int
    weights_sha256: str
    config_digest: str
    data_digest: str
    parameters: int
    strength: float = 1.0
    dose: DoseRequest | None = None
    seen: dict[str, Any] | None = field(default=None, repr=False)
    uncertainty: Calibration | None = field(default=None, repr=False)
    gate: Verdict | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        """As the registry takes it; version 0 is the one that comes with the software."""
        return f"models:/{self.name}/{self.version}" if self.version else f"{self.name}@pretrained"

    @property
    def slug(self) -> str:
        """A folder's name that differs between models and strengths, and says where the model did
        not pass its gate."""
        asked = self.dose.slug if self.dose else ""
        passed = "-gate-failed" if self.missed else ""
        return f"{self.name}-v{self.version}{asked}{self._partly('-strength{:g}')}{passed}"

    @property
    def missed(self) -> str:
        """The limits of its gate that the version misses, with its figures; "" where it passed."""
        return "" if self.gate is None or self.gate.passed else self.gate.reasons

    def gate_facts(self) -> dict[str, Any]:
        """The verdict as reports have it; {} where there is none."""
        return {} if self.gate is None else {"gate": self.gate.to_dict()}

    def marked(self, operation: Operation) -> Operation:
        """What this model did; marked where the version did not pass its gate."""
        return gate_failed(operation, self.missed) if self.missed else operation

    def operation(self, choice: DoseChoice | None = None) -> Operation:
        """What a derived series' header says was done to it, and by which model.

        choice: the dose that a dose-conditioned model made up for.
        """
        mixed = self._partly(
            " Strength {:g}: output = input + {:g} * (denoised - input), so that part of the "
            "source's noise stays."
        )
        ratio = f"{choice.dose_ratio:g}" if choice else ""
        mixed += f" As if scanned at {ratio} times the dose ({choice.why})." if choice else ""
        at = f" DOSE X{ratio}" if choice else ""
        operation = Operation(
            label=f"AI DENOISED {self.name} v{self.version}{at}{self._partly(' STRENGTH {:g}')}",
            description=(
                f"Noise reduction by neural network. Model {self.name} version {self.version}, "
                f"weights SHA-256 {self.weights_sha256}.{mixed} AI-derived, not for primary "
                "diagnosis; HU by the source's rescale, geometry of the source."
            ),
            code=DENOISED,
            equipment=self.name,
            equipment_version=f"{self.version} sha256:{self.weights_sha256[:16]}",
            identity=f"{self.name}/{self.version}/{self.weights_sha256}"
            f"{f'/dose{ratio}' if choice else ''}{self._partly('/{:g}')}",
        )
        return self.marked(operation)

    def _partly(self, text: str) -> str:
        """`text` with the strength filled in; empty at full strength."""
        return "" if self.strength == 1 else text.format(self.strength, self.strength)


@dataclass(frozen=True)
class LoadedModel:
    """A registered version ready for use: the model in eval mode, its card and its run."""

    model: ModelAdapter
    card: ModelCard
    config: RunConfig

    @classmethod
    def of(cls, model: ModelAdapter, card: ModelCard, config: RunConfig) -> LoadedModel:
        """As it is loaded: for a dose-conditioned model the dose is chosen for each series."""
        dose = DoseRequest() if config.data.nested else None
        return cls(model, replace(card, dose=dose), config)

    def at_strength(self, strength: float) -> LoadedModel:
        """The same with another share of its correction applied (DenoiseRun.strength).

        Changes the model itself. Raises ConfigError for a task without a strength, and for one
        outside (0, 1].
        """
        settings = {**self.config.resolved(), "strength": strength}
        config = parse_config(settings, source="--strength")
        self.model.strength = strength
        return LoadedModel(self.model, replace(self.card, strength=strength), config)

    def at_dose(self, dose: DoseRequest) -> LoadedModel:
        """The same with another choice of the dose that is made up for.

        Raises ConfigError for a model that is not dose-conditioned.
        """
        if self.card.dose is None:
            raise ConfigError(
                f"{self.card.uri} is not dose-conditioned: --dose-ratio, --target-noise, --level "
                "are for models that learned from pairs of two doses (data.nested); see --strength"
            )
        return replace(self, card=replace(self.card, dose=dose))
