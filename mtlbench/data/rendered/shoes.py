"""Shoes drawn by the project, in the official layout of UT-Zappos50K, so that a first run needs no download.

Draws one shoe (`draw_shoe`) and writes a whole set (`render_shoes`). Reading it back, splitting and packing are left to
the UT-Zappos50K reader. Numbers measured on these pictures say nothing about UT-Zappos50K.
"""

from __future__ import annotations

import colorsys
import csv
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mtlbench.data.rendered.drawing import (
    BLACK,
    WHITE,
    Canvas,
    Colour,
    Points,
    background,
    contrast,
    join,
    line,
    luminance,
    mix,
    moved,
    random_colour,
    shadow,
    smooth,
)
from mtlbench.data.rendered.writing import write_set
from mtlbench.errors import UserError

CATEGORIES = ("Shoes", "Boots", "Sandals", "Slippers")
CLOSURES = ("Lace up", "Slip-On", "Zipper", "Hook and Loop", "Buckle")
GENDERS = ("Men", "Women", "Girls", "Boys")
HEELS = ("Flat", "Under 1in", "1in - 1 3/4in", "2in - 2 3/4in", "3in - 3 3/4in")
BRANDS = ("Rendered A", "Rendered B", "Rendered C%2E", "Rendered D & Sons", "Rendered E's")
COLUMNS = ("CID", "Category", "SubCategory", "HeelHeight", "Insole", "Closure", "Gender", "Material", "ToeStyle")

# What the label decides at full conflict, in this order: hue and brightness of the upper, then those of the background.
_CARRIERS = (("category", CATEGORIES), ("gender", GENDERS), ("closure", CLOSURES), ("heel", HEELS))

# Heights of the heel above the ball in foot lengths (ten inches), inside each official range.
_HEEL_RANGE = {
    "Flat": (0.0, 0.010),
    "Under 1in": (0.055, 0.080),
    "1in - 1 3/4in": (0.125, 0.165),
    "2in - 2 3/4in": (0.210, 0.255),
    "3in - 3 3/4in": (0.300, 0.345),
}


@dataclass(frozen=True)
class ShoeAttributes:
    """The four labels of a shoe, each one of `CATEGORIES`, `CLOSURES`, `GENDERS`, `HEELS`."""

    category: str
    closure: str
    gender: str
    heel: str

    @property
    def subcategory(self) -> str:
        """The official SubCategory that fits the four labels best."""
        high = HEELS.index(self.heel) >= 3
        if self.category == "Boots":
            return "Ankle"
        if self.category == "Sandals":
            return "Heel" if high else "Flat"
        if self.category == "Slippers":
            return "Slipper Heels" if high else "Slipper Flats"
        if high:
            return "Heels"
        by_closure = {"Lace up": "Oxfords", "Slip-On": "Loafers", "Hook and Loop": "Sneakers and Athletic Shoes"}
        return by_closure.get(self.closure, "Flats")


@dataclass(frozen=True)
class _Last:
    """The form a shoe is built on, which is what tells the genders apart: toe, proportions, sole."""

    toe: tuple[tuple[float, float], ...]  # outline of the toe in foot coordinates, from the sole to the vamp
    length: float  # of the foot, relative to an adult's
    height: float  # of the upper, relative to a man's
    sole: float  # thickness, foot lengths


_LASTS = {
    "Men": _Last(((0.00, 0.0), (-0.015, 0.05), (0.005, 0.105), (0.06, 0.135), (0.16, 0.155)), 1.0, 1.04, 0.058),
    "Women": _Last(((-0.06, 0.0), (-0.072, 0.014), (-0.03, 0.048), (0.05, 0.092), (0.16, 0.138)), 1.0, 0.94, 0.024),
    "Girls": _Last(((0.02, 0.0), (-0.005, 0.05), (0.015, 0.11), (0.07, 0.150), (0.16, 0.165)), 0.84, 1.08, 0.036),
    "Boys": _Last(((0.00, 0.0), (-0.030, 0.06), (-0.005, 0.14), (0.06, 0.178), (0.16, 0.180)), 0.84, 1.16, 0.088),
}

_STREAMS = ("pose", "colour", "style", "closure", "ornament", "background", "sensor", "carriers")


def _stream(seed: int, name: str) -> np.random.Generator:
    """One generator per aspect, so that what one label draws never shifts the numbers of another."""
    return np.random.default_rng((seed, _STREAMS.index(name)))


