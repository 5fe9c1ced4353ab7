"""Per-pixel ray casting against rectangles, with recessed openings; depth is exact to float32.

A pixel's ray goes through its centre: pixel (column, row) is at (column + 0.5, row + 0.5), COLMAP's convention, and
has length 1 along the optical axis, so that the ray parameter is the depth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gloam.data.scene import Camera, Pose
from gloam.data.town.facades import GRID
from gloam.data.town.surfaces import Float32, Surface

NEAR = 0.05  # metres
MIRROR = np.array([1.0, 1.0, -1.0])


@dataclass
class Hits:
    """What the rays of one view hit.

    Attributes:
        depth: float32 ``[h, w]``, distance along the optical axis, metres; 0 where there is only sky.
        surface: int32 ``[h, w]``, -1 for sky.
        pixels: flat indices of the pixels that hit something, int64 ``[n]``; what follows is for these.
        left, top: metres from the surface's top-left corner, float32 ``[n]``.
        reveal: whether the ray ended on the side of an opening, bool ``[n]``.
        recessed: whether it went through an opening at all, bool ``[n]``.
        footprint: size of the pixel on the surface along (left, top), metres, float32 ``[2, n]``.
        rays: world directions, float32 ``[3, n]``.
    """

    depth: Float32
    surface: npt.NDArray[np.int32]
    pixels: npt.NDArray[np.int64]
    left: Float32
    top: Float32
    reveal: npt.NDArray[np.bool_]
    recessed: npt.NDArray[np.bool_]
    footprint: Float32
    rays: Float32

    def parts(self, finest: float = np.inf) -> npt.NDArray[np.int32]:
        """What a pixel shows, int32 ``[h, w]``: equal numbers, the same part of the same surface; 0 for sky.

        Args:
            finest: openings are parts where a pixel sees less than so many metres of the surface.
        """
        labels = (self.surface + 1) * 3
        inside = self.recessed & (self.footprint.max(axis=0) < finest)
        labels.reshape(-1)[self.pixels] += np.where(inside, np.where(self.reveal, 2, 1), 0)
        return labels


def ray_directions(camera: Camera, pose: Pose) -> Float32:
    """World directions of the pixels' rays, float32 ``[3, h, w]``, with unit length along the optical axis."""
    fx, fy, cx, cy = camera.params
    x = (np.arange(camera.width) + 0.5 - cx) / fx
    y = (np.arange(camera.height) + 0.5 - cy) / fy
    return rays_through(pose, x[None, :], y[:, None])


