"""Store sequences of frames: folders of pictures, and sequences made of bundled photographs.

A sequence is a series of the store, with the frames as slices, so that a method for video is one
for a stack of CT slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.restoration import MOVING_SIDE, PackageName
from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.core.types import Picture
from pipeline.data.images import resampled
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.picture_ingest import photograph_readers, store_stack
from pipeline.io.colour import in_colour
from pipeline.io.discover import image_key
from pipeline.io.picture_files import find_pictures, read_picture
from pipeline.store.store import Store

#: A made sequence: frames, their side, the radius of the moving disc, its step a frame, in pixels.
FRAMES, SIDE, RADIUS, STEP = 12, MOVING_SIDE, 18, 3.0


def store_frames(
    root: Path, store: Store, *, key: bytes, progress: Callable[[str, int, int], None]
) -> IngestReport:
    """Store each folder of frames below `root`, in grey, in the order of their names.

    A sequence's key is the pseudonym of its first frame. progress: called with (step, done,
    total). Raises NothingUsableError where there is no sequence.
    """
    report = IngestReport(root)
    folders = sorted({path.parent for path in find_pictures(root)})
    for done, folder in enumerate(folders, start=1):
        paths = [path for path in find_pictures(folder) if path.parent == folder]
        try:
            frames = [in_colour(read_picture(path).levels, "grey") for path in paths]
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
        line = f"no folder below {root} holds two frames of one size"
        raise NothingUsableError(line, report.to_dict())
    return report


def store_moving(
    store: Store,
    progress: Callable[[str, int, int], None],
    *,
    installed: Sequence[PackageName] = (),
) -> IngestReport:
    """Store a sequence made of each bundled photograph, as `moving-NAME`, and of each in the
    Debian packages `installed`, as `moving-installed-NAME`; packages that are not there are
    excluded."""
    report = IngestReport(Path())
    readers = photograph_readers("grey", installed, report)
    for done, (name, read) in enumerate(readers.items(), start=1):
        frames = moving(in_colour(read(), "grey")[0])
        patient = f"moving-{name.removeprefix('shipped-')}"
        store_stack(frames, store, report, colour="grey", name=patient)
        progress("storing sequences", done, len(readers))
    return report


def moving(picture: NDArray[np.float32]) -> Picture:
    """[FRAMES, SIDE, SIDE]: the centre of a grey picture, with a disc of it moving across."""
    scale = SIDE / min(picture.shape)
    size = (max(SIDE, round(picture.shape[0] * scale)), max(SIDE, round(picture.shape[1] * scale)))
    small = resampled(picture, size)
    top, left = ((side - SIDE) // 2 for side in size)
    still = small[top : top + SIDE, left : left + SIDE]
    content = still[::-1, ::-1]  # of the same picture, which keeps the split clean
    rows, columns = np.ogrid[:SIDE, :SIDE]
    frames = []
    for number in range(FRAMES):
        row, column = SIDE / 2, SIDE / 2 + STEP * (number - (FRAMES - 1) / 2)
        inside = np.hypot(rows - row, columns - column) < RADIUS
        shift = round(STEP * number)
        frames.append(np.where(inside, np.roll(content, shift, axis=1), still))
    return np.stack(frames).astype(np.float32)
