"""What an nnU-Net v2 results folder says of its model: plans.json and dataset.json, read as data.

Nothing of them is imported: the network is one of two by the last part of its class name, and what
its plans say otherwise (another normalisation, resampling, preprocessor, labels that overlap, a
cascade, several channels) is refused by name. Plans of nnU-Net before 2.4, such as those of
TotalSegmentator's weights, say the same by other keys.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.config.model_import import ModelImport, parse_import
from pipeline.config.segmentation import WORKING_AXES, WORKING_AXIS
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json

PLANS, DATASET = "plans.json", "dataset.json"
#: By architecture, what plans call the number of convolutions or blocks of a stage.
COUNTS = {"PlainConvUNet": "n_conv_per_stage", "ResidualEncoderUNet": "n_blocks_per_stage"}
PREPROCESSOR, RESAMPLING, NORMALISATION = (
    "DefaultPreprocessor",
    "resample_data_or_seg_to_shape",
    "CTNormalization",
)
#: Its readers of images turn each to the patient's right, front and head; as the axes of arrays.
TURNS_ITSELF, CANONICAL = "NibabelIOWithReorient", "SAR"
#: TotalSegmentator turns images in the same way before its networks see them.
TOTALSEGMENTATOR = re.compile(r"^Dataset\d+_TotalSegmentator", re.IGNORECASE)
TOTALSEGMENTATOR_SOURCE = "TotalSegmentator (Wasserthal et al., Radiology: AI 2023)"
#: Of neighbouring windows.
OVERLAP = 0.5


def results_folder(path: Path) -> Path | None:
    """The folder of plans.json: `path` itself, or the only folder below it that has one, as in a
    dataset's folder of one training; None where there is none. ConfigError where there are more."""
    if (path / PLANS).is_file():
        return path
    below = sorted(found.parent for found in path.glob(f"*/{PLANS}"))
    if len(below) > 1:
        names = ", ".join(folder.name for folder in below)
        raise ConfigError(f"{path} has the results of several trainings, {names}: name one")
    return below[0] if below else None


def read_plans(
    folder: Path,
    name: str,
    *,
    weights: str,
    folds: int,
    configuration: str,
    trainer: str,
    mirrored: tuple[int, ...],
    axes: str | None,
    licence: str | None,
) -> ModelImport:
    """The settings of a results folder's model, by which it is registered as `name`.

    configuration, trainer, mirrored: as the checkpoints have them. axes: where the voxels of the
    training images ran to, as axes of arrays (slices, rows, columns), which plans do not say.
    Raises ConfigError where something needed is missing or is not done here.
    """
    plans, dataset = _as_data(folder / PLANS), _as_data(folder / DATASET)
    chosen = _configuration(plans, configuration)
    _require_known(chosen, dataset)
    dataset_name = str(plans.get("dataset_name", ""))
    is_total = TOTALSEGMENTATOR.match(dataset_name) is not None
    own = _axes(plans, chosen, axes, is_total=is_total)
    licence = licence or dataset.get("licence") or dataset.get("license")
    if not licence:
        raise ConfigError(f"{folder / DATASET} names no licence: say it by --licence")
    published = TOTALSEGMENTATOR_SOURCE if is_total else str(dataset.get("reference") or "")
    source = filter(None, [published, f"nnU-Net v2 {dataset_name}", trainer, configuration])
    raw = {
        "name": name,
        "kind": "nnunet",
        "task": "segment",
        "weights": weights,
        "network": {"name": "NnUNet", "args": {**_architecture(chosen), "folds": folds}},
        "source": ", ".join(source),
        "licence": str(licence),
        "classes": _classes(dataset),
        "patch": chosen["patch_size"],
        "overlap": OVERLAP,
        "axes": own[-len(chosen["patch_size"]) :],
        "spacing_mm": _spacing_mm(plans, chosen, own),
        "test_time_flips": mirrored,
        **_units(plans),
    }
    return parse_import(raw, source=str(folder))


