"""The models that come with the software: whole, small, described, and good for something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.images import volume_of

from flows.tracking.references import load_named
from pipeline.config.dose import MAX_RATIO
from pipeline.config.names import digest
from pipeline.core.errors import ConfigError
from pipeline.core.types import ImageHU
from pipeline.core.units import SOFT_TISSUE
from pipeline.inference.denoise import apply_model
from pipeline.metrics.image import psnr_db
from pipeline.models.adapters.any_dose import at_dose_ratio
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.models.adapters.weights import CONFIG, WEIGHTS
from pipeline.physics.lowdose import LowDoseCT
from pipeline.physics.phantoms.patient import patient_phantom

ROOT = Path(__file__).parents[3] / "pretrained"
NAMES = sorted(path.parent.name for path in ROOT.glob("*/card.json"))


def test_they_are_all_there() -> None:
    assert {"anydose", "redcnn", "swift"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_as_registered_and_says_what_it_is(name: str) -> None:
    loaded = load_pretrained(name)
    model, card, config = loaded.model, loaded.card, loaded.config
    assert card.uri == f"{name}@pretrained"
    assert card.parameters == sum(p.numel() for p in model.parameters())
    assert config.register_.name == name
    # Of the file: a version before, which knew fewer settings, wrote it.
    raw = yaml.safe_load((ROOT / name / CONFIG).read_text(encoding="utf-8"))
    assert card.config_digest == digest(raw)
    if config.train.start_from:  # weights that come with the software, so that it can be redone
        assert (ROOT.parent / config.train.start_from / WEIGHTS).is_file()
    assert sum(path.stat().st_size for path in (ROOT / name).rglob("*")) < 5_000_000
    text = (ROOT / name / "MODEL_CARD.md").read_text(encoding="utf-8")
    for said in ("Licence", "Limits", "Not for diagnosis", card.weights_sha256[:16]):
        assert said in text, said
    assert json.loads((ROOT / name / "figures.json").read_text())["patients"] >= 1


def test_it_is_found_without_a_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert load_named("redcnn@pretrained").card.version == 0
    assert not list(tmp_path.iterdir()), "a registry was made that nobody asked for"


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no pretrained model nobody; there are: .*redcnn"):
        load_pretrained("nobody")


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "redcnn"
    folder.mkdir()
    for path in filter(Path.is_file, (ROOT / "redcnn").iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr("pipeline.config.shipped.resources.files", lambda package: tmp_path)
    with pytest.raises(Exception, match="changed or damaged"):
        load_pretrained("redcnn")


@pytest.fixture(scope="module")
def body() -> tuple[ImageHU, ImageHU]:
    """A phantom's slices at a quarter and at the full dose."""
    generator = np.random.default_rng(7)
    phantom = patient_phantom(generator, slices=2)
    volume = volume_of(phantom.image_hu, pixel_mm=phantom.spacing_mm[1:])
    return LowDoseCT(dose_fraction=0.25, photons_per_ray=5e4)(volume, generator), volume.image_hu


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_noise_off_a_body_it_has_never_seen(
    name: str, body: tuple[ImageHU, ImageHU]
) -> None:
    noisy_hu, target_hu = body
    model = at_dose_ratio(load_pretrained(name).model, MAX_RATIO)
    before, after = (
        psnr_db(image_hu[0], target_hu[0], SOFT_TISSUE)
        for image_hu in (noisy_hu, apply_model(model, noisy_hu))
    )
    assert after > before + 5


def test_what_the_dose_conditioned_one_takes_begins_at_nothing_and_grows(
    body: tuple[ImageHU, ImageHU],
) -> None:
    noisy_hu, target_hu = body
    model = load_pretrained("anydose").model
    noise_hu = float((noisy_hu - target_hu).std())
    taken = [
        float((apply_model(at_dose_ratio(model, ratio), noisy_hu) - noisy_hu).std()) / noise_hu
        for ratio in (1.0, 1.05, 1.5, 2.0, 4.0, MAX_RATIO)
    ]
    assert taken[0] == 0
    assert 0 < taken[1] < 0.05
    assert taken == sorted(taken)
    assert taken[-1] > 0.6
