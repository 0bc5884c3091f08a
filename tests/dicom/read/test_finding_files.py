"""Every file of a source is used, or told with the reason: links, discs, archives, bare data."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from helpers.dicom import ct_slice, only_series, quarantined, ramp, save, write_series
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from pipeline.core.refusals import Disposition, SeriesRefusedError, Unreadable
from pipeline.dicom.read.files import read_dataset
from pipeline.dicom.read.ingest_options import IngestOptions
from pipeline.dicom.read.series import find_series
from pipeline.dicom.read.volume import read_volume

EXPECTED_HU = ramp(0).astype(np.float32) - 1024


def told(root):
    """{path below root: (disposition, reason)} of what was not used."""
    found = find_series(root).refusals
    return {str(r.path.relative_to(root)): (r.disposition, r.reason) for r in found}


def write_disc(root: Path, named: list[list[str]]) -> Path:
    """A DICOMDIR that names these files."""
    index = Dataset()
    index.SOPClassUID = "1.2.840.10008.1.3.10"
    index.SOPInstanceUID = "1.2.3.4"
    index.DirectoryRecordSequence = []
    for parts in named:
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        record.ReferencedFileID = parts
        index.DirectoryRecordSequence.append(record)
    return save(index, root)


@pytest.mark.parametrize(
    "on_disk", ["se0/im{}", "SE0/IM{}", "Se0/im{}.", "se0/im{}.;1", "SE0/IM{};1"]
)
def test_a_disc_holds_its_files_in_any_case_of_letters(tmp_path, on_disk):
    for number in range(3):
        save(ct_slice(number), tmp_path / on_disk.format(number))
    index = write_disc(tmp_path / "dicomdir", [["SE0", f"IM{n}"] for n in range(3)])
    for source in (tmp_path, index):
        found = find_series(source)
        assert quarantined(found.refusals) == []
        assert [len(series.instances) for series in found.series] == [3]


def test_what_a_disc_lacks_is_told_in_its_own_words(tmp_path):
    for number in range(3):
        save(ct_slice(number), tmp_path / "se0" / f"im{number}")
    write_disc(tmp_path / "dicomdir", [["SE0", f"IM{n}"] for n in range(4)] + [["SE1", "IM0"]])
    lost = quarantined(find_series(tmp_path).refusals)
    assert {str(r.path.relative_to(tmp_path)) for r in lost} == {"SE0/IM3", "SE1/IM0"}
    assert {r.attribute for r in lost} == {"ReferencedFileID"}


def test_a_disc_in_an_archive_is_compared_likewise(tmp_path):
    with zipfile.ZipFile(tmp_path / "disc.zip", "w") as archive:
        for number in range(3):
            path = save(ct_slice(number), tmp_path / "in" / f"{number}")
            archive.write(path, f"cd/se0/im{number}")
            path.unlink()
        index = write_disc(tmp_path / "index", [["SE0", f"IM{n}"] for n in range(4)])
        archive.write(index, "cd/dicomdir")
        index.unlink()
    lost = quarantined(find_series(tmp_path).refusals)
    assert [str(r.path.relative_to(tmp_path)) for r in lost] == ["disc.zip/cd/SE0/IM3"]


@pytest.mark.parametrize("implicit", [True, False])
def test_a_data_set_that_begins_with_its_file_meta_is_read(tmp_path, implicit):
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    for number in range(3):
        path = save(ct_slice(number), tmp_path / f"{number}.dcm", syntax)
        path.write_bytes(path.read_bytes()[132:])
    series = only_series(tmp_path)
    np.testing.assert_array_equal(read_volume(series).volume.image_hu[0], EXPECTED_HU)
    assert [w for w in series.warnings if "preamble" in w]
    assert read_dataset(tmp_path / "0.dcm").file_meta.TransferSyntaxUID == syntax


def without_syntax(path: Path) -> Path:
    """The file without (0002,0010), its file meta's group length mended."""
    content = path.read_bytes()
    dataset = pydicom.dcmread(path)
    uid = str(dataset.file_meta.TransferSyntaxUID).encode()
    uid += b"\0" * (len(uid) % 2)
    element = b"\x02\x00\x10\x00UI" + len(uid).to_bytes(2, "little") + uid
    assert content.count(element) == 1
    length = int.from_bytes(content[140:144], "little") - len(element)
    head = content[:140] + length.to_bytes(4, "little")
    path.write_bytes(head + content[144:].replace(element, b""))
    return path


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_without_a_transfer_syntax_the_bytes_tell_it(tmp_path, syntax):
    for number in range(3):
        without_syntax(save(ct_slice(number), tmp_path / f"{number}.dcm", syntax))
    series = only_series(tmp_path)
    np.testing.assert_array_equal(read_volume(series).volume.image_hu[0], EXPECTED_HU)
    assert [w for w in series.warnings if "no TransferSyntaxUID" in w and syntax.name in w]


