"""The published benchmark on the public Mayo set: its layout, its split, its sampling, its way."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from helpers.dicom import KEY, in_order
from helpers.images import add_inputs, body_slice, run_config, tiny_store, tiny_train, volume_of
from helpers.pairs import MAYO, as_mayo, mayo_folder, write_dose, write_mayo_case
from skimage.metrics import structural_similarity
from torch import nn
from torch.utils.data import Dataset

from flows import evaluate as evaluation
from flows.cli import app as cli
from pipeline.config.component import build
from pipeline.config.load import load_config
from pipeline.config.sections import Component, Data, Pairs, Split
from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import installation_key, patient_pseudonym
from pipeline.data.patches import PatchPairs
from pipeline.dicom.read.anatomy import anatomy_of
from pipeline.dicom.read.series import find_series
from pipeline.evaluation.denoising import evaluate_store
from pipeline.ingest.ingest import ingest
from pipeline.metrics.image import ssim
from pipeline.models.adapters.base import HUModel, Identity, build_model
from pipeline.physics.lowdose import LowDoseCT
from pipeline.store.published_splits import PUBLISHED, TEST, TRAIN, VALIDATION, coverage
from pipeline.store.splits import split_patients
from pipeline.store.store import Store
from pipeline.training.best_weights import RANGE_HU, BestWeights
from pipeline.training.loop import train
from pipeline.training.steps.base import Step

CONFIG = Path(__file__).parents[2] / "configs" / "benchmark_mayo.yaml"
BY_LIST = Split(by="eulig2024", complete=False)
#: Centre and width by the case's letter, as published.
WINDOWS = {"C": (-600, 1500), "L": (50, 400), "N": (40, 80)}
#: These series' padding is at and below this, where no tissue is.
PADDING_HU = -1500
ANATOMIES = {"C": "chest", "L": "abdomen", "N": "neuro"}


def cases(side: str, letter: str) -> list[str]:
    return [c for c, s in PUBLISHED["eulig2024"].sides.items() if s == side and c[0] == letter]


def test_the_lists_are_35_10_and_5_of_each_anatomy() -> None:
    listed = [case for text in PUBLISHED["eulig2024"].cases.values() for case in text.split()]
    assert len(listed) == len(set(listed)) == 150
    counts = Counter((s, c[0]) for c, s in PUBLISHED["eulig2024"].sides.items())
    for letter in "CLN":
        found = [counts[side, letter] for side in (TRAIN, VALIDATION, TEST)]
        assert found == [35, 10, 5]
    # The test cases, as the publication's code lists them.
    assert sorted(cases(TEST, "L")) == ["L006", "L107", "L220", "L221", "L241"]


def test_a_listed_case_is_known_by_its_pseudonym_and_others_are_on_no_side() -> None:
    who = {case: patient_pseudonym(KEY, case) for case in ("C095", "C202", "C121", "C001")}
    sides = split_patients(list(who.values()), BY_LIST, key=KEY, recorded={who["C121"]: TRAIN})
    assert sides == {who["C095"]: TRAIN, who["C202"]: VALIDATION, who["C121"]: TEST}


def test_a_case_that_is_not_there_is_named_before_any_training() -> None:
    everybody = [patient_pseudonym(KEY, case) for case in PUBLISHED["eulig2024"].sides]
    complete = Split(by="eulig2024")
    sides = split_patients(everybody, complete, key=KEY, recorded={})
    assert Counter(sides.values()) == {TRAIN: 105, VALIDATION: 30, TEST: 15}
    whole = coverage(complete, sides)
    assert whole is not None
    assert whole.complete
    with pytest.raises(ConfigError, match=r"2 of the 150 cases .* such as C095, C261; .*complete"):
        split_patients(everybody[2:], complete, key=KEY, recorded={})
    found = coverage(BY_LIST, split_patients(everybody[2:], BY_LIST, key=KEY, recorded={}))
    assert found is not None
    assert not found.complete
    assert "148 of its 150 cases; the figures are not those" in found.summary
    assert found.cases[TRAIN] == {"listed": 105, "present": 103}
    assert coverage(Split(), {}) is None


def test_nobody_to_test_on_is_named() -> None:
    with pytest.raises(ConfigError, match="no test case"):
        split_patients([patient_pseudonym(KEY, "C095")], BY_LIST, key=KEY, recorded={})


def test_a_model_of_a_published_split_is_evaluated_on_other_stores_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cases of the split that are there, tested as listed; strangers split as any are."""
    config = load_config(CONFIG, [])

    def sides(name: str, *patients: str) -> dict[str, str]:
        store = Store(tmp_path / name)
        for number, patient in enumerate(patients):
            volume = volume_of(np.stack([body_slice() + number]))
            store.add(volume, key=f"s-{number}", patient=patient)
        return evaluation._sides(store, config)

    known = {case: patient_pseudonym(installation_key(), case) for case in ("C121", "C095")}
    assert sides("test alone", known["C121"]) == {known["C121"]: TEST}
    found = sides("both", *known.values(), "p-stranger")
    assert found == {known["C121"]: TEST, known["C095"]: TRAIN}
    strangers = sides("strangers", "p-1", "p-2", "p-3")
    assert sorted(strangers) == ["p-1", "p-2", "p-3"]
    assert TEST in strangers.values()
    with pytest.raises(ConfigError, match="no test case among them"):
        sides("trained on", known["C095"])


