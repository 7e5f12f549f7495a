"""Draws one shoe from its labels; `rendered.shoes` chooses the labels of a set.

Numbers measured on these pictures say nothing about UT-Zappos50K.
"""

from __future__ import annotations

import colorsys
import math

import numpy as np
from PIL import Image

from mtlbench.rendered.drawing import Canvas, Points, background, shadow
from mtlbench.rendered.shoe.attributes import ShoeAttributes
from mtlbench.rendered.shoe.closures import CLOSERS, Zone
from mtlbench.rendered.shoe.foot import HEEL_RANGE, LASTS, Foot
from mtlbench.rendered.shoe.ornaments import ORNAMENTS
from mtlbench.rendered.shoe.paint import carriers, mix_paint, stream
from mtlbench.rendered.shoe.uppers import UPPERS, draw_sole

_TOP = {"Shoes": 0.37, "Boots": 0.72, "Sandals": 0.37, "Slippers": 0.36}  # height of the upper, foot lengths


def posed_canvas(attributes: ShoeAttributes, seed: int, width: int, height: int, scale: int) -> tuple[Canvas, Points]:
    """Return an empty canvas in a random pose, and the ground line from toe to heel, (2, 2) in pixels of the picture.

    The pose depends on the category and the heel, because a tall shoe must fit, but not on closure or gender.
    """
    rng = stream(seed, "pose")
    tall = _TOP[attributes.category] + HEEL_RANGE[attributes.heel][1] + 0.09
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

    Each label has its own evidence. Category: the silhouette. Closure: the drawing on the instep, and nothing else.
    Heel: the height of the heel, which tilts the foot. Gender: the last (toe, proportions), the sole's thickness and
    edge, and an ornament. `seed` alone decides light and clutter. It also decides the colours at `conflict` 0 (see
    `render_shoes`), and the pose except scale and place, which make a tall shoe fit into the picture. Raises ValueError
    for an unknown label.
    """
    scale = max(3, min(5, round(288 / width)))
    style = stream(seed, "style").random(8)
    hue, brightness, ground_hue, ground_brightness = carriers(attributes, seed, conflict).tolist()
    paint = mix_paint(seed, hue, brightness)
    canvas, ground = posed_canvas(attributes, seed, width, height, scale)
    low, high = HEEL_RANGE[attributes.heel]
    last = LASTS[attributes.gender]
    foot = Foot(last, low + (high - low) * style[4], last.sole * (0.9 + 0.2 * style[5]))

    draw_sole(canvas, foot, paint, style)
    upper = UPPERS[attributes.category](canvas, foot, paint, style)
    ORNAMENTS[attributes.gender](canvas, foot, upper, paint)
    CLOSERS[attributes.closure](canvas, Zone(foot, upper.zone), paint, stream(seed, "closure"))

    rng = stream(seed, "background")
    base = colorsys.hsv_to_rgb(ground_hue, 0.8 * rng.random(), 0.25 + 0.73 * ground_brightness)
    behind = background(rng, width, height, paint.upper, base)
    behind *= 1.0 - shadow(rng, width, height, ground)
    return canvas.finish(stream(seed, "sensor"), paint.gloss, behind, scale)
