"""Export of a registered denoiser as a MONAI bundle, checked against the model itself.

The network is TorchScript from HU to HU, of any size and batch: normalisation, strength and the
limit for metal are in it. The configuration has what `python -m monai.bundle run` asks for (MONAI
Bundle Specification), with rows and columns as an axial DICOM slice has them.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import monai
import numpy as np
import torch

from pipeline.config.shipped import find_pretrained
from pipeline.config.task_runs import DenoiseRun
from pipeline.core.atomic_files import replacing_folder, write_json, write_text
from pipeline.core.errors import ConfigError
from pipeline.core.types import Json
from pipeline.core.units import HIGHEST_CT_HU
from pipeline.core.versions import SOFTWARE, VERSION
from pipeline.export.onnx_pt2 import Run, largest_difference, quiet, require_plain, test_inputs
from pipeline.models.adapters.any_dose import AnyDoseModel
from pipeline.models.adapters.base import ModelAdapter
from pipeline.models.adapters.card import LoadedModel, ModelCard

MODEL, CONFIG, METADATA = "models/model.ts", "configs/inference.json", "configs/metadata.json"
README, CARD, LICENSE = "docs/README.md", "docs/MODEL_CARD.md", "LICENSE"
#: Of the models that come with the software (their model cards say so).
PRETRAINED_LICENCE = "Apache-2.0"
#: An image file's array as [rows, columns, slices] of axial DICOM: to posterior, left, superior.
AXES = "PLS"
NOT_FOR = "Not for primary diagnosis. Label what is made with it as derived."
ENGINE = "TorchScript"


@dataclass(frozen=True)
class ExportedBundle:
    """What was written, and how far the bundle's network is from the model, in HU at most."""

    model: str
    folder: str
    largest_difference: dict[str, float]


def export_bundle(loaded: LoadedModel, folder: Path) -> ExportedBundle:
    """Write a denoiser as a MONAI bundle into `folder`.

    Raises ConfigError for a model of another task, or one that sees images through transforms, and
    LdctError where the written network gives other HU than the model, or where the folder holds
    something else; then nothing is written.
    """
    model, card = loaded.model, loaded.card
    if not isinstance(loaded.config, DenoiseRun):
        raise ConfigError(
            f"{card.uri} is of the task {loaded.config.task}: a MONAI bundle is written of "
            "denoisers alone; --out writes ONNX and pt2 of any task"
        )
    require_plain(model, card)
    metadata, config = metadata_of(model, card), inference_config()
    model = copy.deepcopy(model).cpu().eval()
    with replacing_folder(folder) as partial, quiet():
        for name in ("configs", "models", "docs"):
            (partial / name).mkdir()
        _save_traced(model, partial / MODEL, {METADATA: metadata, CONFIG: config})
        difference = largest_difference(ENGINE, model, _by_torchscript(partial / MODEL))
        write_json(partial / CONFIG, config)
        write_json(partial / METADATA, metadata)
        write_text(partial / README, _readme(card, metadata))
        if not card.version:
            _add_of_pretrained(card, partial)
    return ExportedBundle(card.uri, str(folder), {ENGINE: difference})


def _save_traced(model: ModelAdapter, path: Path, extra: dict[str, Json]) -> None:
    """TorchScript, with the configurations inside, where MONAI's loader of such files looks."""
    *_, example = test_inputs(model)
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.from_numpy(example), check_trace=False)
    files = {Path(name).name: json.dumps(content).encode() for name, content in extra.items()}
    torch.jit.save(traced, str(path), files)


def _by_torchscript(path: Path) -> Run:
    module = torch.jit.load(str(path), map_location="cpu")
    return lambda images: module(torch.from_numpy(images)).detach().numpy()


def inference_config() -> Json:
    """configs/inference.json: every image file of dataset_dir, denoised, into output_dir.

    `run` needs MONAI with nibabel alone. `evaluate` does the same by MONAI's evaluator, which
    programs around bundles ask for, and needs pytorch-ignite.
    """
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/input'",
        "output_dir": "$@bundle_root + '/output'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "images": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii*')))",
        "network_def": {
            "_target_": "torch.jit.load",
            "f": f"$@bundle_root + '/{MODEL}'",
            "map_location": "@device",
        },
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": _before()},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @images]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {
            "_target_": "SliceInferer",
            "roi_size": [-1, -1],  # a whole slice
            "spatial_dim": 2,
            "sw_batch_size": 4,
            "overlap": 0.0,
        },
        "postprocessing": {"_target_": "Compose", "transforms": _after()},
        **_ways_to_run(),
    }


