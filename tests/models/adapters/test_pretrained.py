"""The models that come with the software: whole, small, described, and good for something."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.images import volume_of

from flows.tracking.references import load_named
from pipeline.config.names import digest
from pipeline.core.errors import ConfigError
from pipeline.core.units import SOFT_TISSUE
from pipeline.inference.denoise import apply_model
from pipeline.metrics.image import psnr_db
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.models.adapters.weights import CONFIG, WEIGHTS
from pipeline.physics.lowdose import LowDoseCT
from pipeline.physics.phantoms.patient import patient_phantom

ROOT = Path(__file__).parents[3] / "pretrained"
NAMES = sorted(path.parent.name for path in ROOT.glob("*/card.json"))


def test_there_is_one() -> None:
    assert "redcnn" in NAMES


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


def test_it_takes_noise_off_a_body_it_has_never_seen() -> None:
    generator = np.random.default_rng(7)
    phantom = patient_phantom(generator, slices=2)
    volume = volume_of(phantom.image_hu, pixel_mm=phantom.spacing_mm[1:])
    physics = LowDoseCT(dose_fraction=0.25, photons_per_ray=5e4)
    noisy_hu = physics(volume, generator)
    model = load_pretrained("redcnn").model
    before, after = (
        psnr_db(image_hu[0], volume.image_hu[0], SOFT_TISSUE)
        for image_hu in (noisy_hu, apply_model(model, noisy_hu))
    )
    assert after > before + 5
