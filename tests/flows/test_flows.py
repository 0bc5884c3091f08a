"""The main job, its registry and its failures, as a user meets them."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pydicom
import pytest
import torch
import yaml
from conftest import Ended
from helpers.figures_again import bias_hu, psnr_db, source_of, volume_hu
from helpers.flows import identity_config, register
from helpers.reports import assert_as_documented

from flows.cli import endings
from flows.tracking.registry import CHALLENGER, CHAMPION, Registry
from pipeline.config.load import parse_config
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.inference.denoise import apply_model

TINY = [
    "train.iterations=6",
    "train.log_every=2",
    "data.realisations=1",
    "data.patch=[32, 32]",
    "model.args.channels=4",
    "degradation.args.views=120",
    "degradation.args.detectors=128",
]
SETTINGS = [part for setting in TINY for part in ("--set", setting)]
CONFIG = str(Path(__file__).parents[2] / "configs" / "demo.yaml")


pytestmark = pytest.mark.usefixtures("own_registry")


@pytest.fixture
def identity_model(tmp_path: Path) -> str:
    """A registered identity network in the shell every model lives in."""
    return register(identity_config()).uri


def some_slices(source: Path, folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    files = sorted(source.glob("*.dcm"))[:count]
    return [Path(shutil.copy(file, folder / file.name)) for file in files]


def test_main_job_goes_the_whole_way(
    ldct: Callable[..., Ended], phantom_patients: Path, tmp_path: Path, require_program
) -> None:
    out = tmp_path / "out"
    settings = [*SETTINGS, "--set", "data.split.validation=0.3"]
    ended = ldct("run", CONFIG, "--data", phantom_patients, "--out", out, "--json", *settings)
    assert ended.code == endings.GATE_FAILED, ended.err  # so short a training passes no gate
    report = ended.json
    assert report == json.loads((out / "report.json").read_text())
    assert_as_documented(report)

    precision, client = report["precision"], Registry.default().client
    assert precision["why"].startswith("measured")
    assert (precision["used"] == "bf16") is (precision["bf16_s"] < 0.9 * precision["fp32_s"])
    experiment = client.get_experiment_by_name(report["name"])
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags["precision"] == precision["used"]
    assert_ranked_by(run, report, client)

    sides = set(report["split"].values())
    assert {"train", "test"} <= sides
    held_back = {row["series"] for row in report["series"] if row["side"] == "test"}
    assert held_back == {row["series"] for row in report["exported"]}

    window = report["metrics"]["overall"]["windows"]["soft_tissue"]
    assert 5 < window["input"]["psnr"] < 60
    assert window["input"] != window["output"]

    folder = out / report["exported"][0]["folder"]
    assert_exported_as_the_registered_model_says(report, folder, phantom_patients)
    findings = dciodvfy(require_program("dciodvfy"), next(folder.glob("*.dcm")))
    assert not [line for line in findings if line.startswith("Error")], findings

    names = {run.name for run in asyncio.run(task_runs())}
    (key,) = held_back
    assert names >= {
        "ingest for demo",
        "split 3 patients",
        "degrade for demo",
        "train demo on 1 series",
        "evaluate demo on 1 series",
        f"register {report['model']['name']}",
        f"load {report['model']['uri']}",
        f"apply {report['model']['name']}-v1-gate-failed to {key}",
        "report of demo",
    }
    assert "demo on 3 series" in {run.name for run in asyncio.run(flow_runs())}
    logged = "\n".join(asyncio.run(logs()))
    assert 'split: {"patients": {' in logged
    assert 'register: {"model": "models:/' in logged
    assert '"stage": "degrade", "outcome": "done"' in logged
    assert_marked_as_failed(report, ended, folder)
    assert_figures_are_those_of_the_files(report, out, phantom_patients)
    for_the_pacs = [folder.parent, out / "low-dose"]
    assert_no_identity(phantom_patients, [out, tmp_path / "mlruns"], ended, except_in=for_the_pacs)


def assert_ranked_by(run: Any, report: dict, client: Any) -> None:
    overall, metrics = report["metrics"]["overall"], run.data.metrics
    window = overall["windows"]["soft_tissue"]
    assert metrics["test.soft_tissue.input.psnr"] == pytest.approx(window["input"]["psnr"])
    for figure in ("psnr", "ssim", "rmse_hu"):
        name = f"test.soft_tissue.output.{figure}"
        assert metrics[name] == pytest.approx(window["output"][figure])
    for tissue, bias in overall["hu_bias"]["output"].items():
        assert metrics.get(f"test.bias_hu.{tissue}") == pytest.approx(bias)
    data = {each.dataset.name: each for each in run.inputs.dataset_inputs}
    split = report["split"]
    for side, found in data.items():
        counts = json.loads(found.dataset.profile)
        assert counts["patients"] == list(split.values()).count(side.removeprefix("ct."))
    assert data["ct.train"].dataset.digest == report["data_digest"][:36]
    assert data.keys() == {"ct.train", "ct.validation", "ct.test"}
    seen = client.get_metric_history(run.info.run_id, "validation.psnr")
    assert [point.step for point in seen] == [1, 2, 3, 4, 5, 6]
    assert all(5 < point.value < 80 for point in seen)
    tags = {"task": "denoise", "anatomy": "chest", "dose": "0.25", "version": "1"}
    assert tags.items() <= run.data.tags.items()
    assert re.fullmatch(rf"20\d\d-\d\d-\d\d \d\d:\d\d {report['name']}", run.info.run_name)
    files = {each.path for each in client.list_artifacts(run.info.run_id)}
    shown = {"report.html", "overview.png", "model-card.md", "environment.txt", "config.yaml"}
    assert shown <= files


def assert_marked_as_failed(report: dict, ended: Ended, folder: Path) -> None:
    """The terminal's last line, the report, the folder and every header say the same."""
    last = ended.err.strip().splitlines()[-1]
    failed = [check for check in report["gate"]["checks"] if not check["passed"]]
    assert failed
    for check in failed:
        assert f"{check['check']}: {check['figure']:.2f}, {check['limit']}" in last
    assert last.startswith("ldct: gate failed: ")
    (row,) = report["exported"]
    assert row["gate"] == "failed"
    assert any("did not pass its gate" in warning for warning in row["warnings"])
    assert folder.name.endswith("-gate-failed")
    header = pydicom.dcmread(next(folder.glob("*.dcm")))
    assert "GATE FAILED" in header.SeriesDescription
    assert f"did not pass its gate ({failed[0]['check']}" in header.DerivationDescription


