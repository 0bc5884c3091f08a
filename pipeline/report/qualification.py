"""The page of `ldct qualify`."""

from __future__ import annotations

from pathlib import Path

from pipeline.evaluation.qualification import Qualification
from pipeline.report.pages import shown_contrast, shown_phantoms, shown_sweep, write_page


def write_qualification(found: Qualification, path: Path) -> None:
    """Write qualification.html to `path`: what people read of a qualification."""
    observer = found.contrast.observer
    write_page(
        "qualification.html",
        path,
        found=found,
        answer=observer and observer.equivalent_dose_all_rods,
        sweep=shown_sweep(observer.to_dict() if observer else None),
        phantoms=shown_phantoms(found.phantoms.to_dict()),
        contrast=shown_contrast(found.contrast.to_dict()),
    )
