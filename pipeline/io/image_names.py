"""Whose an image file is, and what its result is called: it has neither patient nor UID.

Only its name distinguishes it from others. A result keeps it, unless it looks like an identifier;
patients are distinguished as the user says (IngestOptions.patients).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.pseudonyms import patient_pseudonym, pseudonym
from pipeline.core.refusals import Unreadable
from pipeline.io.discover import image_key
from pipeline.io.itk_reader import suffix_of

BY_FILE, BY_FOLDER = "file", "folder"
#: A number as long as a birth date or a record number, a date with its year, parts of a UID, a
#: DICOM name, an address.
IDENTIFIER = re.compile(
    r"\d{6}|\d{4}[-_.]\d\d?[-_.]\d\d?|\d\d?[-_.]\d\d?[-_.]\d{4}|\d+(\.\d+){3}|[\^@]"
)
EACH_ITS_OWN = (
    "the file names no patient and counts as one of its own: if several are of one patient, say "
    "so with --intake patients=folder, or patients=FILE.csv with the columns file,patient"
)


def stem_of(path: Path) -> str:
    """The name of an image file without the suffix that names its format."""
    return path.name[: -len(suffix_of(path))]


def result_name(source: Path, made_by: str) -> str:
    """The name of a result, without a suffix: the source's and what it was made by; the latter
    alone where the former looks like an identifier."""
    stem = stem_of(source)
    return made_by if IDENTIFIER.search(stem) else f"{stem}-{made_by}"


@dataclass(frozen=True)
class ImagePatients:
    """Patients of the image files below `root`; listed: the patient of each file of a CSV, None
    without one."""

    choice: str
    root: Path
    listed: Mapping[Path, str] | None = None

    @classmethod
    def of(cls, choice: str, root: Path) -> ImagePatients:
        """By file, by the folder below `root`, or by a CSV file.

        Raises ConfigError for a CSV that cannot be read, or gives a file two patients.
        """
        if choice in (BY_FILE, BY_FOLDER):
            return cls(choice, root)
        return cls(choice, root, _listed(Path(choice), root))

    def key_of(self, path: Path, key: bytes) -> str:
        """The pseudonym of a file's patient; raises Unreadable for a file that the CSV lacks.

        Of a CSV it is that of the same PatientID in DICOM.
        """
        if self.listed is not None:
            patient = self.listed.get(path.resolve())
            if patient is None:
                raise Unreadable(f"not in {Path(self.choice).name}: add its patient", "patients")
            return patient_pseudonym(key, patient)
        within = path.relative_to(self.root).parts if path.is_relative_to(self.root) else ()
        if self.choice == BY_FILE or len(within) < 2:
            return image_key(path, key, "p")
        return pseudonym(key, "p", "folder", within[0])


def _listed(table: Path, root: Path) -> dict[Path, str]:
    """Files, named from `root` or from the CSV's folder, with their patients."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigError(f"intake patients={table}: {reason}; {_CHOICES}") from error
    folder = root if root.is_dir() else root.parent
    found: dict[Path, str] = {}
    for number, row in enumerate(rows, start=2):
        file, patient = ((row.get(name) or "").strip() for name in ("file", "patient"))
        if not file or not patient:
            raise ConfigError(f"{table}, line {number}: expected file,patient, neither empty")
        for place in (folder / file, table.parent / file):
            if found.setdefault(place.resolve(), patient) != patient:
                raise ConfigError(f"{table}, line {number}: {file} has another patient before")
    if not found:
        raise ConfigError(f"{table}: expected lines of file,patient below a line that says so")
    return found


_CHOICES = "there are file, folder, or a CSV file with the columns file,patient"
