"""The tools that draw all rendered pictures: curves, a canvas with relief, colours, backgrounds, light and sensor."""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Points = NDArray[np.float64]
Colour = tuple[float, float, float]


@functools.cache
def _catmull_rom(steps: int) -> Points:
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None] ** np.arange(4)
    basis: Points = t @ np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    return basis


def smooth(points: Sequence[tuple[float, float]] | Points, steps: int = 6) -> Points:
    """Return an open Catmull-Rom curve through `points` (N, 2)."""
    p = np.asarray(points, dtype=np.float64)
    padded = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    windows = np.stack([padded[i : i + len(p) - 1] for i in range(4)], axis=1)
    return np.concatenate([(_catmull_rom(steps) @ windows).reshape(-1, 2), p[-1:]])


def line(start: tuple[float, float], end: tuple[float, float], count: int = 9) -> Points:
    """Return `count` points (count, 2) from start to end, both included."""
    t = np.linspace(0.0, 1.0, count)[:, None]
    return np.asarray(start) * (1 - t) + np.asarray(end) * t


def join(*parts: Points | Sequence[tuple[float, float]]) -> Points:
    """Return several polylines as one, joined end to end."""
    return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])


def moved(points: Points, x: float, y: float) -> Points:
    """Return points (N, 2) shifted by (x, y)."""
    moved: Points = points + np.array([x, y])
    return moved


