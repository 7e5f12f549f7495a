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
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mtlbench.errors import UserError

CATEGORIES = ("Shoes", "Boots", "Sandals", "Slippers")
CLOSURES = ("Lace up", "Slip-On", "Zipper", "Hook and Loop", "Buckle")
GENDERS = ("Men", "Women", "Girls", "Boys")
HEELS = ("Flat", "Under 1in", "1in - 1 3/4in", "2in - 2 3/4in", "3in - 3 3/4in")
BRANDS = ("Rendered A", "Rendered B", "Rendered C%2E", "Rendered D & Sons", "Rendered E's")
COLUMNS = ("CID", "Category", "SubCategory", "HeelHeight", "Insole", "Closure", "Gender", "Material", "ToeStyle")

# What closure, gender and heel become on an image whose label is tied to its category (see `render_shoes`).
_TIED = {
    "Shoes": ("Lace up", "Men", "Under 1in"),
    "Boots": ("Zipper", "Women", "3in - 3 3/4in"),
    "Sandals": ("Buckle", "Girls", "2in - 2 3/4in"),
    "Slippers": ("Slip-On", "Boys", "Flat"),
}

# Heights of the heel above the ball in foot lengths (ten inches), inside each official range.
_HEEL_RANGE = {
    "Flat": (0.0, 0.010),
    "Under 1in": (0.055, 0.080),
    "1in - 1 3/4in": (0.125, 0.165),
    "2in - 2 3/4in": (0.210, 0.255),
    "3in - 3 3/4in": (0.300, 0.345),
}

Points = NDArray[np.float64]
Colour = tuple[float, float, float]


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

_STREAMS = ("pose", "colour", "style", "closure", "ornament", "background", "sensor")


def _stream(seed: int, name: str) -> np.random.Generator:
    """One generator per aspect, so that what one label draws never shifts the numbers of another."""
    return np.random.default_rng((seed, _STREAMS.index(name)))


# ---------------------------------------------------------------------------------------------------------- geometry


@functools.cache
def _catmull_rom(steps: int) -> Points:
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None] ** np.arange(4)
    basis: Points = t @ np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    return basis


def _smooth(points: Sequence[tuple[float, float]] | Points, steps: int = 6) -> Points:
    """An open Catmull-Rom curve through `points` (N, 2)."""
    p = np.asarray(points, dtype=np.float64)
    padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    windows = np.stack([padded[i : i + len(p) - 1] for i in range(4)], axis=1)
    return np.concatenate([(_catmull_rom(steps) @ windows).reshape(-1, 2), p[-1:]])


def _line(start: tuple[float, float], end: tuple[float, float], count: int = 9) -> Points:
    t = np.linspace(0.0, 1.0, count)[:, None]
    return np.asarray(start) * (1 - t) + np.asarray(end) * t


def _join(*parts: Points | Sequence[tuple[float, float]]) -> Points:
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])


def _moved(points: Points, x: float, y: float) -> Points:
    moved: Points = points + np.array([x, y])
    return moved


def _level(start: float, end: float, v: float = 0.0) -> Points:
    """A line at the constant height `v` above the insole, dense enough to follow the arch."""
    return _line((start, v), (end, v), 16)


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


class _Canvas:
    """Supersampled layers of one shoe: colour, relief (0 outside it), and the body that is shaded as one volume."""

    def __init__(self, size: tuple[int, int], matrix: Points, offset: Points) -> None:
        self.colour = Image.new("RGB", size)
        self.relief = Image.new("L", size)
        self.body = Image.new("L", size)
        self._draw = tuple(ImageDraw.Draw(layer) for layer in (self.colour, self.relief, self.body))
        self._matrix = matrix
        self._offset = offset

    def fill(self, world: Points, colour: Colour, level: int, body: bool = False) -> None:
        flat = (world @ self._matrix + self._offset).ravel().tolist()
        self._draw[0].polygon(flat, fill=_bytes(colour))
        self._draw[1].polygon(flat, fill=level)
        if body:
            self._draw[2].polygon(flat, fill=255)

    def stroke(self, world: Points, width: float, colour: Colour, level: int) -> None:
        """A band of `width` world units along the polyline `world` (N, 2)."""
        along = np.gradient(world, axis=0)
        normal = along[:, ::-1] * (-1.0, 1.0) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
        side = normal * (width / 2)
        self.fill(np.concatenate([world + side, (world - side)[::-1]]), colour, level)

    def dashes(self, world: Points, count: int, width: float, colour: Colour, level: int) -> None:
        """`count` stitches along the polyline `world`."""
        t = np.linspace(0, len(world) - 1, 2 * count)
        index = np.arange(len(world))
        x, y = np.interp(t, index, world[:, 0]), np.interp(t, index, world[:, 1])
        for i in range(0, 2 * count, 2):
            self.stroke(np.stack([x[i : i + 2], y[i : i + 2]], axis=1), width, colour, level)


