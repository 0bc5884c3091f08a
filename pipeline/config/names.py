"""Names that configurations know by: short ones, and those of versions before.

A class may move and a key may be renamed; a configuration that was registered with a model stays
as it was written. MOVED and RENAMED lead from the old names to today's, and digests are taken of
the oldest ones, so that a training that was interrupted, or a version that is registered, is found
again after an upgrade.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

#: What a `target:` may say in place of a path.
SHORT_NAMES = {
    # Networks
    "identity": "pipeline.models.adapters.base.Identity",
    "redcnn": "pipeline.models.redcnn.REDCNN",
    "swift": "pipeline.models.swift.SwiftUNet",
    "dncnn": "pipeline.models.dncnn.DnCNN",
    "cnn10": "pipeline.models.cnn10.CNN10",
    "resnet": "pipeline.models.resnet.ResNet",
    "rednet": "pipeline.models.rednet.REDNet",
    "srcnn": "pipeline.models.srcnn.SRCNN",
    "edsr": "pipeline.models.edsr.EDSR",
    "fcn": "pipeline.models.fcn.FCN",
    "spade_generator": "pipeline.models.spade.SpadeGenerator",
    "hole_filler": "pipeline.models.hole_filler.HoleFiller",
    "refined_dct": "pipeline.models.refined_dct.RefinedDct",
    "restored_contrast": "pipeline.models.restored_contrast.RestoredContrast",
    "pixel_classes": "pipeline.models.pixel_classes.PixelClasses",
    "colour_classes": "pipeline.models.pixel_classes.ColourClasses",
    "dense_autoencoder": "pipeline.models.autoencoder.DenseAutoencoder",
    "dense_vae": "pipeline.models.vae.DenseVAE",
    "conv_vae": "pipeline.models.vae.ConvVAE",
    "spatial_vae": "pipeline.models.vae.SpatialVAE",
    "vqvae": "pipeline.models.vqvae.VQVAE",
    "vae_gan": "pipeline.models.gan.VAEGAN",
    "diffusion": "pipeline.models.diffusion.Diffusion",
    "gan_generator": "pipeline.models.gan.Generator",
    "gan_discriminator": "pipeline.models.gan.Discriminator",
    "progressive_generator": "pipeline.models.progressive.ProgressiveGenerator",
    "progressive_discriminator": "pipeline.models.progressive.ProgressiveDiscriminator",
    "autoencoder": "monai.networks.nets.AutoEncoder",
    "basic_unet": "monai.networks.nets.BasicUNet",
    "unet": "monai.networks.nets.UNet",
    "dynunet": "monai.networks.nets.DynUNet",
    "patch_discriminator": "monai.networks.nets.PatchDiscriminator",
    # Update rules and the objectives of adversarial ones
    "supervised": "pipeline.training.steps.supervised.Supervised",
    "noise2noise": "pipeline.training.steps.noise2noise.Noise2Noise",
    "blind_spot": "pipeline.training.steps.blind_spot.BlindSpot",
    "neighbour_slice": "pipeline.training.steps.neighbour_slice.Neighbour",
    "temporal_consistency": "pipeline.training.steps.temporal_consistency.Consistent",
    "classes_of_pixels": "pipeline.training.steps.pixel_classes.ClassesOfPixels",
    "variational": "pipeline.training.steps.variational.Variational",
    "vector_quantised": "pipeline.training.steps.vector_quantised.VectorQuantised",
    "adversarial": "pipeline.training.steps.adversarial.Adversarial",
    "paired_adversarial": "pipeline.training.steps.paired_adversarial.PairedAdversarial",
    "adversarial_frames": "pipeline.training.steps.adversarial_frames.AdversarialFrames",
    "progressive": "pipeline.training.steps.progressive.Progressive",
    "vae_gan_step": "pipeline.training.steps.vae_gan.VAEGANStep",
    "diffusion_step": "pipeline.training.steps.diffusion.DiffusionStep",
    "non_saturating": "pipeline.training.steps.gan_objectives.NonSaturating",
    "minimax": "pipeline.training.steps.gan_objectives.Minimax",
    "hinge": "pipeline.training.steps.gan_objectives.Hinge",
    "wasserstein": "pipeline.training.steps.gan_objectives.Wasserstein",
    # Losses
    "range_weighted_mse": "pipeline.losses.image.RangeWeightedMSE",
    "range_weighted_l1": "pipeline.losses.image.RangeWeightedL1",
    "range_weighted_log_mse": "pipeline.losses.image.RangeWeightedLogMSE",
    "multi_scale_ssim": "pipeline.losses.image.MultiScaleSSIM",
    "pooled_l1": "pipeline.losses.image.PooledL1",
    "cosine_distance": "pipeline.losses.image.CosineDistance",
    "soft_dice": "pipeline.losses.segmentation.SoftDice",
    "pixel_cross_entropy": "pipeline.losses.segmentation.PixelCrossEntropy",
    "dice_cross_entropy": "pipeline.losses.segmentation.DiceCrossEntropy",
    "known_voxels": "pipeline.losses.segmentation.KnownVoxelsLoss",
    "mse": "torch.nn.MSELoss",
    "l1": "torch.nn.L1Loss",
    # Degradations
    "low_dose_ct": "pipeline.physics.lowdose.LowDoseCT",
    "chain": "pipeline.degradations.base.Chain",
    "gaussian_noise": "pipeline.degradations.base.GaussianNoise",
    "gaussian_noise_range": "pipeline.degradations.noise.GaussianNoiseRange",
    "masked_pixels": "pipeline.degradations.base.MaskedPixels",
    "poisson_noise": "pipeline.degradations.noise.PoissonNoise",
    "salt_and_pepper": "pipeline.degradations.noise.SaltAndPepper",
    "speckle": "pipeline.degradations.noise.Speckle",
    "gaussian_blur": "pipeline.degradations.blur.GaussianBlur",
    "motion_blur": "pipeline.degradations.blur.MotionBlur",
    "defocus_blur": "pipeline.degradations.blur.DefocusBlur",
    "sharp_kernel": "pipeline.degradations.blur.SharpKernel",
    "downsample": "pipeline.degradations.resolution.Downsample",
    "sparse_view": "pipeline.degradations.ct.SparseView",
    "limited_angle": "pipeline.degradations.ct.LimitedAngle",
    "metal_streaks": "pipeline.degradations.ct.MetalStreaks",
    "rings": "pipeline.degradations.ct.Rings",
    "box_hole": "pipeline.degradations.holes.BoxHole",
    "square_holes": "pipeline.degradations.holes.SquareHoles",
    "free_form_hole": "pipeline.degradations.holes.FreeFormHole",
    "missing_lines": "pipeline.degradations.holes.MissingLines",
    "missing_pixels": "pipeline.degradations.holes.MissingPixels",
    "image_to_edges": "pipeline.degradations.labels.ImageToEdges",
    "image_to_labels": "pipeline.degradations.labels.ImageToLabels",
    "pair_input": "pipeline.degradations.paired.PairInput",
    "pair_target": "pipeline.degradations.paired.PairTarget",
    "grey": "pipeline.degradations.pictures.Grey",
    "jpeg": "pipeline.degradations.pictures.Jpeg",
    "old_photograph": "pipeline.degradations.pictures.OldPhotograph",
}

#: Where classes live now that configurations know by an older path. The longest prefix wins.
MOVED = {
    "pipeline.corruptions": "pipeline.degradations.base",
    "pipeline.degradations.Chain": "pipeline.degradations.base.Chain",
    "pipeline.degradations.labels.LabelMap": "pipeline.degradations.labels.ImageToLabels",
    "pipeline.losses.CosineDistance": "pipeline.losses.image.CosineDistance",
    "pipeline.losses.MultiScaleSSIM": "pipeline.losses.image.MultiScaleSSIM",
    "pipeline.losses.RangeWeightedMSE": "pipeline.losses.image.RangeWeightedMSE",
    "pipeline.losses_segmentation": "pipeline.losses.segmentation",
    "pipeline.losses_segmentation.Known": "pipeline.losses.segmentation.KnownVoxelsLoss",
    "pipeline.models.generative": "pipeline.models.adapters.generative",
    "pipeline.models.restorer": "pipeline.models.adapters.restorer",
    "pipeline.models.segmenter": "pipeline.models.adapters.segmenter",
    "pipeline.models.shell": "pipeline.models.adapters.base",
    "pipeline.models.shell.Shell": "pipeline.models.adapters.base.ModelAdapter",
    "pipeline.models.winograd.Conv2d": "pipeline.models.winograd.conv.Conv2d",
    "pipeline.models.winograd.ConvTranspose2d": "pipeline.models.winograd.conv.ConvTranspose2d",
    "pipeline.steps": "pipeline.training.steps",
    "pipeline.steps.consistent": "pipeline.training.steps.temporal_consistency",
    "pipeline.steps.masked.Masked": "pipeline.training.steps.blind_spot.Masked",
    "pipeline.steps.neighbour": "pipeline.training.steps.neighbour_slice",
    "pipeline.steps.objectives": "pipeline.training.steps.gan_objectives",
    "pipeline.steps.paired": "pipeline.training.steps.paired_adversarial",
}

#: Keys of a run's YAML that have a new name, with the sections they lie in.
RENAMED = {
    "generation.limits.least_psnr_db": "min_psnr_db",
    "generation.limits.least_psnr_above_pca_db": "min_psnr_above_pca_db",
    "generation.limits.least_diversity": "min_diversity",
    "generation.limits.least_precision": "min_precision",
    "generation.limits.most_copies": "max_copies",
    "generation.limits.most_bits_per_pixel": "max_bits_per_pixel",
    "restoration.limits.least_psnr_gain_db": "min_psnr_gain_db",
    "restoration.limits.least_psnr_above_references_db": "min_psnr_above_references_db",
    "restoration.limits.least_ssim_above_references": "min_ssim_above_references",
    "restoration.wanted": "target",
}

#: Keys that the first version did not have, with their defaults. Where a run leaves one at its
#: default it says what it always said, so that digests leave the key out.
ADDED: dict[str, Any] = {
    "data.intake.rescale_type": "refuse",
    "data.intake.air": "require",
    "data.intake.patients": "file",
    "data.nested": None,
    "data.nested.noise_sharpened": 0.0,
    "data.split.test_vendors": [],
    "generation.installed": [],
    "imported": None,
    "register.gate.qualified": None,
    "restoration.frechet_side": None,
    "restoration.installed": [],
    "restoration.limits.max_frechet_share": None,
    "restoration.self_ensemble": False,
    "restoration.test_degradation": None,
    "restoration.training_side": None,
    "segmentation.as_nnunet": False,
    "segmentation.augment.contrast_hu": {},
    "segmentation.augment.low_dose_probability": 1.0,
    "segmentation.augment.noise_smooth_voxels": 0.0,
    "segmentation.augment.short_scan": 0.0,
    "segmentation.axes": None,
    "segmentation.label_names": None,
    "segmentation.multiple": 16,
    "segmentation.normalize_hu": None,
    "segmentation.single_piece": [],
    "segmentation.unlisted": "background",
    "segmentation.within_body": False,
    "transforms": None,
    "transforms.cache": False,
    "transforms.inference": [],
    "transforms.slices": [],
    "transforms.validation": [],
}


def current_path(target: str) -> str:
    """Where the class lives that a configuration names by a short name or by any path it ever had.

    What is neither is given back as it is.
    """
    if target in SHORT_NAMES:
        return SHORT_NAMES[target]
    return _replaced(target, MOVED)


def historical_path(target: str) -> str:
    """The path by which the first version knew a class: what digests are taken of."""
    return _replaced(current_path(target), {new: old for old, new in MOVED.items()})


def with_current_keys(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A run's plain data with today's keys, and which were renamed: {old path: new key}.

    A key that is there by both names is left alone, so that validation refuses the old one.
    """
    found = {old: new for old, new in RENAMED.items() if _has(raw, old)}
    for old, new in found.items():
        raw = _with_key(raw, old.split("."), new)
    return raw, found


