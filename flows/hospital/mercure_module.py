"""A processing module of a DICOM router, by mercure's contract.

The router puts a task's images and task.json into one folder, starts the module, and sends on
whatever images lie in the other folder once it ended with 0; result.json there is kept with the
task. See mercure's docs/modules.rst, and `process` in its app/common/types.py.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Literal

import pydicom
from pydantic import Field, ValidationError

from flows.commands import apply_flow
from pipeline.config.dose import DoseKeys
from pipeline.core.atomic_files import write_json
from pipeline.core.errors import ConfigError
from pipeline.core.refusals import reason_of
from pipeline.core.types import Json
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.series import Export

TASK, RESULT = "task.json", "result.json"


class TaskSettings(DoseKeys):
    """`process.settings` of task.json: which model, and how."""

    model: str
    strength: float | None = Field(default=None, gt=0, le=1)
    compress: Literal["none", "j2k", "jpegls", "rle"] = "none"


def run_task(in_: Path, out: Path) -> Json:
    """Do one task; returns what result.json says. Images are named as the router expects.

    in_: a folder with DICOM files and task.json. out: an existing folder for images and
    result.json. Raises what fails, of one series or of all: then the reason is in result.json, and
    no image in `out`.
    """
    try:
        result = _apply(in_, out, task_settings(in_ / TASK))
    except Exception as error:
        write_json(out / RESULT, {"error": reason_of(error)})
        raise
    write_json(out / RESULT, result)
    return result


def task_settings(path: Path) -> TaskSettings:
    """Read the settings of a task.json; raises ConfigError that names the key.

    Where a task has several steps, mercure writes a file for each.
    """
    try:
        task = json.loads(path.read_text(encoding="utf-8"))
        process = task["process"]
        step = process[0] if isinstance(process, list) else process
        return TaskSettings.model_validate(step.get("settings", {}))
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise ConfigError(f"{path.name}: process.settings.{key}: {fault['msg']}") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path.name} holds no task with `process`: {error!r}") from error


def _apply(in_: Path, out: Path, settings: TaskSettings) -> Json:
    # Beside the result, so that images are renamed into place; a router ignores folders.
    with tempfile.TemporaryDirectory(dir=out, prefix=".partial-") as scratch:
        report = apply_flow(
            settings.model,
            in_,
            Export(Path(scratch), settings.compress),
            intake=IngestOptions(),
            strength=settings.strength,
            dose=settings.dose,
            all_or_nothing=True,
        )
        for path in sorted(Path(scratch).glob("*/*.dcm")):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            name = f"{header.SeriesInstanceUID}#{header.SOPInstanceUID}.dcm"
            os.replace(path, out / name)
    return {
        "model": report["model"],
        "weights_sha256": report["weights_sha256"],
        "series": [
            {key: row[key] for key in ("series", "instances", "warnings")}
            for row in report["exported"]
        ],
        "quarantined": [
            {key: row[key] for key in ("reason", "attribute") if key in row}
            for row in report["quarantined"]
        ],
    }