# ------------------------------------------------------------------------------------------------------------ colour


def _bytes(colour: Colour) -> tuple[int, int, int]:
    r, g, b = (max(0, min(255, round(255 * c))) for c in colour)
    return r, g, b


def _luminance(colour: Colour) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def _mix(a: Colour, b: Colour, t: float) -> Colour:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


_BLACK, _WHITE = (0.05, 0.05, 0.05), (0.96, 0.95, 0.92)


def _contrast(colour: Colour, tint: Colour) -> Colour:
    """`tint` made so much lighter or darker than `colour` that a detail in it can be read."""
    return _mix(tint, _WHITE, 0.72) if _luminance(colour) < 0.5 else _mix(tint, _BLACK, 0.72)


def _random_colour(rng: np.random.Generator) -> Colour:
    return colorsys.hsv_to_rgb(rng.random(), rng.random() ** 0.7 * 0.85, rng.uniform(0.18, 0.95))


@dataclass(frozen=True)
class _Paint:
    """Colours of one shoe, drawn independently of every label."""

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


def _paint(seed: int) -> _Paint:
    rng = _stream(seed, "colour")
    upper, tint, other = _random_colour(rng), _random_colour(rng), _random_colour(rng)
    panel = _mix(upper, other, rng.uniform(0.0, 0.45)) if rng.random() < 0.6 else upper
    sole = (_BLACK, (0.45, 0.30, 0.18), _WHITE, other)[rng.integers(4)]
    detail = _contrast(upper, tint)
    return _Paint(
        upper=upper,
        panel=panel,
        lining=_mix(_mix(other, (0.8, 0.7, 0.55), 0.6), _BLACK, 0.25),
        sole=sole,
        heel=sole if rng.random() < 0.6 else _mix(upper, _BLACK, 0.25),
        detail=detail,
        trim=_contrast(upper, other),
        stitch=_mix(upper, detail, 0.6),
        metal=((0.85, 0.72, 0.35), (0.80, 0.82, 0.85))[rng.integers(2)],
        gloss=rng.uniform(0.0, 0.5),
    )


# ------------------------------------------------------------------------------------------- sole, heel and the uppers


def _draw_sole(canvas: _Canvas, foot: _Foot, paint: _Paint, style: Points) -> None:
    """The sole, and under its back the heel; the form of the heel is chance, its height is the label."""
    ground = -foot.sole

    def under(u: Points) -> Points:
        return np.stack([foot.across(u), foot.rise(u) - foot.thickness(u)], axis=1)

    def on_ground(u: float) -> Points:
        return np.array([[foot.across(np.array(u)), ground]])

    if foot.heel > 0.02:
        form = int(style[0] * 4)
        if form == 0:  # block
            outline = _join(under(np.linspace(0.73, 0.99, 5)), on_ground(0.985), on_ground(0.755))
        elif form == 1:  # cone
            outline = _join(under(np.linspace(0.73, 1.0, 5)), on_ground(0.955), on_ground(0.82))
        elif form == 2:  # wedge
            outline = _join(under(np.linspace(0.36, 0.995, 12)), on_ground(0.985), on_ground(0.36))
        else:  # stiletto
            top = under(np.linspace(0.77, 1.0, 5))
            waist = foot.across(np.array([0.965, 0.885]))
            y = ground + (top[-1, 1] - ground) * np.array([0.5, 0.55])
            outline = _join(top, np.array([[waist[0], y[0]]]), on_ground(0.965), on_ground(0.905), [(waist[1], y[1])])
        canvas.fill(outline, paint.heel, 90)
        tip = outline[outline[:, 1] <= ground + 1e-6]
        canvas.stroke(_moved(tip, 0.0, 0.006), 0.018, _mix(paint.heel, _BLACK, 0.5), 80)
    toe = foot.last.toe[0][0] - 0.015
    canvas.fill(_join(foot.at(_level(toe, 1.0, 0.012)), under(np.linspace(1.0, toe, 24))), paint.sole, 110)