def assert_figures_are_those_of_the_files(report: dict, out: Path, source: Path) -> None:
    """PSNR and bias of input and output, as pydicom reads them; stored values are whole HU."""
    (row,) = report["low_dose"]
    patient = report["metrics"]["patients"][report["exported"][0]["patient"]]
    assert patient["slices"] == len(list((out / row["input"]["folder"]).glob("*.dcm")))
    first = pydicom.dcmread(next((out / row["input"]["folder"]).glob("*.dcm")))
    assert first.SeriesDescription.startswith("SIMULATED 25% DOSE")
    target_hu = volume_hu(source_of(out / row["input"]["folder"], source))
    for kind in ("input", "output"):
        image_hu = volume_hu(out / row[kind]["folder"])
        for window in patient["windows"].values():
            again = psnr_db(image_hu, target_hu, window["centre_hu"], window["width_hu"])
            assert again == pytest.approx(window[kind]["psnr"], abs=0.02)
        for tissue, reported in patient["hu_bias"][kind].items():
            if reported is not None:
                assert bias_hu(image_hu, target_hu, tissue) == pytest.approx(reported, abs=0.1)
    output = pydicom.dcmread(next((out / row["output"]["folder"]).glob("*.dcm")))
    assert output.SeriesDescription.startswith("SIMULATED 25% DOSE AI DENOISED redcnn-demo v1")
    assert report["model"]["weights_sha256"] in output.DerivationDescription


