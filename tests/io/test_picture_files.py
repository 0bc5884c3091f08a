"""Pictures as files: depth, way up, alpha and place are kept; nothing is overwritten."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
import torch
from PIL import Image as PillowImage
from torch import nn

from flows.pictures import apply_to_pictures
from pipeline.config.load import parse_config
from pipeline.config.run import RunConfig
from pipeline.core.errors import ConfigError, LdctError, NothingUsableError
from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.io.picture_files import PictureFile, find_pictures, read_picture, write_picture
from pipeline.io.png_chunks import SIGNATURE, kept_chunks, put_chunks
from pipeline.models.adapters.restorer import Restorer, degradation_of

ORIENTATION = 274
UPSIDE_DOWN = 3


def pixels(*shape: int, depth: type = np.uint8) -> np.ndarray:
    top = np.iinfo(depth).max
    return np.random.default_rng(0).integers(0, top, shape, endpoint=True).astype(depth)


def written(path: Path, depth: type = np.uint8, channels: int = 1) -> np.ndarray:
    """A picture file of that kind at `path`; returns its pixels."""
    shape = (20, 30) if channels == 1 else (20, 30, channels)
    made = pixels(*shape, depth=depth)
    if path.suffix == ".tif":
        photometric = "minisblack" if channels == 1 else "rgb"
        tags = [(ORIENTATION, "H", 1, UPSIDE_DOWN, True)]
        tifffile.imwrite(path, made, photometric=photometric, extratags=tags)
    elif path.name.endswith(".nii.gz"):
        made = pixels(3, 20, 30, depth=depth)
        affine = np.diag([2.0, 3.0, 4.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(made.T, affine), path)
    elif depth is np.uint16 and channels > 1:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(made, isVector=True), str(path))
    else:
        exif = PillowImage.Exif()
        exif[ORIENTATION] = UPSIDE_DOWN
        PillowImage.fromarray(made).save(path, exif=exif, quality=95)
    return made


def stored(path: Path) -> np.ndarray:
    """The pixels of a file by a reader that is not ours where there is one."""
    if path.suffix == ".tif":
        return tifffile.imread(path)
    if path.name.endswith(".nii.gz"):
        return np.asanyarray(nibabel.load(path).dataobj).T
    if path.suffix == ".png":
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    with PillowImage.open(path) as image:
        return np.asarray(image)


LOSSLESS = [
    ("a.png", np.uint8, 1),
    ("a.png", np.uint8, 3),
    ("a.png", np.uint8, 4),
    ("a.png", np.uint16, 1),
    ("a.png", np.uint16, 3),
    ("a.tif", np.uint8, 1),
    ("a.tif", np.uint8, 3),
    ("a.tif", np.uint16, 1),
    ("a.tif", np.uint16, 3),
    ("a.nii.gz", np.uint8, 1),
    ("a.nii.gz", np.uint16, 1),
]


@pytest.mark.parametrize(("name", "depth", "channels"), LOSSLESS)
def test_a_picture_comes_back_bit_for_bit(
    name: str, depth: type, channels: int, tmp_path: Path
) -> None:
    source, to = tmp_path / name, tmp_path / "out" / name
    made = written(source, depth, channels)
    picture = read_picture(source)
    assert picture.levels.dtype == np.float32
    assert 0 <= picture.levels.min() < 20
    assert 235 < picture.levels.max() <= 255
    write_picture(picture, to)
    found = stored(to)
    assert found.dtype == depth
    np.testing.assert_array_equal(found, made)
    if name.endswith(".nii.gz"):
        np.testing.assert_allclose(nibabel.load(to).affine, np.diag([2.0, 3.0, 4.0, 1.0]))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_the_way_up_is_kept(name: str, tmp_path: Path) -> None:
    source, to = tmp_path / name, tmp_path / "out" / name
    written(source)
    write_picture(read_picture(source), to)
    for path in (source, to):
        with PillowImage.open(path) as image:
            assert image.getexif()[ORIENTATION] == UPSIDE_DOWN


def test_jpeg_stays_close_and_in_colour(tmp_path: Path) -> None:
    smooth = np.indices((40, 60)).sum(axis=0)
    made = np.stack([smooth, smooth + 60, 2 * smooth], axis=-1).astype(np.uint8)
    PillowImage.fromarray(made).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    write_picture(read_picture(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    assert np.abs(stored(tmp_path / "b.jpg").astype(float) - made).max() < 12


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    cases: dict[str, Any] = {}

    def pillow(name: str, mode: str, **options: Any) -> None:
        PillowImage.new(mode, (8, 8)).save(tmp_path / name, **options)

    pillow("palette.png", "P")
    pillow("cmyk.jpg", "CMYK")
    frames = [PillowImage.new("L", (8, 8), level) for level in (0, 9)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((8, 8), np.float32))
    tifffile.imwrite(
        tmp_path / "alpha.tif",
        np.zeros((8, 8, 4), np.uint8),
        photometric="rgb",
        extrasamples=["unassalpha"],
    )
    grey = PillowImage.fromarray(np.zeros((8, 8), np.uint16))
    grey.save(tmp_path / "grey16.png", transparency=0)
    frames[0].save(tmp_path / "anim.png", save_all=True, append_images=frames[1:])
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 2), np.int16), np.eye(4)), tmp_path / "ct.nii")
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    cases = {
        "palette.png": "convert it",
        "cmyk.jpg": "convert it",
        "pages.tif": "more than one",
        "float.tif": "8 or 16 bits",
        "alpha.tif": "alpha channel",
        "anim.png": "more than one",
        "grey16.png": "16 bits with transparency",
        "ct.nii": "source: series",
        "broken.jpg": "cannot be read as",
    }
    for name, message in cases.items():
        with pytest.raises(Unreadable, match=message):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_colour_that_png_calls_transparent_stays_transparent(
    channels: int, tmp_path: Path
) -> None:
    """Whatever a model makes of it: as an alpha channel, no longer as a colour."""
    made = written(tmp_path / "source.png", np.uint8, channels)
    key = made[3, 4]
    transparent = int(key) if channels == 1 else tuple(map(int, key))
    PillowImage.fromarray(made).save(tmp_path / "a.png", transparency=transparent)
    picture = read_picture(tmp_path / "a.png")
    expected = (made == key) if channels == 1 else (made == key).all(axis=-1)
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(picture.unknown, expected)
    write_picture(picture.with_levels(255 - picture.levels), tmp_path / "b.png")
    with PillowImage.open(tmp_path / "b.png") as image:
        found = np.asarray(image)
    np.testing.assert_array_equal(found[..., -1], np.where(expected, 0, 255))
    np.testing.assert_array_equal(found[..., :-1], 255 - made.reshape(20, 30, channels))


def test_a_transparent_colour_of_16_bits_stays_transparent(tmp_path: Path) -> None:
    made = written(tmp_path / "a.png", np.uint16, 3)
    key = made[3, 4].astype(">u2").tobytes()
    chunks = [(b"tRNS", key)]
    put_chunks(tmp_path / "a.png", chunks)
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.unknown, (made == made[3, 4]).all(axis=-1))
    write_picture(picture, tmp_path / "b.png")
    np.testing.assert_array_equal(stored(tmp_path / "b.png")[..., :3], made)
    np.testing.assert_array_equal(read_picture(tmp_path / "b.png").unknown, picture.unknown)


def test_few_grey_levels_have_their_transparent_one_at_its_stretched_level(tmp_path: Path) -> None:
    """Pillow stretches levels of 1, 2 and 4 bits to eight, but not the transparent one."""
    header = struct.pack(">LLBBBBB", 4, 1, 2, 0, 0, 0, 0)
    row = zlib.compress(bytes([0, 0b00011011]))  # levels 0, 1, 2, 3
    chunks = [(b"IHDR", header), (b"tRNS", b"\0\2"), (b"IDAT", row), (b"IEND", b"")]
    parts = [
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    (tmp_path / "a.png").write_bytes(SIGNATURE + b"".join(parts))
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.levels[0], [[0, 85, 170, 255]])
    np.testing.assert_array_equal(picture.unknown, [[False, False, True, False]])


CHUNKS = [
    (b"gAMA", struct.pack(">L", 45455)),
    (b"cHRM", struct.pack(">8L", *range(31270, 31278))),
    (b"pHYs", struct.pack(">LLB", 11811, 11811, 1)),
    (b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\3\0\0\0\0\0\0"),
]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_png_says_of_the_levels_is_kept(depth: type, channels: int, tmp_path: Path) -> None:
    made = written(tmp_path / "a.png", depth, channels)
    put_chunks(tmp_path / "a.png", CHUNKS)
    picture = read_picture(tmp_path / "a.png")
    assert picture.orientation == UPSIDE_DOWN
    write_picture(picture, tmp_path / "b.png")
    assert kept_chunks(tmp_path / "b.png") == CHUNKS
    np.testing.assert_array_equal(stored(tmp_path / "b.png"), made)
    with PillowImage.open(tmp_path / "b.png") as image:
        assert image.info["gamma"] == 0.45455
        assert np.round(image.info["dpi"]).tolist() == [300, 300]


@pytest.mark.parametrize(
    "options",
    [
        {"resolution": (300, 300), "resolutionunit": "INCH"},
        {"resolution": ((11811, 100), (5000, 7)), "resolutionunit": "CENTIMETER"},
        {"resolution": (4, 3), "resolutionunit": "NONE"},
    ],
)
def test_the_resolution_of_tiff_is_kept(options: dict[str, Any], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels(20, 30), **options)
    write_picture(read_picture(tmp_path / "a.tif"), tmp_path / "b.tif")
    tags = [296, 282, 283]
    found = []
    for name in ("a.tif", "b.tif"):
        with tifffile.TiffFile(tmp_path / name) as file:
            found.append([file.pages[0].tags[tag].value for tag in tags])
    assert found[0] == found[1]


def test_the_resolution_of_jpeg_is_kept(tmp_path: Path) -> None:
    PillowImage.fromarray(pixels(20, 30)).save(tmp_path / "a.jpg", dpi=(300, 150))
    write_picture(read_picture(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    with PillowImage.open(tmp_path / "b.jpg") as image:
        assert image.info["dpi"] == (300, 150)


def test_a_file_that_differs_is_never_overwritten(tmp_path: Path) -> None:
    picture = PictureFile(np.zeros((1, 4, 4), np.float32), np.dtype(np.uint8))
    write_picture(picture, tmp_path / "a.png")
    write_picture(picture, tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(LdctError, match="exists and holds something else"):
        write_picture(picture.with_levels(picture.levels + 9), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_pictures_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("b.PNG", "sub/a.jpeg", "c.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_pictures(tmp_path)] == ["b.PNG", "a.jpeg"]
    assert find_pictures(tmp_path / "b.PNG") == [tmp_path / "b.PNG"]


def test_what_is_no_picture_that_is_read_is_told(tmp_path: Path) -> None:
    for name in ("b.png", "anim.gif", "sub/pic.bmp", "pic.WEBP", "c.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    others: list[Refusal] = []
    find_pictures(tmp_path, others.append)
    reasons = {other.path.name: other.reason for other in others}
    assert set(reasons) == {"anim.gif", "pic.bmp", "pic.WEBP", "c.txt", ".hidden.png"}
    assert all("convert it to PNG" in reasons[name] for name in ("anim.gif", "pic.bmp", "pic.WEBP"))
    assert {other.disposition for other in others} == {Disposition.EXCLUDED}


# ldct apply on a folder


def config_of(degradation: dict[str, Any], colour: str = "grey") -> RunConfig:
    return parse_config(
        {
            "name": "tiny",
            "task": "restore",
            "restoration": {"source": "shipped", "colour": colour},
            "degradation": degradation,
            "model": {"target": "pipeline.models.adapters.base.Identity"},
            "normalize_hu": {"centre": 127.5, "scale": 127.5},
            "step": {"target": "pipeline.training.steps.supervised.Supervised"},
            "loss": {"target": "torch.nn.MSELoss"},
            "train": {"iterations": 1},
            "windows": {"levels": [127.5, 255]},
            "register": {"name": "tiny"},
        }
    )


class Inverse(nn.Module):
    """Black for white, `scale` times as large."""

    def __init__(self, channels: int = 1, scale: int = 1) -> None:
        super().__init__()
        self.channels, self.scale = channels, scale

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        large = image.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)
        return -large[:, : self.channels]


def inverting(degradation: dict[str, Any], network: nn.Module, colour: str = "grey") -> Restorer:
    config = config_of(degradation, colour)
    given = degradation_of(config)
    return Restorer(network, config=config, degradation=given, residual=False).eval()


NOISE = {"target": "pipeline.degradations.base.GaussianNoise", "args": {"sigma": 20}}
HALF = {"target": "pipeline.degradations.resolution.Downsample", "args": {"scale": 2}}
HOLE = {"target": "pipeline.degradations.holes.BoxHole"}


def test_a_folder_is_restored_under_the_same_names(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    made = {
        name: written(source / name, depth, channels)
        for name, depth, channels in (
            ("a.png", np.uint8, 3),
            ("sub/b.tif", np.uint16, 1),
            ("c.nii.gz", np.uint8, 1),
        )
    }
    (source / "broken.png").write_bytes(b"nothing")
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in find_pictures(source)}
    report = apply_to_pictures(inverting(NOISE, Inverse()), source, out)
    for name, was in made.items():
        np.testing.assert_array_equal(stored(out / name), np.iinfo(was.dtype).max - was)
    assert [row["file"] for row in report["quarantined"]] == ["broken.png"]
    assert {row["file"]: row["bits"] for row in report["exported"]} == {
        "a.png": 8,
        "c.nii.gz": 8,
        "sub/b.tif": 16,
    }
    assert json.loads((out / "report.json").read_text()) == report
    assert before == {p: hashlib.sha256(p.read_bytes()).digest() for p in find_pictures(source)}


def test_results_of_another_model_and_sources_are_never_overwritten(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "in" / "out"
    source.mkdir()
    written(source / "a.png")
    apply_to_pictures(inverting(NOISE, Inverse()), source, out)
    kept = (out / "a.png").read_bytes()
    # Again is harmless, and what was written is no source.
    assert apply_to_pictures(inverting(NOISE, Inverse()), source, out)["pictures"] == 1
    with pytest.raises(LdctError, match=r"1 pictures not exported.*exists"):
        apply_to_pictures(inverting(NOISE, nn.Identity()), source, out)
    assert (out / "a.png").read_bytes() == kept
    with pytest.raises(ConfigError, match="folder of the pictures"):
        apply_to_pictures(inverting(NOISE, Inverse()), source, source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingUsableError, match="no PNG"):
        apply_to_pictures(inverting(NOISE, Inverse()), tmp_path / "empty", out)


def test_more_pixels_take_the_alpha_channel_along(tmp_path: Path) -> None:
    made = written(tmp_path / "a.png", channels=4)
    model = inverting(HALF, Inverse(3, 2), "rgb")
    apply_to_pictures(model, tmp_path / "a.png", tmp_path / "out")
    found = stored(tmp_path / "out" / "a.png")
    assert found.shape == (40, 60, 4)
    np.testing.assert_array_equal(found[::2, 1::2, 3], made[..., 3])


def test_what_is_transparent_is_filled_and_the_rest_stays(tmp_path: Path) -> None:
    made = np.full((20, 30, 4), (200, 100, 50, 255), dtype=np.uint8)
    made[5:9, 5:9, 3] = 0
    PillowImage.fromarray(made).save(tmp_path / "a.png")
    model = inverting(HOLE, Inverse(3), "rgb")
    apply_to_pictures(model, tmp_path / "a.png", tmp_path / "out")
    found = stored(tmp_path / "out" / "a.png")
    known = made[..., 3] > 0
    np.testing.assert_array_equal(found[known], made[known])
    # The network turns what is around the hole into its negative.
    assert (found[~known][:, :3] == (55, 155, 205)).all()
