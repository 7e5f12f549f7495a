"""Draws the hair: behind the ears, the hairstyle with its strands, sideburns and bangs."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from mtlbench.rendered.drawing import BLACK, Points, join, luminance, mix, moved, smooth
from mtlbench.rendered.face.easel import arc, mirrored, resampled, ribbon
from mtlbench.rendered.face.sitter import Sitter, stream


def _style(s: Sitter) -> str:
    return "Bald" if s.attributes.bald else s.attributes.hairstyle


def _waved(s: Sitter, points: Points, amount: float) -> Points:
    """Make the outline of hair wavy or curly, according to its texture; straight hair stays as it is."""
    texture = s.attributes.texture
    if texture == "Straight":
        return points
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    phase = 6.28 * s.own[18]
    if texture == "Wavy":
        offset = amount * np.sin(along * 7.0 + phase)
    else:
        offset = 1.5 * amount * (np.abs(np.sin(along * 7.5 + phase)) - 0.4)
    step = np.gradient(points, axis=0)
    normal = step[:, ::-1] * (1.0, -1.0) / (np.linalg.norm(step, axis=1, keepdims=True) + 1e-9)
    waved: Points = points + normal * offset[:, None]
    return waved


def draw_back_hair(s: Sitter) -> None:
    """Draw the hair behind neck and ears."""
    style, easel = _style(s), s.easel
    at = functools.partial(easel.at, depth=-0.6, flat=True)
    dark = mix(s.hair, BLACK, 0.38)
    if style == "Bun" and not s.attributes.hat:
        bun = _waved(s, arc(0.1 * (s.own[19] - 0.5), 1.78, 0.40, 0.34, count=40), 0.03)
        easel.fill(at(bun), s.hair, 120, body=True)
        for k in (0.35, 0.6, 0.85):
            easel.lines([at(arc(0.1 * (s.own[19] - 0.5), 1.72, 0.40 * k, 0.32 * k, 0.05, 0.45))], 0.03, dark, 120)
    if s.attributes.has_long_hair:
        end = -1.15 if style == "Bob" else -2.35
        right = resampled(
            smooth(
                [(0.0, 1.5), (0.9, 1.1), (1.15, 0.2), (1.20, -0.7), (1.18, end + 0.3), (0.95, end), (0.4, end - 0.05)]
            ),
            60,
        )
        easel.fill(at(mirrored(_waved(s, right, 0.045))), dark, 96)


def _hairline(s: Sitter) -> Points:
    """Return the hairline, from the right temple over the forehead to the left one."""
    style, own = _style(s), s.own
    if s.attributes.recedes:
        right = [(0.93, 0.30), (0.90, 0.74), (0.76, 1.06), (0.52, 1.24), (0.30, 1.18), (0.14, 1.05), (0.0, 1.02)]
    else:
        right = [(0.93, 0.30), (0.87, 0.62), (0.70, 0.84), (0.42, 0.95), (0.18, 0.96), (0.0, 0.94)]
    left = [(-x, y) for x, y in right[-2::-1]]
    line_ = smooth([*right, *left])
    if style in ("Part", "Long", "Bob") and not s.attributes.recedes:
        part = _part(s)
        lift = 0.24 * np.exp(-(((line_[:, 0] - part) / 0.20) ** 2))
        line_ = line_ + np.stack([np.zeros_like(lift), lift], axis=1)
    if own[20] < 0.5:
        line_ = line_[::-1] * (-1.0, 1.0)
    return line_


def _part(s: Sitter) -> float:
    """Return the position of the parting, as `_hairline` draws it before it is mirrored."""
    return 0.0 if s.own[21] < 0.35 else 0.38


def draw_hair(s: Sitter) -> None:
    """Draw the hair over forehead, temples and ears, with its strands and its shine."""
    a, easel, style = s.attributes, s.easel, _style(s)
    if style == "Bald":
        return
    top, side, end = {
        "Crop": (0.10, 0.045, 0.02),
        "Part": (0.22, 0.09, -0.02),
        "Quiff": (0.28, 0.06, 0.05),
        "Bob": (0.20, 0.20, -1.05),
        "Long": (0.17, 0.17, -2.10),
        "Bun": (0.09, 0.04, 0.05),
    }[style]
    if a.texture == "Curly":
        top, side = top + 0.14, side + 0.12
    elif a.texture == "Wavy":
        top, side = top + 0.06, side + 0.05
    if a.hat:  # hair that shows below the hat
        top, side, end = 0.04, max(side, 0.09), min(end, -0.20)
    crown = arc(0.0, 0.25, 1.0 + side, 1.17 + top, 0.0, 0.5, 48)
    if style == "Quiff" and not a.hat:
        swing = np.exp(-(((crown[:, 0] - 0.25) / 0.55) ** 2))
        crown = crown + np.stack([0.10 * swing, 0.05 * swing], axis=1)
    hairline = _hairline(s)
    inset = 0.05 if a.has_long_hair else 0.08 if a.hat else 0.0
    if a.has_long_hair:
        bulge = 0.10 if style == "Bob" else 0.06
        down = smooth(
            [(1.0 + side, 0.25), (1.0 + side + bulge, -0.35), (0.98 + side + bulge, 0.6 * end), (0.86 + side, end)]
        )[1:]
        up = smooth([(0.78, end + 0.04), (0.90, 0.62 * end), (0.93 - inset, -0.30), (0.91 - inset, 0.10)])
    else:
        down = smooth([(1.0 + side, 0.25), (1.02 + side, 0.14), (1.0, end)])[1:]
        up = np.array([(0.93 - inset, end + 0.02), (0.925 - inset, 0.2)])
    outer = join(down[::-1], crown, down * (-1.0, 1.0))
    inner = join(up, hairline if hairline[0, 0] > 0 else hairline[::-1], up[::-1] * (-1.0, 1.0))
    count = 90 if a.has_long_hair else 60
    outer, inner = resampled(outer, count), resampled(inner, count)
    outer = _waved(s, outer, 0.055)
    if a.has_long_hair:
        sides = np.abs(np.linspace(-1, 1, count))[:, None] > 0.55
        inner = np.where(sides, _waved(s, inner, 0.03), inner)
    face = easel.mask(easel.at(s.outline))
    shadow = ribbon(moved(inner, 0.0, -0.04), 0.12)
    easel.spray(easel.at(shadow), s.shade, 0.6, 0.045, face)
    shape = easel.at(join(outer, inner[::-1]))
    easel.fill(shape, s.hair, 146, body=True)
    _strands(s, inner, outer, style)
    if a.has_sideburns:
        alike = abs(luminance(s.hair) - luminance(s.skin)) < 0.20
        half = smooth([(0.99, 0.25), (0.955, -0.15), (0.925, -0.50), (0.80, -0.56), (0.80, -0.20), (0.85, 0.25)])
        for mirror in (-1.0, 1.0):
            burn = easel.at(half * (mirror, 1.0))
            easel.spray(burn, s.brow if alike else s.hair, 0.95, 0.020, face)
    if a.has_bangs:
        _fringe(s)


def _strands(s: Sitter, inner: Points, outer: Points, style: str) -> None:
    """Draw strands of hair between the inner and outer outline, and the shine across them."""
    easel, a = s.easel, s.attributes
    rng = stream(s.seed, "texture")
    count = len(inner)
    light, dark = mix(s.hair, (1.0, 0.93, 0.80), 0.17), mix(s.hair, (0.22, 0.13, 0.08), 0.24)
    position = np.arange(count)
    amount = {"Straight": 0.0, "Wavy": 0.05, "Curly": 0.06}[a.texture]
    frequency = {"Straight": 0.0, "Wavy": 9.0, "Curly": 16.0}[a.texture]

    def between(share: float | Points, start: float, stop: float) -> Points:
        t = np.linspace(start, stop, 18)
        i = np.stack([np.interp(t, position, inner[:, k]) for k in (0, 1)], axis=1)
        o = np.stack([np.interp(t, position, outer[:, k]) for k in (0, 1)], axis=1)
        shares = np.broadcast_to(share, t.shape)[:, None]
        path = i + (o - i) * shares
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        step = np.gradient(path, axis=0)
        normal = step[:, ::-1] * (1.0, -1.0) / (np.linalg.norm(step, axis=1, keepdims=True) + 1e-9)
        strand: Points = path + normal * (amount * np.sin(frequency * along + 20 * float(shares[0, 0])))[:, None]
        return strand

    paths: list[Points] = []
    if a.texture == "Curly":
        for at, share in zip(rng.uniform(0.0, count - 1, 120), rng.uniform(0.08, 0.95, 120), strict=True):
            x, y = between(share, at, at)[0]
            start, radius = rng.random(), rng.uniform(0.05, 0.09)
            paths.append(arc(x, y, radius, radius, start, start + 0.6, 10))
    elif style in ("Crop", "Quiff", "Bun"):
        for at in np.linspace(0.04, 0.96, 64) * (count - 1):
            low, high = rng.uniform(0.0, 0.45), rng.uniform(0.55, 0.97)
            lean = at + (count / 2 - at) * 0.16 + 1.2 * rng.normal()
            paths.append(between(np.linspace(low, high, 18), at, float(np.clip(lean, 0, count - 1))))
    else:
        parting = count * (0.5 if _part(s) == 0.0 else 0.40 if s.own[20] >= 0.5 else 0.60)
        for share in rng.uniform(0.06, 0.94, 20):
            ends = rng.uniform(0.0, 0.2, 2) * count / 2
            paths.append(between(share, parting - 1, ends[0]))
            paths.append(between(share, parting + 1, count - 1 - ends[1]))
    easel.lines((easel.at(path) for path in paths[::2]), 0.022, dark, 146)
    easel.lines((easel.at(path) for path in paths[1::2]), 0.020, light, 146)
    middle = count // 2 + round(0.12 * count * -s.light)
    window = slice(max(0, middle - count // 7), middle + count // 7)
    gloss = 0.45 * inner[window] + 0.55 * outer[window]
    if not a.hat and len(gloss) > 2:
        easel.spray(easel.at(ribbon(gloss, 0.10)), mix(s.hair, (1.0, 0.96, 0.90), 0.50), 0.55, 0.05)


def _fringe(s: Sitter) -> None:
    """Draw bangs: locks that end above the brows."""
    rng = stream(s.seed, "texture")
    easel = s.easel
    edges = np.linspace(-0.86, 0.86, 9)
    low = 0.60 + 0.03 * s.own[22]
    tips: list[tuple[float, float]] = []
    for left, right in itertools.pairwise(edges):
        drop = low - 0.14 * abs(left + right) * 0.5 + rng.uniform(0.0, 0.05)
        tips += [(left, drop + 0.07), ((left + right) / 2 + 0.02, drop)]
    lower = smooth([(-0.93, 0.38), *tips[1:], (0.93, 0.38)], steps=4)
    upper = arc(0.0, 0.35, 0.95, 0.92, 0.02, 0.48, 24)
    face = easel.mask(easel.at(s.outline))
    easel.spray(easel.at(ribbon(moved(lower, 0.0, -0.03), 0.10)), s.shade, 0.7, 0.035, face)
    easel.fill(easel.at(join(lower, upper), 0.05), s.hair, 150)
    light, dark = mix(s.hair, (1.0, 0.93, 0.80), 0.22), mix(s.hair, BLACK, 0.40)
    for tone, shift in ((dark, 0.0), (light, 0.06)):
        locks = [
            smooth([(0.62 * x + shift, 1.12), (0.88 * x + shift, 0.92), (x + shift, low - 0.12 * abs(x) + 0.08)])
            for x in np.linspace(-0.78, 0.74, 12)
        ]
        easel.lines((easel.at(lock, 0.05) for lock in locks), 0.020, tone, 150)
