"""PictureSink: where a bulk image-to-image run puts its pictures, and what it knows of an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gloam.runtime.bulk.picture_folder import Picture


class PictureSink(Protocol):
    """What :class:`PictureFolder` and :class:`PictureTars` offer.

    Sources are closed in parts. Of each part: :meth:`open_part`; then, for its pictures, :meth:`write` in any order by
    any thread and :meth:`record` in order by one; then :meth:`close_part`. :meth:`finish` comes last. What is recorded
    need not be made again after a stop, or, where a part is made as a whole, what is closed.
    """

    def __enter__(self) -> PictureSink:
        """Pictures are written inside a ``with`` block."""
        ...

    def __exit__(self, *raised: Any) -> None:
        """Drop what is not whole."""
        ...

    def parts(self, images: int) -> list[range]:
        """The sources, of so many, that are closed together."""
        ...

    def closed(self, part: range) -> list[dict[str, Any]] | None:
        """What became of each source of a part that is there as a whole; None where each is to be asked for."""
        ...

    def finished(self, image: str, source_sha256: str, output: str) -> Picture | None:
        """The picture of a source if it is there, made from the same bytes, and unharmed."""
        ...

    def open_part(self, part: range) -> None:
        """Begin a part."""
        ...

    def write(self, output: str, content: bytes) -> None:
        """Write a picture's bytes, where each is a file; thread-safe for different outputs."""
        ...

    def record(self, picture: Picture, content: bytes) -> None:
        """Note a picture that was written, in order."""
        ...

    def close_part(self, part: range, pictures: Sequence[Picture], failures: Sequence[tuple[str, str]]) -> None:
        """State a part complete: its pictures, and name and reason of each source that failed."""
        ...

    def finish(self) -> None:
        """State the run complete."""
        ...
