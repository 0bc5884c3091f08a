"""Nothing that a model made up can be taken for a patient's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from pipeline.core.errors import LdctError
from pipeline.core.units import SOFT_TISSUE
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.dicom.synthetic.generated_series import write_synthetic_series
from pipeline.report.marked_images import save_grid, save_latent_plot, write_synthetic_nifti

SPACING_MM = (5.0, 3.0, 2.5)


@pytest.fixture
def slices_hu() -> np.ndarray:
    rows, columns = np.indices((32, 40))
    image_hu = np.where(np.hypot(rows - 16, columns - 20) < 10, 40.0, -1000.0)
    return np.stack([image_hu, image_hu + 100, image_hu]).astype(np.float32)


def test_a_grid_says_it_in_its_text_and_to_the_eye(slices_hu, tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    save_grid(slices_hu, path, window=SOFT_TISSUE, columns=2, caption="from the prior, seed 0")
    picture = Image.open(path)
    assert "SYNTHETIC" in picture.text["Comment"]
    assert picture.text["Description"] == "from the prior, seed 0"
    levels = np.asarray(picture)
    # 32 pixels are shown at twice their size; three images take two rows of two.
    assert levels.shape[1] == 2 * (2 * 40 + 2)
    foot = levels[2 * (2 * 32 + 2) :]
    assert len(foot) >= 16
    assert (foot > 150).sum() > 50  # the caption's letters
    # 40 HU is the middle of the window, 140 HU three quarters of it.
    assert levels[32, 40] == 128
    assert levels[32, 82 + 40] == 191
    assert levels[0, 0] == 0


def test_a_long_caption_is_kept_whole(slices_hu, tmp_path: Path) -> None:
    caption = " ".join(f"word{n}" for n in range(40))
    for text in ("short", caption):
        save_grid(
            slices_hu, tmp_path / f"{len(text)}.png", window=SOFT_TISSUE, columns=2, caption=text
        )
    short, long = (Image.open(tmp_path / f"{len(text)}.png") for text in ("short", caption))
    assert long.height > short.height + 5 * 16
    assert long.width == short.width


def test_a_plot_of_codes_has_a_panel_for_each_training(tmp_path: Path) -> None:
    codes, labels = np.zeros((5, 2), np.float32), np.arange(5)
    sizes = []
    for titles in (("one",), ("one", "two", "three")):
        save_latent_plot(dict.fromkeys(titles, (codes, labels)), tmp_path / "plot.png")
        sizes.append(Image.open(tmp_path / "plot.png").width)
    assert sizes[1] == 3 * sizes[0]


@pytest.fixture
def series(slices_hu, tmp_path: Path) -> list[Path]:
    return write_synthetic_series(
        slices_hu, tmp_path / "series", spacing_mm=SPACING_MM, made_by="vae_ct v1", seed=3
    )


def test_every_instance_says_that_no_one_was_scanned(series) -> None:
    for path in series:
        assert path.name.startswith("SYNTHETIC")
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert header.SyntheticData == "YES"
        assert list(header.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        for name in ("PatientName", "StudyDescription", "SeriesDescription", "ImageComments"):
            assert "SYNTHETIC" in str(header[name].value)
        assert "vae_ct v1" in header.DerivationDescription
        assert "SourceImageSequence" not in header


def test_it_reads_back_in_hu_and_in_place(series, slices_hu) -> None:
    found = find_series(series[0].parent)
    assert len(found.series) == 1
    volume = read_volume(found.series[0]).volume
    assert volume.spacing_mm == pytest.approx(SPACING_MM)
    # Slices run from the head down; a volume's from the feet up.
    np.testing.assert_allclose(volume.image_hu, slices_hu[::-1], atol=0.5)


def test_the_same_seed_writes_the_same_and_nothing_is_overwritten(
    series, slices_hu, tmp_path: Path
) -> None:
    given = {"spacing_mm": SPACING_MM, "made_by": "vae_ct v1"}
    before = [path.read_bytes() for path in series]
    write_synthetic_series(slices_hu, series[0].parent, seed=3, **given)
    assert [path.read_bytes() for path in series] == before
    with pytest.raises(LdctError, match="something else"):
        write_synthetic_series(slices_hu, series[0].parent, seed=4, **given)
    with pytest.raises(LdctError, match="finite"):
        write_synthetic_series(slices_hu * np.nan, tmp_path / "nan", seed=3, **given)
    assert not (tmp_path / "nan").exists()


def test_dciodvfy_finds_no_error_in_a_synthetic_series(series, require_program) -> None:
    program = require_program("dciodvfy")
    for path in series:
        checked = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
        lines = (checked.stdout + checked.stderr).splitlines()
        # Synthetic Data is of 2021, and Debian's dciodvfy is older.
        assert [line for line in lines if "Error" in line and "(0x0008,0x001c)" not in line] == []


def test_nifti_says_it_in_header_and_name(slices_hu, tmp_path: Path) -> None:
    path = tmp_path / "synthetic-1.nii.gz"
    write_synthetic_nifti(slices_hu, path, spacing_mm=SPACING_MM, made_by="vae_ct v1")
    image = nibabel.load(path)
    assert bytes(image.header["descrip"]).startswith(b"SYNTHETIC, not a patient. vae_ct v1")
    assert bytes(image.header["intent_name"]).startswith(b"SYNTHETIC")
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, slices_hu)
    np.testing.assert_allclose(image.header.get_zooms(), SPACING_MM[::-1])
    with pytest.raises(LdctError, match="synthetic"):
        write_synthetic_nifti(slices_hu, path, spacing_mm=SPACING_MM, made_by="")
    with pytest.raises(LdctError, match="synthetic"):
        write_synthetic_nifti(slices_hu, tmp_path / "a.nii", spacing_mm=SPACING_MM, made_by="")
