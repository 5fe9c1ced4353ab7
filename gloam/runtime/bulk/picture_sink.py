"""PictureSink: where a bulk image-to-image run puts its pictures, and what it knows of an earlier run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gloam.record import Written, sparse
from gloam.runtime.output_folder import EarlierImage


@dataclass(frozen=True)
class Picture(Written):
    """One finished picture.

    Attributes:
        image: the source's name.
        source_sha256: of the source's bytes.
        output: name below ``images/``.
        output_sha256: of the picture's bytes.
        width, height: pixels.
        reduced: whether the source was larger and made smaller first.
    """

    image: str
    source_sha256: str
    output: str
    output_sha256: str
    width: int
    height: int
    reduced: bool


@dataclass(frozen=True)
class Failure(Written):
    """One source without a picture.

    Attributes:
        image: its name.
        reason: in a few words.
        source_sha256: of its bytes; empty where they could not be read.
        model: whether the model refused it.
    """

    image: str
    reason: str
    source_sha256: str = sparse("")
    model: bool = sparse(False)


class PictureSink(Protocol):
    """What :class:`PictureFolder` and :class:`PictureTars` offer.

    Sources are closed in parts. Of each part that is stale: :meth:`open_part`; then, for its pictures, :meth:`begin`,
    :meth:`write` in any order by any thread and :meth:`record` in order by one; then :meth:`close_part`. :meth:`finish`
    comes last. What is recorded need not be made again after a stop, or, where a part is made as a whole, what is
    closed. Where all is as it should be, no file is touched.

    Attributes:
        folder: of the run.
        damaged: files that were there, but not as they were written; what they held is made again.
    """

    folder: Path
    damaged: list[str]

    def __enter__(self) -> PictureSink:
        """Pictures are written inside a ``with`` block."""
        ...

    def __exit__(self, *raised: Any) -> None:
        """Drop what is not whole."""
        ...

    def parts(self, images: int) -> list[range]:
        """The sources, of so many, that are closed together."""
        ...

    def earlier(self, part: int) -> list[EarlierImage] | None:
        """What became of each source of a part that is there as a whole; None where each is to be asked for."""
        ...

    def earlier_of(self, image: str) -> EarlierImage | None:
        """What became of one source, where each is asked for; None where nothing is known of it."""
        ...

    def finished(self, image: str, source_sha256: str, output: str) -> Picture | None:
        """The picture of a source if it is there, made from the same bytes, and unharmed."""
        ...

    def retract(self, parts: Collection[int]) -> None:
        """State the run unfinished, without parts that are to be made again; where there are none, nothing is
        written."""
        ...

    def open_part(self, part: int) -> None:
        """Begin a part."""
        ...

    def begin(self) -> None:
        """A picture is written next."""
        ...

    def write(self, output: str, content: bytes) -> None:
        """Write a picture's bytes, where each is a file; thread-safe for different outputs."""
        ...

    def record(self, picture: Picture, content: bytes) -> None:
        """Note a picture that was written, in order."""
        ...

    def close_part(self, part: int, rows: Sequence[Picture | Failure], stamps: Sequence[str]) -> None:
        """State a part complete: what became of each source in order, and its stamp, see
        :class:`gloam.runtime.output_folder.SourceStamps`."""
        ...

    def finish(self) -> None:
        """State the run complete."""
        ...
