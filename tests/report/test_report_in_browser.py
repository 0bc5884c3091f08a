"""The report in a real browser: for everybody, and on paper."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, missing
from helpers.images import run_config
from helpers.report import a_curve, a_panel, a_run
from PIL import Image

from pipeline.evaluation.phantoms import measure_on_phantoms
from pipeline.models.adapters.base import Identity
from pipeline.report.pages import write_report

AXE = ROOT / "pipeline" / "review" / "page" / "node_modules" / "axe-core" / "axe.min.js"
PANELS = 4
A4_LANDSCAPE_MM = (297, 210)
MARGIN_MM = 14
DPI = 40
#: Of the height between the margins, on all pages but the last.
LEAST_FILLED = 0.7


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all its sections, slices of the usual size, and charts."""
    rows, columns = np.mgrid[:512, :512]
    body = np.hypot(rows - 256, columns - 256) < 200
    full_hu = np.where(body, 40, -1000).astype(np.float32)
    images = {"target_hu": full_hu, "input_hu": full_hu + 20, "output_hu": full_hu - 5}
    phantoms = measure_on_phantoms(Identity(), run_config(), slices=2).to_dict()
    path = tmp_path_factory.mktemp("report") / "report.html"
    panels = [a_panel(title=f"p-bbb slice {n + 1} of 51", **images) for n in range(PANELS)]
    report = {**a_run(), "phantoms": phantoms}
    write_report(report, panels=panels, curve=a_curve(200), path=path)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_accessibility_fault(browser: Any, page: Path, scheme: str) -> None:
    if not AXE.exists():
        missing("axe-core is not installed: run `make page`")
    # The page's own policy runs no script.
    shown = browser.new_page(bypass_csp=True, color_scheme=scheme)
    shown.goto(page.as_uri())
    shown.evaluate(AXE.read_text(encoding="utf-8") + ";undefined")
    found = shown.evaluate(
        "axe.run().then((r) => r.violations.map((v) => [v.impact, v.id, v.nodes[0].html]))"
    )
    assert found == []
    shown.close()


def test_no_printed_page_is_half_empty(
    browser: Any, page: Path, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    rasterise = require_program("pdftoppm")
    printed = browser.new_page()
    printed.goto(page.as_uri())
    printed.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True, print_background=True)
    printed.close()
    command = [rasterise, "-r", str(DPI), "-png", str(tmp_path / "report.pdf"), str(tmp_path / "p")]
    subprocess.run(command, check=True)
    sheets = [Image.open(path).convert("L") for path in sorted(tmp_path.glob("p-*.png"))]
    sizes = {sheet.size for sheet in sheets}
    (size,) = sizes
    assert size == pytest.approx([mm / 25.4 * DPI for mm in A4_LANDSCAPE_MM], abs=1)
    shares = [filled(np.array(sheet)) for sheet in sheets]
    assert min(shares[:-1]) >= LEAST_FILLED, shares
    assert len(sheets) >= PANELS  # one for each panel with its chart


def filled(sheet: np.ndarray) -> float:
    """How far down a page is used, as a share of the height between its margins."""
    margin = round(MARGIN_MM / 25.4 * DPI)
    inside = sheet[margin:-margin]
    used = np.flatnonzero((inside < 250).any(axis=1))
    return (int(used[-1]) + 1) / len(inside) if len(used) else 0.0
