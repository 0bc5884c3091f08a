"""What the store knows of a series, as its JSON file has it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

#: In a series' provenance: what says that its values are no HU (pipeline.core.hu_scale).
SCALE_FAULT = "scale_fault"


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
    slice_origins_mm: list[list[float]]
    provenance: dict[str, Any]
    input_digest: str = ""

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> SeriesRecord:
        """What to_dict gave; fields of other versions are left out. Raises TypeError where one is
        missing."""
        return cls(**{one.name: found[one.name] for one in fields(cls) if one.name in found})

    def to_dict(self) -> dict[str, Any]:
        """What from_dict reads."""
        return asdict(self)

    @property
    def scale_fault(self) -> str:
        """What says that the values are no HU; "" for nothing."""
        return str(self.provenance.get(SCALE_FAULT, ""))

    @property
    def grid_digest(self) -> str:
        """SHA-256 of where the voxels lie, whatever they hold."""
        grid = [self.shape, self.affine_lps, self.slice_origins_mm]
        return hashlib.sha256(json.dumps(grid).encode()).hexdigest()

    @property
    def data_digest(self) -> str:
        """Changes with the volume and with its real input."""
        return self.digest + self.input_digest
