"""The pages of results: every benchmark's table under its title, and on what it was taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from generate.sources import ROOT

RESULTS = ROOT / "benchmarks" / "results"
HEAD = """# Every table

The tables that the scripts in `benchmarks/` wrote, as they wrote them; a script takes its figures
again. [How well it denoises](../quality.md) and [performance](../performance.md) explain them.
Where no processor is named, none was recorded.

| table | script | processor | precision |
|---|---|---|---|
"""
TITLES = {
    "anydose": "One denoiser for any dose, on held-back series",
    "anydose_ablation": "What each part of the denoiser's training is worth",
    "anydose_stacks": "One slice in against three and five",
    "apply": "`ldct apply` of 300 slices, whole and by stage",
    "audit": "Which changes of a denoiser its audit finds",
    "generative_compression": "Compression by VQ-VAE beside JPEG",
    "generative_denoise": "Denoising against a critic",
    "generative_digits28": "VAE and GAN on digits of 28 x 28, real digits as the control",
    "generative_models": "Generative models side by side, real digits as the control",
    "growth": "Time and memory as series grow in number",
    "ingest": "Reading and storing DICOM, beside other readers",
    "latent_fill": "Regions filled by latent search, beside interpolation",
    "latent_search_ct": "Latent search on CT slices",
    "latent_search_digits": "Latent search on digits",
    "night": "A night in which workers, PACS and disk fail",
    "night_before": "A night by this version and by one before depth first, in turn",
    "orchestration": "What Prefect and MLflow cost",
    "peers": "Reading, computing and commands, beside peers on each processor",
    "restore": "Restoring pictures, beside classical methods",
    "restore_noise": "One denoiser of photographs for any noise, beside BM3D",
    "review": "The review page on large series",
    "segment": "Segmentation at full and low dose, denoised or not",
    "simulate": "Simulation of low dose, beside scikit-image",
    "speed": "Inference and training of RED-CNN, beside PyTorch",
    "styles": "What a style does to pictures of labels and edges",
    "swift": "A denoiser for CPUs beside RED-CNN",
}
#: Tables whose script has another name than they.
SCRIPTS = {"latent_search_ct": "latent_search", "latent_search_digits": "latent_search"}


def result_pages(folder: Path = RESULTS) -> dict[str, str]:
    """The text of the page that lists the tables, and of each table's, by its place."""
    tables = sorted(folder.glob("*.md"))
    pages = {f"results/{path.name}": _titled(path) for path in tables}
    return pages | {"results/index.md": HEAD + "".join(_row(path) for path in tables)}


def _titled(table: Path) -> str:
    text = table.read_text(encoding="utf-8")
    return text if text.startswith("# ") else f"# {_title(table)}\n\n{text}"


def _title(table: Path) -> str:
    """As TITLES has it; of a table that it lacks, its file's name."""
    return TITLES.get(table.stem, table.stem.replace("_", " ").capitalize())


def _row(table: Path) -> str:
    machine = _machine(table.with_suffix(".json"))
    shown = [str(machine.get(key, "")) for key in ("processor", "precision")]
    script = SCRIPTS.get(table.stem, table.stem)
    title = f"[{_title(table)}]({table.name})"
    return f"| {title} | `benchmarks/{script}.py` | {shown[0]} | {shown[1]} |\n"


def _machine(figures: Path) -> dict[str, Any]:
    """The facts of the machine as benchmarks/machine.py has them, where the table has them."""
    found = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else {}
    machine = found.get("machine")
    return machine if isinstance(machine, dict) else {}
