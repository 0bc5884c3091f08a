"""Restoring runs: their YAMLs, the shell, the pictures, the references, figures and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import body_slice, volume_of
from helpers.restore import drawing, run
from PIL import Image as PillowImage
from torch import nn

from pipeline.config.load import load_config, parse_config
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.pseudonyms import installation_key
from pipeline.core.units import HIGHEST_CT_HU, Window
from pipeline.data.images import ImageItems
from pipeline.data.stored_pictures import StoredPictures
from pipeline.evaluation.classical_restorers import biharmonic, tuned_references, unrestored
from pipeline.evaluation.gates import judge_restoration
from pipeline.evaluation.restoration import (
    RestorationOverall,
    evaluate_restoration,
    mean_iou,
    picture_figures,
)
from pipeline.inference.restore import restored, restored_levels
from pipeline.ingest.bundled_pictures import bundled_names, bundled_picture
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.picture_ingest import store_image, store_picture, store_stack
from pipeline.io.colour import chroma_error, in_colour, lab_of, levels_of, lightness_of
from pipeline.models.adapters.base import Identity, build_model
from pipeline.models.adapters.restorer import Restorer, degradation_of, from_around
from pipeline.models.edsr import EDSR
from pipeline.models.rednet import REDNet
from pipeline.models.restored_contrast import RestoredContrast
from pipeline.models.srcnn import SRCNN
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train

CONFIGS = [
    path
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
    if load_config(path).task == "restore"
]
ONE_STEP = [
    *("train.iterations=1", "train.batch=2", "train.device=cpu", "train.precision=fp32"),
    *("data.patch=[32, 32]", "train.workers=0", "data.split={}"),
]
NOISE = {"target": "pipeline.degradations.base.GaussianNoise", "args": {"sigma": 20}}
HALF = {"target": "pipeline.degradations.resolution.Downsample", "args": {"scale": 2}}
HOLE = {"target": "pipeline.degradations.holes.BoxHole", "args": {"side": 0.3}}
BLUR = {"target": "pipeline.degradations.blur.GaussianBlur", "args": {"sigma": 1.5}}
LEVELS = Window(127.5, 255)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    """Four drawings as each colour has them, and four CT patients; two of each to train on."""
    found = {}
    sides = {f"p-{n}": "test" if n < 2 else "train" for n in range(4)}
    for colour in ("grey", "rgb", "lab"):
        store = found[colour] = Store(tmp_path_factory.mktemp(colour))
        for number in range(4):
            name = f"p-{number}"
            told = IngestReport(Path())
            store_picture(drawing(number), store, told, colour=colour, patient=name, name=name)
        store.record_split(sides)
    both = found["grey pair"] = Store(tmp_path_factory.mktemp("pairs"))
    for number in range(4):
        halves, name = drawing(number)[:2], f"p-{number}"
        store_image(halves, both, IngestReport(Path()), colour="grey pair", patient=name, key=name)
    both.record_split(sides)
    moving = found["moving"] = Store(tmp_path_factory.mktemp("moving"))
    for number in range(4):
        frames, told = drawing(number)[:3] + 1.0, IngestReport(Path())
        store_stack(frames, moving, told, colour="grey", name=f"p-{number}")
    moving.record_split(sides)
    ct = found["series"] = Store(tmp_path_factory.mktemp("ct"))
    for number in range(4):
        slices = np.stack([body_slice(64) + 5 * number + index for index in range(2)])
        ct.add(volume_of(slices, pixel_mm=(4.0, 4.0)), key=f"s-{number}", patient=f"p-{number}")
    ct.record_split(sides)
    return found


def sides_of(store: Store) -> dict[str, list[str]]:
    keys = sorted(store.records())
    return {"test": keys[:2], "train": keys[2:]}


# The configurations


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_one_step_of_every_configuration_moves_the_weights(
    path: Path, tmp_path: Path, stores: dict[str, Store]
) -> None:
    extra = []
    if "ct." in str(load_config(path).degradation):
        extra = ["degradation.args.detectors=64", "degradation.args.views=180"]
    config = load_config(path, ONE_STEP + extra)
    assert parse_config(config.resolved()) == config
    assert config.restoration is not None
    settings = config.restoration
    store = stores["moving" if settings.source == "moving" else settings.seen]
    task, keys = task_of(config), sides_of(store)
    task.prepare(store, keys, config)
    logged: list[dict[str, float]] = []
    model = train(
        config,
        task.training_data(store, keys["train"], config, 2),
        folder=tmp_path,
        log=lambda metrics, step: logged.append(metrics),
        data_digest=store.data_digest(keys["train"]),
    )
    assert np.isfinite(logged[-1]["loss"])
    torch.manual_seed(config.train.seed)
    fresh = build_model(config).state_dict()
    assert any(not torch.equal(fresh[name], w) for name, w in model.state_dict().items())
    figures = task.evaluate(model, store, keys["test"], config)
    window = next(iter(figures.overall.windows.values()))
    assert {"input", "output", *config.restoration.references} <= window.answers.keys()
    assert "→" in task.headline(figures)["text"]
    page = tmp_path / "report.html"
    report = {"name": "tiny", "metrics": figures.to_dict(), "config": config.resolved()}
    report["gate"] = task.judge(figures, config).to_dict()
    task.write_report(report, model, store, keys["test"], config, curve=[], path=page)
    assert "→" in page.read_text(encoding="utf-8")
    assert (tmp_path / "restored-0.png").exists()


def test_the_test_pictures_of_every_configuration_are_shipped() -> None:
    for path in CONFIGS:
        config = load_config(path)
        assert config.restoration is not None
        if config.restoration.source != "shipped":
            continue
        names = {f"shipped-{name.removesuffix('.jpg')}" for name in bundled_names("rgb")}
        assert isinstance(config.data.split.test, list)
        assert set(config.data.split.test) <= names


def test_every_shipped_picture_is_there() -> None:
    for name in bundled_names("grey"):
        levels = bundled_picture(name)
        assert len(levels) == (3 if name in bundled_names("rgb") else 1)
        assert 100 < levels.max() <= 255


def test_what_does_not_fit_together_is_named() -> None:
    with pytest.raises(ConfigError, match="restoration: say which pictures"):
        run(NOISE, restoration=None)
    with pytest.raises(ConfigError, match=r"model.args.scale: 1, .* divides by 2"):
        build_model(run(HALF))
    config = run(NOISE, references=("wiener",))
    with pytest.raises(ConfigError, match="degradation has no blur"):
        tuned_references(Store.__new__(Store), ["x"], config)


# Networks


@pytest.mark.parametrize("layers", [4, 10, 20, 30])
def test_rednet_mirrors_its_layers(layers: int) -> None:
    network = REDNet(layers, channels=4)
    assert len(network.encoder) == len(network.decoder) == layers // 2
    assert network(torch.rand(2, 1, 17, 23)).shape == (2, 1, 17, 23)
    with pytest.raises(ValueError, match="even"):
        REDNet(5)


def test_a_skip_of_rednet_carries_a_feature_past_the_middle() -> None:
    network = REDNet(10, channels=4)
    with torch.no_grad():
        network.encoder[-1].weight.zero_()  # nothing comes through the middle
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    network(image).square().sum().backward()
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 0


def test_published_sizes() -> None:
    def parameters(network: nn.Module) -> int:
        return sum(weights.numel() for weights in network.parameters())

    # 3 x 3 convolutions of 64 channels, with biases, counted by hand.
    middle, first, last = 64 * 64 * 9 + 64, 9 * 64 + 64, 9 * 64 + 1
    assert parameters(REDNet(30)) == 28 * middle + first + last
    edsr = parameters(EDSR(2, image_channels=3))
    blocks = 33 * middle + 4 * 64 * (64 * 9) + 4 * 64
    assert edsr == blocks + 27 * 64 + 64 + 64 * 27 + 3


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 6, 8])
def test_edsr_enlarges_by_any_whole_number(scale: int, direct: bool) -> None:
    network = EDSR(scale, channels=4, blocks=1, inputs=2, image_channels=3, direct=direct)
    assert network(torch.rand(1, 2, 5, 7)).shape == (1, 3, 5 * scale, 7 * scale)


def test_a_hundred_and_forty_four_rows_become_720() -> None:
    config = run(
        {"target": "downsample", "args": {"scale": 5}},
        model={"target": "edsr", "args": {"scale": 5, "channels": 4, "blocks": 1}},
    )
    model = build_model(config).eval()
    assert isinstance(model, Restorer)
    assert restored(model, drawing(1, 144)[:1]).shape == (1, 720, 720)


def test_a_blind_run_is_measured_at_one_noise(tmp_path: Path) -> None:
    """Trained on sigma 0 to 2, tested at 40: the input of the test has the latter's PSNR."""
    config = run(
        {"target": "gaussian_noise_range", "args": {"low": 0, "high": 2}},
        restoration={
            "source": "pictures",
            "test_degradation": {"target": "gaussian_noise", "args": {"sigma": 40}},
        },
    )
    store = Store(tmp_path / "store")
    for number in range(2):
        store_picture(
            np.full((1, 64, 64), 128, np.float32),
            store,
            IngestReport(Path()),
            colour="grey",
            patient=f"p-{number}",
            name=f"p-{number}",
        )
    task, keys = task_of(config), {"test": ["p-0-grey"], "train": ["p-1-grey"]}
    task.prepare(store, keys, config)
    found = task.evaluate(build_model(config), store, keys["test"], config)
    expected_db = 20 * np.log10(255 / 40)
    assert found.overall.windows["levels"].answers["input"]["psnr"] == pytest.approx(
        expected_db, abs=0.3
    )
    items = task.training_data(store, keys["train"], config, 4)
    assert max(float((item["input"] - item["target"]).std()) for item in items) < 3


