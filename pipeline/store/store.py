"""The data set on disk: HU volumes as NIfTI, memory-mapped, and an index.

A folder with `index.json` (version, split), `volumes/KEY.nii` (HU), `volumes/KEY.valid.npy`
(where the scanner measured), `volumes/KEY.json` (its SeriesRecord),
`labels/KEY.NAME.npy` and `.json` (label maps on the volume's grid) and
`degraded/KEY.DIGEST.npy` (cached inputs; `degraded/KEY.real.npy` is the scanner's own image at
a lower dose); pipeline.store.kept_figures and pipeline.ingest.known_sources have folders of their
own there. Patients and series appear under keyed hashes; no name, ID, date or UID of the source is
kept. Every file is written whole or not at all, a series' record last, so a kill leaves either the
series or nothing; storing the same series again changes nothing.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from pipeline.core.atomic_files import locked, replacing, write_json
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.core.label_map import LabelMap
from pipeline.core.volume import Volume
from pipeline.store.damage import (
    INGEST_AGAIN,
    MEND_INDEX,
    holds_voxels,
    read_json,
    read_json_or_none,
    require_voxels,
)
from pipeline.store.read_records import read_record
from pipeline.store.series_record import Places, SeriesRecord

INDEX = "index.json"
VERSION = 2
JSON, VOLUMES = ".json", "volumes"
#: Names the cached input that a real low-dose series is.
REAL = "real"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Store:
    """Opens `path`, or makes it; raises ConfigError where it cannot be written to or read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            with self._index() as index:
                version = index.setdefault("version", VERSION)
        except OSError as error:
            raise ConfigError(f"cannot use {path} as a store: {error}") from error
        if version != VERSION:
            raise ConfigError(
                f"{path} is a store of version {version}, this software has version {VERSION}: "
                "ingest again into a new folder"
            )

    @classmethod
    def existing(cls, path: Path) -> Store:
        """Opens a store that must hold something; raises NothingUsableError otherwise."""
        if not (path / INDEX).exists():
            raise NothingUsableError(f"{path} is not a store; make one with `ldct ingest`")
        store = cls(path)
        if not store.records():
            raise NothingUsableError(f"the store {path} holds no series")
        return store

    def add(
        self, volume: Volume, *, key: str, patient: str, real_input: Volume | None = None
    ) -> bool:
        """Store a volume under its series key; False where its voxels were there already.

        real_input: the same slices as the scanner shows them at a lower dose.
        """
        paths = [self._volume_path(key), self._valid_path(key), self._record_path(key)]
        input_digest = ""
        if real_input is not None:
            paths.append(self.degraded_path(key, REAL))
            input_digest = volume_digest(real_input)
        with ThreadPoolExecutor(2) as pool:  # the digest takes as long as the writing
            digest = pool.submit(volume_digest, volume)
            known = self.whole_record(key) if all(path.exists() for path in paths) else None
            if known is not None:
                same_input = real_input is None or known.input_digest == input_digest
                if same_input and known.digest == digest.result():
                    self._update_record(key, known, patient, volume.provenance)
                    return False
            # From here on the old series is gone: its record must not describe the new voxels,
            # and its degraded images are no inputs of the new ones.
            self._record_path(key).unlink(missing_ok=True)
            for name in _names_in(self.path / "degraded"):
                if name.startswith(f"{key}."):
                    (self.path / "degraded" / name).unlink()
            # Their names are flushed to the disk with the record's, which comes last.
            valid = self._valid_path(key), volume.valid
            mask = pool.submit(_save_array, *valid, name_later=True)
            with replacing(self._volume_path(key), name_later=True) as partial:
                _save_nifti(partial, volume)
            mask.result()
            if real_input is not None:
                self.save_degraded(key, REAL, real_input.image_hu)
        record = SeriesRecord(
            patient,
            digest.result(),
            list(volume.image_hu.shape),
            volume.affine_lps.tolist(),
            Places(volume.slice_origins_mm.tolist()),
            volume.provenance,
            input_digest,
        )
        write_json(self._record_path(key), record.to_dict())
        return True

    def _update_record(
        self, key: str, known: SeriesRecord, patient: str, provenance: dict[str, Any]
    ) -> None:
        """What is known by now of the same voxels: another patient, or a warning more."""
        record = replace(known, patient=patient, provenance=json.loads(json.dumps(provenance)))
        if record != known:
            write_json(self._record_path(key), record.to_dict())

    def records(self) -> dict[str, SeriesRecord]:
        """The record of each series, by its key."""
        # A kill leaves hidden partial files behind.
        names = sorted(_names_in(self.path / VOLUMES))
        keys = [name[: -len(JSON)] for name in names if name.endswith(JSON) and name[0] != "."]
        return {key: self.record(key) for key in keys}

    def record(self, key: str) -> SeriesRecord:
        """The record of one series; FileNotFoundError where the store has none of this key.

        Raises ConfigError where it is damaged.
        """
        # A text: to join a Path takes longer than all else of a record that is known.
        path = f"{self.path}{os.sep}{VOLUMES}{os.sep}{key}{JSON}"
        try:
            return read_record(path)
        except TypeError as error:
            raise ConfigError(
                f"cannot use {path}, which is damaged ({error}): {INGEST_AGAIN}"
            ) from error

    def whole_record(self, key: str) -> SeriesRecord | None:
        """The record of a series whose files are all long enough; None where it is damaged, or
        there is none."""
        try:
            record = self.record(key)
        except (ConfigError, FileNotFoundError):
            return None
        paths = [self._volume_path(key), self._valid_path(key)]
        paths += [self.degraded_path(key, REAL)] if record.input_digest else []
        return record if all(holds_voxels(path, record.shape) for path in paths) else None

    def load(self, key: str) -> Volume:
        """A stored series; the image is memory-mapped, so slices are read when touched.

        Raises ConfigError where its files are damaged.
        """
        record = self.record(key)
        require_voxels(self._volume_path(key), record.shape)
        require_voxels(self._valid_path(key), record.shape)
        stored = nibabel.load(self._volume_path(key)).dataobj
        # NIfTI runs (column, row, slice) with the column fastest: the transpose is C order.
        image = np.asanyarray(stored).T
        return Volume(
            image_hu=image,
            valid=np.load(self._valid_path(key), mmap_mode="r"),
            affine_lps=np.array(record.affine_lps),
            slice_origins_mm=np.array(record.slice_origins_mm),
            provenance=copy.deepcopy(record.provenance),  # records are kept
        )

    def add_labels(self, key: str, name: str, labelmap: LabelMap) -> bool:
        """Store a label map beside its volume; False where it was there already, the same.

        name: lower-case letters, digits, `_` and `-`. Raises ValueError for another name, and
        for labels of another shape than the volume's.
        """
        volume = self.record(key)
        if not re.fullmatch(r"[a-z0-9_-]+", name):
            raise ValueError(f"a name of labels is of lower-case letters and digits, got {name!r}")
        if list(labelmap.labels.shape) != volume.shape:
            raise ValueError(f"labels {labelmap.labels.shape} for a volume {volume.shape}")
        path = self._labels_path(key, name)
        facts = {"digest": labelmap.digest, "grid": volume.grid_digest}
        sidecar = path.with_suffix(".json")
        if path.exists() and sidecar.exists():
            known = read_json_or_none(sidecar) or {}
            if known | facts == known and known["source"] == labelmap.source:
                return False
        sidecar.unlink(missing_ok=True)  # until the new labels are whole, it must not describe them
        _save_array(path, labelmap.labels)
        meaning = {"names": labelmap.names, "overlaps": labelmap.overlaps}
        write_json(sidecar, {**facts, **meaning, "source": labelmap.source})
        return True

    def label_names(self, key: str) -> list[str]:
        """Names of the label maps that a series has, sorted."""
        found = _names_in(self.path / "labels")
        return sorted(
            name.split(".")[1] for name in found if name.startswith(f"{key}.") and name[-5:] == JSON
        )

    def has_labels(self, key: str, name: str) -> bool:
        """Whether a series has a label map of this name; without a look at all others' names."""
        return self._labels_path(key, name).with_suffix(JSON).exists()

    def load_labels(self, key: str, name: str) -> LabelMap:
        """A stored label map, memory-mapped.

        Raises NothingUsableError where there is none, or where the volume was stored again on
        another grid since.
        """
        path = self._labels_path(key, name)
        if not self.has_labels(key, name):
            there = ", ".join(self.label_names(key)) or "none"
            raise NothingUsableError(f"series {key} has no labels {name!r}; it has: {there}")
        record = read_json(path.with_suffix(".json"), INGEST_AGAIN)
        if record["grid"] != self.record(key).grid_digest:
            raise NothingUsableError(f"labels {name!r} of {key} are of another grid: ingest again")
        return LabelMap(
            labels=np.load(path, mmap_mode="r"),
            names={int(value): text for value, text in record["names"].items()},
            source=record["source"],
            overlaps={int(value): tuple(of) for value, of in record["overlaps"].items()},
        )

    def split(self) -> dict[str, str]:
        """Side by patient, as recorded so far."""
        return self._read_index().get("split", {})

    def record_split(self, sides: dict[str, str]) -> None:
        """Add to what `split` returns; a side that is recorded already is replaced."""
        with self._index() as index:
            index["split"] = index.get("split", {}) | sides

    def degraded_path(self, key: str, digest: str) -> Path:
        """Where the inputs of a series are cached, under the digest of their degradation."""
        return self.path / "degraded" / f"{key}.{digest[:16]}.npy"

    def save_degraded(self, key: str, digest: str, image_hu: NDArray[np.float32]) -> None:
        """Cache a series' inputs [slices, rows, columns], whole or not at all."""
        _save_array(self.degraded_path(key, digest), image_hu)

    def load_degraded(self, key: str, digest: str) -> NDArray[np.float32]:
        """Cached inputs, memory-mapped."""
        return np.load(self.degraded_path(key, digest), mmap_mode="r")

    def data_digest(self, keys: list[str]) -> str:
        """One digest for a set of series and their real inputs, whatever their order."""
        digests = sorted(self.record(key).data_digest for key in keys)
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def _volume_path(self, key: str) -> Path:
        return self.path / VOLUMES / f"{key}.nii"

    def _record_path(self, key: str) -> Path:
        return self.path / VOLUMES / f"{key}.json"

    def _valid_path(self, key: str) -> Path:
        return self.path / VOLUMES / f"{key}.valid.npy"

    def _labels_path(self, key: str, name: str) -> Path:
        return self.path / "labels" / f"{key}.{name}.npy"

    def _read_index(self) -> dict[str, Any]:
        try:
            return read_json(self.path / INDEX, MEND_INDEX)
        except FileNotFoundError:
            return {}

    @contextmanager
    def _index(self) -> Iterator[dict[str, Any]]:
        """The index, to be changed: locked against other processes, written back whole."""
        with locked(self.path):
            index = self._read_index()
            before = json.dumps(index)
            yield index
            if json.dumps(index) != before:
                write_json(self.path / INDEX, index)


def _names_in(folder: Path) -> list[str]:
    """What lies in a folder; nothing where there is none."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def volume_digest(volume: Volume) -> str:
    """SHA-256 over the HU, the padding and the place of every slice."""
    summary = hashlib.sha256()
    for part in (volume.image_hu, volume.valid, volume.affine_lps, volume.slice_origins_mm):
        summary.update(np.ascontiguousarray(part).data)
    return summary.hexdigest()


def _save_nifti(path: Path, volume: Volume) -> None:
    """NIfTI by nibabel's header and our own bytes: its writer goes row by row."""
    image = nibabel.Nifti1Image(volume.image_hu.T, LPS_TO_RAS @ volume.affine_lps)
    image.header.set_xyzt_units("mm")
    image.header.set_data_offset(image.header.single_vox_offset)
    with path.open("wb") as stream:
        image.header.write_to(stream)
        stream.write(np.ascontiguousarray(volume.image_hu, dtype="<f4").data)


def _save_array(path: Path, array: NDArray, *, name_later: bool = False) -> None:
    with replacing(path, name_later=name_later) as partial, partial.open("wb") as stream:
        np.save(stream, array)
