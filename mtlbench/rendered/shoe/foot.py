"""The shape of a shoe: the last that it is built on, and foot coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtlbench.rendered.drawing import Points, line

# Heights of the heel above the ball in foot lengths (ten inches), inside each official range.
HEEL_RANGE = {
    "Flat": (0.0, 0.010),
    "Under 1in": (0.055, 0.080),
    "1in - 1 3/4in": (0.125, 0.165),
    "2in - 2 3/4in": (0.210, 0.255),
    "3in - 3 3/4in": (0.300, 0.345),
}


@dataclass(frozen=True)
class Last:
    """The form that a shoe is built on: toe, proportions, sole. It tells the genders apart."""

    toe: tuple[tuple[float, float], ...]  # outline of the toe in foot coordinates, from the sole to the vamp
    length: float  # of the foot, relative to an adult's
    height: float  # of the upper, relative to a man's
    sole: float  # thickness, foot lengths


LASTS = {
    "Men": Last(((0.00, 0.0), (-0.015, 0.05), (0.005, 0.105), (0.06, 0.135), (0.16, 0.155)), 1.0, 1.04, 0.058),
    "Women": Last(((-0.06, 0.0), (-0.072, 0.014), (-0.03, 0.048), (0.05, 0.092), (0.16, 0.138)), 1.0, 0.94, 0.024),
    "Girls": Last(((0.02, 0.0), (-0.005, 0.05), (0.015, 0.11), (0.07, 0.150), (0.16, 0.165)), 0.84, 1.08, 0.036),
    "Boys": Last(((0.00, 0.0), (-0.030, 0.06), (-0.005, 0.14), (0.06, 0.178), (0.16, 0.180)), 0.84, 1.16, 0.088),
}


def level(start: float, end: float, v: float = 0.0) -> Points:
    """Return a line at the constant height `v` above the insole, with enough points to follow the arch."""
    return line((start, v), (end, v), 16)


@dataclass(frozen=True)
class Foot:
    """Maps foot coordinates to the world: u runs from the toe (0) to the back of the heel (1), v up from the insole.

    In the world, x points right and y up, y = 0 is the insole under the ball of the foot, and units are adult foot
    lengths.
    """

    last: Last
    heel: float
    sole: float

    def rise(self, u: Points) -> Points:
        """Return the height of the insole at `u`: flat under the ball, a smooth arch, and a slight rise at the toe."""
        t = np.clip((u - 0.28) / 0.56, 0.0, 1.0)
        return self.heel * t * t * (3 - 2 * t) + 0.9 * np.clip(0.12 - u, 0.0, 0.2) ** 2

    def across(self, u: Points) -> Points:
        """Return the horizontal position of `u`: a raised heel shortens the foot."""
        shortening = math.sqrt(1 - (self.heel / 0.8) ** 2)
        return 0.5 + (u - 0.5) * shortening * self.last.length

    def thickness(self, u: Points) -> Points:
        """Return the thickness of the sole at `u`: it is thinner under the arch of a shoe with a heel."""
        thinner = 0.45 * min(1.0, self.heel / 0.10) * np.clip((u - 0.30) / 0.2, 0.0, 1.0)
        return np.maximum(self.sole * (1.0 - thinner), 0.018)

    def at(self, points: Points | Sequence[tuple[float, float]]) -> Points:
        """Convert foot coordinates (N, 2) to the world."""
        p = np.asarray(points, dtype=np.float64)
        return np.stack([self.across(p[:, 0]), self.rise(p[:, 0]) + p[:, 1] * self.last.height], axis=1)

    def toe_height(self, u: float) -> float:
        """Return the height v of the vamp's outline at `u`, for details on the toe."""
        top = np.asarray(self.last.toe)[2:]
        return float(np.interp(u, top[:, 0], top[:, 1]))
