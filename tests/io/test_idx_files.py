"""IDX files: read as they are, and refused by name where they are not what they say."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.idx import idx_bytes, idx_folder

from pipeline.core.errors import NothingUsableError
from pipeline.io import idx_files
from pipeline.io.idx_files import IMAGES, LABELS, TEST, TRAINING, find_idx, read_idx, read_pair

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)


def written(folder: Path, data: bytes, name: str = "train-images-idx3-ubyte") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_images_and_labels_come_back_as_they_were_written(tmp_path: Path, packed: bool) -> None:
    labels = np.array([3, 0, 255, 3, 1], dtype=np.uint8)
    suffix = ".gz" if packed else ""
    pack = gzip.compress if packed else bytes
    images = written(tmp_path, pack(idx_bytes(PICTURES)), f"train-images-idx3-ubyte{suffix}")
    classes = written(tmp_path, pack(idx_bytes(labels)), f"train-labels-idx1-ubyte{suffix}")
    read = read_pair(images, classes)
    np.testing.assert_array_equal(read.images, PICTURES)
    np.testing.assert_array_equal(read.labels, labels)


def test_the_bytes_are_those_of_mnist_s_description(tmp_path: Path) -> None:
    """0x00000803, then 2 images of 1 x 2, big-endian, rows first."""
    data = bytes.fromhex("00000803 00000002 00000001 00000002 00ff 0102")
    np.testing.assert_array_equal(read_idx(written(tmp_path, data), IMAGES), [[[0, 255]], [[1, 2]]])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no IDX file of images: it begins with nothing"),
        (idx_bytes(PICTURES)[:9], "no IDX file of images: it begins with 00000803"),
        (b"\x89PNG" + bytes(99), "it begins with 89504e47, not 00000803"),
        (idx_bytes(PICTURES.ravel()), "it begins with 00000801, not 00000803"),
        (b"\0\0\x0d\x03" + idx_bytes(PICTURES)[4:], "it begins with 00000d03"),
        (idx_bytes(PICTURES)[:-1], "says 60 bytes of images, and it is cut off"),
        (idx_bytes(PICTURES) + b"\0", "says 60 bytes of images, and it has more"),
        (struct.pack(">HBB3I", 0, 8, 3, 0, 4, 3), "its header says 0 x 4 x 3"),
        (struct.pack(">HBB3I", 0, 8, 3, 1, 4, 2000), "its header says 1 x 4 x 2000"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 1024, 1024), "at most 1073741824 bytes"),
    ],
)
def test_what_is_no_whole_idx_file_is_refused_by_name(
    tmp_path: Path, data: bytes, said: str
) -> None:
    for path in (
        written(tmp_path, data),
        written(tmp_path, gzip.compress(data), "train-images-idx3-ubyte.gz"),
    ):
        with pytest.raises(NothingUsableError) as raised:
            read_idx(path, IMAGES)
        assert str(raised.value).startswith(str(path))
        assert said in str(raised.value)


def test_a_packed_file_that_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    packed = gzip.compress(idx_bytes(PICTURES))
    changed = bytearray(packed)
    changed[-8] ^= 1  # of its checksum
    for data in (packed[:-12], bytes(changed), b"not packed at all", b""):
        path = written(tmp_path, data, "train-images-idx3-ubyte.gz")
        with pytest.raises(NothingUsableError, match=r"train-images-idx3-ubyte\.gz"):
            read_idx(path, IMAGES)


def test_a_small_file_that_unpacks_to_much_is_not_unpacked(tmp_path: Path) -> None:
    """256 MB of zeros behind a header of 5 images."""
    data = gzip.compress(idx_bytes(PICTURES) + bytes(2**28), compresslevel=1)
    path = written(tmp_path, data, "train-images-idx3-ubyte.gz")
    del data
    tracemalloc.start()
    with pytest.raises(NothingUsableError, match="has more"):
        read_idx(path, IMAGES)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_a_header_that_says_much_takes_no_memory_for_what_is_not_there(tmp_path: Path) -> None:
    path = written(tmp_path, struct.pack(">HBB3I", 0, 8, 3, 1000, 1024, 1024) + bytes(10))
    tracemalloc.start()
    with pytest.raises(NothingUsableError, match="cut off"):
        read_idx(path, IMAGES)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_images_and_labels_of_two_data_sets_are_refused(tmp_path: Path) -> None:
    images = written(tmp_path, idx_bytes(PICTURES))
    labels = written(tmp_path, idx_bytes(np.zeros(4, dtype=np.uint8)), "train-labels-idx1-ubyte")
    with pytest.raises(NothingUsableError, match=r"5 images and train-labels-idx1-ubyte 4 labels"):
        read_pair(images, labels)


@pytest.mark.parametrize(
    "names",
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte.gz"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "t10k-images.idx3-ubyte"),
        (
            "emnist-digits-train-images-idx3-ubyte.gz",
            "emnist-digits-train-labels-idx1-ubyte.gz",
            "emnist-digits-test-images-idx3-ubyte.gz",
        ),
    ],
)
def test_files_are_found_by_the_publishers_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in (*names, names[2].replace("images", "labels").replace("idx3", "idx1"), "README"):
        written(tmp_path, b"", name)
    found = find_idx(tmp_path)
    assert found.keys() == {TRAINING, TEST}
    assert found[TRAINING] == {IMAGES: tmp_path / names[0], LABELS: tmp_path / names[1]}
    assert found[TEST][IMAGES] == tmp_path / names[2]


def test_what_is_missing_or_there_twice_is_said(tmp_path: Path) -> None:
    with pytest.raises(NothingUsableError, match=r"absent has no IDX files.*put train-images-idx3"):
        find_idx(tmp_path / "absent")
    whole = idx_folder(tmp_path / "whole")
    (whole / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(NothingUsableError, match=r"t10k-images-idx3-ubyte.gz has no labels"):
        find_idx(whole)
    (whole / "t10k-images-idx3-ubyte.gz").unlink()
    assert find_idx(whole).keys() == {TRAINING}
    written(whole, b"", "kmnist-train-images-idx3-ubyte")
    with pytest.raises(NothingUsableError, match=r"are both images of one side"):
        find_idx(whole)


def test_the_largest_published_part_is_within_the_limit() -> None:
    """EMNIST by class has 697,932 training images."""
    assert idx_files.MAX_BYTES > 697_932 * 28 * 28
