"""`ldct compress` and `ldct expand`, as a user meets them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from conftest import Ended
from helpers.dicom import write_series
from PIL import Image
from pydicom import Dataset

from flows.tracking.registration import NewVersion, register
from flows.tracking.registry import Registry
from pipeline.config.load import parse_config
from pipeline.core.errors import LdctError
from pipeline.core.verdicts import Verdict
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.evaluation.generation import GenerationOverall, GenerationResult
from pipeline.generative.codec import Codec
from pipeline.generative.compressed_file import CompressedFile
from pipeline.models.adapters.base import build_model
from pipeline.models.adapters.generative import Generative

pytestmark = pytest.mark.usefixtures("own_registry")

OF_CT: dict[str, Any] = {
    "name": "coder",
    "task": "generate",
    "data": {"patch": [16, 16]},
    "generation": {"source": "series", "clip": [0, 2000]},
    "model": {
        "target": "vqvae",
        "args": {"channels": [4, 4], "num_embeddings": 16, "embedding_dim": 4, "num_res_layers": 1},
    },
    "normalize_hu": {"centre": 0, "scale": 1000},
    "step": {"target": "vector_quantised"},
    "loss": {"target": "pipeline.losses.image.MultiScaleSSIM"},
    "train": {"iterations": 1},
    "windows": {"wide": [0, 2000]},
    "register": {"name": "coder"},
}
OF_PICTURES = OF_CT | {
    "generation": {"source": "photographs"},
    "normalize_hu": {"centre": 127.5, "scale": 127.5},
    "windows": {"grey": [127.5, 255]},
}

STAGED = OF_PICTURES | {
    "model": {"target": "vqvae", "args": OF_CT["model"]["args"] | {"stages": 2}},
}


def registered(config: dict[str, Any], seed: int = 0) -> Generative:
    """A new version of a VQ-VAE whose code books hold what they are given."""
    torch.manual_seed(seed)
    parsed, registry = parse_config(config), Registry.default()
    model = build_model(parsed).eval()
    assert isinstance(model, Generative)
    with torch.no_grad():
        sample = torch.rand(1, 1, 64, 64) * 2 - 1
        # Later stages too: what an untrained encoder leaves is less than a grey level.
        given = model.network.encode(sample).movedim(1, -1).flatten(0, -2)
        for stage, book in enumerate(model.network.books):
            book.quantizer.embedding.weight.copy_(given[stage::16][:16])
        model.network.count(model.network.codes(sample))
    with registry.run(parsed, data_digest="0" * 64) as run:
        figures = GenerationResult(overall=GenerationOverall(), patients={})
        register(registry, run, NewVersion(model, parsed, "0" * 64, figures, Verdict(checks=())))
    return model


def test_ct_comes_back_in_its_place_as_the_model_makes_it(
    ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    model = registered(OF_CT)
    write_series(tmp_path / "ct", 3)
    (series,) = find_series(tmp_path / "ct").series
    volume = read_volume(series).volume
    small = tmp_path / "small"

    done = ldct("compress", "coder/1", tmp_path / "ct", "--out", small, "--json")
    assert done.code == 0, done.err
    (row,) = done.json["exported"]
    path = small / row["file"]
    assert (row["bytes"], row["images"]) == (path.stat().st_size, 3)
    assert row["file"] == f"{row['series']}.ldctvq"

    done = ldct("expand", small, "--out", tmp_path / "large", "--json")
    assert done.code == 0, done.err
    (row,) = done.json["exported"]
    image = nibabel.load(tmp_path / "large" / row["file"])
    codec = Codec(model)
    seen = volume.image_hu.clip(-1000, 1000)
    expected = np.stack([codec.expand(codec.compress(each)) for each in seen])
    np.testing.assert_allclose(np.asarray(image.dataobj).T, expected, atol=0.01)
    ras = np.diag([-1, -1, 1, 1]) @ volume.affine_lps
    assert image.affine == pytest.approx(ras, abs=1e-4)
    assert b"not for diagnosis" in image.header["descrip"].item()


@pytest.mark.parametrize(("off_mm", "code"), [(0.005, 0), (0.05, 1)])
def test_a_slice_may_lie_as_far_off_as_where_its_place_is_written_again(
    off_mm: float, code: int, ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    """0.01 mm, as the NIfTI that `ldct expand` writes."""
    registered(OF_CT)

    def moved(dataset: Dataset, index: int) -> None:
        if index == 1:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, float(z) + off_mm]

    write_series(tmp_path / "ct", 3, edit=moved)
    done = ldct("compress", "coder/1", tmp_path / "ct", "--out", tmp_path / "small")
    assert done.code == code, done.err
    if code:
        assert "up to 0.05 mm off, 0.01 mm are allowed" in " ".join(done.err.split())


def test_what_is_damaged_or_of_other_weights_is_left_out_by_name(
    ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    registered(OF_CT)
    write_series(tmp_path / "ct", 2)
    small = tmp_path / "small"
    assert ldct("compress", "coder/1", tmp_path / "ct", "--out", small).code == 0
    (good,) = small.glob("*.ldctvq")
    damaged = bytearray(good.read_bytes())
    damaged[-20] ^= 1
    (small / "damaged.ldctvq").write_bytes(damaged)
    (small / "cut.ldctvq").write_bytes(good.read_bytes()[:-9])
    (small / "other.ldctvq").write_bytes(b"\x89PNG")

    done = ldct("expand", small, "--out", tmp_path / "large", "--json")
    assert done.code == 4, done.err
    assert [row["source_file"] for row in done.json["exported"]] == [good.name]
    reasons = {row["file"]: row["reason"] for row in done.json["failed"]}
    assert "checksum" in reasons["damaged.ldctvq"]
    assert "checksum" in reasons["cut.ldctvq"]
    assert "no file of `ldct compress`" in reasons["other.ldctvq"]

    registered(OF_CT, seed=1)
    done = ldct("expand", good, "--out", tmp_path / "o", "--model", "coder/2")
    assert done.code == 1
    assert "made with weights" in done.err
    done = ldct("compress", "redcnn@pretrained", tmp_path / "ct", "--out", tmp_path / "o")
    assert done.code == 2
    assert "VQ-VAE" in done.err


def test_grey_pictures_come_back_and_what_the_file_cannot_keep_is_refused(
    ldct: Callable[..., Ended], tmp_path: Path
) -> None:
    registered(OF_PICTURES)
    folder = tmp_path / "pictures" / "a"
    folder.mkdir(parents=True)
    levels = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)
    Image.fromarray(levels).save(folder / "grey.png")
    Image.fromarray(levels).convert("RGB").save(folder / "colour.png")
    Image.fromarray(levels).convert("LA").save(folder / "transparent.png")
    upright = Image.Exif()
    upright[274] = 6
    Image.fromarray(levels).save(folder / "turned.jpg", exif=upright)

    done = ldct("compress", "coder/1", tmp_path / "pictures", "--out", tmp_path / "s", "--json")
    assert done.code == 4, done.err
    assert [row["file"] for row in done.json["exported"]] == ["a/grey.png.ldctvq"]
    reasons = {row["file"]: row["reason"] for row in done.json["quarantined"]}
    assert "colour" in reasons["a/colour.png"]
    assert "transparency" in reasons["a/transparent.png"]
    assert "orientation" in reasons["a/turned.jpg"]

    done = ldct("expand", tmp_path / "s", "--out", tmp_path / "l", "--json")
    assert [row["file"] for row in done.json["exported"]] == ["a/grey.png"]
    back = Image.open(tmp_path / "l" / "a" / "grey.png")
    assert (back.size, back.mode) == ((56, 40), "L")

    # The same again is the same; another picture of that name is not written over.
    again = ldct("compress", "coder/1", tmp_path / "pictures", "--out", tmp_path / "s")
    assert again.code == 4
    Image.fromarray(255 - levels).save(folder / "grey.png")
    shutil.rmtree(tmp_path / "l")
    other = ldct("compress", "coder/1", tmp_path / "pictures", "--out", tmp_path / "s", "--json")
    assert "something else" in other.json["failed"][0]["reason"]


def test_fewer_stages_are_written_and_read(ldct: Callable[..., Ended], tmp_path: Path) -> None:
    model = registered(STAGED)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    levels = np.random.default_rng(0).integers(0, 256, (40, 56), dtype=np.uint8)
    Image.fromarray(levels).save(pictures / "grey.png")

    def compressed(*stages: object) -> bytes:
        out = tmp_path / f"small{len(list(tmp_path.glob('small*')))}"
        done = ldct("compress", "coder/1", pictures, "--out", out, "--json", *stages)
        assert done.code == 0, done.err
        assert done.json["exported"][0]["stages"] == (stages[1] if stages else 2)
        return (out / "grey.png.ldctvq").read_bytes()

    def expanded(small: str, *stages: object) -> np.ndarray:
        out = tmp_path / f"large{len(list(tmp_path.glob('large*')))}"
        done = ldct("expand", tmp_path / small, "--out", out, "--json", *stages)
        assert done.code == 0, done.err
        assert done.json["exported"][0]["stages"] == (stages[1] if stages else int(small[5:]) or 2)
        return np.asarray(Image.open(out / "grey.png"))

    both, one = compressed(), compressed("--stages", 1)
    assert len(one) < len(both)
    assert both.startswith(b"LDCTVQ2\n")
    assert CompressedFile.from_bytes(one).header.stages == 1
    coarse, whole = expanded("small0", "--stages", 1), expanded("small0")
    np.testing.assert_array_equal(expanded("small1"), coarse)
    seen = levels.astype(np.float32)
    for found, stages in ((coarse, 1), (whole, 2)):
        expected = Codec(model).image(Codec(model).codes(seen)[:stages], seen.shape)
        np.testing.assert_array_equal(found, np.rint(expected.clip(0, 255)))
    assert not np.array_equal(coarse, whole)

    done = ldct("expand", tmp_path / "small1", "--out", tmp_path / "o", "--stages", 2)
    assert done.code == 1
    assert "holds 1 stages: 2 cannot be read" in " ".join(done.err.split())
    done = ldct("compress", "coder/1", pictures, "--out", tmp_path / "o", "--stages", 3)
    assert done.code == 2
    assert "--stages 3: models:/coder/1 has 2" in " ".join(done.err.split())


def test_a_header_of_another_version_is_said_to_be_one() -> None:
    with pytest.raises(LdctError, match="no file of"):
        CompressedFile.from_bytes(b"")
    with pytest.raises(LdctError, match="damaged"):
        CompressedFile.from_bytes(b"LDCTVQ1\n")
    with pytest.raises(LdctError, match="of version 3: a later version of ldct"):
        CompressedFile.from_bytes(b"LDCTVQ3\n and what it holds")
