import numpy as np
import pytest

from gloam.errors import StoreError
from gloam.training.kept_arrays import read_arrays, write_arrays
from tests.damage import named_or_harmless


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


def test_a_flipped_bit_is_named_and_so_is_a_file_under_anothers_name(tmp_path):
    for name in ("a.npz", "b.npz"):
        write_arrays(tmp_path / name, {"images": np.arange(60, dtype=np.uint8), "name": np.array(name)})

    def read():
        return {name: array.tobytes() for name, array in read_arrays(tmp_path / "a.npz").items()}

    assert named_or_harmless(tmp_path / "a.npz", read, 100) > 30
    (tmp_path / "b.npz").replace(tmp_path / "a.npz")
    with pytest.raises(StoreError, match=r"a\.npz: not readable \(it was written under another name\)"):
        read_arrays(tmp_path / "a.npz")
    np.savez(tmp_path / "c.npz", images=np.zeros(2))  # as before names were kept
    assert list(read_arrays(tmp_path / "c.npz")) == ["images"]