def test_without_a_transfer_syntax_compressed_pixels_are_refused_by_its_name(tmp_path):
    dataset = ct_slice(0)
    save(dataset, tmp_path / "0.dcm")
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "0.dcm", enforce_file_format=True)
    with pytest.raises(Unreadable) as fault:
        read_dataset(without_syntax(tmp_path / "0.dcm"))
    assert fault.value.attribute == "TransferSyntaxUID"
    found = find_series(tmp_path)
    reading_refusals = [r for s in found.series for r in _refused(s)] + found.refusals
    assert [r.attribute for r in reading_refusals] == ["TransferSyntaxUID"]


def _refused(series):
    try:
        return read_volume(series).refusals
    except SeriesRefusedError as refused:
        return refused.refusals


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path):
    write_series(tmp_path / "elsewhere", 3)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "case").symlink_to(tmp_path / "elsewhere")
    series = only_series(tmp_path / "in")
    assert len(series.instances) == 3
    assert series.instances[0].path.is_relative_to(tmp_path / "in" / "case")


def test_links_that_go_in_circles_end_and_are_told(tmp_path):
    root = tmp_path / "in"
    write_series(root / "a", 3)
    (tmp_path / "elsewhere").mkdir()
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "above").symlink_to(tmp_path)
    (root / "b").symlink_to(root / "a")
    (root / "c").symlink_to(tmp_path / "elsewhere")
    (root / "d").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    (root / "gone").symlink_to(tmp_path / "nowhere")
    found = find_series(root)
    assert [len(series.instances) for series in found.series] == [3]
    assert {name: reason for name, (_, reason) in told(root).items()} == {
        "a/up": "a link to a folder that holds it: not followed, it has no end",
        "a/above": "a link to a folder that holds it: not followed, it has no end",
        "b": "a link to a folder that is read where it lies",
        "c/back": "a link to a folder that is read where it lies",
        "d": "a link to a folder that is read where it lies",
        "gone": "a link to a file that is not there",
    }


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    write_series(tmp_path / "a", 3)
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    reason = "a folder that cannot be read: Permission denied"
    assert told(tmp_path) == {"locked": (Disposition.QUARANTINED, reason)}


def test_what_is_no_file_is_not_waited_for(tmp_path):
    write_series(tmp_path / "a", 3)
    os.mkfifo(tmp_path / "pipe.dcm")
    assert told(tmp_path) == {"pipe.dcm": (Disposition.EXCLUDED, "neither a file nor a folder")}


@pytest.mark.parametrize(
    "name", ["s.tar", "s.tar.gz", "s.tgz", "s.tar.bz2", "s.txz", "s.7z", "s.rar", "0.dcm.gz"]
)
def test_other_archives_are_told_with_the_remedy(tmp_path, name):
    write_series(tmp_path / "a", 3)
    (tmp_path / name).write_bytes(b"\x1f\x8b packed")
    disposition, reason = told(tmp_path)[name]
    assert disposition is Disposition.QUARANTINED
    assert "unpack it" in reason


def test_an_archive_within_an_archive_is_told_with_the_remedy(tmp_path):
    (inner,) = write_series(tmp_path / "a", 1)
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.write(inner)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(tmp_path / "inner.zip", "inner.zip")
        archive.writestr("__MACOSX/._inner.zip", b"x")
    (tmp_path / "inner.zip").unlink()
    rows = told(tmp_path)
    assert rows["outer.zip/inner.zip"] == (
        Disposition.QUARANTINED,
        "an archive within an archive: unpack it first",
    )
    assert rows["outer.zip/__MACOSX/._inner.zip"][0] is Disposition.EXCLUDED


def test_what_is_hidden_or_skipped_is_told_and_not_entered(tmp_path):
    write_series(tmp_path / "a", 3)
    write_series(tmp_path / ".cache" / "deep", 3)
    write_series(tmp_path / "Half Dose", 3)
    found = find_series(tmp_path, intake=IngestOptions(skip_folders="half"))
    assert {r.path.name: r.disposition for r in found.refusals} == {
        ".cache": Disposition.EXCLUDED,
        "Half Dose": Disposition.EXCLUDED,
    }
    assert [len(series.instances) for series in found.series] == [3]
