"""What passes between the process that a run on Ray begins in and its workers: where they are, and what went wrong."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gloam import __version__, errors
from gloam.errors import ClusterError, GloamError, StoreError
from gloam.files import temporary_folder, write_failure

TRIES = 5  # workers that one piece of work may cost
SHARED = "images, model and output must lie where every node sees them under the same path"


@dataclass(frozen=True)
class Home:
    """Where a run began.

    Attributes:
        cwd: folder that relative paths begin in.
        version: of gloam.
    """

    cwd: str = field(default_factory=os.getcwd)
    version: str = __version__

    def enter(self) -> None:
        """In a worker: be where the run began.

        Raises:
            ClusterError: another gloam is installed here.
        """
        if self.version != __version__:
            raise ClusterError(f"gloam {__version__}, but {self.version} where the run began; install the same")
        with contextlib.suppress(OSError):  # where it is not there, absolute paths may do; if not, others will say so
            os.chdir(self.cwd)


@contextlib.contextmanager
def run_folder(output: Path) -> Iterator[Path]:
    """A folder inside the output's, while the run lasts: by it a node sees that the storage is shared."""
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(temporary_folder(output, "ray-"))
        except OSError as error:
            raise StoreError(write_failure(output, error)) from error
        yield place


def of_worker(kind: str, node: str, message: str) -> GloamError:
    """What a worker met, of the kind that it met.

    Args:
        kind: name of the error's class.
        node: name of its machine.
        message: of the error.
    """
    found = getattr(errors, kind, None)
    made: type[GloamError] = found if isinstance(found, type) and issubclass(found, GloamError) else GloamError
    return made(f"node {node}: {message}")


def count_try(tries: Path, what: str, then: str) -> None:
    """Note that a worker began a piece of work; what kills every worker would be given out for ever.

    Args:
        tries: file in the run's folder, a byte for every worker that began.
        what: the piece.
        then: what a user may do or should know.

    Raises:
        ClusterError: too many have begun it and not come back.
        StoreError: the file cannot be written.
    """
    try:
        with open(tries, "ab") as file:
            file.write(b".")
        begun = tries.stat().st_size
    except OSError as error:
        raise StoreError(write_failure(tries, error)) from error
    if begun > TRIES:
        raise ClusterError(
            f"{what}: {TRIES} workers died over it, of too little memory or of an image that kills the decoder; {then}"
        )
