"""Plans and labels of nnU-Net are read as data, old and new ones; what is not done is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.model_import import ModelImport
from pipeline.config.nnunet_import import read_plans, results_folder
from pipeline.config.task_runs import SegmentRun
from pipeline.config.totalsegmentator import CLASSES
from pipeline.core.errors import ConfigError
from pipeline.dicom.derived.structure_codes import codes_of

RESULTS = Path(__file__).parents[1] / "data" / "nnunet"
Edit = Callable[[dict[str, Any], dict[str, Any]], None]


def fullres(plans: dict[str, Any]) -> dict[str, Any]:
    return plans["configurations"]["3d_fullres"]


def arch(plans: dict[str, Any]) -> dict[str, Any]:
    return fullres(plans)["architecture"]["arch_kwargs"]


def written(folder: Path, edit: Edit = lambda plans, dataset: None) -> Path:
    """The plans that nnU-Net itself wrote for tests/data/nnunet, edited."""
    plans, dataset = (json.loads((RESULTS / f"{n}.json").read_text()) for n in ("plans", "dataset"))
    edit(plans, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def read(folder: Path, **given: Any) -> ModelImport:
    known: dict[str, Any] = {
        "weights": "fold_0/checkpoint_final.pth",
        "folds": 1,
        "configuration": "3d_fullres",
        "trainer": "nnUNetTrainer",
        "mirrored": (0, 1, 2),
        "axes": "SPL",
        "licence": None,
    }
    return read_plans(folder, "theirs", **{**known, **given})


def grid(found: ModelImport) -> Any:
    run = found.run(weights_sha256="0" * 64)
    assert isinstance(run, SegmentRun)
    return run.grid


def test_plans_become_a_run_with_units_windows_and_source(tmp_path: Path) -> None:
    found = read(written(tmp_path), folds=2)
    settings = grid(found)
    ct = json.loads((RESULTS / "plans.json").read_text())
    ct = ct["foreground_intensity_properties_per_channel"]["0"]
    assert settings.ranges_hu == ((ct["percentile_00_5"], ct["percentile_99_5"]),)
    assert settings.normalize_hu.centre == ct["mean"]
    assert settings.normalize_hu.scale == ct["std"]
    assert settings.as_nnunet
    assert settings.patch == [12, 32, 32]
    assert settings.spacing_mm == (3.5, 1.7, 1.7)
    assert settings.test_time_flips == (0, 1, 2)
    assert settings.multiple == 4
    assert list(settings.classes) == ["liver", "spleen"]
    assert found.network.args["folds"] == 2
    assert found.licence == "CC0-1.0"
    assert "nnUNetTrainer" in found.source
    assert "Dataset900_Synthetic" in found.source


def test_axes_of_images_and_of_plans_are_put_together(tmp_path: Path) -> None:
    def transposed(plans: dict[str, Any], _: Any) -> None:
        plans["transpose_forward"] = [1, 0, 2]
        fullres(plans)["spacing"] = [1.5, 3.5, 1.7]
        fullres(plans)["patch_size"] = [16, 12, 32]

    settings = grid(read(written(tmp_path, transposed), axes="SAR", mirrored=(0,)))
    assert settings.axes == "ASR"
    assert settings.spacing_mm == (3.5, 1.5, 1.7)
    assert settings.patch == [12, 16, 32]
    assert settings.test_time_flips == (1,), "its first axis, which runs along rows"


def test_a_network_of_two_dimensions_is_read_and_sees_axial_slices(tmp_path: Path) -> None:
    def turned(plans: dict[str, Any], _: Any) -> None:
        plans["transpose_forward"] = [0, 2, 1]
        plans["configurations"]["2d"]["spacing"] = [1.5, 1.7]

    settings = grid(read(written(tmp_path, turned), configuration="2d", mirrored=(1,)))
    assert settings.axes == "LP"
    assert settings.dimensions == 2
    assert settings.spacing_mm[1:] == (1.7, 1.5)
    assert settings.test_time_flips == (1,)
    sagittal = written(tmp_path / "b", lambda plans, _: plans.update(transpose_forward=[2, 0, 1]))
    with pytest.raises(ConfigError, match="does not see axial slices"):
        read(sagittal, configuration="2d")


def test_axes_are_asked_for_where_plans_do_not_say_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say it by --axes"):
        read(written(tmp_path), axes=None)
    with pytest.raises(ConfigError, match="each of three directions once"):
        read(written(tmp_path), axes="SPA")
    reader = {"image_reader_writer": "NibabelIOWithReorient"}
    turning = written(tmp_path / "b", lambda plans, _: plans.update(reader))
    assert read(turning, axes=None).axes == "SAR"
    with pytest.raises(ConfigError, match="were turned to SAR"):
        read(turning, axes="SPL")


def totalsegmentator(plans: dict[str, Any], dataset: dict[str, Any]) -> None:
    """As its weight folders have them: plans of nnU-Net before 2.4, all of its classes."""
    plans["dataset_name"] = "Dataset297_TotalSegmentator_total_3mm_1559subj"
    found = fullres(plans)
    args = found.pop("architecture")["arch_kwargs"]
    plans["configurations"] = {
        "3d_fullres": found
        | {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 4,
            "unet_max_num_features": 8,
            "num_pool_per_axis": [1, 2, 2],
            "conv_kernel_sizes": args["kernel_sizes"],
            "pool_op_kernel_sizes": args["strides"],
            "n_conv_per_stage_encoder": args["n_conv_per_stage"],
            "n_conv_per_stage_decoder": args["n_conv_per_stage_decoder"],
        }
    }
    dataset["labels"] = {"background": 0, **{name: n for n, name in enumerate(CLASSES, start=1)}}
    dataset["channel_names"] = {"0": "ct"}


def test_totalsegmentators_117_classes_are_known_with_their_codes(tmp_path: Path) -> None:
    assert len(set(CLASSES)) == 117
    assert (CLASSES[4], CLASSES[51], CLASSES[116]) == ("liver", "aorta", "costal_cartilages")
    for name in CLASSES:
        codes_of(name)
    found = read(written(tmp_path, totalsegmentator), axes=None, licence="Apache-2.0")
    settings = grid(found)
    assert tuple(settings.classes) == CLASSES
    assert settings.channels == 118
    assert settings.axes == "SAR"
    assert found.network.args["features_per_stage"] == [4, 8, 8]
    assert found.source.startswith("TotalSegmentator (Wasserthal")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p, d: d["channel_names"].update({"1": "CT"}), "one channel, CT"),
        (lambda p, d: d.update(channel_names={"0": "T1"}), "one channel, CT"),
        (lambda p, d: d["labels"].update(both=[1, 2]), "both is a region"),
        (lambda p, d: d["labels"].update(spleen=5), "not numbered"),
        (lambda p, d: d["labels"].pop("background"), "no background"),
        (lambda p, d: d.pop("licence"), "--licence"),
        (lambda p, d: fullres(p).update(normalization_schemes=["ZScoreNormalization"]), "ZScore"),
        (lambda p, d: fullres(p).update(preprocessor_name="Mine"), "preprocessor_name"),
        (lambda p, d: fullres(p).update(resampling_fn_data="mine"), "resampling_fn_data"),
        (lambda p, d: fullres(p).update(previous_stage="3d_lowres"), "previous_stage"),
        (lambda p, d: fullres(p)["architecture"].update(network_class_name="os.system"), "system"),
        (lambda p, d: arch(p).update(conv_op="os.Conv2d"), "conv_op is Conv2d"),
        (lambda p, d: arch(p).update(nonlin="torch.nn.GELU"), "GELU"),
        (lambda p, d: arch(p).update(nonlin_first=True), "nonlin_first"),
        (lambda p, d: arch(p).update(kernel_sizes="$__import__('os')"), "is an expression"),
        (lambda p, d: p.update(transpose_forward=[0, 0, 1]), "transpose_forward"),
        (lambda p, d: p.pop("foreground_intensity_properties_per_channel"), "percentile_00_5"),
        (lambda p, d: fullres(p).update(inherits_from="3d_fullres"), "no configuration"),
    ],
)
def test_what_is_not_done_here_is_refused_by_name(tmp_path: Path, edit: Edit, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(written(tmp_path, edit)).run(weights_sha256="0" * 64)


def test_ignored_labels_are_no_class_and_inherited_settings_are_followed(tmp_path: Path) -> None:
    def edit(plans: dict[str, Any], dataset: dict[str, Any]) -> None:
        dataset["labels"]["ignore"] = 3
        plans["configurations"]["mine"] = {"inherits_from": "3d_fullres", "spacing": [2, 2, 2]}

    settings = grid(read(written(tmp_path, edit), configuration="mine"))
    assert list(settings.classes) == ["liver", "spleen"]
    assert settings.spacing_mm == (2, 2, 2)


def test_the_folder_of_one_training_is_found_and_two_are_asked_about(tmp_path: Path) -> None:
    assert results_folder(tmp_path) is None
    one = written(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    assert results_folder(tmp_path) == results_folder(one) == one
    written(tmp_path / "other")
    with pytest.raises(ConfigError, match="several trainings"):
        results_folder(tmp_path)
