"""The split by patient, and patches that are a function of their number."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import add_inputs, run_config, tiny_store, tiny_train, volume_of

from pipeline.config.run import RunConfig
from pipeline.config.sections import Split
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.pseudonyms import unit_interval
from pipeline.data.patches import PatchPairs
from pipeline.degradations.digest import degradation_digest
from pipeline.store.published_splits import TEST, TRAIN, VALIDATION
from pipeline.store.series_record import Places, SeriesRecord
from pipeline.store.splits import patients_of_vendors, split_patients
from pipeline.store.store import Store

KEY = bytes(range(32))


def patients(count: int) -> list[str]:
    return [f"p-{number:04d}" for number in range(count)]


def split(
    who: list[str],
    settings: Split | None = None,
    *,
    key: bytes = KEY,
    recorded: dict[str, str] | None = None,
) -> dict[str, str]:
    return split_patients(who, settings or Split(), key=key, recorded=recorded or {})


def test_the_fractions_are_roughly_met() -> None:
    sides = split(patients(1000), Split(test=0.2, validation=0.1))
    assert set(sides) == set(patients(1000))
    count = Counter(sides.values())
    assert count[TEST] == pytest.approx(200, abs=40)
    assert count[VALIDATION] == pytest.approx(100, abs=30)
    assert count[TRAIN] + count[TEST] + count[VALIDATION] == 1000


def test_a_patient_s_side_is_their_own() -> None:
    """Neither the order nor the company decides, so no patient is on two sides."""
    everybody = split(patients(300))
    assert split(patients(300)[::-1]) == everybody
    some = split(patients(300)[100:200])
    assert some == {patient: everybody[patient] for patient in some}


def test_another_key_splits_differently() -> None:
    assert split(patients(200)) != split(patients(200), key=b"another key, of 32 bytes or more")


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("first", range(0, 60, 5))
def test_a_small_cohort_has_training_and_test(count: int, first: int) -> None:
    sides = set(split(patients(100)[first : first + count]).values())
    assert {TRAIN, TEST} <= sides


def test_one_patient_is_not_enough() -> None:
    with pytest.raises(NothingUsableError, match="at least 2"):
        split(["p-1"])


def test_recorded_sides_never_flip_when_patients_come() -> None:
    recorded: dict[str, str] = {}
    for count in range(2, 60):
        sides = split(patients(count), recorded=recorded)
        assert {patient: sides[patient] for patient in recorded} == recorded
        recorded = sides


def test_what_was_recorded_outweighs_the_hash() -> None:
    by_hash = split(patients(20))
    moved = next(patient for patient, side in by_hash.items() if side == TRAIN)
    assert split(patients(20), recorded={moved: TEST})[moved] == TEST


def test_recorded_sides_hold_when_others_take_a_patient_s_place() -> None:
    """A new data folder over the same store: whoever was trained on is no test patient now."""
    by_place = sorted(patients(200), key=lambda patient: unit_interval(KEY, patient))
    # Both belong to training by their hash, and the recorded one is first in its order.
    known, new = by_place[100], by_place[150]
    sides = split([known, new], recorded={known: TRAIN})
    assert sides == {known: TRAIN, new: TEST}


def test_lists_come_first_and_are_complete() -> None:
    recorded = {"p-0000": TEST, "p-0001": TRAIN, "p-0002": VALIDATION}
    sides = split(patients(6), Split(test=["p-0001"], validation=["p-0003"]), recorded=recorded)
    assert sides == {
        "p-0000": TRAIN,
        "p-0001": TEST,
        "p-0002": TRAIN,
        "p-0003": VALIDATION,
        "p-0004": TRAIN,
        "p-0005": TRAIN,
    }


def test_a_listed_test_leaves_the_validation_fraction() -> None:
    sides = split(patients(1000), Split(test=["p-0000"], validation=0.3))
    count = Counter(sides.values())
    assert count[TEST] == 1
    assert count[VALIDATION] == pytest.approx(300, abs=50)


def test_a_listed_patient_who_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="p-nobody"):
        split(patients(3), Split(test=["p-nobody"]))


def test_lists_that_leave_nobody_to_train_are_refused() -> None:
    with pytest.raises(NothingUsableError, match="train"):
        split(patients(2), Split(test=patients(2)))


def records_of_vendors(*vendors: str) -> list[SeriesRecord]:
    """One series of each of the patients p-0000, p-0001, ..., in this order."""
    return [
        SeriesRecord(
            patient=patient,
            digest="",
            shape=[1, 4, 4],
            affine_lps=np.eye(4).tolist(),
            slice_origins_mm=Places([[0.0, 0.0, 0.0]]),
            provenance={"Manufacturer": vendor},
            input_digest="",
        )
        for patient, vendor in zip(patients(len(vendors)), vendors, strict=True)
    ]


def test_all_patients_of_a_test_vendor_are_held_back_beside_the_fraction() -> None:
    vendors = ["Philips", "GE MEDICAL SYSTEMS"] * 200
    philips = patients_of_vendors(records_of_vendors(*vendors), ["philips"])
    assert philips == set(patients(400)[::2])
    sides = split_patients(
        patients(400), Split(test=0.2), key=KEY, recorded={}, of_test_vendors=philips
    )
    assert {sides[patient] for patient in philips} == {TEST}
    others = Counter(side for patient, side in sides.items() if patient not in philips)
    assert others[TEST] == pytest.approx(40, abs=20)
    assert others[TRAIN] == pytest.approx(140, abs=30)


def test_a_patient_listed_for_validation_and_held_back_for_the_vendor_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"validation lists p-0001.*test_vendors"):
        split_patients(
            patients(5),
            Split(validation=["p-0001"], test_vendors=["Philips"]),
            key=KEY,
            recorded={},
            of_test_vendors={"p-0001"},
        )


def test_a_split_by_vendor_that_is_not_given_the_patients_is_a_mistake() -> None:
    """Or a caller that forgot them would train on those who were to be held back."""
    with pytest.raises(ValueError, match="test_vendors"):
        split(patients(5), Split(test_vendors=["Philips"]))


def test_a_test_vendor_of_no_series_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ConfigError, match=r"names Canon.*there are: GE MEDICAL SYSTEMS, Philips"):
        patients_of_vendors(records_of_vendors("Philips", "GE MEDICAL SYSTEMS"), ["Canon"])


def pairs(
    path: Path, *, length: int = 40, noise_hu: float = 0.0, slices: int = 2, **data: Any
) -> tuple[Store, RunConfig, PatchPairs]:
    store = tiny_store(path, slices=slices)
    config = run_config(data={"patch": [32, 32], **data}, train=tiny_train(seed=3))
    add_inputs(store, config, noise_hu=noise_hu)
    return store, config, PatchPairs(store, sorted(store.records()), config, length)


def test_an_item_is_a_function_of_its_number(tmp_path: Path) -> None:
    store, config, dataset = pairs(tmp_path, noise_hu=20, noise_scale=[0.6, 1.5])
    forwards = [dataset[item] for item in range(10)]
    other = PatchPairs(store, sorted(store.records()), config, 10)
    backwards = [other[item] for item in reversed(range(10))][::-1]
    for one, same, again in zip(
        forwards, backwards, map(dataset.__getitem__, range(10)), strict=True
    ):
        for name in ("input", "target"):
            assert torch.equal(one[name], same[name])
            assert torch.equal(one[name], again[name])
    assert not torch.equal(forwards[0]["input"], forwards[1]["input"])


def test_another_seed_gives_other_patches(tmp_path: Path) -> None:
    store, _, dataset = pairs(tmp_path)
    other_config = run_config(train=tiny_train(seed=4))
    add_inputs(store, other_config)
    other = PatchPairs(store, sorted(store.records()), other_config, 40)
    different = [not torch.equal(dataset[i]["target"], other[i]["target"]) for i in range(10)]
    assert sum(different) >= 8


@pytest.mark.parametrize("patch", [[32, 32], [16, 48], [64, 64]])
def test_patches_have_the_configured_shape(tmp_path: Path, patch: list[int]) -> None:
    _, _, dataset = pairs(tmp_path, patch=patch)
    for item in range(len(dataset)):
        for values in dataset[item].values():
            assert tuple(values.shape) == (1, *patch)
            assert values.dtype == torch.float32
            assert values.is_contiguous()


def test_a_patch_larger_than_a_slice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="patch"):
        pairs(tmp_path, patch=[32, 96])


def test_without_noise_input_and_target_are_the_same_place(tmp_path: Path) -> None:
    _, _, dataset = pairs(tmp_path)
    seen = [dataset[item] for item in range(20)]
    for pair in seen:
        assert torch.equal(pair["input"], pair["target"])
        assert pair["target"].std() > 10, "within the body's box there is something to see"


def test_input_is_target_and_the_scaled_noise_of_that_place(tmp_path: Path) -> None:
    store, config, _ = pairs(tmp_path, noise_scale=[0.6, 1.5])
    for key in store.records():
        # The noise is a function of what it lies on: a pair of two places would show.
        target_hu = store.load(key).image_hu
        store.save_degraded(key, degradation_digest(config, 0), target_hu + 7 + target_hu / 10)
    dataset = PatchPairs(store, sorted(store.records()), config, 200)
    factors = []
    for item in range(len(dataset)):
        pair = dataset[item]
        factor = (pair["input"] - pair["target"]) / (7 + pair["target"] / 10)
        assert float(factor.std()) < 1e-3, "one factor for a patch"
        factors.append(float(factor.mean()))
    assert 0.599 < min(factors) < 0.65
    assert 1.45 < max(factors) < 1.501


def test_patches_are_turned_and_flipped(tmp_path: Path) -> None:
    _, _, dataset = pairs(tmp_path, patch=[64, 64], slices=1, length=60)
    # Patches of the whole slice differ by patient and orientation alone: at most 3 x 8.
    different = {dataset[item]["target"].numpy().tobytes() for item in range(60)}
    assert 15 < len(different) <= 24


def test_every_realisation_is_drawn(tmp_path: Path) -> None:
    store, config, _ = pairs(tmp_path, realisations=3)
    for key in store.records():
        for number in range(3):
            image_hu = store.load(key).image_hu + 100 * number
            store.save_degraded(key, degradation_digest(config, number), image_hu)
    dataset = PatchPairs(store, sorted(store.records()), config, 60)
    drawn = Counter(
        round(float((pair["input"] - pair["target"]).mean()))
        for pair in map(dataset.__getitem__, range(60))
    )
    assert set(drawn) == {0, 100, 200}
    assert min(drawn.values()) > 8


def test_only_the_named_series_are_drawn(tmp_path: Path) -> None:
    store, config, _ = pairs(tmp_path)
    brightest = {
        float(PatchPairs(store, ["s-1"], config, 20)[i]["target"].max()) for i in range(20)
    }
    # tiny_store tells its patients apart by 5 HU each.
    assert max(brightest) == 705.0


def test_there_are_as_many_items_as_asked(tmp_path: Path) -> None:
    _, _, dataset = pairs(tmp_path, length=5)
    assert len(dataset) == 5
    with pytest.raises(IndexError):
        dataset[5]
    with pytest.raises(IndexError):
        dataset[-1]


def test_slices_without_a_body_are_left_out(tmp_path: Path) -> None:
    store, config, _ = pairs(tmp_path)
    air = np.full((1, 64, 64), -1000, dtype=np.float32)
    store.add(volume_of(air), key="s-7", patient="p-7")
    add_inputs(store, config)
    assert len(PatchPairs(store, ["s-0", "s-7"], config, 1).slices) == 2
    with pytest.raises(NothingUsableError, match="body"):
        PatchPairs(store, ["s-7"], config, 1)


def test_a_digest_names_the_degradation_the_seed_and_the_draw() -> None:
    config = run_config()
    other_dose = run_config(
        degradation={**config.degradation.model_dump(), "args": {"dose_fraction": 0.5}}
    )
    other_seed = run_config(train=tiny_train(seed=1))
    longer = run_config(train=tiny_train(iterations=99))
    digests = [
        degradation_digest(config, 0),
        degradation_digest(config, 1),
        degradation_digest(other_dose, 0),
        degradation_digest(other_seed, 0),
    ]
    assert len(set(digests)) == 4
    assert degradation_digest(longer, 0) == digests[0], "the cache outlives a longer training"
