"""`import ldct`: cheap, typed, and not misled by a stranger's files of our packages' names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

import ldct
from ldct.own_packages import OWN
from pipeline.core.errors import ConfigError, NothingUsableError
from pipeline.dicom.derived.check import check_tree
from pipeline.dicom.synthetic.phantom_series import write_phantom_series
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.models.adapters.pretrained import load_pretrained
from pipeline.physics.phantoms.patient import patient_phantom

ROOT = Path(__file__).parents[2]
#: A notebook's kernel has the working folder first in sys.path.
AS_IN_A_NOTEBOOK = f"import sys; sys.path[:0] = ['', {str(ROOT)!r}]\n"


def python(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", AS_IN_A_NOTEBOOK + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> ldct.CTSeries:
    folder = tmp_path_factory.mktemp("scan")
    phantom = patient_phantom(np.random.default_rng(1), slices=2)
    write_phantom_series(phantom, folder, patient_number=1, seed=1)
    return ldct.read(folder)


def test_importing_loads_nothing_heavy_and_changes_nothing(tmp_path: Path) -> None:
    code = (
        "import os; before = dict(os.environ), list(sys.meta_path), list(sys.path)\n"
        "import ldct\n"
        "assert (dict(os.environ), list(sys.meta_path), list(sys.path)) == before\n"
        "heavy = {'torch', 'monai', 'numpy', 'scipy', 'pydicom', 'prefect', 'mlflow', 'flows'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "print(ldct.__version__)\n"
    )
    done = python(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == ldct.__version__


def test_a_model_that_comes_with_the_software_needs_neither_prefect_nor_mlflow(
    tmp_path: Path,
) -> None:
    code = (
        "import ldct; ldct.load_model('swift@pretrained')\n"
        "assert not {'prefect', 'mlflow', 'flows'} & set(sys.modules)\n"
    )
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["{}.py", "{}/__init__.py", "{}/other.py"])
def test_files_of_our_packages_names_are_harmless(form: str, tmp_path: Path) -> None:
    for name in OWN:
        path = tmp_path / form.format(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('a stranger was imported')")
    code = (
        "import ldct, pipeline, flows.cli, configs, pretrained\n"
        f"assert pipeline.__file__ == {str(ROOT / 'pipeline' / '__init__.py')!r}\n"
        "from pipeline.config.shipped import shipped_configs\n"
        "assert 'denoise_redcnn' in shipped_configs()\n"
    )
    # Of an editable installation the checkout is in no path: our packages come after all others.
    done = python(f"sys.path.pop(1); sys.path.append({str(ROOT)!r})\n{code}", tmp_path)
    assert done.returncode == 0, done.stderr
    named = [name for name in OWN if f"since ldct has a package {name}" in done.stderr]
    assert named == ([] if form == "{}/other.py" else list(OWN))
    if named:
        assert str(form.format("pipeline")) in done.stderr


def test_a_strangers_module_that_is_imported_already_is_named_in_one_sentence(
    tmp_path: Path,
) -> None:
    (tmp_path / "pipeline.py").write_text("")
    done = python("import pipeline, ldct", tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert "pipeline.py is imported as pipeline already" in last
    assert "rename that file or folder" in last


def test_the_command_works_beside_a_strangers_files(tmp_path: Path) -> None:
    for name in OWN:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger was imported')")
    code = "sys.argv = ['ldct', '--version']\nfrom ldct.command import main\nmain()"
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ldct ")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert re.search(r'^ldct = "ldct\.command:main"$', project, re.M)


def test_names_are_those_of_the_interface_and_typed() -> None:
    assert {"read", "ingest", "simulate", "denoise", "evaluate", "load_model"} < set(ldct.__all__)
    assert set(ldct.__all__) <= set(dir(ldct))
    assert all(getattr(ldct, name).__doc__ for name in ldct.__all__)
    assert (ROOT / "ldct" / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'reed'"):
        ldct.reed  # noqa: B018


def test_what_is_written_is_what_apply_writes(scan: ldct.CTSeries, tmp_path: Path) -> None:
    ldct.write_derived(ldct.denoise(scan, "swift@pretrained"), tmp_path / "here")
    loaded = load_pretrained("swift")
    export_denoised(loaded.model, loaded.card, scan.source, Export(tmp_path / "apply"))
    files = sorted(path.name for path in (tmp_path / "apply").iterdir())
    assert len(files) == len(scan.image_hu)
    for name in files:
        here, apply = (pydicom.dcmread(tmp_path / folder / name) for folder in ("here", "apply"))
        assert here.SOPInstanceUID == apply.SOPInstanceUID
        assert here.DerivationDescription == apply.DerivationDescription
        assert here.PixelData == apply.PixelData


def test_a_denoised_simulation_says_that_it_is_one(scan: ldct.CTSeries, tmp_path: Path) -> None:
    low = ldct.simulate(scan, 0.25, detectors=128, views=128)
    clean = ldct.denoise(low, ldct.load_model("swift@pretrained", strength=0.5))
    report = ldct.write_derived(clean, tmp_path / "clean")
    header = pydicom.dcmread(next((tmp_path / "clean").iterdir()))
    assert header.SeriesDescription.startswith("SIMULATED 25% DOSE AI DENOISED swift")
    assert header.DerivationDescription.startswith("Simulated at dose fraction 0.25")
    assert "calibration" in report.details
    assert all(one.passed for one in check_tree(tmp_path / "clean", None))
    figures = ldct.evaluate(clean, scan, input=low, windows={"lung": (-600, 1500)})
    assert figures.windows["lung"].change["psnr"] > 0


def test_what_cannot_be_done_is_said(scan: ldct.CTSeries, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="as it was read"):
        ldct.write_derived(scan, tmp_path / "out")
    with pytest.raises(ConfigError, match="not dose-conditioned"):
        ldct.denoise(scan, "swift@pretrained", dose_ratio=4)
    with pytest.raises(ConfigError, match="no pretrained model nothing"):
        ldct.denoise(scan, "nothing@pretrained")
    low = ldct.simulate(scan, 1)
    with pytest.raises(ConfigError, match=r"\(1, 2, 3\), and the series"):
        scan.processed(np.zeros((1, 2, 3), np.float32), low.operation, {})
    with pytest.raises(NothingUsableError):
        ldct.read(tmp_path)


def test_of_several_series_the_message_lists_them_and_find_leads_to_each(tmp_path: Path) -> None:
    for number in (1, 2):
        phantom = patient_phantom(np.random.default_rng(number), slices=2)
        folder = tmp_path / str(number)
        write_phantom_series(phantom, folder, patient_number=number, seed=number)
    with pytest.raises(ConfigError, match=r"holds 2 CT volumes \(0: 2 slices, kernel .*; 1: "):
        ldct.read(tmp_path)
    found = ldct.find(tmp_path)
    assert [ldct.read(source).image_hu.shape[0] for source in found.sources] == [2, 2]
