import numpy as np
import pytest

from gloam.errors import StoreError
from gloam.training.kept_arrays import read_arrays, write_arrays


def test_arrays_come_back_and_a_broken_file_is_named(tmp_path):
    path = tmp_path / "views.npz"
    assert read_arrays(path) is None
    write_arrays(path, {"images": np.arange(6, dtype=np.uint8).reshape(2, 3), "names": np.array(["é", "b"])})
    found = read_arrays(path)
    assert found["images"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["names"].tolist() == ["é", "b"]
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StoreError, match=r"views\.npz: not readable .*; remove it to render again"):
        read_arrays(path)
