"""gloam inside its container: the image that ``docker/`` makes, run by whichever engine is here."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gloam.errors import DataError

IMAGE = "GLOAM_IMAGE"  # names another
RUNTIME = "localhost/gloam:runtime-cpu"
ENGINES = {"docker": ("image", "inspect"), "podman": ("image", "inspect"), "buildah": ("inspect", "--type", "image")}


@contextmanager
def container(folder: Path) -> Iterator[list[str]]:
    """The words that run gloam in a container in which ``folder`` is ``/shared``; the container is gone afterwards.

    Raises:
        DataError: no engine is here that has the image.
    """
    image = os.environ.get(IMAGE, RUNTIME)
    here = [engine for engine in ENGINES if shutil.which(engine)]
    engine = next((each for each in here if _succeeds([each, *ENGINES[each], image])), None)
    if engine is None:
        why = f"{' and '.join(here)} knows none" if here else "neither docker nor podman nor buildah is here"
        raise DataError(f"no image {image}: {why}; build docker/Dockerfile's target runtime, or name one by {IMAGE}")
    user = f"{os.getuid() or 10001}:{os.getgid() or 10001}"  # root leaves it to the image's own
    if engine != "buildah":
        yield [engine, "run", "--rm", "--network", "none", "--user", user, "--volume", f"{folder}:/shared", image]
        return
    made = subprocess.run([engine, "from", image], capture_output=True, text=True, check=True).stdout.strip()
    try:
        isolation = os.environ.get("BUILDAH_ISOLATION", "chroot")  # which asks for neither cgroups nor a runtime
        words = ["--isolation", isolation, "--user", user, "--volume", f"{folder}:/shared", made, "--", "gloam"]
        yield [engine, "run", *words]
    finally:
        subprocess.run([engine, "rm", made], capture_output=True, check=True)


def _succeeds(words: Sequence[str]) -> bool:
    return subprocess.run(words, capture_output=True).returncode == 0
