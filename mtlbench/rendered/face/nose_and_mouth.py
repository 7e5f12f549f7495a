"""Draws the nose and the mouth: lips, teeth and the folds of a smile."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from mtlbench.rendered.drawing import BLACK, Colour, Points, join, luminance, mix, smooth
from mtlbench.rendered.face.easel import arc, ribbon
from mtlbench.rendered.face.sitter import Sitter, stream


def draw_nose(s: Sitter) -> None:
    """Draw the nose."""
    a, easel = s.attributes, s.easel
    if a.big_nose:
        wide, base, ball = 0.385, -0.590, 0.230
    elif a.has_pointy_nose:
        wide, base, ball = 0.150, -0.520, 0.080
    else:
        wide, base, ball = 0.215, -0.490, 0.125
    wide *= 0.96 + 0.08 * s.own[12]
    base -= 0.03 * s.own[13]
    far = -1.0 if s.light > 0 else 1.0

    def spray(
        points: Points | Sequence[tuple[float, float]], colour: Colour, opacity: float, blur: float, depth: float = 0.25
    ) -> None:
        easel.spray(easel.at(points, depth), colour, opacity, blur)

    spray(arc(0.06 * far, base - 0.05, wide * 0.95, 0.07), s.shade, 0.55, 0.045, 0.05)
    for side in (-1.0, 1.0):
        strong = 0.72 if side == far else 0.28
        flank = smooth(
            [
                (0.10, 0.22),
                (0.085, 0.0),
                (0.5 * wide, base + 0.24),
                (wide, base + 0.10),
                (0.8 * wide + 0.05, base + 0.22),
                (0.17, 0.02),
                (0.15, 0.22),
            ]
        )
        spray(flank * (side, 1.0), s.shade, strong, 0.035, 0.12)
    spray(
        smooth([(0.0, 0.20), (0.045, -0.05), (0.06, base + 0.2), (-0.06, base + 0.2), (-0.045, -0.05), (0.0, 0.20)]),
        s.glow,
        0.75,
        0.03,
        0.3,
    )
    lobe = mix(s.skin, s.blood, 0.30)
    for side in (-1.0, 1.0):
        wing = smooth(
            [
                (0.62 * wide, base + 0.21),
                (0.98 * wide, base + 0.14),
                (wide, base + 0.03),
                (0.74 * wide, base - 0.005),
                (0.45 * wide, base + 0.05),
            ]
        )
        spray(wing * (side, 1.0), lobe, 0.85, 0.02)
        crease = wing[: 2 * len(wing) // 3] * (side, 1.0)
        spray(ribbon(crease, np.linspace(0.012, 0.034, len(crease))), s.shade, 1.0, 0.008)
    tip = base + 0.55 * ball
    spray(arc(0.0, tip, 0.95 * ball, 0.82 * ball), lobe, 0.8, 0.03, 0.3)
    if a.has_pointy_nose:
        point = smooth(
            [
                (-0.075, base + 0.13),
                (-0.03, base - 0.01),
                (0.0, base - 0.045),
                (0.03, base - 0.01),
                (0.075, base + 0.13),
            ]
        )
        spray(ribbon(point, 0.026), s.shade, 1.0, 0.008, 0.3)
    else:
        under = arc(0.0, tip, 0.85 * ball, 0.80 * ball, 0.60, 0.90)
        spray(ribbon(under, 0.022), s.shade, 0.8, 0.012, 0.3)
    for side in (-1.0, 1.0):
        hole = arc(0.52 * wide * side, base + 0.018, 0.22 * wide, 0.030)
        spray(hole, mix(s.shade, (0.12, 0.04, 0.04), 0.75), 0.95, 0.010, 0.2)
    spray(
        arc(0.03 * s.light, tip + 0.25 * ball, 0.34 * ball, 0.26 * ball),
        mix(s.glow, (1.0, 1.0, 1.0), 0.45),
        0.9,
        0.022,
        0.32,
    )


_MOUTH = -0.90  # height of the middle of the mouth


def draw_mouth(s: Sitter) -> None:
    """Draw the mouth."""
    a, easel = s.attributes, s.easel
    rng = stream(s.seed, "expression")
    chance = rng.random(6)
    half = (0.56 if a.smiling else 0.315) * (0.96 + 0.08 * s.own[14])
    lift = (0.25 + 0.03 * chance[0]) if a.smiling else -0.020 + 0.045 * chance[0]
    over, under = (0.145, 0.205) if a.big_lips else (0.052, 0.075)
    gap = 0.0
    if a.mouth_open:
        gap = (0.24 if a.smiling else 0.17) + 0.05 * chance[1]
        half *= 1.0 if a.smiling else 0.86
    y = _MOUTH - (0.06 if a.smiling else 0.0) + (0.03 if a.mouth_open else 0.0) - 0.03 * s.own[13]
    t = np.linspace(-1.0, 1.0, 33)
    seam = y + lift * np.abs(t) ** 1.7
    top = seam + 0.15 * gap * (1 - t**2)
    bottom = seam - 0.95 * gap * (1 - np.abs(t) ** 2.4)
    bow = 1 - 0.30 * np.exp(-((t / 0.13) ** 2)) + 0.12 * np.exp(-(((np.abs(t) - 0.26) / 0.2) ** 2))
    crest = top + over * (1 - np.abs(t) ** 1.5) * bow + 0.004
    sill = bottom - under * np.clip(1 - t**2, 0.0, 1.0) ** 0.75
    x = half * t

    def at(ys: Points, back: Points | None = None) -> Points:
        edge = np.stack([x, ys], axis=1)
        return easel.at(edge if back is None else join(edge, np.stack([x, back], axis=1)[::-1]), 0.08)

    if a.lipstick or a.makeup:
        lip: Colour = colorsys.hsv_to_rgb((0.93 + 0.09 * s.own[15]) % 1.0, 0.80, 0.62 + 0.2 * s.own[16])
    else:
        deep = luminance(s.skin) < 0.45  # on such skin, red lips of the same brightness would not show
        lip = mix(s.blood, (0.84, 0.46, 0.44), 0.50) if deep else mix(s.blood, (0.62, 0.22, 0.22), 0.40)
    easel.spray(easel.at(arc(0.0, float(sill.min()) - 0.045, 0.24, 0.045), 0.05), s.shade, 0.65, 0.03)
    easel.spray(
        easel.at([(-0.045, -0.62), (0.045, -0.62), (0.06, float(crest[16])), (-0.06, float(crest[16]))], 0.1),
        s.shade,
        0.25,
        0.02,
    )
    if a.mouth_open:
        inside = at(top, bottom)
        easel.fill(inside, (0.28, 0.06, 0.07), 134)
        cavity = easel.mask(inside)
        tooth = 0.62 if a.smiling else 0.28
        teeth = top - tooth * (top - bottom + 0.02)
        easel.spray(at(top + 0.02, teeth), (0.97, 0.96, 0.92), 1.0, 0.008, cavity)
        for n in range(-4, 5):
            gum = easel.at([(n * 0.088 + 0.044, y + 0.3), (n * 0.088 + 0.044, y - 0.05)], 0.08)
            easel.spray(ribbon(gum, 0.010), (0.72, 0.68, 0.66), 0.8, 0.004, cavity)
        easel.spray(
            easel.at(arc(0.0, float(bottom.min()) + 0.01, 0.55 * half, 0.040), 0.08),
            (0.62, 0.25, 0.26),
            0.95,
            0.015,
            cavity,
        )
        easel.spray(at(top + 0.02, top - 0.03), (0.12, 0.02, 0.03), 0.55, 0.015, cavity)
    easel.fill(at(crest, top), mix(lip, BLACK, 0.14), 134)
    easel.fill(at(bottom, sill), lip, 134)
    lips = easel.mask(at(crest, sill))
    shine = np.stack([0.5 * x, (0.42 * bottom + 0.58 * sill)], axis=1)
    easel.spray(
        easel.at(ribbon(shine, 0.38 * under), 0.08),
        mix(lip, (1.0, 0.95, 0.93), 0.55),
        0.75,
        0.10 * under + 0.012,
        lips,
    )
    easel.spray(at(sill + 0.25 * under, sill), mix(lip, s.shade, 0.6), 0.7, 0.012, lips)
    if not a.mouth_open:
        easel.fill(
            easel.at(
                ribbon(np.stack([x, seam], axis=1), (0.046 if a.smiling else 0.030) * (1 - 0.6 * np.abs(t))), 0.08
            ),
            mix(lip, (0.12, 0.03, 0.04), 0.85),
            134,
        )
    for side in (-1.0, 1.0):
        corner = (side * (half + 0.012), float(seam[0]))
        easel.spray(easel.at(arc(*corner, 0.035, 0.030), 0.08), s.shade, 0.9, 0.014)
        if a.smiling:
            fold = smooth([(0.30, -0.56), (0.46, -0.66), (half + 0.13, -0.80), (half + 0.13, -0.96)]) * (side, 1.0)
            easel.spray(easel.at(ribbon(fold, np.linspace(0.02, 0.045, len(fold))), 0.05), s.shade, 0.75, 0.016)
            easel.spray(easel.at(arc(side * 0.64, -0.52, 0.17, 0.13)), s.glow, 0.55, 0.06)
