"""Configurations that come with the software go by name; a file of the user's comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import load_config
from pipeline.core.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_name_is_the_configuration_that_comes_with_the_software() -> None:
    named = load_config(Path("denoise_redcnn"), ["train.iterations=20"])
    path = load_config(CONFIGS / "denoise_redcnn.yaml", ["train.iterations=20"])
    assert named == path
    assert named.train.iterations == 20


def test_a_folder_of_that_name_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "denoise_redcnn").mkdir()
    assert load_config(Path("denoise_redcnn")).name == "denoise_redcnn"


def test_a_file_of_that_name_comes_first(tmp_path: Path) -> None:
    text = (CONFIGS / "demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "denoise_redcnn").write_text(text, encoding="utf-8")
    assert load_config(Path("denoise_redcnn")) == load_config(CONFIGS / "demo.yaml")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"denoise_redcn; did you mean denoise_redcnn\?"):
        load_config(Path("denoise_redcn"))
    with pytest.raises(ConfigError, match=r"there are: .*demo, .*vae_ct"):
        load_config(Path("zzzzzzz"))


@pytest.mark.parametrize("missing", ["configs/denoise_redcn", "denoise_redcn.yaml"])
def test_a_path_that_is_missing_is_told_as_a_path(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot read the configuration {missing}"):
        load_config(Path(missing))
