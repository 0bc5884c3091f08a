"""What training saw, and what an incoming series has that it did not see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.flows import IDENTITY_RUN
from helpers.pacs import derive
from helpers.pacs_bench import Bench
from scipy import ndimage

from flows.hospital.ledger_status import release_work
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.inference.drift import NOT_KNOWN, Drift, drift, first_lines
from pipeline.inference.traits import (
    NOT_STATED,
    RELATIVE_NOISE,
    TrainingTraits,
    Traits,
    noise_hu,
    seen_by,
    summary,
    traits,
)
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.pacs.steps.worker import Worker
from pipeline.pacs.work.item import State
from pipeline.review.decisions import Decision, decide
from pipeline.store.store import Store

GE = {
    "Manufacturer": "GE MEDICAL SYSTEMS",
    "ManufacturerModelName": "LightSpeed16",
    "ConvolutionKernel": "STANDARD",
    "KVP": 120.0,
    "Exposure": 42,
    "SliceThickness": "5.0",
}
WORDS = {"vendor": "GE", "scanner": "GE A", "kernel": "STANDARD", "tube voltage": "120"}
LOW = {"noise": 20.0, "fineness of noise": 1.9, "body width": 25.0, "lung": 1.0, "bone": 5.0}
HIGH = {"noise": 30.0, "fineness of noise": 2.1, "body width": 30.0, "lung": 35.0, "bone": 9.0}
SEEN = summary(
    [Traits(WORDS, LOW), Traits({**WORDS, "scanner": "GE B", "kernel": NOT_STATED}, HIGH)]
)


def water(noise: float, *, seed: int = 0, **provenance: object) -> Volume:
    """A cylinder of water in air, 0.7 mm pixels, white noise of a deviation in HU."""
    rows, columns = np.indices((160, 160)) - 79.5
    truth = np.where(np.hypot(rows, columns) < 70, 0.0, -1000.0)
    image = truth + np.random.default_rng(seed).normal(0, noise, (3, 160, 160))
    return Volume(
        image_hu=image.astype(np.float32),
        valid=np.ones(image.shape, dtype=bool),
        affine_lps=np.diag([0.7, 0.7, 5.0, 1.0]),
        slice_origins_mm=np.array([[0, 0, 5.0 * n] for n in range(3)]),
        provenance={**GE, **provenance},
    )


def test_noise_is_measured_in_flat_tissue_and_needs_some():
    found = noise_hu(plain := water(30), plain.image_hu)
    # What lies below about 0.1 per mm, and is left out, is a few per cent of white noise.
    assert found == pytest.approx(30, rel=0.08)
    assert noise_hu(plain, water(15).image_hu) == pytest.approx(found / 2, rel=0.05)
    assert noise_hu(plain, np.full_like(plain.image_hu, -1000)) is None
    smooth = ndimage.gaussian_filter(plain.image_hu, (0, 1, 1))
    assert noise_hu(plain, smooth) < found / 2


def test_traits_are_words_and_numbers_without_identity():
    found = traits(water(20))
    assert found.numbers.pop("noise") == pytest.approx(20, rel=0.1)
    assert found.numbers.pop("body width") == pytest.approx(2 * 70 * 0.07, rel=0.02)
    assert found.numbers.pop("lung") == found.numbers.pop("bone") == 0
    assert {found.numbers.pop(name) > 0 for name in ("fineness of noise", RELATIVE_NOISE)} == {True}
    assert found.words == {
        "vendor": "GE",
        "scanner": "GE MEDICAL SYSTEMS LightSpeed16",
        "kernel": "STANDARD",
        "tube voltage": "120",
    }
    assert found.numbers == {"exposure": 42.0, "slice thickness": 5.0}
    bare = traits(water(20, ConvolutionKernel=["Br38f", "3"], Exposure=None, Manufacturer=""))
    assert (bare.words["kernel"], bare.words["scanner"]) == ("Br38f 3", "LightSpeed16")
    assert "exposure" not in bare.numbers


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({}, []),
        ({"kernel": NOT_STATED}, []),
        ({"noise": 44.0}, []),
        ({"noise": 46.0}, ["noise 46 HU; training saw 20 to 30 HU"]),
        ({"noise": 13.0}, ["noise 13 HU; training saw 20 to 30 HU"]),
        ({"scanner": "SIEMENS C"}, ["scanner SIEMENS C; training saw GE A, GE B"]),
        ({"kernel": "BONE"}, [f"kernel BONE; training saw STANDARD, {NOT_STATED}"]),
        ({"vendor": "SIEMENS", "scanner": "SIEMENS C"}, ["vendor SIEMENS; training saw GE"]),
        ({"tube voltage": "80"}, ["tube voltage 80; training saw 120"]),
        ({"fineness of noise": 0.5}, ["fineness of noise 0.5; training saw 1.9 to 2.1"]),
        ({"body width": 14.0}, ["body width 14 cm; training saw 25 to 30 cm"]),
        ({"lung": 70.0}, ["lung 70 % of the body; training saw 1 to 35 % of the body"]),
        ({"bone": 25.0}, ["bone 25 % of the body; training saw 5 to 9 % of the body"]),
        ({"exposure": 5.0}, []),  # training did not know its own
    ],
)
def test_what_training_did_not_see_is_listed(change, lines):
    words = dict(WORDS)
    numbers = {"noise": 25.0, "body width": 28.0}
    for name, value in change.items():
        (words if name in words else numbers)[name] = value
    found = drift(Traits(words, numbers), SEEN)
    assert list(found.unlike) == lines
    assert found.line.startswith("UNLIKE" if lines else "Like the model's training in noise, body")


def test_people_are_told_first_of_noise_and_what_nobody_remembers_is_said_too():
    found = drift(Traits({**WORDS, "kernel": "B\n70f"}, {**HIGH, "noise": 90.0}), SEEN)
    assert found.line.startswith("UNLIKE THE MODEL'S TRAINING: noise 90 HU; training saw 20 to 30")
    assert "kernel B 70f" in found.line, "a header may not break the line"
    assert found.to_dict() == {"drift": list(found.unlike), "drift_line": found.line}
    assert "not known" in NOT_KNOWN.line
    assert list(NOT_KNOWN.to_dict()) == ["drift_line"], "no list of what is unlike"
    like = Drift((), ("noise",))
    rows = [like.to_dict(), found.to_dict(), like.to_dict(), {"file": "a.nii"}]
    assert first_lines(rows) == [f"2 of 3 series: {like.line}", f"1 of 3 series: {found.line}"]
    assert first_lines(rows[:1]) == [like.line]


def test_of_many_words_the_commonest_are_told():
    rows = [Traits({**WORDS, "kernel": f"K{n // 2}"}, {}) for n in range(13)]
    (line,) = drift(Traits({**WORDS, "kernel": "X"}, {}), summary(rows)).unlike
    assert line == "kernel X; training saw K0, K1, K2, K3 and 3 others"


@pytest.mark.parametrize("name", ["redcnn", "swift"])
def test_models_that_ship_know_what_their_training_saw(name):
    seen = TrainingTraits.from_dict(load_pretrained(name).card.seen)
    assert (seen.series, seen.words["vendor"]) == (2, {"GE": 2})
    found = drift(traits(water(20, Manufacturer="SIEMENS", ConvolutionKernel="B70f")), seen)
    assert {line.split(";")[0] for line in found.unlike} >= {"kernel B70f", "vendor SIEMENS"}


RUN = {
    **IDENTITY_RUN,
    "degradation": {
        "target": "pipeline.physics.lowdose.LowDoseCT",
        "args": {"dose_fraction": 0.25},
    },
}


def stored(path: Path, config: RunConfig) -> Store:
    store = Store(path)
    for n, low in ((1, 40), (2, 60)):
        store.add(water(20, seed=n), key=f"s-{n}", patient=f"p-{n}")
        store.save_degraded(f"s-{n}", degradation_digest(config, 0), water(low, seed=n).image_hu)
    return store


def test_noise_that_training_scales_is_seen_at_both_ends(tmp_path: Path):
    config = parse_config({**RUN, "data": {"noise_scale": [0.5, 1.5]}})
    seen = seen_by(stored(tmp_path, config), ["s-1", "s-2"], config)
    # The same draw at another level: 20 + 0.5 (40 - 20) at least, 20 + 1.5 (60 - 20) at most.
    assert seen.numbers["noise"] == pytest.approx((30, 80), rel=0.1)


def test_a_model_of_many_doses_is_compared_by_noise_over_the_usual(tmp_path: Path):
    settings = {"realisations": 2, "nested": {"dose": [0.04, 1.0]}}
    config = parse_config({**RUN, "data": settings})
    seen = seen_by(stored(tmp_path, config), ["s-1"], config)
    whole = traits(water(20, seed=1))
    least = whole.numbers[RELATIVE_NOISE]
    assert "noise" not in seen.numbers
    assert seen.numbers[RELATIVE_NOISE] == pytest.approx((least, 5 * least), rel=1e-3)
    assert seen.numbers["exposure"] == pytest.approx((42 * 0.04, 42))
    for noise, lines in ((20, []), (80, []), (180, ["noise over full dose's"])):
        found = drift(traits(water(noise, seed=1)), seen)
        assert [line[: len(RELATIVE_NOISE)] for line in found.unlike] == lines


def test_training_saw_the_degraded_images_at_their_dose(tmp_path: Path):
    config = parse_config(RUN)
    store = stored(tmp_path, config)
    seen = seen_by(store, ["s-1", "s-2"], config)
    assert (seen.series, seen.words["scanner"]) == (2, {"GE MEDICAL SYSTEMS LightSpeed16": 2})
    assert seen.numbers["noise"] == pytest.approx((40, 60), rel=0.1)
    assert seen.numbers["exposure"] == (10.5, 10.5)
    assert TrainingTraits.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen
    # The scanner's own images, at four times the dose, are not what the model learned from.
    found = [line.split(" ")[0] for line in drift(traits(water(20)), seen).unlike]
    assert (found[0], found[-1]) == ("noise", "exposure")


def drifting(series: Path, model: str, out: Path) -> None:
    derive(series, model, out)
    rows = [{"series": "s-1", "drift": ["kernel BONE; training saw STANDARD"]}]
    write_json(out / "report.json", {"exported": rows, "quarantined": [{"file": "x"}]})


def test_by_policy_what_is_unlike_the_training_data_is_held_until_somebody_lets_it_go(tmp_path):
    bench = Bench(tmp_path, drift="hold")
    work = bench.add()
    worker = Worker(bench.settings, bench.ledger, drifting, {"": bench.destination}, bench.source)
    assert worker.run_due() == 2
    held = bench.ledger.get(work.id)
    assert (held.state, held.note) == (State.HELD, "kernel BONE; training saw STANDARD")
    assert bench.destination.stored == []
    with pytest.raises(ConfigError, match="--reason"):
        release_work(bench.settings, [work.id], " ")
    (released,) = release_work(bench.settings, [work.id], "looked at it")
    assert released.note.endswith("looked at it")
    bench.clock.at = released.due
    worker.run_due()
    assert bench.ledger.get(work.id).state is State.SENT
    assert "looked at it" in str(bench.ledger.events(work.id))
    with pytest.raises(ConfigError, match="not held but sent"):
        release_work(bench.settings, [work.id], "again")


def test_a_kill_before_it_is_held_does_not_send_it(tmp_path):
    bench = Bench(tmp_path, drift="hold")
    work = bench.add()
    drifting_twice = Worker(
        bench.settings, bench.ledger, drifting, {"": bench.destination}, bench.source
    )
    drifting_twice.step()
    bench.places.result(work.id).parent.mkdir()
    drifting(bench.places.series(work.id), "m", bench.places.result(work.id))  # and killed here
    assert drifting_twice.step().state is State.HELD


def test_without_the_policy_it_is_sent_with_a_remark(tmp_path):
    bench = Bench(tmp_path)
    work = bench.add()
    Worker(bench.settings, bench.ledger, drifting, {"": bench.destination}, bench.source).run_due()
    assert bench.ledger.get(work.id).state is State.SENT
    assert ("derived", "1 files quarantined; kernel BONE; training saw STANDARD") in (
        bench.ledger.events(work.id)
    )


def test_a_hospital_may_ask_for_a_readers_release(tmp_path):
    bench = Bench(tmp_path, release="reader")
    work = bench.add()
    bench.worker.run_due()
    held = bench.ledger.get(work.id)
    assert "no reader has accepted it" in held.note
    assert bench.destination.stored == []
    root, folder = bench.places.results, bench.places.result(work.id) / "s-1-test-v1"
    decide(root, "case", folder, Decision(reader="r1", verdict="accept"))
    bench.clock.at = held.due
    bench.worker.run_due()
    assert bench.ledger.get(work.id).state is State.SENT
