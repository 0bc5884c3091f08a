"""The Python examples of the pages run as they stand there, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from generate.python_api import PUBLIC

from pipeline.core.units import Window
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.metrics.image import psnr_db
from pipeline.physics.phantoms.patient import patient_phantom

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phantom = patient_phantom(np.random.default_rng(1), slices=2)
    folder = tmp_path / "demo" / "patients" / "patient-1"
    write_phantom_series(phantom, folder, patient_number=1, seed=1)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 3
    known: dict = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)
    volume, quarter_hu = known["volume"], known["low_hu"]
    window = Window(40, 400)
    denoised = psnr_db(known["denoised_hu"][0], volume.image_hu[0], window)
    assert known["denoised_hu"].shape == quarter_hu.shape == (1, *volume.image_hu.shape[1:])
    assert denoised > psnr_db(quarter_hu[0], volume.image_hu[0], window)


@pytest.mark.parametrize("name", [name for names in PUBLIC.values() for name in names])
def test_what_the_reference_names_is_there_and_described(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    found = getattr(__import__(module, fromlist=[attribute]), attribute)
    assert found.__doc__