class Canvas:
    """Supersampled layers of one object: its colour, its relief (0 outside), and its body, shaded as one volume."""

    def __init__(self, size: tuple[int, int], matrix: Points, offset: Points) -> None:
        self.colour = Image.new("RGB", size)
        self.relief = Image.new("L", size)
        self.body = Image.new("L", size)
        self._draw = tuple(ImageDraw.Draw(layer) for layer in (self.colour, self.relief, self.body))
        self._matrix = matrix
        self._offset = offset

    def fill(self, world: Points, colour: Colour, level: int, body: bool = False) -> None:
        """Fill the polygon `world` (N, 2) in world units; a higher `level` (1 to 255) stands out further."""
        flat = (world @ self._matrix + self._offset).ravel().tolist()
        self._draw[0].polygon(flat, fill=to_bytes(colour))
        self._draw[1].polygon(flat, fill=level)
        if body:
            self._draw[2].polygon(flat, fill=255)

    def stroke(self, world: Points, width: float, colour: Colour, level: int) -> None:
        """Draw a band of `width` world units along the polyline `world` (N, 2)."""
        along = np.gradient(world, axis=0)
        normal = along[:, ::-1] * (-1.0, 1.0) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
        side = normal * (width / 2)
        self.fill(np.concatenate([world + side, (world - side)[::-1]]), colour, level)

    def dashes(self, world: Points, count: int, width: float, colour: Colour, level: int) -> None:
        """Draw `count` stitches along the polyline `world`."""
        t = np.linspace(0, len(world) - 1, 2 * count)
        index = np.arange(len(world))
        x, y = np.interp(t, index, world[:, 0]), np.interp(t, index, world[:, 1])
        for i in range(0, 2 * count, 2):
            self.stroke(np.stack([x[i : i + 2], y[i : i + 2]], axis=1), width, colour, level)

    def finish(self, rng: np.random.Generator, gloss: float, behind: NDArray[np.float32], scale: int) -> Image.Image:
        """Light the drawing, put it before a background, and take the picture: (H, W) as in `behind`.

        Args:
            rng: decides the light and the sensor: fall-off, exposure, noise, blur.
            gloss: of the body, 0..1.
            behind: (H, W, 3) in 0..1.
            scale: how many times larger the layers are than the picture.
        """
        height, width = behind.shape[:2]
        colour = np.asarray(self.colour.reduce(scale), dtype=np.float32) / 255.0
        cover = np.asarray(self.relief.point([0] + [255] * 255).reduce(scale), dtype=np.float32)[:, :, None] / 255.0
        direction = rng.uniform(0.15, 0.85) * math.pi
        light = np.array([math.cos(direction), -math.sin(direction)])
        volume = _slope(self.body.reduce(scale), 0.045 * width, light) * np.float32(0.11 * width)
        detail = _slope(self.relief.reduce(scale), 0.4, light)
        shade = 0.92 + 1.0 * volume + 0.55 * np.clip(detail, -0.5, 0.5)
        shine = np.float32(gloss) * np.clip(volume - 0.12, 0.0, 0.4)
        thing = colour * np.clip(shade, 0.35, 1.5)[:, :, None] + (shine * cover[:, :, 0])[:, :, None]
        picture = thing + (1.0 - cover) * behind
        fall = rng.uniform(-0.22, 0.22, size=2)
        rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]
        picture = picture * (1.0 + fall[0] * rows + fall[1] * columns).astype(np.float32)[:, :, None]
        picture = picture * np.float32(rng.uniform(0.85, 1.12)) + np.float32(rng.uniform(-0.04, 0.06))
        picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0.004, 0.035))
        image = Image.fromarray((np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
        return image.filter(ImageFilter.GaussianBlur(width / 96 * rng.uniform(0.0, 0.55)))


def to_bytes(colour: Colour) -> tuple[int, int, int]:
    """Return a colour of 0..1 as bytes."""
    r, g, b = (max(0, min(255, round(255 * c))) for c in colour)
    return r, g, b


def luminance(colour: Colour) -> float:
    """Return how bright a colour is, 0..1."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """Return a mixture of two colours: a at t = 0, b at t = 1."""
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t


BLACK, WHITE = (0.05, 0.05, 0.05), (0.96, 0.95, 0.92)


def contrast(colour: Colour, tint: Colour) -> Colour:
    """Return `tint`, made lighter or darker until it stands out against `colour`."""
    return mix(tint, WHITE, 0.72) if luminance(colour) < 0.5 else mix(tint, BLACK, 0.72)


def random_colour(rng: np.random.Generator) -> Colour:
    """Return a random colour, neither very dark nor glaring."""
    return colorsys.hsv_to_rgb(rng.random(), rng.random() ** 0.7 * 0.85, rng.uniform(0.18, 0.95))


def background(
    rng: np.random.Generator, width: int, height: int, avoid: Colour, base: Colour | None = None
) -> NDArray[np.float32]:
    """Draw a wall or a floor with gradient and clutter, (H, W, 3) in 0..1.

    Args:
        rng: decides what the other arguments leave open.
        width: of the picture in pixels; height likewise.
        avoid: the colour of the object in front; a background of similar brightness is made lighter or darker.
        base: the background's colour; random by default.
    """
    if base is None:
        base = colorsys.hsv_to_rgb(rng.random(), rng.random() ** 2 * 0.6, rng.uniform(0.25, 0.98))
    if abs(luminance(base) - luminance(avoid)) < 0.12:
        base = mix(base, WHITE, 0.4) if luminance(avoid) < 0.5 else mix(base, BLACK, 0.4)
    picture = Image.new("RGB", (width, height), to_bytes(base))
    draw = ImageDraw.Draw(picture)
    if rng.random() < 0.5:
        line = height * rng.uniform(0.45, 0.85)
        lean = height * rng.uniform(-0.06, 0.06)
        floor = to_bytes(mix(base, random_colour(rng), 0.35))
        draw.polygon([0, line - lean, width, line + lean, width, height, 0, height], fill=floor)
    for _ in range(int(rng.integers(0, 5))):
        corners = rng.random(2) * (width, height) + np.cumsum(rng.normal(size=(4, 2)), axis=0) * width * 0.16
        draw.polygon(corners.ravel().tolist(), fill=to_bytes(mix(base, random_colour(rng), rng.uniform(0.2, 0.6))))
    if rng.random() < 0.4:  # the edge of another object
        x = rng.uniform(-0.12, 0.08) * width if rng.random() < 0.5 else rng.uniform(0.92, 1.12) * width
        y, r = rng.random() * height, rng.uniform(0.10, 0.22) * width
        draw.ellipse([x - r, y - r, x + r, y + 1.4 * r], fill=to_bytes(random_colour(rng)))
    picture = picture.filter(ImageFilter.GaussianBlur(width * rng.uniform(0.005, 0.02)))
    values = np.asarray(picture, dtype=np.float32) / 255.0
    coarse = Image.fromarray(rng.integers(0, 256, size=(9, 12), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    mottle = (np.asarray(coarse, dtype=np.float32) / 255.0 - 0.5) * np.float32(rng.uniform(0.0, 0.16))
    values += mottle[:, :, None]
    return values


def shadow(rng: np.random.Generator, width: int, height: int, ground: Points) -> NDArray[np.float32]:
    """Return how much light an object on the ground takes away, (H, W, 1) in 0..1.

    Args:
        rng: decides depth and darkness.
        width: of the picture in pixels; height likewise.
        ground: the two ends (2, 2) of the line where the object touches the ground, in pixels.
    """
    layer = Image.new("L", (width, height))
    depth = width * rng.uniform(0.015, 0.045)
    (x0, y0), (x1, y1) = sorted(ground.tolist())
    outline = [x0, y0, (x0 + x1) / 2, (y0 + y1) / 2 - depth, x1, y1, (x0 + x1) / 2, (y0 + y1) / 2 + depth]
    ImageDraw.Draw(layer).polygon(outline, fill=int(rng.uniform(60, 190)))
    return np.asarray(layer.filter(ImageFilter.GaussianBlur(width * 0.02)), dtype=np.float32)[:, :, None] / 255.0


def _slope(layer: Image.Image, blur: float, light: Points) -> NDArray[np.float32]:
    """Return how much a relief (0..1) faces the light, per pixel."""
    field = np.asarray(layer.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255.0
    down, right = np.gradient(field)
    facing: NDArray[np.float32] = right * np.float32(-light[0]) + down * np.float32(-light[1])
    return facing
