"""Generative runs: their YAMLs, their pictures, what is measured of a model, and the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import body_slice, tiny_train, volume_of
from torch import nn

from pipeline.config.component import build
from pipeline.config.load import load_config, parse_config
from pipeline.config.names import current_path
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import installation_key
from pipeline.core.units import Window
from pipeline.core.verdicts import Verdict
from pipeline.evaluation.gates import judge_generation
from pipeline.evaluation.generation import (
    GenerationOverall,
    ImageFigures,
    PcaFigures,
    evaluate_generation,
    reconstructions,
)
from pipeline.evaluation.latent import pca_reconstruction, reconstruction_figures
from pipeline.evaluation.samples import SampleFigures
from pipeline.ingest.bundled_pictures import digits, store_pictures
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.generative import Generative
from pipeline.models.autoencoder import DenseAutoencoder
from pipeline.store.store import Store
from pipeline.tasks.base import task_of
from pipeline.training.loop import train
from pipeline.training.steps.base import Step

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
GENERATIVE = [path for path in CONFIGS if load_config(path).task == "generate"]
#: Too large for a step in a test: they are the same parts in other numbers.
STEPPED = [path for path in GENERATIVE if not path.stem.endswith("_gpu")]
ONE_STEP = [
    "train.iterations=1",
    "train.batch=2",
    "train.device=cpu",
    "train.precision=fp32",
    "train.workers=0",
]


@pytest.fixture(scope="module")
def digit_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("digits"))
    store_pictures("digits", store, lambda what, done, total: None)
    store.record_split({f"digits-{n}": "test" if n < 2 else "train" for n in range(10)})
    return store


@pytest.fixture(scope="module")
def ct_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three patients of 128 x 128, who differ in brightness; one with lungs."""
    store = Store(tmp_path_factory.mktemp("ct"))
    for number in range(3):
        slices = np.stack([body_slice(128) + 5 * number + index for index in range(4)])
        store.add(volume_of(slices), key=f"s-{number}", patient=f"p-{number}")
    store.record_split({"p-0": "test", "p-1": "train", "p-2": "train"})
    return store


def run(**changes: Any) -> RunConfig:
    """A run on digits, with a linear autoencoder of ten codes."""
    return parse_config(
        {
            "name": "tiny",
            "task": "generate",
            "generation": {"source": "digits", "image_size": [8, 8], "samples": 300},
            "model": {
                "target": "pipeline.models.autoencoder.DenseAutoencoder",
                "args": {"image_size": [8, 8], "codes": 10, "hidden": []},
            },
            "normalize_hu": {"centre": 0, "scale": 16},
            "step": {
                "target": "pipeline.training.steps.supervised.Supervised",
                "args": {"residual": False},
            },
            "loss": {"target": "torch.nn.MSELoss"},
            "train": tiny_train(),
            "windows": {"grey": [8, 16]},
            "register": {"name": "tiny"},
        }
        | changes
    )


# The configurations


@pytest.mark.parametrize("path", GENERATIVE, ids=lambda path: path.stem)
def test_every_configuration_builds_at_full_size_and_keeps_its_step(path: Path) -> None:
    config = load_config(path)
    assert parse_config(config.resolved()) == config
    model = build_model(config)
    assert isinstance(model, Generative)
    assert current_path(config.step.target).startswith("pipeline.training.steps.")
    if path not in STEPPED:
        return
    given = torch.zeros(2, *(64 if side == -1 else side for side in model.input_shape[1:]))
    with torch.inference_mode():
        drawn = model.eval()(given)
    assert drawn.shape[:2] == (2, 1)
    wanted = model.output_shape[2:]
    assert tuple(drawn.shape[2:]) == tuple(64 if side == -1 else side for side in wanted)


@pytest.mark.parametrize("path", STEPPED, ids=lambda path: path.stem)
def test_one_step_of_every_configuration_moves_the_weights(
    path: Path, tmp_path: Path, digit_store: Store, ct_store: Store
) -> None:
    config = load_config(path, ONE_STEP)
    assert config.generation is not None
    takes_ct = config.generation.source in ("series", "photographs")
    store = ct_store if takes_ct else digit_store
    keys = sorted(store.records())
    logged: list[dict[str, float]] = []
    model = train(
        config,
        task_of(config).training_data(store, keys, config, 2),
        folder=tmp_path,
        log=lambda metrics, step: logged.append(metrics),
        data_digest=store.data_digest(keys),
    )
    assert np.isfinite(logged[-1]["loss"])
    torch.manual_seed(config.train.seed)
    fresh = build_model(config).state_dict()
    assert any(not torch.equal(fresh[name], w) for name, w in model.state_dict().items())


