"""OpenCV without the instructions that only some processors have, so that its pixels and features are everyone's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_LOCK = threading.Lock()
_inside = 0
_before = True


@contextmanager
def plain_opencv() -> Iterator[None]:
    """Within it, and in what it decorates, OpenCV runs its code for any processor of the platform.

    By default it takes AVX2, AVX-512 or IPP where they are, which round otherwise: a GaussianBlur of floats or a SIFT
    keypoint then differs in its last bits from one processor to the next. The switch is of the whole process; it goes
    back when the last of several threads leaves.
    """
    global _inside, _before
    with _LOCK:
        if _inside == 0:
            _before = cv2.useOptimized()
            cv2.setUseOptimized(False)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                cv2.setUseOptimized(_before)
