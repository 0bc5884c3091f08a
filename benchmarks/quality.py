"""Every figure of image quality that docs/quality.md quotes: `python benchmarks/quality.py`.

    python benchmarks/quality.py --data ../shared/data --model redcnn@pretrained
    python benchmarks/quality.py --data ../shared/data --train configs/denoise_redcnn.yaml

patients: each patient of data/ct is held back in turn; the classical baselines, BM3D among them,
are tuned on the others, so that each gets the favour that training gives to a network. --model
is measured as it is, and not on patients it was trained on; --train trains a network for each
patient held back. conventions: one slice in every published convention. phantoms and dose: what
`ldct evaluate --phantoms --dose-sweep` measures. Writes results/quality.json, quality.md and the
curves beside this file. What was measured of a patient is kept in --work, so that a run that was
cut goes on from there; BM3D, half a minute a slice, is quicker with --step 10.

BM3D comes from the `bm3d` package, whose licence is for non-commercial use: it is not among the
project's dependencies; install benchmarks/requirements.txt.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
from quality_tables import markdown

import flows  # noqa: F401  (sets Prefect and MLflow up before they are imported)
from flows.commands import train_flow
from flows.runtime.progress import StageProgress
from flows.tracking.references import load_named
from pipeline.config.load import load_config
from pipeline.config.names import digest
from pipeline.config.run import RunConfig
from pipeline.core.atomic_files import write_json
from pipeline.core.masks import body_mask
from pipeline.core.volume import Volume
from pipeline.degradations.cache import degrade_store
from pipeline.degradations.digest import degradation_digest
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.evaluation.aggregate import over_patients
from pipeline.evaluation.baselines import evaluate_baselines
from pipeline.evaluation.classical_denoisers import BASELINES, Baseline
from pipeline.evaluation.denoising import evaluate_store
from pipeline.evaluation.per_patient import PatientFigures
from pipeline.evaluation.phantoms import images_on_phantoms, measure_on_phantoms, sweep_doses
from pipeline.inference.denoise import apply_model
from pipeline.metrics.conventions import CONVENTIONS
from pipeline.quality.dose_sweep import Sweep
from pipeline.report.pages import evaluation_charts
from pipeline.store.store import Store

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
#: Bodies: a head, scanned by other rules and shown in another window, is another table.
PATIENTS = ("chest-ge-lidc0001", "abdomen-ge-crlm1004", "abdomen-ge-crlm1006", "torso-siemens")
#: Whose middle slice is shown in every convention.
SHOWN = "abdomen-ge-crlm1006"
PARTS = ("patients", "conventions", "phantoms", "dose")
DOSES = (0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Contender:
    """A network by its references in the registry: which one for which patient held back.

    A patient whom it was trained on is not among them. note: what is known of its training.
    """

    label: str
    references: dict[str, str]
    note: str
    strength: float | None = None

    def load(self, patient: str | None = None) -> tuple[Any, RunConfig]:
        """The model for a patient held back, or for phantoms the first one."""
        reference = self.references[patient or next(iter(self.references))]
        loaded = load_named(reference)
        model = loaded.model
        model.strength = self.strength or model.strength
        return model, loaded.config


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT / ".." / "shared" / "data")
    parser.add_argument("--work", type=Path, default=Path("out/quality"), help="kept between runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--model", action="append", default=[], metavar="NAME@ALIAS")
    parser.add_argument("--train", action="append", default=[], type=Path, metavar="CONFIG")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="of --train")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--step", type=int, default=1, help="take every so many slices")
    parser.add_argument("--regions", type=int, default=400, help="of the dose sweep, for each rod")
    parser.add_argument("--strength", type=float, help="of the networks, in place of their own")
    parser.add_argument("--no-baselines", action="store_true")
    parser.add_argument("--no-bm3d", action="store_true", help="of the baselines, the slow one")
    arguments = parser.parse_args()

    store = stored_patients(arguments.data / "ct", arguments.work, arguments.step)
    config = load_config(ROOT / "configs" / "denoise_redcnn.yaml", arguments.set)
    with StageProgress("degrade", unit="series") as stage:
        degrade_store(store, dict.fromkeys(PATIENTS, 1), config, stage.count)
    contenders = [given(reference, store) for reference in arguments.model]
    contenders += [trained(path, arguments.set, store) for path in arguments.train]
    if arguments.strength:
        contenders = [at_strength(contender, arguments.strength) for contender in contenders]
    classical = [] if arguments.no_baselines else list(BASELINES.values())
    classical += [] if arguments.no_baselines or arguments.no_bm3d else bm3d()

    measures: dict[str, Callable[[], Any]] = {
        "patients": lambda: patients(store, config, contenders, classical),
        "conventions": lambda: conventions(store, config, contenders),
        "phantoms": lambda: {c.label: phantoms(c) for c in contenders},
        "dose": lambda: {c.label: dose(c, arguments.regions) for c in contenders},
    }
    results: dict[str, Any] = {part: measures[part]() for part in PARTS if part in arguments.parts}
    results |= {
        "networks": {contender.label: contender.note for contender in contenders},
        "degradation": config.degradation.model_dump(),
        "slices": {name: store.record(name).shape[0] for name in PATIENTS},
        "machine": machine.facts("auto"),
    }
    write(results, arguments.results)


def stored_patients(data: Path, work: Path, step: int) -> Store:
    """Every `step`-th slice of each patient, under the name of the folder it came from."""
    store = Store(work / f"store-{step}")
    for name in PATIENTS:
        (series,) = find_series(data / name, intake=IngestOptions(unidentified="folder")).series
        volume = read_volume(series).volume
        part = Volume(
            volume.image_hu[::step],
            volume.valid[::step],
            volume.affine_lps,
            volume.slice_origins_mm[::step],
            volume.provenance,
        )
        store.add(part, key=name, patient=name)
    return store


def given(reference: str, store: Store) -> Contender:
    """A network as it is; whom it was trained on is known by its data digest."""
    card = load_named(reference).card
    seen = [
        held
        for count in range(1, len(PATIENTS) + 1)
        for held in itertools.combinations(PATIENTS, count)
        if store.data_digest(list(held)) == card.data_digest
    ]
    trained = f"trained on {', '.join(seen[0])}" if seen else "trained on none of these alone"
    fair = [name for name in PATIENTS if not seen or name not in seen[0]]
    return Contender(reference, dict.fromkeys(fair, reference), f"{card.uri}, {trained}")


def trained(path: Path, settings: list[str], store: Store) -> Contender:
    """A network for each patient held back, trained on the others; goes on where it was cut."""
    references = {}
    for name in PATIENTS:
        split = [f"data.split.test=[{name}]", "data.split.validation=0.0"]
        fold = load_config(path, [*split, *settings])
        references[name] = train_flow(fold, store.path)["model"]["uri"]
    label = load_config(path, settings).register_.name
    return Contender(label, references, f"{path.name}, trained again for each patient held back")


def at_strength(contender: Contender, strength: float) -> Contender:
    label = f"{contender.label} at strength {strength:g}"
    return replace(contender, label=label, strength=strength)


def patients(
    store: Store, config: RunConfig, contenders: list[Contender], classical: list[Baseline]
) -> dict[str, Any]:
    """By denoiser {"overall", "patients"}, and for baselines the strength for each patient."""
    summaries: dict[str, dict[str, Any]] = defaultdict(dict)
    tuning: dict[str, dict[str, Any]] = defaultdict(dict)
    for name in PATIENTS:
        for baseline in classical:
            figures = baseline_figures(baseline, store, config, name)
            summaries[baseline.name][name] = figures["patients"][name]
            tuning[baseline.name][name] = figures["tuning"]
        for contender in contenders:
            if name in contender.references:
                figures = network_figures(contender, store, config, name)
                summaries[contender.label][name] = figures["patients"][name]
    # A mean over other patients than its neighbour's would compare nothing.
    common = [name for name in PATIENTS if all(name in each for each in summaries.values())]
    return {
        label: {
            "overall": brief(mean_of({n: s for n, s in each.items() if n in (common or each)})),
            "over": common or list(each),
            "patients": {name: brief(summary) for name, summary in each.items()},
            "tuning": tuning[label],
        }
        for label, each in summaries.items()
    }


def mean_of(patients: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Over patients whose figures are as JSON has them."""
    typed = {name: PatientFigures.from_dict(figures) for name, figures in patients.items()}
    return over_patients(typed).to_dict()