def test_a_section_of_another_task_and_a_missing_one_are_named() -> None:
    with pytest.raises(ConfigError, match="convention: not for the task generate"):
        run(convention="ldct")
    with pytest.raises(ConfigError, match="generation: say which images"):
        run(generation=None)
    silent = run(loss=None)
    given = {"model": build_model(silent), "settings": silent.train}
    with pytest.raises(ConfigError, match="loss"):
        build(silent.step, key="step", base=Step, **given)


# Pictures


def test_every_digit_is_in_the_store_once_with_its_label(digit_store: Store) -> None:
    images, labels = [], []
    for key in sorted(digit_store.records()):
        volume = digit_store.load(key)
        images.append(np.asarray(volume.image_hu))
        labels += volume.provenance["labels"]
    found = sorted(zip(np.concatenate(images).reshape(-1, 64).tolist(), labels, strict=True))
    all_digits = digits()
    flat = np.stack(all_digits.images).reshape(-1, 64).tolist()
    assert found == sorted(zip(flat, all_digits.labels.tolist(), strict=True))


def test_pictures_are_stored_once_and_take_no_folder(digit_store: Store, tmp_path: Path) -> None:
    again = store_pictures("digits", digit_store, lambda what, done, total: None)
    assert [row.new for row in again.series] == [False] * 10
    key, store = installation_key(), Store(tmp_path)
    with pytest.raises(ConfigError, match=r"--data.*digits"):
        task_of(run()).ingest(tmp_path, store, run(), key=key)
    ct = run(generation={"source": "series", "image_size": [8, 8]})
    with pytest.raises(ConfigError, match="--data: name a folder"):
        task_of(ct).ingest(None, store, ct, key=key)


def test_what_lies_outside_the_window_is_cut_off(ct_store: Store) -> None:
    clipped = run(generation={"image_size": [64, 64], "clip": [40, 400]})
    item = task_of(clipped).training_data(ct_store, ["s-0"], clipped, 1)[0]
    assert float(item["target"].min()) == -160
    assert float(item["target"].max()) == 240


# What is measured


def test_pca_s_own_weights_are_as_good_as_pca(digit_store: Store) -> None:
    config = run()
    training = _images(digit_store, range(2, 10))
    model = build_model(config).eval()
    _set_to_pca(model.network, training / 16)
    found = evaluate_generation(model, digit_store, ["digits-0", "digits-1"], config).to_dict()
    overall = found["overall"]
    assert overall["windows"]["grey"]["psnr"] == pytest.approx(overall["pca"]["psnr"], abs=0.02)
    assert overall["images"] == 360
    assert {name: row["slices"] for name, row in found["patients"].items()} == {
        "digits-0": 180,
        "digits-1": 180,
    }
    truth = _images(digit_store, range(2))
    by_hand = reconstruction_figures(pca_reconstruction(training, truth, 10), truth, Window(8, 16))
    assert overall["pca"]["psnr"] == pytest.approx(by_hand.psnr, abs=0.02)
    # A plain autoencoder has no prior: nothing is drawn, nothing said of samples.
    assert "samples" not in overall
    assert "bound" not in overall


def _images(store: Store, sheets: range) -> np.ndarray:
    return np.concatenate([np.asarray(store.load(f"digits-{n}").image_hu) for n in sheets])


def _set_to_pca(network: nn.Module, images: np.ndarray) -> None:
    assert isinstance(network, DenseAutoencoder)
    flat = torch.from_numpy(images.reshape(len(images), -1)).double()
    mean = flat.mean(dim=0)
    directions = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:10]
    with torch.no_grad():
        network.encoder.output.weight.copy_(directions)
        network.encoder.output.bias.copy_(-directions @ mean)
        network.decoder.output.weight.copy_(directions.T)
        network.decoder.output.bias.copy_(mean)


