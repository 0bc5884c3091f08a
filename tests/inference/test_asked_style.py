"""The style that pictures are drawn in: of a picture, drawn by a number, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from helpers.restore import drawing, run
from PIL import Image as PillowImage
from typer.testing import CliRunner

from flows.cli.app import app
from flows.pictures import apply_to_pictures
from pipeline.core.errors import ConfigError
from pipeline.export.pictures import export_picture
from pipeline.inference.restore import restored, restored_levels
from pipeline.inference.style import asked_style, picture_style
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.restorer import Restorer

LABELS = {"target": "image_to_labels", "args": {"edges": [128], "values": [64, 192], "sigma": 1}}
OF_COLOUR = {"target": "chain", "args": {"parts": [{"target": "grey"}, LABELS]}}


def model_of(*, style: int = 2, side: int | None = None) -> Restorer:
    args = {"values": [64, 192], "centre": 127.5, "scale": 127.5, "channels": [8, 8], "outputs": 3}
    torch.manual_seed(0)
    restoration = {"source": "pictures", "colour": "rgb", "training_side": side}
    model = build_model(
        run(
            OF_COLOUR,
            colour="rgb",
            model={"target": "spade_generator", "args": args | {"style": style}},
            restoration=restoration,
            step={"target": "paired_adversarial", "args": {"residual": False}},
        )
    )
    assert isinstance(model, Restorer)
    return model.eval()


def saved(path: Path, levels: np.ndarray) -> Path:
    PillowImage.fromarray(np.moveaxis(levels, 0, -1).astype(np.uint8)).save(path)
    return path


def test_a_number_always_draws_the_same_style_and_another_number_another() -> None:
    model = model_of()
    first = asked_style(model, "3")
    assert first.shape == (1, 2)
    assert torch.equal(asked_style(model, "3"), first)
    assert not torch.equal(asked_style(model, "4"), first)


def test_a_picture_has_its_style(tmp_path: Path) -> None:
    model = model_of()
    paths = [saved(tmp_path / f"{n}.png", drawing(n)) for n in range(2)]
    one, other = (asked_style(model, str(path)) for path in paths)
    assert torch.equal(one, picture_style(model, drawing(0).astype(np.uint8).astype(np.float32)))
    assert not torch.equal(one, other)


def test_a_large_picture_is_made_as_small_as_those_of_the_training() -> None:
    """Or its texture would be finer or coarser than any that was seen."""
    small, whole = model_of(side=64), model_of()
    large = np.kron(drawing(0), np.ones((1, 4, 4), dtype=np.float32))
    wanted = picture_style(whole, drawing(0))
    distances = [float((picture_style(one, large) - wanted).abs().max()) for one in (small, whole)]
    assert distances[0] < distances[1]


@pytest.mark.parametrize("asked", ["", "-1", "1.5", "not-there.png", 30 * "9"])
def test_what_is_neither_is_refused_by_name(asked: str) -> None:
    with pytest.raises(ConfigError, match=f"--style {asked}: neither"):
        asked_style(model_of(), asked)


def test_a_model_of_one_style_refuses_a_style() -> None:
    with pytest.raises(ConfigError, match="one style"):
        asked_style(model_of(style=0), "3")


def test_a_grey_picture_has_no_colours_to_take(tmp_path: Path) -> None:
    PillowImage.fromarray(drawing(0)[0].astype(np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(ConfigError, match=r"grey\.png: a grey picture has no colour"):
        asked_style(model_of(), str(tmp_path / "grey.png"))


def test_slices_are_not_taken_for_the_colours_of_one_picture(tmp_path: Path) -> None:
    stack = nibabel.Nifti1Image(np.moveaxis(drawing(0), 0, -1), np.eye(4))
    nibabel.save(stack, tmp_path / "three.nii.gz")
    with pytest.raises(ConfigError, match="NIfTI"):
        asked_style(model_of(), str(tmp_path / "three.nii.gz"))


def test_a_strip_is_not_made_smaller_than_a_pixel() -> None:
    strip = np.full((3, 4, 4000), 90, dtype=np.float32)
    assert picture_style(model_of(side=64), strip).shape == (1, 2)


def test_frames_of_a_stack_have_the_style(tmp_path: Path) -> None:
    """Each slice of a NIfTI file is drawn of itself and its neighbours, in the style asked for."""
    torch.manual_seed(0)
    args = {"values": [64, 192], "centre": 127.5, "scale": 127.5, "channels": [8, 8]}
    model = build_model(
        run(
            LABELS,
            model={"target": "spade_generator", "args": args | {"style": 2, "frames": 3}},
            restoration={"source": "moving", "neighbours": 1},
            step={"target": "adversarial_frames", "args": {"residual": False}},
        )
    ).eval()
    assert isinstance(model, Restorer)
    stack = np.stack([drawing(seed)[0] for seed in range(4)], axis=-1).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(stack, np.eye(4)), tmp_path / "in.nii.gz")
    drawn = {}
    for name, style in (("mean", None), ("one", model.drawn_style(1)), ("same", None)):
        export_picture(model, tmp_path / "in.nii.gz", tmp_path / f"{name}.nii.gz", style=style)
        drawn[name] = nibabel.load(tmp_path / f"{name}.nii.gz").get_fdata()
    assert np.array_equal(drawn["mean"], drawn["same"])
    for place in range(4):
        assert not np.array_equal(drawn["mean"][..., place], drawn["one"][..., place])


def test_a_model_of_ct_refuses_a_style(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source, out = str(tmp_path / "in"), str(tmp_path / "out")
    command = ["apply", "swift@pretrained", source, "--out", out, "--style", "3"]
    found = CliRunner().invoke(app, command)
    assert isinstance(found.exception, ConfigError)
    assert "--style 3: swift@pretrained is no model of pictures" in str(found.exception)


def test_every_picture_of_a_folder_has_the_one_style(tmp_path: Path) -> None:
    """So that frames of a sequence do not change colours; and it is another one than the mean."""
    model, source = model_of(), tmp_path / "in"
    source.mkdir()
    for name in ("a.png", "b.png"):
        saved(source / name, drawing(0))
    for style, out in ((None, "mean"), ("1", "drawn")):
        apply_to_pictures(model, source, tmp_path / out, style=style)
    shown = {
        (out, name): np.asarray(PillowImage.open(tmp_path / out / name))
        for out in ("mean", "drawn")
        for name in ("a.png", "b.png")
    }
    assert np.array_equal(shown["drawn", "a.png"], shown["drawn", "b.png"])
    assert not np.array_equal(shown["drawn", "a.png"], shown["mean", "a.png"])
    report = json.loads((tmp_path / "drawn" / "report.json").read_text())
    assert [row["style"] for row in report["exported"]] == ["1", "1"]
    levels = drawing(0).astype(np.uint8).astype(np.float32)
    again = restored_levels(model, levels, style=model.drawn_style(1))
    assert np.abs(np.moveaxis(shown["drawn", "a.png"], -1, 0) - again).max() <= 0.51


def test_pieces_of_a_large_picture_have_the_style_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen = model_of(), []
    monkeypatch.setattr("pipeline.inference.restore.MAX_PIXELS", 32 * 32)
    monkeypatch.setattr("pipeline.inference.restore.PIECE", 32)
    model.network.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    style = model.drawn_style(5)
    restored(model, drawing(0)[:1], style=style)
    assert len(seen) > 1
    assert all(torch.equal(one, style) for one in seen)
