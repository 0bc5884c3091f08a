"""Updates without a clean target: each learns to denoise from noisy images alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import add_inputs, run_config, run_data, tiny_store, tiny_train
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import Dataset

from pipeline.config.load import load_config, parse_config
from pipeline.config.run import RunConfig
from pipeline.config.sections import Train
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.data.patches import PatchPairs
from pipeline.degradations.digest import degradation_digest
from pipeline.models.adapters.base import build_loss, build_model
from pipeline.training.loop import train
from pipeline.training.steps.blind_spot import BlindSpot
from pipeline.training.steps.neighbour_slice import Neighbour
from pipeline.training.steps.noise2noise import Noise2Noise

CONFIGS = Path(__file__).parents[3] / "configs"
NOISE_HU = 100.0
SIDE = 32
ITERATIONS = 70
STEPS = "pipeline.training.steps"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Nets this small only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def anatomy(item: int) -> NDArray[np.float32]:
    """Soft blobs of some hundred HU, [SIDE, SIDE]; a function of the number."""
    noise = np.random.default_rng((1, item)).standard_normal((SIDE, SIDE))
    smooth = ndimage.gaussian_filter(noise, 4, mode="wrap")
    return (200 * smooth / smooth.std()).astype(np.float32)


def noise(*seed: int) -> NDArray[np.float32]:
    draw = np.random.default_rng(seed).standard_normal((SIDE, SIDE))
    return (NOISE_HU * draw).astype(np.float32)


class Noisy(Dataset):
    """What a store gives, and the "clean" image, which no step may look at.

    own: the stored image, which is the target, is noisy itself.
    """

    def __init__(self, length: int, *, own: bool = False, shift_hu: float = 0.0) -> None:
        self.length, self.own, self.shift_hu = length, own, shift_hu

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        clean = anatomy(item)
        stored = clean + noise(4, item) if self.own else clean
        beside = stored.copy()
        beside[: SIDE // 2] += self.shift_hu
        images = {
            "input": stored + noise(2, item),
            "partner": beside + noise(3, item),
            "target": stored,
            "clean": clean,
        }
        return {name: torch.from_numpy(image[None]) for name, image in images.items()}


def learns(
    step: str, folder: Path, *, data: Noisy, skip: bool = True, **arguments: Any
) -> tuple[list[float], NDArray[np.float64]]:
    """The losses, and the outputs' mean square error against clean images not trained on, as a
    share of the inputs', by upper and lower half of the rows."""
    redcnn = run_data()["model"]
    model = {**redcnn, "args": {**redcnn["args"], "channels": 8, "input_skip": skip}}
    config = run_config(
        step={"target": f"{STEPS}.{step}", "args": arguments},
        model=model,
        normalize_hu={"scale": 200},
        train=tiny_train(iterations=ITERATIONS, batch=8, lr=5e-3, log_every=1),
    )
    losses: list[float] = []
    network = train(
        config,
        data,
        folder=folder,
        log=lambda metrics, number: losses.append(metrics["loss"]),
        data_digest="d",
    )
    unseen = [data[data.length - 1 - number] for number in range(8)]
    with torch.inference_mode():
        output = network(torch.stack([item["input"] for item in unseen]))
    clean = torch.stack([item["clean"] for item in unseen])
    before = torch.stack([item["input"] for item in unseen]) - clean
    halves = (output - clean).square().reshape(8, 2, -1).mean(dim=(0, 2))
    return losses, (halves / before.square().mean()).double().numpy()


def noisy(**how: Any) -> Noisy:
    """Enough items for a training, and 8 that it does not see."""
    return Noisy(ITERATIONS * 8 + 8, **how)


@pytest.mark.parametrize(
    ("step", "arguments", "below"),
    [
        ("noise2noise.Noise2Noise", {"residual": True}, 0.2),
        ("neighbour_slice.Neighbour", {"residual": True}, 0.2),
        # Hidden pixels teach slowly: one in twenty counts.
        ("blind_spot.BlindSpot", {"hidden_radius": 0, "share_hidden": 0.05}, 0.4),
    ],
    ids=["noise2noise", "neighbour", "blind spot"],
)
def test_it_learns_from_noisy_images_alone(
    tmp_path: Path, step: str, arguments: dict[str, Any], below: float
) -> None:
    skip = arguments.get("residual", False)
    losses, error = learns(step, tmp_path, data=noisy(), skip=skip, **arguments)
    assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:10])
    assert error.max() < below, "of the noise's energy, on images never seen"


def test_mirrored_noise_removes_the_stored_images_own_noise_too(tmp_path: Path) -> None:
    """Draws share that noise, so that it is learnt; mirrored images are independent."""
    shared = learns(
        "noise2noise.Noise2Noise", tmp_path / "draw", data=noisy(own=True), residual=True
    )[1]
    mirrored = learns(
        "noise2noise.Noise2Noise",
        tmp_path / "mirror",
        data=noisy(own=True),
        residual=True,
        mirror_dose=0.5,
    )[1]
    assert shared.min() > 0.25, "half of the noise is the stored image's own, and half of it stays"
    assert mirrored.max() < 0.6 * shared.min()


