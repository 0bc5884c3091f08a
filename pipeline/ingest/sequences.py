"""Moving pictures: folders of frames, and some that are built where none is shipped.

In the store a sequence is a series, and its frames are the slices: what is done to a video is
done to a stack of CT slices.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.core.types import Picture
from pipeline.data.images import resampled
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.picture_ingest import shipped, shipped_names, store_stack
from pipeline.io.colour import seen_as
from pipeline.io.discover import image_key
from pipeline.io.picture_files import find_pictures, read_picture
from pipeline.store.store import Store

#: Of a built sequence: frames, their side, the radius of what moves and its way a frame, pixels.
FRAMES, SIDE, RADIUS, STEP = 12, 128, 18, 3.0


def store_frames(
    root: Path, store: Store, *, key: bytes, progress: Callable[[str, int, int], None]
) -> IngestReport:
    """Put each folder of frames below `root` into a store, in grey, in the order of their names.

    A sequence goes by the pseudonym of its first frame. Raises NothingUsableError for none.
    """
    report = IngestReport(root)
    folders = sorted({path.parent for path in find_pictures(root)})
    for done, folder in enumerate(folders, start=1):
        paths = [path for path in find_pictures(folder) if path.parent == folder]
        try:
            frames = [seen_as(read_picture(path).levels, "grey") for path in paths]
            sizes = {frame.shape for frame in frames}
            if len(frames) < 2 or len(sizes) > 1:
                raise LdctError(f"{len(frames)} frames of {len(sizes)} sizes are no sequence")
            name = image_key(paths[0], key, "p")
            store_stack(np.concatenate(frames), store, report, colour="grey", name=name)
        except (Unreadable, LdctError) as fault:
            report.refusals += [
                Refusal(path, Disposition.QUARANTINED, str(fault)) for path in paths
            ]
        progress("storing sequences", done, len(folders))
    if not report.series:
        raise NothingUsableError(f"no folder below {root} holds two frames of one size")
    return report


def store_moving(store: Store, progress: Callable[[str, int, int], None]) -> IngestReport:
    """Put sequences built from shipped photographs into a store, `moving-NAME`."""
    report = IngestReport(Path())
    names = shipped_names("grey")
    for done, name in enumerate(names, start=1):
        frames = moving(seen_as(shipped(name), "grey")[0])
        patient = f"moving-{name.removesuffix('.jpg')}"
        store_stack(frames, store, report, colour="grey", name=patient)
        progress("storing sequences", done, len(names))
    return report


def moving(picture: NDArray[np.float32]) -> Picture:
    """[FRAMES, SIDE, SIDE]: the middle of a grey picture, before which a disk of it passes by."""
    scale = SIDE / min(picture.shape)
    size = (max(SIDE, round(picture.shape[0] * scale)), max(SIDE, round(picture.shape[1] * scale)))
    small = resampled(picture, size)
    top, left = ((side - SIDE) // 2 for side in size)
    still = small[top : top + SIDE, left : left + SIDE]
    carried = still[::-1, ::-1]  # of the same picture, so that the split holds
    rows, columns = np.ogrid[:SIDE, :SIDE]
    frames = []
    for number in range(FRAMES):
        row, column = SIDE / 2, SIDE / 2 + STEP * (number - (FRAMES - 1) / 2)
        inside = np.hypot(rows - row, columns - column) < RADIUS
        shift = round(STEP * number)
        frames.append(np.where(inside, np.roll(carried, shift, axis=1), still))
    return np.stack(frames).astype(np.float32)
