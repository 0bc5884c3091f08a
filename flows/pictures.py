"""A restorer over a folder of pictures: the part of `ldct apply` that is no CT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.runtime.progress import StageProgress
from pipeline.core.atomic_files import write_json
from pipeline.core.errors import LdctError, NothingUsableError
from pipeline.core.refusals import Refusal, Unreadable, by_disposition
from pipeline.core.types import Json
from pipeline.export.pictures import export_picture, targets

REPORT = "report.json"


def apply_to_pictures(model: Any, source: Path, out: Path) -> Json:
    """Restore every picture below `source` to the same name below `out`, and go on past bad ones.

    Writes OUT/report.json. Raises NothingUsableError where no picture could be used, and
    LdctError where one could not be exported, once the others are.
    """
    pairs = targets(source, out)
    exported: list[Json] = []
    failed: list[Json] = []
    refusals: list[Refusal] = []
    with StageProgress("apply to pictures", unit="pictures", total=len(pairs)) as stage:
        for path, to in pairs:
            name = str(to.relative_to(out))
            try:
                exported.append({"file": name, **export_picture(model, path, to)})
            except Unreadable as fault:
                refusals.append(fault.refusal(path))
            except LdctError as fault:
                failed.append({"file": name, "reason": str(fault)})
            stage.advance(1)
    return pictures_report(exported, failed, refusals, source=source, out=out)


def pictures_report(
    exported: list[Json],
    failed: list[Json],
    refusals: list[Refusal],
    *,
    source: Path,
    out: Path,
) -> Json:
    """OUT/report.json of what became of pictures. Raises as apply_to_pictures does."""
    pictures = len(exported) + len(failed) + len(refusals)
    report = {"pictures": pictures, "exported": exported, "failed": failed}
    report |= by_disposition(refusals, source if source.is_dir() else source.parent)
    write_json(out / REPORT, report)
    if failed:
        others = f"; {len(exported)} others were" if exported else ""
        raise LdctError(f"{len(failed)} pictures not exported: {failed[0]['reason']}{others}")
    if not exported:
        why = refusals[0].reason if refusals else "no PNG, JPEG, TIFF or NIfTI file"
        raise NothingUsableError(f"no usable picture in {source}: {why}")
    return report
