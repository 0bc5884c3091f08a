"""Segmentation through all the stages, as its user runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
import yaml
from conftest import Ended

from pipeline.config.load import load_config, parse_config
from pipeline.config.run import RunConfig
from pipeline.config.segmentation import Segmentation
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.label_map import LabelMap
from pipeline.core.pseudonyms import installation_key
from pipeline.core.volume import Volume
from pipeline.data.label_patches import LabelPatches, cache_working, load_working
from pipeline.data.planning import planned
from pipeline.dicom.read.series import find_series
from pipeline.inference.segment import segment
from pipeline.ingest.ingest import ingest
from pipeline.labels.grid import LabelGrid
from pipeline.labels.seg import read_seg
from pipeline.models.adapters.base import build_model
from pipeline.store.labels import stored_labels
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train

CONFIGS = Path(__file__).parents[2] / "configs"
Ldct = Callable[..., Ended]
#: The body of invented patients, by a small network in two dimensions.
BODY = {
    "name": "segment_body",
    "task": "segment",
    "data": {"split": {"test": 0.3, "validation": 0.0}},
    "segmentation": {
        "labels": "body",
        "classes": {"body": ["body"]},
        # Its slices lie far apart.
        "spacing_mm": [100, 6, 6],
        "patch": [48, 48],
        "augment": {"elastic_voxels": 0},
    },
    "degradation": {
        "target": "pipeline.physics.lowdose.LowDoseCT",
        "args": {"dose_fraction": 0.1, "views": 120, "detectors": 128, "photons_per_ray": 1.5e5},
    },
    "model": {"target": "pipeline.models.fcn.FCN", "args": {"features": [8, 16]}},
    "step": {"target": "pipeline.training.steps.supervised.Supervised"},
    "loss": {"target": "pipeline.losses.segmentation.DiceCrossEntropy"},
    "train": {"iterations": 60, "batch": 4, "lr": 0.01, "log_every": 20, "channels_last": False},
    "windows": {"soft_tissue": [40, 400]},
    "register": {"name": "body", "gate": {"min_dice": 0.8}},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "body.yaml"
    path.write_text(yaml.safe_dump(BODY))
    return path


def test_the_whole_way(ldct: Ldct, config: Path, phantom_patients: Path, tmp_path: Path) -> None:
    """Learned, judged, registered, applied: the SEG opens on its source and holds the body."""
    out = tmp_path / "out"
    run = ("run", config, "--data", phantom_patients, "--out", out)
    ended = ldct(*run, "--denoiser", "redcnn@pretrained", "--json")
    assert ended.code == 0, ended.err
    report = ended.json
    overall = report["metrics"]["overall"]
    assert overall["classes"]["body"]["dice"] > 0.9
    assert report["gate"]["passed"]
    assert set(overall["doses"]) == {"full dose", "low dose", "low dose, denoised"}
    assert overall["doses"]["full dose"]["dice"] == overall["dice"]
    assert (out / "overview.png").stat().st_size > 1000
    page = (out / "report.html").read_text()
    assert "Dose and denoising" in page
    assert "label map" in page

    _is_the_body(out / report["exported"][0]["folder"], phantom_patients, tmp_path)
    again = tmp_path / "again"
    applied = ldct("apply", "body@champion", phantom_patients / "1", "--out", again, "--json")
    assert applied.code == 0, applied.err
    row = applied.json["exported"][0]
    assert row["structures"] == 1
    nifti = ldct(
        "apply", "body@champion", phantom_patients / "1", "--out", again / "n", "--labels", "nifti"
    )
    assert nifti.code == 0, nifti.err
    assert list((again / "n").rglob("*.nii*"))
    shown = ldct("models")
    assert "Dice" in shown.out
    measured = ldct("evaluate", "body", "--store", out / "store", "--json")
    assert measured.json["figures"]["overall"]["dice"] == pytest.approx(overall["dice"])
    refused = ldct("evaluate", "body", "--phantoms")
    assert refused.code == 2
    assert "segment" in refused.err


def test_a_model_of_another_task_is_refused_before_the_work(
    ldct: Ldct, config: Path, phantom_patients: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = ldct(
        "run", config, "--data", phantom_patients, "--out", out, "--compare", "redcnn@pretrained"
    )
    assert ended.code == 2
    assert "is for the task denoise, not segment" in ended.err
    assert not (out / "store").exists()


def _is_the_body(folder: Path, patients: Path, scratch: Path) -> None:
    """The segmentation names its source's images, and covers their body by threshold."""
    (file,) = folder.glob("*.dcm")
    named = {
        item.ReferencedSOPInstanceUID
        for item in pydicom.dcmread(file).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    series = next(
        s
        for s in find_series(patients).series
        if {i.header.SOPInstanceUID for i in s.instances} & named
    )
    found = read_seg(file, LabelGrid.of_series(series))
    store = Store(scratch / "check")
    key = ingest(series.instances[0].path.parent, store, key=installation_key()).series[0].series
    truth = stored_labels(store, key, "body").labels > 0
    common = 2 * (truth & (found.labels > 0)).sum() / (truth.sum() + (found.labels > 0).sum())
    assert common > 0.9


def test_a_run_without_labels_says_so(
    ldct: Ldct, config: Path, phantom_patients: Path, tmp_path: Path
) -> None:
    ended = ldct(
        *("run", config, "--data", phantom_patients, "--out", tmp_path / "out"),
        *("--set", "segmentation.labels=mask", "--set", "segmentation.classes={liver: [5]}"),
    )
    assert ended.code == 3
    assert "label" in ended.err


def test_a_class_without_a_code_is_refused_before_the_training(
    ldct: Ldct, config: Path, phantom_patients: Path, tmp_path: Path
) -> None:
    ended = ldct(
        *("run", config, "--data", phantom_patients, "--out", tmp_path / "out"),
        *("--set", "segmentation.classes={gizmo: [body]}"),
    )
    assert ended.code == 2
    assert "gizmo" in ended.err


def test_planning_fills_in_what_the_run_leaves_open(phantom_patients: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    ingest(phantom_patients, store, key=installation_key())
    raw = json.loads(json.dumps(BODY))
    section = raw["segmentation"]
    del section["spacing_mm"], section["patch"]
    section["plan"] = {"memory_gib": 1, "dimensions": 2}
    raw["model"] = {"target": "monai.networks.nets.DynUNet"}
    config = planned(store, list(store.records()), parse_config(raw))
    assert isinstance(config.segmentation, Segmentation)
    record = next(iter(store.records().values()))
    volume = store.load(next(iter(store.records())))
    assert config.segmentation.spacing_mm == pytest.approx(volume.spacing_mm, abs=1e-3)
    assert all(p <= n for p, n in zip(config.segmentation.patch, record.shape[1:], strict=True))
    low, high = config.segmentation.ranges_hu[0]
    assert -1000 <= low < 0 < high < 2000
    assert build_model(config).output_shape == (-1, 2, -1, -1)
    assert planned(store, list(store.records()), config) is config


def test_what_is_not_planned_yet_cannot_be_built() -> None:
    raw = json.loads(json.dumps(BODY))
    section = raw["segmentation"]
    del section["spacing_mm"], section["patch"]
    section["plan"] = {}
    with pytest.raises(ConfigError, match="planning"):
        build_model(parse_config(raw))


def slices_at(*heights_mm: float) -> Volume:
    """Empty slices on an even grid of 1.4 mm, lying where `heights_mm` says."""
    image_hu = np.zeros((6, 20, 20), np.float32)
    return Volume(
        image_hu,
        np.ones(image_hu.shape, bool),
        np.diag([1.0, 1.0, 1.4, 1.0]),
        np.array(heights_mm)[:, None] * [0.0, 0.0, 1.0],
    )


UNEVEN_MM = (0, 1, 2, 5, 6, 7)


def test_an_uneven_series_is_on_no_side_of_the_split(tmp_path: Path) -> None:
    """Or it is refused at evaluation, after all of the training."""
    store, config = Store(tmp_path), parse_config(BODY)
    store.add(slices_at(0, 1.4, 2.8, 4.2, 5.6, 7), key="even", patient="p-0")
    store.add(slices_at(*UNEVEN_MM), key="uneven", patient="p-1")
    task = task_of(config)
    assert task.usable(store, "even", config)
    assert not task.usable(store, "uneven", config)


def test_uneven_slices_are_refused() -> None:
    volume = slices_at(*UNEVEN_MM)
    config = parse_config(BODY)
    assert isinstance(config.segmentation, Segmentation)
    with pytest.raises(LdctError, match="uneven=resample"):
        segment(build_model(config), volume, config.segmentation)


SEGMENTERS = [
    path for path in sorted(CONFIGS.glob("*.yaml")) if load_config(path).task == "segment"
]


@pytest.mark.parametrize("path", SEGMENTERS, ids=lambda path: path.stem)
def test_the_configurations_that_come_with_the_software_learn(path: Path, tmp_path: Path) -> None:
    """Planned for a small patient, each takes a step that moves its weights."""
    config = load_config(path, ["train.iterations=1", "train.batch=1", "train.workers=0"])
    section = config.segmentation
    assert section is not None
    labels = np.zeros((24, 40, 40), np.uint8)
    names = {}
    for value, members in enumerate(section.classes.values(), start=1):
        number = members[0] if isinstance(members[0], int) else value
        names[number] = str(members[0])
        labels[4:20, 2 + 2 * value : 12 + 2 * value, 4:30] = number
    store = Store(tmp_path / "store")
    image_hu = np.where(labels > 0, 60.0, -900.0).astype(np.float32)
    origins = np.outer(np.arange(24), [0.0, 0.0, 3.0])
    small = Volume(image_hu, np.ones(labels.shape, bool), np.diag([3.0, 3, 3, 1]), origins)
    store.add(small, key="s-0", patient="p-0")
    labelmap = LabelMap(labels, names)
    store.add_labels("s-0", section.labels, labelmap)
    config = planned(store, ["s-0"], config)
    settings = config.grid
    cache_working(store, "s-0", labelmap, settings)
    volume = load_working(store, "s-0", labelmap, settings)
    before = build_weights(config)
    model = train(
        config,
        LabelPatches([volume], settings, seed=0, length=1),
        folder=tmp_path,
        log=lambda metrics, iteration: None,
        data_digest="0" * 64,
    )
    after = model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert model.output_shape[1] == len(section.classes) + 1


def build_weights(config: RunConfig) -> dict[str, torch.Tensor]:
    torch.manual_seed(config.train.seed)
    return {name: value.clone() for name, value in build_model(config).state_dict().items()}
