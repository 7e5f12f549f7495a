"""Draws hats, glasses and earrings."""

from __future__ import annotations

import colorsys
import functools

import numpy as np

from mtlbench.rendered.drawing import BLACK, WHITE, join, line, luminance, mix, moved, smooth
from mtlbench.rendered.face.easel import arc, mirrored, ribbon
from mtlbench.rendered.face.sitter import FRAMES, METALS, Sitter, stream


def draw_hat(s: Sitter) -> None:
    """Draw one of four kinds of hat, and its shadow on the forehead."""
    rng = stream(s.seed, "hat")
    easel = s.easel
    kind = int(rng.integers(4))
    felt = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 0.85), rng.uniform(0.22, 0.85))
    if abs(luminance(felt) - luminance(s.skin)) < 0.15:
        felt = mix(felt, BLACK, 0.5)
    dark, bright = mix(felt, BLACK, 0.45), mix(felt, WHITE, 0.30)
    band = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.9))
    broad = 1.10 + (0.10 if s.attributes.texture == "Curly" else 0.03)
    face = easel.mask(easel.at(s.outline))

    def cast(y: float) -> None:
        """Draw the hat's shadow on the forehead."""
        edge = smooth([(-0.95, y - 0.06), (-0.4, y), (0.4, y), (0.95, y - 0.06)])
        easel.spray(easel.at(ribbon(edge, 0.16)), s.shade, 0.75, 0.05, face)

    if kind == 0:  # a knitted cap with a fold and a pompom
        cast(0.66)
        crown = smooth([(broad, 0.75), (1.02, 1.35), (0.60, 1.78), (0.0, 1.92)])
        easel.fill(easel.at(mirrored(crown)), felt, 160, body=True)
        for x in np.linspace(-0.9, 0.9, 11):
            easel.lines([easel.at(smooth([(x * 1.12, 0.9), (x * 0.95, 1.4), (x * 0.25, 1.88)]))], 0.022, dark, 160)
        fold = join(
            smooth([(-broad - 0.02, 0.62), (-0.5, 0.74), (0.0, 0.77), (0.5, 0.74), (broad + 0.02, 0.62)]),
            smooth([(broad + 0.03, 0.98), (0.5, 1.13), (0.0, 1.16), (-0.5, 1.13), (-broad - 0.03, 0.98)]),
        )
        easel.fill(easel.at(fold), bright if rng.random() < 0.5 else band, 170, body=True)
        for x in np.linspace(-1.0, 1.0, 15):
            y = 0.13 * (1 - x * x)
            easel.lines([easel.at([(1.06 * x, 0.68 + y), (1.06 * x, 0.96 + y)])], 0.022, mix(dark, BLACK, 0.2), 170)
        if rng.random() < 0.6:
            for radius, tone in ((0.26, dark), (0.22, mix(band, WHITE, 0.3))):
                ball = arc(0.0, 2.0, radius, radius, count=40)
                ball = (ball - (0.0, 2.0)) * (1 + 0.10 * rng.uniform(-1, 1, (40, 1))) + (0.0, 2.0)
                easel.fill(easel.at(ball, flat=True), tone, 172, body=True)
    elif kind == 1:  # a cap with a peak
        cast(0.62)
        crown = smooth([(broad, 0.62), (1.06, 1.15), (0.72, 1.62), (0.0, 1.80)])
        easel.fill(easel.at(mirrored(crown)), felt, 160, body=True)
        for x in (-0.55, 0.55):
            easel.lines([easel.at(smooth([(x * 1.15, 0.85), (x, 1.3), (0.0, 1.79)]))], 0.02, dark, 160)
        easel.lines([easel.at(line((0.0, 0.9), (0.0, 1.79)))], 0.02, dark, 160)
        easel.fill(easel.at(arc(0.0, 1.80, 0.07, 0.05)), dark, 162)
        badge = arc(0.0, 1.26, 0.22, 0.18)
        easel.fill(easel.at(badge, 0.1), mix(band, WHITE, 0.5), 163)
        easel.fill(easel.at(arc(0.0, 1.26, 0.13, 0.10), 0.1), band, 164)
        lean = 0.12 * rng.uniform(-1, 1)
        peak = join(
            smooth([(-1.02, 0.76), (-0.5, 0.93), (0.0, 0.98), (0.5, 0.93), (1.02, 0.76)]),
            smooth([(1.16 + lean, 0.58), (0.7 + lean, 0.64), (lean, 0.70), (-0.7 + lean, 0.64), (-1.16 + lean, 0.58)]),
        )
        easel.fill(easel.at(peak, 0.15), dark if rng.random() < 0.5 else mix(band, BLACK, 0.2), 172, body=True)
        easel.lines([easel.at(smooth([(-0.9, 0.80), (0.0, 0.93), (0.9, 0.80)]), 0.15)], 0.02, bright, 172)
    elif kind == 2:  # a felt hat with a brim
        cast(0.68)
        brim = join(
            smooth([(-1.72, 0.92), (-1.0, 0.68), (0.0, 0.66), (1.0, 0.68), (1.72, 0.92)]),
            smooth([(1.45, 1.10), (0.8, 1.06), (0.0, 1.10), (-0.8, 1.06), (-1.45, 1.10)]),
        )
        crown = smooth([(1.06, 0.90), (1.02, 1.45), (0.80, 1.86), (0.42, 1.93), (0.0, 1.82)])
        easel.fill(easel.at(mirrored(crown)), felt, 160, body=True)
        easel.spray(easel.at(smooth([(-0.35, 1.85), (-0.1, 1.55), (0.1, 1.55), (0.35, 1.85)])), dark, 0.7, 0.06)
        hatband = join(
            smooth([(-1.06, 0.95), (0.0, 1.08), (1.06, 0.95)]), smooth([(1.05, 1.20), (0.0, 1.34), (-1.05, 1.20)])
        )
        easel.fill(easel.at(hatband), band if abs(luminance(band) - luminance(felt)) > 0.15 else dark, 164)
        easel.fill(easel.at(brim, 0.12), mix(felt, WHITE, 0.10), 174, body=True)
        easel.spray(easel.at(ribbon(smooth([(-1.3, 1.05), (0.0, 1.06), (1.3, 1.05)]), 0.09), 0.12), dark, 0.7, 0.04)
    else:  # a beret
        cast(0.74)
        lean = -1.0 if rng.random() < 0.5 else 1.0
        cap = smooth(
            [
                (-1.12, 0.70),
                (-1.30, 1.12),
                (-0.95, 1.62),
                (-0.1, 1.83),
                (0.75, 1.72),
                (1.42, 1.30),
                (1.38, 0.98),
                (1.12, 0.72),
            ]
        )
        lower = smooth([(1.12, 0.72), (0.5, 0.86), (0.0, 0.88), (-0.5, 0.84), (-1.12, 0.70)])
        easel.fill(easel.at(join(cap, lower) * (lean, 1.0)), felt, 162, body=True)
        easel.stroke(easel.at(lower * (lean, 1.0)), 0.09, dark, 170)
        easel.spray(
            easel.at(smooth([(0.4, 1.05), (0.9, 1.15), (1.25, 1.12), (0.8, 1.02)]) * (lean, 1.0)), dark, 0.6, 0.08
        )
        easel.fill(
            easel.at(
                line((0.08, 1.76), (0.14, 1.96), 2)[[0, 1, 1, 0]] * (lean, 1.0)
                + [(-0.03, 0), (-0.03, 0), (0.03, 0), (0.03, 0)]
            ),
            dark,
            162,
        )
    easel.spray(easel.at(arc(0.35 * s.light, 1.38, 0.30, 0.16)), mix(felt, WHITE, 0.55), 0.30, 0.14)


