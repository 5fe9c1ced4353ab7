"""Slow, cut-off, huge and too many requests, and answers that do not come: each is refused, and none is left behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from gloam.runtime.serve.guard import Guard, Message
from gloam.runtime.serve.meters import Meters
from gloam.runtime.serve.options import Limits

FAST = Limits(body=1000, memory=1500, upload=0.1, answer=0.1, queue=2)


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """Says how long the body was, after as many seconds as the query asks for."""
    body = (await receive())["body"]
    await asyncio.sleep(float(scope["query_string"] or b"0"))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


class Asked:
    """A guard, and what it answered."""

    def __init__(self, limits: Limits = FAST) -> None:
        self.meters = Meters()
        self.guard = Guard(answers, limits, self.meters, ["/v1/embed"], None, local=True)

    async def post(
        self,
        parts: Iterable[bytes],
        *,
        length: int | None = None,
        seconds: str = "",
        pause: float = 0.0,
        cut: bool = False,
    ) -> tuple[int, str] | None:
        """Status and text; None where nothing was answered."""
        messages = self._messages(list(parts), pause, cut)
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost")]
        headers += [] if length is None else [(b"content-length", str(length).encode())]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/embed",
            "query_string": seconds.encode(),
            "headers": headers,
        }
        receive: Callable[[], Any] = messages.__anext__
        await self.guard(scope, receive, send)
        if not sent:
            return None
        text = sent[1]["body"].decode()
        return sent[0]["status"], json.loads(text)["error"] if text.startswith("{") else text

    async def _messages(self, parts: list[bytes], pause: float, cut: bool) -> AsyncIterator[Message]:
        for number, part in enumerate(parts):
            await asyncio.sleep(pause)
            more = cut or number + 1 < len(parts)
            yield {"type": "http.request", "body": part, "more_body": more}
        yield {"type": "http.disconnect"}

    @property
    def left(self) -> tuple[int, int]:
        """Requests and bytes that are still held."""
        return self.guard._open, self.guard._bytes


def test_a_body_passes_whole_whatever_its_parts() -> None:
    asked = Asked()
    assert asyncio.run(asked.post([b"ab", b"", b"cde"])) == (200, "5")
    assert asyncio.run(asked.post([b""], length=0)) == (200, "0")
    assert asked.left == (0, 0)


def test_a_slow_body_is_refused() -> None:
    asked = Asked()
    status, why = asyncio.run(asked.post([b"x"] * 9, pause=0.03)) or (0, "")
    assert (status, why) == (408, "the body did not come within 0.1 s; send it again, or a smaller image")
    assert asked.left == (0, 0)


def test_a_body_that_is_cut_off_is_let_go() -> None:
    asked = Asked()
    assert asyncio.run(asked.post([b"half"], length=8, cut=True)) is None
    assert asked.left == (0, 0)
    assert 'status="499"} 1.0' in asked.meters.told().decode()


@pytest.mark.parametrize(("parts", "length"), [([b""], 1001), ([b"x" * 600] * 2, None)], ids=["stated", "unstated"])
def test_a_large_body_is_refused(parts: list[bytes], length: int | None) -> None:
    asked = Asked()
    status, why = asyncio.run(asked.post(parts, length=length)) or (0, "")
    assert (status, why) == (413, "the body is larger than 1000 bytes; send a smaller image")
    assert asked.left == (0, 0)


def test_an_answer_that_does_not_come_is_given_up() -> None:
    asked = Asked()
    status, why = asyncio.run(asked.post([b"x"], seconds="9")) or (0, "")
    assert status == 504
    assert why.startswith("no answer within 0.1 s")
    assert asked.left == (0, 0)


def test_more_than_the_queue_are_refused_at_once() -> None:
    asked = Asked()

    async def many() -> list[Any]:
        return await asyncio.gather(*(asked.post([b"x"], length=1, seconds="0.05") for _ in range(5)))

    found = asyncio.run(many())
    assert [status for status, _ in found] == [200, 200, 503, 503, 503]
    assert found[2][1] == "2 requests are being answered; try again"
    assert asked.left == (0, 0)


def test_bodies_beyond_the_memory_are_refused_before_they_are_read() -> None:
    asked = Asked()

    async def two() -> list[Any]:
        return await asyncio.gather(
            asked.post([b"x" * 900], length=900, seconds="0.05"), asked.post([b"x" * 900], length=900)
        )

    (first, _), (second, why) = asyncio.run(two())
    assert (first, second, why) == (200, 503, "the memory for requests is taken; try again")
    assert asked.left == (0, 0)


def test_what_the_service_gives_up_when_it_ends_is_told_in_a_line() -> None:
    asked = Asked(Limits(body=1000, memory=1500))

    async def ended() -> Any:
        waiting = asyncio.create_task(asked.post([b"x"], seconds="9"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        return await waiting

    assert asyncio.run(ended()) == (503, "the service is ending; ask again later")
    assert asked.left == (0, 0)