@dataclass(frozen=True)
class _Upper:
    """What the later layers need to know of an upper that was drawn."""

    zone: Points  # (4, 2) corners of the closure: front low, front high, back high, back low
    edges: tuple[Points, ...]  # toplines, in foot coordinates


def _low_shoe(canvas: _Canvas, foot: _Foot, paint: _Paint, style: Points) -> _Upper:
    tongue, back = (0.455, 0.305 + 0.03 * style[1]), (0.965, 0.285 + 0.04 * style[2])
    dip = 0.205 + 0.03 * style[3]
    collar = _smooth([tongue, (0.55, dip + 0.035), (0.68, dip), (0.84, dip + 0.03), back])
    far = _smooth([tongue, (0.58, dip + 0.075), (0.74, dip + 0.06), back])
    canvas.fill(foot.at(_join(far, collar[::-1])), paint.lining, 70)
    front = _smooth([*foot.last.toe, (0.30, 0.205), tongue])
    heel = _smooth([back, (1.0, 0.19), (1.008, 0.09), (0.99, 0.0)])
    canvas.fill(foot.at(_join(front, collar, heel, _level(0.98, 0.0))), paint.upper, 150, body=True)
    counter = _smooth([(0.79, 0.0), (0.82, 0.11), (0.89, dip + 0.03)])
    rear = _smooth([(0.945, dip + 0.05), (0.992, 0.17), (1.0, 0.09), (0.982, 0.0)])
    canvas.fill(foot.at(_join(counter, rear)), paint.panel, 156)
    canvas.stroke(foot.at(counter), 0.010, _mix(paint.panel, _BLACK, 0.45), 135)
    canvas.dashes(foot.at(_moved(counter, 0.020, 0.0)), 6, 0.010, paint.stitch, 156)
    return _Upper(np.array([(0.285, 0.185), (0.465, 0.300), (0.66, dip - 0.01), (0.50, 0.035)]), (collar,))


def _boot(canvas: _Canvas, foot: _Foot, paint: _Paint, style: Points) -> _Upper:
    top = 0.58 + 0.08 * style[1]
    slant = 0.05 * (style[2] - 0.5)
    front, back = (0.50, top + slant), (0.945, top - slant)
    collar = _smooth([front, (0.72, top - 0.02 - 0.03 * style[3]), back])
    far = _smooth([front, (0.72, top + 0.035), back])
    canvas.fill(foot.at(_join(far, collar[::-1])), paint.lining, 70)
    instep = _smooth([*foot.last.toe, (0.29, 0.205), (0.40, 0.29), (0.465, 0.40), (0.49, 0.50), front])
    heel = _smooth([back, (0.935, 0.42), (0.955, 0.30), (1.0, 0.17), (1.005, 0.08), (0.99, 0.0)])
    canvas.fill(foot.at(_join(instep, collar, heel, _level(0.98, 0.0))), paint.upper, 150, body=True)
    counter = _smooth([(0.77, 0.0), (0.81, 0.13), (0.89, 0.23), (0.955, 0.26)])
    canvas.fill(foot.at(_join(counter, _smooth([(0.990, 0.17), (0.998, 0.08), (0.982, 0.0)]))), paint.panel, 156)
    canvas.stroke(foot.at(counter), 0.010, _mix(paint.panel, _BLACK, 0.45), 135)
    canvas.dashes(foot.at(_moved(counter, 0.016, -0.016)), 7, 0.010, paint.stitch, 156)
    return _Upper(
        np.array([(0.375, 0.255), (0.505, top - 0.03), (0.74, top - 0.05), (0.62, 0.14)]),
        (_moved(collar, 0.0, -0.012),),
    )


