"""What training saw, and what an incoming series has that it did not see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.pacs import derive
from helpers.pacs_bench import Bench
from scipy import ndimage

from flows.hospital.pacs import release_work
from pipeline.config.load import parse_config
from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.core.volume import Volume
from pipeline.degradations.digest import degradation_digest
from pipeline.inference.drift import (
    NOT_STATED,
    TrainingTraits,
    Traits,
    drift,
    noise_hu,
    seen_by,
    summary,
    traits,
)
from pipeline.pacs.work_item import State
from pipeline.pacs.worker import Worker
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
SEEN = summary(
    [
        Traits({"scanner": "GE A", "kernel": "STANDARD", "tube voltage": "120"}, {"noise": 20.0}),
        Traits({"scanner": "GE B", "kernel": NOT_STATED, "tube voltage": "120"}, {"noise": 30.0}),
    ]
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
    assert found.words == {
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
        ({"tube voltage": "80"}, ["tube voltage 80; training saw 120"]),
        ({"exposure": 5.0}, []),  # training did not know its own
    ],
)
def test_what_training_did_not_see_is_listed(change, lines):
    words = {"scanner": "GE A", "kernel": "STANDARD", "tube voltage": "120"}
    numbers = {"noise": 25.0}
    for name, value in change.items():
        (words if name in words else numbers)[name] = value
    assert sorted(drift(Traits(words, numbers), SEEN)) == sorted(lines)


def test_training_saw_the_degraded_images_at_their_dose(tmp_path: Path):
    config = parse_config(
        {
            "name": "t",
            "task": "denoise",
            "model": {"target": "pipeline.models.adapters.base.Identity"},
            "degradation": {
                "target": "pipeline.physics.lowdose.LowDoseCT",
                "args": {"dose_fraction": 0.25},
            },
            "step": {
                "target": "pipeline.training.steps.supervised.Supervised",
                "args": {"residual": False},
            },
            "loss": {"target": "torch.nn.MSELoss"},
            "train": {"iterations": 1},
            "windows": {"soft_tissue": [40, 400]},
            "register": {"name": "t"},
        }
    )
    store = Store(tmp_path)
    for n, low in ((1, 40), (2, 60)):
        store.add(water(20, seed=n), key=f"s-{n}", patient=f"p-{n}")
        store.save_degraded(f"s-{n}", degradation_digest(config, 0), water(low, seed=n).image_hu)
    seen = seen_by(store, ["s-1", "s-2"], config)
    assert (seen.series, seen.words["scanner"]) == (2, {"GE MEDICAL SYSTEMS LightSpeed16": 2})
    assert seen.numbers["noise"] == pytest.approx((40, 60), rel=0.1)
    assert seen.numbers["exposure"] == (10.5, 10.5)
    assert TrainingTraits.from_dict(json.loads(json.dumps(seen.to_dict()))) == seen
    # The scanner's own images, at four times the dose, are not what the model learned from.
    assert [line.split()[0] for line in drift(traits(water(20)), seen)] == ["exposure", "noise"]


def drifting(series: Path, model: str, out: Path) -> None:
    derive(series, model, out)
    rows = [{"series": "s-1", "drift": ["kernel BONE; training saw STANDARD"]}]
    write_json(out / "report.json", {"exported": rows, "quarantined": [{"file": "x"}]})


def test_by_policy_what_is_unlike_the_training_data_is_held_until_somebody_lets_it_go(tmp_path):
    bench = Bench(tmp_path, drift="hold")
    work = bench.add()
    worker = Worker(bench.settings, bench.ledger, drifting, bench.destination, bench.source)
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
    drifting_twice = Worker(bench.settings, bench.ledger, drifting, bench.destination, bench.source)
    drifting_twice.step()
    bench.places.result(work.id).parent.mkdir()
    drifting(bench.places.series(work.id), "m", bench.places.result(work.id))  # and killed here
    assert drifting_twice.step().state is State.HELD


def test_without_the_policy_it_is_sent_with_a_remark(tmp_path):
    bench = Bench(tmp_path)
    work = bench.add()
    Worker(bench.settings, bench.ledger, drifting, bench.destination, bench.source).run_due()
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
