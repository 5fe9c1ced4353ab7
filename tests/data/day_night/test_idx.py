import gzip
import struct

import numpy as np
import pytest

from gloam.data.day_night.idx import read_idx, read_idx_images
from gloam.errors import DataError


def idx_bytes(values):
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.mark.parametrize("pack", [lambda content: content, gzip.compress])
def test_reads_what_was_written(tmp_path, pack):
    values = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(pack(idx_bytes(values)))
    assert np.array_equal(read_idx_images(path)[..., 0], values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG\r\n", "not an IDX file"),
        (struct.pack(">BBBBI", 0, 0, 13, 1, 4), "type 0x0d"),
        (struct.pack(">BBBBII", 0, 0, 8, 2, 4, 4) + b"123", "its header says"),
        (struct.pack(">BBBBI", 0, 0, 8, 3, 4), "its header says"),
        (struct.pack(">BBBBIII", 0, 0, 8, 3, 2**31, 2**31, 2**31), "its header says"),
        (b"\x1f\x8b" + b"broken", "cannot be read"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x04abcd", mtime=0)[:-12], "cannot be read"),
    ],
)
def test_other_files_are_one_line(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert "\n" not in str(caught.value)


def test_labels_are_no_images(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(DataError, match="expected images"):
        read_idx_images(path)
