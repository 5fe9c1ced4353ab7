"""OpenCV without the instructions that only some processors have, so that its pixels and features are everyone's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

_LOCK = threading.Lock()
_inside = 0
_before = (True, 0)


@contextmanager
def plain_opencv() -> Iterator[None]:
    """Within it, and in what it decorates, OpenCV runs its code for any processor of the platform, on this thread.

    By default it takes AVX2, AVX-512 or IPP where they are, which round otherwise: a GaussianBlur of floats or a SIFT
    keypoint then differs in its last bits from one processor to the next. IPP's switch is each thread's own, so
    OpenCV's threads must rest; callers put images on theirs. The other switches are of the whole process; they go back
    when the last of several threads leaves.
    """
    global _inside, _before
    ipp = cv2.ipp.useIPP()
    with _LOCK:
        if _inside == 0:
            _before = cv2.useOptimized(), cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside += 1
        cv2.setUseOptimized(False)  # for this thread's IPP, too
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                cv2.setUseOptimized(_before[0])
                cv2.setNumThreads(_before[1])
            cv2.ipp.setUseIPP(ipp)
