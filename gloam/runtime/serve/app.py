"""The service over HTTP: FastAPI's routes around :class:`gloam.runtime.serve.service.Service`."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from gloam import __version__
from gloam.errors import DataError, GloamError, UsageError
from gloam.files import printable
from gloam.heartbeat import to_stderr
from gloam.runtime.localization.localizer import LocalizedImage, MapMatches
from gloam.runtime.localization.pose import standard_deviations
from gloam.runtime.serve import answers, page
from gloam.runtime.serve.batcher import Batcher
from gloam.runtime.serve.guard import App, Guard, failure
from gloam.runtime.serve.meters import TYPE, Meters
from gloam.runtime.serve.options import Keys
from gloam.runtime.serve.service import Describer, Pixels, Row, Service

MOST_RESULTS = 1000
SHOWN_MATCHES = 200  # of a map image, inliers first
IMAGE = {"schema": {"type": "string", "format": "binary"}}
BODY = {
    "requestBody": {
        "required": True,
        "description": "an image file's bytes: JPEG, PNG, WebP, TIFF, ...; its EXIF orientation is honoured",
        "content": {"image/jpeg": IMAGE, "image/png": IMAGE, "application/octet-stream": IMAGE},
    }
}
WHY = {
    401: "the key is missing or wrong",
    403: "asked by a page of another site",
    404: "no such route, or nothing of the kind is served",
    405: "another method",
    408: "the body came too slowly",
    413: "the body is too large",
    415: "a form or JSON where an image's bytes are needed",
    421: "asked by another name than this machine's",
    422: "no image, or a value that is none",
    500: "a fault of the service",
    503: "too many requests",
    504: "no answer in time",
}

Found = TypeVar("Found")


def _failures(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": answers.Failure, "description": WHY[code]} for code in codes}


ASKED = _failures(401, 403, 404, 405, 421, 500)
SENT = ASKED | _failures(408, 413, 415, 422, 503, 504)


class Desk:
    """Takes what blocks off the event loop: decoding, the model, the index and the map, each in threads of its own.

    Attributes:
        service: what is asked.
        decoded: lets in as many images as are decoded, wait or are described at once.
    """

    def __init__(self, service: Service, meters: Callable[[], Meters]) -> None:
        self.service = service
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._decoding = ThreadPoolExecutor(cores, "decode")
        self._searching = ThreadPoolExecutor(1, "search")  # FAISS's settings are the process's
        self._locating = ThreadPoolExecutor(cores, "localize")
        self._batchers: dict[int, Batcher[Pixels, Row]] = {}
        decoded = cores
        for describer in filter(None, (service.describer, service.searcher)):
            most = min(service.limits.batch, describer.at_once)
            decoded += 2 * most
            self._batchers.setdefault(
                id(describer), Batcher(describer.describe, most, lambda size: meters().batches.observe(size))
            )
        # Of a small body comes a large picture: no more are unpacked than keep the models at work.
        self.decoded = asyncio.Semaphore(decoded)

    @property
    def waiting(self) -> int:
        """Decoded images that wait for the model."""
        return sum(batcher.waiting for batcher in self._batchers.values())

    async def describe(self, describer: Describer, content: bytes) -> tuple[Row, tuple[int, int]]:
        """Descriptor and stored size of an image."""

        def read() -> tuple[Pixels, tuple[int, int]]:
            size = self.service.check(content)
            return describer.read(content), size

        async with self.decoded:
            image, size = await self._in(self._decoding, read)
            return await self._batchers[id(describer)](image), size

    async def search(self, content: bytes, k: int) -> list[tuple[str, float]]:
        """The most similar images of the index."""
        assert self.service.searcher is not None  # looked at before
        row, _ = await self.describe(self.service.searcher, content)
        return await self._in(self._searching, lambda: self.service.search(row, k))

    async def localize(self, content: bytes, camera: str | None, name: str, matches: bool) -> answers.Localization:
        """Where an image was taken."""

        def work() -> answers.Localization:
            self.service.check(content)
            intrinsics, source = self.service.camera(content, camera)
            found, matched = self.service.localize(content, intrinsics, name)
            stated = answers.Intrinsics(**vars(intrinsics) | {"params": list(intrinsics.params), "source": source})
            return _localization(found, stated, matched if matches else None)

        return await self._in(self._locating, work)

    async def picture(self, name: str) -> bytes:
        """An image of the map."""
        return await self._in(self._decoding, lambda: self.service.picture(name))

    async def map(self) -> dict[str, Any]:
        """Cameras and points of the map."""
        return await self._in(self._locating, lambda: self.service.shown_map)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def make_app(service: Service, keys: Keys | None = None, *, local: bool = True) -> App:
    """The service as an ASGI application.

    Args:
        service: what is asked.
        keys: that let a request in; None for none.
        local: whether it is for this machine alone.
    """
    desk = Desk(service, lambda: meters)
    meters = Meters(lambda: desk.waiting)

    app = FastAPI(
        title="gloam",
        version=__version__,
        description="Descriptors, search and poses of photographs.",
        docs_url=None,  # they load scripts of others
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_facts(app, service, desk, meters, keys is not None)
    _add_questions(app, service, desk)
    _add_failures(app)
    routes = [route.path for route in app.routes if hasattr(route, "path")]
    return Guard(app, service.limits, meters, routes, keys, local=local)


def _add_facts(app: FastAPI, service: Service, desk: Desk, meters: Meters, needs_key: bool) -> None:
    """What is asked without an image."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show() -> HTMLResponse:
        return HTMLResponse(page.text(), headers={"content-security-policy": page.policy()})

    @app.get("/health", responses=_failures(403, 405, 421, 500))
    async def health() -> answers.Health:
        """That the service is up, and what it serves."""
        return answers.Health(status="ok", version=__version__, keys=needs_key, **service.facts)

    @app.get("/metrics", responses=ASKED | {200: {"content": {"text/plain": {}}}}, response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(meters.told(), media_type=TYPE)

    if service.localizer is None:
        return

    @app.get("/v1/map", responses=ASKED)
    async def shown_map() -> answers.MapView:
        """Cameras and points of the map."""
        return answers.MapView(**await desk.map())

    @app.get(
        "/v1/map/picture",
        responses=ASKED | _failures(422) | {200: {"content": {"image/jpeg": {}}}},
        response_class=Response,
    )
    async def picture(name: Annotated[str, Query(description="of a map image")]) -> Response:
        """An image of the map, its pixels as stored, reduced."""
        try:
            return Response(await desk.picture(name), media_type="image/jpeg")
        except UsageError as error:
            raise HTTPException(404, str(error)) from error


def _add_questions(app: FastAPI, service: Service, desk: Desk) -> None:
    """What is asked about an image; routes of what is not served are left out."""

    @app.post("/v1/embed", responses=SENT, openapi_extra=BODY)
    async def embed(request: Request) -> answers.Embedding:
        """The descriptor of an image: the same as ``gloam extract`` gives, to the bit."""
        row, (width, height) = await desk.describe(service.describer, await request.body())
        own = service.describer.embedder
        return answers.Embedding(
            descriptor=row.tolist(),
            dimension=own.dimension,
            space=own.space,
            fingerprint=own.fingerprint,
            width=width,
            height=height,
        )

    if service.index is not None:

        @app.post("/v1/search", responses=SENT, openapi_extra=BODY)
        async def search(
            request: Request,
            k: Annotated[int, Query(ge=1, le=MOST_RESULTS, description="images to find")] = 10,
        ) -> answers.Neighbours:
            """The most similar images of the index."""
            found = await desk.search(await request.body(), k)
            return answers.Neighbours(results=[answers.Neighbour(image=name, score=score) for name, score in found])

    if service.localizer is not None:

        @app.post("/v1/localize", responses=SENT, openapi_extra=BODY)
        async def localize(
            request: Request,
            camera: Annotated[
                str | None,
                Query(
                    max_length=500,
                    description="intrinsics of the stored pixels as MODEL,width,height,parameters, e.g. "
                    "SIMPLE_PINHOLE,640,480,500,320,240; by default those of the map's only camera of that size, else "
                    "from EXIF's focal length",
                ),
            ] = None,
            name: Annotated[
                str, Query(max_length=1000, description="of the image, for the pose that `gloam localize` finds")
            ] = "",
            matches: Annotated[bool, Query(description="say the matches with every map image, too")] = False,
        ) -> answers.Localization:
            """Where an image was taken."""
            return await desk.localize(await request.body(), camera, name, matches)


def _localization(
    found: LocalizedImage, camera: answers.Intrinsics, matched: list[MapMatches] | None
) -> answers.Localization:
    pose, deviations = found.pose, None
    if found.covariance is not None:
        deviations = standard_deviations(found.covariance)
    return answers.Localization(
        localized=pose is not None,
        reason=found.reason,
        pose=None
        if pose is None
        else answers.PoseFound(
            quaternion=pose.quaternion,
            translation=pose.translation,
            position=tuple(pose.center.tolist()),
            direction=tuple(pose.rotation[2].tolist()),
        ),
        position_std=None if deviations is None else _finite(deviations[0]),
        rotation_std_deg=None if deviations is None else _finite(deviations[1]),
        inliers=found.inliers,
        correspondences=found.correspondences,
        retrieved=list(found.retrieved),
        camera=camera,
        matched=None if matched is None else [_matched(each) for each in matched],
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _matched(each: MapMatches) -> answers.Matched:
    order = (~each.agree).argsort(kind="stable")[:SHOWN_MATCHES]
    return answers.Matched(
        image=each.image,
        matches=len(each.agree),
        inliers=int(each.agree.sum()),
        query=each.query[order].round(2).tolist(),
        other=each.other[order].round(2).tolist(),
        inlier=each.agree[order].tolist(),
    )


def _add_failures(app: FastAPI) -> None:
    """Every error is one line of JSON."""

    def told(status: int, why: str, headers: Any = None) -> Response:
        code, body = failure(status, why)
        return Response(body, code, dict(headers or {}), "application/json")

    @app.exception_handler(GloamError)
    async def refused(request: Request, error: GloamError) -> Response:
        return told(422 if isinstance(error, DataError | UsageError) else 500, str(error))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        route = f"no route {request.url.path}; /openapi.json names those there are"
        why = {404: route, 405: "another method is needed"}
        stated = str(error.detail)
        plain = stated in ("Not Found", "Method Not Allowed")
        return told(error.status_code, why.get(error.status_code, stated) if plain else stated, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        return told(422, f"{where}: {first['msg']}")

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        to_stderr(f"{request.method} {request.url.path}: {type(error).__name__}: {printable(str(error))}")
        return told(500, "a fault of the service; its log says more")
