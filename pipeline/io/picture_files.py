"""Read and write pictures as PNG, JPEG, TIFF and NIfTI files, keeping depth and orientation.

Pixels are read and written in their stored order, with the EXIF orientation for display, profile,
gamma and resolution. A colour that PNG calls transparent becomes an alpha channel. What cannot be
kept is refused, not lost.
"""

from __future__ import annotations

import filecmp
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

from pipeline.core.atomic_files import replacing
from pipeline.core.errors import LdctError
from pipeline.core.folder_walk import FolderWalk, LeaveOut, let_go
from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.core.types import Picture
from pipeline.core.volume import even_origins_mm
from pipeline.io.colour import WHITE
from pipeline.io.image_formats import NIFTI
from pipeline.io.itk_reader import suffix_of
from pipeline.io.png_chunks import ALPHA, COLOUR, depth_of, kept_chunks, put_chunks
from pipeline.io.volume_files import read_stored, unreadable_as
from pipeline.io.volume_writer import write_voxels

PNG, JPEG, TIFF = (".png",), (".jpg", ".jpeg"), (".tif", ".tiff")
SUFFIXES = (*PNG, *JPEG, *TIFF, *NIFTI)
#: High enough that what JPEG loses is little beside what a network changes.
JPEG_QUALITY = 95
ORIENTATION = 274
#: Pillow's modes of grey and RGB pictures, some with an alpha channel, and their colour channels.
MODES = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "I;16": 1}
#: Formats that are not read: what is written back would be less than what was read, or other.
OTHER_PICTURES = (
    ".gif",
    ".bmp",
    ".webp",
    ".jp2",
    ".heic",
    ".heif",
    ".avif",
    ".ppm",
    ".pgm",
    ".svg",
)
#: TIFF's tags of pixels per unit of length, and of the unit, which is an inch by default.
RESOLUTION, RESOLUTION_UNIT, INCH = (282, 283), 296, 2