def _sandal(canvas: _Canvas, foot: _Foot, paint: _Paint, style: Points) -> _Upper:
    bed = foot.last.toe[0][0] - 0.01
    canvas.fill(foot.at(_join(_level(bed, 0.99, 0.03), _level(0.99, bed))), paint.lining, 118)
    ankle = 0.27 + 0.05 * style[1]
    shade = _mix(paint.upper, _BLACK, 0.45)
    behind = _smooth([(0.50, ankle), (0.70, ankle + 0.050), (0.88, ankle + 0.025), (0.955, ankle - 0.05)])
    canvas.stroke(foot.at(behind), 0.030, shade, 80)
    canvas.stroke(foot.at(_smooth([(0.30, 0.02), (0.36, 0.15), (0.43, ankle - 0.01)])), 0.04, shade, 80)
    cup = _join(
        _smooth([(0.80, 0.0), (0.86, 0.07), (0.915, 0.12), (0.935, ankle - 0.05)]),
        _smooth([(0.980, ankle - 0.05), (1.0, 0.15), (1.006, 0.08), (0.985, 0.0)]),
    )
    canvas.fill(foot.at(_join(cup, _level(0.98, 0.80))), paint.panel, 150, body=True)
    sling = _smooth(
        [(0.52, ankle), (0.66, ankle - 0.012), (0.82, ankle - 0.008), (0.92, ankle - 0.02), (0.957, ankle - 0.07)]
    )
    canvas.stroke(foot.at(sling), 0.040, paint.upper, 165)
    height = foot.toe_height(0.16)
    front = _smooth([(0.055, 0.0), (0.075, 0.6 * height), (0.12, height)])
    rear = _smooth([(0.215, height + 0.02), (0.255, 0.09), (0.265, 0.0)])
    canvas.fill(foot.at(_join(front, rear, _level(0.265, 0.055))), paint.upper, 150, body=True)
    low = _smooth([(0.345, 0.0), (0.355, 0.13), (0.40, ankle)])
    high = _smooth([(0.57, ankle + 0.012), (0.605, 0.14), (0.635, 0.0)])
    canvas.fill(foot.at(_join(low, high, _level(0.635, 0.345))), paint.upper, 150, body=True)
    return _Upper(
        np.array([(0.36, 0.085), (0.40, ankle - 0.005), (0.57, ankle), (0.605, 0.03)]),
        (_moved(front, 0.012, 0.0), _moved(rear, -0.012, 0.0), _moved(low, 0.012, 0.0), _moved(high, -0.012, 0.0)),
    )


def _slipper(canvas: _Canvas, foot: _Foot, paint: _Paint, style: Points) -> _Upper:
    pad = _smooth([(0.40, 0.034), (0.55, 0.032), (0.70, 0.032), (0.85, 0.034), (0.96, 0.030), (0.992, 0.0)])
    canvas.fill(foot.at(_join(pad, _level(0.98, 0.40))), paint.lining, 118)
    lip = (0.49 + 0.03 * style[1], 0.285 + 0.03 * style[2])
    edge = _smooth([lip, (lip[0] + 0.065, 0.20), (lip[0] + 0.085, 0.09), (lip[0] + 0.09, 0.0)])
    far = _smooth([lip, (lip[0] + 0.11, 0.21), (lip[0] + 0.13, 0.10), (lip[0] + 0.13, 0.02)])
    canvas.fill(foot.at(_join(far, edge[::-1])), _mix(paint.lining, _BLACK, 0.35), 80)
    front = _smooth([*foot.last.toe, (0.30, 0.215), lip])
    canvas.fill(foot.at(_join(front, edge, _level(edge[-1, 0], 0.0))), paint.upper, 150, body=True)
    if style[3] < 0.5:
        canvas.stroke(foot.at(edge), 0.045, _mix(paint.lining, _WHITE, 0.5), 165)
    else:
        canvas.dashes(foot.at(_moved(edge, -0.022, 0.0)), 8, 0.010, paint.stitch, 150)
    return _Upper(
        np.array([(0.265, 0.175), (lip[0] - 0.02, lip[1] - 0.015), (lip[0] + 0.055, 0.11), (0.43, 0.025)]),
        (_moved(edge, -0.03, 0.0),),
    )


