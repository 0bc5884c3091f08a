"""Store photographs: a series is one picture, its slices are the picture's channels.

Values are in the run's colour space, grey levels or L*a*b*, and a pixel is 1 mm. A picture is a
patient of its own, so that no two patches of it are on two sides of the split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config.restoration import Colour, PackageName
from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.refusals import Disposition, Refusal, Unreadable
from pipeline.core.types import Picture
from pipeline.core.volume import Volume
from pipeline.ingest.bundled_pictures import bundled_names, bundled_picture
from pipeline.ingest.ingest import IngestedSeries, IngestReport
from pipeline.ingest.installed_pictures import find_installed, installed_picture
from pipeline.io.colour import in_colour
from pipeline.io.discover import image_key
from pipeline.io.image_formats import NIFTI
from pipeline.io.picture_files import SUFFIXES, find_pictures, read_picture
from pipeline.store.store import Store


def store_bundled(
    store: Store,
    colour: Colour,
    progress: Callable[[str, int, int], None],
    *,
    installed: Sequence[PackageName] = (),
) -> IngestReport:
    """Store the bundled photographs, as series `shipped-NAME-COLOUR`, and those of the Debian
    packages `installed`, as `installed-NAME-COLOUR`; packages that are not there are excluded."""
    report = IngestReport(Path())
    readers = photograph_readers(colour, installed, report)
    for done, (patient, read) in enumerate(readers.items(), start=1):
        store_picture(read(), store, report, colour=colour, patient=patient, name=patient)
        progress("storing pictures", done, len(readers))
    return report


def photograph_readers(
    colour: Colour, installed: Sequence[PackageName], report: IngestReport
) -> dict[str, Callable[[], Picture]]:
    """What reads the levels of each bundled photograph, as `shipped-NAME`, and of each in the
    Debian packages `installed`, as `installed-NAME`; the report excludes packages that are not
    there."""
    packages = [find_installed(name) for name in installed]
    report.refusals += [one.missing() for one in packages if not one.pictures]
    readers: dict[str, Callable[[], Picture]] = {
        f"shipped-{name.removesuffix('.jpg')}": partial(bundled_picture, name)
        for name in bundled_names(colour)
    }
    for package in packages:
        readers |= {
            f"installed-{path.stem}": partial(installed_picture, path) for path in package.pictures
        }
    return readers


def store_picture_files(
    root: Path,
    store: Store,
    colour: Colour,
    *,
    key: bytes,
    progress: Callable[[str, int, int], None],
) -> IngestReport:
    """Store the picture files below `root`; raises NothingUsableError where none can be used.

    A picture's key is the pseudonym of its bytes: its name may be a person's. Every slice of a
    NIfTI file is a grey picture.
    """
    report = IngestReport(root)
    others: list[Refusal] = []
    paths = find_pictures(root, others.append)
    for done, path in enumerate(paths, start=1):
        try:
            picture, patient = read_picture(path), image_key(path, key, "p")
            sheets = [picture.levels]
            if path.name.lower().endswith(NIFTI):
                sheets = [one[None] for one in picture.levels]
            for number, levels in enumerate(sheets):
                name = f"{patient}-{number}" if len(sheets) > 1 else patient
                store_picture(levels, store, report, colour=colour, patient=patient, name=name)
        except Unreadable as fault:
            report.refusals.append(fault.refusal(path))
        except LdctError as fault:
            report.refusals.append(Refusal(path, Disposition.QUARANTINED, str(fault)))
        progress("storing pictures", done, len(paths))
    report.refusals += others
    if not report.series:
        why = f"no usable picture in {root}: {_commonest(report, paths)}"
        raise NothingUsableError(why, report.to_dict())
    return report


def _commonest(report: IngestReport, paths: list[Path]) -> str:
    if not paths:
        return f"no file named {', '.join(SUFFIXES)}"
    return f"{len(paths)} files refused, such as: {report.refusals[0].reason}"


def store_picture(
    levels: Picture,
    store: Store,
    report: IngestReport,
    *,
    colour: Colour,
    patient: str,
    name: str,
) -> None:
    """Add one picture's levels to the store and the report; raises LdctError where it lacks
    colour that the run needs."""
    image = np.ascontiguousarray(in_colour(levels, colour))
    store_image(image, store, report, colour=colour, patient=patient, key=f"{name}-{colour}")


def store_stack(
    frames: Picture, store: Store, report: IngestReport, *, colour: Colour, name: str
) -> None:
    """Add a sequence of grey frames [frames, rows, columns], a patient of its own."""
    store_image(frames, store, report, colour=colour, patient=name, key=name)


def store_image(
    image: Picture, store: Store, report: IngestReport, *, colour: str, patient: str, key: str
) -> None:
    """Add [channels, rows, columns] as a series. colour: what the channels are, by which runs
    select their series."""
    volume = Volume(
        image_hu=image,
        valid=np.ones(image.shape, dtype=bool),
        affine_lps=np.eye(4),
        slice_origins_mm=np.arange(len(image))[:, None] * np.array([0.0, 0.0, 1.0]),
        provenance={"source": "picture", "colour": colour, "warnings": [], "evenly_spaced": True},
    )
    is_new = store.add(volume, key=key, patient=patient)
    description: dict[str, object] = {"Manufacturer": "picture"}
    report.series.append(IngestedSeries(key, patient, len(image), is_new, description))
