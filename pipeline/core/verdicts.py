"""Whether something passes: figures against limits, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: The check that `ldct review stats --model` settles.
READER_STUDY = "reader study"
#: How the check begins that `ldct qualify --site` settles; the site follows.
QUALIFIED_AT = "qualified at "
#: Of a figure, unless its check says otherwise.
DECIMALS = 2


@dataclass(frozen=True)
class Check:
    """One figure against its limit.

    figure: None where it was not measured, or where the check is of something else. limit: as
    people read it, such as ">= 1.0". decimals: to show of the figure; None for the usual two.
    interval: (low, high) of the figure, and patients their number, of a paired comparison.
    """

    name: str
    figure: float | None
    limit: str
    passed: bool
    decimals: int | None = None
    interval: tuple[float, float] | None = None
    patients: int | None = None

    @classmethod
    def at_least(
        cls,
        name: str,
        figure: float | None,
        bound: float,
        *,
        spec: str = "",
        decimals: int | None = None,
    ) -> Check:
        """figure >= bound, which `spec` formats; what was not measured fails."""
        passed = figure is not None and figure >= bound
        return cls(name, figure, f">= {bound:{spec}}", passed, decimals)

    @classmethod
    def at_most(cls, name: str, figure: float | None, bound: float, *, spec: str = "") -> Check:
        """figure <= bound, which `spec` formats; what was not measured fails."""
        passed = figure is not None and figure <= bound
        return cls(name, figure, f"<= {bound:{spec}}", passed)

    @classmethod
    def bias_within(
        cls, name: str, bias_hu: float | None, limit_hu: float, *, spec: str = ""
    ) -> Check:
        """|bias_hu| <= limit_hu, which `spec` formats; what was not measured fails."""
        passed = bias_hu is not None and abs(bias_hu) <= limit_hu
        return cls(name, bias_hu, f"|bias| <= {limit_hu:{spec}}", passed)

    @property
    def outcome(self) -> str:
        """The figure beside its limit, for people; of what has no figure, the limit alone."""
        if self.figure is None:
            return f"{self.name}: {self.limit}"
        digits = DECIMALS if self.decimals is None else self.decimals
        return f"{self.name}: {self.figure:.{digits}f}, {self.limit}"

    def to_dict(self) -> dict[str, Any]:
        """As report.json and the registry hold it: "check" is the name."""
        found: dict[str, Any] = {
            "check": self.name,
            "figure": self.figure,
            "limit": self.limit,
            "passed": self.passed,
        }
        if self.decimals is not None:
            found["decimals"] = self.decimals
        if self.interval is not None:
            found["interval"] = list(self.interval)
        if self.patients is not None:
            found["patients"] = self.patients
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Check:
        """The check that `to_dict` wrote, of this version or an older one."""
        interval = found.get("interval")
        return cls(
            name=found["check"],
            figure=found.get("figure"),
            limit=found.get("limit", ""),
            passed=found["passed"],
            decimals=found.get("decimals"),
            interval=(interval[0], interval[1]) if interval else None,
            patients=found.get("patients"),
        )


@dataclass(frozen=True)
class Verdict:
    """All checks of a model; it passes if every one of them does."""

    checks: tuple[Check, ...]

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Verdict:
        """The verdict of any number of checks."""
        return cls(tuple(checks))

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """The checks that failed, in their order."""
        return [check for check in self.checks if not check.passed]

    @property
    def reasons(self) -> str:
        """The failed checks, each figure beside the limit that it missed, or how many passed."""
        failed = "; ".join(check.outcome for check in self.failed)
        return failed or f"all {len(self.checks)} checks passed"

    def to_dict(self) -> dict[str, Any]:
        """{"passed", "checks"}, as report.json and the registry hold it."""
        return {"passed": self.passed, "checks": [check.to_dict() for check in self.checks]}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Verdict:
        """The verdict that `to_dict` wrote, of this version or an older one."""
        return cls.of(Check.from_dict(check) for check in found["checks"])
