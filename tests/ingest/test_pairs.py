"""Real low-dose series as inputs: matched by place, told where not, and never a target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.dicom import KEY, ROOT_UID
from helpers.images import run_config, run_data, tiny_store, tiny_train
from helpers.pairs import NOISE_HU, write_dose

from pipeline.config.load import parse_config, parse_intake
from pipeline.config.run import RunConfig
from pipeline.config.sections import Pairs
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.units import AIR_HU
from pipeline.data.patches import PatchPairs
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.dicom.read.series import find_series
from pipeline.ingest.dose_pairs import dose_of, find_pairs
from pipeline.ingest.ingest import IngestReport, ingest
from pipeline.store.store import REAL, Store

FULL, LOW = "Thorax 2.0 Full Dose", "Thorax 2.0 LOW DOSE"
PLACES = [0.0, 5.0, 10.0, 15.0]
#: The low-dose series is this much brighter everywhere, and otherwise its partner: any other
#: pairing of slices than by place would show.
OFFSET_HU = 7.0
BRIGHTER = {"RescaleIntercept": str(int(OFFSET_HU) - 1024)}


def pair(root: Path, *, patient: str = "P-1", low: list[float] = PLACES, **how: Any) -> None:
    write_dose(root / patient / "a", FULL, PLACES, patient=patient)
    write_dose(root / patient / "b", LOW, low, patient=patient, **(BRIGHTER | how))


def ingested(root: Path, **how: Any) -> tuple[Store, IngestReport]:
    store = Store(root.parent / "store")
    return store, ingest(root, store, key=KEY, pairs=Pairs(), **how)


def reasons(report: IngestReport, fate: str = "quarantined") -> dict[str, str]:
    """Why, by the folder of the files."""
    return {str(Path(r["file"]).parent): r["reason"] for r in report.to_dict()[fate]}


def paired_config(**changes: Any) -> RunConfig:
    data = {"patch": [32, 32], "pairs": {}} | changes.pop("data", {})
    return run_config(degradation=None, data=data, **changes)


def test_slices_meet_by_their_place(tmp_path: Path) -> None:
    pair(tmp_path / "in")
    store, report = ingested(tmp_path / "in")
    (row,) = report.series
    target_hu = store.load(row.series).image_hu
    assert target_hu[:, 24, 24].tolist() == [20 + place for place in PLACES]
    input_hu = store.load_degraded(row.series, degradation_digest(paired_config(), 0))
    np.testing.assert_array_equal(input_hu - target_hu, OFFSET_HU)
    assert row.slices == 4
    assert row.pair.unmatched_input_mm == row.pair.unmatched_target_mm == []
    assert report.refusals == []


def test_the_low_dose_is_no_series_of_its_own_but_what_a_model_is_applied_to(
    tmp_path: Path,
) -> None:
    pair(tmp_path / "in")
    store, report = ingested(tmp_path / "in")
    assert len(store.records()) == len(report.series) == 1
    (source,) = report.sources.values()
    assert source.header.SeriesDescription == LOW
    assert report.series[0].pair.input != report.series[0].series
    both, plain = {}, Store(tmp_path / "plain")
    for row in ingest(tmp_path / "in", plain, key=KEY).series:
        both[row.series] = row.patient
    assert len(both) == 2, "without pairs they are two series"
    assert set(both.values()) == {report.series[0].patient}


def test_no_description_enters_store_or_report(tmp_path: Path) -> None:
    write_dose(tmp_path / "in" / "a", "Full dose of Gisela", PLACES)
    write_dose(tmp_path / "in" / "b", "low dose of Gisela", PLACES)
    store, report = ingested(tmp_path / "in")
    everything = json.dumps(report.to_dict()) + str(store.records())
    assert "Gisela" not in everything
    assert "dose of" not in everything


@pytest.mark.parametrize(
    ("low", "slices", "message"),
    [
        ([5.0, 10.0, 15.0], 3, "1 slice of the full-dose series"),
        ([-5.0, *PLACES, 20.0], 4, "2 slices of the low-dose series"),
    ],
)
def test_what_only_one_has_is_left_out_and_reported(
    tmp_path: Path, low: list[float], slices: int, message: str
) -> None:
    pair(tmp_path / "in", low=low)
    store, report = ingested(tmp_path / "in")
    (row,) = report.series
    volume = store.load(row.series)
    assert volume.image_hu.shape[0] == row.slices == slices
    input_hu = store.load_degraded(row.series, REAL)
    np.testing.assert_array_equal(input_hu - volume.image_hu, OFFSET_HU)
    assert volume.slice_origins_mm[0].tolist() == [-48.0, -48.0, max(low[0], PLACES[0])]
    assert volume.affine_lps[:3, 3].tolist() == volume.slice_origins_mm[0].tolist()
    assert any(message in warning for warning in row.warnings)
    lonely = row.pair.unmatched_input_mm + row.pair.unmatched_target_mm
    assert [place[2] for place in lonely] == sorted(set(low) ^ set(PLACES))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"low": [1.0, 6.0, 11.0, 16.0]}, "1.00 mm"),
        ({"low": [0.0, 5.0, 20.0]}, "5.00 mm"),
        ({"origin_mm": (-47.0, -48.0)}, "1.00 mm"),
        ({"size": 64}, "64 x 64 against 48 x 48"),
        ({"PixelSpacing": ["2.1", "2.0"]}, "4.70 mm"),
    ],
)
def test_a_mismatch_is_named_for_both_and_the_others_go_on(
    tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    pair(tmp_path / "in", patient="P-1")
    pair(tmp_path / "in", patient="P-2", **how)
    store, report = ingested(tmp_path / "in")
    assert len(store.records()) == 1
    found = reasons(report)
    assert set(found) == {"P-2/a", "P-2/b"}
    assert found["P-2/a"].startswith("no low-dose partner: the two series do not show the same")
    assert found["P-2/b"].startswith("no full-dose partner: the two series do not show the same")
    assert all(message in reason for reason in found.values())


def test_a_series_without_a_partner_is_named(tmp_path: Path) -> None:
    root = tmp_path / "in"
    pair(root)
    write_dose(root / "2", FULL, PLACES, patient="P-2")
    # At the very places of P-2's: another patient is no partner.
    write_dose(root / "3", LOW, PLACES, patient="P-3")
    write_dose(root / "4", "Scout", PLACES, patient="P-4")
    _, report = ingested(root)
    assert len(report.series) == 1
    nobody = "the patient has no such series"
    assert reasons(report) == {
        "2": f"no low-dose partner: {nobody}",
        "3": f"no full-dose partner: {nobody}",
    }
    neither = "neither 'low dose' nor 'full dose' in description or folder"
    assert reasons(report, "excluded") == {"4": neither}


def test_nothing_paired_is_an_error_that_says_why(tmp_path: Path) -> None:
    write_dose(tmp_path / "in", FULL, PLACES)
    with pytest.raises(NothingUsableError, match="no low-dose partner"):
        ingested(tmp_path / "in")


def test_of_several_partners_the_one_of_the_same_reconstruction(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for kernel in ("B30f", "B70f"):
        write_dose(root / f"full {kernel}", FULL, PLACES, ConvolutionKernel=kernel)
        write_dose(root / f"low {kernel}", LOW, PLACES, ConvolutionKernel=kernel)
    pairs, refusals = find_pairs(find_series(root).series, Pairs(), root)
    assert refusals == []
    kernels = {(p.input.header.ConvolutionKernel, p.target.header.ConvolutionKernel) for p in pairs}
    assert kernels == {("B30f", "B30f"), ("B70f", "B70f")}


def test_partners_that_nothing_distinguishes_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_dose(root / "full", FULL, PLACES)
    for folder in ("low 1", "low 2"):
        write_dose(root / folder, LOW, PLACES)
    pairs, refusals = find_pairs(find_series(root).series, Pairs(), root)
    assert pairs == []
    message = {r.path.parent.name: r.reason for r in refusals}
    assert "2 series match its positions" in message["full"]
    assert set(message) == {"full", "low 1", "low 2"}


def test_an_earlier_study_at_the_same_places_is_not_taken(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_dose(root / "full", FULL, PLACES)
    write_dose(root / "low", LOW, PLACES)
    write_dose(root / "low of 1999", LOW, PLACES, StudyInstanceUID=f"{ROOT_UID}.9")
    pairs, refusals = find_pairs(find_series(root).series, Pairs(), root)
    assert [p.input.instances[0].path.parent.name for p in pairs] == ["low"]
    assert {r.path.parent.name for r in refusals} == {"low of 1999"}


def test_a_pair_of_two_kernels_is_reported(tmp_path: Path) -> None:
    pair(tmp_path / "in", ConvolutionKernel="B70f")
    _, report = ingested(tmp_path / "in")
    message = "ConvolutionKernel of the pair differs: low dose B70f, full dose STANDARD"
    assert message in report.series[0].warnings


@pytest.mark.parametrize(
    ("description", "folder", "dose"),
    [
        ("Low Dose Images", "x", "input"),
        ("Full dose images", "low dose", "target"),
        ("Thorax", "study/FULL DOSE/1", "target"),
        ("", "low dose", "input"),
        ("low dose and full dose", "x", None),
        ("Thorax", "x", None),
    ],
)
def test_description_or_folder_shows_the_dose(
    tmp_path: Path, description: str, folder: str, dose: str | None
) -> None:
    # The name of the source itself tells nothing.
    root = tmp_path / "low dose"
    write_dose(root / folder, description, PLACES[:2])
    (series,) = find_series(root).series
    assert dose_of(series, Pairs(), root) == dose


def test_the_words_are_the_owner_s(tmp_path: Path) -> None:
    write_dose(tmp_path, "CHEST LD", PLACES[:2])
    (series,) = find_series(tmp_path).series
    assert dose_of(series, Pairs(input=" ld", target=" sd"), tmp_path) == "input"


def test_a_damaged_slice_is_missing_from_both(tmp_path: Path) -> None:
    pair(tmp_path / "in")
    broken = tmp_path / "in" / "P-1" / "b" / "1-02.dcm"  # at 10 mm
    broken.write_bytes(broken.read_bytes()[:-100])
    store, report = ingested(tmp_path / "in", intake=parse_intake(["gaps=slices"]))
    (row,) = report.series
    assert store.load(row.series).slice_origins_mm[:, 2].tolist() == [0.0, 5.0, 15.0]
    np.testing.assert_array_equal(
        store.load_degraded(row.series, REAL) - store.load(row.series).image_hu, OFFSET_HU
    )
    assert [r.path for r in report.refusals] == [broken]
    (source,) = report.sources.values()
    assert len(source.instances) == 3


def test_a_partner_that_cannot_be_read_takes_both_out(tmp_path: Path) -> None:
    pair(tmp_path / "in", patient="P-1")
    pair(tmp_path / "in", patient="P-2")
    for path in (tmp_path / "in" / "P-2" / "b").iterdir():
        path.write_bytes(path.read_bytes()[:-100])
    _, report = ingested(tmp_path / "in")
    assert len(report.series) == 1
    found = reasons(report)
    assert "P-2/b" in found
    assert found["P-2/a"].startswith("its low-dose partner cannot be used: ")


def test_padding_of_either_is_masked_in_both(tmp_path: Path) -> None:
    def padded(dataset: Any, number: int) -> None:
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(48, 48).copy()
        stored[20:24, 20:24] = -2000
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", -2000)

    pair(tmp_path / "in", change=padded)
    store, report = ingested(tmp_path / "in")
    key = report.series[0].series
    volume = store.load(key)
    assert not volume.valid[:, 20:24, 20:24].any()
    assert volume.valid.sum() == volume.valid.size - 4 * 16
    for image_hu in (volume.image_hu, store.load_degraded(key, REAL)):
        assert (image_hu[:, 20:24, 20:24] == AIR_HU).all()


def test_ingesting_twice_changes_nothing_and_another_low_dose_is_another_data_set(
    tmp_path: Path,
) -> None:
    pair(tmp_path / "in")
    store, report = ingested(tmp_path / "in")
    keys = [row.series for row in report.series]
    first = store.data_digest(keys)
    assert [row.new for row in ingested(tmp_path / "in")[1].series] == [False]
    pair(tmp_path / "in", noise_hu=NOISE_HU)
    assert [row.new for row in ingested(tmp_path / "in")[1].series] == [True]
    assert store.data_digest(keys) != first
    assert store.load_degraded(keys[0], REAL)[0].std() > 0


def test_a_series_that_changed_keeps_no_inputs_of_the_old_one(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, patients=1), run_config()
    store.save_degraded("s-0", degradation_digest(config, 0), store.load("s-0").image_hu)
    changed = store.load("s-0")
    changed = type(changed)(
        changed.image_hu + 1, changed.valid, changed.affine_lps, changed.slice_origins_mm
    )
    assert store.add(changed, key="s-0", patient="p-0")
    assert not store.degraded_path("s-0", degradation_digest(config, 0)).exists()


def test_a_store_without_pairs_is_refused_for_a_run_with_them(tmp_path: Path) -> None:
    store = tiny_store(tmp_path)
    with pytest.raises(ConfigError, match=r"3 of 3 series.*s-0.*--pairs"):
        degrade_store(store, dict.fromkeys(store.records(), 1), paired_config())


def test_training_sees_the_real_pair(tmp_path: Path) -> None:
    pair(tmp_path / "in")
    store, report = ingested(tmp_path / "in")
    config = paired_config(train=tiny_train(seed=1))
    keys = [row.series for row in report.series]
    assert degrade_store(store, dict.fromkeys(keys, 1), config) == 0
    dataset = PatchPairs(store, keys, config, 20)
    for item in range(20):
        difference = dataset[item]["input"] - dataset[item]["target"]
        assert torch.equal(difference, torch.full((1, 32, 32), OFFSET_HU))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"degradation": None}, "name a degradation, or data.pairs"),
        ({"data": {"pairs": {}}}, "one of them makes the inputs"),
        ({"degradation": None, "data": {"pairs": {}, "realisations": 2}}, "one draw"),
        ({"degradation": None, "data": {"pairs": {"inputs": "low"}}}, "unknown key"),
    ],
)
def test_there_is_one_way_to_inputs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(run_data(**changes))


def test_folders_to_be_skipped_are_not_entered_and_reported(tmp_path: Path) -> None:
    pair(tmp_path / "in")
    skipped = tmp_path / "in" / "P-1" / "1.000-Low Dose PROJECTIONS-1"
    skipped.mkdir()
    (skipped / "1.dcm").write_bytes(b"not to be opened")
    _, report = ingested(tmp_path / "in")
    assert reasons(report)["P-1/1.000-Low Dose PROJECTIONS-1"].startswith("not DICOM")
    _, report = ingested(tmp_path / "in", intake=parse_intake(["skip_folders=projections"]))
    assert report.to_dict()["quarantined"] == []
    (message,) = report.to_dict()["excluded"]
    assert message["file"] == "P-1/1.000-Low Dose PROJECTIONS-1"
    assert message["reason"] == "left alone: skip_folders=projections"


def several_doses(root: Path) -> None:
    write_dose(root / "a", "100 percent, Full Dose", PLACES)
    for percent in (25, 50, 75):
        brighter = {"RescaleIntercept": str(percent - 1024)}
        write_dose(root / str(percent), f"Thorax, dose {percent} %", PLACES, **brighter)


def test_several_doses_of_one_scan_are_as_many_pairs(tmp_path: Path) -> None:
    several_doses(tmp_path / "in")
    store = Store(tmp_path / "store")
    words = Pairs(input=["25 %", "50 %", "75 %"])
    report = ingest(tmp_path / "in", store, key=KEY, pairs=words)
    assert report.refusals == []
    assert len({row.patient for row in report.series}) == 1
    added = {
        round(float((store.load_degraded(k, REAL) - store.load(k).image_hu).mean()))
        for k in store.records()
    }
    assert added == {25, 50, 75}, "each has the input of its own dose"


def test_a_stated_dose_is_the_description_s_then_the_folder_s_then_the_exposure_s(
    tmp_path: Path,
) -> None:
    def stated(name: str, description: str, folder: str, **attributes: Any) -> int | None:
        root = tmp_path / name
        write_dose(root / "full", FULL, PLACES, Exposure="200")
        write_dose(root / folder, description, PLACES, **attributes)
        ((pair, *others), _) = find_pairs(find_series(root).series, Pairs(), root)
        assert not others
        return pair.dose_percent

    assert stated("a", f"{LOW} 25%", "dose 50 %", Exposure="30") == 25
    assert stated("b", LOW, "dose 50 %", Exposure="30") == 50
    assert stated("c", LOW, "b", Exposure="30") == 15
    assert stated("d", LOW, "b") is None