# ---------------------------------------------------------------------------------------------------------- geometry


def _level(start: float, end: float, v: float = 0.0) -> Points:
    """A line at the constant height `v` above the insole, dense enough to follow the arch."""
    return line((start, v), (end, v), 16)


@dataclass(frozen=True)
class _Foot:
    """Foot coordinates -> the world: u runs from the toe (0) to the back of the heel (1), v upwards from the insole.

    The world has x to the right, y upwards, the insole under the ball of the foot at y = 0, in adult foot lengths.
    """

    last: _Last
    heel: float
    sole: float

    def rise(self, u: Points) -> Points:
        """Height of the insole at `u`: flat under the ball, a smooth arch, and a little spring at the toe."""
        t = np.clip((u - 0.28) / 0.56, 0.0, 1.0)
        return self.heel * t * t * (3 - 2 * t) + 0.9 * np.clip(0.12 - u, 0.0, 0.2) ** 2

    def across(self, u: Points) -> Points:
        shortening = math.sqrt(1 - (self.heel / 0.8) ** 2)
        return 0.5 + (u - 0.5) * shortening * self.last.length

    def thickness(self, u: Points) -> Points:
        """Of the sole at `u`: thinner under the arch of a shoe that has a heel."""
        thinner = 0.45 * min(1.0, self.heel / 0.10) * np.clip((u - 0.30) / 0.2, 0.0, 1.0)
        return np.maximum(self.sole * (1.0 - thinner), 0.018)

    def at(self, points: Points | Sequence[tuple[float, float]]) -> Points:
        p = np.asarray(points, dtype=np.float64)
        return np.stack([self.across(p[:, 0]), self.rise(p[:, 0]) + p[:, 1] * self.last.height], axis=1)

    def toe_height(self, u: float) -> float:
        """Height v of the vamp's outline at `u`, for details drawn on the toe."""
        top = np.asarray(self.last.toe)[2:]
        return float(np.interp(u, top[:, 0], top[:, 1]))


# ------------------------------------------------------------------------------------------------------------ colour


@dataclass(frozen=True)
class _Paint:
    """Colours of one shoe."""

    upper: Colour
    panel: Colour
    lining: Colour
    sole: Colour
    heel: Colour
    detail: Colour  # closures
    trim: Colour  # ornaments
    stitch: Colour
    metal: Colour
    gloss: float


def _carriers(attributes: ShoeAttributes, seed: int, conflict: float) -> Points:
    """Return what `_CARRIERS` names, (4,) in 0..1: even, be it chance or the label's own part of the range."""
    rng = _stream(seed, "carriers")
    chance, decided = rng.random(4), rng.random(4) < conflict
    code = np.array([values.index(getattr(attributes, label)) for label, values in _CARRIERS])
    return np.where(decided, (code + chance) / [len(values) for _, values in _CARRIERS], chance)


def _paint(seed: int, hue: float, brightness: float) -> _Paint:
    """Colours of a shoe whose upper has a given hue and brightness, both 0..1; the others are chance or follow."""
    rng = _stream(seed, "colour")
    upper = colorsys.hsv_to_rgb(hue, 0.9 * rng.random() ** 0.6, 0.18 + 0.77 * brightness)
    tint, other = random_colour(rng), random_colour(rng)
    panel = mix(upper, other, rng.uniform(0.0, 0.45)) if rng.random() < 0.6 else upper
    sole = (BLACK, (0.45, 0.30, 0.18), WHITE, other)[rng.integers(4)]
    detail = contrast(upper, tint)
    return _Paint(
        upper=upper,
        panel=panel,
        lining=mix(mix(other, (0.8, 0.7, 0.55), 0.6), BLACK, 0.25),
        sole=sole,
        heel=sole if rng.random() < 0.6 else mix(upper, BLACK, 0.25),
        detail=detail,
        trim=contrast(upper, other),
        stitch=mix(upper, detail, 0.6),
        metal=((0.85, 0.72, 0.35), (0.80, 0.82, 0.85))[rng.integers(2)],
        gloss=rng.uniform(0.0, 0.5),
    )


# ------------------------------------------------------------------------------------------- sole, heel and the uppers


