"""The reference of report.json and of what commands print with --json."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

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
#: What other commands print with --json: the keys of the object. Types in brackets have a section.
OTHERS = {
    "ingest": "`series` [Stored], `labels`, `quarantined`, `excluded`, `used` [Refusal]",
    "train": "`model` [Model], `metrics`, `gate` [Verdict], `precision`, digests, `series`",
    "evaluate": "figures by window, and all of them under `details`; `model`, `config`; "
    "`baselines`, `dose_sweep`, `phantoms`, `contrast` where they were asked for",
    "qualify": "what `qualification.json` has: `digest`, `model`, `site`, `doses`, `series`, "
    "`refused`, `worst`, `phantoms`, `contrast`, `passed`, `checks` [Check]; `registered` where it "
    "was kept; `quarantined`, `excluded` [Refusal]",
    "latent sample": "`model`, and `files`: where the images are; so have `latent reconstruct`, "
    "`interpolate`, `traverse`, `arithmetic` and `plot`",
    "compress": "`model`; `exported`, each with `file`, `images`, `bytes`, `bits_per_pixel`, "
    "`window` and `psnr_db` (null where nothing was lost); `failed`, `quarantined`, `excluded` "
    "[Refusal]",
    "expand": "`exported`, each with `source_file`, `file` and `images`; `failed`",
    "fetch": "`count`, `megabytes`, `licences`, `left_out_by_licence`, `series`; once fetched "
    "`new`, `already_there`, `failed`; with `--ct-index` alone `ct_index`",
    "check": "`passed`, and `series`, each with `passed`, `instances` and `problems` [Problem]",
    "deidentify": "`written`, `series` [DeidentifiedSeries], `warnings`, "
    "`quarantined`, `excluded`, `used` [Refusal]",
    "models": "`models` [VersionRow]; `without_metric`: versions that lack one asked for, by name",
    "models show": "`name`, and `versions` [VersionRow], each with `figures`, `gate` and `config`",
    "models promote": "the act (`time`, `act`, `by`, `version`, `reason`, `before`, `forced`), "
    "`against`: the champion of before, `passed` and `checks` [Check]",
    "models rollback": "the act, as of a promotion",
    "models export": "`model`, `largest_difference` of each engine; of ONNX and pt2 also what is "
    "in card.json, of a MONAI bundle its `folder`",
    "models import": "`model` [Model], `task`, `imported` (kind, source, licence, SHA-256 of the "
    "file), `metrics` (null without --store), `gate` [Verdict]",
    "models audit": "`name`, `acts`, and those `altered` in the registry since",
    "status": "`runs` [ScheduledRun], `counts` of series by state, `open` (works), `not_shown` "
    "(how many more), `unmatched`, `deliveries` of open works with several destinations",
    "retry": "`retried` (works)",
    "schedule": "`time_zone`, and `next`: the next times of each job",
    "pacs work": "`steps` that were done, and what `status` has of works",
    "pacs accession": "`work`, each with accession number, study and series, which identify a "
    "patient",
    "review plan": "`readers`, `margin`, `power`, `forced_choice`, `lesions`, the standard "
    "deviations; `cases_needed`, and `cases_by_readers` for 2 to 12 readers",
    "review stats": "`readers`, `cases`, `readings`, `margin`, `criteria`, `no_verdict`; of scores "
    "`preference`, of marked lesions `figures` and `froc`; `model` where it was written there",
    "review policy": "`send`: which series may go to the PACS",
    "review audit": "`records`, `broken`: the lines at fault, `faults`, `unsigned`",
    "review decisions": "`decisions`: of each `case`, `verdict`, `reader`, `outcome` and `reason`",
    "pacs pull": "`asked`, `matched`, `new`, `unreadable`, and `series` with the rules that match",
}
OTHERS_HEAD = """
# --json of other commands

The keys of the one object that a command prints with `--json`. Every command has `error` [Error]
where it fails. A work is `state`, `id`, `model`, `origin`, `rule`, `instances`, `failures`, `note`,
`due` and `changed` (seconds since 1970): nothing that identifies a patient.

| `ldct` | keys |
|---|---|
"""


def report_schema() -> Schema:
    """The JSON Schema of report.json."""
    found: Schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    return found


def report_pages() -> dict[str, str]:
    """The text of the pages and of the schema, by place."""
    schema = report_schema()
    types = {kind.__name__: kind for kind in _printed_types()}
    pages = {**schema["$defs"], **{name: described(kind) for name, kind in types.items()}}
    others = OTHERS_HEAD.lstrip() + "".join(
        f"| `{command}` | {keys} |\n" for command, keys in OTHERS.items()
    )
    others = re.sub(r"\[(\w+)\]", lambda match: _linked(match[1], types), others)
    sections = "".join(tables(pages[name], title=name, of_output=True) for name in types)
    figures = "".join(
        tables(schema_of(kind), title=title, of_output=True) for title, kind in _figures().items()
    )
    return {
        "reference/report.md": HEAD + tables(schema, title="The object", of_output=True),
        "reference/json-of-commands.md": others + "\n" + sections,
        "reference/figures.md": FIGURES.lstrip() + "\n" + figures,
        "reference/schemas/report.schema.json": json.dumps(schema, indent=2) + "\n",
    }


def _linked(name: str, here: dict[str, Any]) -> str:
    page = "" if name in here else "report.md"
    return f"([{name}]({page}#{name.lower()}))"


def described(kind: Any) -> Schema:
    """The schema of a dataclass, with its docstring."""
    return {**TypeAdapter(kind).json_schema(), "description": inspect.cleandoc(kind.__doc__)}


def _printed_types() -> list[Any]:
    from flows.hospital.status import ScheduledRun
    from flows.tracking.versions import VersionRow
    from pipeline.dicom.deidentify.report import DeidentifiedSeries
    from pipeline.dicom.derived.series_check import Problem

    return [VersionRow, Problem, DeidentifiedSeries, ScheduledRun]


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
