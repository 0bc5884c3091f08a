"""A MONAI bundle as others publish them is read as data: what it would run is not run."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet

from flows.import_model import import_model, read_model
from flows.tracking.registry import Registry
from pipeline.config.task_runs import SegmentRun
from pipeline.core.errors import ConfigError
from pipeline.models.adapters import bundle_files

UNET = {"channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "batch"}
METADATA = {
    "version": "0.5.3",
    "name": "Spleen CT segmentation",
    "authors": "MONAI team",
    "network_data_format": {
        "outputs": {"pred": {"channel_def": {"1": "spleen", "0": "background"}}}
    },
}


def inference(made: Path) -> dict[str, Any]:
    """In the form of the spleen bundle of MONAI's model zoo; with expressions that make a file."""
    return {
        "imports": ["$import glob", f"$__import__('pathlib').Path({str(made)!r}).touch()"],
        "bundle_root": "$__import__('os').getcwd()",
        "device": "$torch.device('cpu')",
        "roi": [16, 24, 32],
        "network_def": {
            "_target_": "UNet",
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 2,
            **UNET,
        },
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.6, 2.0]},
                {
                    "_target_": "ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": -57,
                    "a_max": 164,
                    "b_min": -1,
                    "b_max": 1,
                    "clip": True,
                },
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@roi", "overlap": 0.5},
        "run": ["$@evaluator.run()"],
    }


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What the bundle's code would make."""
    return tmp_path / "made"


@pytest.fixture
def bundle(tmp_path: Path, made: Path) -> Path:
    folder = tmp_path / "spleen"
    for name in ("configs", "models", "scripts"):
        (folder / name).mkdir(parents=True)
    (folder / "scripts" / "__init__.py").write_text(f"open({str(made)!r}, 'w')")
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    (folder / "LICENSE").write_text("\nApache License\nVersion 2.0\n")
    network = UNet(spatial_dims=3, in_channels=1, out_channels=2, **UNET)
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return written(folder, inference(made))


def written(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    return folder


def zipped(folder: Path, to: Path, root: str = "spleen/") -> Path:
    with zipfile.ZipFile(to, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, root + str(path.relative_to(folder)))
    return to


def test_its_settings_become_ours_and_nothing_of_it_is_run(bundle: Path, made: Path) -> None:
    config, model = read_model(bundle, name="spleen_of_monai")
    assert isinstance(config, SegmentRun)
    grid = config.grid
    assert grid.spacing_mm == (2.0, 1.6, 1.5)
    assert grid.patch == [32, 24, 16]
    assert (grid.axes, grid.overlap, list(grid.classes)) == ("RAS", 0.5, ["spleen"])
    adapter: Any = model
    ends = adapter.units(torch.tensor([-1000.0, -57.0, 164.0, 900.0]), *grid.ranges_hu[0])
    assert torch.allclose(ends, torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    assert not made.exists()


@pytest.mark.usefixtures("own_registry")
def test_a_zip_archive_becomes_a_version_with_its_source_and_licence(
    bundle: Path, made: Path, tmp_path: Path
) -> None:
    import_model(zipped(bundle, tmp_path / "b.zip"), None, name="spleen_of_monai")
    version = Registry.default().find("spleen_of_monai/1")
    assert version.tags["licence"] == "Apache License"
    assert version.tags["source"] == "MONAI bundle Spleen CT segmentation, 0.5.3, MONAI team"
    assert not made.exists()


def change(config: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    node: Any = config
    for section in sections:
        node = node[int(section) if section.isdigit() else section]
    node[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "network_def.channels",
            "$[4, 8]",
            "'\\$\\[4, 8\\]' is an expression",
        ),
        ("network_def.act", "@bundle_root", "getcwd.* is an expression; none is run"),
        ("network_def.act", "@nowhere", "there is no 'nowhere' for the reference"),
        ("network_def", "$scripts.net()", "network_def: expected a mapping with _target_"),
        ("network_def._target_", "scripts.Net", "network.name: Input should be"),
        ("network_def._target_", "torch.jit.load", "network.name: Input should be"),
        ("network_def._mode_", "debug", "of MONAI's special keys only _target_ is read"),
        ("network_def.out_channels", 3, "network.args.out_channels: 3, but 2 follows"),
        ("preprocessing.transforms", "$[] + []", "preprocessing.transforms: expected a list"),
        ("preprocessing.transforms.0._target_", "Lambdad", "preprocessing: Lambdad is not known"),
        ("preprocessing.transforms.2._target_", "EnsureTyped", "Orientationd is missing"),
        ("preprocessing.transforms.4.clip", False, "expected four numbers and clip: true"),
        ("preprocessing.transforms.4.a_min", "$-57", "'\\$-57' is an expression"),
        ("inferer._target_", "scripts.Inferer", "inferer: expected SlidingWindowInferer"),
    ],
)
def test_what_would_have_to_be_run_or_guessed_is_refused_by_name(
    path: str, value: Any, message: str, bundle: Path, made: Path
) -> None:
    config = inference(made)
    change(config, path, value)
    with pytest.raises(ConfigError, match=message):
        read_model(written(bundle, config), name="spleen_of_monai")
    assert not made.exists()


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a\\..\\out.txt"])
def test_an_archive_reaches_no_place_outside(name: str, bundle: Path, tmp_path: Path) -> None:
    path = zipped(bundle, tmp_path / "b.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(ConfigError, match="lies outside of the archive"):
        read_model(path, name="spleen_of_monai")


def test_an_archive_that_is_too_large_or_no_bundle_is_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(bundle, tmp_path / "b.zip", root="")
    assert read_model(path, name="n")[0].name == "n"
    monkeypatch.setattr(bundle_files, "MAX_BYTES", 1000)
    with pytest.raises(ConfigError, match="at most 1000 are read"):
        read_model(path, name="n")
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(ConfigError, match=r"expected one configs/metadata\.json, found 0"):
        read_model(tmp_path / "none.zip", name="n")
    with pytest.raises(ConfigError, match="say by --name as what it is registered"):
        read_model(bundle)


def test_a_class_without_a_code_is_refused_before_it_is_registered(bundle: Path) -> None:
    raw = json.loads(json.dumps(METADATA))
    raw["network_data_format"]["outputs"]["pred"]["channel_def"]["1"] = "thing"
    (bundle / "configs" / "metadata.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match="no code for the structure 'thing'"):
        import_model(bundle, None, name="n")
