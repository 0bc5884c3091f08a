"""VQ-VAE against JPEG, JPEG 2000, WebP and AVIF, in bytes on disk, on CT slices and photographs.

Grey levels of 8 bits for all: CT in window 40/400. The VQ-VAE learns for MS-SSIM, by which all
are judged; PSNR stands beside it. Its weights are not counted, its header is. On photographs it is
that of configs/vqvae_photographs.yaml, whose stages are read one by one.
"""

from __future__ import annotations

import io
import lzma
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from generative_photographs import learned
from generative_training import Arrays, fit, picture_grid
from numpy.typing import NDArray
from PIL import Image

from pipeline.config.sections import Normalize, Train
from pipeline.core.units import SOFT_TISSUE, Window
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.generative.codec import Codec
from pipeline.losses.image import MultiScaleSSIM
from pipeline.metrics.image import psnr_db
from pipeline.metrics.perceptual import ms_ssim
from pipeline.models.vqvae import VQVAE
from pipeline.report.slice_images import grey_levels
from pipeline.training.steps.vector_quantised import VectorQuantised

GREYS = Window(127.5, 255)
LEVELS = Normalize(centre=127.5, scale=127.5)
TRAINING_CT = ("chest-ge-lidc0001", "abdomen-ge-crlm1004")
TEST_CT = "abdomen-ge-crlm1006"
TEST_EVERY = 5
#: Networks by what they keep: channels of each halving, codes in the book.
BOOKS: dict[str, dict[str, Any]] = {
    "VQ-VAE, 8 x 8 pixels, 1024 codes": {"channels": (32, 64, 64), "num_embeddings": 1024},
    "VQ-VAE, 8 x 8 pixels, 256 codes": {"channels": (32, 64, 64), "num_embeddings": 256},
    "VQ-VAE, 16 x 16 pixels, 256 codes": {"channels": (32, 64, 64, 64), "num_embeddings": 256},
}
QUALITIES = (1, 3, 5, 7, 9, 12, 15, 20, 25, 30)
RATIOS = (800, 400, 200, 130, 100, 80, 60, 50, 40, 30)
PATCH, BATCH = 112, 4
WEBP_QUALITIES = (0, 5, 10, 20, 30, 40, 50, 60, 70)
AVIF_QUALITIES = (1, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50)
KINDS = ("ct", "photographs")
ITERATIONS = 1500

Grey = NDArray[np.float32]
Way = Callable[[Grey], tuple[int, Grey]]
Curves = dict[str, list[dict[str, Any]]]


def compression(
    data: Path,
    work: Path,
    results: Path,
    iterations: int | None = None,
    kinds: Sequence[str] = KINDS,
    books: int = len(BOOKS),
) -> dict[str, Any]:
    """Points (bits a pixel, MS-SSIM, PSNR) of every way on images of those kinds.

    iterations: of each training, in place of its own. books: how many of BOOKS to train on CT.
    """
    figures = {}
    for kind in kinds:
        if kind == "ct":
            test, codecs = ct_codecs(data, work, iterations or ITERATIONS, books)
        else:
            found = learned(work / "compression-photographs", iterations)
            name = f"VQ-VAE, 8 x 8 pixels, {found.codec.stages} stages of 256 codes"
            test, codecs = found.test, {name: (found.codec, found.facts)}
        figures[kind] = of_kind(test, codecs, results / f"generative_compression_{kind}.png")
    return figures


