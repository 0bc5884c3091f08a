"""A model from elsewhere, from its files to a derived object, by weights that MONAI itself made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
import yaml
from monai.networks.nets import BasicUNet, UNet
from monai.transforms import ScaleIntensityRange
from typer.testing import CliRunner

from flows.cli.app import app
from flows.import_model import import_model, read_model
from flows.tracking.registry import Registry
from pipeline.config.load import parse_config
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.pseudonyms import installation_key
from pipeline.dicom.read.series import find_series
from pipeline.export.series import Export
from pipeline.ingest.ingest import ingest
from pipeline.models.adapters.segmenter import SegmentationModel
from pipeline.promotion import import_checks as checks_module
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

SOURCE, LICENCE = "A. Author, example.org/organs, 2025", "CC-BY-4.0"
UNET = {"channels": [4, 8], "strides": [2]}
RAW: dict[str, Any] = {
    "name": "body_from_elsewhere",
    "task": "segment",
    "weights": "weights.pt",
    "network": {"name": "UNet", "args": UNET},
    "source": SOURCE,
    "licence": LICENCE,
    "normalize_hu": {"centre": -175, "scale": 425},
    "clip_hu": [-175, 250],
    "labels": "body",
    "classes": ["body"],
    "axes": "RAS",
    "spacing_mm": [6, 6, 60],
    "patch": [48, 32, 8],
    "min_dice": 0.0,
}


def of_monai() -> UNet:
    return UNet(spatial_dims=3, in_channels=1, out_channels=2, **UNET).eval()


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    torch.save({"state_dict": of_monai().state_dict(), "epoch": 5}, tmp_path / "weights.pt")
    return written(tmp_path)


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "import.yaml"
    path.write_text(yaml.safe_dump({**RAW, **changes}))
    return path


def test_logits_are_those_of_monai_on_its_own_axes_and_units(settings: Path) -> None:
    _, model = read_model(settings)
    reference = of_monai()
    reference.load_state_dict(torch.load(settings.parent / "weights.pt")["state_dict"])
    image_hu = torch.empty(1, 1, 8, 32, 48).uniform_(-1000, 1000)  # slices, rows, columns: SPL
    in_ras = image_hu.permute(0, 1, 4, 3, 2).flip(2, 3)  # to the right, anterior, superior
    scaled = ScaleIntensityRange(a_min=-175, a_max=250, b_min=0, b_max=1, clip=True)(in_ras)
    with torch.inference_mode():
        wanted = reference(scaled).flip(2, 3).permute(0, 1, 4, 3, 2)
        found = model(image_hu)
    assert wanted.std() > 0.01
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.usefixtures("own_registry")
def test_measured_on_patients_it_gets_a_version_an_alias_and_writes_seg(
    settings: Path, phantom_patients: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    config, _ = read_model(settings)
    ingest(phantom_patients, store, key=installation_key(), intake=config.data.intake)
    done = import_model(settings, store.path).to_dict()
    assert done["gate"]["passed"]
    assert done["model"]["aliases"] == ["champion"]
    assert done["metrics"]["overall"]["patients"] == 3, "all of them: it has seen none"
    registry = Registry.default()
    version = registry.find("body_from_elsewhere")
    assert (version.tags["licence"], version.tags["source"]) == (LICENCE, SOURCE)
    assert LICENCE in version.description
    assert SOURCE in version.description
    loaded = registry.load("body_from_elsewhere")
    (source,) = find_series(phantom_patients / "1").series
    task_of(loaded.config).export(
        loaded.model, loaded.card, source, Export(tmp_path / "out"), loaded.config
    )
    (file,) = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    seg = pydicom.dcmread(file)
    assert seg.Modality == "SEG"
    assert seg.FrameOfReferenceUID == source.instances[0].load().FrameOfReferenceUID
    assert seg.SegmentSequence[0].SegmentLabel == "body"
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning


@pytest.mark.usefixtures("own_registry")
def test_without_patients_it_is_registered_without_an_alias_and_says_so(settings: Path) -> None:
    ended = CliRunner().invoke(app, ["models", "import", str(settings), "--json"])
    assert ended.exit_code == 5, ended.output
    registry = Registry.default()
    loaded = registry.load("body_from_elsewhere/1")
    assert "import it again with --store" in loaded.card.missed
    assert loaded.config.imported is not None
    with pytest.raises(ConfigError, match="no such version or alias"):
        registry.find("body_from_elsewhere")
    (row,) = registry.list()
    assert row.headline == {"text": "not measured"}
    again = parse_config(loaded.config.resolved())
    assert again == loaded.config


@pytest.mark.usefixtures("own_registry")
def test_a_denoiser_gives_monais_hu(tmp_path: Path) -> None:
    features = [8, 8, 8, 8, 8, 8]
    network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=features).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    raw = {name: RAW[name] for name in ("source", "licence", "weights")}
    raw |= {"name": "theirs", "task": "denoise", "normalize_hu": {"centre": 40, "scale": 400}}
    raw |= {"network": {"name": "BasicUNet", "args": {"features": features}}, "residual": True}
    (tmp_path / "import.yaml").write_text(yaml.safe_dump(raw))
    import_model(tmp_path / "import.yaml", None)
    loaded = Registry.default().load("theirs/1")
    image_hu = torch.empty(2, 1, 47, 33).uniform_(-1000, 1000)
    with torch.inference_mode():
        wanted_hu = image_hu + 400 * network((image_hu - 40) / 400)
        found_hu = loaded.model.cpu()(image_hu)
    assert (wanted_hu - image_hu).abs().max() > 1
    assert torch.allclose(found_hu, wanted_hu, atol=0.01)


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("fault", ["not finite", "moved"])
def test_what_fails_a_check_is_not_registered(
    fault: str, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "moved":  # an adapter that forgets to turn the result back

        class Forgetful(SegmentationModel):
            def _from_own_axes(self, image: torch.Tensor) -> torch.Tensor:
                return super()._from_own_axes(image).flip(4)

        monkeypatch.setattr(checks_module, "SegmentationModel", Forgetful)
        message = "identity in the model's adapter: a threshold .* moves"
    else:
        huge = {name: np.float32(1e30) * tensor for name, tensor in of_monai().state_dict().items()}
        torch.save(huge, settings.parent / "weights.pt")
        message = "odd sizes, finite: the model's output holds values that are not numbers"
    with pytest.raises(LdctError, match=message):
        import_model(settings, None)
    assert Registry.default().list() == []


def test_the_command_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file of weights .*weights\.pt"):
        import_model(written(tmp_path), None)
