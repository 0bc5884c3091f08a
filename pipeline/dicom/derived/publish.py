"""A derived series: written and checked slice by slice, published whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.core.atomic_files import replacing_folder
from pipeline.core.errors import LdctError
from pipeline.dicom.derived.check import CheckSummary, SeriesCheck, check_series
from pipeline.dicom.derived.encode import UNCOMPRESSED, require_syntax
from pipeline.dicom.derived.multi_frame import enhanced_operation, write_multi_frame
from pipeline.dicom.derived.quantise import ClippedPixels, total_clipped
from pipeline.dicom.derived.write import Operation, SeriesTarget
from pipeline.dicom.read.made_up_uids import was_made_here
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.slice_requirements import UID_KEYWORDS
from pipeline.dicom.read.volume import Slice

#: Writes a processed slice as image `number`, counted from 1, of a derived series.
SliceWriter = Callable[[Slice, SeriesTarget, int], ClippedPixels]
MULTI_FRAME_NAME = "CT.dcm"


@dataclass(frozen=True)
class PublishedSeries:
    """A derived series that was written and passed its check: folder's name, number of images,
    what was clipped of all of them, and what a report should say of the form."""

    folder: str
    instances: int
    clipped: ClippedPixels
    check: CheckSummary
    remarks: tuple[str, ...] = ()


class SeriesWriter:
    """Writes the processed slices of a series one by one, in order, and checks each file."""

    def __init__(self, to: SeriesTarget, write: SliceWriter, check: SeriesCheck) -> None:
        self._to, self._write, self._check = to, write, check
        self._clipped: list[ClippedPixels] = []
        self._published: PublishedSeries | None = None

    @property
    def published(self) -> PublishedSeries:
        """What was written; only once derived_series has ended."""
        assert self._published is not None, "the series is still being written"
        return self._published

    def write(self, processed: Slice) -> None:
        """Write the next slice and check its file. Raises LdctError for values that are not
        finite; the check's findings are raised by `finish`."""
        number = len(self._clipped) + 1
        self._clipped.append(self._write(processed, self._to, number))
        self._check.add(self._to.path(number), processed)

    def finish(self, name: str) -> None:
        """Check the series as a whole; raises LdctError for one that fails."""
        result = self._check.finish()
        result.require()
        clipped = total_clipped(self._clipped)
        self._published = PublishedSeries(name, len(self._clipped), clipped, result.summary())


class MultiFrameWriter(SeriesWriter):
    """Writes and checks the slices as SeriesWriter does, in a folder of their own, and then makes
    one Enhanced CT image of them, which is checked as `ldct check` reads it."""

    def __init__(self, to: SeriesTarget, write: SliceWriter, source: Series, name: str) -> None:
        slices = replace(
            to,
            folder=to.folder / "slices",
            operation=enhanced_operation(to.operation),
            syntax=UNCOMPRESSED,
        )
        slices.folder.mkdir()
        super().__init__(slices, write, SeriesCheck(slices.folder, source, name=name))
        self._whole, self._source = to, source

    def finish(self, name: str) -> None:
        """Check the slices, and the object that they make; raises LdctError where one fails."""
        super().finish(name)
        of_slices, slices = self.published, self._to
        paths = [slices.path(number + 1) for number in range(of_slices.instances)]
        path = self._whole.folder / MULTI_FRAME_NAME
        remarks = write_multi_frame(
            paths, path, self._source, slices.operation, syntax=self._whole.syntax
        )
        shutil.rmtree(slices.folder)
        result = check_series(self._whole.folder, self._source, name=name)
        result.require()
        self._published = replace(
            of_slices, instances=1, check=result.summary(), remarks=tuple(remarks)
        )


@contextmanager
def derived_series(
    folder: Path,
    source: Series,
    operation: Operation,
    write: SliceWriter,
    *,
    syntax: str = UNCOMPRESSED,
    enhanced: bool = False,
) -> Iterator[SeriesWriter]:
    """A writer for the slices of a derived series, which becomes `folder` at the end of the
    `with` block if it passes its check.

    write: write_slice or write_slice_difference. enhanced: all slices become one Enhanced CT
    image, with UIDs other than the series of single images has. Raises LdctError for a series
    that fails its check, for a source without identifiers, and for a `folder` that holds anything
    but this series; after any exception nothing of the series is left.
    """
    require_syntax(syntax)
    _require_identifiers(source)
    with replacing_folder(folder) as partial:
        to = SeriesTarget(partial, operation, syntax, source.part, source.exact_part)
        writer = (
            MultiFrameWriter(to, write, source, folder.name)
            if enhanced
            else SeriesWriter(to, write, SeriesCheck(partial, source, name=folder.name))
        )
        yield writer
        writer.finish(folder.name)


def _require_identifiers(source: Series) -> None:
    for name in UID_KEYWORDS:
        if any(was_made_here(i.header, name) for i in source.instances):
            raise LdctError(
                f"a source without {name} cannot be exported: derived images could not be "
                f"traced to their source; set {name} in the source files first"
            )
