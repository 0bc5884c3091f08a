"""The Python examples of the pages run as they stand there, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from generate.python_api import PUBLIC
from helpers.segmenter import untrained_segmenter

import ldct
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.physics.phantoms.patient import patient_phantom

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = patient_phantom(np.random.default_rng(1), slices=2)
    folder = tmp_path / "demo" / "patients" / "patient-1"
    write_phantom_series(phantom, folder, patient_number=1, seed=1)
    monkeypatch.chdir(tmp_path)
    # A registry's segmenter; how one gets there and out is tested in tests/flows.
    monkeypatch.setattr("flows.tracking.references.load_named", lambda name: untrained_segmenter())
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert {name for name in ldct.__all__ if f"ldct.{name}" not in "".join(blocks)} == {
        "CTSeries", "Segmentation"
    }  # fmt: skip
    known: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)
    soft_tissue = known["figures"].windows["soft_tissue"]
    assert soft_tissue.change["psnr"] > 0
    assert len(known["scans"]) == len(known["stored"].series) == 1
    for written in ("denoised", "denoised-low-dose", "denoised-with-uncertainty"):
        assert len(list((tmp_path / written).glob("*.dcm"))) == 2
    for written in ("denoised-with-uncertainty-uncertainty/PM.dcm", "organs/SEG.dcm"):
        assert (tmp_path / written).is_file()
    assert len(list((tmp_path / "from-array").glob("*.nii.gz"))) == 1


@pytest.mark.parametrize("name", [name for names in PUBLIC.values() for name in names])
def test_what_the_reference_names_is_there_and_described(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    found = getattr(__import__(module, fromlist=[attribute]), attribute)
    assert found.__doc__
