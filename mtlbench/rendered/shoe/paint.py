"""The colours of a shoe: random, or decided by labels if tasks conflict."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from mtlbench.rendered.drawing import BLACK, WHITE, Colour, Points, contrast, mix, random_colour
from mtlbench.rendered.shoe.attributes import CATEGORIES, CLOSURES, GENDERS, HEELS, ShoeAttributes

# What each label decides at full conflict, in this order: hue and brightness of the upper, then of the background.
_CARRIERS = (("category", CATEGORIES), ("gender", GENDERS), ("closure", CLOSURES), ("heel", HEELS))

_STREAMS = ("pose", "colour", "style", "closure", "ornament", "background", "sensor", "carriers")


def stream(seed: int, name: str) -> np.random.Generator:
    """Return one generator per aspect, so that one label's draws never shift the numbers of another."""
    return np.random.default_rng((seed, _STREAMS.index(name)))


@dataclass(frozen=True)
class Paint:
    """The colours of one shoe."""

    upper: Colour
    panel: Colour
    lining: Colour
    sole: Colour
    heel: Colour
    detail: Colour  # closures
    trim: Colour  # ornaments
    stitch: Colour
    metal: Colour
    gloss: float


def carriers(attributes: ShoeAttributes, seed: int, conflict: float) -> Points:
    """Return the hues and brightnesses that labels may decide, (4,) in 0..1, in the order of `_CARRIERS`.

    Each is random, over the whole range or over the label's own part of it, so that all spread evenly over a set.
    """
    rng = stream(seed, "carriers")
    chance, decided = rng.random(4), rng.random(4) < conflict
    code = np.array([values.index(getattr(attributes, label)) for label, values in _CARRIERS])
    return np.where(decided, (code + chance) / [len(values) for _, values in _CARRIERS], chance)


def mix_paint(seed: int, hue: float, brightness: float) -> Paint:
    """Return the colours of a shoe whose upper has a given hue and brightness, both 0..1.

    Other colours are random or follow from these.
    """
    rng = stream(seed, "colour")
    upper = colorsys.hsv_to_rgb(hue, 0.9 * rng.random() ** 0.6, 0.18 + 0.77 * brightness)
    tint, other = random_colour(rng), random_colour(rng)
    panel = mix(upper, other, rng.uniform(0.0, 0.45)) if rng.random() < 0.6 else upper
    sole = (BLACK, (0.45, 0.30, 0.18), WHITE, other)[rng.integers(4)]
    detail = contrast(upper, tint)
    return Paint(
        upper=upper,
        panel=panel,
        lining=mix(mix(other, (0.8, 0.7, 0.55), 0.6), BLACK, 0.25),
        sole=sole,
        heel=sole if rng.random() < 0.6 else mix(upper, BLACK, 0.25),
        detail=detail,
        trim=contrast(upper, other),
        stitch=mix(upper, detail, 0.6),
        metal=((0.85, 0.72, 0.35), (0.80, 0.82, 0.85))[rng.integers(2)],
        gloss=rng.uniform(0.0, 0.5),
    )
