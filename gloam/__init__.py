"""gloam: lets machines recognise by night a place they have only seen by day.

The names below are imported when first asked for, so that ``import gloam`` loads the standard library alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gloam.eval.localization.localize import localize
    from gloam.export.weights import export_weights
    from gloam.runtime.bulk.extract import extract
    from gloam.runtime.descriptors.store import DescriptorStore
    from gloam.runtime.localization.localizer import Localizer
    from gloam.runtime.models.embedder import Embedder
    from gloam.runtime.models.load import load
    from gloam.runtime.models.local_features import LocalExtractor
    from gloam.runtime.models.translator import Translator
    from gloam.runtime.search.index.search import DescriptorIndex
    from gloam.training.train import train
    from gloam.workflows.evaluation import evaluate

__version__ = "0.1.0"
__all__ = [
    "DescriptorIndex",
    "DescriptorStore",
    "Embedder",
    "LocalExtractor",
    "Localizer",
    "Translator",
    "evaluate",
    "export_weights",
    "extract",
    "load",
    "localize",
    "train",
]
_HOMES = {
    "DescriptorIndex": "gloam.runtime.search.index.search",
    "DescriptorStore": "gloam.runtime.descriptors.store",
    "Embedder": "gloam.runtime.models.embedder",
    "LocalExtractor": "gloam.runtime.models.local_features",
    "Localizer": "gloam.runtime.localization.localizer",
    "Translator": "gloam.runtime.models.translator",
    "evaluate": "gloam.workflows.evaluation",
    "export_weights": "gloam.export.weights",
    "extract": "gloam.runtime.bulk.extract",
    "load": "gloam.runtime.models.load",
    "localize": "gloam.eval.localization.localize",
    "train": "gloam.training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gloam' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
