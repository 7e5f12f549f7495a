"""The easel for faces: arcs, ribbons, and a canvas with an airbrush that turns with the head.

Head coordinates: x to the right, y upwards, the eyes at y = 0, the cheekbones at about x = -1 and 1, and the top of the
skull at y = 1.42. Depth counts from the plane of the ears towards the viewer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from mtlbench.rendered.drawing import Canvas, Colour, Points, join, to_bytes


def arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, end: float = 1.0, count: int = 24) -> Points:
    """Return part of an ellipse, from `start` to `end` in turns, counter-clockwise from the right."""
    angle = 2 * math.pi * np.linspace(start, end, count)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def mirrored(right: Points) -> Points:
    """Return the closed, symmetric outline whose right half is `right`, from top to bottom."""
    return join(right, right[::-1] * (-1.0, 1.0))


def resampled(points: Points, count: int) -> Points:
    """Return `count` points at equal distances along a polyline."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    t = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(t, along, points[:, 0]), np.interp(t, along, points[:, 1])], axis=1)


def ribbon(middle: Points, widths: Points | float) -> Points:
    """Return the outline of a band along `middle` (N, 2), with one width for all points or one for each."""
    along = np.gradient(middle, axis=0)
    normal = along[:, ::-1] * (-1.0, 1.0) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    side = normal * (np.broadcast_to(widths, len(middle))[:, None] / 2)
    return np.concatenate([middle + side, (middle - side)[::-1]])


class Easel(Canvas):
    """A canvas that knows how the head is turned, and has an airbrush."""

    def __init__(self, size: tuple[int, int], matrix: Points, offset: Points, turn: tuple[float, float]) -> None:
        super().__init__(size, matrix, offset)
        self._turn = np.asarray(turn)
        self._unit = float(np.linalg.norm(matrix[0]))

    def at(self, points: Points | Sequence[tuple[float, float]], depth: float = 0.0, flat: bool = False) -> Points:
        """Convert head coordinates to the world: nearer points move further when the head turns or nods."""
        p = np.asarray(points, dtype=np.float64)
        bulge = 0.0 if flat else np.sqrt(np.clip(1 - (p[:, :1] / 1.05) ** 2 - (p[:, 1:] / 1.6) ** 2, 0.0, 1.0))
        return p + (bulge + depth) * self._turn

    def pixels(self, world: Points) -> Points:
        """Convert world coordinates to pixels of the supersampled layers."""
        flat: Points = world @ self._matrix + self._offset
        return flat

    def mask(self, world: Points) -> Image.Image:
        """Return a polygon as a mask of the whole picture."""
        mask = Image.new("L", self.colour.size)
        ImageDraw.Draw(mask).polygon(self.pixels(world).ravel().tolist(), fill=255)
        return mask

    def spray(
        self,
        world: Points,
        colour: Colour,
        opacity: float,
        blur: float,
        within: Image.Image | None = None,
        grain: np.random.Generator | None = None,
    ) -> None:
        """Airbrush the polygon `world` over the drawing, with an edge that is `blur` world units soft.

        Args:
            world: (N, 2) in world units.
            colour: of the paint.
            opacity: 0..1 in the middle.
            blur: of the edge.
            within: paint only inside this mask; by default, on everything drawn so far.
            grain: breaks the paint up into specks.
        """
        radius = blur * self._unit
        flat = self.pixels(world)
        low = np.maximum(np.floor(flat.min(axis=0) - 2.5 * radius).astype(int), 0)
        high = np.minimum(np.ceil(flat.max(axis=0) + 2.5 * radius).astype(int) + 1, self.colour.size)
        if (high <= low).any():
            return
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon((flat - low).ravel().tolist(), fill=round(255 * opacity))
        mask = mask.filter(ImageFilter.GaussianBlur(radius))
        if grain is not None:
            size = (max(1, mask.width // 2), max(1, mask.height // 2))
            specks = Image.frombytes("L", size, grain.bytes(size[0] * size[1])).resize(
                mask.size, Image.Resampling.BILINEAR
            )
            mask = ImageChops.multiply(
                mask, specks.point([min(255, max(0, round(2.2 * (v - 70)))) for v in range(256)])
            )
        limit = self.relief.crop(box).point([0] + [255] * 255) if within is None else within.crop(box)
        self.colour.paste(to_bytes(colour), box, ImageChops.multiply(mask, limit))

    def lines(self, worlds: Iterable[Points], width: float, colour: Colour, level: int) -> None:
        """Draw thin lines along polylines (N, 2), such as strands of hair."""
        pixels = max(1, round(width * self._unit))
        for world in worlds:
            flat = self.pixels(world).ravel().tolist()
            self._draw[0].line(flat, fill=to_bytes(colour), width=pixels, joint="curve")
            self._draw[1].line(flat, fill=level, width=pixels)
