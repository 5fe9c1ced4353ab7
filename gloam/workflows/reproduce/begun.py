"""Trainings of limited minutes: a folder for every limit, so that a row is of the minutes that it states.

A longer training goes on from the longest shorter one.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from gloam.files import temporary_folder
from gloam.training.run_state import has_state

MINUTES = r"-(\d[\d.]*(?:e[+-]?\d+)?)"


def begun(folder: Path, minutes: float | None) -> Path:
    """The folder of a training, where it has begun already if a shorter one of the same name has.

    Args:
        folder: of the training, without its minutes.
        minutes: of its limit; None for none, whose folder has no such label and begins with nothing.

    Returns:
        the folder with its minutes; where it was absent it holds a copy of the longest shorter training's, which
        :func:`gloam.training.train.train` carries on.

    Raises:
        OSError: it cannot be copied.
    """
    if minutes is None:
        return folder
    place = folder.with_name(f"{folder.name}-{minutes:g}")
    if place.exists() or not folder.parent.is_dir():
        return place
    form = re.compile(re.escape(folder.name) + MINUTES)
    spent = {
        float(found[1]): path
        for path in folder.parent.iterdir()
        if (found := form.fullmatch(path.name)) and has_state(path)
    }
    shorter = [limit for limit in spent if limit < minutes]
    if shorter:
        with temporary_folder(folder.parent) as copy:
            shutil.copytree(spent[max(shorter)], copy / place.name)
            os.rename(copy / place.name, place)
    return place
