"""The public face: few names, each loaded when asked for, each said in full."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gloam
from tests.tiny_models import write_tiny_embedder

ROOT = Path(__file__).resolve().parents[1]
MAKE = runpy.run_path(str(ROOT / "docs/make_api.py"))
ARRAY = re.compile(r"ndarray|NDArray|Pixels|Images|Scores")
SHAPE = re.compile(r"\[[\w ,+*.]+\]|shape", re.IGNORECASE)
UNIT = re.compile(r"float32|float64|uint8|int64|pixel|metre|degree|\[-?\d|second|byte|share|vector|sha256|epoch|minute")


def members() -> list[tuple[str, Any]]:
    """Every public function, and every public method of a public class."""
    found: list[tuple[str, Any]] = []
    for name in gloam.__all__:
        value = getattr(gloam, name)
        if inspect.isclass(value):
            found += [(f"{name}.{member}", inner) for member, inner in MAKE["public_members"](value)]
        else:
            found.append((name, value))
    return found


def test_at_most_twelve_names_and_every_one_is_there() -> None:
    assert len(gloam.__all__) <= 12
    assert gloam.__all__ == sorted(gloam.__all__)
    assert set(dir(gloam)) == {*gloam.__all__, "__version__"}
    assert all(getattr(gloam, name).__name__ == name for name in gloam.__all__)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Embeder'; it has .*Embedder"):
        gloam.Embeder  # noqa: B018


def test_names_are_loaded_when_asked_for() -> None:
    code = (
        "import sys; before = set(sys.modules); import gloam;"
        "assert not {m for m in set(sys.modules) - before if m.split('.')[0] not in sys.stdlib_module_names"
        " and m != 'gloam'}, sorted(sys.modules);"
        "gloam.load; assert 'torch' not in sys.modules and 'onnx' not in sys.modules; assert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", gloam.__all__)
def test_every_name_has_a_docstring_with_units(name: str) -> None:
    value = getattr(gloam, name)
    text = inspect.getdoc(value) or ""
    assert len(text.splitlines()) >= 3, f"gloam.{name} says too little"
    if inspect.isclass(value):
        text += " ".join(inspect.getdoc(inner) or "" for _, inner in MAKE["public_members"](value))
    assert UNIT.search(text), f"gloam.{name} names no dtype, range or unit"
    assert "Raises:" in text, f"gloam.{name} names no error"


@pytest.mark.parametrize(("name", "value"), members(), ids=lambda item: item if isinstance(item, str) else "")
def test_every_argument_and_shape_is_said(name: str, value: Any) -> None:
    text = inspect.getdoc(value) or ""
    if isinstance(value, property):
        signature = inspect.signature(value.fget) if value.fget is not None else None
        parameters: list[str] = []
    else:
        signature = inspect.signature(value)
        parameters = [item for item in signature.parameters if item not in ("self", "cls")]
    unsaid = [item for item in parameters if not re.search(rf"\b{item}\b", text)]
    assert not unsaid, f"{name}: its docstring does not say what {', '.join(unsaid)} is"
    if signature is not None and ARRAY.search(str(signature)):
        assert SHAPE.search(text), f"{name}: takes or gives an array and states no shape"


def test_the_page_is_what_the_docstrings_say() -> None:
    assert (ROOT / "docs/api.md").read_text() == MAKE["page"](), "run `python docs/make_api.py`"


def test_the_whole_road_by_the_public_names(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(np.full((40, 50, 3), 40 * index + 20, np.uint8) + index).save(tmp_path / f"{index}.png")
    write_tiny_embedder(tmp_path / "tiny.onnx")
    embedder = gloam.load(tmp_path / "tiny.onnx", threads=1)
    assert isinstance(embedder, gloam.Embedder)
    gloam.extract(tmp_path, embedder, tmp_path / "store")
    store = gloam.DescriptorStore.open(tmp_path / "store")
    index = gloam.DescriptorIndex.build(store, tmp_path / "index")
    names, cosines = index.search(store.load(), k=1, space=store.space)
    assert store.names == ["0.png", "1.png", "2.png"]
    assert np.allclose(cosines, 1, atol=1e-3)
    assert len(names) == 3
