"""Draws a face's facial hair: shadow, beard, goatee and mustache."""

from __future__ import annotations

import numpy as np

from mtlbench.rendered.drawing import BLACK, WHITE, Colour, Points, join, luminance, mix, moved, smooth
from mtlbench.rendered.face.easel import mirrored
from mtlbench.rendered.face.sitter import Sitter, stream


def _jaw(s: Sitter, high: float, cheek: float, lip: float) -> Points:
    """Return the area of a beard: below a line from the ear over the cheek to the upper lip."""
    right = s.outline[: len(s.outline) // 2]
    below = right[right[:, 1] < high] * (0.995, 1.0)
    edge = smooth([(0.0, lip), (0.22, lip - 0.01), (0.48, cheek), (0.74, cheek + 0.14), tuple(below[0])])
    return mirrored(join(edge, below))


def draw_facial_hair(s: Sitter) -> None:
    """Draw all facial hair except the mustache, which is drawn later, over the lip."""
    a, easel = s.attributes, s.easel
    rng = stream(s.seed, "texture")
    colour = s.brow
    face = easel.mask(easel.at(s.outline))
    if a.facial_hair == "Shadow":
        blue = mix(mix(s.brow, (0.16, 0.18, 0.22), 0.6), BLACK, 0.35 if luminance(s.skin) < 0.5 else 0.0)
        area = easel.at(_jaw(s, -0.22, -0.72, -0.62), 0.03)
        easel.spray(area, blue, 0.46, 0.07, face)
        easel.spray(area, mix(blue, BLACK, 0.5), 0.62, 0.05, face, grain=rng)
    elif a.facial_hair == "Beard":
        area = easel.at(_jaw(s, 0.05, -0.70, -0.60), 0.03)
        easel.spray(area, colour, 0.97, 0.025, face)
        below = s.outline[s.outline[:, 1] < -0.55]
        easel.fill(easel.at(join(below, (below * (0.92, 1.0) + (0.0, -0.12))[::-1]), 0.03), colour, 130)
        easel.spray(area, mix(colour, s.glow, 0.35), 0.35, 0.04, face, grain=rng)
        _strands_down(s, rng, 90, (-0.92, 0.92), (-0.62, -1.25), colour)
    elif a.facial_hair == "Goatee":
        chin = float(s.outline[:, 1].min())
        patch = smooth(
            [
                (0.0, -1.06),
                (0.20, -1.06),
                (0.36, -0.86),
                (0.46, -0.92),
                (0.44, -1.16),
                (0.30, chin + 0.02),
                (0.14, chin - 0.12),
                (0.0, chin - 0.15),
            ]
        )
        world = easel.at(mirrored(patch), 0.03)
        easel.fill(easel.at(mirrored(patch[-14:]), 0.03), colour, 130)
        easel.spray(world, colour, 0.97, 0.018)
        easel.spray(world, mix(colour, s.glow, 0.35), 0.35, 0.02, grain=rng)
        _strands_down(s, rng, 26, (-0.30, 0.30), (-1.15, chin + 0.05), colour)


def _strands_down(
    s: Sitter,
    rng: np.random.Generator,
    count: int,
    across: tuple[float, float],
    down: tuple[float, float],
    colour: Colour,
) -> None:
    """Draw single hairs of a beard, on the face only."""
    right = s.outline[: len(s.outline) // 2][::-1]
    x, y = rng.uniform(*across, count), rng.uniform(min(down), max(down), count)
    inside = (np.abs(x) < np.interp(y, right[:, 1], right[:, 0]) - 0.05) & ((np.abs(x) > 0.52) | (y < -1.13))
    for tone, part in ((mix(colour, WHITE, 0.22), inside & (x > 0)), (mix(colour, BLACK, 0.45), inside & (x <= 0))):
        ends = [
            np.array([(px, py), (px * 0.97 + 0.01, py - 0.13)]) * (q, 1.0)
            for px, py in zip(x[part], y[part], strict=True)
            for q in (1.0,)
        ]
        s.easel.lines((s.easel.at(e, 0.03) for e in ends), 0.014, tone, 130)


def draw_mustache(s: Sitter) -> None:
    """Draw the mustache, over the lip."""
    rng = stream(s.seed, "texture")
    droop = 0.02 + 0.10 * s.own[17]
    half = smooth(
        [
            (0.0, -0.665),
            (0.18, -0.655),
            (0.36, -0.72),
            (0.50, -0.79 - droop),
            (0.40, -0.815 - 0.5 * droop),
            (0.20, -0.785),
            (0.03, -0.765),
            (0.0, -0.745),
        ]
    )
    world = s.easel.at(mirrored(half), 0.12)
    s.easel.spray(world, mix(s.brow, BLACK, 0.3), 0.9, 0.02)
    s.easel.fill(world, s.brow, 140)
    for tone in (mix(s.brow, WHITE, 0.25), mix(s.brow, BLACK, 0.5)):
        starts = rng.uniform((0.02, -0.71), (0.30, -0.68), (9, 2))
        for side in (-1.0, 1.0):
            s.easel.lines(
                (s.easel.at(np.stack([p, moved(p, 0.10, -0.045)]) * (side, 1.0), 0.12) for p in starts),
                0.014,
                tone,
                140,
            )
