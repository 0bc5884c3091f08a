"""The embedded default: synthetic patients as real DICOM series, and a run sized for 2 cores."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import numpy as np

from flows.runtime.progress import StageProgress
from pipeline.config.load import load_config
from pipeline.config.run import RunConfig
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.physics.phantoms.patient import patient_phantom

PATIENTS = 6
SLICES = 12
SEED = 2024
#: Shown beside the model that the demo trains.
PRETRAINED = "anydose@pretrained"
#: The patients are synthetic, so their key need not be secret: every demo splits alike.
KEY = b"the demo's patients are invented"


def demo_config(overrides: list[str] | None) -> RunConfig:
    """The demo's run with `--set` overrides; raises ConfigError as load_config does."""
    path = Path(str(resources.files("configs") / "demo.yaml"))
    return load_config(path, overrides)


def write_patients(folder: Path) -> None:
    """Write the phantom's series below `folder`; they are the same on every machine."""
    folder.mkdir(parents=True, exist_ok=True)
    key_file = folder.parent / "demo.key"
    key_file.write_bytes(KEY)
    os.environ["LDCT_KEY_FILE"] = str(key_file)
    with StageProgress("invent patients", unit="patients", total=PATIENTS) as stage:
        for number in range(1, PATIENTS + 1):
            generator = np.random.default_rng((SEED, number))
            phantom = patient_phantom(generator, slices=SLICES)
            write_phantom_series(
                phantom, folder / f"patient-{number}", patient_number=number, seed=SEED
            )
            stage.advance(1)