def test_a_test_degradation_of_another_size_is_refused() -> None:
    tested = {"source": "pictures", "test_degradation": HALF}
    with pytest.raises(
        ConfigError, match="test_degradation: its scale is 2, that of degradation 1"
    ):
        build_model(run(NOISE, restoration=tested))


def test_srcnn_begins_with_no_correction() -> None:
    network = SRCNN(2, features=8)
    image = torch.rand(1, 1, 6, 9)
    assert network(image).shape == (1, 1, 12, 18)
    # A correction that starts near its bias, one number: the shell adds the bicubic pixels.
    found = network(image).detach()
    assert float((found - found.mean()).abs().max()) < 0.02
    published = sum(weights.numel() for weights in SRCNN(3).parameters())
    assert published == 8032 + 64 + 32 + 1  # 9-1-5 of the paper, and biases


def test_mean_iou_counts_classes_that_either_has() -> None:
    target = np.array([[[0, 0, 100, 100]]], dtype=np.float32)
    image = np.array([[[10, 60, 90, 100]]], dtype=np.float32)
    values = np.array([0, 100, 200], dtype=np.float32)
    assert mean_iou(image, target, values) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert mean_iou(target, target, values) == 1


# The shell


class Zero(nn.Module):
    """Says that nothing is to be corrected."""

    def __init__(self, channels: int, scale: int = 1) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale
        self.seen: torch.Tensor | None = None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen = image
        rows, columns = (side * self.scale for side in image.shape[2:])
        return image.new_zeros(len(image), self.channels, rows, columns)


