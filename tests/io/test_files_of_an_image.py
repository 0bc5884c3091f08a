"""Images of two files, in archives, and in encodings of all kinds: read, or told what to do."""

from __future__ import annotations

import bz2
import gzip
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers.dicom import KEY

from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.io.discover import discover, source_key
from pipeline.io.image_formats import written_suffix
from pipeline.io.volume_files import read_grid, read_image

SHAPE = (3, 4, 5)
NRRD = """NRRD0004
type: {kind}
dimension: 3
space: left-posterior-superior
sizes: 5 4 3
space directions: (1,0,0) (0,1,0) (0,0,2)
kinds: domain domain domain
endian: little
encoding: {encoding}
space origin: (-7,-8,-9)
"""


def hu(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def pair(folder: Path, name: str = "ct", seed: int = 0) -> Path:
    """A NIfTI pair; its header."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-2.0, -3.0, 4.0, 1.0])
    image = nibabel.Nifti1Pair(hu(seed).T, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, folder / f"{name}.hdr")
    return folder / f"{name}.hdr"


def meta_image(folder: Path, seed: int = 0) -> Path:
    """A MetaImage with its voxels in luna.raw; its header."""
    folder.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(hu(seed)), str(folder / "luna.mhd"))
    return folder / "luna.mhd"


def rows(refusals: list[Refusal]) -> dict[str, tuple[Disposition, str]]:
    return {r.path.name: (r.disposition, r.reason) for r in refusals}


def test_a_nifti_pair_is_one_image(tmp_path: Path) -> None:
    header = pair(tmp_path)
    found = discover(tmp_path)
    assert found.images == [header]
    assert rows(found.refusals) == {
        "ct.img": (Disposition.USED, "the voxels of ct.hdr, read with it")
    }
    volume = read_image(header)
    np.testing.assert_array_equal(volume.image_hu, hu())
    np.testing.assert_allclose(np.diag(volume.affine_lps), [2, 3, 4, 1])
    assert read_grid(header)[0] == SHAPE
    assert written_suffix(header) == ".nii"


def test_a_nifti_pair_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    header = pair(tmp_path)
    voxels = header.with_suffix(".img")
    voxels.write_bytes(voxels.read_bytes()[:-1])
    with pytest.raises(Unreadable, match="cut short"):
        read_image(header)


def test_an_analyze_header_has_no_place_and_is_told_so(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(hu().T, np.eye(4)), tmp_path / "old.hdr")
    with pytest.raises(Unreadable, match="not NIfTI but Analyze") as fault:
        read_image(tmp_path / "old.hdr")
    assert fault.value.attribute == "magic"


def test_a_header_of_another_program_without_voxels_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "sky.hdr").write_bytes(b"#?RADIANCE\n")
    found = discover(tmp_path)
    assert found.images == []
    assert rows(found.refusals) == {"sky.hdr": (Disposition.EXCLUDED, "not a DICOM file")}


def test_voxels_in_a_file_of_their_own_are_told_as_used(tmp_path: Path) -> None:
    header = meta_image(tmp_path)
    found = discover(tmp_path)
    assert found.images == [header]
    assert rows(found.refusals) == {
        "luna.raw": (Disposition.USED, "the voxels of luna.mhd, read with it")
    }


@pytest.mark.parametrize("made", [pair, meta_image])
def test_images_with_one_header_and_other_voxels_are_two(made, tmp_path: Path) -> None:
    """Or a second patient's image would be taken for the first one's."""
    one, other = (made(tmp_path / name, seed=n) for n, name in enumerate(("a", "b")))
    again = made(tmp_path / "c", seed=0)
    assert one.read_bytes() == other.read_bytes()
    assert source_key(one, KEY) == source_key(again, KEY) != source_key(other, KEY)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha"])
def test_an_image_in_an_archive_is_told_with_the_remedy(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.writestr(f"case/{name}", b"x" * 400)
    found = discover(tmp_path)
    assert found.images == []
    disposition, reason = rows(found.refusals)[name]
    assert disposition is Disposition.QUARANTINED
    assert "unpack it" in reason


@pytest.mark.parametrize("kind", ["short", "float"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii", "text", "txt", "hex"])
def test_an_nrrd_is_exact_in_any_encoding(encoding: str, kind: str, tmp_path: Path) -> None:
    values = hu().astype("<i2" if kind == "short" else "<f4")
    content = values.tobytes()
    if encoding == "gzip":
        content = gzip.compress(content)
    elif encoding == "hex":
        content = content.hex().encode()
    elif encoding != "raw":
        content = " ".join(str(value) for value in values.ravel()).encode()
    header = NRRD.format(kind=kind, encoding=encoding)
    (tmp_path / "a.nrrd").write_bytes(header.encode() + b"\n" + content)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nrrd").image_hu, values)
    half = content[: len(content) // 2]
    (tmp_path / "a.nrrd").write_bytes(header.encode() + b"\n" + half)
    with pytest.raises(Unreadable):
        read_image(tmp_path / "a.nrrd")


def test_an_encoding_without_a_decoder_is_told_by_its_name(tmp_path: Path) -> None:
    content = bz2.compress(hu().astype("<i2").tobytes())
    header = NRRD.format(kind="short", encoding="bzip2")
    (tmp_path / "a.nrrd").write_bytes(header.encode() + b"\n" + content)
    with pytest.raises(Unreadable, match="gzip or raw") as fault:
        read_image(tmp_path / "a.nrrd")
    assert (fault.value.attribute, fault.value.value) == ("encoding", "bzip2")
