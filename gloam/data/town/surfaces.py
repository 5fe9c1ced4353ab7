"""The pieces that a town is made of: axis-aligned textured rectangles, point lamps and the openings in facades.

World frame: x along the street, y to the left of someone who walks along +x, z up; metres.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Texture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Opening:
    """A recessed rectangle of a facade (window, door, shop front).

    ``left, top, right, bottom`` are metres from the facade's top-left corner as seen from outside; ``recess`` is how
    far the glass lies behind the wall, metres.
    """

    left: float
    top: float
    right: float
    bottom: float
    recess: float


@dataclass
class Surface:
    """One rectangle: ``world[axis] == offset``, seen from the side that its normal ``facing`` (+1 or -1) points to.

    Attributes:
        axis: 0, 1 or 2; the remaining axes in ascending order are the rectangle's u and v.
        low, high: range along (u, v), metres.
        texture: uint8 ``[h, w, 4]``; albedo as the square root of reflectance, and the square root of emission.
            Left to right and top to bottom as seen from the side of the normal (from above, +y up, for the ground).
        openings: recessed rectangles of a facade.
        gable: height of the part above the eaves that ``gable_shape`` cuts, metres; 0 for none.
        gable_shape: ``triangle`` or ``steps``.
        tint: RGB factor of what the surface emits.
        cutout: bool ``[h, w]`` over the rectangle, laid out like the texture: rays pass where it is False; None where
            the whole rectangle is solid.
    """

    axis: int
    offset: float
    facing: int
    low: tuple[float, float]
    high: tuple[float, float]
    texture: Texture
    openings: list[Opening] = field(default_factory=list)
    gable: float = 0.0
    gable_shape: str = "triangle"
    tint: tuple[float, float, float] = (1.0, 0.78, 0.45)
    cutout: npt.NDArray[np.bool_] | None = None

    @property
    def u_axis(self) -> int:
        """The world axis that u runs along."""
        return 1 if self.axis == 0 else 0

    @property
    def v_axis(self) -> int:
        """The world axis that v runs along."""
        return 1 if self.axis == 2 else 2

    @property
    def flipped(self) -> bool:
        """Whether left to right, seen from the normal's side, runs against the world axis."""
        return (self.axis, self.facing) in ((0, -1), (1, 1))

    @property
    def size(self) -> tuple[float, float]:
        """Extent along (u, v), metres."""
        return self.high[0] - self.low[0], self.high[1] - self.low[1]

    def world(self, left: npt.ArrayLike, top: npt.ArrayLike) -> Float32:
        """World points float32 ``[..., 3]`` of local coordinates: metres from the left and from the top."""
        across, down = np.asarray(left, np.float32), np.asarray(top, np.float32)
        points = np.empty((*np.broadcast_shapes(across.shape, down.shape), 3), np.float32)
        points[..., self.axis] = self.offset
        points[..., self.u_axis] = self.high[0] - across if self.flipped else self.low[0] + across
        points[..., self.v_axis] = self.high[1] - down
        return points

    def corners(self) -> Float32:
        """World corners float32 ``[4, 3]`` in the order of a polygon."""
        width, height = self.size
        return self.world([0, width, width, 0], [0, 0, height, height])

    def normal(self) -> Float32:
        """Unit normal float32 ``[3]``."""
        vector = np.zeros(3, np.float32)
        vector[self.axis] = self.facing
        return vector


@dataclass(frozen=True)
class Lamp:
    """A point light: ``irradiance = power * colour / distance**2`` on a surface that faces it."""

    position: tuple[float, float, float]
    colour: tuple[float, float, float]
    power: float
    shadows: bool = True


@dataclass
class Plan:
    """Everything of a street that does not depend on the hour.

    Attributes:
        surfaces, lamps: what is there.
        length: of the main street, metres.
        half_width: from the middle of the road to the facades, metres.
        kerb: from the middle of the road to the kerbs, metres.
        crossing: where the side street begins and ends along the main street, metres.
        buildings: (x position, width, height, style) of each building of the two rows, float ``[n, 5]`` with the side.
        alphabet: the street's glyphs, uint8 ``[n, h, w]``.
    """

    surfaces: list[Surface]
    lamps: list[Lamp]
    length: float
    half_width: float
    kerb: float
    crossing: tuple[float, float]
    buildings: npt.NDArray[np.float64]
    alphabet: npt.NDArray[np.uint8]