def shell(network: nn.Module, config: RunConfig) -> Restorer:
    degradation = degradation_of(config)
    return Restorer(network, config=config, degradation=degradation, residual=True).eval()


def test_without_a_correction_the_output_is_what_is_there() -> None:
    image = drawing(1)
    noisy = shell(Zero(1), run(NOISE))
    np.testing.assert_array_equal(restored(noisy, image[:1]), image[:1])
    config = run(HALF, colour="rgb")
    small = degradation_of(config).degrade(image, np.random.default_rng(0))
    larger = restored(shell(Zero(3, 2), config), small)
    naive = unrestored(small, degradation_of(config), "rgb")
    np.testing.assert_allclose(larger, naive, atol=1e-3)
    assert larger.shape == image.shape
    assert picture_figures(larger, image, LEVELS)["psnr"] > 20


@pytest.mark.parametrize(("made_worse", "scale"), [(NOISE, 1), (HALF, 2), (HOLE, 1)])
def test_of_ct_what_is_above_the_usual_scale_is_limited_for_the_network_and_kept(
    made_worse: dict[str, Any], scale: int
) -> None:
    network = Zero(1, scale)
    image_hu = np.full((1, 32, 32), 40, dtype=np.float32)
    image_hu[:, 8:20, 8:20] = 20000
    model = shell(network, run(made_worse, restoration={"source": "series"}))
    output_hu = restored(model, image_hu)
    assert network.seen is not None
    assert network.seen.max() == (HIGHEST_CT_HU - model.centre) / model.scale
    metal = np.kron(image_hu == 20000, np.ones((scale, scale), bool))
    np.testing.assert_array_equal(output_hu[metal], 20000)
    assert output_hu[~metal].max() < 1.1 * HIGHEST_CT_HU
    pictures = restored(shell(Zero(1, scale), run(made_worse)), image_hu)
    assert pictures.max() >= 20000, "no grey level is limited"


