"""Draws the ornament that shows a shoe's gender."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mtlbench.rendered.drawing import Canvas, Points, contrast, mix, moved, smooth
from mtlbench.rendered.shoe.foot import Foot
from mtlbench.rendered.shoe.paint import Paint
from mtlbench.rendered.shoe.uppers import Upper


def _edge_of_sole(foot: Foot, share: float, start: float, end: float) -> Points:
    """Return a line along the side of the sole, at `share` of its thickness below the insole."""
    u = np.linspace(start, end, 16)
    return np.stack([foot.across(u), foot.rise(u) - share * foot.thickness(u)], axis=1)


def _cap_and_welt(canvas: Canvas, foot: Foot, upper: Upper, paint: Paint) -> None:
    top = foot.toe_height(0.16)
    cap = smooth([(0.15, 0.01), (0.175, 0.5 * top), (0.165, 0.97 * top)])
    canvas.stroke(foot.at(cap), 0.014, paint.trim, 165)
    canvas.dashes(foot.at(moved(cap, -0.026, 0.0)), 5, 0.014, paint.trim, 165)
    canvas.dashes(_edge_of_sole(foot, 0.15, 0.0, 0.95), 16, 0.018, contrast(paint.sole, paint.trim), 125)


def _piping(canvas: Canvas, foot: Foot, upper: Upper, paint: Paint) -> None:
    for edge in upper.edges:
        canvas.stroke(foot.at(moved(edge, 0.0, -0.008)), 0.022, paint.trim, 185)


def _bow(canvas: Canvas, foot: Foot, upper: Upper, paint: Paint) -> None:
    centre = foot.at([(0.165, 0.66 * foot.toe_height(0.16))])[0]
    for side in (-1.0, 1.0):
        wing = np.array([(0, 0), (0.062, 0.05), (0.075, 0.0), (0.062, -0.05)]) * (side, 1.0)
        canvas.fill(centre + wing, paint.trim, 205)
    canvas.fill(centre + 0.02 * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]), mix(paint.trim, paint.upper, 0.45), 225)


def _bumper_and_lugs(canvas: Canvas, foot: Foot, upper: Upper, paint: Paint) -> None:
    top = foot.toe_height(0.16)
    for u in (0.095, 0.155, 0.215):
        stripe = smooth([(u - 0.012, 0.015), (u, 0.45 * top), (u + 0.02, 0.80 * top)])
        canvas.stroke(foot.at(stripe), 0.024, paint.trim, 170)
    dark = contrast(paint.sole, paint.trim)
    for u in np.linspace(0.03, 0.62, 8):
        below = _edge_of_sole(foot, 0.97, u, u)[0]
        canvas.stroke(np.stack([below, moved(below, 0.0, 0.40 * foot.sole)]), 0.024, dark, 70)


ORNAMENTS: dict[str, Callable[[Canvas, Foot, Upper, Paint], None]] = {
    "Men": _cap_and_welt,
    "Women": _piping,
    "Girls": _bow,
    "Boys": _bumper_and_lugs,
}