def _configuration(plans: Json, name: str, seen: tuple[str, ...] = ()) -> Json:
    """One configuration with what it inherits."""
    found = plans.get("configurations", {}).get(name)
    if not isinstance(found, dict) or name in seen:
        raise ConfigError(f"{PLANS}: no configuration {name!r}, which the checkpoint is of")
    parent = found.get("inherits_from")
    inherited = _configuration(plans, parent, (*seen, name)) if parent else {}
    return {**inherited, **found}


def _require_known(chosen: Json, dataset: Json) -> None:
    """Raises ConfigError for what pipeline.inference.nnunet does not do."""
    for key, wanted in (
        ("preprocessor_name", PREPROCESSOR),
        ("normalization_schemes", [NORMALISATION]),
        ("use_mask_for_norm", [False]),
        ("resampling_fn_data", RESAMPLING),
        ("resampling_fn_probabilities", RESAMPLING),
        ("resampling_fn_data_kwargs", _resampling(3)),
        ("resampling_fn_probabilities_kwargs", _resampling(1)),
        ("previous_stage", None),
    ):
        if chosen.get(key) != wanted:
            raise ConfigError(f"{PLANS}: {key} is {chosen.get(key)!r}; done here is {wanted!r}")
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, dict) or [str(v).upper() for v in channels.values()] != ["CT"]:
        raise ConfigError(f"{DATASET}: channel_names is {channels!r}; done here is one channel, CT")


def _resampling(order: int) -> Json:
    return {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}


def _axes(plans: Json, chosen: Json, given: str | None, *, is_total: bool) -> str:
    """Where the network's own three axes run to, slices first."""
    reader = plans.get("image_reader_writer")
    known = CANONICAL if is_total or reader == TURNS_ITSELF else None
    if known and given and given != known:
        raise ConfigError(f"--axes: {given}, but images of this training were turned to {known}")
    file_axes = given or known
    if file_axes is None:
        raise ConfigError(
            f"{PLANS} does not say where the voxels of the training images run to: say it by "
            "--axes (slices, rows, columns): SPL where axial DICOM series were converted as they "
            f"are, by SimpleITK for one; {CANONICAL} for images in canonical order (RAS)"
        )
    order = plans.get("transpose_forward")
    if sorted(WORKING_AXIS.get(n, "") for n in file_axes) != sorted(WORKING_AXES):
        raise ConfigError(f"--axes: {file_axes} does not name each of three directions once")
    if not isinstance(order, list) or sorted(order) != [0, 1, 2]:
        raise ConfigError(f"{PLANS}: transpose_forward is {order!r}")
    own = "".join(file_axes[n] for n in order)
    if len(chosen.get("patch_size", [])) == 2 and WORKING_AXIS[own[0]] != WORKING_AXES[0]:
        raise ConfigError(f"{PLANS}: a network of two dimensions that does not see axial slices")
    return own


def _spacing_mm(plans: Json, chosen: Json, own: str) -> list[float]:
    """Along the network's axes; of a network of two dimensions as (slice, row, column), of which
    the first is the training's median and not used."""
    spacing = chosen.get("spacing")
    if not isinstance(spacing, list):
        raise ConfigError(f"{PLANS}: spacing is {spacing!r}")
    if len(spacing) == 3:
        return spacing
    median = plans.get("original_median_spacing_after_transp", [1.0])[0]
    by_axis = dict(zip((WORKING_AXIS[letter] for letter in own[1:]), spacing, strict=True))
    return [median, *(by_axis[axis] for axis in WORKING_AXES[1:])]


def _units(plans: Json) -> Json:
    """CT normalisation: clipped to percentiles of the training's structures, then by their mean and
    standard deviation."""
    of_channels = plans.get(
        "foreground_intensity_properties_per_channel",
        plans.get("foreground_intensity_properties_by_modality"),
    )
    of_ct = of_channels.get("0") if isinstance(of_channels, Mapping) else None
    names = ("percentile_00_5", "percentile_99_5", "mean", "std")
    found = [of_ct.get(name) if isinstance(of_ct, Mapping) else None for name in names]
    for name, value in zip(names, found, strict=True):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"{PLANS}: {name} of the training's intensities is {value!r}")
    low, high, mean, deviation = found
    return {
        "clip_hu": [low, high],
        "normalize_hu": {"centre": mean, "scale": max(deviation, 1e-8)},  # type: ignore[type-var]
    }


