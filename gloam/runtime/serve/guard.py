"""Stands before the service: lets requests in or refuses them, reads bodies within the limits, counts answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from gloam.files import printable
from gloam.heartbeat import log
from gloam.runtime.serve.meters import Meters
from gloam.runtime.serve.options import Keys, Limits, is_loopback

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

WITHOUT_KEY = ("/", "/health", "/openapi.json")  # what says nothing of images
FORMS = (b"multipart/", b"application/json")
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Refused(Exception):
    """A request that is not let in.

    Attributes:
        status: of HTTP.
        why: one line.
        headers: more of them.
    """

    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def failure(status: int, why: str) -> tuple[int, bytes]:
    """Status and body of an error: one line of JSON."""
    return status, json.dumps({"error": printable(why)}).encode() + b"\n"


class Guard:
    """An ASGI application in front of another.

    Args:
        app: to be guarded.
        limits: of requests.
        meters: count what is answered.
        routes: paths that are counted by their names.
        keys: one of which every request needs, but for :data:`WITHOUT_KEY`; None for none.
        local: whether the service is for this machine alone: then only by its names, so that no page of another site
            reaches it through a name of its own.
    """

    def __init__(
        self, app: App, limits: Limits, meters: Meters, routes: Iterable[str], keys: Keys | None, *, local: bool
    ) -> None:
        self._app, self._limits, self._meters, self._keys, self._local = app, limits, meters, keys, local
        self._routes = frozenset(routes)
        self._open, self._bytes = 0, 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let in, pass on, count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            await self._passed(scope, receive, counted, lambda: status)
        except Refused as refused:
            if not status:
                await _answer(counted, refused)
        except asyncio.CancelledError:  # by uvicorn, which has waited long enough; its own answer is no JSON
            if not status:
                await _answer(counted, Refused(503, "the service is ending; ask again later", retry_after="60"))
        finally:
            route = scope["path"] if scope["path"] in self._routes else "other"
            seconds = time.perf_counter() - begun
            self._meters.answered(route, status or 499, seconds)  # 499: who asked has gone
            log(f"{scope['method']} {scope['path']} {status or 499} {seconds * 1000:.1f} ms")

    async def _passed(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, status: Callable[[], int]
    ) -> None:
        headers = dict(scope["headers"])
        self._expect_same_site(headers)
        self._expect_key(scope["path"], headers)
        if scope["method"] != "POST" or scope["path"] not in self._routes:
            await self._app(scope, receive, send)
            return
        if headers.get(b"content-type", b"").lower().startswith(FORMS):
            raise Refused(415, "send an image's bytes, as `curl --data-binary @photo.jpg` does; no form or JSON")
        if self._open >= self._limits.queue:
            raise Refused(503, f"{self._open} requests are being answered; try again", retry_after="1")
        self._hold(1, 0)
        held = 0
        try:
            held = self._reserve(headers)
            body = await self._body(receive)
            if body is None:
                return  # who asked has gone
            try:
                async with asyncio.timeout(self._limits.answer):
                    await self._app(scope, _replay(body, receive), send)
            except TimeoutError as error:
                raise Refused(
                    504, f"no answer within {self._limits.answer:g} s; the service is busy, try again", retry_after="1"
                ) from error
        finally:
            self._hold(-1, -held)

    def _hold(self, requests: int, size: int) -> None:
        self._open += requests
        self._bytes += size
        self._meters.open.set(self._open)
        self._meters.body.set(self._bytes)

    def _expect_same_site(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._local and not is_loopback(name.removeprefix("[").removesuffix("]")):
            raise Refused(421, "this service is for its own machine alone; ask for localhost or 127.0.0.1")
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin.partition("://")[2] != host:
            raise Refused(403, "pages of another site may not ask this service")

    def _expect_key(self, path: str, headers: dict[bytes, bytes]) -> None:
        if self._keys is None or path in WITHOUT_KEY:
            return
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            why = "a key is needed; send the header 'Authorization: Bearer KEY'"
            raise Refused(401, why, www_authenticate="Bearer")
        if not self._keys.let_in(key.strip()):
            raise Refused(401, "the key is none of this service's", www_authenticate="Bearer")

    def _reserve(self, headers: dict[bytes, bytes]) -> int:
        """Room for a body, before it is read."""
        stated = headers.get(b"content-length", b"")
        size = int(stated) if stated.isdigit() else self._limits.body
        if size > self._limits.body:
            raise _too_large(self._limits.body)
        if self._bytes + size > self._limits.memory:
            raise Refused(503, "the memory for requests is taken; try again", retry_after="1")
        self._hold(0, size)
        return size

    async def _body(self, receive: Receive) -> bytes | None:
        """The body, or None where the connection was cut off."""
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.upload):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._limits.body:
                        raise _too_large(self._limits.body)
                    parts.append(part)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            raise Refused(
                408, f"the body did not come within {self._limits.upload:g} s; send it again, or a smaller image"
            ) from error


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit} bytes; send a smaller image")


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, once; then what comes from the connection."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Send, refused: Refused) -> None:
    status, body = failure(refused.status, refused.why)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in refused.headers.items()]
    if status in (408, 413, 415, 503):
        headers.append((b"connection", b"close"))  # what is left of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
