"""The tables of benchmarks/restore.py, and the gallery in docs/ that shows the same runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.config.load import load_config
from pipeline.core.verdicts import Verdict
from pipeline.evaluation.gates import judge_restoration
from pipeline.evaluation.restoration import INPUT, OUTPUT, RestorationOverall, RestorationWindow

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
GALLERY = ROOT / "docs" / "gallery.md"
#: An answer that is measured here alone: no run's gate knows it.
BM3D = "bm3d"
#: The columns of a window's figures, and how many digits they show.
DIGITS = {"psnr": 2, "ssim": 3, "chroma_error": 1, "flicker": 1, "mean_iou": 3, "frechet": 3}
HEAD = [
    "| task | | PSNR dB | SSIM | chroma error | flicker | mean IoU | Frechet distance |",
    "|---|---|---|---|---|---|---|---|",
]


def write_tables(results: dict[str, Any]) -> None:
    """Write restore.json and restore.md of all runs, and the gallery."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "restore.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [*HEAD]
    for name, run in results["runs"].items():
        lines += rows_of(name, run)
    trained = [trained_row(name, run) for name, run in results["runs"].items()]
    lines += [
        "",
        "| task | iterations | parameters | CPU minutes | verdict | gate | processor |",
        "|---|---|---|---|---|---|---|",
    ]
    (RESULTS / "restore.md").write_text("\n".join([*lines, *trained]) + "\n")
    GALLERY.write_text("\n".join(gallery(results)) + "\n")


def first_window(run: dict[str, Any]) -> dict[str, Any]:
    return next(iter(run["windows"].values()))


def rows_of(name: str, run: dict[str, Any]) -> list[str]:
    """Input, references and output of a run in each window, and what is known to be near or far
    by the Frechet distance of texture, which is of no window."""
    rows = []
    texture = run.get("texture") or {"frechet": {}, "controls": {}}
    for window, figures in run["windows"].items():
        answers = dict(RestorationWindow.from_dict(figures).answers)
        task = name.replace("_", " ")
        if len(run["windows"]) > 1:
            task += f", {window.replace('_', ' ')} {figures['centre']:g}/{figures['width']:g}"
        for answer, found in sorted(answers.items(), key=lambda item: item[0] == OUTPUT):
            label = "**network**" if answer == OUTPUT else answer.replace("_", " ")
            seeds = run.get("seeds", {}).values() if answer == OUTPUT else ()
            label += f", {len(seeds)} seeds" if seeds else ""
            figures_now = {**found, "frechet": texture["frechet"].get(answer)}
            each = [seed[window] for seed in seeds] or [figures_now]
            cells = [task, label, *(_of_seeds(each, name, DIGITS[name]) for name in DIGITS)]
            rows.append("| " + " | ".join(cells) + " |")
            task = ""
    for control, distance in texture["controls"].items():
        rows.append(f"| | {control} | | | | | | {_figure(distance, 3)} |")
    return rows


def _of_seeds(each: list[dict[str, float | None]], name: str, digits: int) -> str:
    """A figure of one training; of several their mean, and the least and the most."""
    values = [value for one in each if (value := one.get(name)) is not None]
    if len(values) < 2:
        return _figure(values[0] if values else None, digits)
    least, most = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return f"{sum(values) / len(values):.{digits}f} ({least} to {most})"


def _figure(figure: float | None, digits: int) -> str:
    return "" if figure is None else f"{figure:.{digits}f}"


def verdict(run: dict[str, Any]) -> str:
    """What the network wins and loses against the best of the others, window by window."""
    sentences = []
    for window, figures in run["windows"].items():
        answers = dict(RestorationWindow.from_dict(figures).answers)
        output = answers.pop(OUTPUT)
        ahead = []
        for figure, unit, digits in (("psnr", " dB", 2), ("ssim", " SSIM", 3)):
            best = max(answers, key=lambda name: answers[name][figure])
            above = output[figure] - answers[best][figure]
            beside = "input" if best == INPUT else best.replace("_", " ")
            ahead.append(f"{above:+.{digits}f}{unit} against {beside}")
        where = f"{window.replace('_', ' ')}: " if len(run["windows"]) > 1 else ""
        sentences.append(where + ", ".join(ahead))
    return "; ".join(sentences)


def gate_of(name: str, run: dict[str, Any]) -> Verdict:
    """The verdict that `ldct run` gives on a run's figures, by its configuration as it is."""
    windows = {
        window: {answer: found for answer, found in figures.items() if answer != BM3D}
        for window, figures in run["windows"].items()
    }
    overall = RestorationOverall.from_dict({**run, "windows": windows})
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    return judge_restoration(overall, config)  # type: ignore[arg-type]  # all here restore


def gate_line(gate: Verdict) -> str:
    """Whether the gate was passed, and each figure that missed its limit."""
    return "passed" if gate.passed else f"**failed**: {gate.reasons}"


def trained_row(name: str, run: dict[str, Any]) -> str:
    training = run["training"]
    cells = [
        name.replace("_", " "),
        str(training["iterations"]),
        f"{training['parameters']:,}",
        f"{training['cpu_minutes']:.1f}",
        verdict(run),
        gate_line(gate_of(name, run)),
        processor_of(run),
    ]
    return "| " + " | ".join(cells) + " |"


def processor_of(run: dict[str, Any]) -> str:
    """Where a run was trained and measured, and how busy that machine was."""
    if "machine" not in run:
        return "not recorded"
    facts = run["machine"]
    name = ", ".join([facts["processor"], *facts["features"]])
    return f"{name}; {facts['cores']} cores, load {facts['load'][2]:g}"


def gallery(results: dict[str, Any]) -> list[str]:
    """The page: what each run was given, what classical answers, the network and the truth are."""
    lines = [
        "# What the restoring runs do",
        "",
        "Written by `make gallery`, which trains the configurations below on one core for a few",
        "minutes. All pictures shown are held back from training: photographs that scikit-image",
        "and scikit-learn bring along, and one patient's CT (TCIA Colorectal-Liver-Metastases,",
        "CC BY 4.0). Figures are means over all held-back pictures. Pictures and gates are of",
        "seed 0, also where the figures are means over three seeds, whose gates may differ.",
        "The [table](../benchmarks/results/restore.md) has the processor of each.",
    ]
    runs = results["runs"]
    for name, run in runs.items():
        answers = RestorationWindow.from_dict(first_window(run)).answers
        order = [INPUT, *(a for a in answers if a not in (INPUT, OUTPUT, BM3D)), OUTPUT, "target"]
        shown = ", ".join("network" if a == OUTPUT else a.replace("_", " ") for a in order)
        lines += [
            "",
            f"## {name.replace('_', ' ')}",
            "",
            f"`configs/{name}.yaml`. Gate {gate_line(gate_of(name, run))}. From the left: {shown}.",
        ]
        lines += ["", f"![{name}: {shown}](gallery/{name}.jpg)", "", *HEAD, *rows_of(name, run)]
    return lines
