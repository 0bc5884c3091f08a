"""NIfTI, NRRD and MetaImage: the same values in the same place, or refused by name."""

from __future__ import annotations

import gzip
import itertools
import json
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from pipeline.core.errors import ConfigError, LdctError
from pipeline.core.refusals import Unreadable
from pipeline.core.volume import Volume
from pipeline.io import volume_writer
from pipeline.io.image_formats import is_image_file
from pipeline.io.volume_files import read_image
from pipeline.io.volume_writer import write_image

SHAPE = (4, 5, 6)  # slices, rows, columns
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING = np.diag([0.7, 0.8, 2.5])
TILT = np.radians(18.5)
AXES = {
    "axial": SPACING,
    "feet first": SPACING @ np.diag([1, 1, -1]),
    "prone": np.diag([-1.0, -1.0, 1.0]) @ SPACING,
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) @ SPACING,
    "sagittal": np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]]) @ SPACING,
    "oblique": np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ SPACING,
    "tilted": np.array([[1, 0, 0], [0, np.cos(TILT), 0], [0, -np.sin(TILT), 1]]) @ SPACING,
}
WRITABLE = ("a.nii", "a.nii.gz", "a.nrrd", "a.mha")


def affine_of(axes: NDArray[np.float64], origin=(-170.25, -201.5, 1007.125)) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, origin
    return affine


