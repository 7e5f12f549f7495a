"""Draws a face's neck and shoulders: the shadow of the chin, clothes, necktie and necklace."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Sequence

import numpy as np

from mtlbench.rendered.drawing import BLACK, WHITE, Points, join, line, luminance, mix, moved, smooth
from mtlbench.rendered.face.easel import arc, mirrored, resampled, ribbon
from mtlbench.rendered.face.sitter import METALS, Sitter, stream


def draw_neck(s: Sitter) -> None:
    """Draw the neck with its muscles."""
    at = functools.partial(s.easel.at, depth=-0.3, flat=True)
    broad = 0.50 + 0.10 * s.own[3] + (0.08 if s.attributes.is_chubby else 0.0)
    right = smooth([(broad, -0.5), (broad, -1.35), (broad + 0.02, -1.72), (broad + 0.05, -1.95), (0.4, -2.9)])
    s.easel.fill(at(mirrored(right)), s.skin, 100)
    for side in (-1.0, 1.0):  # muscles that run down to the collarbone
        s.easel.spray(
            at(line((side * 0.42, -1.3), (side * 0.10, -2.1), 2) * 1.0 + [(-0.03, 0), (0.03, 0)]), s.shade, 0.3, 0.05
        )


def draw_chin_shadow(s: Sitter) -> None:
    """Shade the neck under the chin."""
    under = s.outline[(s.outline[:, 1] < -0.3)] + (0.10 * s.light * -1.0, -0.20)
    s.easel.spray(s.easel.at(under), s.shade, 0.75, 0.07)


def draw_clothes(s: Sitter) -> None:
    """Draw everything that the person wears below the neck, with necktie or necklace."""
    rng = stream(s.seed, "clothes")
    a, easel, where = s.attributes, s.easel, s.surroundings
    hue = rng.uniform(-0.03, 0.13) if where.warm_clothes else rng.uniform(0.42, 0.68)
    value = rng.uniform(0.66, 0.92) if where.bright_clothes else rng.uniform(0.20, 0.40)
    cloth = colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.45, 0.8), value)
    dark, bright = mix(cloth, BLACK, 0.42), mix(cloth, WHITE, 0.35)
    kind = 3 if a.necktie else int(rng.integers(3))
    drop = rng.uniform(0.0, 0.12)

    def at(points: Points | Sequence[tuple[float, float]]) -> Points:
        return easel.at(moved(np.asarray(points, dtype=np.float64), 0.0, 0.13), -0.3, flat=True)

    depth = {0: 0.42, 1: 0.72, 2: 0.10, 3: 0.62}[kind]  # crew, v, high collar, shirt
    neck = {0: 0.60, 1: 0.60, 2: 0.62, 3: 0.60}[kind]
    rim = smooth([(neck, -1.66), (0.46, -1.72 - 0.55 * depth), (0.0, -1.74 - depth)])
    if kind in (1, 3):
        rim = smooth([(neck, -1.62), (0.30, -1.74 - 0.5 * depth), (0.0, -1.74 - depth)])
    shoulder = smooth([(neck, -1.62), (0.95, -1.84 - drop), (1.5, -2.05 - drop), (1.82, -2.5), (1.95, -3.9)])
    body = join(rim[::-1], shoulder)
    outline = at(join(body, body[::-1] * (-1.0, 1.0)))
    easel.fill(outline, cloth, 112)
    inside = easel.mask(outline)
    if where.striped_clothes:
        band = bright if luminance(cloth) < 0.45 else dark
        for y in np.arange(-1.75, -3.9, -0.34):
            easel.spray(
                at(ribbon(smooth([(-2.0, y - 0.25), (0.0, y), (2.0, y - 0.25)]), 0.14)), band, 0.9, 0.01, inside
            )
    for side in (-1.0, 1.0):  # folds, and light that fades over the shoulders
        easel.spray(
            at([(side * 1.1, -2.2), (side * 1.2, -2.2), (side * 0.75, -3.6), (side * 0.6, -3.6)]),
            dark,
            0.45,
            0.10,
            inside,
        )
    easel.spray(
        at([(-s.light * 0.5, -1.7), (-s.light * 2.1, -1.9), (-s.light * 2.1, -4), (-s.light * 1.0, -4)]),
        dark,
        0.55,
        0.25,
        inside,
    )
    if kind == 2:
        collar = smooth(
            [(-0.66, -1.98), (-0.60, -1.60), (0.0, -1.52), (0.60, -1.60), (0.66, -1.98), (0.0, -2.10), (-0.66, -1.98)]
        )
        easel.fill(at(collar), mix(cloth, WHITE, 0.08), 118)
        easel.stroke(at(smooth([(-0.66, -1.98), (0.0, -2.12), (0.66, -1.98)])), 0.05, dark, 116)
    elif kind == 3:
        shirt = mix(cloth, WHITE, 0.30)
        for side in (-1.0, 1.0):
            wing = np.array([(0.60, -1.50), (0.66, -1.78), (0.34, -2.26), (0.02, -2.16)]) * (side, 1.0)
            easel.fill(at(wing), mix(shirt, BLACK, 0.35), 116)
            easel.fill(at(wing * (0.97, 1.0) + (0.0, 0.03)), shirt, 120)
        easel.stroke(at([(0.0, -2.2), (0.0, -3.9)]), 0.025, dark, 116)
    else:
        trim = join(rim, rim[::-1] * (-1.0, 1.0))
        easel.stroke(at(trim), 0.075, mix(cloth, dark if value > 0.5 else bright, 0.55), 120)
    if a.necktie:
        tie = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.5, 0.9), rng.uniform(0.15, 0.75))
        if abs(luminance(tie) - luminance(cloth)) < 0.25:
            tie = mix(tie, BLACK if luminance(cloth) > 0.4 else WHITE, 0.7)
        blade = np.array([(-0.10, -2.42), (0.10, -2.42), (0.27, -3.8), (-0.27, -3.8)])
        easel.fill(at(blade), tie, 126)
        for y in np.arange(-2.62, -3.8, -0.3):
            easel.stroke(
                at([(-0.11 - 0.10 * (-2.4 - y), y - 0.05), (0.11 + 0.10 * (-2.4 - y), y + 0.10)]),
                0.06,
                mix(tie, WHITE, 0.4),
                127,
            )
        easel.fill(at([(-0.17, -2.10), (0.17, -2.10), (0.10, -2.46), (-0.10, -2.46)]), mix(tie, WHITE, 0.12), 134)
    elif a.has_necklace:
        chain = smooth([(-0.57, -1.62), (-0.36, -1.98), (0.0, -2.16), (0.36, -1.98), (0.57, -1.62)])
        jewels = stream(s.seed, "jewellery")
        metal = METALS[jewels.integers(2)]
        if jewels.random() < 0.5:
            easel.stroke(at(chain), 0.045, mix(metal, BLACK, 0.35), 150)
            easel.stroke(at(moved(chain, 0.0, 0.010)), 0.026, metal, 170)
            easel.fill(at(arc(0.0, -2.25, 0.085, 0.11)), mix(metal, BLACK, 0.3), 170)
            easel.fill(at(arc(0.0, -2.25, 0.060, 0.085)), colorsys.hsv_to_rgb(jewels.random(), 0.7, 0.8), 190)
        else:
            for x, y in resampled(chain, 21):
                easel.fill(at(arc(x, y, 0.055, 0.055, count=12)), (0.60, 0.56, 0.52), 160)
                easel.fill(at(arc(x - 0.008, y + 0.010, 0.042, 0.042, count=12)), (0.97, 0.95, 0.90), 175)