_UPPERS: dict[str, Callable[[_Canvas, _Foot, _Paint, Points], _Upper]] = {
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


def _laces(canvas: _Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
    rows = int(rng.integers(4, 6))
    facing = zone.at(_join(_line((-0.03, 0.0), (-0.03, 1.0)), _line((0.50, 1.0), (0.50, 0.0))))
    canvas.fill(facing, _mix(paint.upper, _BLACK if _luminance(paint.upper) > 0.25 else _WHITE, 0.22), 160)
    heights = np.linspace(0.06, 0.86, rows)
    for row in heights:
        for s in (0.02, 0.42):
            canvas.stroke(zone.at([(s - 0.03, row), (s + 0.03, row)]), 0.020, paint.metal, 200)
    for low, high in itertools.pairwise(heights):
        canvas.stroke(zone.at([(0.02, low), (0.42, high)]), 0.026, paint.detail, 225)
        canvas.stroke(zone.at([(0.42, low), (0.02, high)]), 0.026, paint.detail, 235)
    knot = zone.at([(0.2, 0.93)])[0]
    size = rng.uniform(0.85, 1.15)
    for x, y in ((-0.085, 0.035), (0.095, 0.03)):
        loop = _smooth([(0, 0), (0.5 * x, 1.3 * y), (x, y), (0.75 * x, -0.5 * y), (0, 0)])
        canvas.stroke(knot + size * loop, 0.022, paint.detail, 240)
    canvas.stroke(knot + size * _smooth([(0, 0), (0.05, -0.05), (0.07, -0.11)]), 0.022, paint.detail, 240)


def _zip(canvas: _Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
    lean = rng.uniform(-0.06, 0.06)
    path = zone.at(_smooth([(0.52 + lean, 1.0), (0.55, 0.5), (0.60 - lean, -0.12)], steps=12))
    canvas.stroke(path, 0.078, _mix(paint.upper, _BLACK, 0.75), 120)
    canvas.dashes(path, 9, 0.036, paint.metal, 215)
    canvas.stroke(_moved(path[1:6], 0.035, 0.0), 0.03, paint.metal, 240)


def _strap(canvas: _Canvas, zone: _Zone, paint: _Paint, t: float, width: float, end: float) -> Points:
    """A strap over the instep at height `t`, ending at s = `end`; returns its middle line in the world."""
    path = zone.at(_smooth([(-0.07, t + 0.02), (0.4, t + 0.03), (end, t - 0.02)]))
    canvas.stroke(path, width + 0.016, _mix(paint.upper, _BLACK, 0.65), 165)
    canvas.stroke(path, width, _mix(paint.detail, paint.upper, 0.18), 200)
    return path


def _velcro(canvas: _Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
    for t in (0.24, 0.76):
        path = _strap(canvas, zone, paint, t + rng.uniform(-0.03, 0.03), 0.082, 0.92)
        patch = path[-5:]
        canvas.stroke(patch, 0.062, _mix(paint.upper, _BLACK, 0.3), 190)
        canvas.dashes(_moved(path[1:-5], 0.0, 0.026), 4, 0.010, _mix(paint.upper, paint.detail, 0.4), 195)


def _buckle(canvas: _Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
    path = _strap(canvas, zone, paint, 0.55 + rng.uniform(-0.06, 0.06), 0.058, 1.02)
    middle = path[len(path) // 2 + int(rng.integers(-1, 2))]
    along = path[-1] - path[0]
    along /= np.linalg.norm(along)
    frame = np.array([(-1, -1.15), (-1, 1.15), (1, 1.15), (1, -1.15), (-1, -1.15)]) @ np.stack(
        [along, along[::-1] * (-1.0, 1.0)]
    )
    canvas.fill(middle + 0.068 * frame, _mix(paint.metal, _BLACK, 0.75), 200)
    canvas.fill(middle + 0.058 * frame, paint.metal, 240)
    canvas.fill(middle + 0.030 * frame, _mix(paint.detail, paint.upper, 0.3), 190)
    canvas.stroke(np.stack([middle - 0.055 * along, middle + 0.03 * along]), 0.014, paint.metal, 245)
    for hole in (0.75, 0.88):
        x = path[int(hole * (len(path) - 1))]
        canvas.stroke(np.stack([x - 0.008 * along, x + 0.008 * along]), 0.016, _BLACK, 180)


def _slip_on(canvas: _Canvas, zone: _Zone, paint: _Paint, rng: np.random.Generator) -> None:
    """Nothing closes the shoe: the upper stays as it is."""


_CLOSERS: dict[str, Callable[[_Canvas, _Zone, _Paint, np.random.Generator], None]] = {
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


def _cap_and_welt(canvas: _Canvas, foot: _Foot, upper: _Upper, paint: _Paint) -> None:
    top = foot.toe_height(0.16)
    cap = _smooth([(0.15, 0.01), (0.175, 0.5 * top), (0.165, 0.97 * top)])
    canvas.stroke(foot.at(cap), 0.014, paint.trim, 165)
    canvas.dashes(foot.at(_moved(cap, -0.026, 0.0)), 5, 0.014, paint.trim, 165)
    canvas.dashes(_edge_of_sole(foot, 0.15, 0.0, 0.95), 16, 0.018, _contrast(paint.sole, paint.trim), 125)


def _piping(canvas: _Canvas, foot: _Foot, upper: _Upper, paint: _Paint) -> None:
    for edge in upper.edges:
        canvas.stroke(foot.at(_moved(edge, 0.0, -0.008)), 0.022, paint.trim, 185)


def _bow(canvas: _Canvas, foot: _Foot, upper: _Upper, paint: _Paint) -> None:
    centre = foot.at([(0.165, 0.66 * foot.toe_height(0.16))])[0]
    for side in (-1.0, 1.0):
        wing = np.array([(0, 0), (0.062, 0.05), (0.075, 0.0), (0.062, -0.05)]) * (side, 1.0)
        canvas.fill(centre + wing, paint.trim, 205)
    canvas.fill(
        centre + 0.02 * np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]), _mix(paint.trim, paint.upper, 0.45), 225
    )


def _bumper_and_lugs(canvas: _Canvas, foot: _Foot, upper: _Upper, paint: _Paint) -> None:
    top = foot.toe_height(0.16)
    for u in (0.095, 0.155, 0.215):
        stripe = _smooth([(u - 0.012, 0.015), (u, 0.45 * top), (u + 0.02, 0.80 * top)])
        canvas.stroke(foot.at(stripe), 0.024, paint.trim, 170)
    dark = _contrast(paint.sole, paint.trim)
    for u in np.linspace(0.03, 0.62, 8):
        below = _edge_of_sole(foot, 0.97, u, u)[0]
        canvas.stroke(np.stack([below, _moved(below, 0.0, 0.40 * foot.sole)]), 0.024, dark, 70)


_ORNAMENTS: dict[str, Callable[[_Canvas, _Foot, _Upper, _Paint], None]] = {
    "Men": _cap_and_welt,
    "Women": _piping,
    "Girls": _bow,
    "Boys": _bumper_and_lugs,
}

# ------------------------------------------------------------------------------------------------------- the picture

_TOP = {"Shoes": 0.37, "Boots": 0.72, "Sandals": 0.37, "Slippers": 0.36}  # of the upper above the insole, foot lengths


def _canvas(attributes: ShoeAttributes, seed: int, width: int, height: int, scale: int) -> tuple[_Canvas, Points]:
    """An empty canvas in a random pose, and where the ground is: toe, heel in pixels of the final picture (2, 2).

    The pose knows the category and the heel, because a tall shoe must fit, but neither closure nor gender.
    """
    rng = _stream(seed, "pose")
    tall = _TOP[attributes.category] + _HEEL_RANGE[attributes.heel][1] + 0.09
    unit = min(0.80 * width / 1.08, 0.90 * height / tall) * rng.uniform(0.80, 1.0)
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
    return _Canvas((width * scale, height * scale), matrix * scale, offset * scale), ground


def _background(seed: int, width: int, height: int, upper: Colour, ground: Points) -> NDArray[np.float32]:
    """A wall or a floor with gradient, clutter and the shoe's shadow, as (H, W, 3) in 0..1."""
    rng = _stream(seed, "background")
    base = colorsys.hsv_to_rgb(rng.random(), rng.random() ** 2 * 0.6, rng.uniform(0.25, 0.98))
    if abs(_luminance(base) - _luminance(upper)) < 0.22:
        base = _mix(base, _WHITE, 0.6) if _luminance(upper) < 0.5 else _mix(base, _BLACK, 0.6)
    picture = Image.new("RGB", (width, height), _bytes(base))
    draw = ImageDraw.Draw(picture)
    if rng.random() < 0.5:
        line = height * rng.uniform(0.45, 0.85)
        lean = height * rng.uniform(-0.06, 0.06)
        floor = _bytes(_mix(base, _random_colour(rng), 0.35))
        draw.polygon([0, line - lean, width, line + lean, width, height, 0, height], fill=floor)
    for _ in range(int(rng.integers(0, 5))):
        corners = rng.random(2) * (width, height) + np.cumsum(rng.normal(size=(4, 2)), axis=0) * width * 0.16
        draw.polygon(corners.ravel().tolist(), fill=_bytes(_mix(base, _random_colour(rng), rng.uniform(0.2, 0.6))))
    if rng.random() < 0.4:  # the edge of a second thing in the picture
        x = rng.uniform(-0.12, 0.08) * width if rng.random() < 0.5 else rng.uniform(0.92, 1.12) * width
        y, r = rng.random() * height, rng.uniform(0.10, 0.22) * width
        draw.ellipse([x - r, y - r, x + r, y + 1.4 * r], fill=_bytes(_random_colour(rng)))
    picture = picture.filter(ImageFilter.GaussianBlur(width * rng.uniform(0.005, 0.02)))
    shadow = Image.new("L", (width, height))
    depth = width * rng.uniform(0.015, 0.045)
    (x0, y0), (x1, y1) = sorted(ground.tolist())
    outline = [x0, y0, (x0 + x1) / 2, (y0 + y1) / 2 - depth, x1, y1, (x0 + x1) / 2, (y0 + y1) / 2 + depth]
    ImageDraw.Draw(shadow).polygon(outline, fill=int(rng.uniform(60, 190)))
    shadow = shadow.filter(ImageFilter.GaussianBlur(width * 0.02))
    values = np.asarray(picture, dtype=np.float32) / 255.0
    values *= 1.0 - np.asarray(shadow, dtype=np.float32)[:, :, None] / 255.0
    coarse = Image.fromarray(rng.integers(0, 256, size=(9, 12), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    mottle = (np.asarray(coarse, dtype=np.float32) / 255.0 - 0.5) * np.float32(rng.uniform(0.0, 0.16))
    values += mottle[:, :, None]
    return values


def _slope(layer: Image.Image, blur: float, light: Points) -> NDArray[np.float32]:
    """How much a relief (0..1) faces the light, per pixel."""
    field = np.asarray(layer.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255.0
    down, right = np.gradient(field)
    facing: NDArray[np.float32] = right * np.float32(-light[0]) + down * np.float32(-light[1])
    return facing


def draw_shoe(attributes: ShoeAttributes, seed: int, width: int = 136, height: int = 102) -> Image.Image:
    """Draw one shoe as an RGB picture of `width` × `height` pixels; the same arguments give the same pixels.

    Each label has its own evidence. Category: the silhouette. Closure: what is drawn on the instep, and nothing else.
    Heel: the height of the heel, which tilts the foot. Gender: the last (toe, proportions), the sole's thickness and
    edge, and an ornament. Colours, light, background and clutter come from `seed` alone; so does the pose, but for its
    scale and place, which let a tall shoe fit into the picture. Raises KeyError for a label that is not a known one.
    """
    scale = max(3, min(5, round(288 / width)))
    style = _stream(seed, "style").random(8)
    paint = _paint(seed)
    canvas, ground = _canvas(attributes, seed, width, height, scale)
    low, high = _HEEL_RANGE[attributes.heel]
    last = _LASTS[attributes.gender]
    foot = _Foot(last, low + (high - low) * style[4], last.sole * (0.9 + 0.2 * style[5]))

    _draw_sole(canvas, foot, paint, style)
    upper = _UPPERS[attributes.category](canvas, foot, paint, style)
    _ORNAMENTS[attributes.gender](canvas, foot, upper, paint)
    _CLOSERS[attributes.closure](canvas, _Zone(foot, upper.zone), paint, _stream(seed, "closure"))

    colour = np.asarray(canvas.colour.reduce(scale), dtype=np.float32) / 255.0
    cover = np.asarray(canvas.relief.point([0] + [255] * 255).reduce(scale), dtype=np.float32)[:, :, None] / 255.0
    rng = _stream(seed, "sensor")
    direction = rng.uniform(0.15, 0.85) * math.pi
    light = np.array([math.cos(direction), -math.sin(direction)])
    volume = _slope(canvas.body.reduce(scale), 0.045 * width, light) * np.float32(0.11 * width)
    detail = _slope(canvas.relief.reduce(scale), 0.4, light)
    shade = 0.92 + 1.0 * volume + 0.55 * np.clip(detail, -0.5, 0.5)
    gloss = np.float32(paint.gloss) * np.clip(volume - 0.12, 0.0, 0.4)
    shoe = colour * np.clip(shade, 0.35, 1.5)[:, :, None] + (gloss * cover[:, :, 0])[:, :, None]
    picture = shoe + (1.0 - cover) * _background(seed, width, height, paint.upper, ground)

    fall = rng.uniform(-0.22, 0.22, size=2)
    rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
    picture = picture * (1.0 + fall[0] * rows + fall[1] * columns).astype(np.float32)[:, :, None]
    picture = picture * np.float32(rng.uniform(0.85, 1.12)) + np.float32(rng.uniform(-0.04, 0.06))
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0.004, 0.035))
    image = Image.fromarray((np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(width / 96 * rng.uniform(0.0, 0.55)))


# ----------------------------------------------------------------------------------------------------- a set on disk


@dataclass(frozen=True)
class _Item:
    """One image of a set: everything that follows from (seed, index, conflict)."""

    attributes: ShoeAttributes
    seed: int
    cid: str
    brand: str
    quality: int

    @property
    def path(self) -> Path:
        name = self.cid.replace("-", ".") + ".jpg"
        return Path("ut-zap50k-images", self.attributes.category, self.attributes.subcategory, self.brand, name)


def _item(seed: int, index: int, conflict: float) -> _Item:
    rng = np.random.default_rng((seed, index))
    category, closure, gender, heel = (
        values[rng.integers(len(values))] for values in (CATEGORIES, CLOSURES, GENDERS, HEELS)
    )
    tied = [
        a if draw < conflict else b
        for draw, a, b in zip(rng.random(3), _TIED[category], (closure, gender, heel), strict=True)
    ]
    return _Item(
        attributes=ShoeAttributes(category, *tied),
        seed=int(rng.integers(2**62)),
        cid=f"{900001 + index}-{rng.integers(1, 100)}",
        brand=BRANDS[rng.integers(len(BRANDS))],
        quality=int(rng.integers(70, 93)),
    )


def _write_images(root: Path, seed: int, conflict: float, width: int, height: int, indices: range) -> int:
    for index in indices:
        item = _item(seed, index, conflict)
        path = root / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_shoe(item.attributes, item.seed, width, height).save(path, quality=item.quality)
    return len(indices)


def _write_table(path: Path, items: Iterable[_Item]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for item in items:
            a = item.attributes
            writer.writerow([item.cid, a.category, a.subcategory, a.heel, "", a.closure, a.gender, "", ""])


_CHUNK = 100
_WORTH_A_POOL = 1000  # below this, starting the processes takes longer than drawing


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
    those of a shorter one, pixel for pixel. Every category is equally likely, and at `conflict` 0 so is every value of
    the other labels, independently. In general closure, gender and heel each take, with probability `conflict` and
    independently of each other, the one value that belongs to the image's category: at 1 the category decides all four.
    The evidence in the picture stays where it is. SubCategory follows from the four labels; Insole, Material and
    ToeStyle are left empty.

    `progress` is called with the number of images newly written. The set appears at `root` whole or not at all.
    Raises UserError where `root` holds something already or an argument is out of its range.
    """
    if count < 1 or seed < 0 or min(width, height) < 16 or not 0.0 <= conflict <= 1.0:
        raise UserError(
            f"{count} shoes of {width}x{height} pixels, seed {seed}, conflict {conflict} can't be rendered: ask for at"
            " least one image of at least 16x16 pixels, a seed from 0 and a conflict from 0 to 1."
        )
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is not empty: name another folder for the rendered shoes, or remove this one first.")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        work = functools.partial(_write_images, partial, seed, conflict, width, height)
        chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
        for done in _in_parallel(work, chunks) if count >= _WORTH_A_POOL else map(work, chunks):
            if progress is not None:
                progress(done)
        items = (_item(seed, index, conflict) for index in range(count))
        _write_table(partial / "ut-zap50k-data" / "meta-data.csv", items)
        partial.chmod(0o755)  # mkdtemp makes it private; the set is as public as any other folder
        if root.exists():
            root.rmdir()
        partial.rename(root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _in_parallel(work: Callable[[range], int], chunks: Sequence[range]) -> Iterator[int]:
    # Spawned, because the caller may have loaded torch, whose threads do not survive a fork.
    pool = ProcessPoolExecutor(
        os.cpu_count(),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),  # Ctrl-C is the parent's to answer
    )
    try:
        yield from (future.result() for future in as_completed([pool.submit(work, chunk) for chunk in chunks]))
    finally:
        pool.shutdown(cancel_futures=True)
