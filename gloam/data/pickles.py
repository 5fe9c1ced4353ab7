"""Pickles of plain data and numpy arrays, read without building anything else.

Public datasets come as pickles, and a pickle can name any class or function to call. Here nothing is called: arrays
of NumPy 1 and 2 are rebuilt from their bytes by this file, and every other name is refused and told.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gloam.errors import DataError

SIMPLE = frozenset((int, float, str, bytes, bool, type(None)))
KINDS = "biufSU"  # of array elements: numbers and text; never objects


def load_pickle(path: str | Path) -> Any:
    """The content of a pickle: containers, numbers, text, bytes, and numpy arrays of numbers or text.

    Args:
        path: file, of any pickle protocol; strings of Python 2 are read as Latin-1.

    Raises:
        DataError: absent, malformed, or with a reference to a class or function; its name is in the message.
    """
    file = Path(path)
    try:
        with open(file, "rb") as handle:
            return plain(_Restricted(handle).load())
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}); check the path") from error
    except _RefusedError as error:
        raise DataError(
            f"{file}: the pickle refers to {error}, which is not plain data; it was not loaded, as that could run code"
        ) from error
    except Exception as error:  # pickle raises Unpickling-, EOF-, Value-, Index-, Key-, Recursion- and other errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{file}: not a readable pickle ({reason[:120]}); fetch it again") from error


def stand_ins() -> dict[str, Callable[..., Any]]:
    """What takes the place of each name that a pickled numpy array refers to; :func:`plain` removes it again.

    Fresh functions at each call: a pickle that alters one alters no other reading.
    """

    def reconstruct(*_: Any) -> ArrayState:
        return ArrayState()

    def scalar(dtype: Any, content: Any) -> Any:
        return _from_bytes(content, dtype, (1,), "C")[0].item()

    def frombuffer(content: Any, dtype: Any, shape: Any, order: str) -> Any:
        return _from_bytes(content, dtype, shape, order)

    names: dict[str, Callable[..., Any]] = {"numpy.ndarray": ArrayState, "numpy.dtype": DtypeState}
    for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
        names[f"{core}.multiarray._reconstruct"] = reconstruct
        names[f"{core}.multiarray.scalar"] = scalar
        names[f"{core}.numeric._frombuffer"] = frombuffer
    return names


def plain(value: Any) -> Any:
    """``value`` with arrays in place of what stood for them while it was read.

    Raises:
        ValueError: a stand-in without content.
    """
    return _plain(value, {})


class DtypeState:
    """Stands for ``numpy.dtype`` while a pickle is read."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        """The dtype.

        Raises:
            ValueError: of objects, or of several fields.
        """
        dtype = np.dtype(self.code)
        if dtype.kind not in KINDS or dtype.fields is not None:
            raise ValueError(f"holds an array of {self.code}, which are no numbers")
        return dtype.newbyteorder("<" if self.order == "<" else ">") if self.order in "<>" else dtype


class ArrayState:
    """Stands for an array while a pickle is read; its state comes after it."""

    value: np.ndarray[Any, Any] | None = None

    def __init__(self, *_: Any) -> None:
        """Whatever a pickle gives is of no use before its state."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _from_bytes(content, dtype, shape, "F" if fortran else "C")


class _RefusedError(Exception):
    pass


class _Restricted(pickle.Unpickler):
    def __init__(self, handle: BinaryIO) -> None:
        super().__init__(handle, encoding="latin1")
        self._names = stand_ins()

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may name."""
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return lambda text, encoding: text.encode("latin1")
        if name == "bytes" and module in ("__builtin__", "builtins"):  # how protocol 2 writes empty ones
            return lambda: b""
        if f"{module}.{name}" not in self._names:
            raise _RefusedError(f"{module}.{name}")
        return self._names[f"{module}.{name}"]


def _from_bytes(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, DtypeState):
        raise ValueError("an array without a dtype")
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    wanted = dtype.dtype()
    flat = np.frombuffer(raw, wanted) if raw else np.empty(0, wanted)
    native = flat.astype(flat.dtype.newbyteorder("="))
    return native.reshape(tuple(int(side) for side in shape), order="F" if order == "F" else "C")


def _plain(value: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """Shared and cyclic parts are visited once; ``seen`` keeps them alive, so that no identity is used twice."""
    if type(value) in SIMPLE:
        return value
    if isinstance(value, ArrayState):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, dict):
        seen[id(value)] = (value, value)
        for key in list(value):
            value[key] = _plain(value[key], seen)
    elif isinstance(value, list):
        seen[id(value)] = (value, value)
        if not SIMPLE.issuperset(map(type, value)):
            value[:] = [_plain(item, seen) for item in value]
    elif isinstance(value, tuple):
        found = tuple(_plain(item, seen) for item in value)
        seen[id(value)] = (value, found)
        return found
    elif isinstance(value, DtypeState) or callable(value):
        raise ValueError("a bare dtype or function")
    return value
