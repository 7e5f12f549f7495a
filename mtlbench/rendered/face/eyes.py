"""Draws a face's eyes and brows."""

from __future__ import annotations

import colorsys

import numpy as np

from mtlbench.rendered.drawing import BLACK, WHITE, Points, join, mix, moved, smooth
from mtlbench.rendered.face.easel import arc, ribbon
from mtlbench.rendered.face.sitter import EYES, Sitter, pick, stream


def draw_eye(s: Sitter, side: float, gaze: Points) -> None:
    """Draw the eye on one side, -1 or 1; it looks along `gaze` (2,)."""
    a, easel = s.attributes, s.easel
    half, tilt = 0.238 + 0.02 * s.own[5], 0.05 * (s.own[6] - 0.3)
    high, low = (0.072, 0.045) if a.narrow_eyes else (0.150 + 0.02 * s.own[7], 0.088)
    t = np.linspace(-1.0, 1.0, 21)  # from the inner to the outer corner
    upper = high * (1 - np.abs(t) ** 2.3) * (1 + 0.12 * t) + tilt * t
    lower = -low * (1 - t**2) + tilt * t
    x = 0.415 + half * t

    def at(px: Points, py: Points, depth: float = 0.0) -> Points:
        return easel.at(np.stack([side * px, py], axis=1), depth)

    lid = smooth(np.stack([side * x, upper + 0.075 + 0.02 * s.own[8]], axis=1)[1:-1:3])
    if a.makeup:
        tint = colorsys.hsv_to_rgb((0.75 + 0.4 * s.own[9]) % 1.0, 0.60, 0.55)
        above = join(np.stack([side * x, upper], axis=1), np.stack([side * (x + 0.05 * t), upper + 0.17], axis=1)[::-1])
        easel.spray(easel.at(above), tint, 0.9, 0.030)
    easel.spray(easel.at(ribbon(lid, 0.022)), s.shade, 0.9, 0.008)
    eye = at(np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]]))
    easel.fill(eye, (0.99, 0.98, 0.96), 134)
    white = easel.mask(eye)
    centre = np.array([0.415 + side * gaze[0], 0.030 * (not a.narrow_eyes) + gaze[1]])
    iris = pick(EYES, s.own[10])
    radius = 0.118
    disc = easel.at((arc(0, 0, radius, radius) + centre) * (side, 1.0))
    easel.spray(disc, mix(iris, BLACK, 0.60), 1.0, 0.004, white)
    easel.spray(easel.at((arc(0, 0, 0.82 * radius, 0.82 * radius) + centre) * (side, 1.0)), iris, 1.0, 0.010, white)
    easel.spray(
        easel.at((arc(0, -0.035, 0.065, 0.045) + centre) * (side, 1.0)), mix(iris, WHITE, 0.40), 0.8, 0.014, white
    )
    easel.spray(easel.at((arc(0, 0, 0.052, 0.052) + centre) * (side, 1.0)), (0.02, 0.02, 0.03), 1.0, 0.004, white)
    easel.spray(
        at(np.concatenate([x, x[::-1]]), np.concatenate([upper + 0.02, upper[::-1] - 0.045])),
        (0.25, 0.18, 0.18),
        0.55,
        0.018,
        white,
    )
    glint = (arc(0.040 * s.light * side, 0.042, 0.030, 0.030, count=12) + centre) * (side, 1.0)
    easel.spray(easel.at(glint), (1.0, 1.0, 1.0), 1.0, 0.003, white)
    lash = mix(s.brow, BLACK, 0.75)
    thick = (0.048 if a.makeup else 0.032) * (0.55 + 0.45 * (t + 1) / 2) * (1 - 0.6 * (t < -0.9))
    easel.fill(easel.at(ribbon(np.stack([side * x, upper], axis=1), thick)), lash, 134)
    if a.makeup:
        wing = np.array([(x[-3], upper[-3]), (x[-1] + 0.10, upper[-1] + 0.075), (x[-1], upper[-1] - 0.01)])
        easel.fill(easel.at(wing * (side, 1.0)), lash, 134)
    rim = np.stack([side * x, lower], axis=1)[2:]
    easel.spray(easel.at(ribbon(rim, 0.016)), mix(s.shade, lash, 0.4), 0.85, 0.006)


def draw_brow(s: Sitter, side: float) -> None:
    """Draw the brow on one side, -1 or 1."""
    a = s.attributes
    y = 0.335 + 0.03 * (s.own[11] - 0.5)
    if a.arched_eyebrows:
        middle = smooth([(0.17, y + 0.020), (0.33, y + 0.120), (0.50, y + 0.195), (0.63, y + 0.12), (0.74, y - 0.02)])
    else:
        middle = smooth([(0.16, y - 0.005), (0.34, y + 0.015), (0.50, y + 0.025), (0.64, y + 0.010), (0.74, y - 0.025)])
    t = np.linspace(0.0, 1.0, len(middle))
    width = (0.150 if a.bushy_eyebrows else 0.078) * (0.75 + 0.5 * t - 1.15 * t**3)
    world = s.easel.at(ribbon(middle * (side, 1.0), width))
    s.easel.spray(world, s.brow, 0.95, 0.012)
    if a.bushy_eyebrows:
        rng = stream(s.seed, "texture")
        roots = middle[rng.integers(0, len(middle) - 4, 34)] + rng.uniform(-0.05, 0.05, (34, 2)) * (0.4, 1.0)
        hairs = [s.easel.at(np.stack([r, moved(r, 0.05, 0.055)]) * (side, 1.0)) for r in roots]
        s.easel.lines(hairs, 0.016, s.brow, 134)
