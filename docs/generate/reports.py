"""The reference of report.json and of what commands print with --json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from generate.schemas import Schema, schema_of, tables

SCHEMA = Path(__file__).with_name("report.schema.yaml")
HEAD = """# report.json and --json

`ldct run`, `apply`, `simulate` and `latent fill` write `report.json`, and print the same with
`--json`. Other programs can check either against [the schema](schemas/report.schema.json). A key
that is not listed here is an error of ours; one that does not concern the command is left out.

"""
FIGURES = """
# Figures by task

`metrics` of report.json, by the task of its YAML, and `phantoms`. A figure that was not measured,
or is infinite (PSNR of an exact image), is `null`.
"""


def report_schema() -> Schema:
    """The JSON Schema of report.json."""
    found: Schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    return found


def report_pages() -> dict[str, str]:
    """The text of the pages and of the schema, by place."""
    schema = report_schema()
    figures = "".join(
        tables(schema_of(kind), title=title, of_output=True) for title, kind in _figures().items()
    )
    return {
        "reference/report.md": HEAD + tables(schema, title="The object", of_output=True),
        "reference/figures.md": FIGURES.lstrip() + "\n" + figures,
        "reference/schemas/report.schema.json": json.dumps(schema, indent=2) + "\n",
    }


def _figures() -> dict[str, Any]:
    from pipeline.evaluation.aggregate import DenoisingResult
    from pipeline.evaluation.generation import GenerationResult
    from pipeline.evaluation.restoration import RestorationResult
    from pipeline.evaluation.segmentation import SegmentationResult
    from pipeline.quality.phantom_metrics import PhantomArm

    return {
        "Denoising": DenoisingResult,
        "Segmentation": SegmentationResult,
        "Restoration": RestorationResult,
        "Generative models": GenerationResult,
        "Each arm of the phantoms": PhantomArm,
    }