def _before() -> list[Json]:
    """From a file to [1, rows, columns, slices] in HU."""
    return [
        {"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True},
        {"_target_": "Orientationd", "keys": "image", "axcodes": AXES},
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
    ]


def _after() -> list[Json]:
    """On the file's own grid again, and into a file beside its name, in HU."""
    return [
        {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
        },
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "denoised",
            "output_dtype": "$torch.float32",
            "resample": False,
            "separate_folder": False,
        },
    ]


def _ways_to_run() -> Json:
    """Values that a function needs are its defaults: an expression sees no others inside one."""
    return {
        "denoise": (
            "$lambda item, inferer=@inferer, network=@network, device=@device: "
            "{**item, 'pred': inferer(item['image'].to(device), network).cpu()}"
        ),
        "save": (
            "$lambda items, finish=@postprocessing: "
            "[finish(one) for one in monai.data.decollate_batch(items)]"
        ),
        "initialize": ["$torch.set_grad_enabled(False)"],
        "run": ["$list(map(@save, map(@denoise, @dataloader)))"],
        "finalize": ["$torch.set_grad_enabled(True)"],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "evaluate": ["$@evaluator.run()"],
    }


def metadata_of(model: ModelAdapter, card: ModelCard) -> Json:
    """configs/metadata.json, with our contract of HU under "ldct"."""
    number = card.version or "pretrained"
    image = {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": 1,
        "spatial_shape": ["*", "*"],
        "dtype": "float32",
        "value_range": [-1024, HIGHEST_CT_HU],
        "is_patch_data": False,
        "channel_def": {"0": "image"},
    }
    return {
        "version": f"0.{card.version}.0",
        "changelog": {
            f"0.{card.version}.0": f"{card.name} {number}, written by {SOFTWARE} {VERSION}"
        },
        "monai_version": monai.__version__.partition("+")[0],
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": distribution("nibabel").version},
        "optional_packages_version": {},
        "name": card.name,
        "task": "Denoising of low-dose CT",
        "description": f"Denoises axial CT slices, HU in and HU out. {NOT_FOR}",
        "authors": SOFTWARE,
        "copyright": "" if card.version else f"licence: {PRETRAINED_LICENCE}",
        "intended_use": f"Research. {NOT_FOR}",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": image}},
        SOFTWARE: contract(model, card),
    }


def contract(model: ModelAdapter, card: ModelCard) -> Json:
    """What goes in and comes out, which model it is, and its gate where it has one."""
    found: Json = {
        "model": card.uri,
        "weights_sha256": card.weights_sha256,
        "config_digest": card.config_digest,
        "data_digest": card.data_digest,
        "strength": model.strength,
        "input": {
            "unit": "HU",
            "shape": list(model.input_shape),
            "axes": "batch, 1, rows, columns",
        },
        "output": {"unit": "HU", "shape": list(model.output_shape), "axes": "as the input's"},
        "above_hu": {"limit": HIGHEST_CT_HU, "output": "as the input"},
        **card.gate_facts(),
    }
    if isinstance(model, AnyDoseModel):
        found["dose_ratio"] = model.dose_ratio
    return found


def _readme(card: ModelCard, metadata: Json) -> str:
    facts = metadata[SOFTWARE]
    fixed = f" The dose ratio is fixed at {facts['dose_ratio']:g}." if "dose_ratio" in facts else ""
    passed = f"It did not pass its gate: {card.missed}." if card.missed else ""
    return f"""# {card.name}

{metadata["description"]} {passed}

Model `{card.uri}`, weights SHA-256 `{card.weights_sha256}`, strength {facts["strength"]:g}.{fixed}

    python -m monai.bundle run --config_file configs/inference.json \\
        --dataset_dir IMAGES --output_dir OUT

in this folder (`pip install 'monai[fire,nibabel]'`), denoises the NIfTI files of IMAGES, whose
values are HU. `python -m monai.bundle run evaluate ...` does it by MONAI's evaluator
(`monai[ignite]`).

The network `{MODEL}` takes HU [batch, 1, rows, columns] in float32, of any size, and gives HU.
Normalisation is in it. Rows and columns are those of an axial DICOM slice; the configuration turns
image files so. What lies above {HIGHEST_CT_HU:g} HU stays as it is.

What `ldct apply` does around its network is not in the bundle: what the scanner did not measure is
not recognised, inputs unlike the training's are not reported, no dose is chosen by the noise, and
no derived DICOM is written.
"""


def _add_of_pretrained(card: ModelCard, folder: Path) -> None:
    """The model card, and the licence where it is installed with the software."""
    written = (find_pretrained(card.name) / "MODEL_CARD.md").read_text(encoding="utf-8")
    write_text(folder / CARD, written)
    try:
        licence = distribution(SOFTWARE).read_text("licenses/LICENSE")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return
    if licence:
        write_text(folder / LICENSE, licence)