def test_holes_are_told_and_the_rest_is_left_alone() -> None:
    config = run(HOLE, colour="rgb")
    image = drawing(2)
    holed = degradation_of(config).degrade(image, np.random.default_rng(0))
    network = Zero(3)
    output = restored(shell(network, config), holed)
    known = ~np.isnan(holed)
    np.testing.assert_array_equal(output[known], image[known])
    assert network.seen is not None
    np.testing.assert_array_equal(network.seen[0, 3].numpy(), known[0].astype(np.float32))


def test_a_hole_begins_at_what_is_around_it() -> None:
    """The smallest square that knows anything, told by hand; beyond all squares the centre."""
    image = torch.full((1, 1, 9, 80), 10.0)
    image[..., 4] = 40.0
    known = torch.ones_like(image, dtype=torch.bool)
    known[..., 4:7] = False
    known[..., 30:] = False
    filled = from_around(image, known, 99.0)
    assert torch.equal(filled[known], image[known])
    torch.testing.assert_close(filled[..., 4:7], torch.full((1, 1, 9, 3), 10.0))
    image[:, :, :, :4] = 30.0
    # Of the 5 x 5 around a pixel of the hole's middle one column lies on each side.
    assert float(from_around(image, known, 99.0)[0, 0, 4, 5]) == pytest.approx(20.0)
    assert float(filled[0, 0, 4, 70]) == 99.0


def test_a_colouriser_keeps_the_lightness() -> None:
    grey = {"target": "pipeline.degradations.pictures.Grey", "args": {"weights": [1, 0, 0]}}
    config = run(grey, colour="lab", normalize_hu={"centre": 0, "scale": 100})

    class Loud(Zero):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) + 0.3

    lightness = lightness_of(drawing(3))
    output = restored(shell(Loud(3), config), lightness)
    np.testing.assert_array_equal(output[:1], lightness)
    np.testing.assert_allclose(output[1:], 30, atol=1e-4)


def test_a_large_picture_goes_in_pieces_without_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.inference.restore.MAX_PIXELS", 32 * 32)
    monkeypatch.setattr("pipeline.inference.restore.PIECE", 48)
    image = drawing(4, 96)[:1]
    output = restored(shell(Zero(1), run(NOISE)), image)
    np.testing.assert_allclose(output, image, atol=1e-3)


