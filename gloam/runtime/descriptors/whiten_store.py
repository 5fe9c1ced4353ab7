"""A finished store to a new one of whitened descriptors, shard by shard; its space says that it is whitened.

The new store has the old one's images, failures and shards. Its space and fingerprint are hashed from the old ones' and
the whitening's, so whitened and unwhitened descriptors, and those of two whitenings, are never compared. Queries are
whitened with the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gloam.errors import IncompatibleError
from gloam.files import sha256_file, sha256_json
from gloam.heartbeat import progress_bar
from gloam.runtime.descriptors.reading import marked
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.descriptors.store import DescriptorStore, Job
from gloam.runtime.descriptors.whitening import Whitening
from gloam.runtime.output_folder import MANIFEST, refuse_nesting

LEARNED = "whitening.npz"  # in the folder of a store whose whitening was learned for it
WHITENING = "whitening"  # the option that lists the whitenings of a store


@dataclass(frozen=True)
class WhitenedStore:
    """A store that was written.

    Attributes:
        folder: of the store.
        images, failed: with and without a descriptor.
        input_dimension, dimension: values before and after.
        space: of the new descriptors.
        whitening: its file, where it was learned here; None where it was given.
    """

    folder: Path
    images: int
    failed: int
    input_dimension: int
    dimension: int
    space: str
    whitening: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        learned = None if self.whitening is None else str(self.whitening)
        return {**vars(self), "folder": str(self.folder), "whitening": learned}

    def __str__(self) -> str:
        """Lines for people."""
        text = f"{self.folder}: {self.images} descriptors whitened, {self.input_dimension} to {self.dimension} values"
        learned = [] if self.whitening is None else [f"whiten queries with --whitening {self.whitening}"]
        return "\n".join([text, f"space {self.space}", *learned])


def whitened_job(store: DescriptorStore, whitening: Whitening) -> Job:
    """What decides the content of a whitened store.

    Raises:
        IncompatibleError: the whitening takes another dimension, or was learned in another space.
    """
    expected = whitening.provenance.get("space", store.space)
    if whitening.input_dimension != store.dimension or expected != store.space:
        raise IncompatibleError(
            f"{store.folder}: descriptors of {store.dimension} values in space {store.space[:12]}; the whitening was "
            f"learned from {whitening.input_dimension} values in space {str(expected)[:12]}; learn one from this "
            "model's descriptors"
        )

    def other(identity: str) -> str:
        return sha256_json({"whitened": identity, "whitening": whitening.sha256})

    job: Mapping[str, Any] = store.manifest["job"]
    options = marked(job["options"])
    step = {
        "name": whitening.name,
        "sha256": whitening.sha256,
        "space": store.space,
        "manifest_sha256": sha256_file(store.folder / MANIFEST),
    }
    return Job(
        other(store.space),
        other(store.fingerprint),
        whitening.dimension,
        store.metric,
        job["images_sha256"],
        job["images"],
        {**options, WHITENING: [*options.get(WHITENING, []), step]},
        None if store.untranslated_space is None else other(store.untranslated_space),
    )


def whiten_store(
    store: DescriptorStore, whitening: Whitening, folder: str | Path, *, keep: bool = False, progress: bool = False
) -> WhitenedStore:
    """Write a whitened store; a shard is in memory at a time, and those that are there and whole are left as they are.

    Args:
        store: complete; it stays as it is.
        whitening: of its dimension D to d values.
        folder: of the new store, or what a killed run left of it.
        keep: write the whitening beside the store's shards, as :data:`LEARNED`.
        progress: say on stderr how far it is.

    Raises:
        IncompatibleError: the whitening is of other descriptors, or the folder holds a store of another job.
        StoreError: a shard of the store is damaged, or the folder cannot be written.
        DataError: a descriptor is not finite.
        UsageError: the folder lies in the store's.
    """
    refuse_nesting(store.folder, Path(folder))
    writer = ShardWriter.begin(folder, whitened_job(store, whitening), store.manifest["shards"])
    kept = writer.folder / LEARNED if keep else None
    if kept is not None and not kept.is_file():
        whitening.save(kept)
    with progress_bar(writer.shards, "whitening", "shards", shown=progress) as bar:
        for shard in range(writer.shards):
            if not writer.done(shard):
                rows, descriptors = store.shard(shard)
                writer.write(shard, rows, whitening.apply(descriptors).astype(descriptors.dtype))
            bar.update(1)
    failed = writer.finish()
    return WhitenedStore(
        writer.folder, len(store), failed, store.dimension, whitening.dimension, writer.job.space, kept
    )
