"""What a run's figures rest on, as files: of the slices that the store holds, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.flows import identity_config

from pipeline.degradations.digest import degradation_digest
from pipeline.dicom.read.series import Series, find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.export.low_dose import OtherGridError, export_low_dose, simulation
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.card import ModelCard
from pipeline.physics.phantoms.patient import patient_phantom
from pipeline.store.store import Store

CONFIG = identity_config()
CARD = ModelCard("identity", 1, "0" * 64, "c", "d", 1)
DIGEST = degradation_digest(CONFIG, 0)


@pytest.fixture
def source(tmp_path: Path) -> Series:
    phantom = patient_phantom(np.random.default_rng(1), slices=4, matrix=64)
    write_phantom_series(phantom, tmp_path / "source", patient_number=1, seed=0)
    (series,) = find_series(tmp_path / "source").series
    return series


def stored(source: Series, folder: Path, numbers: list[int]) -> tuple[Store, np.ndarray]:
    """A store with some slices of the source, and the input that was measured on."""
    reading = read_volume(source).of_slices(np.array(numbers))
    store = Store(folder)
    store.add(reading.volume, key="s", patient="p")
    input_hu = reading.volume.image_hu + np.float32(3)
    store.save_degraded("s", DIGEST, input_hu)
    return store, input_hu


def export(source: Series, store: Store, folder: Path):
    return export_low_dose(build_model(CONFIG), CARD, source, store, "s", CONFIG, folder)


def test_slices_that_the_store_holds_are_written_in_their_places(source, tmp_path):
    store, input_hu = stored(source, tmp_path / "store", [0, 2, 3])
    made = export(source, store, tmp_path / "s-dose0.5")
    assert {path.name for path in tmp_path.iterdir()} >= {"s-dose0.5", "s-dose0.5-identity-v1"}
    origins = [source.instances[n].origin_mm for n in (0, 2, 3)]
    for exported, folder in zip(made, ("s-dose0.5", "s-dose0.5-identity-v1"), strict=True):
        assert (exported.report.folder, exported.report.instances) == (folder, 3)
        found = sorted((tmp_path / folder).glob("*.dcm"))
        assert len(found) == 3
        reading = [read_volume(replace(source, instances=(one,))) for one in instances(found)]
        np.testing.assert_array_equal([r.series.instances[0].origin_mm for r in reading], origins)
        image_hu = np.concatenate([r.volume.image_hu for r in reading])
        valid = np.concatenate([r.volume.valid for r in reading])
        assert np.abs(image_hu - input_hu)[valid].max() <= 0.5


def instances(paths: list[Path]) -> list:
    found = [find_series(path).series[0].instances[0] for path in paths]
    return sorted(found, key=lambda one: one.origin_mm[2])


@pytest.mark.parametrize("change", ["moved", "sheared", "smaller"])
def test_what_was_stored_on_another_grid_has_no_files(source, tmp_path, change):
    volume = read_volume(source).volume
    affine = volume.affine_lps.copy()
    affine[0, 2] += 1
    changed = {
        "moved": {"slice_origins_mm": volume.slice_origins_mm + 0.5},
        "sheared": {"affine_lps": affine},
        "smaller": {"image_hu": volume.image_hu[:, 1:], "valid": volume.valid[:, 1:]},
    }[change]
    store = Store(tmp_path / "store")
    store.add(replace(volume, **changed), key="s", patient="p")
    store.save_degraded("s", DIGEST, np.array(store.load("s").image_hu))
    with pytest.raises(OtherGridError, match="another grid"):
        export(source, store, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_simulation_says_which_draw_of_which_noise_it_is():
    made = simulation(CONFIG, identity="i")
    assert made.label == "SIMULATED 50% DOSE"
    assert "draw 0 of the run's seed 0" in made.description
    noise = CONFIG.degradation.model_copy(
        update={"target": "pipeline.degradations.base.GaussianNoise", "args": {"sigma": 20}}
    )
    made = simulation(CONFIG.model_copy(update={"degradation": noise}), identity="i")
    assert made.label == "SIMULATED DEGRADATION"
    assert 'GaussianNoise {"sigma": 20}' in made.description
    assert made.description.endswith("Not for diagnosis.")
