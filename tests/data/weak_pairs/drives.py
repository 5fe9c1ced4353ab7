"""Drives of a car around a block of streets as RobotCar publishes them, with image files that hold nothing."""

from __future__ import annotations

import math
from pathlib import Path

EAST, NORTH = 620000.0, 5735000.0
STEP = 20_000  # microseconds between rows of the INS
HEADER = (
    "timestamp,ins_status,latitude,longitude,altitude,northing,easting,down,utm_zone,velocity_north,velocity_east,"
    "velocity_down,roll,pitch,yaw"
)


def around(metres: float, side: float = 100.0, lane: float = 0.0) -> tuple[float, float, float]:
    """Easting, northing and yaw (clockwise from north) after so many metres on a square, ``lane`` metres inside it."""
    leg, along = divmod(metres % (4 * side), side)
    corner = ((lane, along), (along, side - lane), (side - lane, side - along), (side - along, lane))[int(leg)]
    return corner[0], corner[1], (int(leg) * math.pi / 2)


def write_drive(
    folder: Path,
    start: int = 1_400_000_000_000_000,
    images: int = 100,
    speed: float = 10.0,
    lane: float = 0.0,
    every: int = 400_000,
    zone: str = "30U",
) -> list[str]:
    """One traversal at ``speed`` m/s with an image every ``every`` microseconds; the rows of its ``ins.csv``."""
    rows = [HEADER]
    for step in range(images * every // STEP + 2):
        east, north, yaw = around(step * STEP / 1e6 * speed, lane=lane)
        yaw = yaw if yaw <= math.pi else yaw - 2 * math.pi
        place = f"51.7,-1.2,100,{NORTH + north!r},{EAST + east!r},0,{zone}"
        rows.append(f"{start + step * STEP},INS_SOLUTION_GOOD,{place},0,0,0,0,0,{yaw!r}")
    (folder / "gps").mkdir(parents=True)
    (folder / "stereo" / "centre").mkdir(parents=True)
    (folder / "gps" / "ins.csv").write_text("\n".join(rows) + "\n")
    times = [start + 7_000 + number * every for number in range(images)]
    (folder / "stereo.timestamps").write_text("".join(f"{time} 1\n" for time in times))
    for time in times:
        (folder / "stereo" / "centre" / f"{time}.png").touch()
    return rows
