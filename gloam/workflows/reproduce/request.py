"""What of a table of retrieval is reproduced, with what, and within which time; a row's record holds all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gloam.errors import DataError, UsageError
from gloam.files import sha256_file
from gloam.record import fill_named, to_json
from gloam.runtime.search.asmk import WORDS

UNRECORDED = ("output", "rows", "runs")  # of a request, in a row's record


@dataclass(frozen=True)
class RetrievalRequest:
    """A table and what it is made from.

    Attributes:
        paper, table: see :data:`gloam.workflows.reproduce.published.TABLES`.
        data: folder in the layout of cirtorch: ``test/roxford5k`` and so on, ``train``, ``networks``, ``experiments``.
        output: for exported models, descriptors, records and pages; what an earlier run made there is used again.
        rows: some rows; all by default.
        weights: of a row, or of a part of an ensemble, in place of the known ones.
        weights_sha256: what these files must have, where a record is run again.
        order: the lightings of a scene's three images of Tokyo in the order of their names.
        train: train what a row lacks: generator, embedder and whitening.
        seed: of the first training; seeds: how many trainings, whose mean and deviation a row gives.
        budget: minutes of processor time for the whole table, shared out over its trainings; None for no limit.
        words: visual words of the codebook of rows with local features.
        features_per_image: local features of each training image that it is learned from; None for as many as 4 million
            in all allow.
        limit: of FID: most images by day, and by night; all by default.
        town: the miniature on procedural streets instead; no data are read.
        minutes: of the miniature: processor time of each generator, at most, where there is no budget.
        runs: of the miniature: folder of networks and nights, which tables may share; ``output`` by default.
        shares: minutes of each generator and each embedder, in place of what the budget gives.
        judged: of the miniature: arguments of ``read_retrieval_set("town")``, in place of the reserved streets.
        embedder_changes, generator_changes, detector_changes: keys of every recipe replaced, for quick runs.

    Raises:
        UsageError: a number out of range.
    """

    paper: str
    table: str
    data: Path
    output: Path
    rows: tuple[str, ...] = ()
    weights: Mapping[str, Path] = field(default_factory=dict)
    weights_sha256: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] | None = None
    train: bool = False
    seed: int = 0
    seeds: int = 1
    budget: float | None = None
    words: int = WORDS
    features_per_image: int | None = None
    limit: int | None = None
    town: bool = False
    minutes: float = 14.0
    runs: Path | None = None
    shares: tuple[float, float] | None = None
    judged: Mapping[str, Any] = field(default_factory=dict)
    embedder_changes: Mapping[str, Any] = field(default_factory=dict)
    generator_changes: Mapping[str, Any] = field(default_factory=dict)
    detector_changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UsageError(f"--seeds {self.seeds}: a row is trained at least once")
        if not self.minutes > 0 or (self.budget is not None and not self.budget > 0):
            raise UsageError("--minutes and --budget: minutes above 0")
        if self.words < 1 or (self.features_per_image is not None and self.features_per_image < 1):
            raise UsageError("--words and --features-per-image: one or more of each")
        if self.limit is not None and self.limit < 2:
            raise UsageError(f"--limit {self.limit}: two images at least")

    def to_record(self) -> dict[str, Any]:
        """JSON form of what decides a row; the given files with their sha256."""
        found: dict[str, Any] = to_json(self)
        hashes = {row: sha256_file(file) for row, file in self.weights.items() if file.is_file()}
        return {name: item for name, item in found.items() if name not in UNRECORDED} | {"weights_sha256": hashes}

    def expect_recorded(self) -> None:
        """Refuse other weights than those of the record.

        Raises:
            DataError: a file that is another one now, or gone.
        """
        for row, wanted in self.weights_sha256.items():
            file = self.weights.get(row)
            if file is None:
                raise DataError(f"the record has a sha256 of weights of {row}, and not their file")
            if not file.is_file():
                raise DataError(f"{file}: the weights of the record are not there any more")
            if sha256_file(file) != wanted:
                raise DataError(f"{file}: holds other weights than the record of {row}, whose sha256 is {wanted[:12]}")


def recorded_request(stated: Mapping[str, Any], row: str, output: Path, where: str) -> RetrievalRequest:
    """The request that a row's record states, for that row alone.

    Args:
        stated: of :meth:`RetrievalRequest.to_record`.
        row: of the table.
        output: another folder than the record's.
        where: the record's file, for messages.

    Raises:
        UsageError: not such a request.
        DataError: its weights are others now, or gone.
    """
    if not isinstance(stated, Mapping):
        raise UsageError(f"{where}: states no request; give the row.json of a row")
    known = {item.name for item in fields(RetrievalRequest)} - set(UNRECORDED)
    kept = {name: item for name, item in stated.items() if name in known}
    found = fill_named(RetrievalRequest, {**kept, "output": str(output), "rows": [row]}, where)
    found = replace(found, weights={name: Path(file) for name, file in found.weights.items()})
    found.expect_recorded()
    return found
