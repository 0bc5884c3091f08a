"""How sure the Dice of a class is, over the patients that have it."""

from __future__ import annotations

import pytest

from pipeline.evaluation.segmentation import SegmentationOverall, summarise_classes
from pipeline.metrics.segmentation import FIGURES


def overall(*dice: float | None) -> SegmentationOverall:
    """Of patients with one series each: the liver's Dice, and a spleen of 0.5."""
    series = {
        f"p-{n}": {
            f"s-{n}": {
                "liver": {**dict.fromkeys(FIGURES, value), "dice": value},
                "spleen": {**dict.fromkeys(FIGURES, 0.5), "dice": 0.5},
            }
        }
        for n, value in enumerate(dice)
    }
    return summarise_classes(series).overall


def test_an_interval_holds_the_mean_and_lies_within_the_patients() -> None:
    found = overall(0.6, 0.7, 0.9, 0.8)
    interval = found.classes["liver"].dice_interval
    assert interval is not None
    low, high = interval
    assert low is not None
    assert high is not None
    assert 0.6 <= low < 0.75 < high <= 0.9
    assert found.classes["spleen"].dice_interval == pytest.approx((0.5, 0.5))
    assert overall(0.6, 0.7, 0.9, 0.8) == found, "the same draws"


def test_the_means_interval_is_over_patients_too() -> None:
    found = overall(0.6, 0.9)
    assert found.dice_interval == pytest.approx((0.55, 0.7))


def test_of_one_patient_there_is_none() -> None:
    assert overall(0.6).classes["liver"].dice_interval is None
    assert overall(0.6).dice_interval is None
    of_one = overall(0.6, None, None)
    assert of_one.classes["liver"].dice_interval is None
    assert of_one.classes["spleen"].dice_interval is not None
    assert SegmentationOverall.from_dict(of_one.to_dict()) == of_one
