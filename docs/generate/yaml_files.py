"""The reference of YAML files: runs, by task, and a hospital's."""

from __future__ import annotations

import json

from generate.schemas import Schema, schema_of, tables

RUN = """# The YAML of a run

One YAML is one complete run. An unknown key is an error, and any key can be set on the command
line: `--set train.iterations=500`. The files that come with the software are in `configs/`;
[configuration](../configuration.md) explains how to choose among them. This page is made from the
types that read the files. Editors can check a file against a task's schema: {schemas}.
"""
HOSPITAL = """# The YAML of a hospital

What `ldct pacs` and `ldct schedule` read; [in a hospital](../pacs.md) explains it. Made from the
types that read the file. Editors can check a file against
[its schema](schemas/hospital.schema.json).
"""
TASKS = {
    "denoise": "Denoising",
    "segment": "Segmentation",
    "generate": "Generative models",
    "restore": "Restoration",
}


def yaml_pages() -> dict[str, str]:
    """The text of each page and schema file, by its place on the site."""
    from pipeline.pacs.settings.hospital import Pacs

    runs = run_schemas()
    links = ", ".join(f"[{task}](schemas/{task}.schema.json)" for task in runs)
    parts = [RUN.format(schemas=links)]
    seen: set[str] = set()
    for task, schema in runs.items():
        known = {name: part for name, part in schema["$defs"].items()}
        text = tables(schema, title=f"{TASKS.get(task, task)}: `task: {task}`")
        parts.append(without_sections(text, seen))
        seen |= set(known)
    pages = {f"reference/schemas/{task}.schema.json": as_json(runs[task]) for task in runs}
    hospital = schema_of(Pacs)
    return pages | {
        "reference/run-yaml.md": "\n".join(parts),
        "reference/hospital-yaml.md": HOSPITAL + "\n" + tables(hospital, title="The file"),
        "reference/schemas/hospital.schema.json": as_json(hospital),
    }


def run_schemas() -> dict[str, Schema]:
    """The schema of each task's runs."""
    import pipeline.config.task_runs  # noqa: F401 - its types enter themselves
    from pipeline.config.run import RunConfig

    return {task: schema_of(kind) for task, kind in RunConfig.types.items()}


def without_sections(text: str, names: set[str]) -> str:
    """The page's sections but those that an earlier task has shown already."""
    from generate.schemas import heading

    shown = {f"## {heading(name)}" for name in names}
    sections = text.split("\n## ")
    kept = [part for part in sections[1:] if f"## {part.splitlines()[0].strip()}" not in shown]
    return "\n## ".join([sections[0], *kept])


def as_json(schema: Schema) -> str:
    return json.dumps(schema, indent=2) + "\n"
