"""The errors gloam raises for people, and the way it reports a missing package.

Every error that a user can cause is a :class:`GloamError`: one line that says what is wrong, where, and what to
do. The command line prints that line and exits with code 2; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class GloamError(Exception):
    """Base of every error that is addressed to the user."""


class UsageError(GloamError):
    """Arguments that do not fit together; refused before anything is loaded."""


class DataError(GloamError):
    """A dataset, list or ground-truth file that cannot be used as it is."""


class ImageError(DataError):
    """One image that cannot be used. ``str(error)`` is the reason, as written to ``failures.csv``."""


class ModelError(GloamError):
    """A model file that cannot be read, is of another kind, or is refused for what was asked."""


class DeviceError(ModelError):
    """A GPU, its driver or its memory, or a backend on it, that cannot be used as asked."""


class IncompatibleError(GloamError):
    """Descriptors, indexes or models that may not be compared (another space, dimension or fingerprint)."""


class StoreError(GloamError):
    """A descriptor store or output folder that cannot be written, read or resumed."""


class DivergenceError(GloamError):
    """Training produced a value that is not finite."""


class ClusterError(GloamError):
    """A cluster that cannot be reached, or whose workers cannot do what is asked."""


class MissingExtraError(GloamError):
    """An optional package is not installed; the message names the extra that brings it."""


def require(module: str, extra: str, why: str) -> ModuleType:
    """Import an optional package or say which extra of gloam brings it.

    Args:
        module: dotted name of the module to import.
        extra: the extra in ``pip install 'gloam[extra]'``.
        why: what the package is needed for, as the end of the sentence "... is needed to".

    Raises:
        MissingExtraError: the package is absent or does not load.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtraError(
            f"{module} is needed to {why}, but it does not import ({_first_line(error)}); pip install 'gloam[{extra}]'"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
