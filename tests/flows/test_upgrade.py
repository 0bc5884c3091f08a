"""A site of the version before goes on: its registry, store, training, and its ways to start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from helpers.upgrade import FIXTURES, contents, recorded, take_checkpoint, take_old_draws, unpack
from PIL import Image

from flows.commands import train_flow
from pipeline.config.load import load_config
from pipeline.training.loop import Loop

VERSIONS = recorded("registry/expected.json")["versions"]
Ldct = Callable[..., Any]


@pytest.fixture
def site(tmp_path: Path, own_registry: None) -> Path:
    """The old site as the current folder, its registry the default one."""
    return unpack(tmp_path)


def test_every_version_is_listed_and_shown(ldct: Ldct, site: Path) -> None:
    listed = {
        f"{row['name']}/{row['version']}": row for row in ldct("models", "--json").json["models"]
    }
    assert listed.keys() == VERSIONS.keys()
    for name, row in listed.items():
        tags = VERSIONS[name]["tags"]
        assert row["aliases"] == VERSIONS[name]["aliases"]
        assert row["strength"] == float(tags["strength"])
        for tag in ("weights_sha256", "config_digest", "data_digest", "gate"):
            assert row[tag] == tags[tag]
    assert listed["redcnn/1"]["reader_study"] == "passed"
    for name in {name.partition("/")[0] for name in VERSIONS}:
        shown = ldct("models", "show", name, "--json")
        assert shown.code == 0, shown.err
        assert all(row["figures"] and row["gate"]["passed"] for row in shown.json["versions"])
        assert ldct("models", "show", name).code == 0


def test_the_denoiser_gives_the_same_images_under_its_own_uids(ldct: Ldct, site: Path) -> None:
    done = ldct("apply", "redcnn/1", "in-two", "--out", "again", "--json")
    assert done.code == 0, done.err
    old = sorted((site / "applied").rglob("*.dcm"))
    assert len(old) == 6
    for path in old:
        before = pydicom.dcmread(path)
        after = pydicom.dcmread(site / "again" / path.relative_to(site / "applied"))
        # They hang on the source's series and study now (docs/upgrading.md): no archive takes
        # one for the other.
        assert after.SOPInstanceUID != before.SOPInstanceUID
        assert after.SeriesInstanceUID != before.SeriesInstanceUID
        assert np.abs(after.pixel_array.astype(int) - before.pixel_array.astype(int)).max() <= 1


def test_the_champion_denoises_at_its_strength(ldct: Ldct, site: Path) -> None:
    done = ldct("apply", "redcnn", "in-two", "--out", "again", "--json")
    assert done.code == 0, done.err
    assert (done.json["model"], done.json["strength"]) == ("models:/redcnn/2", 0.5)


def test_the_segmenter_gives_the_same_labels(ldct: Ldct, site: Path) -> None:
    done = ldct("apply", "organs", "in-two", "--out", "again", "--labels", "nifti", "--json")
    assert done.code == 0, done.err
    for path in sorted((FIXTURES / "applied" / "organs").glob("*.nii.gz")):
        key = path.name.removesuffix(".nii.gz")
        (made,) = (site / "again").glob(f"{key}-*/*.nii.gz")
        before, after = nibabel.load(path), nibabel.load(made)
        np.testing.assert_array_equal(after.affine, before.affine)
        different = np.asarray(after.dataobj) != np.asarray(before.dataobj)
        assert different.mean() < 0.001  # a voxel between two classes, on another processor


def test_the_restorer_gives_the_same_pictures(ldct: Ldct, site: Path) -> None:
    done = ldct("apply", "sharpen@champion", "pictures", "--out", "again", "--json")
    assert done.code == 0, done.err
    _same_pictures(FIXTURES / "applied" / "sharpen", site / "again", count=4)


def test_the_generator_draws_the_same_images(ldct: Ldct, site: Path) -> None:
    done = ldct("latent", "sample", "digits", "--count", 6, "--seed", 1, "--out", "again")
    assert done.code == 0, done.err
    _same_pictures(FIXTURES / "applied" / "digits", site / "again", count=1)


def _same_pictures(before: Path, after: Path, *, count: int) -> None:
    paths = sorted(before.glob("*.png"))
    assert len(paths) == count
    for path in paths:
        old, new = (np.asarray(Image.open(p)).astype(int) for p in (path, after / path.name))
        assert np.abs(new - old).max() <= 1


@pytest.mark.parametrize(("model", "config"), [("redcnn/1", "denoiser"), ("organs/1", "segmenter")])
def test_figures_on_the_same_inputs_are_those_recorded(
    ldct: Ldct, site: Path, model: str, config: str
) -> None:
    take_old_draws(site / "store", load_config(site / "configs" / f"{config}.yaml"))
    done = ldct("evaluate", model, "--store", "store", "--json")
    assert done.code == 0, done.err
    (shown,) = [
        row
        for row in ldct("models", "show", model.partition("/")[0], "--json").json["versions"]
        if row["version"] == 1
    ]
    expected = _numbers(shown["figures"]["overall"])
    told = done.json.get("details") or done.json["figures"]
    found = _numbers(told["overall"])
    assert len(expected) > 5
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3, rel=1e-4)


def _numbers(figures: Any, path: str = "") -> dict[str, float]:
    """Every number of nested figures by its path."""
    if isinstance(figures, dict):
        parts = [_numbers(value, f"{path}/{key}") for key, value in figures.items()]
        return {name: number for part in parts for name, number in part.items()}
    return {path: figures} if isinstance(figures, int | float) else {}


def test_the_audit_is_read_and_a_promotion_taken_back(ldct: Ldct, site: Path) -> None:
    (act,) = ldct("models", "audit", "redcnn", "--json").json["acts"]
    assert (act["act"], act["version"], act["before"], act["reason"]) == (
        "promote", 2, 1, "for the fixture",
    )  # fmt: skip
    back = ldct("models", "rollback", "redcnn", "--reason", "an upgrade", "--json")
    assert (back.json["version"], back.json["before"]) == (1, 2)
    assert ldct("apply", "redcnn", "in-two", "--out", "again", "--json").json["model"] == (
        "models:/redcnn/1"
    )


def test_a_promotion_is_judged_and_can_be_forced(ldct: Ldct, site: Path) -> None:
    refused = ldct("models", "promote", "redcnn", 3)
    assert refused.code == 1
    assert "at least 2 patients, there are 1" in refused.err
    forced = ldct("models", "promote", "redcnn", 3, "--force", "--reason", "an upgrade", "--json")
    assert forced.code == 0, forced.err
    assert forced.json["before"] == 2
    acts = ldct("models", "audit", "redcnn", "--json").json["acts"]
    assert [act["act"] for act in acts] == ["promote", "refuse", "promote"]


def test_ingest_finds_nothing_new(ldct: Ldct, site: Path) -> None:
    before = contents(site / "store")
    report = ldct("ingest", "in-two", "--store", "store", "--json")
    assert report.code == 0, report.err
    assert [row["new"] for row in report.json["series"]] == [False, False]
    after = contents(site / "store")
    assert {name: after.get(name) for name in before} == before
    # From now on the files are known by their bytes.
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"ingested"}


@pytest.mark.usefixtures("prefect_server")
def test_the_scheduled_training_skips_what_is_known(site: Path) -> None:
    config = load_config(site / "configs" / "denoiser.yaml")
    assert train_flow(config, site / "store", unless_known=True) == {"known": "redcnn/3"}


def test_an_interrupted_training_goes_on_and_is_registered(
    ldct: Ldct, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = take_checkpoint("interrupted", site / "store")
    begun, resume = [], Loop.resume
    monkeypatch.setattr(Loop, "resume", lambda *given: begun.append(resume(*given)) or begun[-1])
    before = contents(site / "store" / "degraded")
    done = ldct("train", "configs/interrupted.yaml", "--store", "store", "--json")
    assert done.code == 0, done.err
    assert begun == [4]
    assert list((site / "store" / "training").glob("*.pt")) == [checkpoint]
    assert (done.json["model"]["name"], done.json["model"]["version"]) == ("interrupted", 1)
    assert done.json["data_digest"] == recorded("store/expected.json")["data_digest"]
    after = contents(site / "store" / "degraded")
    assert after.keys() > before.keys()
    assert {name: after[name] for name in before} == before  # its own draws lie beside the old


@pytest.mark.parametrize(
    "start",
    [["-m", "flows.cli"], ["-c", "from flows.cli import main; main()"]],
    ids=["module", "script-of-an-old-editable-install"],
)
def test_the_old_ways_to_start_it_work(start: list[str]) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, *start, "--help"], capture_output=True, text=True, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "DICOM series in" in done.stdout


def test_naming_the_command_line_costs_no_import() -> None:
    code = "import sys, flows.cli; print(any(m in sys.modules for m in ('typer', 'rich', 'numpy')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
