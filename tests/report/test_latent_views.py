"""What `ldct latent` shows, and what it refuses to call synthetic CT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from helpers.images import body_slice, disc, tiny_train, volume_of
from PIL import Image

from flows.latent import load_generator
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError
from pipeline.data.images import resampled
from pipeline.evaluation.generation import stored_images
from pipeline.generative import latent_images as latent_grids
from pipeline.generative.latent_images import MARKING, RECONSTRUCTED, ImageGrid, RealImages
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.generative import Generative
from pipeline.report.generation import alarm_shares, report_grids, write_generation
from pipeline.report.latent_views import (
    LatentRequest,
    plot_codes,
    view,
    write_view,
)
from pipeline.store.store import Store


def run(**changes: Any) -> RunConfig:
    """A conditional VAE of CT slices at 16 x 16, told whether lungs show."""
    return parse_config(
        {
            "name": "tiny",
            "task": "generate",
            "generation": {"image_size": [16, 16], "label": "lungs"},
            "model": {
                "target": "pipeline.models.vae.DenseVAE",
                "args": {"image_size": [16, 16], "latents": 3, "hidden": [8], "labels": 2},
            },
            "normalize_hu": {"centre": -500, "scale": 500},
            "step": {"target": "pipeline.training.steps.variational.Variational"},
            "train": tiny_train(),
            "windows": {"wide": [0, 2000]},
            "register": {"name": "tiny"},
        }
        | changes
    )


def unconditional() -> RunConfig:
    """The same, whose codes hold whether lungs show."""
    args = {"image_size": [16, 16], "latents": 3, "hidden": [8]}
    return run(model={"target": "pipeline.models.vae.DenseVAE", "args": args})


def made(config: RunConfig) -> Generative:
    torch.manual_seed(0)
    model = build_model(config).eval()
    assert isinstance(model, Generative)
    return model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two patients; the second slice of each shows no lung."""
    store = Store(tmp_path_factory.mktemp("store"))
    chest = body_slice(512)
    belly = np.where(chest > -999, 40.0, chest)
    chest[disc(chest.shape, 120)] = -850.0
    for number in range(2):
        image_hu = np.stack([chest, belly]) + number
        store.add(volume_of(image_hu), key=f"s-{number}", patient=f"p-{number}")
    store.record_split({"p-0": "train", "p-1": "test"})
    return store


@pytest.mark.parametrize("name", ["sample", "interpolate", "traverse"])
def test_without_a_store_what_is_drawn_is_synthetic_and_of_the_seed(name: str) -> None:
    config = run()
    model = made(config)
    grid = view(name, model, config, None, LatentRequest(count=3, steps=5))
    assert grid.marking == MARKING
    assert grid.images.shape[1:] == (16, 16)
    rows = {"sample": 3, "interpolate": 15, "traverse": 15}
    assert len(grid.images) == rows[name]
    again = view(name, model, config, None, LatentRequest(count=3, steps=5))
    other = view(name, model, config, None, LatentRequest(count=3, steps=5, seed=1))
    np.testing.assert_array_equal(again.images, grid.images)
    assert not np.allclose(other.images, grid.images)


def test_a_sample_is_of_the_label_asked_for() -> None:
    config = run()
    model = made(config)
    both = view("sample", model, config, None, LatentRequest(count=4)).images
    ones = view("sample", model, config, None, LatentRequest(count=4, label=1)).images
    np.testing.assert_array_equal(ones[1], both[1])
    assert not np.allclose(ones[0], both[0])
    with pytest.raises(ConfigError, match="labels are 0 to 1"):
        view("sample", model, config, None, LatentRequest(label=2))


