"""What writers, indexes and pair lists need of a set of descriptors, wherever it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gloam.errors import DataError, IncompatibleError
from gloam.model_card import InputRule, expect_same_space


class DescriptorSource(Protocol):
    """Named descriptors that can be streamed; :class:`gloam.runtime.descriptors.store.DescriptorStore` is one.

    Attributes:
        names: of the images, in the order of the rows.
        dimension: D.
        space, fingerprint: the identities of the model that made them.
        metric: ``cosine``; unit vectors compared by inner product.
    """

    names: list[str]
    dimension: int
    space: str
    fingerprint: str
    metric: str

    def blocks(self, rows: int = 65536) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """Names and float32 ``[n, D]``, n at most ``rows``, in order."""
        ...


@dataclass
class DescriptorArray:
    """Descriptors in memory as a :class:`DescriptorSource`.

    Attributes:
        names: of the rows.
        descriptors: float32 ``[n, D]``, unit rows.
        space, fingerprint, metric: see :class:`DescriptorSource`.
        failures: reason of each image that has no descriptor, by name.
    """

    names: list[str]
    descriptors: npt.NDArray[np.float32]
    space: str = ""
    fingerprint: str = ""
    metric: str = "cosine"
    failures: Mapping[str, str] = field(default_factory=dict)
    dimension: int = field(init=False)

    def __post_init__(self) -> None:
        self.dimension = int(self.descriptors.shape[1])

    def blocks(self, rows: int = 65536) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """See :meth:`DescriptorSource.blocks`."""
        for start in range(0, len(self.names), rows):
            yield self.names[start : start + rows], self.descriptors[start : start + rows]


def failures_of(source: DescriptorSource) -> Mapping[str, str]:
    """Why images that a source was made of have no descriptor, by name; empty where it does not know of any."""
    failures: Mapping[str, str] = getattr(source, "failures", {})
    return failures


def finite_blocks(source: DescriptorSource, rows: int) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
    """The blocks of a source, refused where a descriptor is NaN or infinite or of another dimension.

    Raises:
        DataError: names the first such image.
        IncompatibleError: another dimension than the source states.
    """
    for names, block in source.blocks(rows):
        if block.ndim != 2 or block.shape[1] != source.dimension:
            raise IncompatibleError(f"descriptors {list(block.shape)} where {source.dimension} values each are stated")
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise DataError(f"the descriptor of {names[int(np.argmin(finite))]!r} is not finite; extract it again")
        yield names, block


def input_rule_of(source: DescriptorSource) -> InputRule | None:
    """How the images of a source were resized; None where it does not know."""
    rule: InputRule | None = getattr(source, "input_rule", None)
    return rule


def expect_searchable(map_space: str, queries: DescriptorSource, where: str, map_rule: InputRule | None = None) -> None:
    """Refuse queries that may not be compared with a map.

    Queries that a translator brought to the map's condition are searched for in the map of untranslated images; the
    other way round, and with another embedder, nothing may be compared.

    Args:
        map_space: of the map's descriptors.
        queries: of the same space, or translated images in the same space but for the translation.
        where: the queries' place, for the message.
        map_rule: how the map's images were resized, for the message.

    Raises:
        IncompatibleError: they come from another model, normalisation or size of images.
    """
    expect_same_space(map_space, search_space(map_space, queries), where, (map_rule, input_rule_of(queries)))


def search_space(map_space: str, queries: DescriptorSource) -> str:
    """The space in which queries meet a map: their own, or their untranslated one where that is the map's."""
    untranslated = getattr(queries, "untranslated_space", None)
    return map_space if untranslated == map_space else queries.space
