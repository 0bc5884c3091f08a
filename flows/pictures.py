"""A restorer over a folder of pictures: the part of `ldct apply` that is no CT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.runtime.batch import Batch
from flows.runtime.progress import StageProgress
from pipeline.core.errors import NothingUsableError
from pipeline.core.refusals import Disposition, Refusal
from pipeline.core.types import Json
from pipeline.export.output_record import OutputRecord
from pipeline.export.pictures import export_picture, targets
from pipeline.export.series import FAILED
from pipeline.inference.style import asked_style


def apply_to_pictures(
    model: Any, source: Path, out: Path, *, missed: str = "", style: str | None = None
) -> Json:
    """Restore every picture below `source` to the same name below `out`, and go on past bad ones.

    missed: the limits of its gate that the model misses, as people read them. style: a picture,
    or a number to draw one by; one for all pictures, so that frames have the same. Writes
    OUT/report.json, which has the number but not the picture's name. Raises ConfigError for a
    style that the model cannot have, NothingUsableError where no picture could be used, and
    LdctError where none could be exported.
    """
    code = None if style is None else asked_style(model, style)
    styled = {} if style is None else {"style": style if style.isdecimal() else "of a picture"}
    left_out: list[Refusal] = []
    pairs = targets(source, out, left_out)
    batch = pictures_batch(pairs, source, out)
    with StageProgress("apply to pictures", unit="pictures", total=len(pairs)) as stage:
        for path, to in pairs:
            item = item_of(to, out)
            with batch.together([item], [path]):
                rows = [{**item, **export_picture(model, path, to, style=code), **styled}]
                batch.exported += marked_rows(rows, missed)
            stage.advance(1)
    batch.refusals += left_out
    return pictures_report(batch, source)


def marked_rows(rows: list[Json], missed: str) -> list[Json]:
    """Rows of report.json, marked where the model misses limits of its gate; a picture has no
    header to say it."""
    return [{**row, "gate": FAILED} for row in rows] if missed else rows


def pictures_batch(pairs: list[tuple[Path, Path]], source: Path, out: Path) -> Batch:
    """The batch of (picture, target) pairs, each known by its target's name below `out`."""
    record = OutputRecord(out, source)
    root = source if source.is_dir() else source.parent
    return Batch(record, root, [item_of(to, out) for _, to in pairs])


def item_of(to: Path, out: Path) -> Json:
    """How a batch knows a picture."""
    return {"file": str(to.relative_to(out))}


def pictures_report(batch: Batch, source: Path) -> Json:
    """What became of pictures, at the end of their batch. Raises as apply_to_pictures does."""
    refused = sum(one.disposition is Disposition.QUARANTINED for one in batch.refusals)
    report = batch.tell(pictures=len(batch.exported) + refused)
    batch.require_exported("pictures")
    if not batch.exported:
        reasons = [refusal.reason for refusal in batch.refusals]
        why = reasons[0] if reasons else "no PNG, JPEG, TIFF or NIfTI file"
        raise NothingUsableError(f"no usable picture in {source}: {why}", report)
    return report
