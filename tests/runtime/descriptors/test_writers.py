"""What other programs read back is what the store holds."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from gloam.data.kapture_io import read_global_features
from gloam.errors import DataError, IncompatibleError
from gloam.runtime.descriptors.writers import write_hloc, write_kapture
from tests.runtime.sources import random_source


def test_kapture_features_read_back(tmp_path: Path) -> None:
    source = random_source(20, 8)
    assert write_kapture(source, tmp_path, "gem") == 20
    names, rows, feature_type = read_global_features(tmp_path)
    assert feature_type == "gem"
    assert dict(zip(names, rows.tolist(), strict=True)) == dict(zip(source.names, source.rows.tolist(), strict=True))
    raw = (tmp_path / "reconstruction/global_features/gem" / (source.names[0] + ".gfeat")).read_bytes()
    assert raw == source.rows[0].astype("<f4").tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_hloc_file_reads_back_as_nested_groups(tmp_path: Path, dtype: str) -> None:
    source = random_source(20, 8)
    assert write_hloc(source, tmp_path / "features.h5", dtype) == 20
    with h5py.File(tmp_path / "features.h5") as file:
        assert sorted(file.keys()) == ["map"]  # the folders of the names are groups
        for name, row in zip(source.names, source.rows, strict=True):
            stored = file[name]["global_descriptor"]
            assert stored.dtype == dtype
            assert np.array_equal(stored[:], row.astype(dtype))


def test_hloc_files_of_the_same_store_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_hloc(random_source(5, 8), tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("bad", ["../out.jpg", "map", "/absolute.jpg"])
def test_a_name_that_cannot_be_written_leaves_no_file(tmp_path: Path, bad: str) -> None:
    source = random_source(5, 8)
    source.names[3] = bad
    with pytest.raises(DataError):
        write_hloc(source, tmp_path / "features.h5")
    assert list(tmp_path.iterdir()) == []


def test_two_models_do_not_share_a_type_of_features(tmp_path: Path) -> None:
    first, other = random_source(20, 8), random_source(20, 8, prefix="query")
    write_kapture(first, tmp_path, "gem")
    assert write_kapture(other, tmp_path, "gem") == 20  # of one model: one set
    assert len(read_global_features(tmp_path)[0]) == 40
    other.space = "c" * 64
    with pytest.raises(IncompatibleError, match=r"gem: holds features of another model.*--feature-type"):
        write_kapture(other, tmp_path, "gem")
    assert write_kapture(other, tmp_path, "gem2") == 20
    (tmp_path / "reconstruction/global_features/gem/gloam.json").unlink()
    with pytest.raises(IncompatibleError, match="or does not say of which"):
        write_kapture(first, tmp_path, "gem")
