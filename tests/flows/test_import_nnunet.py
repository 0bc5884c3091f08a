"""A results folder of nnU-Net, from its files to DICOM SEG."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from typer.testing import CliRunner

from flows.cli.app import app
from flows.import_model import import_model, read_model
from flows.tracking.registry import Registry
from pipeline.config.totalsegmentator import CLASSES
from pipeline.core.errors import ConfigError
from pipeline.core.label_map import LabelMap
from pipeline.core.pseudonyms import installation_key
from pipeline.dicom.read.series import find_series
from pipeline.export.series import Export
from pipeline.ingest.ingest import ingest
from pipeline.models.nnunet import NnUNet
from pipeline.store.store import Store
from pipeline.tasks.base import task_of

RESULTS = Path(__file__).parents[1] / "data" / "nnunet"


def edited(folder: Path, dataset: dict[str, Any], spacing_mm: list[float]) -> Path:
    """The kept results with other labels and another spacing."""
    shutil.copytree(RESULTS, folder)
    found = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**found, **dataset}))
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["spacing"] = spacing_mm
    (folder / "plans.json").write_text(json.dumps(plans))
    return folder


def exported(name: str, patients: Path, out: Path) -> pydicom.Dataset:
    loaded = Registry.default().load(name)
    (source,) = find_series(patients / "1").series
    task_of(loaded.config).export(loaded.model, loaded.card, source, Export(out), loaded.config)
    (file,) = (path for path in out.rglob("*") if path.is_file())
    return pydicom.dcmread(file)


@pytest.mark.usefixtures("own_registry")
def test_it_is_checked_registered_and_writes_seg_with_codes(
    phantom_patients: Path, tmp_path: Path
) -> None:
    # Lungs: what the network takes for its dark class; codes are what is looked at here.
    folder = edited(
        tmp_path / "r", {"labels": {"background": 0, "liver": 1, "lungs": 2}}, [60, 6, 6]
    )
    command = ["models", "import", str(folder), "--name", "theirs", "--axes", "SPL", "--json"]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 5, ended.output
    done = json.loads(ended.stdout)
    assert done["imported"]["kind"] == "nnunet"
    assert done["imported"]["licence"] == "CC0-1.0"
    version = Registry.default().find("theirs/1")
    assert "nnU-Net v2 Dataset900_Synthetic" in version.tags["source"]
    seg = exported("theirs/1", phantom_patients, tmp_path / "out")
    assert seg.Modality == "SEG"
    assert {one.SegmentLabel for one in seg.SegmentSequence} <= {"liver", "lungs"}
    for one in seg.SegmentSequence:
        assert one.SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator == "SCT"


def original_names(network: NnUNet) -> dict[str, torch.Tensor]:
    """As dynamic_network_architectures names weights: each layer's twice, the encoder's once more
    in the decoder."""
    state = {k.removeprefix("members.0."): v for k, v in network.state_dict().items()}
    for name, tensor in list(state.items()):
        for layer, number in ((".conv.", 0), (".norm.", 1)):
            if layer in name:
                state[name.replace(layer, f".all_modules.{number}.")] = tensor
    encoder = {f"decoder.{k}": v for k, v in state.items() if k.startswith("encoder.")}
    return state | encoder


def weight_folder(folder: Path) -> Path:
    """As TotalSegmentator has its weights of 3 mm: a dataset's folder with one training in it,
    plans of nnU-Net before 2.4, 117 classes; of a small network with random weights."""
    plans = json.loads((RESULTS / "plans.json").read_text())
    plans["dataset_name"] = folder.name
    old = plans["configurations"]["3d_fullres"]
    args = old.pop("architecture")["arch_kwargs"]
    old |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "num_pool_per_axis": [1, 2, 2],
        "conv_kernel_sizes": args["kernel_sizes"],
        "pool_op_kernel_sizes": args["strides"],
        "n_conv_per_stage_encoder": args["n_conv_per_stage"],
        "n_conv_per_stage_decoder": args["n_conv_per_stage_decoder"],
        "spacing": [60, 6, 6],
    }
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: n for n, name in enumerate(CLASSES, start=1)}},
        "file_ending": ".nii.gz",
    }
    torch.manual_seed(0)
    network = NnUNet(
        3,
        1,
        len(CLASSES) + 1,
        architecture="PlainConvUNet",
        features_per_stage=[4, 8, 8],
        kernel_sizes=args["kernel_sizes"],
        strides=args["strides"],
        n_per_stage=args["n_conv_per_stage"],
        n_conv_per_stage_decoder=args["n_conv_per_stage_decoder"],
    )
    training = folder / "nnUNetTrainer_4000epochs_NoMirroring__nnUNetPlans__3d_fullres"
    (training / "fold_0").mkdir(parents=True)
    (training / "plans.json").write_text(json.dumps(plans))
    (training / "dataset.json").write_text(json.dumps(dataset))
    checkpoint = {
        "network_weights": original_names(network),
        "init_args": {"configuration": "3d_fullres"},
        "trainer_name": "nnUNetTrainer_4000epochs_NoMirroring",
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, training / "fold_0" / "checkpoint_final.pth")
    return folder


@pytest.mark.usefixtures("own_registry")
def test_a_weight_folder_of_totalsegmentator_writes_its_117_classes(
    phantom_patients: Path, tmp_path: Path
) -> None:
    folder = weight_folder(tmp_path / "Dataset297_TotalSegmentator_total_3mm_1559subj")
    import_model(folder, None, name="total", licence="Apache-2.0")
    loaded = Registry.default().load("total/1")
    assert loaded.config.imported is not None
    assert loaded.config.imported.source.startswith("TotalSegmentator")
    assert tuple(loaded.config.grid.classes) == CLASSES  # type: ignore[attr-defined]
    seg = exported("total/1", phantom_patients, tmp_path / "out")
    labels = [one.SegmentLabel for one in seg.SegmentSequence]
    assert len(labels) > 5
    assert set(labels) <= set(CLASSES)


@pytest.mark.usefixtures("own_registry")
def test_on_a_store_it_is_measured_on_what_label_maps_list(
    phantom_patients: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    folder = edited(
        tmp_path / "r", {"labels": {"background": 0, "liver": 1, "lungs": 2}}, [60, 6, 6]
    )
    config, _ = read_model(folder, name="theirs", axes="SPL")
    ingest(phantom_patients, store, key=installation_key(), intake=config.data.intake)
    for key, record in store.records().items():
        labels = np.zeros(record.shape, dtype=np.uint8)
        labels[:, 10:20, 10:20] = 1
        store.add_labels(key, "mask", LabelMap(labels, {1: "liver"}))
    done = import_model(folder, store.path, name="theirs", axes="SPL").to_dict()
    overall = done["metrics"]["overall"]
    assert overall["patients"] == 3
    assert overall["classes"]["liver"]["dice"] is not None
    assert overall["classes"]["lungs"]["dice"] is None, "no label map lists it"
    assert not done["gate"]["passed"]


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "--name"), ({"name": "n"}, "--axes"), ({"name": "n", "axes": "SP"}, "three directions")],
)
def test_what_it_does_not_say_is_asked_for(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_model(RESULTS, **given)


def test_other_weights_than_the_plans_network_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(RESULTS, folder)
    plans = json.loads((folder / "plans.json").read_text())
    args = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    args["features_per_stage"] = [4, 8, 32]
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ConfigError, match="do not fit the network"):
        read_model(folder, name="n", axes="SPL")


def test_axes_and_licence_are_for_nnunet_alone(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a")
    with pytest.raises(ConfigError, match="for a results folder of nnU-Net"):
        read_model(tmp_path / "a.yaml", axes="SPL")
