"""A derived series on its way out: written and checked slice by slice, handed over whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.atomic_files import replacing_folder
from pipeline.core.errors import LdctError
from pipeline.dicom.derived.check import SeriesCheck
from pipeline.dicom.derived.encode import UNCOMPRESSED, require_syntax
from pipeline.dicom.derived.quantise import Clipped, summed
from pipeline.dicom.derived.write import Operation, Target
from pipeline.dicom.read.headers import UNIDENTIFIED
from pipeline.dicom.read.series import Series
from pipeline.dicom.read.volume import Slice

Write = Callable[[Slice, Target, int], Clipped]


class SeriesWriter:
    """Takes what was made of each slice of a series, in order; `report` tells of it at the end."""

    def __init__(self, to: Target, write: Write, checking: SeriesCheck) -> None:
        self.report: dict[str, Any] = {}
        self._to, self._write, self._checking = to, write, checking
        self._clipped: list[Clipped] = []

    def take(self, made: Slice) -> None:
        """Write the next slice, and check what is then in its file."""
        number = len(self._clipped) + 1
        self._clipped.append(self._write(made, self._to, number))
        self._checking.take(self._to.path(number), made)

    def finish(self, name: str) -> None:
        checked = self._checking.finish()
        checked.require()
        self.report |= {"folder": name, **summed(self._clipped), "check": checked.summary()}


@contextmanager
def derived_series(
    folder: Path,
    source: Series,
    operation: Operation,
    write: Write,
    *,
    syntax: str = UNCOMPRESSED,
) -> Iterator[SeriesWriter]:
    """Give it slices; at the end the series takes its place as `folder`, if it passes its check.

    write: write_slice, or what else writes an image for a slice. Raises LdctError for a series
    that fails, of which nothing is left, as when anything else is raised, and for a source that
    names nobody; a folder that holds this very series stays, another one is an LdctError.
    """
    require_syntax(syntax)
    _require_names(source)
    with replacing_folder(folder) as partial:
        to = Target(partial, operation, syntax, source.part)
        going = SeriesWriter(to, write, SeriesCheck(partial, source, name=folder.name))
        yield going
        going.finish(folder.name)


def _require_names(source: Series) -> None:
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if any(str(i.header.get(name)).startswith(UNIDENTIFIED) for i in source.instances):
            raise LdctError(
                f"a source without {name} cannot be exported: nobody could tell whose the "
                "derived images are; give the source its name first"
            )