def draw_glasses(s: Sitter) -> None:
    """Draw one of three kinds of glasses."""
    rng = stream(s.seed, "glasses")
    easel = s.easel
    kind = int(rng.integers(3))
    frame = FRAMES[rng.integers(len(FRAMES))]
    if abs(luminance(frame) - luminance(s.skin)) < 0.2:
        frame = mix(frame, BLACK, 0.75) if luminance(s.skin) > 0.3 else mix(frame, WHITE, 0.7)
    width = rng.uniform(0.055, 0.085)
    if kind == 0:
        rim = arc(0.44, -0.02, 0.335, 0.315, count=40)
    elif kind == 1:
        rim = smooth(
            [
                (0.14, 0.20),
                (0.44, 0.245),
                (0.76, 0.21),
                (0.80, 0.02),
                (0.72, -0.24),
                (0.44, -0.285),
                (0.19, -0.24),
                (0.11, 0.0),
                (0.14, 0.20),
            ]
        )
    else:
        rim = smooth(
            [
                (0.13, 0.14),
                (0.40, 0.22),
                (0.74, 0.27),
                (0.84, 0.25),
                (0.76, -0.05),
                (0.58, -0.26),
                (0.36, -0.28),
                (0.18, -0.15),
                (0.13, 0.14),
            ]
        )
    tint = mix((0.75, 0.88, 1.0), WHITE, rng.random())
    for side in (-1.0, 1.0):
        lens = easel.at(rim * (side, 1.0), 0.12)
        glass = easel.mask(lens)
        easel.spray(lens, tint, 0.16, 0.004)
        glare = moved(np.array([(0.34, 0.30), (0.48, 0.30), (0.34, -0.32), (0.20, -0.32)]), -0.8 * (side < 0), 0.0)
        easel.spray(easel.at(glare, 0.12), (1.0, 1.0, 1.0), 0.30, 0.012, glass)
        arm = np.array([(0.78, 0.12), (0.99, 0.08)]) * (side, 1.0)
        easel.stroke(join(easel.at(arm[:1], 0.12), easel.at(arm[1:], -0.1)), width, mix(frame, BLACK, 0.2), 190)
        closed = join(lens, lens[1:3])
        easel.spray(moved(ribbon(closed, width), 0.0, -0.035), s.shade, 0.5, 0.02)
        easel.stroke(closed, width, frame, 200)
        top = rim[(rim[:, 1] > 0.12)]
        easel.lines(
            [easel.at(top[np.argsort(top[:, 0])] * (side, 1.0) + (0.0, 0.012), 0.12)],
            0.014,
            mix(frame, WHITE, 0.55),
            204,
        )
    bridge = smooth([(-0.13, 0.08), (0.0, 0.13), (0.13, 0.08)])
    easel.stroke(easel.at(bridge, 0.14), width, frame, 200)


