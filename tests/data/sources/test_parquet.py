"""Images in Parquet cells are those that were put in, in any order of reading, at the memory of some rows."""

from __future__ import annotations

import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gloam.data.sources import find_images
from gloam.errors import DataError, ImageError


def write(path: Path, columns: dict[str, Any], group: int = 50) -> None:
    pq.write_table(pa.table(columns), path, row_group_size=group)


def contents(count: int, seed: int = 0) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.randrange(1, 400)) for _ in range(count)]


def test_cells_are_read_in_any_order_and_from_threads(tmp_path: Path) -> None:
    cells = contents(1200)
    write(tmp_path / "a.parquet", {"bytes": cells, "key": [f"{row}.jpg" for row in range(1200)]}, 333)
    items = find_images(tmp_path / "a.parquet")
    assert [item.name for item in items] == [f"{row}.jpg" for row in range(1200)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda item: item.read(), items)) == cells
    for row in [1199, 0, 600, 601, 599, 332, 333, 1000, 5]:
        assert items[row].read() == cells[row]
    assert pickle.loads(pickle.dumps(items[700])).read() == cells[700]


@pytest.mark.parametrize("column", ["name", "path", "key"])
@pytest.mark.parametrize("image", ["image", "bytes"])
def test_column_names(tmp_path: Path, column: str, image: str) -> None:
    write(tmp_path / "a.parquet", {"label": [1, 2], image: [b"x", b"y"], column: ["a/1.jpg", "a/2.jpg"]})
    assert {item.name: item.read() for item in find_images(tmp_path / "a.parquet")} == {
        "a/1.jpg": b"x",
        "a/2.jpg": b"y",
    }


def test_structs_of_bytes_and_path(tmp_path: Path) -> None:
    images = [{"bytes": b"x", "path": "1.jpg"}, {"bytes": b"y", "path": None}, {"bytes": None, "path": "3.jpg"}, None]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    write(tmp_path / "train-0.parquet", {"image": pa.array(images, kind)})
    items = find_images(tmp_path)  # a folder of Parquet files
    assert [item.name for item in items] == ["1.jpg", "train-0/00000001", "3.jpg", "train-0/00000003"]
    assert [items[0].read(), items[1].read()] == [b"x", b"y"]
    for row in (2, 3):
        with pytest.raises(ImageError, match="holds no bytes"):
            items[row].read()


def test_many_files_with_one_damaged(tmp_path: Path) -> None:
    for number in range(3):
        names = [f"{number}/{row}.jpg" for row in range(5)]
        write(tmp_path / f"{number}.parquet", {"image": contents(5, number), "name": names})
    damaged = tmp_path / "1.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    items = find_images(tmp_path / "{0..2}.parquet")
    assert [item.problem is None for item in items] == [True] * 5 + [False] + [True] * 5
    assert items[5].name == "1.parquet"
    assert str(items[5].problem).startswith("1.parquet: cannot be read")
    assert [item.read() for item in items[6:]] == contents(5, 2)


def test_a_table_that_goes_mid_run_is_a_reason(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": [b"x"], "name": ["a.jpg"]})
    (item,) = find_images(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        item.read()
    assert item.explained("why") == "a.parquet: why"


def test_a_table_without_images_names_its_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": ["path/only.jpg"], "label": [1]})
    with pytest.raises(DataError, match="it has image, label"):
        find_images(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pa.array([7, 0, 12]), ["7", "0", "12"]),
        (pa.array(["a.jpg", "b/c.jpg", "a.jpg"]).dictionary_encode(), ["a.jpg", "b/c.jpg", "a.jpg"]),
        (pa.array([5, 6, 5]).dictionary_encode(), ["5", "6", "5"]),
        (pa.array([b"a.jpg", b"b.jpg", b"\xff.jpg"]), ["a.jpg", "b.jpg", "\\\\udcff.jpg"]),
        (pa.array(["./a.jpg", "b//c.jpg", None]), ["a.jpg", "b/c.jpg", "a/00000002"]),
        (pa.array(["a.jpg", "b\\c.jpg", ""]), ["a.jpg", "b/c.jpg", "a/00000002"]),
    ],
)
def test_names_of_any_kind_are_names(tmp_path: Path, values: Any, names: list[str]) -> None:
    write(tmp_path / "a.parquet", {"image": [b"x", b"y", b"z"], "name": values})
    assert [item.name for item in find_images(tmp_path / "a.parquet")] == names


def test_a_column_of_names_that_are_none_is_said(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"image": [b"x"], "path": [0.5]})
    with pytest.raises(DataError, match=r"a\.parquet: column 'path' holds double; names are text or whole numbers"):
        find_images(tmp_path / "a.parquet")
    write(tmp_path / "a.parquet", {"image": [b"x"], "path": [0.5], "key": ["a.jpg"]})
    assert find_images(tmp_path / "a.parquet")[0].name == "a.jpg"
