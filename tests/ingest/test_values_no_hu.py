"""Series and files whose values are no HU: told, refused or held back, and taken where asked."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from helpers.body import body_hu, outside_circle, wrapped
from helpers.dicom import KEY, ct_slice, only_series, save
from helpers.images import run_config
from torch import nn

from flows.stages import split_stage
from pipeline.core.errors import NothingUsableError
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.export.denoised import export_denoised
from pipeline.export.series import Export
from pipeline.ingest.ingest import ingest
from pipeline.io.volume_files import read_image
from pipeline.models.adapters.card import ModelCard
from pipeline.store.store import Store
from pipeline.tasks.sides import keys_by_side

CARD = ModelCard("redcnn", 2, "0123456789abcdef" * 4, "c", "d", 1)
ACCEPT = IngestOptions(air="accept")


class Smoothing(nn.Module):
    def forward(self, image_hu):
        return nn.functional.avg_pool2d(image_hu, 3, 1, 1, count_include_pad=False)


def write_series(folder, image_hu, patient="P1", uid="1"):
    for index, plane in enumerate(image_hu):
        dataset = ct_slice(index, plane.astype(np.int16), RescaleIntercept="0", PatientID=patient)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(dataset, name, f"{dataset.get(name)}.{uid}")
        save(dataset, folder / f"{uid}-{index}.dcm")


def write_nifti(path, image_hu):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(image_hu.T, np.diag([1.0, 1, 2, 1]))
    image.header.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("shift", [lambda hu: hu + 1024, wrapped], ids=["intercept", "sign"])
def test_a_dicom_series_is_told_and_held_back_from_training(tmp_path, shift):
    for number in range(3):
        image_hu = body_hu(slices=3)
        shown = shift(image_hu) if number == 0 else image_hu
        write_series(tmp_path / "in", shown, patient=f"P{number}", uid=str(number + 1))
    store = Store(tmp_path / "store")
    report = ingest(tmp_path / "in", store, key=KEY)
    marked = [row for row in report.series if "held back" in " ".join(row.warnings)]
    assert (len(report.series), len(marked)) == (3, 1)
    assert "air=accept" in marked[0].warnings[-1]

    config, patients = run_config(), sorted({row.patient for row in report.series})
    sides = split_stage(store, config, patients)
    used = [key for keys in keys_by_side(store, config, sides).values() for key in keys]
    assert sorted(used) == sorted(row.series for row in report.series if row not in marked)
    taken = run_config(data={**config.data.model_dump(), "intake": {"air": "accept"}})
    sides = split_stage(store, taken, patients)
    assert sum(map(len, keys_by_side(store, taken, sides).values())) == 3


def test_a_store_of_nothing_else_says_why(tmp_path):
    write_series(tmp_path / "in", body_hu() + 1024)
    store = Store(tmp_path / "store")
    report = ingest(tmp_path / "in", store, key=KEY)
    with pytest.raises(NothingUsableError, match="intercept was lost"):
        split_stage(store, run_config(), [row.patient for row in report.series])


def test_a_model_is_applied_to_it_with_a_warning(tmp_path):
    write_series(tmp_path / "in", body_hu() + 1024)
    done = export_denoised(Smoothing(), CARD, only_series(tmp_path / "in"), Export(tmp_path / "o"))
    assert "intercept was lost" in " ".join(done.report.to_dict()["warnings"])


def test_an_image_file_is_refused_and_taken_where_asked(tmp_path):
    raw = body_hu() + 1024
    raw[:, outside_circle()] = -2000
    path = write_nifti(tmp_path / "in" / "a.nii.gz", raw)
    with pytest.raises(NothingUsableError, match=r"intercept was lost.*air=accept.*not CT in HU"):
        ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY)
    assert not export_denoised(Smoothing(), CARD, path, Export(tmp_path / "no")).report
    report = ingest(tmp_path / "in", Store(tmp_path / "store"), key=KEY, intake=ACCEPT)
    assert "taken as HU all the same" in " ".join(report.series[0].warnings)
    done = export_denoised(Smoothing(), CARD, path, Export(tmp_path / "out", air="accept"))
    assert done.report


def test_labels_and_pictures_are_no_ct_even_where_asked(tmp_path):
    labels = (body_hu() > 0).astype(np.int16)
    path = write_nifti(tmp_path / "in" / "labels.nii", labels)
    with pytest.raises(NothingUsableError, match="not CT in HU"):
        ingest(path, Store(tmp_path / "store"), key=KEY, intake=ACCEPT)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_padding_of_an_image_file_comes_back_as_it_was(tmp_path, suffix):
    image_hu = body_hu().astype(np.float32)
    image_hu[:, outside_circle()] = -3024
    image_hu[0, 20:26, 20:26] = np.nan
    padded = np.isnan(image_hu) | (image_hu == -3024)
    path = write_nifti(tmp_path / "in" / f"a{suffix}", image_hu)
    volume = read_image(path)
    np.testing.assert_array_equal(volume.valid, ~padded)
    assert (volume.image_hu[padded] == -1000).all()
    assert f"{padded.sum()} voxels of padding" in " ".join(volume.provenance["warnings"])

    export_denoised(Smoothing(), CARD, path, Export(tmp_path / "out"))
    (written,) = (tmp_path / "out").iterdir()
    result = np.asarray(nibabel.load(written).dataobj).T
    np.testing.assert_array_equal(result[padded], image_hu[padded])
    assert np.isfinite(result[~padded]).all()
    assert result[~padded].min() > -1030
    assert (result[~padded] != image_hu[~padded]).mean() > 0.5


def test_padding_has_no_part_in_what_the_store_holds(tmp_path):
    image_hu = body_hu()
    image_hu[:, outside_circle()] = -3024
    write_nifti(tmp_path / "in" / "a.nii", image_hu)
    store = Store(tmp_path / "store")
    (row,) = ingest(tmp_path / "in", store, key=KEY).series
    stored = store.load(row.series)
    assert stored.image_hu.min() >= -1024
    assert (~stored.valid).sum() == 2 * outside_circle().sum()
