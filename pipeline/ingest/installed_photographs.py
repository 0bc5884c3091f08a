"""Grey photographs of Debian packages, stored beside those that libraries bring along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skimage.color import rgb2gray

from pipeline.config.restoration import PackageName
from pipeline.ingest.bundled_pictures import Pictures, store_sheet
from pipeline.ingest.ingest import IngestReport, Progress
from pipeline.ingest.installed_pictures import find_installed, installed_picture
from pipeline.store.store import Store

#: Pixels along the longer side, at most, as the bundled photographs have: a piece of a larger one
#: is smoother than they are.
LONGEST_SIDE = 640


def store_installed(
    packages: Sequence[PackageName], store: Store, report: IngestReport, progress: Progress
) -> None:
    """Store the photographs of packages, each a series and patient `photographs-NAME` of its own,
    and add them to the report; a package that is not installed is excluded there.

    Values are grey levels from 0 to 255 (ITU-R BT.709 luma), a pixel is 1 mm.
    """
    found = [find_installed(name) for name in packages]
    report.refusals += [package.missing() for package in found if not package.pictures]
    paths = [path for package in found for path in package.pictures]
    for done, path in enumerate(paths, start=1):
        key = f"photographs-{path.stem}"
        sheet = _grey(path, label=len(report.series))
        store_sheet(sheet, store, report, source="photographs", key=key, patient=key)
        progress("storing installed pictures", done, len(paths))


def _grey(path: Path, *, label: int) -> Pictures:
    levels = np.moveaxis(installed_picture(path, LONGEST_SIDE), 0, -1) / 255
    image = (255 * rgb2gray(levels)).astype(np.float32)
    return Pictures([image], np.array([label]), (path.stem,), white=255.0)
