"""Pickles of plain data and numpy arrays, read without building anything else.

Public datasets come as pickles, and a pickle can name any class or function to call. Here nothing is called: arrays
of NumPy 1 and 2 are rebuilt from their bytes by this file, and every other name is refused and told.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gloam.errors import DataError
from gloam.files import read_file

SIMPLE = frozenset((int, float, str, bytes, bool, type(None)))
UNFOLDED = 4_000_000  # values that a pickle may stand for, beside 16 for each of its bytes
DEEPEST = 64  # parts inside each other
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
        content = read_file(file)
        return plain(_Restricted(content).load(), UNFOLDED + 16 * len(content))
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
    for module in ("pca", "_pca"):  # of two generations of scikit-learn
        names[f"sklearn.decomposition.{module}.PCA"] = Attributes
    return names


def plain(value: Any, most: int | None = None) -> Any:
    """``value`` with arrays in place of what stood for them while it was read.

    Args:
        most: values that it may hold, those that it shares counted at every place.

    Raises:
        ValueError: a stand-in without content, parts inside themselves or deeper than :data:`DEEPEST`, or more values
            than ``most``: a few bytes can stand for more than any reader would see the end of.
    """
    seen = _Seen()
    found = _plain(value, seen, 0)
    if most is not None and seen.size(value) > most:
        raise ValueError(f"its shared parts stand for more than {most:,} values")
    return found


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


class Attributes(dict[str, Any]):
    """Stands for an object whose class is not built: its attributes, as a dictionary."""

    def __setstate__(self, state: Any) -> None:
        self.update(state)


class _RefusedError(Exception):
    pass


_Unpickler: Any = pickle._Unpickler  # the C one cannot be asked before it hashes


class _Restricted(_Unpickler):  # type: ignore[misc]  # of a class that has no types
    """The standard library's reader in Python, which lets keys be looked at before they are hashed.

    A tuple of tuples, each twice in the next, takes time without end to be hashed.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._names = stand_ins()
        self._most = len(content)

    def load_setitem(self) -> None:
        """A dictionary's item."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Several of them."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """A dictionary."""
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        """Items of a set."""
        _check_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """A set that stays as it is."""
        _check_keys(self.stack)
        super().load_frozenset()

    def load_bytearray8(self) -> None:
        """Bytes; the length that is stated would be reserved at once."""
        (size,) = struct.unpack("<Q", self.read(8))
        if size > self._most:
            raise ValueError("truncated")
        self.append(bytearray(self.read(size)))

    for code, load in (
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.DICT, load_dict),
        (pickle.ADDITEMS, load_additems),
        (pickle.FROZENSET, load_frozenset),
        (pickle.BYTEARRAY8, load_bytearray8),
    ):
        dispatch[code[0]] = load
    del code, load

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
    if not isinstance(content, str | bytes | bytearray):  # of a number, bytes() would make as many
        raise ValueError("an array without bytes")
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    wanted = dtype.dtype()
    flat = np.frombuffer(raw, wanted) if raw else np.empty(0, wanted)
    native = flat.astype(flat.dtype.newbyteorder("="))
    return native.reshape(tuple(int(side) for side in shape), order="F" if order == "F" else "C")


def _check_keys(keys: list[Any]) -> None:
    for key in keys:
        flat = type(key) is tuple and SIMPLE.issuperset(map(type, key))
        if type(key) not in SIMPLE and not flat:
            raise ValueError(f"a key of type {type(key).__name__}")


class _Seen:
    """What was visited, and how many values each part stands for; it is kept alive, so no identity is used twice."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Any, Any, int]] = {}
        self.open: set[int] = set()

    def known(self, value: Any) -> tuple[Any, Any, int] | None:
        return self._found.get(id(value))

    def keep(self, value: Any, found: Any, parts: Iterable[Any]) -> None:
        self._found[id(value)] = (value, found, 1 + sum(map(self.size, parts)))
        self._found.setdefault(id(found), (found, found, self._found[id(value)][2]))

    def size(self, value: Any) -> int:
        known = self._found.get(id(value))
        return 1 if known is None else known[2]


def _plain(value: Any, seen: _Seen, depth: int) -> Any:
    """Shared parts are visited once."""
    if type(value) in SIMPLE:
        return value
    if isinstance(value, ArrayState):
        if value.value is None:
            raise ValueError("an array without content")
        return value.value
    known = seen.known(value)
    if known is not None:
        return known[1]
    if id(value) in seen.open:
        raise ValueError("a part that holds itself")
    if depth > DEEPEST:
        raise ValueError(f"parts more than {DEEPEST} deep")
    seen.open.add(id(value))
    if isinstance(value, dict):
        for key in list(value):
            value[key] = _plain(value[key], seen, depth + 1)
        seen.keep(value, value, value.values())
    elif isinstance(value, list):
        if not SIMPLE.issuperset(map(type, value)):
            value[:] = [_plain(item, seen, depth + 1) for item in value]
        seen.keep(value, value, value)
    elif isinstance(value, tuple):
        found = tuple(_plain(item, seen, depth + 1) for item in value)
        seen.keep(value, found, found)
        value = found
    elif isinstance(value, DtypeState) or callable(value):
        raise ValueError("a bare dtype or function")
    return value
