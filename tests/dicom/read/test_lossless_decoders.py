"""Lossless JPEG and JPEG-LS come out bit for bit as pydicom has them, or as what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dicom import ct_slice, save
from helpers.odd_series.codecs import compressed
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import JPEGLossless, JPEGLosslessSV1, JPEGLSLossless

from pipeline.dicom.read import lossless_decoders
from pipeline.dicom.read.fast_header import one_fragment
from pipeline.dicom.read.lossless_decoders import PLUGIN, containers_of
from pipeline.dicom.read.pixels import read_slice
from pipeline.dicom.read.series import find_series

SYNTAXES = (JPEGLSLossless, JPEGLossless, JPEGLosslessSV1)
KINDS = {"16 signed": (16, True), "12 signed": (12, True), "12": (12, False), "16": (16, False)}
SHAPE = (24, 32)


def stored_values(bits: int, signed: bool) -> NDArray:
    """All of the range, its ends included, beside each other."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    values = np.random.default_rng(bits).integers(low, high + 1, SHAPE)
    values[0, :2] = low, high
    return values.astype(np.int16 if signed else np.uint16)


def slice_of(values: NDArray, bits: int, syntax: str, *, fragments: int = 1) -> Dataset:
    dataset = ct_slice(0, np.zeros(SHAPE, np.int16))
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(np.issubdtype(values.dtype, np.signedinteger))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    frame = compressed(values, bits, syntax)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=fragments)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    return dataset


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("syntax", SYNTAXES, ids=[uid.keyword for uid in SYNTAXES])
def test_a_slice_has_the_values_that_went_in_and_pydicom_s(syntax: str, kind: str) -> None:
    bits, signed = KINDS[kind]
    values = stored_values(bits, signed)
    dataset = slice_of(values, bits, syntax)
    ours, by_pydicom = pixel_array(dataset, decoding_plugin=PLUGIN), pixel_array(dataset)
    assert ours.dtype == by_pydicom.dtype
    np.testing.assert_array_equal(ours, by_pydicom)
    np.testing.assert_array_equal(ours, values)
    np.testing.assert_array_equal(containers_of(dataset), values)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=[uid.keyword for uid in SYNTAXES])
@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_damaged_stream_is_what_pydicom_makes_of_it(syntax: str, cut: float) -> None:
    dataset = slice_of(stored_values(12, False), 12, syntax)
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: int(cut * len(frame)) // 2 * 2]])
    found = []
    for read in (containers_of, pixel_array):
        try:
            found.append(read(dataset).tobytes())
        except RuntimeError as error:
            found.append(str(error).partition("\n")[0].encode())
    assert found[0] == found[1]


def test_without_the_libraries_functions_pydicom_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = stored_values(12, True)

    def missing(*arguments: object) -> None:
        raise AttributeError("charls_jpegls_decoder_create")

    monkeypatch.setattr(lossless_decoders, "_by_charls", missing)
    monkeypatch.setattr(lossless_decoders, "_by_gdcm", missing)
    for syntax in SYNTAXES:
        dataset = slice_of(values, 12, syntax)
        np.testing.assert_array_equal(containers_of(dataset), values)
        with pytest.raises(RuntimeError, match="charls_jpegls_decoder_create"):
            pixel_array(dataset, decoding_plugin=PLUGIN)


@pytest.mark.parametrize("fragments", [1, 3])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=[uid.keyword for uid in SYNTAXES])
def test_a_file_is_read_by_its_header_s_scan_whatever_its_fragments(
    tmp_path: Path, syntax: str, fragments: int
) -> None:
    values = stored_values(12, False)
    dataset = slice_of(values, 12, syntax, fragments=fragments)
    save(dataset, tmp_path / "0.dcm", syntax)
    (series,) = find_series(tmp_path).series
    (instance,) = series.instances
    assert instance.pixels is not None
    content = (tmp_path / "0.dcm").read_bytes()[instance.pixels.offset :]
    assert instance.pixels.length is None
    assert (one_fragment(content) is not None) == (fragments == 1)
    np.testing.assert_array_equal(read_slice(instance).containers, values)


def test_pixels_that_do_not_end_are_no_fragment() -> None:
    whole = encapsulate([b"abcd"]) + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert one_fragment(whole) == b"abcd"
    assert one_fragment(whole + b"\0\0") == b"abcd"
    for cut in range(len(whole) - 8):
        assert one_fragment(whole[:cut]) is None
    assert one_fragment(encapsulate([b"abcd", b"efgh"]) + whole[-8:]) is None
