"""What a style does to a picture of labels or edges: `python benchmarks/styles.py [NAME ...]`.

Takes the models that benchmarks/restore.py trained of configs/label_to_image_style.yaml and
edges_to_image.yaml, or trains them, and draws the held-back maps in the mean of all styles, in
drawn ones, in their own photograph's and in that of other photographs. Writes results/styles.json
and .md beside this file, and docs/gallery/NAME_styles.jpg.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np
import restore
import torch
from PIL import Image

from pipeline.config.load import load_config
from pipeline.config.task_runs import RestoreRun
from pipeline.core.malloc import keep_freed_memory
from pipeline.core.types import Picture
from pipeline.data.stored_pictures import StoredPictures
from pipeline.evaluation.texture_figures import TextureMeasure
from pipeline.inference.restore import restored
from pipeline.inference.style import picture_style
from pipeline.io.colour import lab_of, levels_of
from pipeline.models.adapters.restorer import Restorer
from pipeline.store.published_splits import TEST, TRAIN

ROOT, RESULTS = Path(__file__).parents[1], Path(__file__).parent / "results"
NAMES = ("label_to_image_style", "edges_to_image")
#: Styles that are drawn, by their numbers; photographs of the training side that lend theirs.
DRAWN, LENDERS = range(5), 8
MEAN, OWN = "the mean of all styles", "the photograph's own style"
#: Columns of the sheet that are drawn, and taken of photographs; its rows are this high.
SHOWN, HEIGHT = 3, 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES))
    parser.add_argument("--work", type=Path, default=Path("out/restore"))
    arguments = parser.parse_args()
    path = RESULTS / "styles.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    for name in arguments.names:
        runs[name] = measured(name, arguments.work / name)
        print("\n".join(table(name, runs[name])), flush=True)
    path.write_text(json.dumps({"runs": runs}, indent=1) + "\n")
    lines = [line for name, run in runs.items() for line in table(name, run)]
    (RESULTS / "styles.md").write_text("\n".join(lines[1:]) + "\n")


def measured(name: str, work: Path) -> dict[str, Any]:
    """Figures of one model; draws its sheet."""
    config = load_config(ROOT / "configs" / f"{name}.yaml")
    assert isinstance(config, RestoreRun)
    config, store, keys = restore.prepared(config, Path(), work)
    model, training = restore.trained(store, keys[TRAIN], config, work)
    assert isinstance(model, Restorer)
    tested = StoredPictures(store, keys[TEST], config.as_tested())
    lent = StoredPictures(store, keys[TRAIN][:: max(1, len(keys[TRAIN]) // LENDERS)], config)
    place = restore.GALLERY / f"{name}_styles.jpg"
    sheet(model.eval(), tested, lent).save(place, quality=88)
    return {
        "training": training,
        "pictures": len(tested),
        "lenders": len(lent),
        "frechet": frechet(model, tested, config.restoration.frechet_side or 32),
        "colour": colours(model, tested, lent),
        "machine": machine.facts("auto"),
    }


def drawn_in(model: Restorer, labels: Picture, style: torch.Tensor | None) -> Picture:
    """A label map [1, rows, columns] as grey levels [3, rows, columns]."""
    return levels_of(restored(model, labels, style=style), "rgb")


def frechet(model: Restorer, pictures: StoredPictures, side: int) -> dict[str, float]:
    """Distance of texture and colours to the held-back photographs, by the style they have."""
    measure = TextureMeasure(side)
    for number in range(len(pictures)):
        labels, target = pictures.model_input(number), pictures.target(number)
        styles = {MEAN: None, OWN: picture_style(model, target)}
        styles |= {f"drawn {seed}": model.drawn_style(seed) for seed in DRAWN}
        shown = {name: drawn_in(model, labels, style) for name, style in styles.items()}
        measure.add({"the input": np.repeat(labels, 3, axis=0), **shown}, target)
    found = measure.figures()
    return {**found.frechet, **found.controls}


def colours(model: Restorer, pictures: StoredPictures, lent: StoredPictures) -> dict[str, float]:
    """Distances of mean colours in (a*, b*) of what is drawn, over all maps and lenders.

    lender: to the photograph that lent its style; unstyled: of the picture in the mean style to
    that photograph; nearer: the share of pairs in which the first is smaller; between: two drawn
    styles.
    """
    rows, between = [], []
    for number in range(len(pictures)):
        labels = pictures.model_input(number)
        plain = mean_colour(drawn_in(model, labels, None))
        for other in range(len(lent)):
            levels = lent[other]
            own = mean_colour(drawn_in(model, labels, picture_style(model, levels)))
            wanted = mean_colour(levels)
            rows.append([np.hypot(*(own - wanted)), np.hypot(*(plain - wanted))])
        drawn = [mean_colour(drawn_in(model, labels, model.drawn_style(seed))) for seed in DRAWN]
        between += [np.hypot(*(a - b)) for n, a in enumerate(drawn) for b in drawn[:n]]
    found = np.array(rows)
    return {
        "lender": float(found[:, 0].mean()),
        "unstyled": float(found[:, 1].mean()),
        "nearer": float((found[:, 0] < found[:, 1]).mean()),
        "between": float(np.mean(between)),
    }


def mean_colour(levels: Picture) -> np.ndarray:
    """(a*, b*) of grey levels [3, rows, columns]."""
    return lab_of(levels)[1:].mean(axis=(1, 2))


def table(name: str, run: dict[str, Any]) -> list[str]:
    """The lines of one model in styles.md."""
    training, colour = run["training"], run["colour"]
    lines = [
        "",
        machine.described(run["machine"]),
        "",
        f"configs/{name}.yaml: {training['iterations']} iterations, {training['parameters']:,} "
        f"parameters, {training['cpu_minutes']:.1f} CPU minutes, one seed; {run['pictures']} "
        "held-back photographs.",
        "",
        "| drawn in | Frechet distance of texture and colours |",
        "|---|---|",
    ]
    lines += [f"| {name} | {distance:.3f} |" for name, distance in run["frechet"].items()]
    return [
        *lines,
        "",
        f"Mean colour, distance in (a*, b*) to each of {run['lenders']} photographs whose "
        f"style is taken: {colour['lender']:.1f}, without it {colour['unstyled']:.1f}; nearer "
        f"with it in {colour['nearer']:.0%} of the pairs. Between two drawn styles of one map: "
        f"{colour['between']:.1f}.",
    ]


def sheet(model: Restorer, pictures: StoredPictures, lent: StoredPictures) -> Image.Image:
    """A row for each label map, below a row of the photographs that lend their styles."""
    numbers = np.linspace(0, len(lent) - 1, SHOWN).round().astype(int)
    lenders = [lent[int(number)] for number in numbers]
    styles = [None, *(model.drawn_style(seed) for seed in DRAWN[:SHOWN])]
    styles += [picture_style(model, levels) for levels in lenders]
    blank: list[Picture | None] = [None] * (1 + len(styles) - SHOWN)
    rows: list[Sequence[Picture | None]] = [[*blank, *lenders]]
    for number in range(len(pictures)):
        labels = pictures.model_input(number)
        shown = [drawn_in(model, labels, style) for style in styles]
        rows.append([np.repeat(labels, 3, axis=0), *shown])
    return restore.as_one({str(n): in_a_row(row) for n, row in enumerate(rows)})


def in_a_row(row: Sequence[Picture | None]) -> np.ndarray:
    """Pictures of one height beside each other, white where there is none, [rows, columns, 3]."""
    cells = []
    for levels in row:
        cell = Image.new("RGB", (HEIGHT, HEIGHT), "white")
        if levels is not None:
            pixels = np.moveaxis(levels.clip(0, 255), 0, -1).round().astype(np.uint8)
            shown = Image.fromarray(np.ascontiguousarray(pixels))
            shown.thumbnail((HEIGHT, HEIGHT))
            cell.paste(shown, (0, 0))
        cells.append(np.pad(np.asarray(cell), ((0, 0), (0, 4), (0, 0)), constant_values=255))
    return np.concatenate(cells, axis=1)


if __name__ == "__main__":
    keep_freed_memory()
    main()
