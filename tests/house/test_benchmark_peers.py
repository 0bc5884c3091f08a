"""benchmarks/peers.py: peers do the same work, and the table has a column for each processor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import write_series

from pipeline.config.shipped import find_pretrained
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume
from pipeline.inference.denoise import apply_model
from pipeline.models.adapters.pretrained import load_pretrained

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import peers  # noqa: E402  (the folder is no package)
import peers_rows  # noqa: E402

sys.path.remove(str(ROOT / "benchmarks"))


def volume_hu(folder: Path) -> np.ndarray:
    (series,) = find_series(folder).series
    return np.asarray(read_volume(series).volume.image_hu)


def test_the_script_gives_what_the_model_gives(tmp_path: Path) -> None:
    write_series(tmp_path / "source", count=3)
    weights = find_pretrained("swift") / "weights.safetensors"
    script = ROOT / "benchmarks" / "reference" / "plain_apply.py"
    subprocess.run(
        [sys.executable, str(script), *map(str, (tmp_path / "source", tmp_path / "out", weights))],
        check=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    ours_hu = apply_model(load_pretrained("swift").model, volume_hu(tmp_path / "source"))
    assert np.abs(volume_hu(tmp_path / "out") - ours_hu).max() <= 0.51  # stored in whole HU


@pytest.mark.parametrize("kind", sorted(peers_rows.SYNTAXES))
def test_the_compressed_series_is_the_same(tmp_path: Path, kind: str) -> None:
    paths = write_series(tmp_path / "source", count=3)
    peers_rows.write_compressed(tmp_path / "source", tmp_path / "packed", kind)
    assert (volume_hu(tmp_path / "packed") == volume_hu(tmp_path / "source")).all()
    assert (tmp_path / "packed" / paths[0].name).stat().st_size < paths[0].stat().st_size
    peers_rows.simpleitk_reads(tmp_path / "packed")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.dcm").write_text("no DICOM")
    with pytest.raises(SystemExit, match="no series that can be read"):
        peers_rows.decode(tmp_path / "text")


def test_each_processor_has_a_column() -> None:
    facts = peers.machine.facts("auto")
    first = facts | {"processor": "A 7", "features": ["avx2"], "threads": 2}
    second = facts | {"processor": "B 9", "features": ["avx2", "avx512_bf16"], "threads": 2}
    rows = {"plain": [4.0, 4.0], "bf16 autocast": [3.0, 3.0], "ldct": [2.0, 1.0]}
    kept = {
        peers.processor_kind(first): {"rows": {"one": rows}, "machine": first},
        peers.processor_kind(second): {"rows": {"two": rows}, "machine": second},
    }
    table = peers.markdown(kept)
    assert "| | A 7 (avx2), 2 threads | B 9 (avx2, avx512_bf16), 2 threads |" in table
    assert "| one | 1.5 (1 to 2); bf16 autocast 2.25, plain 3.00 | not measured |" in table
    assert "| two | not measured | 1.5 (1 to 2); bf16 autocast 2.25, plain 3.00 |" in table