def _classes(dataset: Json) -> list[str]:
    """The names of the network's channels after the background."""
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or labels.get("background") != 0:
        raise ConfigError(f"{DATASET}: labels has no background of 0")
    numbers = {name: value for name, value in labels.items() if name != "ignore"}
    for name, value in numbers.items():
        if isinstance(value, list):
            raise ConfigError(f"{DATASET}: {name} is a region, {value}: classes that overlap")
    ordered = sorted(numbers, key=lambda name: numbers[name])
    if [numbers[name] for name in ordered] != list(range(len(ordered))):
        raise ConfigError(f"{DATASET}: labels are not numbered 0, 1, 2, ...")
    return ordered[1:]


def _architecture(chosen: Json) -> Json:
    """Arguments of pipeline.models.nnunet.NnUNet."""
    if "architecture" not in chosen:
        return _architecture_before_2_4(chosen)
    section = chosen["architecture"]
    args = dict(section.get("arch_kwargs", {}))
    name = _known_architecture(str(section.get("network_class_name")).rpartition(".")[2])
    dims = len(chosen["patch_size"])
    for key, wanted in (
        ("conv_op", f"Conv{dims}d"),
        ("norm_op", f"InstanceNorm{dims}d"),
    ):
        if (found := str(args.pop(key, None)).rpartition(".")[2]) != wanted:
            raise ConfigError(f"{PLANS}: {key} is {found}; done here is {wanted}")
    norm = args.pop("norm_op_kwargs", None) or {}
    slope = _slope(str(args.pop("nonlin", None)), args.pop("nonlin_kwargs", None) or {})
    for ignored in ("dropout_op", "dropout_op_kwargs", "deep_supervision"):  # of training
        args.pop(ignored, None)
    if args.pop("n_stages", None) != len(args.get("features_per_stage", [])):
        raise ConfigError(f"{PLANS}: n_stages is not the number of features_per_stage")
    args["n_per_stage"] = args.pop(COUNTS[name], None)
    taken = {"features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage_decoder"}
    unknown = args.keys() - taken - {"n_per_stage", "conv_bias", "stem_channels"}
    if unknown:
        raise ConfigError(f"{PLANS}: arch_kwargs has {', '.join(sorted(unknown))}: not done here")
    return {
        "architecture": name,
        **args,
        "conv_bias": args.get("conv_bias", False),
        "norm_eps": norm.get("eps", 1e-5),
        "norm_affine": norm.get("affine", False),
        "negative_slope": slope,
    }


def _architecture_before_2_4(chosen: Json) -> Json:
    name = _known_architecture(str(chosen.get("UNet_class_name")))
    try:
        counts = chosen["n_conv_per_stage_encoder"]
        base, highest = chosen["UNet_base_num_features"], chosen["unet_max_num_features"]
        return {
            "architecture": name,
            "features_per_stage": [min(base * 2**n, highest) for n in range(len(counts))],
            "kernel_sizes": chosen["conv_kernel_sizes"],
            "strides": chosen["pool_op_kernel_sizes"],
            "n_per_stage": counts,
            "n_conv_per_stage_decoder": chosen["n_conv_per_stage_decoder"],
        }
    except KeyError as missing:
        raise ConfigError(f"{PLANS}: {missing} is missing") from missing


def _known_architecture(name: str) -> str:
    if name not in COUNTS:
        raise ConfigError(f"{PLANS}: the network {name} is not one of {', '.join(COUNTS)}")
    return name


def _slope(activation: str, args: Json) -> float:
    name = activation.rpartition(".")[2]
    if name not in ("LeakyReLU", "ReLU"):
        raise ConfigError(f"{PLANS}: nonlin is {activation}; done here are LeakyReLU and ReLU")
    return float(args.get("negative_slope", 0.01)) if name == "LeakyReLU" else 0.0


def _as_data(path: Path) -> Json:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no settings")
    return found
