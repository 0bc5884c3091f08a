"""A denoiser as a MONAI bundle, run by MONAI itself, gives the HU of `ldct apply`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from conftest import missing
from monai.bundle import verify_net_in_out
from monai.data import load_net_with_metadata
from numpy.typing import NDArray

from flows.cli.models_export import export
from pipeline.config.load import load_config
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.verdicts import Check, Verdict
from pipeline.export import monai_bundle
from pipeline.export.monai_bundle import (
    CARD,
    CONFIG,
    LICENSE,
    METADATA,
    MODEL,
    README,
    export_bundle,
)
from pipeline.inference.denoise import apply_model
from pipeline.io.volume_files import read_image
from pipeline.models.adapters.card import LoadedModel
from pipeline.models.adapters.pretrained import load_pretrained

#: To MONAI's output from ours: both run PyTorch, in batches of other sizes.
SAME_HU = 1e-3
#: Slices, rows and columns: odd ones, and more slices than a batch.
SHAPE = (5, 41, 64)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "swift"
    export_bundle(load_pretrained("swift"), folder)
    return folder


@pytest.fixture(scope="module")
def image_hu() -> NDArray[np.float32]:
    """Noise with metal in it, beyond the CT scale."""
    drawn = np.random.default_rng(0).uniform(-1000, 1000, SHAPE).astype(np.float32)
    drawn[2, 20:22, 30:33] = 9000
    return drawn


def write_lps(image_hu: NDArray[np.float32], path: Path) -> None:
    """As DICOM has it: columns to the left, rows to posterior."""
    affine = np.diag([-0.7, -0.8, 2.5, 1.0])
    nibabel.save(nibabel.Nifti1Image(image_hu.transpose(2, 1, 0), affine), path)


def write_ras(image_hu: NDArray[np.float32], path: Path) -> None:
    """The same image as converters store it: columns to the right, rows to anterior."""
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    affine[:2, 3] = -0.7 * (SHAPE[2] - 1), -0.8 * (SHAPE[1] - 1)
    stored = image_hu.transpose(2, 1, 0)[::-1, ::-1]
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored), affine), path)


def run_by_monai(bundle: Path, images: Path, out: Path, *more: str) -> None:
    if find_spec("fire") is None:
        missing("fire is not installed: it is in requirements.lock")
    command = [sys.executable, "-m", "monai.bundle", "run", *more, "--config_file", CONFIG]
    folders = ["--dataset_dir", str(images), "--output_dir", str(out)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, *folders], cwd=bundle, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_monai_gives_the_models_hu_whichever_way_a_file_is_stored(
    bundle: Path, image_hu: NDArray[np.float32], tmp_path: Path
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    write_lps(image_hu, images / "a.nii.gz")
    write_ras(image_hu, images / "b.nii.gz")
    run_by_monai(bundle, images, out)
    read_hu = read_image(images / "a.nii.gz", air="accept").image_hu
    wanted_hu = apply_model(load_pretrained("swift").model, read_hu)  # as `ldct apply` does
    found, turned = (nibabel.load(out / f"{name}_denoised.nii.gz") for name in "ab")
    found_hu = found.get_fdata().transpose(2, 1, 0)
    assert np.abs(found_hu - wanted_hu).max() < SAME_HU
    assert np.abs(wanted_hu - image_hu).max() > 50, "or an identity would pass"
    assert np.allclose(found.affine, nibabel.load(images / "a.nii.gz").affine)
    assert np.array_equal(turned.get_fdata()[::-1, ::-1], found.get_fdata())
    assert np.allclose(turned.affine, nibabel.load(images / "b.nii.gz").affine)


@pytest.mark.parametrize("name", ["anydose", "redcnn"])
def test_every_shipped_denoiser_is_exported_with_its_metal_and_odd_sizes(
    name: str, tmp_path: Path, image_hu: NDArray[np.float32]
) -> None:
    loaded = load_pretrained(name)
    report = export_bundle(loaded, tmp_path / name)
    assert report.largest_difference["TorchScript"] < 0.01
    network = torch.jit.load(tmp_path / name / MODEL)
    with torch.inference_mode():
        found = network(torch.from_numpy(image_hu)[:, None]).numpy()[:, 0]
    assert np.abs(found - apply_model(loaded.model, image_hu)).max() < SAME_HU
    assert (found[image_hu > 4000] == 9000).all()


def test_monais_own_checks_of_the_network_and_its_metadata(bundle: Path) -> None:
    files = {"meta_file": str(bundle / METADATA), "config_file": str(bundle / CONFIG)}
    verify_net_in_out(net_id="network_def", device="cpu", any=33, bundle_root=str(bundle), **files)
    _, metadata, files = load_net_with_metadata(
        str(bundle / MODEL), more_extra_files=["inference.json"]
    )
    assert metadata == json.loads((bundle / METADATA).read_text())
    assert json.loads(files["inference.json"]) == json.loads((bundle / CONFIG).read_text())


def test_the_bundle_says_what_it_takes_and_which_model_it_is(bundle: Path) -> None:
    card = load_pretrained("swift").card
    contract = json.loads((bundle / METADATA).read_text())["ldct"]
    assert contract["weights_sha256"] == card.weights_sha256
    assert contract["input"] == {
        "unit": "HU",
        "shape": [-1, 1, -1, -1],
        "axes": "batch, 1, rows, columns",
    }
    assert contract["above_hu"]["limit"] == 3071
    assert card.weights_sha256 in (bundle / README).read_text()
    assert "CC BY" in (bundle / CARD).read_text(), "the attributions of its data"
    assert "Apache License" in (bundle / LICENSE).read_text()


def test_a_failed_gate_is_said(tmp_path: Path) -> None:
    loaded = load_pretrained("swift")
    gate = Verdict.of([Check.at_least("PSNR gain, dB", 0.5, 1.0)])
    card = loaded.card.__class__(**{**loaded.card.__dict__, "gate": gate, "version": 3})
    export_bundle(LoadedModel(loaded.model, card, loaded.config), tmp_path / "b")
    assert (
        "did not pass its gate: PSNR gain, dB: 0.50, >= 1.0"
        in (tmp_path / "b" / README).read_text()
    )
    assert not json.loads((tmp_path / "b" / METADATA).read_text())["ldct"]["gate"]["passed"]
    assert not (tmp_path / "b" / LICENSE).exists(), "the licence of an own model is not known"


def test_a_network_that_differs_and_a_folder_of_another_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swift = load_pretrained("swift")
    export_bundle(swift, tmp_path / "b")
    with pytest.raises(LdctError, match="exists and holds something else"):
        export_bundle(load_pretrained("redcnn"), tmp_path / "b")
    (tmp_path / "b" / MODEL).write_bytes(b"another")
    with pytest.raises(LdctError, match="exists and holds something else"):
        export_bundle(swift, tmp_path / "b")
    monkeypatch.setattr(monai_bundle, "_by_torchscript", lambda path: lambda images: images + 1)
    with pytest.raises(LdctError, match="TorchScript differs from the model by"):
        export_bundle(swift, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export("swift@pretrained", monai_bundle=tmp_path / "b", json_=True)
    assert json.loads(capsys.readouterr().out)["largest_difference"]["TorchScript"] < 0.05
    assert (tmp_path / "b" / CONFIG).exists()
    export("swift@pretrained", monai_bundle=tmp_path / "c")
    assert "metadata.json says what goes in" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match="--monai-bundle DIR for a MONAI bundle"):
        export("swift@pretrained")


def test_a_segmenter_is_refused_by_name(tmp_path: Path) -> None:
    swift = load_pretrained("swift")
    segmenter = LoadedModel(swift.model, swift.card, load_config(Path("segment_body")))
    with pytest.raises(ConfigError, match="of the task segment: a MONAI bundle is written of den"):
        export_bundle(segmenter, tmp_path / "b")
    assert not (tmp_path / "b").exists()