def _draw_sole(canvas: Canvas, foot: _Foot, paint: _Paint, style: Points) -> None:
    """The sole, and under its back the heel; the form of the heel is chance, its height is the label."""
    ground = -foot.sole

    def under(u: Points) -> Points:
        return np.stack([foot.across(u), foot.rise(u) - foot.thickness(u)], axis=1)

    def on_ground(u: float) -> Points:
        return np.array([[foot.across(np.array(u)), ground]])

    if foot.heel > 0.02:
        form = int(style[0] * 4)
        if form == 0:  # block
            outline = join(under(np.linspace(0.73, 0.99, 5)), on_ground(0.985), on_ground(0.755))
        elif form == 1:  # cone
            outline = join(under(np.linspace(0.73, 1.0, 5)), on_ground(0.955), on_ground(0.82))
        elif form == 2:  # wedge
            outline = join(under(np.linspace(0.36, 0.995, 12)), on_ground(0.985), on_ground(0.36))
        else:  # stiletto
            top = under(np.linspace(0.77, 1.0, 5))
            waist = foot.across(np.array([0.965, 0.885]))
            y = ground + (top[-1, 1] - ground) * np.array([0.5, 0.55])
            outline = join(top, np.array([[waist[0], y[0]]]), on_ground(0.965), on_ground(0.905), [(waist[1], y[1])])
        canvas.fill(outline, paint.heel, 90)
        tip = outline[outline[:, 1] <= ground + 1e-6]
        canvas.stroke(moved(tip, 0.0, 0.006), 0.018, mix(paint.heel, BLACK, 0.5), 80)
    toe = foot.last.toe[0][0] - 0.015
    canvas.fill(join(foot.at(_level(toe, 1.0, 0.012)), under(np.linspace(1.0, toe, 24))), paint.sole, 110)


@dataclass(frozen=True)
class _Upper:
    """What the later layers need to know of an upper that was drawn."""

    zone: Points  # (4, 2) corners of the closure: front low, front high, back high, back low
    edges: tuple[Points, ...]  # toplines, in foot coordinates


def _low_shoe(canvas: Canvas, foot: _Foot, paint: _Paint, style: Points) -> _Upper:
    tongue, back = (0.455, 0.305 + 0.03 * style[1]), (0.965, 0.285 + 0.04 * style[2])
    dip = 0.205 + 0.03 * style[3]
    collar = smooth([tongue, (0.55, dip + 0.035), (0.68, dip), (0.84, dip + 0.03), back])
    far = smooth([tongue, (0.58, dip + 0.075), (0.74, dip + 0.06), back])
    canvas.fill(foot.at(join(far, collar[::-1])), paint.lining, 70)
    front = smooth([*foot.last.toe, (0.30, 0.205), tongue])
    heel = smooth([back, (1.0, 0.19), (1.008, 0.09), (0.99, 0.0)])
    canvas.fill(foot.at(join(front, collar, heel, _level(0.98, 0.0))), paint.upper, 150, body=True)
    counter = smooth([(0.79, 0.0), (0.82, 0.11), (0.89, dip + 0.03)])
    rear = smooth([(0.945, dip + 0.05), (0.992, 0.17), (1.0, 0.09), (0.982, 0.0)])
    canvas.fill(foot.at(join(counter, rear)), paint.panel, 156)
    canvas.stroke(foot.at(counter), 0.010, mix(paint.panel, BLACK, 0.45), 135)
    canvas.dashes(foot.at(moved(counter, 0.020, 0.0)), 6, 0.010, paint.stitch, 156)
    return _Upper(np.array([(0.285, 0.185), (0.465, 0.300), (0.66, dip - 0.01), (0.50, 0.035)]), (collar,))


def _boot(canvas: Canvas, foot: _Foot, paint: _Paint, style: Points) -> _Upper:
    top = 0.58 + 0.08 * style[1]
    slant = 0.05 * (style[2] - 0.5)
    front, back = (0.50, top + slant), (0.945, top - slant)
    collar = smooth([front, (0.72, top - 0.02 - 0.03 * style[3]), back])
    far = smooth([front, (0.72, top + 0.035), back])
    canvas.fill(foot.at(join(far, collar[::-1])), paint.lining, 70)
    instep = smooth([*foot.last.toe, (0.29, 0.205), (0.40, 0.29), (0.465, 0.40), (0.49, 0.50), front])
    heel = smooth([back, (0.935, 0.42), (0.955, 0.30), (1.0, 0.17), (1.005, 0.08), (0.99, 0.0)])
    canvas.fill(foot.at(join(instep, collar, heel, _level(0.98, 0.0))), paint.upper, 150, body=True)
    counter = smooth([(0.77, 0.0), (0.81, 0.13), (0.89, 0.23), (0.955, 0.26)])
    canvas.fill(foot.at(join(counter, smooth([(0.990, 0.17), (0.998, 0.08), (0.982, 0.0)]))), paint.panel, 156)
    canvas.stroke(foot.at(counter), 0.010, mix(paint.panel, BLACK, 0.45), 135)
    canvas.dashes(foot.at(moved(counter, 0.016, -0.016)), 7, 0.010, paint.stitch, 156)
    return _Upper(
        np.array([(0.375, 0.255), (0.505, top - 0.03), (0.74, top - 0.05), (0.62, 0.14)]),
        (moved(collar, 0.0, -0.012),),
    )


