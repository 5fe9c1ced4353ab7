"""Whose folder it is: leftovers of a kill and of a neighbour that begins at the same time are nobody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.data.sources import ImageItem
from gloam.errors import IncompatibleError, StoreError
from gloam.files import sha256_json
from gloam.runtime.output_folder import names_sha256, occupied, refuse_another


def test_only_a_manifest_makes_a_folder_ours(tmp_path: Path) -> None:
    assert not occupied(tmp_path / "absent", "a store")
    assert not occupied(tmp_path, "a store")
    (tmp_path / ".tmp-neighbour").write_text("{")
    assert not occupied(tmp_path, "a store")
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match="not a store; choose another output folder"):
        occupied(tmp_path, "a store")
    (tmp_path / "manifest.json").write_text("{}")
    assert occupied(tmp_path, "a store")


def test_another_job_is_named_by_what_differs(tmp_path: Path) -> None:
    refuse_another(tmp_path, {"a": 1, "b": None}, {"a": 1}, "a store")
    with pytest.raises(IncompatibleError, match="holds a store made with another b, c;"):
        refuse_another(tmp_path, {"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, "a store")


def test_the_identity_of_a_list_is_that_of_its_json() -> None:
    items = [ImageItem("a.jpg", Path("a")), ImageItem("ü.jpg", Path("b"), "is no good")]
    assert names_sha256(items) == sha256_json([["a.jpg", None], ["ü.jpg", "is no good"]])
    assert names_sha256([]) == sha256_json([])
