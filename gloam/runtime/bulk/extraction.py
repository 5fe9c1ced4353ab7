"""An extraction as it is asked for: from a source of images and the path of a model to a store, here or on Ray."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gloam.data.sources import find_images
from gloam.data.sources.items import said_left_out
from gloam.errors import UsageError
from gloam.model_card import NATIVE, InputRule, Photometric
from gloam.record import to_json
from gloam.runtime.backends.onnx_file import read_card
from gloam.runtime.backends.placement import Placement
from gloam.runtime.bulk.extract import WHOLE, ExtractOptions, ExtractSummary, Part, extract
from gloam.runtime.bulk.on_ray.cluster import Cluster, import_ray
from gloam.runtime.bulk.on_ray.extract import RaySummary, extract_on_ray
from gloam.runtime.descriptors.reading import stated_rule
from gloam.runtime.descriptors.shard_writer import ShardWriter
from gloam.runtime.models.embedder import Embedder
from gloam.runtime.models.translator import load_translator
from gloam.runtime.output_folder import refuse_nesting


@dataclass(frozen=True)
class EmbedderLoader:
    """What gives the embedder, here or in another process.

    Attributes:
        model: ``.onnx`` file or engine.
        placement: where and how it runs, and the translator with it.
        photometric: normalisation instead of the model's own.
        translate: translator that every image passes first, see :func:`load_translator`.
        domain, noise, like, encoder: of the translator, see :func:`load_translator`.

    Raises:
        UsageError: one of these, and no translator.
    """

    model: Path
    placement: Placement = field(default_factory=Placement)
    photometric: Literal["none", "clahe"] | None = None
    translate: str | None = None
    domain: str | None = None
    noise: int | None = None
    like: tuple[str, ...] = ()
    encoder: str | None = None

    def __post_init__(self) -> None:
        if self.translate is not None:
            return
        if self.domain is not None:
            raise UsageError("--to names a domain to translate into; add --translate MODEL, or leave it out")
        for name, given in (("noise", self.noise is not None), ("like", self.like), ("appearance", self.encoder)):
            if given:
                raise UsageError(f"--{name} is of a translator; add --translate MODEL, or leave it out")

    def name(self) -> str:
        """The model's name, from its file alone."""
        return read_card(self.model).name

    def __call__(self) -> Embedder:
        """Load it; its self-test must pass here."""
        alone = replace(self.placement, requests=1)  # images pass a translator one by one
        return Embedder.load(
            self.model,
            self.placement,
            photometric=Photometric(self.photometric) if self.photometric else None,
            translator=None
            if self.translate is None
            else load_translator(self.translate, alone, self.domain, self.noise, self.like, self.encoder),
        )


@dataclass(frozen=True)
class ExtractRequest:
    """What to describe, and how.

    Attributes:
        source: folder, list, kapture dataset, shards, image or URL.
        output: folder of the store.
        embedder: the model.
        root: folder or URL that a list's names are relative to; the list's by default.
        max_side, stretch, dtype, shard_size, fast_decode: see :class:`ExtractOptions`.
        part: the shards to make in this process.
        grow, verify_sources, decode_threads, metrics_port, progress: see :func:`extract`.

    Raises:
        UsageError: options out of range, or such that do not go together.
    """

    source: Path | str
    output: Path
    embedder: EmbedderLoader
    root: Path | str | None = None
    max_side: int | None = None
    stretch: tuple[int, int] | None = None
    dtype: Literal["float16", "float32"] = "float16"
    shard_size: int = 1000
    fast_decode: bool = False
    part: Part = WHOLE
    grow: bool = False
    verify_sources: bool = False
    decode_threads: int | None = None
    metrics_port: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        self.options()
        refuse_nesting(self.source, self.output)

    def options(self) -> ExtractOptions:
        """What of it decides the bytes of the store."""
        return ExtractOptions(
            max_side=self.max_side,
            stretch=self.stretch,
            dtype=self.dtype,
            shard_size=self.shard_size,
            fast_decode=self.fast_decode,
        )


