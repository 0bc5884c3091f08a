"""Checks and verdicts, and that they read what versions of old have written."""

from __future__ import annotations

import pytest

from pipeline.core.verdicts import Check, Verdict

#: As registered models have it, of a denoiser, of a segmenter and of a promotion.
RECORDED = {
    "passed": False,
    "checks": [
        {"check": "PSNR gain in window lung, dB", "figure": 2.5, "limit": ">= 1.0", "passed": True},
        {"check": "HU bias in bone", "figure": -3.0, "limit": "|bias| <= 2.0", "passed": False},
        {
            "check": "Dice, liver",
            "figure": 0.91234,
            "limit": ">= 0.9",
            "passed": True,
            "decimals": 4,
        },
        {
            "check": "PSNR against the champion in window lung, dB",
            "figure": 0.1,
            "limit": "interval above 0",
            "passed": True,
            "interval": [0.05, 0.15],
            "patients": 5,
        },
        {"check": "reader study", "figure": None, "limit": "non-inferior", "passed": True},
    ],
}


def test_what_a_registry_holds_is_read_and_written_without_a_change() -> None:
    verdict = Verdict.from_dict(RECORDED)
    assert not verdict.passed
    assert [check.name for check in verdict.failed] == ["HU bias in bone"]
    assert verdict.reasons == "HU bias in bone: -3.00, |bias| <= 2.0"
    assert verdict.checks[3].interval == (0.05, 0.15)
    assert verdict.to_dict() == RECORDED


def test_a_verdict_of_passed_checks_says_how_many() -> None:
    verdict = Verdict.of([Check("a", 1.0, ">= 0", True), Check("b", None, "passes", True)])
    assert verdict.passed
    assert verdict.reasons == "all 2 checks passed"


@pytest.mark.parametrize("figure", [None, 0.999, float("nan")])
def test_what_is_below_its_limit_or_was_not_measured_fails(figure: float | None) -> None:
    assert not Check.at_least("gain", figure, 1.0).passed


def test_limits_hold_at_the_limit_itself() -> None:
    assert Check.at_least("gain", 1.0, 1.0) == Check("gain", 1.0, ">= 1.0", True)
    assert Check.at_most("copies", 0.01, 0.01, spec="g") == Check("copies", 0.01, "<= 0.01", True)
    assert not Check.at_most("copies", 0.011, 0.01).passed
    assert not Check.at_most("copies", None, 0.01).passed
    assert Check.bias_within("bias", -2.0, 2.0).passed
    assert not Check.bias_within("bias", -2.01, 2.0).passed
    assert not Check.bias_within("bias", None, 2.0).passed
