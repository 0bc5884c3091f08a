"""Pictures and CT volumes as compressed files of a VQ-VAE, and back. Lossy: not for diagnosis."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.task_runs import GenerateRun
from pipeline.core.atomic_files import replacing
from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.json_numbers import finite
from pipeline.core.refusals import Refusal, Unreadable
from pipeline.core.types import Json
from pipeline.core.volume import Volume, even_origins_mm
from pipeline.dicom.read.volume import read_volume
from pipeline.generative.codec import Codec
from pipeline.generative.compressed_file import SUFFIX, CompressedFile, Header
from pipeline.io.discover import Source
from pipeline.io.nifti_reader import PLACE_TOLERANCE_MM
from pipeline.io.picture_files import PNG, PictureFile, read_picture, write_picture
from pipeline.io.volume_files import Air, read_image
from pipeline.io.volume_writer import off_grid_mm, write_voxels
from pipeline.metrics.image import psnr_db
from pipeline.models.adapters.base import HUModel
from pipeline.models.adapters.card import LoadedModel, ModelCard

NIFTI_SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Compressor:
    """A registered VQ-VAE with its codec."""

    codec: Codec
    card: ModelCard
    config: GenerateRun

    @classmethod
    def of(cls, loaded: LoadedModel) -> Compressor:
        """Raises ConfigError for a model that has no code book."""
        model, config = loaded.model, loaded.config
        if not isinstance(config, GenerateRun) or not isinstance(model, HUModel):
            raise ConfigError(
                f"{loaded.card.uri} is for the task {config.task}: compressing takes a "
                "VQ-VAE, such as configs/vqvae_ct.yaml trains"
            )
        return cls(Codec(model), loaded.card, config)

    @property
    def takes_ct(self) -> bool:
        """Whether it learned from CT in HU, and not from pictures."""
        return self.config.generation.source == "series"

    def header(self, volume: Volume | None, stages: int | None = None) -> Header:
        """Of a CT volume's file, or of a picture's; stages: as write takes them."""
        found = {
            "model": self.card.uri,
            "weights_sha256": self.card.weights_sha256,
            "kind": "picture" if volume is None else "ct",
            "affine_lps": None if volume is None else volume.affine_lps.tolist(),
            "stages": None if self.codec.stages == 1 else stages or self.codec.stages,
        }
        return Header.model_validate(found)

    def require_stages(self, stages: int | None) -> None:
        """Raises ConfigError where the model has fewer stages, or `stages` is 0."""
        if stages is not None and not 1 <= stages <= self.codec.stages:
            raise ConfigError(
                f"--stages {stages}: {self.card.uri} has {self.codec.stages} (model.args.stages)"
            )

    def write(
        self,
        images: NDArray[np.float32],
        volume: Volume | None,
        path: Path,
        *,
        stages: int | None = None,
    ) -> Json:
        """Compress images [count, rows, columns] into a file, whole or not at all; returns its row
        of a report. PSNR is the mean over images, in the run's first window, after expanding.

        volume: where they are of CT. stages: how many of the model's the file holds; all by
        default. Raises LdctError for a file that exists and holds something else.
        """
        files = tuple(self.codec.compress(image, stages) for image in images)
        content = CompressedFile(self.header(volume, stages), files).to_bytes()
        with replacing(path) as partial:
            partial.write_bytes(content)
            if path.exists() and not filecmp.cmp(path, partial, shallow=False):
                raise LdctError(f"{path} exists and holds something else; choose another --out")
        name, window = self.config.first_window
        psnrs = [
            psnr_db(self.codec.expand(file), image, window)
            for file, image in zip(files, images, strict=True)
        ]
        return {
            "images": len(images),
            "stages": stages or self.codec.stages,
            "bytes": len(content),
            "bits_per_pixel": 8 * len(content) / images.size,
            "window": name,
            "psnr_db": finite(float(np.mean(psnrs))),
        }


def compress_picture(
    compressor: Compressor, source: Path, to: Path, *, stages: int | None = None
) -> Json:
    """A grey picture's file. Raises Unreadable for one that the file could not keep."""
    picture = read_picture(source)
    if len(picture.levels) != 1:
        raise Unreadable("in colour, or of several slices: these models know grey pictures alone")
    if picture.alpha is not None:
        raise Unreadable("its transparency would be lost: save it without an alpha channel")
    if picture.orientation != 1:
        reason = "its EXIF orientation would be lost: save it upright"
        raise Unreadable(reason, "orientation", str(picture.orientation))
    return compressor.write(picture.levels, None, to, stages=stages)


def compress_volume(
    compressor: Compressor, source: Source, to: Path, *, air: Air, stages: int | None = None
) -> tuple[Json, list[Refusal]]:
    """A CT volume's file, and the slices that could not be decoded.

    HU outside the window that the model learned in are cut off. Raises LdctError where slices are
    not evenly spaced.
    """
    refusals: list[Refusal] = []
    if isinstance(source, Path):
        volume = read_image(source, air=air)
    else:
        reading = read_volume(source)
        volume, refusals = reading.volume, list(reading.refusals)
    off_mm = off_grid_mm(volume.affine_lps, volume.slice_origins_mm)
    if off_mm > PLACE_TOLERANCE_MM:
        raise LdctError(
            f"slices are not evenly spaced: up to {off_mm:.3g} mm off, {PLACE_TOLERANCE_MM:g} mm "
            "are allowed, and the file holds one distance; resample the series"
        )
    clip = compressor.config.generation.clip
    image_hu = np.asarray(volume.image_hu, np.float32)
    seen = image_hu if clip is None else image_hu.clip(clip.low_hu, clip.high_hu)
    return compressor.write(seen, volume, to, stages=stages), refusals


#: The compressor of a model reference and the SHA-256 of its weights.
FindCompressor = Callable[[str], Compressor]


def expand_file(
    find: FindCompressor, source: Path, folder: Path, *, stages: int | None = None
) -> Json:
    """The picture (PNG) or CT volume (NIfTI, HU) of a compressed file, in a folder; returns its row
    of a report.

    find: the compressor of a model by its reference. stages: how many of the file's are read, for a
    coarser image; all by default. Raises LdctError for a damaged file, where it holds fewer stages,
    and where the model is not the one that made it.
    """
    found = CompressedFile.from_bytes(source.read_bytes())
    compressor = find(found.header.model)
    if compressor.card.weights_sha256 != found.header.weights_sha256:
        raise LdctError(
            f"made with weights {found.header.weights_sha256[:16]} of {found.header.model}, and "
            f"{compressor.card.uri} has {compressor.card.weights_sha256[:16]}: name its model"
        )
    images = np.stack([compressor.codec.expand(file, stages) for file in found.images])
    stem = source.name.removesuffix(SUFFIX)
    if found.header.kind == "picture":
        name = stem if stem.lower().endswith(PNG) else f"{stem}.png"
        picture = PictureFile(images, np.dtype(np.uint8))
        write_picture(picture, folder / name)
    else:
        name = f"{stem}{NIFTI_SUFFIX}"
        affine: NDArray[Any] = np.array(found.header.affine_lps)
        texts = {"descrip": f"lossy, by {found.header.model}; not for diagnosis"}
        origins_mm = even_origins_mm(affine, len(images))
        write_voxels(images, affine, origins_mm, folder / name, texts=texts)
    held = found.header.stages or 1
    return {"images": len(images), "stages": stages or held, "written": name}
