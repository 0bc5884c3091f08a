"""The tables of benchmarks/restore.py, and the gallery in docs/ that shows the same runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import machine

from pipeline.evaluation.restoration import INPUT, OUTPUT, RestorationWindow

RESULTS = Path(__file__).parent / "results"
GALLERY = Path(__file__).parents[1] / "docs" / "gallery.md"
HEAD = [
    "| task | | PSNR dB | SSIM | chroma error | flicker |",
    "|---|---|---|---|---|---|",
]


def write_tables(results: dict[str, Any]) -> None:
    """Write restore.json and restore.md of all runs, and the gallery."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "restore.json").write_text(json.dumps(results, indent=1) + "\n")
    lines = [machine.told(results["machine"]), "", *HEAD]
    for name, run in results["runs"].items():
        lines += rows_of(name, run)
    trained = [trained_row(name, run) for name, run in results["runs"].items()]
    lines += [
        "",
        "| task | iterations | parameters | CPU minutes | verdict |",
        "|---|---|---|---|---|",
    ]
    (RESULTS / "restore.md").write_text("\n".join([*lines, *trained]) + "\n")
    GALLERY.write_text("\n".join(gallery(results)) + "\n")


def first_window(run: dict[str, Any]) -> dict[str, Any]:
    return next(iter(run["windows"].values()))


def rows_of(name: str, run: dict[str, Any]) -> list[str]:
    """Input, references and output of a run in each window."""
    rows = []
    for window, figures in run["windows"].items():
        answers = dict(RestorationWindow.from_dict(figures).answers)
        task = name.replace("_", " ")
        if len(run["windows"]) > 1:
            task += f", {window.replace('_', ' ')} {figures['centre']:g}/{figures['width']:g}"
        for answer, found in sorted(answers.items(), key=lambda item: item[0] == OUTPUT):
            told = "**network**" if answer == OUTPUT else answer.replace("_", " ")
            more = [_told(found.get("chroma_error"), 1), _told(found.get("flicker"), 1)]
            cells = [task, told, _told(found["psnr"], 2), _told(found["ssim"], 3), *more]
            rows.append("| " + " | ".join(cells) + " |")
            task = ""
    return rows


def _told(figure: float | None, digits: int) -> str:
    return "" if figure is None else f"{figure:.{digits}f}"


def verdict(run: dict[str, Any]) -> str:
    """What the network wins and loses against the best of the others, window by window."""
    told = []
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
        told.append(where + ", ".join(ahead))
    return "; ".join(told)


def trained_row(name: str, run: dict[str, Any]) -> str:
    training = run["training"]
    cells = [
        name.replace("_", " "),
        str(training["iterations"]),
        f"{training['parameters']:,}",
        f"{training['cpu_minutes']:.1f}",
        verdict(run),
    ]
    return "| " + " | ".join(cells) + " |"


def gallery(results: dict[str, Any]) -> list[str]:
    """The page: what each run was given, what classical answers, the network and the truth are."""
    lines = [
        "# What the restoring runs do",
        "",
        "Written by `make gallery`, which trains every configuration below on one core for a few",
        "minutes. All pictures shown are held back from training: photographs that scikit-image",
        "and scikit-learn bring along, and one patient's CT (TCIA Colorectal-Liver-Metastases,",
        "CC BY 4.0). Figures are means over all held-back pictures.",
        "",
        f"Trained on {machine.told(results['machine'])}",
    ]
    runs = results["runs"]
    for name, run in runs.items():
        answers = RestorationWindow.from_dict(first_window(run)).answers
        order = [INPUT, *(a for a in answers if a not in (INPUT, OUTPUT, "bm3d")), OUTPUT, "target"]
        shown = ", ".join("network" if a == OUTPUT else a.replace("_", " ") for a in order)
        lines += [
            "",
            f"## {name.replace('_', ' ')}",
            "",
            f"`configs/{name}.yaml`. From the left: {shown}.",
        ]
        lines += ["", f"![{name}: {shown}](gallery/{name}.jpg)", "", *HEAD, *rows_of(name, run)]
    return lines