def draw_earrings(s: Sitter) -> None:
    """Draw two hoops or two drops."""
    rng = stream(s.seed, "jewellery")
    metal = METALS[rng.integers(2)]
    hoop = rng.random() < 0.5
    gem = colorsys.hsv_to_rgb(rng.random(), 0.75, 0.85)
    for side in (-1.0, 1.0):
        at = functools.partial(s.easel.at, depth=-0.25)
        x = 1.06 * side
        if hoop:
            ring = arc(x, -0.50, 0.135, 0.19, 0.25, 1.25, 30)
            s.easel.stroke(at(ring), 0.075, mix(metal, BLACK, 0.55), 180)
            s.easel.stroke(at(ring), 0.045, metal, 200)
        else:
            s.easel.stroke(at([(x, -0.28), (x, -0.46)]), 0.04, mix(metal, BLACK, 0.2), 180)
            drop = smooth([(x, -0.40), (x + 0.10, -0.62), (x, -0.74), (x - 0.10, -0.62), (x, -0.40)])
            s.easel.fill(at(drop), mix(gem, BLACK, 0.4), 190)
            s.easel.fill(at((drop - (x, -0.6)) * 0.72 + (x, -0.6)), gem, 205)
            s.easel.fill(at(arc(x - 0.025, -0.57, 0.025, 0.04, count=10)), WHITE, 205)