def of_kind(
    test: list[Grey], codecs: dict[str, tuple[Codec, dict[str, Any]]], picture: Path
) -> Curves:
    """The points of every way on the test images; a cut from one of them, by each, as a picture."""
    curves: Curves = {
        name: [point(lambda image, s=s, way=way: way(image, s), test) for s in settings]
        for name, (way, settings) in REFERENCES.items()
    }
    shown, rates = [test[len(test) // 2]], []
    for name, (codec, facts) in codecs.items():
        curves[name] = []
        for stages in range(1, codec.stages + 1):
            found = point(lambda image, c=codec, n=stages: round_trip(c, image, n), test) | facts
            found |= {"stages": stages} if codec.stages > 1 else coded(codec, test)
            for other in REFERENCES:
                found[f"{other}_ms_ssim"] = at_rate(curves[other], found)
                found[f"{other}_bits_at_equal_ms_ssim"] = at_equal_ms_ssim(curves[other], found)
            curves[name].append(found)
            shown.append(round_trip(codec, shown[0], stages)[1])
            rates.append(found["bits_per_pixel"])
    shown += [nearest(*way, shown[0], rate=rates[0]) for way in REFERENCES.values()]
    cut = [image[128:384, 128:384] for image in shown]
    picture_grid([cut], picture, low=0, high=255)
    return curves


def ct_codecs(
    data: Path, work: Path, iterations: int, books: int
) -> tuple[list[Grey], dict[str, tuple[Codec, dict[str, Any]]]]:
    """The test slices, and codecs of the first few of BOOKS with how they learned."""
    training, test = ct(data)
    codecs = {}
    for name, options in list(BOOKS.items())[:books]:
        slug = f"ct-{2 ** len(options['channels'])}-{options['num_embeddings']}"
        codec, seconds = book(training, options, iterations, work / f"compression-{slug}")
        codecs[name] = codec, {"cpu_seconds": seconds, "iterations": iterations}
    return test, codecs


def ct(data: Path) -> tuple[list[Grey], list[Grey]]:
    """Slices in window 40/400 as grey levels: two patients to learn from, every fifth of one."""

    def greys(name: str) -> list[Grey]:
        (series,) = find_series(data / "ct" / name, intake=IngestOptions()).series
        image_hu = read_volume(series).volume.image_hu
        return [grey_levels(one, SOFT_TISSUE).astype(np.float32) for one in image_hu]

    return [one for name in TRAINING_CT for one in greys(name)], greys(TEST_CT)[::TEST_EVERY]


def book(
    training: list[Grey], options: dict[str, Any], iterations: int, folder: Path
) -> tuple[Codec, float]:
    """A codec learnt from patches of the training images, and the seconds it took, in all runs
    that came to an end."""
    settings = Train(
        iterations=iterations,
        batch=BATCH,
        lr=1e-3,
        warmup=50,
        clip_gradient_norm=1.0,
        device="cpu",
        precision="fp32",
        checkpoint_every=100,
    )
    items = Arrays(training, length=iterations * BATCH, patch=PATCH)
    began, kept = time.process_time(), folder / "cpu_seconds"
    before = float(kept.read_text()) if kept.exists() else 0.0
    model, _ = fit(
        lambda: VQVAE(**options),
        lambda model, train: VectorQuantised(model, MultiScaleSSIM(), train),
        items,
        settings,
        LEVELS,
        folder,
    )
    seconds = before + time.process_time() - began
    kept.write_text(f"{seconds:.0f}")
    return Codec(model), seconds


def point(way: Way, test: list[Grey]) -> dict[str, float]:
    """A way's means over the test images: bits a pixel of the whole file, MS-SSIM, PSNR."""
    found = [(image, *way(image)) for image in test]
    return {
        "bits_per_pixel": float(np.mean([8 * size / image.size for image, size, _ in found])),
        "ms_ssim": float(np.mean([ms_ssim(back, image, GREYS) for image, _, back in found])),
        "psnr_db": float(np.mean([psnr_db(back, image, GREYS) for image, _, back in found])),
    }


def round_trip(codec: Codec, image: Grey, stages: int) -> tuple[int, Grey]:
    """Through a real file of so many stages: its bytes, and what they expand to, as grey levels."""
    file = codec.compress(image, stages)
    return len(file), np.rint(codec.expand(file).clip(0, 255))


def coded(codec: Codec, test: list[Grey]) -> dict[str, float]:
    """The same codes by other coders, bits a pixel; and their entropy, one by one."""
    whole = np.min_scalar_type(codec.network.follows.shape[2] - 1)
    codes = [codec.codes(image)[0].astype(whole) for image in test]
    pixels = sum(image.size for image in test)
    counts = np.bincount(np.concatenate([each.ravel() for each in codes]))
    shares = counts[counts > 0] / counts.sum()
    return {
        "zlib": sum(8 * len(zlib.compress(each.tobytes(), 9)) for each in codes) / pixels,
        "lzma": sum(8 * len(lzma.compress(each.tobytes())) for each in codes) / pixels,
        "entropy_of_single_codes": float(-(counts[counts > 0] * np.log2(shares)).sum() / pixels),
        "eight_bits_a_code": 8 * sum(each.size for each in codes) / pixels,
    }


def jpeg(image: Grey, quality: int) -> tuple[int, Grey]:
    """Pillow's (libjpeg), progressive and with its own Huffman tables: the smaller files."""
    return _pillow(image, "JPEG", quality=quality, optimize=True, progressive=True)


def jpeg_2000(image: Grey, ratio: float) -> tuple[int, Grey]:
    """OpenJPEG's codestream without the container, irreversible wavelet."""
    return _pillow(
        image,
        "JPEG2000",
        quality_mode="rates",
        quality_layers=[ratio],
        irreversible=True,
        no_jp2=True,
    )


def webp(image: Grey, quality: int) -> tuple[int, Grey]:
    """libwebp's lossy coder at its slowest method; a grey picture has flat chroma."""
    return _pillow(image, "WEBP", quality=quality, method=6)


def avif(image: Grey, quality: int) -> tuple[int, Grey]:
    """libavif with its usual effort, as grey (4:0:0)."""
    return _pillow(image, "AVIF", quality=quality, speed=6, subsampling="4:0:0")


def _pillow(image: Grey, form: str, **options: Any) -> tuple[int, Grey]:
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(file, form, **options)
    size = file.tell()
    file.seek(0)
    return size, np.asarray(Image.open(file).convert("L"), dtype=np.float32)


#: Coders to compare with, and their settings from the smallest files on.
REFERENCES: dict[str, tuple[Callable[[Grey, Any], tuple[int, Grey]], tuple[int, ...]]] = {
    "JPEG": (jpeg, QUALITIES),
    "JPEG 2000": (jpeg_2000, RATIOS),
    "WebP": (webp, WEBP_QUALITIES),
    "AVIF": (avif, AVIF_QUALITIES),
}


def at_rate(curve: list[dict[str, Any]], found: dict[str, Any]) -> float | None:
    """A curve's MS-SSIM at the rate of another point, on a line; None beyond its rates."""
    rates = [each["bits_per_pixel"] for each in curve]
    order = np.argsort(rates)
    if not min(rates) <= found["bits_per_pixel"] <= max(rates):
        return None
    values = np.array([each["ms_ssim"] for each in curve])
    return float(np.interp(found["bits_per_pixel"], np.array(rates)[order], values[order]))


def at_equal_ms_ssim(curve: list[dict[str, Any]], found: dict[str, Any]) -> float | None:
    """A curve's bits a pixel at the MS-SSIM of another point, on a line; None beyond it."""
    points = sorted(curve, key=lambda each: each["ms_ssim"])
    values = [each["ms_ssim"] for each in points]
    if not values[0] <= found["ms_ssim"] <= values[-1]:
        return None
    return float(np.interp(found["ms_ssim"], values, [each["bits_per_pixel"] for each in points]))


def nearest(
    way: Callable[[Grey, Any], tuple[int, Grey]], settings: tuple, image: Grey, *, rate: float
) -> Grey:
    """What a way makes of an image at the setting whose file is nearest to the rate."""
    tried = [way(image, setting) for setting in settings]
    return min(tried, key=lambda one: abs(8 * one[0] / image.size - rate))[1]