def baseline_figures(
    baseline: Baseline, store: Store, config: RunConfig, name: str
) -> dict[str, Any]:
    def measure() -> dict[str, Any]:
        others = [other for other in PATIENTS if other != name]
        with StageProgress(f"{baseline.name}, {name}", unit="slices") as stage:
            found = evaluate_baselines(
                store,
                config,
                train=others,
                test=[name],
                baselines=[baseline],
                progress=stage.show,
            )
        return found[baseline.name].to_dict()

    settings = [baseline.name, baseline.strengths, config.degradation]
    return kept(store, f"{baseline.name}-{name}", settings, measure)


def network_figures(
    contender: Contender, store: Store, config: RunConfig, name: str
) -> dict[str, Any]:
    model, _ = contender.load(name)

    def measure() -> dict[str, Any]:
        total = store.record(name).shape[0]
        with StageProgress(f"{contender.label}, {name}", unit="slices", total=total) as stage:
            return evaluate_store(model, store, [name], config, stage.advance).to_dict()

    card = load_named(contender.references[name]).card
    settings = [card.weights_sha256, model.strength, config.degradation]
    return kept(store, f"{card.name}-{name}", settings, measure)


def kept(
    store: Store, label: str, settings: list[Any], measure: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What `measure` gives, from the last run where that measured the same."""
    path = store.path / "measured" / f"{label}-{digest(repr(settings))[:12]}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    figures = measure()
    write_json(path, figures)
    return figures


def bm3d() -> list[Baseline]:
    """BM3D as one more baseline, where it is installed."""
    try:
        from bm3d import bm3d as denoise
    except ImportError:
        print("BM3D is left out: pip install -r benchmarks/requirements.txt")
        return []

    def one(image_hu: Any, sigma_hu: float) -> Any:
        return denoise(np.asarray(image_hu, dtype=np.float64), sigma_hu)

    return [Baseline("bm3d", "sigma in HU", (112.0, 168.0, 252.0, 378.0), one)]


def conventions(
    store: Store, config: RunConfig, contenders: list[Contender]
) -> list[dict[str, Any]]:
    """One slice in every convention: undenoised, and by each network that may be shown it."""
    volume = store.load(SHOWN)
    index = len(volume.image_hu) // 2
    target_hu = np.array(volume.image_hu[index], dtype=np.float32)
    degraded = store.load_degraded(SHOWN, degradation_digest(config, 0))
    images = {"undenoised": np.array(degraded[index], dtype=np.float32)}
    for contender in contenders:
        if SHOWN in contender.references:
            model, _ = contender.load(SHOWN)
            images[contender.label] = apply_model(model, images["undenoised"][None])[0]
    body = body_mask(target_hu) & volume.valid[index]
    return [
        {
            "convention": name,
            "source": convention.source,
            "window": window_name,
            "centre_hu": window.centre,
            "width_hu": window.width,
            "slice": index,
            "figures": {
                label: convention.figures(image_hu, target_hu, body, window)
                for label, image_hu in images.items()
            },
        }
        for name, convention in CONVENTIONS.items()
        for window_name, window in (convention.windows or config.windows).items()
    ]


def phantoms(contender: Contender) -> dict[str, Any]:
    model, config = contender.load()
    with StageProgress(
        f"phantoms, {contender.label}", unit="images", total=images_on_phantoms(16)
    ) as stage:
        return measure_on_phantoms(model, config, slices=16, progress=stage.advance).to_dict()


def dose(contender: Contender, regions: int) -> dict[str, Any]:
    model, config = contender.load()
    sweep = Sweep(doses=DOSES, regions=regions)
    with StageProgress(
        f"dose sweep, {contender.label}", unit="images", total=sweep.images
    ) as stage:
        return sweep_doses(model, config, sweep, progress=stage.advance).to_dict()


def brief(summary: dict[str, Any]) -> dict[str, Any]:
    """Without the figures of every slice."""
    return {k: v for k, v in summary.items() if k not in ("per_slice", "worst_slices")}


def write(results: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quality.json").write_text(json.dumps(results, indent=2) + "\n")
    text = markdown(results)
    (folder / "quality.md").write_text(text)
    for label in results["networks"]:
        measured = {
            "dose_sweep": results.get("dose", {}).get(label),
            "phantoms": results.get("phantoms", {}).get(label),
        }
        for name, png in evaluation_charts(measured).items():
            safe = label.replace("/", "-").replace("@", "-").replace(":", "")
            (folder / f"quality-{safe}-{name}").write_bytes(png)
    print(text)


if __name__ == "__main__":
    main()
