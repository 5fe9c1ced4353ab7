"""What a service is asked for: models, address, limits, keys."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gloam.data.text import text_lines
from gloam.errors import UsageError
from gloam.runtime.backends.placement import Placement

SHORTEST_KEY = 16  # characters
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a request may take, so that none takes the service.

    Attributes:
        body: bytes of a request.
        memory: bytes of all requests' bodies at once.
        pixels: of an image, as its file stores it.
        upload: seconds until a body is there.
        answer: seconds from then to the answer, waiting included.
        queue: requests that are read, wait or are answered at once; one more is refused.
        batch: images that the model is given at once.

    Raises:
        UsageError: a limit that is not positive.
    """

    body: int = 16 * MIB
    memory: int = 512 * MIB
    pixels: int = 40_000_000
    upload: float = 30.0
    answer: float = 60.0
    queue: int = 256
    batch: int = 16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UsageError(f"--{OPTIONS[name]} must be above 0")
        if self.memory < self.body:
            raise UsageError(f"--max-memory {self.memory}: is less than one request's --max-body {self.body}")


OPTIONS = {
    "body": "max-body",
    "memory": "max-memory",
    "pixels": "max-pixels",
    "upload": "upload-timeout",
    "answer": "answer-timeout",
    "queue": "queue",
    "batch": "batch",
}


@dataclass(frozen=True)
class ServeRequest:
    """A service.

    Attributes:
        model: embedder, alone or fused with a translator.
        index: to search, or None.
        map: of ``gloam localize --save-map``, or None.
        extractor, matcher: models of the map, where it was made with such.
        images: folder of the map's images, to be shown; None where they are not.
        host, port: address; port 0 takes a free one.
        api_keys: file of keys, one a line; None for none.
        open: whether others may ask without a key.
        trust: compare no checksums of index and map.
        limits: of requests.
        placement: where and how the models run.

    Raises:
        UsageError: what does not go together.
    """

    model: Path
    index: Path | None = None
    map: Path | None = None
    extractor: Path | None = None
    matcher: Path | None = None
    images: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: Path | None = None
    open: bool = False
    trust: bool = False
    limits: Limits = field(default_factory=Limits)
    placement: Placement = field(default_factory=Placement)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise UsageError(f"--port {self.port}: must be 0 to 65535")
        if self.map is None:
            for name in ("extractor", "matcher", "images"):
                if getattr(self, name) is not None:
                    raise UsageError(f"--{name} is of a map; add --map FOLDER, or leave it out")
        if self.images is not None and not self.images.is_dir():
            raise UsageError(f"--images {self.images}: no such folder; give that of the map's images")
        if self.open and self.api_keys is not None:
            raise UsageError("--open asks for no key; leave --api-keys out")
        if not self.loopback and self.api_keys is None and not self.open:
            raise UsageError(
                f"--host {self.host}: whoever reaches this machine may ask; give --api-keys FILE, or --open"
            )

    @property
    def loopback(self) -> bool:
        """Whether this machine alone reaches the address."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address, or a name that no one else can give himself, is of the machine that asks for it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Keys:
    """Keys that let a request in.

    Args:
        keys: at least one.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    @classmethod
    def read(cls, path: Path) -> Keys:
        """Keys of a text file, one a line; empty lines and comments (``#``) are left out.

        Raises:
            DataError: the file cannot be read.
            UsageError: no key, or one that is too short or has a space; the line is named.
        """
        keys = []
        for number, key in text_lines(path, "the file of keys cannot be read"):
            if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise UsageError(
                    f"{path}:{number}: a key has {SHORTEST_KEY} characters of ASCII or more, without spaces; make one "
                    "by `openssl rand -hex 24`"
                )
            keys.append(key)
        if not keys:
            raise UsageError(f"{path}: holds no key; write one a line")
        return cls(keys)

    def let_in(self, given: bytes) -> bool:
        """Whether a key is one of them; takes as long for every wrong one."""
        return sum(hmac.compare_digest(given, key) for key in self._keys) > 0