def _sandal(canvas: Canvas, foot: _Foot, paint: _Paint, style: Points) -> _Upper:
    bed = foot.last.toe[0][0] - 0.01
    canvas.fill(foot.at(join(_level(bed, 0.99, 0.03), _level(0.99, bed))), paint.lining, 118)
    ankle = 0.27 + 0.05 * style[1]
    shade = mix(paint.upper, BLACK, 0.45)
    behind = smooth([(0.50, ankle), (0.70, ankle + 0.050), (0.88, ankle + 0.025), (0.955, ankle - 0.05)])
    canvas.stroke(foot.at(behind), 0.030, shade, 80)
    canvas.stroke(foot.at(smooth([(0.30, 0.02), (0.36, 0.15), (0.43, ankle - 0.01)])), 0.04, shade, 80)
    cup = join(
        smooth([(0.80, 0.0), (0.86, 0.07), (0.915, 0.12), (0.935, ankle - 0.05)]),
        smooth([(0.980, ankle - 0.05), (1.0, 0.15), (1.006, 0.08), (0.985, 0.0)]),
    )
    canvas.fill(foot.at(join(cup, _level(0.98, 0.80))), paint.panel, 150, body=True)
    sling = smooth(
        [(0.52, ankle), (0.66, ankle - 0.012), (0.82, ankle - 0.008), (0.92, ankle - 0.02), (0.957, ankle - 0.07)]
    )
    canvas.stroke(foot.at(sling), 0.040, paint.upper, 165)
    height = foot.toe_height(0.16)
    front = smooth([(0.055, 0.0), (0.075, 0.6 * height), (0.12, height)])
    rear = smooth([(0.215, height + 0.02), (0.255, 0.09), (0.265, 0.0)])
    canvas.fill(foot.at(join(front, rear, _level(0.265, 0.055))), paint.upper, 150, body=True)
    low = smooth([(0.345, 0.0), (0.355, 0.13), (0.40, ankle)])
    high = smooth([(0.57, ankle + 0.012), (0.605, 0.14), (0.635, 0.0)])
    canvas.fill(foot.at(join(low, high, _level(0.635, 0.345))), paint.upper, 150, body=True)
    return _Upper(
        np.array([(0.36, 0.085), (0.40, ankle - 0.005), (0.57, ankle), (0.605, 0.03)]),
        (moved(front, 0.012, 0.0), moved(rear, -0.012, 0.0), moved(low, 0.012, 0.0), moved(high, -0.012, 0.0)),
    )


def _slipper(canvas: Canvas, foot: _Foot, paint: _Paint, style: Points) -> _Upper:
    pad = smooth([(0.40, 0.034), (0.55, 0.032), (0.70, 0.032), (0.85, 0.034), (0.96, 0.030), (0.992, 0.0)])
    canvas.fill(foot.at(join(pad, _level(0.98, 0.40))), paint.lining, 118)
    lip = (0.49 + 0.03 * style[1], 0.285 + 0.03 * style[2])
    edge = smooth([lip, (lip[0] + 0.065, 0.20), (lip[0] + 0.085, 0.09), (lip[0] + 0.09, 0.0)])
    far = smooth([lip, (lip[0] + 0.11, 0.21), (lip[0] + 0.13, 0.10), (lip[0] + 0.13, 0.02)])
    canvas.fill(foot.at(join(far, edge[::-1])), mix(paint.lining, BLACK, 0.35), 80)
    front = smooth([*foot.last.toe, (0.30, 0.215), lip])
    canvas.fill(foot.at(join(front, edge, _level(edge[-1, 0], 0.0))), paint.upper, 150, body=True)
    if style[3] < 0.5:
        canvas.stroke(foot.at(edge), 0.045, mix(paint.lining, WHITE, 0.5), 165)
    else:
        canvas.dashes(foot.at(moved(edge, -0.022, 0.0)), 8, 0.010, paint.stitch, 150)
    return _Upper(
        np.array([(0.265, 0.175), (lip[0] - 0.02, lip[1] - 0.015), (lip[0] + 0.055, 0.11), (0.43, 0.025)]),
        (moved(edge, -0.03, 0.0),),
    )