@dataclass(frozen=True)
class Extraction:
    """A run and what it was made with.

    Attributes:
        summary: counts and times.
        store: folder.
        model: its name.
        space, fingerprint: of the descriptors.
        translator: name of the one that the images passed; None without one.
        untranslated_space: of maps that such descriptors are compared with, as queries.
        resize: longer side that the model reduces images to itself; None where it does not.
        input_rule: how the images were resized before the model.
        left_out: what the source holds beside its images, in words; None where there is nothing.
    """

    summary: ExtractSummary
    store: Path
    model: str
    space: str
    fingerprint: str
    translator: str | None
    untranslated_space: str | None
    resize: int | None
    input_rule: InputRule
    left_out: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return self.summary.to_dict() | {
            "store": str(self.store),
            "space": self.space,
            "fingerprint": self.fingerprint,
            "translate": self.translator,
            "input_rule": to_json(self.input_rule),
        }

    def __str__(self) -> str:
        """Lines for people."""
        summary, by = self.summary, ""
        if isinstance(summary, RaySummary):
            by = summary.said_workers()
        lines = [
            f"{self.store}: {summary.described} of {summary.images} images described"
            + (f", {summary.reused} of them by an earlier run" if summary.reused else ""),
            f"{summary.images_per_second:.1f} images/s{by}; {summary.said()}",
            str(summary.backend),
            f"padded pixels {summary.padded_share:.0%}",
            f"space {self.space}",
        ]
        if (resumed := summary.said_resumed()) is not None:
            lines.insert(1, resumed)
        lines.append(
            f"images read at {self.input_rule}"
            if self.resize is None
            else f"images reduced to {self.resize} px by the model"
        )
        if self.translator is not None:
            lines.append(
                f"images translated by {self.translator} first; as queries they are compared with maps of "
                f"{self.untranslated_space}"
            )
        if summary.failed:
            lines.append(f"{summary.failed} images failed; the reasons are in {self.store / 'failures.csv'}")
        if self.left_out is not None:
            lines.append(self.left_out)
        if not summary.complete:
            lines.append(
                "the store is not complete: shards of other tasks are missing; failures.csv is written at its end"
            )
        return "\n".join(lines)


def run_extraction(request: ExtractRequest, cluster: Cluster | None = None) -> Extraction:
    """Find the images, load the model, describe; the same request carries on where an earlier run stopped.

    Args:
        request: what to do.
        cluster: let workers do it that Ray schedules; in this process by default. Each worker has as many threads for
            the model as cores, unless the placement names a number.

    Raises:
        GloamError: as :func:`extract` and :func:`extract_on_ray`, :func:`find_images` and :meth:`Embedder.load` say.
    """
    if cluster is not None:
        return _on_ray(request, cluster)
    items = find_images(request.source, request.root)
    embedder, options = request.embedder(), request.options()
    embedder = embedder.reading(options.read_by(embedder.input_rule))
    summary = extract(
        items,
        embedder,
        request.output,
        options,
        part=request.part,
        grow=request.grow,
        verify_sources=request.verify_sources,
        decode_threads=request.decode_threads,
        metrics_port=request.metrics_port,
        progress=request.progress,
    )
    translated_by = embedder.translated_by
    return Extraction(
        summary,
        request.output,
        embedder.card.name,
        embedder.space,
        embedder.fingerprint,
        None if translated_by is None else translated_by["name"],
        embedder.untranslated_space,
        embedder.card.resize,
        embedder.input_rule,
        said_left_out(items),
    )


def _on_ray(request: ExtractRequest, cluster: Cluster) -> Extraction:
    import_ray()  # before a source is listed for nothing
    items = find_images(request.source, request.root)
    loader = request.embedder
    with contextlib.redirect_stdout(sys.stderr):  # where Ray says that a worker died; stdout is the caller's
        run = extract_on_ray(
            items,
            replace(loader, placement=cluster.placed(loader.placement)),
            request.output,
            request.options(),
            cluster=cluster,
            grow=request.grow,
            verify_sources=request.verify_sources,
            decode_threads=request.decode_threads,
            metrics_port=request.metrics_port,
            progress=request.progress,
        )
    translated_by = run.job.options.get("translate")
    return Extraction(
        run.summary,
        request.output,
        run.model,
        run.job.space,
        run.job.fingerprint,
        None if translated_by is None else translated_by["name"],
        run.job.untranslated_space,
        run.job.options.get("resize"),
        stated_rule(run.job.options) or NATIVE,
        said_left_out(items),
    )


def finish_store(folder: Path) -> dict[str, Any]:
    """State a store complete that several tasks have written; JSON-ready, what it holds.

    Raises:
        StoreError: no store, or shards are missing or damaged.
    """
    writer = ShardWriter.reopen(folder)
    failed = writer.finish()
    return {
        "store": str(folder),
        "images": writer.job.images,
        "described": writer.job.images - failed,
        "failed": failed,
        "complete": True,
        "space": writer.job.space,
        "fingerprint": writer.job.fingerprint,
    }
