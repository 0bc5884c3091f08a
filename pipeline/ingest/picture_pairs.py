"""Store the user's own pairs of pictures: FOLDER/input/NAME belongs to FOLDER/target/NAME.

Relative paths match without their suffix. The first folder below input/ and target/ is a patient,
or whatever else must not be on two sides of the split; without one each pair is a patient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.config.restoration import Colour
from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.pseudonyms import pseudonym
from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.core.types import Picture
from pipeline.ingest.ingest import IngestReport
from pipeline.ingest.picture_ingest import store_image
from pipeline.io.colour import in_colour
from pipeline.io.discover import image_key
from pipeline.io.image_formats import NIFTI
from pipeline.io.picture_files import find_pictures, read_picture
from pipeline.store.store import Store

INPUT, TARGET = "input", "target"


def store_pairs(
    root: Path,
    store: Store,
    colour: Colour,
    *,
    key: bytes,
    progress: Callable[[str, int, int], None],
) -> IngestReport:
    """Store each pair below `root` as one image: the target's channels, then the input's.

    A picture without a partner, with more than one, or with one of another size is quarantined.
    progress: called with (step, done, total). Raises NothingUsableError where no pair is left.
    """
    report = IngestReport(root)
    inputs, targets = _by_name(root / INPUT), _by_name(root / TARGET)
    names = sorted(inputs.keys() | targets.keys())
    for done, name in enumerate(names, start=1):
        both = inputs.get(name, []), targets.get(name, [])
        try:
            input_, target = _only(*both)
            own = pseudonym(key, "p", image_key(input_, key, "p"), image_key(target, key, "p"))
            patient = pseudonym(key, "p", name.parts[0]) if len(name.parts) > 1 else own
            image, kind = _stacked(input_, target, colour), f"{colour} pair"
            store_image(image, store, report, colour=kind, patient=patient, key=f"{own}-{colour}")
        except (Unreadable, LdctError) as fault:
            refused = [path for paths in both for path in paths]
            report.refusals += [
                Refusal(path, Disposition.QUARANTINED, str(fault)) for path in refused
            ]
        progress("storing pairs", done, len(names))
    if not report.series:
        why = f"; {report.refusals[0].reason}" if report.refusals else ""
        line = f"no usable pair in {root / INPUT} and {root / TARGET}{why}"
        raise NothingUsableError(line, report.to_dict())
    return report


def _by_name(folder: Path) -> dict[Path, list[Path]]:
    """The pictures below a folder by their relative paths without suffixes."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for path in find_pictures(folder) if folder.is_dir() else []:
        place = path.relative_to(folder)
        found[place.with_name(place.name.split(".", 1)[0])].append(path)
    return found


def _only(inputs: list[Path], targets: list[Path]) -> tuple[Path, Path]:
    if len(inputs) != 1 or len(targets) != 1:
        raise LdctError(
            f"{len(inputs)} pictures of its name in {INPUT}/ and {len(targets)} in {TARGET}/: "
            "a pair is one of each"
        )
    return inputs[0], targets[0]


def _stacked(input_: Path, target: Path, colour: Colour) -> Picture:
    """[2 x channels, rows, columns]: the target's channels, then the input's."""
    for path in (input_, target):
        if path.name.lower().endswith(NIFTI):
            raise LdctError("pairs are of PNG, JPEG or TIFF; NIfTI has slices, not one picture")
    pictures = read_picture(target), read_picture(input_)
    target_orientation, input_orientation = (picture.orientation for picture in pictures)
    if target_orientation != input_orientation:
        raise LdctError(
            f"the target has EXIF orientation {target_orientation}, its input {input_orientation}: "
            "rotate the pixels of one of them"
        )
    halves = [in_colour(picture.levels, colour) for picture in pictures]
    if halves[0].shape != halves[1].shape:
        sizes = [" x ".join(map(str, half.shape[1:])) for half in halves]
        raise LdctError(f"the target has {sizes[0]} pixels, its input {sizes[1]}")
    return np.concatenate(halves)
