"""Weights of a row are those that are there; what is not there is named, and what nobody has has a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from gloam.errors import DataError
from gloam.workflows.reproduce.localization.supply import PublishedSupply


def test_published_weights_are_found_or_named(tmp_path: Path) -> None:
    supply = PublishedSupply("mduit", "1", tmp_path)
    (lacking,) = supply.lacking("NetVLAD")
    assert lacking.path == tmp_path / "networks" / "Pitts30K_struct.mat"
    with pytest.raises(DataError, match=r"Pitts30K_struct\.mat: is not there; gloam pull netvlad_pitts30k --to "):
        supply.weights("NetVLAD")
    lacking.path.parent.mkdir()
    lacking.path.write_bytes(b"")
    assert supply.lacking("NetVLAD") == []
    found = supply.weights("NetVLAD")
    assert (found.files, found.origin) == ([lacking.path], "netvlad_pitts30k")


def test_what_was_given_comes_first_and_what_nobody_has_is_no_file(tmp_path: Path) -> None:
    file = tmp_path / "full.safetensors"
    file.write_bytes(b"")
    supply = PublishedSupply("mduit", "1", tmp_path, {"Full": file})
    assert (supply.weights("Full").files, supply.weights("Full").origin) == ([file], "given with --weights")
    assert supply.lacking("w/o I2I") == []
    with pytest.raises(DataError, match=r"^not published by the authors; `gloam train .* mduit_no_i2i "):
        supply.weights("w/o I2I")
