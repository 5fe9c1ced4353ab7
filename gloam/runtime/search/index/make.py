"""An index as it is asked for: built from a store, grown by one, or merged of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gloam.errors import UsageError, require
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.search.index.build import build_index
from gloam.runtime.search.index.card import IndexCard
from gloam.runtime.search.index.choice import SMALLEST_TRAINING, IndexPlan, plan_index
from gloam.runtime.search.index.compact import COMPACT, CompactPlan, plan_compact
from gloam.runtime.search.index.grow import add_to_index, merge_indexes
from gloam.runtime.search.index.recall import said


@dataclass(frozen=True)
class IndexRequest:
    """One of three: a store to index, a store to add, or indexes to merge.

    Attributes:
        output: folder of the index.
        store: to build from.
        add: to add to the index that is there.
        merge: indexes to join into a new one.
        kind, memory: see :func:`~gloam.runtime.search.index.choice.plan_index`.
        factory: FAISS factory string, instead of both.
        train_samples, seed, shards, recall, device: see :func:`~gloam.runtime.search.index.build.build_index`.
        rerank: re-rank by the store's vectors whatever ``factory`` says; compact kinds do.
        trust: see :meth:`gloam.runtime.descriptors.store.DescriptorStore.open`.

    Raises:
        UsageError: none or several of the three, or options that do not go together.
    """

    output: Path
    store: Path | None = None
    add: Path | None = None
    merge: Sequence[Path] | None = None
    kind: str | None = None
    memory: int | None = None
    factory: str | None = None
    train_samples: int | None = None
    seed: int = 0
    shards: int = 1
    recall: float = 0.95
    device: str = "cpu"
    trust: bool = False
    rerank: bool = False

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.store, self.add, self.merge)) != 1:
            raise UsageError("give a STORE to index, or --add STORE, or --merge INDEX INDEX ...: one of the three")
        built = ("kind", "memory", "factory", "train_samples", "seed", "shards", "recall", "device")
        default = {item.name: item.default for item in fields(self)}
        if self.store is None and any(getattr(self, name) != default[name] for name in built):
            raise UsageError("an index that grows keeps its kind: leave out the options of the kind of index")
        if self.merge is not None and self.trust:
            raise UsageError("--trust is of a store; indexes are merged by their files' checksums, leave it out")
        if self.rerank and self.factory is None:
            raise UsageError("--rerank goes with --factory; compact kinds re-rank from the store, the others do not")
        if self.factory is not None and (self.memory is not None or self.kind is not None):
            raise UsageError("--factory says which index to build; leave out --memory and --kind")


@dataclass(frozen=True)
class MadeIndex:
    """An index on the disk.

    Attributes:
        folder: of the index.
        card: what it says of itself.
        plan: the choice of its kind, where there was one.
    """

    folder: Path
    card: IndexCard
    plan: IndexPlan | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        predicted = {"predicted": asdict(self.plan)} if isinstance(self.plan, CompactPlan) else {}
        return {"index": str(self.folder), **asdict(self.card), **predicted}

    def __str__(self) -> str:
        """Lines for people."""
        card = self.card
        text = f"{self.folder}: {card.count} vectors of {card.dimension} values, {card.factory}\nspace {card.space}"
        chosen = [] if self.plan is None else [f"chosen: {self.plan}"]
        return "\n".join([text, *chosen, *said(card)])


def make_index(request: IndexRequest, progress: bool = False) -> MadeIndex:
    """Build, add to, or merge.

    Args:
        request: which of them, from what, and where to.
        progress: say on stderr how far it is.

    Raises:
        StoreError, IncompatibleError: a store or an index that cannot be read, or of another space.
        UsageError, DataError: no index of this kind fits the vectors or the memory.
        MissingExtraError: FAISS is not installed.
    """
    if request.merge is not None:
        return MadeIndex(request.output, merge_indexes(request.merge, request.output, progress=progress))
    if request.add is not None:
        store = DescriptorStore.open(request.add, trust=request.trust)
        return MadeIndex(request.output, add_to_index(store, request.output, progress=progress))
    assert request.store is not None  # one of the three
    store = DescriptorStore.open(request.store, trust=request.trust)
    factory, plan = request.factory, None
    if factory is None:
        plan = _chosen(request, store)
        factory = plan.factory
    card = build_index(
        store,
        request.output,
        factory,
        train_samples=request.train_samples,
        seed=request.seed,
        shards=request.shards,
        recall=request.recall,
        device=request.device,
        progress=progress,
        rerank=request.rerank or isinstance(plan, CompactPlan),
    )
    return MadeIndex(request.output, card, plan)


def _chosen(request: IndexRequest, store: DescriptorStore) -> IndexPlan:
    """By sizes; by predicted recall where a compact kind is asked for, or nothing exact or re-ranked in memory fits."""
    kind = request.kind or "auto"
    refusal: UsageError | None = None
    if kind not in COMPACT:
        try:
            plan = plan_index(len(store), store.dimension, kind=kind, memory=request.memory)
        except UsageError as error:
            refusal = error
        if refusal is None and (kind != "auto" or plan.factory == "Flat" or "," in plan.factory.partition("fs")[2]):
            return plan
        if refusal is not None and (kind != "auto" or len(store) < SMALLEST_TRAINING):
            raise refusal
    faiss = require("faiss", "cpu", "choose an index")
    compact = kind if kind in COMPACT else "compact"
    return plan_compact(faiss, store, kind=compact, memory=request.memory, recall=request.recall, seed=request.seed)