def rays_through(pose: Pose, x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> Float32:
    """World directions float32 ``[3, ...]`` of rays through camera coordinates (x, y, 1), whose shapes broadcast."""
    right, down, forward = (axis[:, None, None] for axis in pose.rotation)
    return np.asarray(right * x + down * y + forward, np.float32)


class Caster:
    """Tables of a street's surfaces for fast look-up, and the casting itself."""

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        self.surfaces = list(surfaces)
        self.corners = np.stack([s.corners() for s in surfaces]).astype(np.float64)
        self.axis = np.array([s.axis for s in surfaces])
        self.facing = np.array([s.facing for s in surfaces], np.float32)
        self.offset = np.array([s.offset for s in surfaces], np.float32)
        self.flipped = np.array([s.flipped for s in surfaces])
        self.low = np.array([s.low for s in surfaces], np.float32)
        self.high = np.array([s.high for s in surfaces], np.float32)
        self.size = self.high - self.low
        self._index_openings()

    def _index_openings(self) -> None:
        """Cells of GRID metres that name the opening they belong to, one grid after the other."""
        rectangles: list[tuple[float, float, float, float, float]] = [(0, 0, 0, 0, 0)]
        cells: list[npt.NDArray[np.int32]] = [np.zeros(1, np.int32)]
        self.cell_start = np.zeros(len(self.surfaces), np.int32)
        self.cell_width = np.zeros(len(self.surfaces), np.int32)
        total = 1
        for index, surface in enumerate(self.surfaces):
            if not surface.openings:
                continue
            columns, rows = (int(np.ceil(extent / GRID)) + 1 for extent in surface.size)
            grid = np.zeros((rows, columns), np.int32)
            for opening in surface.openings:
                box = np.round(np.array([opening.top, opening.bottom, opening.left, opening.right]) / GRID).astype(int)
                grid[box[0] : box[1], box[2] : box[3]] = len(rectangles)
                rectangles.append((opening.left, opening.top, opening.right, opening.bottom, opening.recess))
            self.cell_start[index], self.cell_width[index] = total, columns
            cells.append(grid.ravel())
            total += grid.size
        self.cells = np.concatenate(cells)
        self.openings = np.array(rectangles, np.float32)

    def cast(self, camera: Camera, pose: Pose, mirrored: bool = False) -> Hits:
        """Cast the rays of a view, one a pixel.

        Mirrored rays start at the camera's mirror image below the ground, whose surfaces seen from below are culled,
        so that the depth at a pixel is that of the whole path.

        Args:
            camera, pose: of the view.
            mirrored: cast the rays that the plane z = 0 reflects.
        """
        flip = MIRROR if mirrored else np.ones(3)
        origin = (pose.center * flip).astype(np.float32)
        rays = ray_directions(camera, pose) * flip.astype(np.float32)[:, None, None]
        depth = np.full((camera.height, camera.width), np.inf, np.float32)
        found = np.full((camera.height, camera.width), -1, np.int32)
        for index, box in self._in_view(camera, pose, origin, flip):
            nearer, t = self._meet(index, origin, [axis[box] for axis in rays], depth[box])
            depth[box][nearer] = t[nearer]
            found[box][nearer] = index
        return self._resolve(camera, pose, origin, rays, depth, found, flip)

    def cast_beside(
        self,
        camera: Camera,
        pose: Pose,
        pixels: npt.NDArray[np.int64],
        places: Sequence[tuple[float, float]],
    ) -> Hits:
        """Cast several rays of each of some pixels; as :meth:`cast` would by cameras whose pixels are moved so.

        Args:
            camera, pose: of the view.
            pixels: flat indices of n of them, ascending.
            places: where the k rays of a pixel go through it, pixels right of and below its centre; less than half.

        Returns:
            hits of a picture of n rows and k columns.
        """
        origin = pose.center.astype(np.float32)
        fx, fy, cx, cy = camera.params
        rows, columns = np.divmod(pixels, camera.width)
        x = np.stack([((np.arange(camera.width) + 0.5 - (cx - right)) / fx)[columns] for right, _ in places], axis=1)
        y = np.stack([((np.arange(camera.height) + 0.5 - (cy - below)) / fy)[rows] for _, below in places], axis=1)
        rays = rays_through(pose, x, y)
        depth = np.full(x.shape, np.inf, np.float32)
        found = np.full(x.shape, -1, np.int32)
        rank = np.full((camera.height, camera.width), -1, np.int32)
        rank.reshape(-1)[pixels] = np.arange(len(pixels))
        for index, box in self._in_view(camera, pose, origin, np.ones(3)):  # a box has a pixel to spare on every side
            chosen = rank[box][rank[box] >= 0]
            if chosen.size:
                nearer, t = self._meet(index, origin, [axis[chosen] for axis in rays], depth[chosen])
                row, column = np.nonzero(nearer)
                depth[chosen[row], column] = t[row, column]
                found[chosen[row], column] = index
        return self._resolve(camera, pose, origin, rays, depth, found, np.ones(3))

    def _in_view(
        self, camera: Camera, pose: Pose, origin: Float32, flip: npt.NDArray[np.float64]
    ) -> Iterator[tuple[int, tuple[slice, slice]]]:
        """The surfaces that turn their front to the camera, and the part of the picture that each may cover."""
        seen = np.flatnonzero(self.facing * (origin[self.axis] - self.offset) > 1e-4)
        view = (self.corners[seen] * flip) @ pose.rotation.T + np.asarray(pose.translation)
        for index, box in zip(seen.tolist(), screen_boxes(view, camera), strict=True):
            if box is not None:
                yield index, box

    def _meet(
        self, index: int, origin: Float32, rays: Sequence[Float32], depth: Float32
    ) -> tuple[npt.NDArray[np.bool_], Float32]:
        """Which of some rays, x, y and z of one shape, a surface stops before ``depth``; and where it does."""
        surface = self.surfaces[index]
        a, u, v = surface.axis, surface.u_axis, surface.v_axis
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            t = (self.offset[index] - origin[a]) / rays[a]
            across, along = origin[u] + t * rays[u], origin[v] + t * rays[v]
            inside = (t > NEAR) & (t < depth)
            inside &= (across >= surface.low[0]) & (across <= surface.high[0])
            inside &= (along >= surface.low[1]) & (along <= surface.high[1])
        if surface.gable:
            inside &= surface.high[1] - along >= gable_cut(surface, across)
        if surface.cutout is not None:
            inside[inside] = solid(surface, across[inside], along[inside])
        return inside, t

    def _resolve(
        self,
        camera: Camera,
        pose: Pose,
        origin: Float32,
        rays: Float32,
        depth: Float32,
        found: npt.NDArray[np.int32],
        flip: npt.NDArray[np.float64],
    ) -> Hits:
        """Local coordinates, openings and footprints of the pixels that hit something."""
        pixels = np.flatnonzero(found.ravel() >= 0)
        index = found.ravel()[pixels]
        t = depth.ravel()[pixels]
        d = rays.reshape(3, -1)[:, pixels]
        axis, sign = self.axis[index], np.where(self.flipped[index], np.float32(-1), np.float32(1))
        along_x, upright = axis != 0, axis != 2
        normal = np.where(axis == 0, d[0], np.where(axis == 1, d[1], d[2]))
        du = np.where(along_x, d[0], d[1]) * sign
        dv = -np.where(upright, d[2], d[1])
        ou, ov = np.where(along_x, origin[0], origin[1]), np.where(upright, origin[2], origin[1])
        left = (ou - np.where(sign < 0, self.high[index, 0], self.low[index, 0])) * sign + t * du
        top = self.high[index, 1] - ov + t * dv
        steps = (pose.rotation[:2] * flip / np.array(camera.params[:2])[:, None]).astype(np.float32)
        footprint = np.zeros((2, pixels.size), np.float32)
        for step in steps:  # how far the hit point moves from one pixel to the next, across and down the image
            shift = np.where(axis == 0, step[0], np.where(axis == 1, step[1], step[2])) / normal
            footprint[0] += np.square(t * (np.where(along_x, step[0], step[1]) * sign - du * shift))
            footprint[1] += np.square(t * (-np.where(upright, step[2], step[1]) - dv * shift))
        reveal, recessed = self._enter_openings(index, t, left, top, du, dv, np.abs(normal))
        result = np.zeros(found.size, np.float32)
        result[pixels] = t
        return Hits(result.reshape(found.shape), found, pixels, left, top, reveal, recessed, np.sqrt(footprint), d)

    def _enter_openings(
        self,
        index: npt.NDArray[np.int32],
        t: Float32,
        left: Float32,
        top: Float32,
        du: Float32,
        dv: Float32,
        speed: Float32,
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Carry rays that enter an opening on to its glass or its side; changes ``t``, ``left`` and ``top``."""
        width = self.cell_width[index]
        cell = self.cell_start[index] + (top / GRID).astype(np.int32) * width + (left / GRID).astype(np.int32)
        opening = np.where(width > 0, self.cells[np.where(width > 0, cell, 0)], 0)
        recessed = opening > 0
        reveal = np.zeros(index.size, bool)
        inner = np.flatnonzero(recessed)
        x0, y0, x1, y1, recess = self.openings[opening[inner]].T
        with np.errstate(divide="ignore", invalid="ignore"):
            glass = recess / speed[inner]
            right = np.where(du[inner] > 0, (x1 - left[inner]) / du[inner], (x0 - left[inner]) / du[inner])
            down = np.where(dv[inner] > 0, (y1 - top[inner]) / dv[inner], (y0 - top[inner]) / dv[inner])
        right, down = np.nan_to_num(right, nan=np.inf), np.nan_to_num(down, nan=np.inf)
        way = np.minimum(glass, np.minimum(right, down)).astype(np.float32)
        reveal[inner] = way < glass
        t[inner] += way
        left[inner] += way * du[inner]
        top[inner] += way * dv[inner]
        return reveal, recessed


def screen_boxes(polygons: npt.NDArray[np.float64], camera: Camera) -> list[tuple[slice, slice] | None]:
    """:func:`screen_box` of each of ``[k, n, 3]``; at once for those that lie in front of the camera as a whole."""
    z = polygons[..., 2]
    front = z.min(axis=1) > NEAR
    fx, fy, cx, cy = camera.params
    depth = np.where(front[:, None], z, 1.0)
    x, y = polygons[..., 0] / depth * fx + cx, polygons[..., 1] / depth * fy + cy
    low = np.floor(np.stack([x.min(axis=1), y.min(axis=1)])) - 1
    high = np.ceil(np.stack([x.max(axis=1), y.max(axis=1)])) + 1
    size = np.array([[camera.width], [camera.height]])
    x0, y0, x1, y1 = (v.tolist() for v in np.concatenate([np.clip(v, 0, size) for v in (low, high)]).astype(int))
    boxes: list[tuple[slice, slice] | None] = []
    for i in range(len(polygons)):
        if not front[i]:
            boxes.append(screen_box(polygons[i], camera))
        else:
            boxes.append((slice(y0[i], y1[i]), slice(x0[i], x1[i])) if x1[i] > x0[i] and y1[i] > y0[i] else None)
    return boxes


def screen_box(polygon: npt.NDArray[np.float64], camera: Camera) -> tuple[slice, slice] | None:
    """Rows and columns that a polygon in camera coordinates ``[n, 3]`` may cover, or None where it is out of view."""
    z = polygon[:, 2]
    if z.max() <= NEAR:
        return None
    if z.min() <= NEAR:
        following = np.roll(polygon, -1, 0)
        cut = (z > NEAR) != (following[:, 2] > NEAR)
        share = (NEAR - z[cut]) / (following[cut, 2] - z[cut])
        polygon = np.concatenate([polygon[z > NEAR], polygon[cut] + share[:, None] * (following[cut] - polygon[cut])])
    fx, fy, cx, cy = camera.params
    x, y = polygon[:, 0] / polygon[:, 2] * fx + cx, polygon[:, 1] / polygon[:, 2] * fy + cy
    x0, x1 = int(np.clip(np.floor(x.min()) - 1, 0, camera.width)), int(np.clip(np.ceil(x.max()) + 1, 0, camera.width))
    y0, y1 = int(np.clip(np.floor(y.min()) - 1, 0, camera.height)), int(np.clip(np.ceil(y.max()) + 1, 0, camera.height))
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def solid(surface: Surface, across: Float32, along: Float32) -> npt.NDArray[np.bool_]:
    """Whether a surface with a cutout is there at world coordinates along (u, v) within its rectangle."""
    if surface.cutout is None:
        return np.ones(across.shape, bool)
    rows, columns = surface.cutout.shape
    left = surface.high[0] - across if surface.flipped else across - surface.low[0]
    column = (left * np.float32(columns / surface.size[0])).astype(np.int32)
    row = ((surface.high[1] - along) * np.float32(rows / surface.size[1])).astype(np.int32)
    return np.asarray(surface.cutout[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)])


def gable_cut(surface: Surface, across: Float32) -> Float32:
    """Metres from the top that a gable cuts away at world coordinate ``across``."""
    middle = (surface.low[0] + surface.high[0]) / 2
    slope = np.abs(across - middle) / (surface.size[0] / 2)
    if surface.gable_shape == "steps":
        slope = np.ceil(slope * 4 - 0.5) / 4
    return np.asarray(np.clip(slope, 0, 1) * surface.gable, np.float32)
