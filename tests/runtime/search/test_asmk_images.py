"""Images of a map, of its codebook and of queries are read at one size, the model's or the one asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gloam.data.sources import find_images
from gloam.errors import IncompatibleError
from gloam.model_card import InputRule
from gloam.runtime.models.local_features import LocalExtractor
from gloam.runtime.search.asmk import AsmkIndex, Codebook
from gloam.runtime.search.asmk_images import Extracted, index_images, learn_codebook, search_images
from tests.runtime.models.test_local_features import CellModel, image


def images(folder: Path, rule: InputRule | None) -> Extracted:
    return Extracted(LocalExtractor(CellModel(), input_rule=rule), find_images(folder))  # type: ignore[arg-type]


def test_indexes_of_other_sizes_are_refused_by_name_and_kept_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.fromarray(image(96, 160, seed=number)).save(tmp_path / f"images/{number}.png")
    small, plain = (images(tmp_path / "images", rule) for rule in (InputRule(80), None))
    sizes = [[len(features) for _, features in item] for item in (small, plain)]
    assert sizes == [[60] * 3, [240] * 3]  # cells of 8 px: the rule is followed
    codebook = learn_codebook(small, 8)
    codebook.save(tmp_path / "words.npz")
    assert Codebook.load(tmp_path / "words.npz").input_rule == InputRule(80)
    index_images(small, codebook).save(tmp_path / "index.npz")
    index = AsmkIndex.load(tmp_path / "index.npz")
    assert list(search_images(small, index)) == index.names
    sentence = r"images read at longer side of at most 1024 px.*images read at longer side of at most 80 px"
    for refused in (lambda: search_images(plain, index), lambda: index_images(plain, codebook)):
        with pytest.raises(IncompatibleError, match=sentence):
            refused()


def test_a_file_from_before_states_no_size(tmp_path: Path) -> None:
    Codebook(np.eye(3, dtype=np.float32), "a" * 64).save(tmp_path / "words.npz")
    assert Codebook.load(tmp_path / "words.npz").input_rule is None
