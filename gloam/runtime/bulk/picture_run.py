"""A bulk image-to-image run as it is asked for: from a source of images to a folder of pictures, or tars."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gloam.data.kapture_io import beside_intrinsics
from gloam.data.sources import find_images
from gloam.data.sources.items import said_left_out
from gloam.errors import UsageError
from gloam.runtime.bulk.contact_sheet import SHEET, write_contact_sheet
from gloam.runtime.bulk.on_ray.cluster import Cluster, import_ray
from gloam.runtime.bulk.on_ray.pictures import RayPictureSummary, run_images_on_ray
from gloam.runtime.bulk.pictures import PictureOptions, PictureSummary, run_images
from gloam.runtime.models.image_model import ImageOperation
from gloam.runtime.output_folder import refuse_nesting, remove

TAR_SIZE = 1000


@dataclass(frozen=True)
class PictureRequest:
    """What to turn into pictures, and how.

    Attributes:
        source: folder, list, kapture dataset, shards, image or URL.
        output: folder of the run; not inside a folder of sources.
        root: folder or URL that a list's names are relative to; the list's by default.
        max_side: longer side, pixels; 0 keeps native sizes. None: 1024, or native beside intrinsics.
        format: ``png`` or ``jpg``.
        tar: write tar shards, each the pictures of ``tar_size`` sources, instead of files.
        tar_size: sources per tar; :data:`TAR_SIZE` by default.
        contact_sheet: write a picture of sources beside their pictures, too.
        grow, verify_sources, threads, metrics_port, progress: see :func:`run_images`.

    Raises:
        UsageError: options out of range, or such that do not go together.
    """

    source: Path | str
    output: Path
    root: Path | str | None = None
    max_side: int | None = None
    format: Literal["png", "jpg"] = "png"
    tar: bool = False
    tar_size: int | None = None
    contact_sheet: bool = False
    grow: bool = False
    verify_sources: bool = False
    threads: int | None = None
    metrics_port: int | None = None
    progress: bool = False

    def __post_init__(self) -> None:
        self.options()
        if self.tar and self.contact_sheet:
            raise UsageError("--contact-sheet shows pictures in a folder; leave out --tar, or --contact-sheet")
        if self.tar_size is not None and not self.tar:
            raise UsageError("--tar-size is of tars; add --tar, or leave it out")
        refuse_nesting(self.source, self.output)

    def sources_per_tar(self) -> int:
        """How many."""
        return TAR_SIZE if self.tar_size is None else self.tar_size

    def options(self) -> PictureOptions:
        """What decides the pictures' bytes. Beside intrinsics, pictures are of the pixels as stored."""
        beside = beside_intrinsics(self.source if self.root is None else self.root)
        if beside and self.max_side:
            raise UsageError(
                f"--max-side {self.max_side}: the images are those of a kapture dataset, and intrinsics in its "
                "sensors.txt are of their pixels as stored; leave --max-side out, pictures then keep their sizes"
            )
        side = (None if beside else PictureOptions.max_side) if self.max_side is None else self.max_side or None
        return PictureOptions(side, self.format, upright=not beside)


@dataclass(frozen=True)
class PictureRun:
    """What a run did and with what.

    Attributes:
        request: what was asked for.
        summary: counts and times.
        model, fingerprint: name and identity of the operation.
        sheet: the contact sheet, where one was asked for.
        left_out: what the source holds beside its images, in words; None where there is nothing.
    """

    request: PictureRequest
    summary: PictureSummary
    model: str
    fingerprint: str
    sheet: Path | None = None
    left_out: str | None = None

    @property
    def output(self) -> Path:
        """Where the pictures are."""
        return self.request.output if self.request.tar else self.request.output / "images"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        sheet = {} if self.sheet is None else {"contact_sheet": str(self.sheet)}
        stated = {"output": str(self.output), "model": self.model, "fingerprint": self.fingerprint}
        return {**self.summary.to_dict(), **stated, **sheet}

    def said(self, verb: str) -> str:
        """Lines for people.

        Args:
            verb: what became of an image, e.g. ``translated``.
        """
        summary, request, by = self.summary, self.request, ""
        if isinstance(summary, RayPictureSummary):
            by = summary.said_workers()
        lines = [
            f"{self.output}: {summary.done} of {summary.images} images {verb} by {self.model}"
            + (f", {summary.reused} of them by an earlier run" if summary.reused else ""),
            f"{summary.images_per_second:.1f} images/s{by}; {summary.said()}",
            str(summary.backend),
        ]
        if (resumed := summary.said_resumed()) is not None:
            lines.insert(1, resumed)
        if summary.reduced:
            lines.append(
                f"{summary.reduced} images were larger than --max-side {request.options().max_side} and were reduced"
            )
        if summary.failed:
            lines.append(f"{summary.failed} images failed; the reasons are in {request.output / 'failures.csv'}")
        if self.left_out is not None:
            lines.append(self.left_out)
        if self.sheet is not None:
            lines.append(f"contact sheet {self.sheet}")
        return "\n".join(lines)


def run_pictures(
    request: PictureRequest, load: Callable[[], ImageOperation], cluster: Cluster | None = None
) -> PictureRun:
    """Find the images, load the model, turn them; the same request carries on where an earlier run stopped.

    Args:
        request: what to do.
        load: gives the translator or edge detector, once images are found; picklable where workers do it.
        cluster: let workers make the tars that Ray schedules; in this process by default.

    Raises:
        UsageError: workers, and pictures that are no tars.
        GloamError: as :func:`run_images`, :func:`run_images_on_ray` and :func:`find_images` say, and ``load``.
    """
    if cluster is not None:
        return _on_ray(request, load, cluster)
    items = find_images(request.source, request.root)
    operation = load()
    summary = run_images(
        items,
        operation,
        request.output,
        request.options(),
        tar_size=request.sources_per_tar() if request.tar else None,
        grow=request.grow,
        verify_sources=request.verify_sources,
        threads=request.threads,
        metrics_port=request.metrics_port,
        progress=request.progress,
    )
    sheet = None
    if request.contact_sheet:
        upright = request.options().upright
        sheet = write_contact_sheet(request.output, items, upright=upright, made_by=operation.name)
    else:
        remove(request.output / SHEET)  # an earlier run's shows pictures that may have changed
    return PictureRun(request, summary, operation.name, operation.fingerprint, sheet, said_left_out(items))


def _on_ray(request: PictureRequest, load: Callable[[], ImageOperation], cluster: Cluster) -> PictureRun:
    if not request.tar:
        raise UsageError("--on ray gives whole tars to the workers; add --tar")
    import_ray()  # before a source is listed for nothing
    items = find_images(request.source, request.root)
    with contextlib.redirect_stdout(sys.stderr):  # where Ray says that a worker died; stdout is the caller's
        run = run_images_on_ray(
            items,
            load,
            request.output,
            request.options(),
            tar_size=request.sources_per_tar(),
            cluster=cluster,
            grow=request.grow,
            verify_sources=request.verify_sources,
            threads=request.threads,
            metrics_port=request.metrics_port,
            progress=request.progress,
        )
    return PictureRun(request, run.summary, run.model, run.fingerprint, left_out=said_left_out(items))