class Playback(nn.Module):
    """A generator that gives back one of its images, chosen by the code."""

    latent_shape = (2,)
    image_size = (8, 8)

    def __init__(self, images: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("kept", torch.from_numpy(images / 16)[:, None])
        self.weight = nn.Parameter(torch.zeros(1))

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        chosen = (code[:, 0].abs() * 1e4).long() % len(self.kept)
        return self.kept[chosen] + 0 * self.weight


def drawn_by(network: nn.Module, store: Store, **limits: float) -> tuple[SampleFigures, Verdict]:
    config = run(
        generation={
            "source": "digits",
            "image_size": [8, 8],
            "label": "given",
            "samples": 300,
            "limits": limits,
        }
    )
    model = Generative(network, config=config).eval()
    overall = evaluate_generation(model, store, ["digits-0", "digits-1"], config).overall
    assert overall.samples is not None
    return overall.samples, judge_generation(overall, config)


def test_a_generator_that_plays_its_training_images_back_is_refused(digit_store: Store) -> None:
    training = _images(digit_store, range(2, 10))
    drawn, verdict = drawn_by(Playback(training), digit_store, max_copies=0.05)
    assert drawn.copies > 0.9
    # Compared with as many training images as are held back, a quarter of them all.
    assert 0.55 < drawn.nearer_to_training < 0.75
    assert not verdict.passed
    # As images they are as good and as varied as real ones, and of all ten classes.
    assert drawn.precision > 0.8
    assert drawn.recall > 0.8
    assert drawn.relative_diversity == pytest.approx(1, abs=0.05)
    assert drawn.classes_found == 10
    assert drawn.confident_share > 0.95, "the classifier knows its own digits"
    assert drawn.largest_class_share < 0.2


def test_a_generator_that_draws_one_image_is_refused(digit_store: Store) -> None:
    one = _images(digit_store, range(2))[:1]
    limits = {"min_diversity": 0.5, "max_copies": 1.0}
    drawn, verdict = drawn_by(Playback(one), digit_store, **limits)
    assert drawn.relative_diversity == pytest.approx(0, abs=1e-3)
    assert drawn.largest_class_share == 1
    assert [check.passed for check in verdict.checks] == [False, True]


def test_a_limit_on_what_was_not_measured_fails() -> None:
    asked = {"source": "digits", "image_size": [8, 8], "limits": {"min_precision": 0.1}}
    verdict = judge_generation(GenerationOverall(), run(generation=asked))
    assert verdict.to_dict() == {
        "passed": False,
        "checks": [
            {"check": "precision", "figure": None, "limit": ">= 0.1", "passed": False},
        ],
    }


def in_grey(psnr_db: float) -> ImageFigures:
    return ImageFigures(centre=8, width=16, psnr=psnr_db, ssim=0.9)


def test_what_cannot_draw_is_not_asked_for_copies() -> None:
    """Neither as written by its user nor as a flow hands it on, with every setting written out."""
    asked = {"source": "digits", "image_size": [8, 8], "limits": {"min_psnr_db": 10}}
    written = run(generation=asked)
    overall = GenerationOverall(windows={"grey": in_grey(12.0)})
    for config in (written, parse_config(written.resolved())):
        verdict = judge_generation(overall, config)
        assert [check.name for check in verdict.checks] == ["psnr db"]
        assert verdict.passed
    samples = SampleFigures(count=9, copies=0.5, nearer_to_training=0.5)
    drawn = judge_generation(overall.model_copy(update={"samples": samples}), written)
    assert not drawn.passed, "but what draws is"


def test_the_gain_on_pca_is_judged_by_the_first_window() -> None:
    asked = {"source": "digits", "image_size": [8, 8], "limits": {"min_psnr_above_pca_db": 0.5}}
    pca = PcaFigures(window="grey", psnr=18.0, ssim=0.9)
    overall = GenerationOverall(windows={"grey": in_grey(18.4)}, pca=pca)
    verdict = judge_generation(overall, run(generation=asked))
    assert verdict.checks[0].figure == pytest.approx(0.4)
    assert not verdict.passed


def test_a_denoising_autoencoder_is_judged_by_what_it_restores(digit_store: Store) -> None:
    degradation = {"target": "pipeline.degradations.base.GaussianNoise", "args": {"sigma": 4}}
    config = run(degradation=degradation)
    model = build_model(config).eval()
    _set_to_pca(model.network, _images(digit_store, range(2, 10)) / 16)
    overall = evaluate_generation(model, digit_store, ["digits-0"], config).to_dict()["overall"]
    # White noise of 4 of 16 grey levels, some of it cut off at black and white.
    assert 12 < overall["corrupted"]["grey"]["psnr"] < 15.5
    # Ten of 64 directions hold a sixth of the noise.
    assert overall["restored"]["grey"]["psnr"] > overall["corrupted"]["grey"]["psnr"] + 1.5


def test_a_conditional_network_gets_the_label_of_each_image(digit_store: Store) -> None:
    config = run(
        model={
            "target": "pipeline.models.vae.DenseVAE",
            "args": {"image_size": [8, 8], "latents": 2, "hidden": [8], "labels": 10},
        },
        step={"target": "pipeline.training.steps.variational.Variational"},
        loss=None,
        generation={"source": "digits", "image_size": [8, 8], "label": "given"},
    )
    torch.manual_seed(0)
    model = build_model(config).eval()
    image = _images(digit_store, range(1))[0]
    three, eight = (reconstructions(model, [image], np.array([label]))[0] for label in (3, 8))
    assert not np.allclose(three, eight)
    # The registered form draws the same from a code with the label behind it.
    code = torch.cat([torch.zeros(1, 2), torch.eye(10)[3:4]], dim=1)
    network: Any = model.network
    expected = model.in_hu(network.decode(torch.zeros(1, 2), torch.tensor([3])))
    torch.testing.assert_close(model(code), expected)


def test_a_generative_model_changes_no_series() -> None:
    task = task_of(run())
    assert not task.takes_series