def assert_exported_as_the_registered_model_says(report: dict, folder: Path, source: Path) -> None:
    model = Registry.default().load(report["model"]["uri"]).model
    derived = find_series(folder).series[0]
    origin = {i.header.SOPInstanceUID: i for s in find_series(source).series for i in s.instances}
    first = pydicom.dcmread(derived.instances[0].path)
    reference = first.SourceImageSequence[0].ReferencedSOPInstanceUID
    original = pydicom.dcmread(origin[reference].path)
    source_series = next(
        s
        for s in find_series(source).series
        if s.header.SeriesInstanceUID == original.SeriesInstanceUID
    )
    source_volume = read_volume(source_series).volume
    with torch.inference_mode():
        plainly = model(torch.from_numpy(source_volume.image_hu)[:, None])[:, 0].numpy()
    # In another batch float32's last bit may differ, and a value just at a half then rounds the
    # other way: to half a step the export is what inference gives, and that is the model's.
    expected = apply_model(model, source_volume.image_hu)
    np.testing.assert_allclose(expected, plainly, rtol=0, atol=1e-3)
    found = read_volume(derived).volume
    inside = source_volume.valid
    assert np.abs(found.image_hu - expected)[inside].max() <= 0.5
    assert list(first.ImageType[:2]) == ["DERIVED", "SECONDARY"]


async def all_runs() -> list:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return [*await client.read_task_runs(limit=200), *await client.read_flow_runs(limit=200)]


async def task_runs() -> list:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return await client.read_task_runs(limit=200)


async def flow_runs() -> list:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return await client.read_flow_runs(limit=200)


async def logs() -> list[str]:
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        return [each.message for each in await client.read_logs(limit=200)]