_UPPERS: dict[str, Callable[[Canvas, _Foot, _Paint, Points], _Upper]] = {
    "Shoes": _low_shoe,
    "Boots": _boot,
    "Sandals": _sandal,
    "Slippers": _slipper,
}

# ---------------------------------------------------------------------------------------------------------- closures


class _Zone:
    """The part of the upper that carries the closure: (s, t) from front to back and from low to high -> the world."""

    def __init__(self, foot: _Foot, corners: Points) -> None:
        self._foot = foot
        self._corners = corners

    def at(self, points: Points | Sequence[tuple[float, float]]) -> Points:
        p = np.asarray(points, dtype=np.float64)
        s, t = p[:, :1], p[:, 1:]
        a, b, c, d = self._corners
        return self._foot.at((1 - t) * ((1 - s) * a + s * d) + t * ((1 - s) * b + s * c))


def _laces(canvas: Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
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


def _zip(canvas: Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
    lean = rng.uniform(-0.06, 0.06)
    path = zone.at(smooth([(0.50 + lean, 1.0), (0.52, 0.5), (0.56 - lean, -0.14)], steps=12))
    canvas.stroke(path, 0.126, mix(paint.upper, BLACK, 0.80), 120)
    canvas.dashes(path, 7, 0.058, paint.metal, 215)
    canvas.stroke(moved(path[1:8], 0.050, 0.0), 0.046, paint.metal, 240)


def _strap(canvas: Canvas, zone: _Zone, paint: _Paint, t: float, width: float, end: float) -> Points:
    """A strap over the instep at height `t`, ending at s = `end`; returns its middle line in the world."""
    path = zone.at(smooth([(-0.08, t + 0.02), (0.4, t + 0.03), (end, t - 0.02)]))
    canvas.stroke(path, width + 0.024, mix(paint.upper, BLACK, 0.65), 165)
    canvas.stroke(path, width, mix(paint.detail, paint.upper, 0.1), 200)
    return path


def _velcro(canvas: Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
    for t in (0.17, 0.81):
        path = _strap(canvas, zone, paint, t + rng.uniform(-0.03, 0.03), 0.100, 1.04)
        patch = path[-5:]
        canvas.stroke(patch, 0.072, mix(paint.upper, BLACK, 0.6), 190)
        canvas.dashes(moved(path[1:-5], 0.0, 0.030), 4, 0.012, mix(paint.upper, paint.detail, 0.4), 195)


def _buckle(canvas: Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
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


def _slip_on(canvas: Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
    """Nothing closes the shoe: the upper stays as it is."""


_CLOSERS: dict[str, Callable[[Canvas, _Zone, _Paint, np.random.Generator], None]] = {
    "Lace up": _laces,
    "Slip-On": _slip_on,
    "Zipper": _zip,
    "Hook and Loop": _velcro,
    "Buckle": _buckle,
}

# --------------------------------------------------------------------------------------------- ornaments of the genders


def _edge_of_sole(foot: _Foot, share: float, start: float, end: float) -> Points:
    """A line along the side of the sole, at `share` of its thickness below the insole."""
    u = np.linspace(start, end, 16)
    return np.stack([foot.across(u), foot.rise(u) - share * foot.thickness(u)], axis=1)


def _cap_and_welt(canvas: Canvas, foot: _Foot, upper: _Upper, paint: _Paint) -> None:
    top = foot.toe_height(0.16)
    cap = smooth([(0.15, 0.01), (0.175, 0.5 * top), (0.165, 0.97 * top)])
    canvas.stroke(foot.at(cap), 0.014, paint.trim, 165)
    canvas.dashes(foot.at(moved(cap, -0.026, 0.0)), 5, 0.014, paint.trim, 165)
    canvas.dashes(_edge_of_sole(foot, 0.15, 0.0, 0.95), 16, 0.018, contrast(paint.sole, paint.trim), 125)


def _piping(canvas: Canvas, foot: _Foot, upper: _Upper, paint: _Paint) -> None:
    for edge in upper.edges:
        canvas.stroke(foot.at(moved(edge, 0.0, -0.008)), 0.022, paint.trim, 185)


def _bow(canvas: Canvas, foot: _Foot, upper: _Upper, paint: _Paint) -> None:
    centre = foot.at([(0.165, 0.66 * foot.toe_height(0.16))])[0]
    for side in (-1.0, 1.0):
        wing = np.array([(0, 0), (0.062, 0.05), (0.075, 0.0), (0.062, -0.05)]) * (side, 1.0)
        canvas.fill(centre + wing, paint.trim, 205)
    canvas.fill(centre + 0.02 * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]), mix(paint.trim, paint.upper, 0.45), 225)


def _bumper_and_lugs(canvas: Canvas, foot: _Foot, upper: _Upper, paint: _Paint) -> None:
    top = foot.toe_height(0.16)
    for u in (0.095, 0.155, 0.215):
        stripe = smooth([(u - 0.012, 0.015), (u, 0.45 * top), (u + 0.02, 0.80 * top)])
        canvas.stroke(foot.at(stripe), 0.024, paint.trim, 170)
    dark = contrast(paint.sole, paint.trim)
    for u in np.linspace(0.03, 0.62, 8):
        below = _edge_of_sole(foot, 0.97, u, u)[0]
        canvas.stroke(np.stack([below, moved(below, 0.0, 0.40 * foot.sole)]), 0.024, dark, 70)


_ORNAMENTS: dict[str, Callable[[Canvas, _Foot, _Upper, _Paint], None]] = {
    "Men": _cap_and_welt,
    "Women": _piping,
    "Girls": _bow,
    "Boys": _bumper_and_lugs,
}

# ------------------------------------------------------------------------------------------------------- the picture

_TOP = {"Shoes": 0.37, "Boots": 0.72, "Sandals": 0.37, "Slippers": 0.36}  # of the upper above the insole, foot lengths


def _canvas(attributes: ShoeAttributes, seed: int, width: int, height: int, scale: int) -> tuple[Canvas, Points]:
    """An empty canvas in a random pose, and where the ground is: toe, heel in pixels of the final picture (2, 2).

    The pose knows the category and the heel, because a tall shoe must fit, but neither closure nor gender.
    """
    rng = _stream(seed, "pose")
    tall = _TOP[attributes.category] + _HEEL_RANGE[attributes.heel][1] + 0.09
    unit = min(0.84 * width / 1.08, 0.90 * height / tall) * rng.uniform(0.82, 1.0)
    angle = math.radians(rng.uniform(-6.0, 6.0))
    flip = -1.0 if rng.random() < 0.4 else 1.0
    centre = (0.5 * width, 0.5 * height) + (rng.random(2) - 0.5) * (
        0.9 * width - 1.0 * unit,
        0.92 * height - tall * unit,
    )
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    matrix = unit * np.array([[flip, 0.0], [0.0, -1.0]]) @ turn
    offset = centre - np.array([0.48, tall / 2 - 0.08]) @ matrix
    ground = np.array([[0.0, -0.06], [1.0, -0.06]]) @ matrix + offset
    return Canvas((width * scale, height * scale), matrix * scale, offset * scale), ground


def draw_shoe(
    attributes: ShoeAttributes, seed: int, width: int = 136, height: int = 102, conflict: float = 0.0
) -> Image.Image:
    """Draw one shoe as an RGB picture of `width` × `height` pixels; the same arguments give the same pixels.

    Each label has its own evidence. Category: the silhouette. Closure: what is drawn on the instep, and nothing else.
    Heel: the height of the heel, which tilts the foot. Gender: the last (toe, proportions), the sole's thickness and
    edge, and an ornament. Light and clutter come from `seed` alone; so do the colours at `conflict` 0 (see
    `render_shoes`), and the pose, but for its scale and place, which let a tall shoe fit into the picture.
    Raises ValueError for a label that is not a known one.
    """
    scale = max(3, min(5, round(288 / width)))
    style = _stream(seed, "style").random(8)
    hue, brightness, ground_hue, ground_brightness = _carriers(attributes, seed, conflict).tolist()
    paint = _paint(seed, hue, brightness)
    canvas, ground = _canvas(attributes, seed, width, height, scale)
    low, high = _HEEL_RANGE[attributes.heel]
    last = _LASTS[attributes.gender]
    foot = _Foot(last, low + (high - low) * style[4], last.sole * (0.9 + 0.2 * style[5]))

    _draw_sole(canvas, foot, paint, style)
    upper = _UPPERS[attributes.category](canvas, foot, paint, style)
    _ORNAMENTS[attributes.gender](canvas, foot, upper, paint)
    _CLOSERS[attributes.closure](canvas, _Zone(foot, upper.zone), paint, _stream(seed, "closure"))

    rng = _stream(seed, "background")
    base = colorsys.hsv_to_rgb(ground_hue, 0.8 * rng.random(), 0.25 + 0.73 * ground_brightness)
    behind = background(rng, width, height, paint.upper, base)
    behind *= 1.0 - shadow(rng, width, height, ground)
    return canvas.finish(_stream(seed, "sensor"), paint.gloss, behind, scale)


# ----------------------------------------------------------------------------------------------------- a set on disk


@dataclass(frozen=True)
class _Item:
    """One image of a set but its pixels: everything that follows from (seed, index)."""

    attributes: ShoeAttributes
    seed: int
    cid: str
    brand: str
    quality: int

    @property
    def path(self) -> Path:
        name = self.cid.replace("-", ".") + ".jpg"
        return Path("ut-zap50k-images", self.attributes.category, self.attributes.subcategory, self.brand, name)


def _item(seed: int, index: int) -> _Item:
    rng = np.random.default_rng((seed, index))
    return _Item(
        attributes=ShoeAttributes(*(v[rng.integers(len(v))] for v in (CATEGORIES, CLOSURES, GENDERS, HEELS))),
        seed=int(rng.integers(2**62)),
        cid=f"{900001 + index}-{rng.integers(1, 100)}",
        brand=BRANDS[rng.integers(len(BRANDS))],
        quality=int(rng.integers(70, 93)),
    )


def _write_images(seed: int, conflict: float, width: int, height: int, root: Path, indices: range) -> int:
    for index in indices:
        item = _item(seed, index)
        path = root / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_shoe(item.attributes, item.seed, width, height, conflict).save(path, quality=item.quality)
    return len(indices)


def _write_table(path: Path, items: Iterable[_Item]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for item in items:
            a = item.attributes
            writer.writerow([item.cid, a.category, a.subcategory, a.heel, "", a.closure, a.gender, "", ""])


def render_shoes(
    root: Path,
    count: int,
    seed: int = 0,
    width: int = 96,
    height: int = 72,
    progress: Callable[[int], None] | None = None,
    conflict: float = 0.0,
) -> None:
    """Write `count` shoes of `width` × `height` pixels under `root`, in the official layout of UT-Zappos50K.

    Image i depends on (`seed`, i) and the other arguments but not on `count`: the first images of a longer set are
    those of a shorter one, pixel for pixel. Every value of a label is equally likely, independently of the other
    labels. SubCategory follows from the four labels; Insole, Material and ToeStyle are left empty.

    `conflict` sets how much the tasks' evidence competes; files and labels are the same at every conflict. At 0 the hue
    of the upper, its brightness, the hue of the background and its brightness are chance, evenly spread. In general
    category, gender, closure and heel, in this order, each decide one of the four with probability `conflict`, for
    every image independently: a label with k values picks one of k equal parts of the range, and chance the place in
    it. At 0 every task does well to ignore these colours, and gradients agree on that. At 1 what one task has to keep
    apart is what the three others have to ignore, in the same pixels. Over a set the colours are spread as before, the
    evidence in the drawing stays where it is, and nothing of one label can be told from another.

    `progress` is called with the number of images newly written. The set appears at `root` whole or not at all.
    Raises UserError where `root` holds something already or an argument is out of its range.
    """
    if count < 1 or seed < 0 or min(width, height) < 16 or not 0.0 <= conflict <= 1.0:
        raise UserError(
            f"{count} shoes of {width}x{height} pixels, seed {seed}, conflict {conflict} can't be rendered: ask for at"
            " least one image of at least 16x16 pixels, a seed from 0 and a conflict from 0 to 1."
        )

    def labels(folder: Path) -> None:
        _write_table(folder / "ut-zap50k-data" / "meta-data.csv", (_item(seed, i) for i in range(count)))

    facts: dict[str, str | int | float] = {"what": "shoes", "seed": seed, "conflict": conflict}
    write_set(root, count, functools.partial(_write_images, seed, conflict, width, height), labels, facts, progress)
