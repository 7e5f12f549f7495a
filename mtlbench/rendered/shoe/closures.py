"""Draws a shoe's closure on its instep, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from mtlbench.rendered.drawing import BLACK, WHITE, Canvas, Points, join, line, luminance, mix, moved, smooth
from mtlbench.rendered.shoe.foot import Foot
from mtlbench.rendered.shoe.paint import Paint


class Zone:
    """The part of the upper with the closure; maps (s, t), from front to back and from low to high, to the world."""

    def __init__(self, foot: Foot, corners: Points) -> None:
        self._foot = foot
        self._corners = corners

    def at(self, points: Points | Sequence[tuple[float, float]]) -> Points:
        """Convert zone coordinates (N, 2) to the world."""
        p = np.asarray(points, dtype=np.float64)
        s, t = p[:, :1], p[:, 1:]
        a, b, c, d = self._corners
        return self._foot.at((1 - t) * ((1 - s) * a + s * d) + t * ((1 - s) * b + s * c))


def _laces(canvas: Canvas, zone: Zone, paint: Paint, rng: np.random.Generator) -> None:
    rows = int(rng.integers(3, 5))
    facing = zone.at(join(line((-0.04, -0.02), (-0.04, 1.0)), line((0.56, 1.0), (0.56, -0.02))))
    canvas.fill(facing, mix(paint.upper, BLACK if luminance(paint.upper) < 0.5 else WHITE, 0.45), 160)
    heights = np.linspace(0.06, 0.86, rows)
    for row in heights:
        for s in (0.03, 0.49):
            canvas.stroke(zone.at([(s - 0.04, row), (s + 0.04, row)]), 0.030, paint.metal, 200)
    for low, high in itertools.pairwise(heights):
        canvas.stroke(zone.at([(0.03, low), (0.49, high)]), 0.036, paint.detail, 225)
        canvas.stroke(zone.at([(0.49, low), (0.03, high)]), 0.036, paint.detail, 235)
    knot = zone.at([(0.24, 0.93)])[0]
    size = rng.uniform(0.9, 1.15)
    for x, y in ((-0.115, 0.050), (0.120, 0.045)):
        loop = smooth([(0, 0), (0.5 * x, 1.3 * y), (x, y), (0.75 * x, -0.5 * y), (0, 0)])
        canvas.stroke(knot + size * loop, 0.034, paint.detail, 240)
    canvas.stroke(knot + size * smooth([(0, 0), (0.06, -0.05), (0.09, -0.12)]), 0.034, paint.detail, 240)


def _zip(canvas: Canvas, zone: Zone, paint: Paint, rng: np.random.Generator) -> None:
    lean = rng.uniform(-0.06, 0.06)
    path = zone.at(smooth([(0.50 + lean, 1.0), (0.52, 0.5), (0.56 - lean, -0.14)], steps=12))
    canvas.stroke(path, 0.126, mix(paint.upper, BLACK, 0.80), 120)
    canvas.dashes(path, 7, 0.058, paint.metal, 215)
    canvas.stroke(moved(path[1:8], 0.050, 0.0), 0.046, paint.metal, 240)


def _strap(canvas: Canvas, zone: Zone, paint: Paint, t: float, width: float, end: float) -> Points:
    """Draw a strap over the instep at height `t`, ending at s = `end`; return its middle line in the world."""
    path = zone.at(smooth([(-0.08, t + 0.02), (0.4, t + 0.03), (end, t - 0.02)]))
    canvas.stroke(path, width + 0.024, mix(paint.upper, BLACK, 0.65), 165)
    canvas.stroke(path, width, mix(paint.detail, paint.upper, 0.1), 200)
    return path


def _velcro(canvas: Canvas, zone: Zone, paint: Paint, rng: np.random.Generator) -> None:
    for t in (0.17, 0.81):
        path = _strap(canvas, zone, paint, t + rng.uniform(-0.03, 0.03), 0.100, 1.04)
        patch = path[-5:]
        canvas.stroke(patch, 0.072, mix(paint.upper, BLACK, 0.6), 190)
        canvas.dashes(moved(path[1:-5], 0.0, 0.030), 4, 0.012, mix(paint.upper, paint.detail, 0.4), 195)


def _buckle(canvas: Canvas, zone: Zone, paint: Paint, rng: np.random.Generator) -> None:
    path = _strap(canvas, zone, paint, 0.52 + rng.uniform(-0.06, 0.06), 0.076, 1.08)
    middle = path[int(rng.integers(7, 9))]
    along = path[-1] - path[0]
    along /= np.linalg.norm(along)
    frame = np.array([(-1, -1.15), (-1, 1.15), (1, 1.15), (1, -1.15), (-1, -1.15)]) @ np.stack(
        [along, along[::-1] * (-1.0, 1.0)]
    )
    canvas.fill(middle + 0.090 * frame, mix(paint.metal, BLACK, 0.75), 200)
    canvas.fill(middle + 0.076 * frame, paint.metal, 240)
    canvas.fill(middle + 0.040 * frame, mix(paint.upper, BLACK, 0.55), 190)
    canvas.stroke(np.stack([middle - 0.070 * along, middle + 0.040 * along]), 0.024, paint.metal, 245)
    for hole in (0.86, 0.94):
        x = path[int(hole * (len(path) - 1))]
        canvas.stroke(np.stack([x - 0.010 * along, x + 0.010 * along]), 0.020, BLACK, 180)


def _slip_on(canvas: Canvas, zone: Zone, paint: Paint, rng: np.random.Generator) -> None:
    """Draw nothing: no closure is visible."""


CLOSERS: dict[str, Callable[[Canvas, Zone, Paint, np.random.Generator], None]] = {
    "Lace up": _laces,
    "Slip-On": _slip_on,
    "Zipper": _zip,
    "Hook and Loop": _velcro,
    "Buckle": _buckle,
}