@dataclass(frozen=True)
class PictureFile:
    """A picture with its file's depth, alpha channel and metadata.

    levels: float32 [1 or 3, rows, columns], 0 to WHITE whatever the depth; of NIfTI each
    channel is a slice. depth: the file's integer type. alpha: as stored [rows, columns], or
    None. metadata: keyword arguments of the format's writer, such as `exif`.
    """

    levels: Picture
    depth: np.dtype[Any]
    alpha: NDArray[Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def unknown(self) -> NDArray[np.bool_] | None:
        """Where the picture is wholly transparent; None where it has no alpha channel."""
        return None if self.alpha is None else self.alpha == 0

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 to 8: how a viewer rotates the pixels; 1 where the file has none."""
        for tag, _, _, value, _ in self.metadata.get("extratags", ()):
            if tag == ORIENTATION:
                return int(value)
        exif = PillowImage.Exif()
        exif.load(self.metadata.get("exif", b""))
        return int(exif.get(ORIENTATION, 1))

    def with_levels(self, levels: Picture) -> PictureFile:
        """The file with other levels [channels, rows, columns]; an alpha channel is enlarged to
        their size."""
        if self.alpha is None or self.alpha.shape == levels.shape[1:]:
            return replace(self, levels=levels)
        grown = [new // old for new, old in zip(levels.shape[1:], self.alpha.shape, strict=True)]
        alpha = self.alpha.repeat(grown[0], axis=0).repeat(grown[1], axis=1)
        return replace(self, levels=levels, alpha=alpha)


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is of one of these formats."""
    return path.name.lower().endswith(SUFFIXES)


def find_pictures(root: Path, leave_out: LeaveOut = let_go) -> list[Path]:
    """All picture files below a folder, sorted, or the one file; hidden files are left out.

    leave_out: called with the Refusal of every other file, which is excluded.
    """
    files = [root] if root.is_file() else list(FolderWalk(root, "", leave_out).files())
    for path in files:
        if not is_picture(path):
            leave_out(Refusal(path, Disposition.EXCLUDED, _why_no_picture(path)))
    return sorted(path for path in files if is_picture(path))


def _why_no_picture(path: Path) -> str:
    if path.suffix.lower() in OTHER_PICTURES:
        return f"a picture as {path.suffix.lower()[1:].upper()} is not read: convert it to PNG"
    return "no picture by its name: PNG, JPEG, TIFF and NIfTI are read"


def read_picture(path: Path) -> PictureFile:
    """Read a picture file; raises Unreadable for a damaged one, and for anything but one picture
    of 8 or 16 bits in grey or RGB."""
    with unreadable_as(suffix_of(path), path):
        if path.name.lower().endswith(NIFTI):
            return _read_nifti(path)
        if path.name.lower().endswith(TIFF):
            return _read_tiff(path)
        return _read_by_pillow(path)


def write_picture(picture: PictureFile, path: Path) -> None:
    """Write whole or not at all, in the format of the path's suffix and the picture's depth.

    A file with the same content is replaced; raises LdctError for one with other content.
    """
    white = np.iinfo(picture.depth).max
    pixels = np.rint(np.clip(picture.levels / WHITE, 0, 1) * np.float64(white))
    stored = pixels.astype(picture.depth)
    with replacing(path) as partial:
        if path.name.lower().endswith(NIFTI):
            grid = picture.metadata["affine_lps"], picture.metadata["origins_mm"]
            write_voxels(stored, *grid, partial)
        elif path.name.lower().endswith(TIFF):
            tifffile.imwrite(partial, _last(stored), **_tiff_layout(stored), **picture.metadata)
        else:
            _write_by_pillow(stored, picture, partial)
        if path.exists() and not filecmp.cmp(path, partial, shallow=False):
            raise LdctError(f"{path} exists and holds something else; choose another folder")


def _levels(pixels: NDArray[Any]) -> Picture:
    """Levels [channels, rows, columns] of pixels [rows, columns] or [rows, columns, channels]."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise Unreadable("not of 8 or 16 bits", "depth", str(pixels.dtype))
    channels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return channels.astype(np.float32) * np.float32(WHITE / np.iinfo(pixels.dtype).max)


def _last(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[0] if len(pixels) == 1 else np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


def _read_by_pillow(path: Path) -> PictureFile:
    png = depth_of(path)
    with PillowImage.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise Unreadable("more than one picture in the file", "frames", frames)
        if image.mode not in MODES:
            raise Unreadable("not of grey levels or RGB: convert it", "mode", image.mode)
        kept = ("exif",) if png else ("exif", "icc_profile", "dpi")
        metadata: dict[str, Any] = {name: image.info[name] for name in kept if name in image.info}
        transparent = image.info.get("transparency")
        pixels = np.asarray(image)
    if png:
        metadata["chunks"] = kept_chunks(path)
    if png == (16, ALPHA) or (png == (16, 0) and transparent is not None):
        raise Unreadable("grey of 16 bits with transparency: convert it to RGBA", "colour type", 4)
    if png and png[0] == 16 and png[1] & COLOUR:
        # Pillow would drop half of the bits. ITK makes an alpha channel of a transparent colour.
        pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    elif transparent is not None and png:
        pixels = _with_alpha(pixels, transparent, bits=png[0])
    alpha = None
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return PictureFile(_levels(pixels), pixels.dtype, alpha, metadata)


def _with_alpha(
    pixels: NDArray[Any], transparent: int | tuple[int, ...], *, bits: int
) -> NDArray[Any]:
    """An alpha channel for the one grey level or colour that is transparent (PNG's tRNS chunk).

    bits: of the file's levels, which Pillow stretches to eight where they are fewer.
    """
    key = np.multiply(transparent, 255 // (2**bits - 1) if bits < 8 else 1)
    channels = pixels[..., None] if pixels.ndim == 2 else pixels
    opaque = (channels != key).any(axis=-1)
    alpha = np.where(opaque, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
    return np.dstack([channels, alpha])


def _write_by_pillow(stored: NDArray[Any], picture: PictureFile, path: Path) -> None:
    pixels = _last(stored)
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    metadata = dict(picture.metadata)
    chunks = metadata.pop("chunks", [])
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=True), str(path))
    elif path.name.lower().endswith(JPEG):
        metadata |= {"quality": JPEG_QUALITY, "subsampling": 0}
        PillowImage.fromarray(pixels).save(path, **metadata)
    else:
        PillowImage.fromarray(pixels).save(path, **metadata)
    if chunks:
        put_chunks(path, chunks)


def _read_tiff(path: Path) -> PictureFile:
    with tifffile.TiffFile(path) as file:
        if len(file.pages) > 1:
            raise Unreadable("more than one picture in the file", "pages", len(file.pages))
        page: Any = file.pages[0]
        kind = page.photometric
        samples = {tifffile.PHOTOMETRIC.MINISBLACK: 1, tifffile.PHOTOMETRIC.RGB: 3}.get(kind)
        if page.extrasamples and samples:
            raise Unreadable(
                "an alpha channel in TIFF is not kept: save it as PNG",
                "ExtraSamples",
                page.extrasamples[0].name,
            )
        if page.samplesperpixel != samples:
            raise Unreadable("not of grey levels or RGB: convert it", "photometric", kind)
        pixels = page.asarray()
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        metadata: dict[str, Any] = {}
        if ORIENTATION in page.tags:
            orientation = int(page.tags[ORIENTATION].value)
            metadata["extratags"] = [(ORIENTATION, "H", 1, orientation, True)]
        if page.iccprofile:
            metadata["iccprofile"] = page.iccprofile
        if all(tag in page.tags for tag in RESOLUTION):
            metadata["resolution"] = [page.tags[tag].value for tag in RESOLUTION]
            unit = page.tags.get(RESOLUTION_UNIT)
            metadata["resolutionunit"] = int(unit.value) if unit else INCH
    return PictureFile(_levels(pixels), pixels.dtype, None, metadata)


def _tiff_layout(stored: NDArray[Any]) -> dict[str, Any]:
    return {"photometric": "minisblack" if len(stored) == 1 else "rgb", "metadata": None}


def _read_nifti(path: Path) -> PictureFile:
    depth = nibabel.load(path).header.get_data_dtype()
    if depth not in (np.uint8, np.uint16):
        reason = "NIfTI of grey levels has 8 or 16 bits without sign; CT goes with source: series"
        raise Unreadable(reason, "datatype", str(depth))
    stored = read_stored(path)
    values, affine_lps = stored.values, stored.affine_lps
    levels = values * np.float32(WHITE / np.iinfo(depth).max)
    metadata = {"affine_lps": affine_lps, "origins_mm": even_origins_mm(affine_lps, len(values))}
    return PictureFile(levels.astype(np.float32), np.dtype(depth), None, metadata)