def hu() -> NDArray[np.float32]:
    """Values that differ in every voxel, with fractions, from air to bone."""
    return np.linspace(-1024, 1500, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def volume_of(affine: NDArray[np.float64], **changes: Any) -> Volume:
    origins = affine[:3, 3] + np.arange(SHAPE[0])[:, None] * affine[:3, 2]
    parts = {"image_hu": hu(), "valid": np.ones(SHAPE, bool), "slice_origins_mm": origins}
    return Volume(affine_lps=affine, **(parts | changes))


def corners_of(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """(column, row, slice) of the corners of [slice, row, column]."""
    return list(itertools.product(*[(0, size - 1) for size in reversed(shape)]))


def nifti(path: Path, values: NDArray | None = None, affine=None, **codes: int) -> Path:
    """A NIfTI by nibabel alone; `affine` in RAS."""
    values = hu().T if values is None else values
    image = nibabel.Nifti1Image(values, affine_of(SPACING) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    for name, code in codes.items():
        image.header[name] = code
    nibabel.save(image, path)
    return path


def nrrd(path: Path, values: NDArray | None = None, **fields: str | None) -> Path:
    """An NRRD by hand, as its specification says; a field given as None is left out."""
    values = hu() if values is None else values
    known = {
        "type": {"f": "float", "i": "short"}[values.dtype.kind],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(str(size) for size in reversed(values.shape)),
        "space_directions": "(0.7,0,0) (0,0.8,0) (0,0,2.5)",
        "space_origin": "(-170.25,-201.5,1007.125)",
        "endian": "little",
        "encoding": "raw",
    }
    lines = [f"{k.replace('_', ' ')}: {v}" for k, v in (known | fields).items() if v is not None]
    path.write_bytes("\n".join(["NRRD0005", *lines, "", ""]).encode() + values.tobytes())
    return path


def meta_image(path: Path, values: NDArray | None = None, **fields: str | None) -> Path:
    """A MetaImage by hand."""
    values = hu() if values is None else values
    known = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "-170.25 -201.5 1007.125",
        "ElementSpacing": "0.7 0.8 2.5",
        "DimSize": " ".join(str(size) for size in reversed(values.shape)),
        "ElementType": {"f": "MET_FLOAT", "i": "MET_SHORT"}[values.dtype.kind],
    }
    lines = [f"{k} = {v}" for k, v in (known | fields).items() if v is not None]
    data = fields.get("ElementDataFile") or "LOCAL"
    text = "\n".join([*[x for x in lines if "DataFile" not in x], f"ElementDataFile = {data}", ""])
    path.write_bytes(text.encode() + (values.tobytes() if data == "LOCAL" else b""))
    return path


def refused(path: Path, match: str | None = None) -> Unreadable:
    """The refusal, which takes no memory to speak of."""
    with memory_below(5e7), pytest.raises(Unreadable, match=match) as error:
        read_image(path)
    return error.value


@contextmanager
def memory_below(limit: float) -> Iterator[None]:
    """Of this process too, as tracemalloc does not see what ITK takes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2 * limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("name", WRITABLE)
def test_values_and_place_survive_every_format_and_orientation(tmp_path, name, axes):
    volume = volume_of(affine_of(AXES[axes]))
    write_image(volume, tmp_path / name)
    again = read_image(tmp_path / name)
    assert again.image_hu.dtype == np.float32
    np.testing.assert_array_equal(again.image_hu, volume.image_hu)
    assert again.valid.all()
    # NIfTI's float32 rounds 1007 mm to a multiple of 2**-14 mm.
    tolerance = 2**-15 if ".nii" in name else 1e-9
    np.testing.assert_allclose(again.affine_lps, volume.affine_lps, rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        again.slice_origins_mm, volume.slice_origins_mm, rtol=0, atol=4 * tolerance
    )
    assert ("not axial" in str(again.provenance["warnings"])) == (axes in ("coronal", "sagittal"))
    json.dumps(again.provenance, allow_nan=False)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("name", WRITABLE)
def test_nibabel_and_itk_find_what_was_written_where_it_was(tmp_path, name, axes):
    volume = volume_of(affine_of(AXES[axes]))
    write_image(volume, tmp_path / name)
    itk_keeps = not (axes == "tilted" and ".nii" in name)  # of NIfTI it straightens the axes
    image = SimpleITK.ReadImage(str(tmp_path / name)) if itk_keeps else None
    ras = nibabel.load(tmp_path / name) if ".nii" in name else None
    for column, row, slice_ in corners_of(SHAPE):
        wanted = (volume.affine_lps @ [column, row, slice_, 1])[:3]
        if image is not None:
            found = image.TransformIndexToPhysicalPoint((column, row, slice_))
            np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4)
            assert image[column, row, slice_] == volume.image_hu[slice_, row, column]
        if ras is not None:
            found = nibabel.affines.apply_affine(ras.affine, (column, row, slice_))
            np.testing.assert_allclose(found * [-1, -1, 1], wanted, rtol=0, atol=2e-4)
            assert ras.dataobj[column, row, slice_] == volume.image_hu[slice_, row, column]


def test_the_real_nifti_is_what_nibabel_and_itk_say(test_data):
    path = test_data / "volumes" / "totalseg-ct.nii.gz"
    volume = read_image(path)
    image = SimpleITK.ReadImage(str(path))
    ras = nibabel.load(path)
    np.testing.assert_array_equal(volume.image_hu, SimpleITK.GetArrayFromImage(image))
    np.testing.assert_array_equal(volume.image_hu, ras.get_fdata().transpose(2, 1, 0))
    assert volume.image_hu.shape == (112, 101, 122)
    assert volume.valid.all()
    for column, row, slice_ in corners_of(volume.image_hu.shape):
        found = (volume.affine_lps @ [column, row, slice_, 1])[:3]
        by_itk = image.TransformIndexToPhysicalPoint((column, row, slice_))
        np.testing.assert_allclose(found, by_itk, rtol=0, atol=1e-4)
        by_nibabel = nibabel.affines.apply_affine(ras.affine, (column, row, slice_))
        np.testing.assert_allclose(found, by_nibabel * [-1, -1, 1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(volume.slice_origins_mm[5] - volume.slice_origins_mm[4], [0, 0, 3])
    assert volume.provenance["source"] == "NIfTI"
    assert "taken as mm" in volume.provenance["warnings"][0]


@pytest.mark.parametrize("name", ["totalseg-labels.nii.gz", "torso-siemens-labels.nii.gz"])
def test_label_maps_are_refused(test_data, name):
    fault = refused(test_data / "volumes" / name, "no value below -200 HU: not CT in HU")
    assert fault.value == "0.0"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (hu() + 1024, "not CT in HU"),
        ((hu() + 1024) / 3000, "not CT in HU"),
        (np.arange(120).reshape(SHAPE).astype(np.int16) - 100, "not CT in HU"),
        (np.full(SHAPE, np.nan, np.float32), "not CT in HU"),
    ],
    ids=["shifted", "scaled", "small", "nothing"],
)
@pytest.mark.parametrize("make", [nifti, nrrd, meta_image])
def test_values_that_are_no_hu_are_refused(tmp_path, make, values, reason):
    names = {nifti: "a.nii", nrrd: "a.nrrd", meta_image: "a.mha"}
    values = values.astype(values.dtype if values.dtype.kind == "i" else np.float32)
    refused(make(tmp_path / names[make], values.T if make is nifti else values), reason)


def test_what_is_not_a_number_was_not_measured(tmp_path):
    values = hu()
    values[1, 2, 3], values[0, 0, 0], values[3, 4, 5] = np.nan, np.inf, -np.inf
    for path in (
        nifti(tmp_path / "a.nii", values.T),
        nrrd(tmp_path / "a.nrrd", values),
        meta_image(tmp_path / "a.mha", values),
    ):
        volume = read_image(path)
        np.testing.assert_array_equal(volume.valid, np.isfinite(values))
        assert (volume.image_hu[~volume.valid] == -1000).all()
        np.testing.assert_array_equal(volume.image_hu[volume.valid], values[volume.valid])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.float64, ">i2"])
def test_nifti_slope_and_intercept_are_applied_to_every_type(tmp_path, packed, kind):
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(kind)
    image = nibabel.Nifti1Image(stored.T, affine_of(SPACING), dtype=stored.dtype)
    image.header.set_data_dtype(stored.dtype)
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    nibabel.save(image, path)
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    content[112:120] = np.array([12.5, -1024.25], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    np.testing.assert_array_equal(read_image(path).image_hu, stored * 12.5 - 1024.25)


def test_the_form_that_has_a_code_places_a_nifti_and_none_is_refused(tmp_path):
    true, other = affine_of(SPACING), affine_of(SPACING, origin=(0, 0, 0))
    image = nibabel.Nifti1Image(hu().T, None)
    for name, sform, qform in (("s", (true, 1), (other, 0)), ("q", (other, 0), (true, 1))):
        image.header.set_sform(*sform)
        image.header.set_qform(*qform)
        nibabel.save(image, tmp_path / f"{name}.nii")
        volume = read_image(tmp_path / f"{name}.nii")
        np.testing.assert_allclose(FLIP @ volume.affine_lps, true, rtol=0, atol=1e-4)
    for form in ("sform_code", "qform_code"):
        image.header[form] = 0
    nibabel.save(image, tmp_path / "none.nii")
    fault = refused(tmp_path / "none.nii", "neither form has a code")
    assert fault.attribute == "sform_code"


@pytest.mark.parametrize(
    "change",
    [
        affine_of(np.zeros((3, 3)), origin=(0.02, 0, 0)),
        affine_of(np.diag([0.1, 0, 0]), origin=(0, 0, 0)),
        affine_of(np.array([[0, 0.02, 0], [-0.02, 0, 0], [0, 0, 0]]), origin=(0, 0, 0)),
        affine_of(np.array([[0, 0, 0], [0, 0, 0.3], [0, 0, 0]]), origin=(0, 0, 0)),
    ],
    ids=["moved", "stretched", "turned", "sheared"],
)
def test_forms_that_disagree_are_refused(tmp_path, change):
    image = nibabel.Nifti1Image(hu().T, None)
    affine = affine_of(SPACING)
    image.header.set_qform(affine, code=1)
    image.header.set_sform(affine, code=1)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").valid.all()
    image.header.set_sform(affine + change - np.diag([0, 0, 0, 1]), code=1)
    nibabel.save(image, tmp_path / "a.nii")
    fault = refused(tmp_path / "a.nii", "sform and qform disagree")
    assert fault.value.endswith("mm apart")


@pytest.mark.parametrize("degrees", [0.0, 0.005, 0.05, 0.5, 18.5, 90.0])
def test_forms_that_agree_as_well_as_a_qform_can_are_accepted(tmp_path, degrees):
    """ITK writes both; a float32 quaternion near a half turn is half a millimetre off."""
    turn = np.radians(degrees)
    cos, sin = np.cos(turn), np.sin(turn)
    # Any turn from the patient's axes: RAS is half a turn about z away from LPS.
    axes = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    axes = axes @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ np.diag([0.8, 0.8, 1.5])
    values = np.full((200, 256, 256), -1000, np.int16)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((0.8, 0.8, 1.5))
    image.SetDirection((axes / [0.8, 0.8, 1.5]).ravel().tolist())
    image.SetOrigin((-170.25, -201.5, 1007.125))
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii"))
    header = nibabel.load(tmp_path / "a.nii").header
    assert header["sform_code"] > 0
    assert header["qform_code"] > 0
    affine = read_image(tmp_path / "a.nii").affine_lps
    np.testing.assert_allclose(affine, affine_of(axes), rtol=0, atol=1e-4)


def test_a_nifti_whose_axes_lie_in_a_plane_is_refused(tmp_path):
    flat = affine_of(np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]]))
    image = nibabel.Nifti1Image(hu().T, None)
    image.header.set_sform(flat, code=1)
    nibabel.save(image, tmp_path / "a.nii")
    assert refused(tmp_path / "a.nii", "do not span space").attribute == "affine"


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("meter", 1000), ("micron", 0.001)])
def test_the_unit_of_a_nifti_becomes_mm(tmp_path, unit, factor):
    expected = affine_of(SPACING)
    stored = np.diag([1 / factor] * 3 + [1]) @ expected
    volume = read_image(in_unit(tmp_path / "a.nii", stored, unit))
    np.testing.assert_allclose((FLIP @ volume.affine_lps)[:3], expected[:3], rtol=1e-6)
    assert volume.provenance["warnings"] == []


def in_unit(path: Path, affine: NDArray[np.float64], unit: str) -> Path:
    image = nibabel.Nifti1Image(hu().T, affine)
    image.header.set_qform(affine, code=1)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def test_millimetres_that_are_said_to_be_metres_are_refused(tmp_path):
    refused(in_unit(tmp_path / "a.nii", affine_of(SPACING), "meter"), "unit of length")


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha"])
def test_a_reason_does_not_name_the_folders_of_the_file(tmp_path, name):
    (tmp_path / "Geheim").mkdir()
    path = tmp_path / "Geheim" / name
    path.write_bytes(gzip.compress(b"Dear reader, this is a letter." * 30))
    assert "Geheim" not in refused(path).reason


@pytest.mark.parametrize(
    ("shape", "kind", "reason"),
    [
        ((6, 5, 4, 2), np.float32, "three dimensions"),
        ((6, 5), np.float32, "three dimensions"),
        ((6, 5, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "one grey value"),
        ((6, 5, 4), np.complex64, "one grey value"),
    ],
    ids=["times", "flat", "colour", "complex"],
)
def test_a_nifti_that_is_no_grey_volume_is_refused(tmp_path, shape, kind, reason):
    refused(nifti(tmp_path / "a.nii", np.zeros(shape, kind)), reason)


def test_a_fourth_dimension_of_one_is_none(tmp_path):
    volume = read_image(nifti(tmp_path / "a.nii", hu().T[..., None]))
    np.testing.assert_array_equal(volume.image_hu, hu())


@pytest.mark.parametrize(
    ("space", "flip"),
    [
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
    ],
)
def test_an_nrrd_is_placed_in_the_space_it_names(tmp_path, space, flip):
    directions = "(0.7,0,0.1) (0,0.8,0) (-0.2,0,2.5)"
    path = nrrd(tmp_path / "a.nrrd", space=space, space_directions=directions)
    volume = read_image(path)
    axes = np.array([[0.7, 0, -0.2], [0, 0.8, 0], [0.1, 0, 2.5]])
    expected = np.diag([*flip, 1]) @ affine_of(axes)
    np.testing.assert_allclose(volume.affine_lps, expected, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(volume.image_hu, hu())


SHEARED = "(0.7,0,0) (0,0.8,0) (0,-0.9,2.4)"


def test_sheared_axes_of_nrrd_and_meta_image_are_kept(tmp_path):
    axes = np.array([[0.7, 0, 0], [0, 0.8, -0.9], [0, 0, 2.4]])
    volume = read_image(nrrd(tmp_path / "a.nrrd", space_directions=SHEARED))
    np.testing.assert_allclose(volume.affine_lps, affine_of(axes), rtol=0, atol=1e-9)
    # MetaImage lists the axes one by one, each over its spacing.
    matrix = "1 0 0 0 1 0 0 -0.36 0.96"
    volume = read_image(meta_image(tmp_path / "a.mha", TransformMatrix=matrix))
    axes = np.array([[0.7, 0, 0], [0, 0.8, -0.9], [0, 0, 2.4]])
    np.testing.assert_allclose(volume.affine_lps, affine_of(axes), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("fields", "attribute"),
    [
        ({"space": None, "space_origin": None, "space_directions": None}, "space"),
        ({"space": "scanner-xyz"}, "space"),
        ({"space": "3D-right-handed"}, "space"),
        ({"space_directions": None}, "space directions"),
        ({"space_origin": None}, "space origin"),
        ({"space_units": '"cm" "cm" "cm"'}, "space units"),
        ({"space_directions": "(1,0,0) (1,0,0) (0,0,1)"}, ""),
    ],
)
def test_an_nrrd_without_its_place_in_the_patient_is_refused(tmp_path, fields, attribute):
    assert refused(nrrd(tmp_path / "a.nrrd", **fields)).attribute == attribute


def test_an_nrrd_that_says_mm_is_read(tmp_path):
    assert read_image(nrrd(tmp_path / "a.nrrd", space_units='"mm" "mm" "mm"')).valid.all()


@pytest.mark.parametrize(
    ("fields", "attribute"),
    [
        ({"TransformMatrix": None}, "transformmatrix|rotation|orientation"),
        ({"Offset": None}, "offset|position|origin"),
        ({"ElementSpacing": None}, "elementspacing|elementsize"),
        ({"DistanceUnits": "um"}, "distanceunits"),
        ({"ElementToIntensityFunctionSlope": "2"}, "elementtointensityfunctionslope"),
        ({"ElementToIntensityFunctionOffset": "-1024"}, "elementtointensityfunctionoffset"),
        ({"ElementNumberOfChannels": "2", "DimSize": "3 5 4"}, "components"),
        ({"NDims": "4", "DimSize": "6 5 2 2"}, ""),
    ],
)
def test_a_meta_image_that_itk_would_misread_is_refused(tmp_path, fields, attribute):
    assert refused(meta_image(tmp_path / "a.mha", **fields)).attribute == attribute


def test_a_meta_image_that_says_so_is_read(tmp_path):
    said = {"DistanceUnits": "mm", "ElementToIntensityFunctionSlope": "1.0"}
    np.testing.assert_array_equal(read_image(meta_image(tmp_path / "a.mha", **said)).image_hu, hu())


def test_a_colour_nrrd_is_refused(tmp_path):
    rgb = np.zeros((*SHAPE, 3), np.float32)
    directions = "none (0.7,0,0) (0,0.8,0) (0,0,2.5)"
    path = nrrd(tmp_path / "a.nrrd", rgb, dimension="4", space_directions=directions)
    kinds = b"kinds: vector domain domain domain\nendian"
    path.write_bytes(path.read_bytes().replace(b"endian", kinds))
    assert refused(path, "one grey value").attribute == "components"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", ["nrrd", "mha", "nii", "nii.gz"])
def test_what_itk_writes_is_read_packed_or_not(tmp_path, suffix, packed):
    image = SimpleITK.GetImageFromArray(np.tile(hu().astype(np.int16), (8, 8, 8)))
    SimpleITK.WriteImage(image, str(tmp_path / f"a.{suffix}"), useCompression=packed)
    path = (tmp_path / f"a.{suffix}").rename(tmp_path / f"A.{suffix.upper()}")
    assert is_image_file(path)
    np.testing.assert_array_equal(
        read_image(path).image_hu, SimpleITK.GetArrayFromImage(image).astype(np.float32)
    )


def test_voxels_beside_their_header_are_read_and_elsewhere_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.raw").write_bytes(hu().tobytes())
    header = nrrd(tmp_path / "in" / "a.nhdr", hu()[:0], sizes="6 5 4", data_file="a.raw")
    np.testing.assert_array_equal(read_image(header).image_hu, hu())
    header = meta_image(tmp_path / "in" / "a.mhd", DimSize="6 5 4", ElementDataFile="a.raw")
    np.testing.assert_array_equal(read_image(header).image_hu, hu())
    (tmp_path / "b.raw").write_bytes(hu().tobytes())
    for name in ("../b.raw", str(tmp_path / "b.raw"), "missing.raw", "LIST", "a%02d.raw 1 4 1"):
        meta_image(header, DimSize="6 5 4", ElementDataFile=name)
        assert refused(header, "not in one file beside the header").value == name


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.nhdr"])
@pytest.mark.parametrize("content", [b"", b"Dear reader,\n\nthis is a letter.\n", bytes(5000)])
def test_other_files_under_these_names_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, None if content else "an empty file")


def noise() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(-500, 300, (8, 40, 50)).astype(np.float32)


@pytest.mark.parametrize("name", WRITABLE)
@pytest.mark.parametrize("share", [0.9999, 0.5, 0.02])
def test_files_cut_short_are_refused(tmp_path, name, share):
    for packed in (False, True):
        image = SimpleITK.GetImageFromArray(noise())
        SimpleITK.WriteImage(image, str(tmp_path / name), useCompression=packed)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_packed_voxels_with_one_wrong_bit_are_refused(tmp_path, name, place):
    image = SimpleITK.GetImageFromArray(noise())
    SimpleITK.WriteImage(image, str(tmp_path / name), useCompression=True)
    content = bytearray((tmp_path / name).read_bytes())
    content[int(place * len(content))] ^= 1
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name)


@pytest.mark.parametrize("size", [b"0", b"10", b"30000", b"1000000000000", b"-5"])
def test_a_wrong_size_of_packed_voxels_is_refused(tmp_path, size):
    """ITK makes voxels of what it did not unpack."""
    image = SimpleITK.GetImageFromArray(noise())
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"), useCompression=True)
    head, mark, tail = (tmp_path / "a.mha").read_bytes().partition(b"CompressedDataSize = ")
    (tmp_path / "a.mha").write_bytes(head + mark + size + tail[tail.index(b"\n") :])
    assert refused(tmp_path / "a.mha").attribute == "compresseddatasize"


def test_a_packed_nifti_may_be_several_gzip_files_end_to_end(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", noise().T)
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(b"".join(gzip.compress(content[i : i + 9999]) for i in range(0, 80000, 9999)))
    np.testing.assert_array_equal(read_image(path).image_hu, noise())


@pytest.mark.parametrize("sizes", [(30000, 30000, 30000), (1000, 1000, 1000), (6, 5, 5000)])
def test_files_that_claim_more_than_they_hold_take_no_memory(tmp_path, sizes):
    claimed = " ".join(str(size) for size in sizes)
    text = "of a size that CT has" if min(sizes) > 1023 else "cut short|cannot be read"
    refused(nrrd(tmp_path / "a.nrrd", sizes=claimed), text)
    refused(nrrd(tmp_path / "b.nrrd", sizes=claimed, encoding="gzip"), text)
    refused(meta_image(tmp_path / "a.mha", DimSize=claimed), text)
    refused(meta_image(tmp_path / "b.mha", DimSize=claimed, CompressedData="True"), text)
    for name in ("a.nii", "a.nii.gz"):
        path = nifti(tmp_path / name)
        content = gzip.decompress(path.read_bytes()) if "gz" in name else path.read_bytes()
        content = content[:42] + np.array(sizes, "<i2").tobytes() + content[48:]
        path.write_bytes(gzip.compress(content) if "gz" in name else content)
        refused(path, text)


def test_a_packed_nifti_that_unpacks_to_more_than_it_needs_is_not_unpacked(tmp_path):
    path = nifti(tmp_path / "a.nii.gz")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(50_000_000), compresslevel=1))
    with memory_below(3e7):
        np.testing.assert_array_equal(read_image(path).image_hu, hu())


@pytest.mark.parametrize("name", WRITABLE)
def test_the_same_file_may_be_written_again_and_another_stays(tmp_path, name):
    volume = volume_of(affine_of(SPACING))
    for _ in range(2):
        write_image(volume, tmp_path / "new" / name)
    before = (tmp_path / "new" / name).read_bytes()
    with pytest.raises(LdctError, match="exists and holds something else"):
        write_image(volume_of(affine_of(2 * SPACING)), tmp_path / "new" / name)
    assert (tmp_path / "new" / name).read_bytes() == before
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.img", "a.dcm", "A.MHA", "a"])
def test_formats_of_two_files_and_others_are_not_written(tmp_path, name):
    with pytest.raises(ConfigError, match=r"\.nii, \.nii\.gz, \.nrrd, \.mha"):
        write_image(volume_of(affine_of(SPACING)), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WRITABLE)
def test_what_a_file_cannot_hold_is_not_written(tmp_path, name):
    affine = affine_of(SPACING)
    uneven = volume_of(affine).slice_origins_mm.copy()
    uneven[2, 2] += 0.5
    with pytest.raises(LdctError, match=r"0\.50 mm off an even grid"):
        write_image(volume_of(affine, slice_origins_mm=uneven), tmp_path / name)
    values = hu()
    values[0, 0, 0] = np.nan
    with pytest.raises(LdctError, match="not numbers"):
        write_image(volume_of(affine, image_hu=values), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_axes_that_itk_would_change_are_refused_by_name(tmp_path, name, monkeypatch):
    """Today it keeps shear here, and straightens it when it reads NIfTI."""
    opened = volume_writer.open_itk
    straight = affine_of(AXES["axial"])
    monkeypatch.setattr(volume_writer, "open_itk", lambda path: (opened(path)[0], straight))
    with pytest.raises(LdctError, match="does not hold the axes"):
        write_image(volume_of(affine_of(AXES["tilted"])), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_image_files_are_known_by_their_names():
    names = ["a.nii", "A.NII.GZ", "b.nrrd", "b.nhdr", "c.mha", "c.MHD", "scan.1.nii.gz"]
    assert all(is_image_file(Path(name)) for name in names)
    assert not any(is_image_file(Path(name)) for name in ("a.dcm", "a.gz", "nii", "a.nii.zip", ""))
