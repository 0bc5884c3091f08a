"""What the store knows of a series, as its JSON file has it."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from typing import Any, overload

#: In a series' provenance: what says that its values are no HU (pipeline.core.hu_scale).
SCALE_FAULT = "scale_fault"


class Places(Sequence[list[float]]):
    """Places [n, 3] in mm that cannot be changed. As lists they take ten times the memory, and a
    store of ten thousand series has millions of them."""

    def __init__(self, rows: Iterable[Sequence[float]]) -> None:
        self._values = array("d", chain.from_iterable(rows))

    def __len__(self) -> int:
        return len(self._values) // 3

    @overload
    def __getitem__(self, index: int) -> list[float]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[float]]: ...
    def __getitem__(self, index: int | slice) -> list[float] | list[list[float]]:
        return self.to_lists()[index]

    def __iter__(self) -> Iterator[list[float]]:
        return iter(self.to_lists())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places) and self._values == other._values

    def __hash__(self) -> int:
        return hash(self._values.tobytes())

    def to_lists(self) -> list[list[float]]:
        """As JSON holds them."""
        values = self._values
        return [list(values[n : n + 3]) for n in range(0, len(values), 3)]


@dataclass(frozen=True)
class SeriesRecord:
    """A stored series without its voxels; free of identity.

    patient: the pseudonym. digest: SHA-256 of the volume (pipeline.store.store.volume_digest),
    input_digest the same of its real low-dose partner, "" where it has none. shape: [slices,
    rows, columns]. affine_lps [4, 4] and slice_origins_mm [slices, 3]: see Volume. provenance:
    what was read and how, as pipeline.dicom.read notes it.
    """

    patient: str
    digest: str
    shape: list[int]
    affine_lps: list[list[float]]
    slice_origins_mm: Places
    provenance: dict[str, Any]
    input_digest: str = ""

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> SeriesRecord:
        """What to_dict gave; fields of other versions are left out. Raises TypeError where one is
        missing."""
        known = {one.name: found[one.name] for one in fields(cls) if one.name in found}
        if "slice_origins_mm" in known:
            known["slice_origins_mm"] = Places(known["slice_origins_mm"])
        return cls(**known)

    def to_dict(self) -> dict[str, Any]:
        """What from_dict reads."""
        return {**asdict(self), "slice_origins_mm": self.slice_origins_mm.to_lists()}

    @property
    def scale_fault(self) -> str:
        """What says that the values are no HU; "" for nothing."""
        return str(self.provenance.get(SCALE_FAULT, ""))

    @property
    def grid_digest(self) -> str:
        """SHA-256 of where the voxels lie, whatever they hold."""
        grid = [self.shape, self.affine_lps, self.slice_origins_mm.to_lists()]
        return hashlib.sha256(json.dumps(grid).encode()).hexdigest()

    @property
    def data_digest(self) -> str:
        """Changes with the volume and with its real input."""
        return self.digest + self.input_digest