def dciodvfy(program: str, file: Path) -> list[str]:
    done = subprocess.run([program, str(file)], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()


def assert_no_identity(
    source: Path, folders: list[Path], ended: Ended, *, except_in: list[Path]
) -> None:
    """No name, ID, birth date or UID of the source anywhere but in the series for the PACS."""
    words = set()
    for file in source.rglob("*.dcm"):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            words.add(str(header.get(name)).encode())
        words.add(str(header.PatientName).encode())
    kept = [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not {*except_in} & {*path.parents}
    ]
    assert kept
    for path in kept:
        found = [word for word in words if word in path.read_bytes() or word.decode() in path.name]
        assert not found, f"{path} holds {found[0]!r}"
    assert not [word for word in words if word.decode() in ended.out + ended.err]


def test_a_run_with_the_same_out_goes_on_from_its_checkpoint(
    ldct: Callable[..., Ended], phantom_patients: Path, tmp_path: Path
) -> None:
    arguments = ("run", CONFIG, "--data", phantom_patients, "--out", tmp_path / "out", "--json")
    first = ldct(*arguments, *SETTINGS).json
    held = ldct(*arguments, *SETTINGS, "--hold-on-failed-gate")
    assert held.code == endings.GATE_FAILED
    again = held.json
    # The same weights are no second version.
    assert again["model"]["version"] == first["model"]["version"]
    assert again["model"]["weights_sha256"] == first["model"]["weights_sha256"]
    assert again["metrics"] == first["metrics"]
    assert not [row for row in again["series"] if row["new"]]
    assert [row["series"] for row in again["held"]] == [row["series"] for row in first["exported"]]
    assert "`ldct apply redcnn-demo/1` exports it" in again["held"][0]["reason"]
    assert (again["exported"], "low_dose" in again) == ([], False)


def test_stages_by_their_own_commands(
    ldct: Callable[..., Ended], phantom_patients: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    assert len(ldct("ingest", phantom_patients, "--store", store, "--json").json["series"]) == 3
    trained = ldct("train", CONFIG, "--store", store, "--json", *SETTINGS)
    assert trained.code == endings.GATE_FAILED, trained.err
    name = trained.json["model"]["name"]

    figures = ldct("evaluate", f"{name}/1", "--store", store, "--json").json
    again = figures["soft_tissue"]["output"]
    at_first = trained.json["metrics"]["overall"]["windows"]["soft_tissue"]["output"]
    assert again == pytest.approx(at_first, rel=1e-4)

    low = tmp_path / "low"
    simulated = ldct("simulate", phantom_patients / "1", "--dose", 0.25, "--out", low, "--json")
    pair = ldct(
        "evaluate", f"{name}/1", "--input", low / simulated.json["exported"][0]["folder"],
        "--target", phantom_patients / "1", "--json",
    ).json  # fmt: skip
    assert set(pair["soft_tissue"]) >= {"input", "output", "hu_bias"}
    assert set(pair["soft_tissue"]["input"]) == {"psnr", "ssim", "rmse_hu"}

    beside = ldct(
        "evaluate", f"{name}/1", "--store", store, "--convention", "redcnn", "--baselines",
        "--out", tmp_path / "evaluation",
    )  # fmt: skip
    assert beside.code == 0, beside.err
    for said in ("convention redcnn", "abdomen (40/400)", "whole slice, clipped to [-160, 240] HU"):
        assert said in " ".join(beside.out.split())
    told = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert told["figures"]["overall"]["convention"] == "redcnn"
    assert set(told["baselines"]) == {"gaussian", "bilateral", "non_local_means", "total_variation"}
    assert "non local means" in (tmp_path / "evaluation" / "evaluation.html").read_text()

    listed = ldct("models", "--json").json["models"]
    assert [(row["name"], row["version"]) for row in listed] == [(name, 1)]
    shown = ldct("models", "show", name, "--json").json["versions"][0]
    assert shown["data_digest"] == trained.json["data_digest"]
    assert shown["config"]["train"]["iterations"] == 6


def test_an_identity_model_is_worth_full_dose_on_phantoms(
    ldct: Callable[..., Ended], identity_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "evaluation"
    arguments = ("evaluate", identity_model, "--dose-sweep", "0.5", "--phantoms", "--out", out)
    ended = ldct(*arguments, "--photons", 2e5, "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert found == json.loads((out / "evaluation.json").read_text())
    assert found["dose_sweep"]["doses"] == [0.5, 1.0]
    assert found["dose_sweep"]["photons_per_ray_at_full_dose"] == 2e5
    assert found["dose_sweep"]["equivalent_dose_all_rods"]["answer"] == "1.00"
    noise_hu = [
        found["phantoms"][arm]["noise_power"]["noise_hu"] for arm in ("undenoised", "denoised")
    ]
    assert noise_hu[1] == pytest.approx(noise_hu[0], rel=1e-4)
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json", "evaluation.html", "dose-curve.png", "noise-power.png", "transfer.png",
    }  # fmt: skip
    table = ldct("evaluate", identity_model, "--dose-sweep", "0.5").out
    assert "all rods" in table
    assert "'none': not even denoised full dose does" in " ".join(table.split())


def test_photons_are_measured_or_given_and_the_derived_series_says_which(
    ldct: Callable[..., Ended], test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "abdomen-ge-crlm1004", tmp_path / "in", 2)
    photons = {}
    for choice in ("auto", "2e5"):
        out = tmp_path / choice
        ended = ldct(
            "simulate", tmp_path / "in", "--dose", 0.5, "--photons", choice, "--out", out, "--json"
        )
        assert ended.code == 0, ended.err
        row = ended.json["exported"][0]
        assert row["calibration"]["measured"] == (choice == "auto")
        photons[choice] = row["calibration"]["photons_per_ray"]
        header = pydicom.dcmread(next((out / row["folder"]).glob("*.dcm")))
        said = "own noise" if choice == "auto" else "200000 photons per ray at full dose"
        assert said in header.DerivationDescription
        assert said in ended.json["noise"]
    assert photons["2e5"] == 2e5
    assert 1e5 < photons["auto"] < 2e6


def test_a_series_that_cannot_be_calibrated_does_not_stop_the_others(
    ldct: Callable[..., Ended], test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "abdomen-ge-crlm1006", tmp_path / "in" / "real", 1)
    # Water alone, without the noise that could be measured.
    for file in some_slices(test_data / "ct" / "abdomen-ge-crlm1004", tmp_path / "in" / "flat", 1):
        header = pydicom.dcmread(file)
        rows, columns = np.indices((header.Rows, header.Columns)) - header.Rows / 2
        pixels = np.where(np.hypot(rows, columns) < 150, 1024, 24)
        header.PixelData = pixels.astype("<i2").tobytes()
        header.save_as(file)
    out = tmp_path / "out"
    ended = ldct(
        "simulate", tmp_path / "in", "--dose", 0.5, "--photons", "auto", "--out", out, "--json"
    )
    assert ended.code == endings.PARTIAL
    assert_as_documented(ended.json)
    (failed,) = ended.json["failed"]
    assert "(--photons)" in failed["reason"]
    (file,) = ended.json["quarantined"]
    assert file["file"].startswith("flat/")
    assert file["reason"] == failed["reason"]
    assert len(list(out.glob("*/*.dcm"))) == 1
    alone = ldct("simulate", tmp_path / "in" / "flat", "--dose", 0.5, "--photons", "auto",
                 "--out", tmp_path / "alone")  # fmt: skip
    assert alone.code == 1
    assert "1 series not exported" in alone.err


def test_identity_model_leaves_a_real_series_unchanged(
    ldct: Callable[..., Ended], identity_model: str, test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "chest-ge-lidc0001", tmp_path / "in", 4)
    ended = ldct("apply", identity_model, tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    assert_as_documented(ended.json)
    row = ended.json["exported"][0]
    assert row["clipped_pixels"] == 0
    before = read_volume(find_series(tmp_path / "in").series[0]).volume
    after = read_volume(find_series(tmp_path / "out" / row["folder"]).series[0]).volume
    assert np.abs(after.image_hu - before.image_hu).max() <= 0.5
    np.testing.assert_array_equal(after.valid, before.valid)
    np.testing.assert_array_equal(after.affine_lps, before.affine_lps)


def test_a_version_that_did_not_pass_its_gate_is_marked_or_held(
    ldct: Callable[..., Ended], test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "chest-ge-lidc0001", tmp_path / "in", 2)
    (tmp_path / "in" / "broken.dcm").write_bytes(b"no DICOM")
    uri = register(identity_config(), passed=False).uri
    apply = ("apply", uri, tmp_path / "in", "--out", tmp_path / "out")
    held = ldct(*apply, "--hold-on-failed-gate", "--json")
    assert (held.code, held.json["error"]["code"]) == (5, 5)
    assert "gain: 10.00, >= 1.0" in held.err
    assert not list((tmp_path / "out").rglob("*.dcm"))
    marked = ldct(*apply)
    assert marked.code == 5, "before 4, a file in quarantine"
    assert marked.err.strip().splitlines()[-1] == "ldct: gate failed: gain: 10.00, >= 1.0"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [row["gate"] for row in report["exported"]] == ["failed"]
    assert [row["file"] for row in report["quarantined"]] == ["broken.dcm"]
    folder = tmp_path / "out" / report["exported"][0]["folder"]
    assert ldct("check", folder, "--source", tmp_path / "in").code == 0


def test_a_strength_is_told_wherever_the_result_goes(
    ldct: Callable[..., Ended], identity_model: str, test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "chest-ge-lidc0001", tmp_path / "in", 3)
    arguments = ("apply", identity_model, tmp_path / "in", "--out", tmp_path / "out", "--json")
    refused = ldct(*arguments, "--strength", 1.5)
    assert refused.code == 2
    assert "--strength: strength: Input should be less than or equal to 1" in refused.err
    ended = ldct(*arguments, "--strength", 0.5)
    assert ended.code == 0, ended.err
    assert ended.json["strength"] == 0.5
    folder = tmp_path / "out" / ended.json["exported"][0]["folder"]
    assert folder.name.endswith("-strength0.5")
    derived = pydicom.dcmread(next(folder.glob("*.dcm")))
    assert "STRENGTH 0.5" in derived.SeriesDescription
    assert ldct(*arguments).json["exported"][0]["folder"] != folder.name, "beside it, not over it"


@pytest.mark.parametrize(
    ("arguments", "strength"), [({}, 1.0), ({"kernel": 3, "padding": True}, 0.5)]
)
def test_mlflow_s_own_loader_gives_the_same_for_any_size_without_pickle(
    arguments: dict, strength: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = identity_config().resolved() | {"strength": strength}
    raw["model"] = {
        "target": "pipeline.models.redcnn.REDCNN",
        "args": {"channels": 4, **arguments},
    }
    config = parse_config(raw)
    card = register(config)
    found = Registry.default().load(card.uri)
    mine, loaded = found.model, found.card
    assert (mine.strength, loaded.strength) == (strength, strength)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    by_mlflow = mlflow.pyfunc.load_model(card.uri)
    for shape in ((1, 1, 64, 64), (5, 1, 100, 75), (2, 1, 41, 512)):
        image_hu = torch.randn(shape) * 300
        with torch.inference_mode():
            expected = mine(image_hu).numpy()
        found = by_mlflow.predict(image_hu.numpy())
        np.testing.assert_allclose(found, expected, atol=0.01, rtol=0)
    with pytest.raises(ValueError, match=r"expected an array of shape \(-1, 1, -1, -1\)"):
        by_mlflow.predict(np.zeros((64, 64), np.float32))


def test_only_versions_that_pass_their_gate_get_an_alias() -> None:
    config = identity_config()
    for passed in (False, True, True):
        register(config, passed=passed)
    registry = Registry.default()
    assert int(registry.find("identity").version) == 2
    assert int(registry.find(f"identity@{CHAMPION}").version) == 2
    assert int(registry.find(f"identity@{CHALLENGER}").version) == 3
    assert registry.find("models:/identity/1").aliases == []


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    card = register(identity_config())
    weights = next((tmp_path / "mlruns").rglob("weights.safetensors"))
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(Exception, match="changed or damaged"):
        Registry.default().load(card.uri)


@pytest.mark.parametrize(
    "altered", [{"normalize_hu": {"centre": 0.0, "scale": 900.0}}, {"strength": 0.5}]
)
def test_a_changed_configuration_is_refused(tmp_path: Path, altered: dict[str, Any]) -> None:
    """Another normalisation shifts HU as surely as other weights."""
    card = register(identity_config())
    config = next(
        path for path in (tmp_path / "mlruns").rglob("config.yaml") if path.parent.name == "ldct"
    )
    raw = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(raw | altered))
    with pytest.raises(Exception, match=r"config\.yaml .* changed or damaged"):
        Registry.default().load(card.uri)
    config.write_text(yaml.safe_dump(raw))
    assert Registry.default().load(card.uri).card == card


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", CONFIG, "--data", "empty", "--out", "out"], 3, "empty"),
        (["run", CONFIG, "--data", "texts", "--out", "out"], 3, "not a DICOM file"),
        (["run", CONFIG, "--data", "nowhere", "--out", "out"], 3, "does not exist"),
        (["run", CONFIG, "--data", "empty", "--out", "o", "--set", "train.lrr=1"], 2, "'lr'"),
        (["run", "nowhere.yaml", "--data", "empty", "--out", "out"], 2, "nowhere.yaml"),
        (["run", CONFIG, "--data", "empty", "--out", "texts/a.txt/out"], 2, "cannot write"),
        (["apply", "nobody", "texts", "--out", "out"], 2, "there is no model nobody"),
        (["apply", "identity/7", "texts", "--out", "out"], 2, "identity/7"),
        (["train", CONFIG, "--store", "empty"], 3, "not a store"),
        (["models", "show", "nobody"], 2, "there is no model nobody"),
        (["simulate", "texts", "--dose", "1.5", "--out", "out"], 2, "dose_fraction"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_bad_input_ends_with_one_line_and_its_code(
    ldct: Callable[..., Ended],
    identity_model: str,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    ended = ldct(*arguments)
    assert ended.code == code, ended.err
    assert says in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["simulate", "in", "--dose", "1", "--photons", "x", "--out", "out"], "--photons x"),
        (["evaluate", "nobody", "--store", "s", "--convention", "best"], "eulig2024"),
        (["evaluate", "nobody"], "nothing to evaluate on"),
        (["evaluate", "nobody", "--phantoms", "--baselines"], "--baselines needs"),
        (["evaluate", "nobody", "--input", "low"], "--target"),
        (["evaluate", "nobody", "--dose-sweep", "0.5;1"], "0.1,0.25,0.5,1"),
        (["evaluate", "nobody", "--dose-sweep", "2"], "(0, 1]"),
        (["evaluate", "nobody", "--phantoms", "--photons", "-1"], "positive"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    ldct: Callable[..., Ended], arguments: list[str], says: str
) -> None:
    ended = ldct(*arguments)
    assert ended.code == 2, ended.err
    assert says in ended.err
    assert ended.out == ""


def test_prefect_never_hears_of_a_path(ldct: Callable[..., Ended], tmp_path: Path) -> None:
    source = tmp_path / "Doe^Jane"
    source.mkdir()
    ended = ldct("run", CONFIG, "--data", source, "--out", tmp_path / "out")
    assert "Doe^Jane is empty" in ended.err
    runs = asyncio.run(all_runs())
    failed = [run for run in runs if run.state.is_failed()]
    assert {"ingest for demo", "ldct-run"} <= {run.name for run in failed}
    assert "Doe" not in "".join(run.model_dump_json() for run in runs)


def test_truncated_file_is_quarantined_and_the_rest_goes_on(
    ldct: Callable[..., Ended], identity_model: str, test_data: Path, tmp_path: Path
) -> None:
    files = some_slices(test_data / "ct" / "abdomen-ge-crlm1004", tmp_path / "in", 5)
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2])
    ended = ldct("apply", identity_model, tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert ended.code == endings.PARTIAL
    assert [row["file"] for row in ended.json["quarantined"]] == [files[2].name]
    folder = tmp_path / "out" / ended.json["exported"][0]["folder"]
    assert len(list(folder.iterdir())) == 4


def test_two_patients_under_the_same_uids_are_not_both_exported(
    ldct: Callable[..., Ended], identity_model: str, test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "abdomen-ge-crlm1004", tmp_path / "in" / "a", 3)
    for path in some_slices(test_data / "ct" / "abdomen-ge-crlm1004", tmp_path / "in" / "b", 3):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "another"
        dataset.save_as(path)
    ended = ldct("apply", identity_model, tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert ended.code == endings.PARTIAL
    (row,) = ended.json["exported"]
    (failed,) = ended.json["failed"]
    assert "SOPInstanceUID of another in this run" in failed["reason"]
    written = [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()]
    assert written == [row["folder"]]


def test_series_of_one_slice_is_denoised_but_cannot_be_trained_on(
    ldct: Callable[..., Ended], identity_model: str, test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "abdomen-ge-crlm1004", tmp_path / "in", 1)
    applied = ldct("apply", identity_model, tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert applied.code == 0
    assert applied.json["exported"][0]["instances"] == 1
    run = ldct("run", CONFIG, "--data", tmp_path / "in", "--out", tmp_path / "run")
    assert run.code == 3
    assert "at least 2" in run.err


def test_full_disk_leaves_nothing_half_written(
    ldct: Callable[..., Ended], identity_model: str, test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "abdomen-ge-crlm1004", tmp_path / "in", 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may outgrow this, as on a disk that runs full: a slice has 512 kB of pixels.
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        ended = ldct("apply", identity_model, tmp_path / "in", "--out", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.code == 1
    assert "disk is full" in ended.err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"report.json", "source.json", ".lock"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["exported"], len(report["not_done"])) == ([], 1)


def test_an_export_is_never_overwritten_by_another(
    ldct: Callable[..., Ended], identity_model: str, test_data: Path, tmp_path: Path
) -> None:
    some_slices(test_data / "ct" / "abdomen-ge-crlm1004", tmp_path / "in", 1)
    arguments = ("apply", identity_model, tmp_path / "in", "--out", tmp_path / "out", "--json")
    folder = tmp_path / "out" / ldct(*arguments).json["exported"][0]["folder"]
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert ldct(*arguments).code == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    (folder / "CT.0001.dcm").write_bytes(b"somebody's own")
    refused = ldct(*arguments)
    assert refused.code == 1
    assert "something else" in refused.err
    assert (folder / "CT.0001.dcm").read_bytes() == b"somebody's own"
