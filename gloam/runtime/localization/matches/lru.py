"""What was used last, up to so many bytes: memory that does not grow with the number of images."""

from __future__ import annotations

import contextlib
import ctypes
from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Lru(Generic[Value]):
    """Values by key, of which the one that was not used for longest goes first; from any thread.

    Args:
        limit: bytes of all values together; None for no limit.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit, self._lock, self.bytes = limit, Lock(), 0
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> Value | None:
        """The value of a key, now the last one used; None where there is none."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of so many bytes; one that is larger than the limit is not kept."""
        with self._lock:
            self.bytes -= self._kept.pop(key, (None, 0))[1]
            if self._limit is not None and size > self._limit:
                return
            while self._limit is not None and self.bytes + size > self._limit:  # room first: it is never exceeded
                self.bytes -= self._kept.popitem(last=False)[1][1]
            self._kept[key] = value, size
            self.bytes += size


def give_back_memory() -> None:
    """Give what was freed back to the system, where its C library can: glibc keeps it for the thread that had it."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