def test_where_the_slice_beside_differs_nothing_is_learnt_from_it(tmp_path: Path) -> None:
    """Upper half of the rows: other anatomy, 300 HU brighter."""
    changed = noisy(shift_hu=300)
    naive = learns("noise2noise.Noise2Noise", tmp_path / "naive", data=changed, residual=True)[1]
    chosen = learns(
        "neighbour_slice.Neighbour", tmp_path / "chosen", data=changed, residual=True, similar_hu=80
    )[1]
    assert naive[0] > 1, "a plain mean of the neighbours ruins it"
    assert chosen.max() < 0.3


def built(kind: type, **arguments: Any) -> tuple[Any, torch.nn.Module]:
    """A step around RED-CNN of 4 channels."""
    config = run_config(normalize_hu={"scale": 100})
    network = build_model(config)
    settings = Train(iterations=4, device="cpu")
    return kind(network, build_loss(config.loss), settings, **arguments), network


def batch_of(count: int = 2, **images: torch.Tensor) -> dict[str, torch.Tensor]:
    items = [Noisy(count)[n] for n in range(count)]
    return {name: torch.stack([i[name] for i in items]) for name in items[0]} | images


def gradient(network: torch.nn.Module) -> torch.Tensor:
    parts = [weights.grad.flatten() for weights in network.parameters()]
    network.zero_grad()
    return torch.cat(parts)


@pytest.mark.parametrize("kind", [Noise2Noise, Neighbour, BlindSpot])
def test_the_clean_image_is_never_looked_at(kind: type) -> None:
    step, network = built(kind)
    batch = batch_of()
    start = step.state_dict()
    step.backward(batch, share=1.0)
    expected = gradient(network)
    step.load_state_dict(start)
    del batch["target"], batch["clean"]
    step.backward(batch, share=1.0)
    assert torch.equal(gradient(network), expected)
    assert expected.abs().max() > 0


def test_the_mirrored_target_has_the_noise_the_other_way() -> None:
    """At a quarter of the dose the inserted noise has three times the variance of the image's
    own; a third of it, turned round, makes the two independent."""
    step, _ = built(Noise2Noise, mirror_dose=0.25)
    batch = batch_of()
    inserted = batch["input"] - batch["target"]
    expected = batch["target"] - inserted / 3
    torch.testing.assert_close(step._partner_hu(batch), expected)


@pytest.mark.parametrize("kind", [Noise2Noise, Neighbour])
def test_a_missing_partner_is_named(kind: type) -> None:
    step, _ = built(kind)
    batch = batch_of()
    del batch["partner"]
    with pytest.raises(ConfigError, match=r"data\.partner"):
        step.backward(batch, share=1.0)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Noise2Noise, {"mirror_dose": 1.0}),
        (BlindSpot, {"share_hidden": 0.0}),
        (BlindSpot, {"reach": 2, "hidden_radius": 2}),
        (Neighbour, {"window": 4}),
        (Neighbour, {"similar_hu": 0}),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind: type, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|must"):
        built(kind, **arguments)


@pytest.mark.parametrize("radius", [0, 1, 2])
def test_a_hidden_pixel_never_replaces_itself_or_its_like(radius: int) -> None:
    """Each pixel holds its own place: the replacement must come from elsewhere, at the rims too."""
    step, _ = built(BlindSpot, hidden_radius=radius, reach=4)
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    for _ in range(20):
        there = step._from_around((100 * rows + columns)[None, None])[0, 0]
        row, column = there // 100, there % 100
        distance = torch.maximum((row - rows).abs(), (column - columns).abs())
        assert distance.min() > radius
        assert distance.max() <= 4


