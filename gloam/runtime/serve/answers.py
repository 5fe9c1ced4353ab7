"""Answers of the service, as OpenAPI describes them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Three = tuple[float, float, float]
Four = tuple[float, float, float, float]


class Failure(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="one line: what is wrong and what to do")


class Health(BaseModel):
    """That the service is up, and what it serves."""

    status: Literal["ok"]
    version: str
    keys: bool = Field(description="whether a key is needed")
    model: str
    dimension: int
    space: str = Field(description="descriptors of one space may be compared")
    fingerprint: str
    index: int | None = Field(description="images of the index")
    map: MapFacts | None


class MapFacts(BaseModel):
    """The map that is served."""

    images: int
    camera_sizes: dict[str, int] = Field(description="cameras by the size of their images")


class Embedding(BaseModel):
    """A descriptor."""

    descriptor: list[float] = Field(description="unit length; the float32 values as they are, to the bit")
    dimension: int
    space: str
    fingerprint: str
    width: int = Field(description="of the stored image, pixels")
    height: int


class Neighbour(BaseModel):
    """An image of the index."""

    image: str
    score: float = Field(description="cosine")


class Neighbours(BaseModel):
    """The most similar images, best first."""

    results: list[Neighbour]


class Intrinsics(BaseModel):
    """A camera as COLMAP states it."""

    model: str
    width: int
    height: int
    params: list[float] = Field(description="pixels, in COLMAP's order")
    source: Literal["request", "map", "exif"] = Field(description="where they are from")


class PoseFound(BaseModel):
    """A pose, world to camera."""

    quaternion: Four = Field(description="unit quaternion (w, x, y, z)")
    translation: Three = Field(description="in the map's unit, metres where it is metric")
    position: Three = Field(description="of the camera in the world")
    direction: Three = Field(description="in which the camera looks, unit length, in the world")


class Matched(BaseModel):
    """Matches with one image of the map, in pixels of the images as stored."""

    image: str
    matches: int
    inliers: int
    query: list[tuple[float, float]] = Field(description="keypoints of the image, inliers first")
    other: list[tuple[float, float]] = Field(description="keypoints of the map image")
    inlier: list[bool]


class Localization(BaseModel):
    """Where an image was taken."""

    localized: bool
    reason: str = Field(description="why there is no pose; empty where there is one")
    pose: PoseFound | None
    position_std: float | None = Field(description="of the position, in the map's unit")
    rotation_std_deg: float | None
    inliers: int
    correspondences: int
    retrieved: list[str] = Field(description="map images that it was matched with, best first")
    camera: Intrinsics
    matched: list[Matched] | None = Field(description="where matches=true")


class MapImage(BaseModel):
    """A camera of the map."""

    name: str
    position: Three
    direction: Three


class MapView(BaseModel):
    """Cameras of the map, and points, evenly fewer where there are many."""

    images: list[MapImage]
    points: list[Three]
    right: Three = Field(description="axis of the view from above, unit length: the map's longer side")
    ahead: Three = Field(description="the other axis; both are level where the cameras are")
    pictures: bool = Field(description="whether /v1/map/picture shows the images")


Health.model_rebuild()
