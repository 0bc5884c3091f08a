"""Read and write pictures as PNG, JPEG, TIFF and NIfTI files, keeping depth and orientation.

Pixels are read and written in their stored order, with the EXIF orientation for display. What a
format cannot keep is refused, not lost.
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
from pipeline.core.refusals import Unreadable
from pipeline.core.types import Picture
from pipeline.io.colour import WHITE
from pipeline.io.itk_reader import suffix_of
from pipeline.io.volume_files import NIFTI, read_stored, unreadable_as, write_voxels

PNG, JPEG, TIFF = (".png",), (".jpg", ".jpeg"), (".tif", ".tiff")
SUFFIXES = (*PNG, *JPEG, *TIFF, *NIFTI)
#: High enough that what JPEG loses is little beside what a network changes.
JPEG_QUALITY = 95
ORIENTATION = 274
#: Pillow's modes of grey and RGB pictures, some with an alpha channel, and their colour channels.
MODES = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "I;16": 1}
#: Offsets in a PNG's header of the bits a channel and the colour type, and that one's colour bit.
PNG_DEPTH, PNG_KIND, PNG_COLOUR = 24, 25, 2


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


def find_pictures(root: Path) -> list[Path]:
    """All picture files below a folder, sorted, or the one file; hidden files are left out."""
    if root.is_file():
        return [root] if is_picture(root) else []
    found = (path for path in root.rglob("*") if path.is_file() and is_picture(path))
    return sorted(path for path in found if not path.name.startswith("."))


def read_picture(path: Path) -> PictureFile:
    """Read a picture file; raises Unreadable for a damaged one, and for anything but one picture
    of 8 or 16 bits in grey or RGB."""
    with unreadable_as(suffix_of(path)):
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
    with PillowImage.open(path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise Unreadable("more than one picture in the file", "frames", frames)
        if image.mode not in MODES:
            raise Unreadable("not of grey levels or RGB: convert it", "mode", image.mode)
        kept = ("exif", "icc_profile")
        metadata: dict[str, Any] = {name: image.info[name] for name in kept if name in image.info}
        pixels = np.asarray(image)
    if _is_deep_colour(path):
        # Pillow would drop half of the bits.
        if metadata:
            raise Unreadable("PNG of 16 bits in colour with EXIF or a profile: convert to TIFF")
        pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    alpha = None
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return PictureFile(_levels(pixels), pixels.dtype, alpha, metadata)


def _is_deep_colour(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(PNG_KIND + 1)
    is_png = head.startswith(b"\x89PNG")
    return is_png and head[PNG_DEPTH] == 16 and bool(head[PNG_KIND] & (PNG_COLOUR | 4))


def _write_by_pillow(stored: NDArray[Any], picture: PictureFile, path: Path) -> None:
    pixels = _last(stored)
    if picture.alpha is not None:
        pixels = np.dstack([pixels, picture.alpha])
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        image = SimpleITK.GetImageFromArray(pixels, isVector=True)
        SimpleITK.WriteImage(image, str(path))
        return
    metadata = dict(picture.metadata)
    if path.name.lower().endswith(JPEG):
        metadata |= {"quality": JPEG_QUALITY, "subsampling": 0}
    PillowImage.fromarray(pixels).save(path, **metadata)


def _read_tiff(path: Path) -> PictureFile:
    with tifffile.TiffFile(path) as file:
        if len(file.pages) > 1:
            raise Unreadable("more than one picture in the file", "pages", len(file.pages))
        page: Any = file.pages[0]
        kind = page.photometric
        samples = {tifffile.PHOTOMETRIC.MINISBLACK: 1, tifffile.PHOTOMETRIC.RGB: 3}.get(kind)
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
    origins_mm = affine_lps[:3, 3] + np.arange(len(values))[:, None] * affine_lps[:3, 2]
    metadata = {"affine_lps": affine_lps, "origins_mm": origins_mm}
    return PictureFile(levels.astype(np.float32), np.dtype(depth), None, metadata)