def test_the_loss_counts_in_the_chosen_pixels_alone() -> None:
    """A mean over them, whatever lies elsewhere."""
    step, network = built(Neighbour, similar_hu=80, window=1)
    batch = batch_of()
    batch["partner"] = batch["input"] + 20
    batch["partner"][..., ::2] += 1000
    logged = step.backward(batch, share=1.0)
    assert logged["similar_fraction"] == pytest.approx(0.5)
    with torch.inference_mode():
        error = network(batch["input"]) - batch["input"] - 20
    expected = (error[..., 1::2] / network.scale).square().mean()
    assert logged["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_a_batch_without_a_similar_pixel_teaches_nothing() -> None:
    step, network = built(Neighbour)
    batch = batch_of()
    batch["partner"] = batch["input"] + 1000
    assert step.backward(batch, share=1.0)["loss"] == 0
    assert float(gradient(network).abs().max()) == 0


def test_a_blind_spot_training_can_be_resumed() -> None:
    """The hidden pixels are drawn by the step's own generator, which its state holds."""
    step, _ = built(BlindSpot)
    batch = batch_of()
    state = step.state_dict()
    first = [step.backward(batch, share=1.0)["loss"] for _ in range(2)]
    assert first[0] != first[1]
    step.load_state_dict(state)
    torch.manual_seed(99)
    assert [step.backward(batch, share=1.0)["loss"] for _ in range(2)] == first


def partners(
    path: Path, *, slices: int = 3, noise_hu: float = 0.0, **data: Any
) -> tuple[Any, RunConfig]:
    store = tiny_store(path, slices=slices)
    config = run_config(data={"patch": [32, 32], **data})
    add_inputs(store, config, noise_hu=noise_hu)
    return store, config


def test_a_partner_is_another_draw_of_the_same_patch(tmp_path: Path) -> None:
    store, config = partners(
        tmp_path, partner="draw", realisations=3, noise_scale=[0.5, 2], noise_hu=1
    )
    for key in store.records():
        for draw in range(3):
            # The noise of draw d is (d + 1) times what it lies on: a factor tells the draw.
            image_hu = store.load(key).image_hu
            store.save_degraded(
                key, degradation_digest(config, draw), image_hu + (draw + 1) * (image_hu / 10 + 7)
            )
    dataset = PatchPairs(store, sorted(store.records()), config, 60)
    ratios = set()
    for item in map(dataset.__getitem__, range(60)):
        inserted = [item[name] - item["target"] for name in ("input", "partner")]
        ratio = inserted[1] / inserted[0]
        assert float(ratio.std()) < 1e-2, "cut, turned and scaled alike"
        ratios.add(round(float(ratio.mean()), 2))
    assert ratios == {2.0, 3.0, 1.5, 0.5, 0.33, 0.67}, "every pair of two draws, never one twice"


def test_a_partner_is_the_slice_above_or_below(tmp_path: Path) -> None:
    store, config = partners(tmp_path, partner="neighbour", noise_scale=[0.5, 2])
    for key in store.records():
        image_hu = store.load(key).image_hu
        steps = 10 * np.arange(3, dtype=np.float32)[:, None, None] ** 2
        store.save_degraded(key, degradation_digest(config, 0), image_hu + steps)
    dataset = PatchPairs(store, ["s-0"], config, 60)
    seen = set()
    for item in map(dataset.__getitem__, range(60)):
        assert item["partner"].shape == item["input"].shape == (1, 32, 32)
        own, beside = (float((item[n] - item["target"]).mean()) for n in ("input", "partner"))
        seen.add((own > 0, beside > own))
    # Noise of 0, 10 and 40 HU by slice, each pair scaled by one factor: next to 0 lies more,
    # next to 40 less, next to 10 both.
    assert seen == {(False, True), (True, False), (True, True)}


def test_without_a_partner_items_are_as_they_were(tmp_path: Path) -> None:
    store, config = partners(tmp_path, noise_hu=20)
    assert set(PatchPairs(store, ["s-0"], config, 1)[0]) == {"input", "target"}


def test_single_slices_have_no_neighbour(tmp_path: Path) -> None:
    store, config = partners(tmp_path, slices=1, partner="neighbour")
    with pytest.raises(NothingUsableError, match="two slices"):
        PatchPairs(store, ["s-0"], config, 1)


def test_two_draws_need_two_realisations() -> None:
    with pytest.raises(ConfigError, match="realisations"):
        run_config(data={"partner": "draw"})


@pytest.mark.parametrize("name", ["noise2noise", "noise2noise_mirror", "blind_spot", "neighbour"])
def test_the_configuration_takes_a_step_on_its_own_items(tmp_path: Path, name: str) -> None:
    full = load_config(CONFIGS / f"denoise_{name}.yaml")
    raw = full.resolved()
    raw["data"]["patch"] = [32, 32]
    raw["train"] |= {"iterations": 1, "batch": 2, "device": "cpu", "precision": "fp32"}
    raw["model"]["args"]["channels"] = 4
    config = parse_config(raw)
    store = tiny_store(tmp_path / "store", patients=2)
    add_inputs(store, config, noise_hu=30)
    logged: list[dict[str, float]] = []
    train(
        config,
        PatchPairs(store, ["s-0", "s-1"], config, 2),
        folder=tmp_path,
        log=lambda metrics, number: logged.append(metrics),
        data_digest="d",
    )
    assert np.isfinite(logged[0]["loss"])
    assert logged[0]["loss"] > 0
    assert logged[0].get("similar_fraction", 1.0) > 0.5


def test_the_loss_counts_the_chosen_pixels_and_not_those_hidden_around_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pixels at the rim of a hidden square have visible neighbours that share their noise."""
    step, _ = built(BlindSpot, share_hidden=0.01, hidden_radius=1)
    counted: list[torch.Tensor] = []

    def descend(output_hu: torch.Tensor, target_hu: torch.Tensor, counts: torch.Tensor, **_: float):
        counted.append(counts)
        return {}

    monkeypatch.setattr(step, "descend", descend)
    step.backward({"input": torch.randn(4, 1, 64, 64)}, share=1.0)
    assert counted[0].float().mean().item() == pytest.approx(0.01, rel=0.3)
