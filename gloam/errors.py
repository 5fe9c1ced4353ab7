"""The errors gloam raises for people, and the way it reports a missing package.

Every error that a user can cause is a :class:`GloamError`: one line that says what is wrong, where, and what to
do. The command line prints that line and exits with code 2; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
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


# What an extra brings that modules import at their top; what a function needs by itself it asks for with `require`.
EXTRAS = {
    **dict.fromkeys(("torch", "onnx", "onnxscript", "safetensors", "yaml", "lightning_fabric", "tensorboard"), "train"),
    **dict.fromkeys(("onnxruntime", "faiss"), "cpu"),
    **dict.fromkeys(("kapture", "pycolmap"), "localization"),
    **{name: name for name in ("openvino", "ray", "tensorrt", "timm")},
    "pymilvus": "milvus",
    **{"torch_fidelity": "fidelity", "scipy": "matlab", "fsspec": "remote", "prometheus_client": "metrics"},
    **{"rerun": "rerun", "fastapi": "serve", "uvicorn": "serve", "shtab": "completion"},
}
# What gloam itself depends on, by the name of the package that brings it.
CORE = {
    "cv2": "opencv-python-headless",
    "numpy": "numpy",
    "PIL": "pillow",
    "pyarrow": "pyarrow",
    "h5py": "h5py",
    "tqdm": "tqdm",
    "jinja2": "jinja2",
}


def missing_package(error: ImportError) -> MissingExtraError | None:
    """An import that failed, as the line that says what brings the package; None where no package of gloam's is it."""
    package = (error.name or "").partition(".")[0]
    if package in EXTRAS:
        way = f"pip install 'gloam[{EXTRAS[package]}]'"
    elif package in CORE:
        way = f"pip install --force-reinstall {CORE[package]}"
    else:
        return None
    return MissingExtraError(f"{package} is needed, but it does not import ({_first_line(error)}); {way}")


def require_all(modules: Iterable[str], why: str) -> None:
    """:func:`require` for all that a work needs, before it begins; the extras are those of :data:`EXTRAS`.

    Raises:
        MissingExtraError: of the first that is absent.
    """
    for module in modules:
        require(module, EXTRAS[module.partition(".")[0]], why)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
