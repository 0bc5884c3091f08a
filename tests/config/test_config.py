"""A run's YAML: typed, complete, and unable to reach code outside the allow-list."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.images import run_data, tiny_train
from torch import nn

from pipeline.config.component import build
from pipeline.config.load import load_config, parse_config
from pipeline.config.names import digest
from pipeline.config.sections import Component
from pipeline.core.errors import ConfigError
from pipeline.models.adapters.base import build_model
from pipeline.physics.lowdose import LowDoseCT

#: DESIGN.md, "One run, as YAML", word for word: a contract.
DESIGN_YAML = """\
name: denoise_redcnn
task: denoise
data: {split: {by: patient, test: 0.2, validation: 0.1}, patch: [64, 64]}
degradation: {target: pipeline.physics.lowdose.LowDoseCT, args: {dose_fraction: 0.25}}
model: {target: pipeline.models.redcnn.REDCNN, args: {channels: 32}}
normalize_hu: {centre: 0, scale: 1000}
step: {target: pipeline.training.steps.supervised.Supervised, args: {residual: true}}
loss: {target: torch.nn.MSELoss}
train: {iterations: 5000, batch: 16, lr: 1.0e-3, precision: bf16, seed: 0}
metrics: [psnr, ssim, rmse, hu_bias]
windows: {soft_tissue: [40, 400], lung: [-600, 1500]}
register: {name: redcnn, gate: {psnr_gain_db: 1.0, max_abs_hu_bias: 2.0}}
"""


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(DESIGN_YAML, encoding="utf-8")
    return path


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_config(raw)
    return str(refused.value)


def test_the_design_s_yaml_loads(yaml_file: Path) -> None:
    config = load_config(yaml_file)
    assert config.train.iterations == 5000
    assert config.train.lr == 1e-3
    assert config.data.patch == (64, 64)
    assert config.windows["lung"].high_hu == 150
    assert config.register_.gate.max_abs_hu_bias == 2.0
    assert build_model(config).adds_input is False
    degradation = build(config.degradation, key="degradation", base=object)
    assert degradation == LowDoseCT(dose_fraction=0.25)


def test_a_misspelled_key_is_named_with_the_nearest() -> None:
    message = refusal(run_data(train=tiny_train(iteratons=5)))
    assert "train.iteratons" in message
    assert "'iterations'" in message
    assert "\n" not in message


def test_a_misspelled_required_key_is_named_too() -> None:
    train = tiny_train()
    train["iteratons"] = train.pop("iterations")
    message = refusal(run_data(train=train))
    assert "iteratons" in message
    assert "'iterations'" in message


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (run_data(widows={}), "'windows'"),
        (run_data(data={"pach": [64, 64]}), "'patch'"),
        (run_data(register={"name": "a", "gate": {"psnr_gain": 1}}), "'psnr_gain_db'"),
        (run_data(train=tiny_train(batch=0)), "train.batch"),
        (run_data(train=tiny_train(precision="fp16")), "train.precision"),
        (run_data(task="segments"), "task"),
        (run_data(task="segment"), "segmentation: say which"),
        (run_data(register={"name": "a", "gate": {"min_dice": 0.9}}), "register.gate.min_dice"),
        (run_data(task="segment", phantoms=True), "phantoms: not for the task segment"),
        (run_data(data={"split": {"test": 1.0}}), "data.split.test"),
    ],
)
def test_a_fault_is_named_in_one_line(raw: dict[str, Any], named: str) -> None:
    message = refusal(raw)
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize("width", [0, -400])
def test_a_window_needs_a_positive_width(width: float) -> None:
    assert "width" in refusal(run_data(windows={"w": [40, width]}))


def test_some_window_is_needed() -> None:
    assert "window" in refusal(run_data(windows={}))


def test_overrides_have_the_types_of_yaml(yaml_file: Path) -> None:
    config = load_config(
        yaml_file,
        [
            "train.iterations=7",
            "train.lr=2.5e-4",
            "train.compile=true",
            "train.clip_gradient_norm=null",
            "data.patch=[32, 48]",
            "data.split.test=[p-1, p-2]",
            "model.args.channels=8",
            "normalize_hu.scale=500",
        ],
    )
    assert config.train.iterations == 7
    assert config.train.lr == 2.5e-4
    assert config.train.compile is True
    assert config.train.clip_gradient_norm is None
    assert config.data.patch == (32, 48)
    assert config.data.split.test == ["p-1", "p-2"]
    assert config.model.args == {"channels": 8}
    assert config.normalize_hu.scale == 500.0


@pytest.mark.parametrize(
    "override", ["train.iterations", "=3", "name.first=x", "data.patch=[1", "train.iteratons=3"]
)
def test_a_wrong_override_is_refused(yaml_file: Path, override: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(yaml_file, [override])
    assert override.split("=")[0] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["a: [1", "", "- 1\n- 2\n", "just words"])
def test_a_file_without_a_run_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.yaml") as refused:
        load_config(path)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_yaml_tags_make_no_objects(tmp_path: Path) -> None:
    path, made = tmp_path / "run.yaml", tmp_path / "made"
    path.write_text(f"name: !!python/object/apply:os.mkdir [{made}]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path)
    assert not made.exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.hub.load",
        "torch.load",
        "subprocess.Popen",
        "builtins.eval",
        "REDCNN",
        "",
        "pipeline.store.store.Store",
        "pipeline.models_of_others.Net",
        # Re-exports: the module is allowed, what it imported is not.
        "pipeline.models.adapters.weights.load_file",
        "pipeline.models.adapters.weights.Path",
        "pipeline.models.adapters.weights.yaml",
        "pipeline.physics.fan_beam.lru_cache",
        "torch.nn.functional.torch",
    ],
)
def test_a_target_outside_the_allow_list_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.target") as refused:
        build(Component(target=target), key="model", base=object)
    assert "not allowed" in str(refused.value)


def test_a_refused_module_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = tmp_path / "touched"
    source = f"from pathlib import Path\nPath({str(touched)!r}).touch()\nclass Net: ...\n"
    (tmp_path / "sly_module.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError):
        build(Component(target="sly_module.Net"), key="model", base=object)
    assert not touched.exists()
    assert "sly_module" not in sys.modules


@pytest.mark.parametrize(
    "target", ["pipeline.models.nowhere.Net", "pipeline.models.redcnn.Nothing", "torch.nn."]
)
def test_a_target_that_is_not_there_is_named(target: str) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        build(Component(target=target), key="model", base=nn.Module)


@pytest.mark.parametrize(
    "target", ["torch.nn.functional.relu", "pipeline.physics.lowdose.LowDoseCT"]
)
def test_a_target_of_another_kind_is_refused(target: str) -> None:
    with pytest.raises(ConfigError, match="is not a Module"):
        build(Component(target=target), key="model", base=nn.Module)


@pytest.mark.parametrize(
    "args", [{"chanels": 8}, {"channels": 8, "stride": 2}, {"channels": "many"}, {"kernel": 4}]
)
def test_wrong_arguments_are_named(args: dict[str, Any]) -> None:
    component = Component(target="pipeline.models.redcnn.REDCNN", args=args)
    with pytest.raises(ConfigError, match=r"model\.args") as refused:
        build(component, key="model", base=nn.Module)
    assert "\n" not in str(refused.value)


def test_resolved_makes_the_round_trip_with_every_default() -> None:
    config = parse_config(run_data(data={"split": {"test": ["p-1"], "validation": 0.0}}))
    resolved = yaml.safe_load(yaml.safe_dump(config.resolved()))
    assert parse_config(resolved) == config
    assert resolved["train"]["seed"] == 0
    assert resolved["normalize_hu"] == {"centre": 0.0, "scale": 1000.0}
    assert resolved["register"]["gate"]["psnr_gain_db"] == 1.0


def test_the_digest_knows_values_but_not_their_order() -> None:
    config = parse_config(run_data()).resolved()
    backwards = {key: config[key] for key in reversed(config)}
    backwards["train"] = {key: config["train"][key] for key in reversed(config["train"])}
    assert list(backwards) != list(config)
    assert digest(backwards) == digest(config)
    backwards["train"]["seed"] = 1
    assert digest(backwards) != digest(config)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (run_data(windows={"w": [float("nan"), 400]}), "windows.w"),
        (run_data(data={"noise_scale": [1.5, 0.5]}), "noise_scale"),
        (run_data(data={"split": {"test": []}}), "at least one patient"),
        (run_data(data={"split": {"test": ["p-1"], "validation": ["p-1"]}}), "both"),
        (run_data(data={"split": {"test": 0.6, "validation": 0.5}}), "no patient to train on"),
        (run_data(train=tiny_train(lr=float("inf"))), "train.lr"),
    ],
)
def test_values_that_make_no_sense_are_refused(raw: dict[str, Any], says: str) -> None:
    assert says in refusal(raw)