def test_pieces_of_a_large_picture_know_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its contrast is found once: pieces of sky and of shadow would each get one of their own."""
    image = drawing(4, 96)[:1]
    image[..., :48] /= 8
    network = RestoredContrast({"target": "torch.nn.Identity"})
    torch.nn.init.normal_(network.tone[-1].weight, generator=torch.Generator().manual_seed(0))
    model = shell(network, run(NOISE))
    whole = restored(model, image)
    monkeypatch.setattr("pipeline.inference.restore.MAX_PIXELS", 32 * 32)
    monkeypatch.setattr("pipeline.inference.restore.PIECE", 48)
    np.testing.assert_allclose(restored(model, image), whole, atol=1e-2)


# Colour


def test_colours_go_there_and_back() -> None:
    image = drawing(5)
    np.testing.assert_allclose(levels_of(lab_of(image), "lab"), image, atol=0.1)
    white = np.full((3, 2, 2), 255, dtype=np.float32)
    np.testing.assert_allclose(lab_of(white)[:, 0, 0], [100, 0, 0], atol=0.02)
    assert chroma_error(lab_of(image), lab_of(image)) == 0
    moved = lab_of(image) + np.array([9, 3, 4], dtype=np.float32)[:, None, None]
    assert chroma_error(moved, lab_of(image)) == pytest.approx(5, rel=1e-4)
    with pytest.raises(LdctError, match="no colour"):
        in_colour(image[:1], "rgb")


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_a_picture_of_the_other_kind_is_restored_too(colour: str) -> None:
    model = shell(Zero(3 if colour == "rgb" else 1), run(NOISE, colour=colour))
    image = drawing(6)
    np.testing.assert_allclose(restored_levels(model, image), image, atol=1e-3)
    np.testing.assert_allclose(restored_levels(model, image[:1]), image[:1], atol=1e-3)


# Items, pictures, references


def test_items_are_spoilt_as_whole_pictures_are(stores: dict[str, Store]) -> None:
    """A piece's input is the piece of the spoilt picture, at its own size."""
    config = run(HALF, colour="rgb")
    pictures = StoredPictures(stores["rgb"], ["p-0-rgb"], config)
    degradation = degradation_of(config)
    whole = degradation.degrade(pictures[0], np.random.default_rng(0))
    items = ImageItems(pictures, [0], seed=0, length=5, degradation=degradation, patch=(32, 32))
    places = set()
    for item in items:
        assert item["input"].shape == (3, 16, 16)
        matches = [
            (row, column)
            for row in range(33)
            for column in range(33)
            if np.array_equal(pictures[0][:, row : row + 32, column : column + 32], item["target"])
        ]
        row, column = matches[0]
        places.add((row, column))
        if row % 2 or column % 2:
            continue
        there = whole[:, row // 2 : row // 2 + 16, column // 2 : column // 2 + 16]
        np.testing.assert_allclose(item["input"], there, atol=0.5)
    assert len(places) > 2


def test_a_label_map_may_be_the_target(stores: dict[str, Store]) -> None:
    rule = {"edges": [100], "values": [0, 200], "sigma": 1}
    target = {"target": "pipeline.degradations.labels.ImageToLabels", "args": rule}
    config = run(NOISE, restoration={"source": "pictures", "target": target})
    keys = sides_of(stores["grey"])
    items = task_of(config).training_data(stores["grey"], keys["train"], config, 3)
    for item in items:
        assert set(np.unique(item["target"])) <= {0, 200}
        # The input is of the photograph, in levels between.
        assert len(np.unique(item["input"])) > 100
    pictures = StoredPictures(stores["grey"], keys["test"], config)
    assert set(np.unique(pictures.target(0))) == {0, 200}


def test_pictures_of_a_folder_are_stored_under_pseudonyms(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, picture in (("Miller.png", drawing(0)), ("b.jpg", drawing(1))):
        PillowImage.fromarray(np.moveaxis(picture, 0, -1).astype(np.uint8)).save(folder / name)
    PillowImage.fromarray(drawing(2)[0].astype(np.uint8)).save(folder / "grey.png")
    (folder / "broken.png").write_bytes(b"\x89PNG nothing")
    store, config = Store(tmp_path / "store"), run(NOISE, colour="rgb")
    told = task_of(config).ingest(folder, store, config, key=installation_key())
    assert len(told.series) == 2
    assert sorted(refusal.path.name for refusal in told.refusals) == ["broken.png", "grey.png"]
    assert "Miller" not in " ".join(path.name for path in store.path.rglob("*"))
    stored = {tuple(store.load(key).image_hu[:, 0, 0]) for key in store.records()}
    assert tuple(drawing(0)[:, 0, 0].astype(np.uint8).astype(np.float32)) in stored
    with pytest.raises(ConfigError, match="--data: name a folder"):
        task_of(config).ingest(None, store, config, key=installation_key())
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingUsableError, match="no file named"):
        task_of(config).ingest(tmp_path / "empty", store, config, key=installation_key())


def test_a_run_uses_what_it_can_see(stores: dict[str, Store]) -> None:
    small = run(NOISE, data={"patch": [96, 96]})
    task = task_of(small)
    assert task.usable(stores["grey"], "p-0-grey", run(NOISE))
    assert not task.usable(stores["grey"], "p-0-grey", small)
    assert not task.usable(stores["rgb"], "p-0-rgb", run(NOISE))
    assert not task.usable(stores["series"], "s-0", run(NOISE))


@pytest.mark.parametrize(
    ("degradation", "references"),
    [(BLUR, ("wiener", "richardson_lucy")), (NOISE, ("non_local_means", "total_variation"))],
    ids=["blur", "noise"],
)
def test_references_are_better_than_nothing(
    degradation: dict[str, Any], references: tuple[str, ...], stores: dict[str, Store]
) -> None:
    config, store = run(degradation, references=references), stores["grey"]
    keys = sides_of(store)
    task_of(config).prepare(store, keys, config)
    model = build_model(config)
    overall = evaluate_restoration(model, store, keys["test"], config).to_dict()["overall"]
    window = overall["windows"]["levels"]
    for name in references:
        assert window[name]["psnr"] > window["input"]["psnr"] + 1
        assert overall["tuning"][name]["pictures"] == 2


def test_biharmonic_continues_a_ramp() -> None:
    ramp = np.broadcast_to(np.arange(32, dtype=np.float32), (3, 32, 32)).copy()
    holed = ramp.copy()
    holed[:, 12:18, 12:18] = np.nan
    np.testing.assert_allclose(biharmonic(holed), ramp, atol=0.05)


# Figures and the gate


def test_figures_are_means_over_pictures_and_channels(stores: dict[str, Store]) -> None:
    config, store = run(NOISE, colour="rgb"), stores["rgb"]
    keys = sides_of(store)
    task_of(config).prepare(store, keys, config)
    model = shell(Zero(3), config)
    found = evaluate_restoration(model, store, keys["test"], config).to_dict()
    window = found["overall"]["windows"]["levels"]
    assert window["output"] == window["input"]
    # White noise of 20 levels, a little of it clipped at black and white.
    assert window["input"]["psnr"] == pytest.approx(20 * np.log10(255 / 20), abs=0.4)
    theirs = [row["windows"]["levels"]["input"]["psnr"] for row in found["patients"].values()]
    assert np.mean(theirs) == pytest.approx(window["input"]["psnr"])


def test_the_gate_compares_with_the_best_reference() -> None:
    config = run(NOISE, references=("non_local_means",))

    def judged(psnr: float, ssim: float) -> dict[str, bool]:
        window = {
            "centre": 127.5,
            "width": 255.0,
            "input": {"psnr": 20.0, "ssim": 0.5},
            "output": {"psnr": psnr, "ssim": ssim},
            "non_local_means": {"psnr": 25.0, "ssim": 0.7},
        }
        overall = {"images": 1, "aggregation": "", "windows": {"levels": window}}
        typed = RestorationOverall.from_dict(overall)
        assert typed.to_dict() == overall
        found = judge_restoration(typed, config)
        return {check.name[:9]: check.passed for check in found.checks} | {"all": found.passed}

    assert judged(26, 0.8) == {"PSNR gain": True, "PSNR abov": True, "SSIM abov": True, "all": True}
    assert judged(24, 0.8)["PSNR abov"] is False
    assert judged(26, 0.6) == {
        "PSNR gain": True,
        "PSNR abov": True,
        "SSIM abov": False,
        "all": False,
    }


def test_identity_is_a_restorer_of_its_own_input() -> None:
    config = run(
        NOISE,
        step={
            "target": "pipeline.training.steps.supervised.Supervised",
            "args": {"residual": False},
        },
    )
    model = build_model(config)
    assert isinstance(model.network, Identity)
    np.testing.assert_allclose(restored(model, drawing(0)[:1]), drawing(0)[:1], atol=1e-3)
