"""FAISS indexes of descriptors, with their names, identities and measured recall beside them."""

from gloam.runtime.search.index.build import build_index
from gloam.runtime.search.index.card import CARD, INDEX, NAMES, IndexCard
from gloam.runtime.search.index.choice import KINDS, IndexPlan, plan_index
from gloam.runtime.search.index.grow import add_to_index, merge_indexes
from gloam.runtime.search.index.search import DescriptorIndex

__all__ = [
    "CARD",
    "INDEX",
    "KINDS",
    "NAMES",
    "DescriptorIndex",
    "IndexCard",
    "IndexPlan",
    "add_to_index",
    "build_index",
    "merge_indexes",
    "plan_index",
]
