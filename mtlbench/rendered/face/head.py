"""Draws the head: ears, and the skin of the face with its volume."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from mtlbench.rendered.drawing import Colour, Points, mix, smooth
from mtlbench.rendered.face.easel import arc, mirrored, ribbon
from mtlbench.rendered.face.sitter import Sitter


def draw_ears(s: Sitter) -> None:
    """Draw both ears."""
    for side in (-1.0, 1.0):
        at = functools.partial(s.easel.at, depth=-0.25)
        ear = smooth([(0.92, 0.22), (1.06, 0.24), (1.15, 0.10), (1.12, -0.10), (1.05, -0.26), (0.93, -0.28)]) * (
            side,
            1.0,
        )
        s.easel.fill(at(ear), s.skin, 128, body=True)
        inner = smooth([(0.98, 0.14), (1.05, 0.15), (1.09, 0.05), (1.06, -0.08), (1.0, -0.12)]) * (side, 1.0)
        s.easel.spray(at(inner), mix(s.shade, s.blood, 0.4), 0.7, 0.025)


def draw_head(s: Sitter) -> None:
    """Draw the skin of head and face, with the volume of a face."""
    a, easel = s.attributes, s.easel
    easel.fill(easel.at(s.outline), s.skin, 134, body=True)
    face = easel.mask(easel.at(s.outline))

    def spray(
        points: Points | Sequence[tuple[float, float]], colour: Colour, opacity: float, blur: float, depth: float = 0.0
    ) -> None:
        easel.spray(easel.at(points, depth), colour, opacity, blur, face)

    spray(arc(0.18 * s.light, 0.78, 0.55, 0.30), s.glow, 0.45, 0.16)
    for side in (-1.0, 1.0):
        far = 1.0 if side * s.light < 0 else 0.45
        jaw = smooth([(0.98, 0.35), (0.80, -0.30), (0.62, -0.85), (0.30, -1.30), (0.9, -1.3), (1.15, -0.5), (1.1, 0.2)])
        spray(jaw * (side, 1.0), s.shade, 0.50 * far, 0.15)
        spray(arc(side * 0.41, 0.10, 0.28, 0.18), s.shade, 0.34, 0.08)
        spray(arc(side * 0.56, -0.40, 0.22, 0.17), s.glow, 0.34 * (1.25 - 0.5 * far), 0.09)
        spray(arc(side * 0.60, -0.45, 0.20, 0.17), s.blood, 0.30, 0.09)
        if a.high_cheekbones:
            hollow = smooth([(0.90, -0.30), (0.62, -0.55), (0.42, -0.78), (0.60, -0.80), (0.86, -0.58), (0.90, -0.30)])
            spray(hollow * (side, 1.0), s.shade, 0.75, 0.06)
            spray(ribbon(smooth([(0.36, -0.36), (0.58, -0.29), (0.84, -0.10)]) * (side, 1.0), 0.11), s.glow, 0.85, 0.04)
        if a.rosy_cheeks:
            rose = mix(s.blood, (0.90, 0.25, 0.27), 0.55)
            spray(arc(side * 0.60, -0.43, 0.23, 0.20), rose, 0.62, 0.09)
        if a.bags_under_eyes:
            bag = smooth([(0.20, -0.13), (0.30, -0.24), (0.45, -0.27), (0.62, -0.17)]) * (side, 1.0)
            spray(ribbon(bag, 0.05), mix(s.shade, (0.30, 0.18, 0.30), 0.4), 0.85, 0.018)
            spray(arc(side * 0.41, -0.15, 0.17, 0.06), mix(s.shade, (0.40, 0.26, 0.42), 0.35), 0.5, 0.035)
        if a.is_chubby:
            fold = smooth([(0.50, -0.62), (0.60, -0.80), (0.58, -1.0)]) * (side, 1.0)
            spray(ribbon(fold, 0.035), s.shade, 0.55, 0.02)
    chin = float(s.outline[:, 1].min())
    spray(arc(0.10 * s.light, chin + 0.20, 0.17, 0.11), s.glow, 0.40, 0.06)
    if a.has_double_chin:
        roll = mirrored(smooth([(0.62, chin + 0.20), (0.52, chin - 0.02), (0.30, chin - 0.15), (0.0, chin - 0.19)]))
        easel.fill(easel.at(roll), s.skin, 126)
        easel.spray(
            easel.at(
                ribbon(
                    smooth(
                        [
                            (-0.50, chin + 0.16),
                            (-0.28, chin + 0.01),
                            (0.0, chin - 0.03),
                            (0.28, chin + 0.01),
                            (0.50, chin + 0.16),
                        ]
                    ),
                    0.05,
                )
            ),
            s.shade,
            0.95,
            0.018,
        )
        easel.spray(easel.at(arc(0.0, chin - 0.21, 0.42, 0.05)), s.shade, 0.5, 0.03)
    if a.bald:
        spray(arc(0.30 * s.light, 1.08, 0.30, 0.17), mix(s.glow, (1.0, 1.0, 1.0), 0.35), 0.75, 0.08)
        for y in (0.62, 0.76):
            wrinkle = smooth([(-0.38, y), (-0.15, y + 0.03), (0.15, y + 0.03), (0.38, y)])
            spray(ribbon(wrinkle, 0.018), s.shade, 0.35, 0.012)