@pytest.mark.parametrize("choice", [{"test": 0.3}, {"validation": ["p-1"]}])
def test_a_published_split_leaves_nothing_to_choose(choice: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lists say who"):
        Split(by="eulig2024", **choice)
    assert (Split().test, Split().validation) == (0.2, 0.1)


@pytest.mark.parametrize(
    ("where", "case", "body_part", "anatomy"),
    [
        ("LDCT-and-Projection-data/C002/x", "C002", "ABDOMEN", "chest"),
        ("LDCT-and-Projection-data/N005/x", "N005", None, "neuro"),
        ("LDCT-and-Projection-data/x", "ACR_Phantom", None, ""),
        ("hospital/C002", "C002", "Abdomen-Pelvis", "abdomen"),
        ("hospital", "P-1", "HEAD", "neuro"),
        ("hospital", "P-1", "CHESTABDOMEN", ""),
        ("hospital", "P-1", "KNEE", ""),
        ("hospital", "P-1", None, ""),
    ],
)
def test_the_anatomy_is_the_case_s_letter_or_the_header_s_word(
    tmp_path: Path, where: str, case: str, body_part: str | None, anatomy: str
) -> None:
    write_dose(tmp_path / where, "x", [0.0, 5.0], patient=case, BodyPartExamined=body_part)
    (series,) = find_series(tmp_path).series
    assert anatomy_of(series) == anatomy


@pytest.fixture(scope="module")
def real_cases(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case of each anatomy of two real slices, its low dose simulated by us."""
    root = tmp_path_factory.mktemp("mayo")
    physics = LowDoseCT(dose_fraction=0.25, detectors=128, views=96)
    sources = {"C": "chest-ge-lidc0001", "L": "abdomen-ge-crlm1004", "N": "head-ge-tilted"}
    for letter, name in sources.items():
        few = tmp_path_factory.mktemp(name)
        for path in in_order(test_data / "ct" / name)[12:14]:
            (few / path.name).write_bytes(path.read_bytes())
        as_mayo(in_order(few), root, cases(TEST, letter)[0], physics)
    return root


def stored_values(folder: Path) -> list[np.ndarray]:
    """HU + 1024 of each file of a folder, in the order of z; what is padded is air."""
    slices = []
    for path in in_order(folder):
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array.astype(float) * float(dataset.RescaleSlope)
        hu += float(dataset.RescaleIntercept)
        slices.append(np.where(hu <= PADDING_HU, -1000, hu) + 1024)
    return slices


def test_real_slices_laid_out_like_the_set_have_the_published_protocol_s_figures(
    real_cases: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    report = ingest(real_cases, store, key=KEY, pairs=Pairs())
    assert len(report.series) == 3
    assert report.refusals == []
    config = load_config(CONFIG, ["metrics=[psnr]"])
    model = HUModel(Identity(), normalize=config.normalize_hu, residual=False)
    found = evaluate_store(model, store, sorted(store.records()), config).to_dict()
    assert list(found["overall"]["windows"]) == ["chest", "abdomen", "neuro"]
    assert found["overall"]["convention"] == "eulig2024"
    for letter, (centre, width) in WINDOWS.items():
        case = cases(TEST, letter)[0]
        folders = (mayo_folder(real_cases, case, f"{dose} Dose Images") for dose in ("Low", "Full"))
        pairs = list(zip(*(stored_values(folder) for folder in folders), strict=True))
        # In the terms of its code: windows to 0 ... 1 of stored values.
        shown = [
            [np.clip((s - (1024 + centre - 0.5)) / (width - 1) + 0.5, 0, 1) for s in both]
            for both in pairs
        ]
        row = found["overall"]["windows"][ANATOMIES[letter]]
        assert (row["patients"], row["slices"]) == (1, 2)
        psnr = np.mean([-10 * np.log10(np.mean((low - full) ** 2)) for low, full in shown])
        same = np.mean([structural_similarity(low, full, data_range=1.0) for low, full in shown])
        clipped = [[np.clip(s, 0, 2924) for s in both] for both in pairs]
        rmse = np.mean([np.sqrt(np.mean((low - full) ** 2)) for low, full in clipped])
        assert row["input"]["psnr"] == pytest.approx(psnr, rel=1e-5)
        assert row["input"]["ssim"] == pytest.approx(same, rel=1e-4)
        assert row["input"]["rmse_hu"] == pytest.approx(rmse, rel=1e-4)
        assert row["output"]["psnr"] == pytest.approx(psnr, rel=1e-3)


def test_a_window_s_figures_are_of_the_patients_of_its_anatomy(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, patients=0), run_config(convention="eulig2024")
    for number, anatomy in enumerate(["neuro", "chest", "chest", "", "abdomen"]):
        volume = volume_of(np.stack([body_slice()] * (number + 1)))
        volume.provenance["anatomy"] = anatomy
        store.add(volume, key=f"s-{number}", patient=f"p-{number}")
    add_inputs(store, config, noise_hu=30)
    overall = evaluate_store(nn.Identity(), store, sorted(store.records()), config).to_dict()[
        "overall"
    ]
    counts = {w: (row["patients"], row["slices"]) for w, row in overall["windows"].items()}
    assert counts == {"chest": (2, 5), "abdomen": (1, 5), "neuro": (1, 1)}
    assert overall["unmeasured"] == [{"series": "s-3", "anatomy": "unknown"}]
    assert (overall["patients"], overall["slices"]) == (4, 11)
    worst = overall["worst_slices"]
    assert {row["patient"] for row in worst["chest"]["output_psnr"]} == {"p-1", "p-2"}
    spread = overall["intervals"]["windows"]
    low, high = spread["chest"]["input"]["psnr"]
    assert low <= overall["windows"]["chest"]["input"]["psnr"] <= high
    assert spread["neuro"]["input"]["psnr"] == [None, None], "of one patient"
    json.dumps(overall, allow_nan=False)


def test_two_anatomies_of_a_patient_are_measured_each_in_its_window(tmp_path: Path) -> None:
    store, config = tiny_store(tmp_path, patients=0), run_config(convention="eulig2024")
    for number, anatomy in enumerate(["chest", "abdomen", "chest"]):
        volume = volume_of(np.stack([body_slice() + number]))
        volume.provenance["anatomy"] = anatomy
        store.add(volume, key=f"s-{number}", patient="p-0")
    add_inputs(store, config, noise_hu=30)
    found = evaluate_store(nn.Identity(), store, sorted(store.records()), config).to_dict()
    assert {n: list(p["windows"]) for n, p in found["patients"].items()} == {
        "p-0": ["chest"],
        "p-0 abdomen": ["abdomen"],
    }
    assert found["overall"]["windows"]["chest"]["slices"] == 2


def test_every_patient_is_drawn_alike_whatever_their_number_of_slices(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number, slices in enumerate((1, 9)):
        image_hu = np.stack([body_slice() + 5 * number] * slices)
        store.add(volume_of(image_hu), key=f"s-{number}", patient=f"p-{number}")

    def share_of_the_second(sampling: str) -> float:
        config = run_config(data={"patch": [64, 64], "sampling": sampling})
        add_inputs(store, config)
        dataset = PatchPairs(store, sorted(store.records()), config, 400)
        return float(np.mean([dataset[n]["target"].max() == 705 for n in range(400)]))

    assert share_of_the_second("patients") == pytest.approx(0.5, abs=0.08)
    assert share_of_the_second("slices") == pytest.approx(0.9, abs=0.05)


def test_patches_lie_anywhere_in_the_slice_and_are_not_turned(tmp_path: Path) -> None:
    image_hu = np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64) / 4 - 1000
    store = Store(tmp_path)
    store.add(volume_of(image_hu), key="s-0", patient="p-0")
    config = run_config(data={"patch": [16, 16], "region": "slice", "augment": False})
    add_inputs(store, config)
    dataset = PatchPairs(store, ["s-0"], config, 300)
    found = [dataset[n]["target"][0] for n in range(300)]
    corners = [divmod(int((patch[0, 0].item() + 1000) * 4), 64) for patch in found]
    assert all((patch.diff() > 0).all() and (patch.diff(dim=0) > 0).all() for patch in found)
    rows, columns = zip(*corners, strict=True)
    assert (min(rows), max(rows), min(columns), max(columns)) == (0, 48, 0, 48)


def test_the_network_sees_what_the_published_one_saw() -> None:
    """Stored values less their mean of 481.454, by their deviation of 502.185; and no ReLU at
    the end, which would cut what lies below the mean."""
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        adds_input = True

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(image)
            return image

    config = load_config(CONFIG)
    stored = torch.tensor([0.0, 481.45419786, 1024.0, 4095.0]).reshape(1, 1, 1, 4)
    output_hu = HUModel(Spy(), normalize=config.normalize_hu, residual=False)(stored - 1024)
    expected = (stored - 481.45419786) / 502.18507379
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(output_hu, stored - 1024, atol=1e-3, rtol=0)
    network = build_model(config).network
    assert sum(p.numel() for p in network.parameters()) == 1_848_865
    assert network(torch.full((1, 1, 64, 64), -2.0)).max() < 0


def test_the_learning_rate_stays() -> None:
    config = load_config(CONFIG, ["train.iterations=6", "model.args.channels=2"])
    model = build_model(config)
    step = build(
        config.step, key="step", base=Step, model=model, loss=nn.MSELoss(), settings=config.train
    )
    batch = {name: torch.zeros(1, 1, 64, 64) for name in ("input", "target")}
    rates = set()
    for _ in range(6):
        step.backward(batch, share=1.0)
        rates.add(step.update()["learning_rate"])
    assert rates == {9.583417460320728e-05}
    wrong = Component(target=config.step.target, args={"decay": "linear"})
    with pytest.raises(ConfigError, match="linear"):
        build(wrong, key="step", base=Step, model=model, loss=nn.MSELoss(), settings=config.train)


class Patches(Dataset):
    """Two bodies, each with an input as much brighter as it is told."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        target = torch.from_numpy(body_slice())[None] + 10 * item
        return {"input": target + 100, "target": target}


class Offset(nn.Module):
    """Adds so many HU: its one weight."""

    def __init__(self, hu: float) -> None:
        super().__init__()
        self.hu = nn.Parameter(torch.tensor(hu))

    def forward(self, image_hu: torch.Tensor) -> torch.Tensor:
        return image_hu + self.hu


def test_the_weights_that_did_best_on_validation_are_kept() -> None:
    selection, model = BestWeights(Patches(), every=10, batch=2), Offset(0.0)
    logged = {}
    for iteration, hu in ((10, -300.0), (15, -100.0), (20, -120.0), (30, -200.0), (33, -250.0)):
        model.hu.data.fill_(hu)
        logged[iteration] = selection.validate(model, iteration, last=iteration == 33)
    assert selection.weights["hu"].item() == -120, "the best of those looked at"
    assert logged[15] == {}, "not a time to look"
    assert set(logged[33]) == {"validation.ssim", "validation.psnr"}, "the last is always looked at"
    expected = np.mean([ssim(body_slice() - 20 + n, body_slice() + n, RANGE_HU) for n in (0, 10)])
    assert logged[20]["validation.ssim"] == pytest.approx(expected, abs=1e-6)
    assert model.training, "left as it was"
    again = BestWeights(Patches(), every=10, batch=2)
    again.load_state_dict(selection.state_dict())
    model.hu.data.fill_(-150)
    again.validate(model, 40)
    assert again.weights["hu"].item() == -120, "a resumed training remembers"


def trained(folder: Path, store: Store, iterations: int, every: int | None) -> tuple[Any, ...]:
    settings = tiny_train(iterations=iterations, lr=0.02, checkpoint_every=1)
    config = run_config(train=settings | {"validate_every": every})
    add_inputs(store, config, noise_hu=40)
    keys = sorted(store.records())
    selection = BestWeights(PatchPairs(store, keys[:1], config, 4), every, 2) if every else None
    scores: list[float] = []

    def log(metrics: dict[str, float], iteration: int) -> None:
        if "validation.ssim" in metrics:
            scores.append(metrics["validation.ssim"])

    model = train(
        config,
        PatchPairs(store, keys, config, length=2 * iterations),
        folder=folder,
        log=log,
        data_digest="x",
        selection=selection,
    )
    return model, selection, scores


def test_training_ends_with_the_selected_weights_and_looking_changes_nothing(
    tmp_path: Path,
) -> None:
    store = tiny_store(tmp_path / "store")
    model, selection, scores = trained(tmp_path / "a", store, 6, 1)
    assert len(scores) == 6
    assert selection.score == max(scores)
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, selection.weights[name])
    # Taken up where it ended: nothing is left to do, and the best is remembered.
    again, resumed, _ = trained(tmp_path / "a", store, 6, 1)
    assert resumed.score == selection.score
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    # Looked at once, at the end, the training is the one that was never looked at.
    looked, _, _ = trained(tmp_path / "b", store, 6, 6)
    alone, _, _ = trained(tmp_path / "c", store, 6, None)
    for name, weights in alone.state_dict().items():
        assert torch.equal(weights, looked.state_dict()[name])


TINY = (
    "train.iterations=5",
    "train.batch=2",
    "train.workers=0",
    "train.device=cpu",
    "model.args.channels=4",
    "data.patch=[40, 40]",
    "data.split.complete=false",
)


@pytest.fixture(scope="module")
def mayo_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each anatomy two cases to train on, one to validate, one to test; one that GE scanned,
    whose low dose there is not; and one that the publication does not list."""
    root = tmp_path_factory.mktemp("download")
    for letter in "CLN":
        listed = [*cases(TRAIN, letter)[:2], cases(VALIDATION, letter)[0], cases(TEST, letter)[0]]
        for number, case in enumerate(listed):
            write_mayo_case(root, case, [-5.0 * number - place for place in (0, 5, 10)])
    write_dose(
        mayo_folder(root, "L999", "Full dose images"),
        "Full dose images",
        [0.0, 5.0],
        patient="L999",
    )
    write_mayo_case(root, "C001", [0.0, 5.0])
    return root


@pytest.fixture
def quarantining(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    prefect_server: None,
) -> Callable[..., dict[str, Any]]:
    """Run `ldct ... --json`, which quarantines the GE case, in a folder of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*command: object, code: int = 4) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["ldct", *map(str, command), "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
        return json.loads(capfd.readouterr().out)

    return run


def test_pairs_are_ingested_for_a_training_of_one_s_own(
    mayo_tree: Path, quarantining: Callable[..., dict[str, Any]]
) -> None:
    skip = ("--intake", "skip_folders=projections")
    report = quarantining("ingest", mayo_tree, "--store", "store", "--pairs", *skip)
    assert len(report["series"]) == 13
    assert all(row["pair"]["input"] for row in report["series"])
    assert len(report["quarantined"]) == 2


def test_one_command_goes_the_published_way(
    mayo_tree: Path, tmp_path: Path, quarantining: Callable[..., dict[str, Any]]
) -> None:
    settings = [part for setting in TINY for part in ("--set", setting)]
    report = quarantining("run", CONFIG, "--data", mayo_tree, "--out", "out", *settings, code=5)

    assert {r["reason"] for r in report["quarantined"]} == {
        "no low-dose partner: the patient has no such series"
    }
    assert len(report["quarantined"]) == 2
    assert {r["reason"] for r in report["excluded"]} == {"left alone: skip_folders=projections"}
    assert Counter(row["side"] for row in report["series"]) == {
        "train": 6,
        "validation": 3,
        "test": 3,
        "unused": 1,
    }
    assert all(
        row["slices"] == 3 and row["pair"] for row in report["series"] if row["side"] != "unused"
    )
    assert report["published_split"]["cases"][TEST] == {"listed": 15, "present": 3}
    assert report["published_split"]["complete"] is False

    overall = report["metrics"]["overall"]
    assert overall["convention"] == "eulig2024"
    assert {w: (r["patients"], r["slices"]) for w, r in overall["windows"].items()} == {
        "chest": (1, 3),
        "abdomen": (1, 3),
        "neuro": (1, 3),
    }
    assert overall["unmeasured"] == []
    # What is handed over is the low-dose series, denoised.
    assert len(report["exported"]) == 3
    derived = pydicom.dcmread(next((tmp_path / "out" / "derived").rglob("*.dcm")))
    assert derived.SeriesDescription.startswith("AI DENOISED")
    source = str(derived.SourceImageSequence[0].ReferencedSOPInstanceUID)
    low = [
        str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        for path in mayo_tree.rglob("*Low Dose Images*/*.dcm")
    ]
    assert source in low
    named = [path.name.encode() for path in (mayo_tree / MAYO).iterdir()]
    assert len(named) == 14
    kept = [*(tmp_path / "out" / "store").rglob("*"), *(tmp_path / "mlruns").rglob("*")]
    told = [path for path in kept if path.suffix in (".json", ".yaml", ".db")]
    assert len(told) > 13
    assert not [path for path in told if any(case in path.read_bytes() for case in named)]


def test_the_run_s_own_sampling_is_that_of_the_protocol() -> None:
    data: Data = load_config(CONFIG).data
    assert isinstance(data.pairs, Pairs)
    assert (data.region, data.sampling, data.augment) == ("slice", "patients", False)
    assert data.noise_scale == (1.0, 1.0)
