"""What libraries warn of: remarks on the file, without values, and nothing on stderr."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from helpers.dicom import COLUMNS, ROWS, ct_slice, put_bytes, save
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from pipeline.core.library_warnings import (
    catch_library_warnings,
    library_remarks,
    native_messages,
)

#: The byte at which a NIfTI-1 header has the first voxel size.
PIXDIM = 80


def warn(text: str, module: str = "/site-packages/pydicom/valuerep.py") -> None:
    warnings.warn_explicit(text, UserWarning, module, 1)


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings():
        catch_library_warnings()
        yield


@pytest.mark.usefixtures("caught")
def test_a_warning_is_a_remark_without_its_values(capfd: pytest.CaptureFixture) -> None:
    with library_remarks() as heard:
        for name in ("DOE^JANE", "ROE^JIM"):
            warn(f"Invalid value for VR PN: '{name}'. Please see <https://dicom>")
        warn("Expected explicit VR, but found implicit VR - using implicit VR for reading")
        warn("of no library", "/somewhere/else.py")
    assert heard == ["pydicom: Invalid value for VR PN"]
    warn("Invalid value: of no file that is being read")
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("caught")
def test_bytes_behind_the_image_are_told_in_a_whole_sentence() -> None:
    dataset = ct_slice()
    dataset.PixelData += bytes(40)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with library_remarks() as heard:
        assert dataset.pixel_array.shape == (ROWS, COLUMNS)
    assert heard == [
        "pydicom: the pixel data hold more bytes than the image: the last are left out"
    ]


@pytest.mark.usefixtures("caught")
def test_each_file_has_its_own() -> None:
    """Python tells a warning once; the next file has it as well. So have files read in threads."""
    found: dict[int, list[str]] = {}

    def read(number: int) -> None:
        with library_remarks() as heard:
            warn("The same for all files")
            if number % 2:
                warn("Only the odd ones have it")
        found[number] = heard

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: len(heard) for number, heard in found.items()} == {
        number: 1 + number % 2 for number in range(8)
    }


@pytest.mark.usefixtures("caught")
def test_nibabel_says_nothing_itself(capfd: pytest.CaptureFixture) -> None:
    import nibabel.imageglobals  # noqa: F401  (adds its handler)

    with library_remarks() as heard:
        logging.getLogger("nibabel.global").warning("pixdim[1,2,3] should be positive")
    assert heard == ["nibabel: pixdim[1,2,3] should be positive"]
    assert capfd.readouterr().err == ""


def test_what_c_libraries_write_is_kept() -> None:
    with native_messages() as messages:
        os.write(2, b"MetaImage: Cannot parse file\nand more\n")
    assert messages == ["MetaImage: Cannot parse file", "and more"]


def test_stderr_holds_our_own_lines_alone(tmp_path: Path) -> None:
    """A whole command over files that pydicom, nibabel and ITK warn of."""
    folder = tmp_path / "in"
    for index in range(3):
        path = save(ct_slice(index), folder / f"{index}.dcm")
        put_bytes(path, {tag_for_keyword("PatientName"): b"\xff\xfeGeheim"})
    image = SimpleITK.GetImageFromArray(np.full((2, 8, 8), -1000, np.int16))
    SimpleITK.WriteImage(image, str(folder / "broken.mha"))
    head = (folder / "broken.mha").read_bytes()
    (folder / "broken.mha").write_bytes(head.replace(b"NDims = 3", b"NDims = 11"))
    nibabel.save(
        nibabel.Nifti1Image(np.full((8, 8, 2), -1000, np.int16), np.eye(4)), folder / "a.nii"
    )
    head = (folder / "a.nii").read_bytes()
    negative = np.float32(-1).tobytes()
    (folder / "a.nii").write_bytes(head[:PIXDIM] + negative + head[PIXDIM + 4 :])
    command = [sys.executable, "-m", "flows.cli.app", "ingest", folder, "--store", tmp_path / "s"]
    command.append("--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith(("ingest: ", "ldct: ", "  "))] == []
    assert done.returncode == 4
    report = json.loads(done.stdout)
    (refused,) = report["quarantined"]
    assert (refused["file"], "DimSize" in refused["reason"]) == ("broken.mha", True)
    remarks = {remark for row in report["series"] for remark in row["warnings"]}
    assert any(remark.startswith("nibabel: pixdim") for remark in remarks)
    assert "Geheim" not in done.stdout + done.stderr
