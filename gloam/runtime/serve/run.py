"""Runs a service by uvicorn until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gloam.errors import UsageError
from gloam.heartbeat import to_stderr
from gloam.runtime.serve.app import make_app
from gloam.runtime.serve.options import Keys, ServeRequest
from gloam.runtime.serve.service import Service

HEADERS = 10.0  # seconds for a request's line and headers; uvicorn itself waits for ever
IDLE = 5  # seconds that a connection is kept for a further request
ENDING = 20  # seconds for what is being answered when the service is told to end
BACKLOG = 1024


@dataclass(frozen=True)
class Served:
    """How a service ended.

    Attributes:
        address: that it was reached at.
        requests: answered and refused.
    """

    address: str
    requests: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return dict(vars(self))

    def __str__(self) -> str:
        return f"{self.address}: {self.requests} requests, ended as told"


def serve(request: ServeRequest) -> Served:
    """Open what is served, answer until Ctrl-C or SIGTERM, end what was begun, and come back.

    Raises:
        UsageError: the address cannot be had.
        GloamError: models, index, map or keys that cannot be used, see :meth:`Service.open`.
    """
    keys = None if request.api_keys is None else Keys.read(request.api_keys)
    with _bound(request.host, request.port) as bound:
        service = Service.open(request)
        app = make_app(service, keys, local=request.loopback)
        config = uvicorn.Config(
            app,
            http=Patient,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=ENDING,
            backlog=BACKLOG,
        )
        server = uvicorn.Server(config)
        host, port = bound.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        to_stderr(f"{address}: {_named(service)}; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended and hands the signal on
            server.run(sockets=[bound])
        return Served(address, server.server_state.total_requests)


def _named(service: Service) -> str:
    facts = service.facts
    parts = [f"serving {facts['model']} (/v1/embed)"]
    if facts["index"] is not None:
        parts.append(f"an index of {facts['index']} images (/v1/search)")
    if facts["map"] is not None:
        parts.append(f"a map of {facts['map']['images']} images (/v1/localize)")
    return ", ".join(parts)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Any:
    """A socket at the address, before minutes of loading."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"--host {host}: no such address ({error.strerror}); give one of this machine's") from error
    with bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(place)
        except OSError as error:
            raise UsageError(
                f"--host {host} --port {port}: cannot be had ({error.strerror}); choose another, or 0 for a free one"
            ) from error
        yield bound


class Patient(H11Protocol):
    """uvicorn's protocol that ends connections which do not finish a request's headers."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A connection begins, and so does its time."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """More has come."""
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._wait()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEADERS, self.transport.close)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