def historical_form(data: Any) -> Any:
    """Plain data as the first version would have written it: its paths and its keys."""
    if isinstance(data, list | tuple):
        return [historical_form(value) for value in data]
    if isinstance(data, dict) and isinstance(data.get("task"), str):
        for path, default in ADDED.items():
            data = _without(data, path.split("."), default)
        for old, new in RENAMED.items():
            *sections, last = old.split(".")
            if _has(data, ".".join([*sections, new])):
                data = _with_key(data, [*sections, new], last)
    return _with_historical_paths(data)


def _with_historical_paths(data: Any) -> Any:
    if isinstance(data, dict):
        return {
            key: historical_path(value)
            if key in ("target", "objective") and isinstance(value, str)
            else _with_historical_paths(value)
            for key, value in data.items()
        }
    if isinstance(data, list | tuple):
        return [_with_historical_paths(value) for value in data]
    return data


def _replaced(target: str, places: dict[str, str]) -> str:
    moved = [old for old in places if target == old or target.startswith(old + ".")]
    if not moved:
        return target
    longest = max(moved, key=len)
    return places[longest] + target.removeprefix(longest)


def _has(raw: dict[str, Any], path: str) -> bool:
    *sections, last = path.split(".")
    node: Any = raw
    for section in sections:
        node = node.get(section) if isinstance(node, dict) else None
    return isinstance(node, dict) and last in node


def _with_key(raw: dict[str, Any], path: list[str], new: str) -> dict[str, Any]:
    """A copy in which the key at `path` is called `new`, at the same place."""
    first, *rest = path
    if rest:
        return {k: _with_key(v, rest, new) if k == first else v for k, v in raw.items()}
    if new in raw:
        return raw
    return {new if k == first else k: v for k, v in raw.items()}


def _without(raw: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy that lacks the key at `path`, if it is there with this value."""
    first, *rest = path
    node = raw.get(first)
    if rest:
        return raw | {first: _without(node, rest, value)} if isinstance(node, dict) else raw
    return {k: v for k, v in raw.items() if k != first or v != value}


def digest(data: Any) -> str:
    """SHA-256 of plain data, independent of key order and of where classes and keys have moved:
    the same run has the same digest in every version (pipeline.config.names)."""
    text = json.dumps(historical_form(data), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