def test_samples_like_stored_images_lie_where_their_codes_lie_label_by_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two clouds of codes, far from the prior and from each other."""
    model = made(run())
    labels = torch.arange(60) % 2
    codes = torch.randn(60, 3, generator=torch.Generator().manual_seed(1)) * 0.1
    codes[:, 0] += torch.where(labels == 1, 40.0, -40.0)
    known = RealImages(torch.zeros(60, 1, 16, 16), labels)
    monkeypatch.setattr(RealImages, "codes", lambda self, model: codes)
    decoded: list[torch.Tensor] = []
    decode = latent_grids.latent.decode
    monkeypatch.setattr(
        latent_grids.latent, "decode", lambda m, c, told: decoded.append(c) or decode(m, c, told)
    )
    asked = torch.tensor([0, 1, 1, 0])
    grid = latent_grids.samples_like(model, known, asked, seed=0)
    assert grid.marking == MARKING
    first = decoded[0][:, 0]
    assert (first.sign() == torch.tensor([-1, 1, 1, -1])).all()
    assert ((first.abs() - 40).abs() < 1).all()
    assert decoded[0][:, 0].unique().numel() == 4, "drawn, not copied"
    few = RealImages(known.images[:21], labels[:21])
    monkeypatch.setattr(RealImages, "codes", lambda self, model: codes[: len(self.labels)])
    with pytest.raises(ConfigError, match="11 images of label 0 in the store: too few"):
        latent_grids.samples_like(model, few, asked, seed=0)


@pytest.mark.parametrize("name", ["reconstruct", "interpolate", "traverse", "arithmetic"])
def test_what_starts_from_patients_images_says_so(name: str, store: Store) -> None:
    config = unconditional()
    wanted = LatentRequest(count=1, steps=3, attribute="lungs")
    grid = view(name, made(config), config, store, wanted)
    assert grid.marking == RECONSTRUCTED
    if name == "reconstruct":
        # Of the patient held back, who is one HU brighter.
        at_size = resampled(store.load("s-1").image_hu[0], (16, 16))
        np.testing.assert_allclose(grid.images[0], at_size, atol=1e-2)


@pytest.mark.parametrize("name", ["reconstruct", "arithmetic"])
def test_a_view_of_images_needs_a_store(name: str) -> None:
    config = unconditional()
    with pytest.raises(ConfigError, match=f"latent {name}: give the --store"):
        view(name, made(config), config, None, LatentRequest(attribute="lungs"))


def test_traversals_begin_with_the_latent_that_varies_most(store: Store) -> None:
    config = run()
    model = made(config)
    network: Any = model.network
    with torch.no_grad():  # the second latent alone hangs on the image
        network.encoder.output.weight[[0, 2]] = 0
        network.encoder.output.weight[1] = 3.0
        network.decoder.hidden_0[0].weight[:, 0] = 0.0
        network.decoder.hidden_0[0].weight[:, 1] = 5.0
    grid = view("traverse", model, config, store, LatentRequest(count=3, steps=3))
    change = [np.abs(row[-1] - row[0]).mean() for row in grid.images.reshape(3, 3, 16, 16)]
    assert change[0] == max(change)


def test_a_conditional_model_goes_between_two_images_of_one_label(store: Store) -> None:
    """The held-back patient has one of each."""
    with pytest.raises(ConfigError, match="no two of one label"):
        view("interpolate", made(run()), run(), store, LatentRequest(count=1))


def test_an_attribute_is_a_list_of_slices_that_the_store_has(store: Store, tmp_path: Path) -> None:
    config = unconditional()
    model = made(config)

    def show(text: str) -> ImageGrid:
        listed = tmp_path / "nodules.csv"
        listed.write_text(text, encoding="utf-8")
        return view(
            "arithmetic", model, config, store, LatentRequest(count=1, attribute=str(listed))
        )

    by_hand = show("s-0,1\ns-1,1\n")
    by_lungs = view("arithmetic", model, config, store, LatentRequest(count=1, attribute="lungs"))
    np.testing.assert_array_equal(by_hand.images, by_lungs.images)
    for text, told in (
        ("s-0,9\n", "no slice 9 of s-0"),
        ("s-0\n", "series,slice"),
        ("", "without"),
    ):
        with pytest.raises(ConfigError, match=told):
            show(text)
    for wrong in ("nothing", "label=3"):
        with pytest.raises(ConfigError, match=r"attribute|labels"):
            view("arithmetic", model, config, store, LatentRequest(attribute=wrong))


def test_synthetic_ct_is_written_of_random_codes_alone(store: Store, tmp_path: Path) -> None:
    config = run()
    model = made(config)
    told = {"made_by": "tiny v1", "seed": 0}
    drawn = view("sample", model, config, None, LatentRequest(count=3))
    paths = write_view(drawn, "sample", tmp_path, config, dicom=True, nifti=True, **told)
    assert [path.name for path in paths] == [
        "sample.png",
        "synthetic-sample",
        "synthetic-sample.nii.gz",
    ]
    assert "tiny v1" in Image.open(paths[0]).text["Description"]
    slices = sorted(paths[1].iterdir())
    assert len(slices) == 3
    assert pydicom.dcmread(slices[0]).SyntheticData == "YES"
    np.testing.assert_allclose(np.asarray(nibabel.load(paths[2]).dataobj).T, drawn.images)
    known = view("reconstruct", model, config, store, LatentRequest(count=1))
    with pytest.raises(ConfigError, match="random codes"):
        write_view(known, "reconstruct", tmp_path, config, dicom=True, **told)
    digits = run(generation={"source": "digits", "image_size": [16, 16], "label": "lungs"})
    with pytest.raises(ConfigError, match="grey levels"):
        write_view(drawn, "sample", tmp_path, digits, nifti=True, **told)


def test_a_network_that_only_draws_has_no_codes_of_images(store: Store) -> None:
    config = run(
        model={
            "target": "pipeline.models.gan.Generator",
            "args": {"latent": 4, "size": 16, "channels": 4},
        },
    )
    model = made(config)
    with pytest.raises(ConfigError, match="has no codes"):
        view("interpolate", model, config, store, LatentRequest())
    assert (
        len(view("interpolate", model, config, None, LatentRequest(count=2, steps=4)).images) == 8
    )
    with pytest.raises(ConfigError, match="no space of codes"):
        load_generator("redcnn@pretrained")


def test_a_plot_shows_the_codes_of_the_store(store: Store, tmp_path: Path) -> None:
    config = run()
    plot_codes(made(config), config, store, tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").width > 300


def test_nonsense_is_refused() -> None:
    for wrong in ({"count": 0}, {"steps": 1}):
        with pytest.raises(ConfigError, match="at least 1 by 2"):
            LatentRequest(**wrong)


# The page of a run


def test_the_page_says_when_a_game_went_wrong(store: Store, tmp_path: Path) -> None:
    curve = [
        {"iteration": n, "loss": -1.0, "diversity": 0.1, "collapse_alarm": float(n > 1)}
        for n in range(4)
    ]
    assert alarm_shares(curve) == {"collapse_alarm": 0.5}
    assert alarm_shares([{"iteration": 1, "loss": 1.0}]) == {}
    config = run()
    model = made(config)
    grids = report_grids(model, *stored_images(store, ["s-1"], config), config)
    assert set(grids) == {"reconstructions", "samples", "traversals"}  # no two of one label
    grids = report_grids(model, *stored_images(store, ["s-0", "s-1"], config), config)
    assert set(grids) == {"reconstructions", "samples", "interpolations", "traversals"}
    report = {
        "name": "tiny",
        "task": "generate",
        "model": {"name": "tiny", "version": 1, "uri": "models:/tiny/1"},
        "metrics": {
            "overall": {"images": 2, "windows": {"wide": {"psnr": 20.0, "ssim": 0.5}}},
            "patients": {},
        },
        "gate": {"passed": True, "checks": []},
    }
    page = tmp_path / "report.html"
    write_generation(report, grids, config, curve=curve, path=page)
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert "collapse alarm: set in 50" in text
    assert "20.0 dB" in text
    assert "ldct latent sample models:/tiny/1" in text
    assert "ldct apply" not in text
    for name in grids:
        assert (tmp_path / f"{name}.png").exists()
