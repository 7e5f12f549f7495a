"""The person who sits for a face: random traits, colours of skin, hair and eyes, pose and outline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtlbench.rendered.drawing import Colour, Points, luminance, mix, smooth
from mtlbench.rendered.face.attributes import CARRIERS, FaceAttributes, Surroundings
from mtlbench.rendered.face.easel import Easel, mirrored

_STREAMS = ("person", "pose", "expression", "clothes", "hat", "glasses", "jewellery", "texture", "backdrop", "light",
            "surroundings")  # fmt: skip


def stream(seed: int, name: str) -> np.random.Generator:
    """Return one generator per aspect, so that one attribute's draws never shift the numbers of another."""
    return np.random.default_rng((seed, _STREAMS.index(name)))


def surroundings_by_chance(seed: int) -> Surroundings:
    """Return random surroundings."""
    return Surroundings(*(bool(v) for v in stream(seed, "surroundings").random(len(CARRIERS)) < 0.5))


_SKINS: tuple[Colour, ...] = (
    (0.96, 0.78, 0.65),
    (0.93, 0.72, 0.56),
    (0.87, 0.64, 0.47),
    (0.78, 0.55, 0.38),
    (0.66, 0.44, 0.29),
    (0.56, 0.36, 0.24),
    (0.46, 0.29, 0.19),
)
_PALE: Colour = (1.0, 0.87, 0.79)
_HAIR: dict[str, tuple[Colour, ...]] = {
    "Black": ((0.08, 0.07, 0.08), (0.11, 0.09, 0.10)),
    "Brown": ((0.33, 0.19, 0.11), (0.42, 0.26, 0.15), (0.26, 0.15, 0.09)),
    "Blond": ((0.90, 0.72, 0.38), (0.84, 0.66, 0.36), (0.95, 0.82, 0.53)),
    "Gray": ((0.66, 0.66, 0.68), (0.78, 0.78, 0.79), (0.56, 0.57, 0.60)),
    "Other": ((0.74, 0.29, 0.10), (0.83, 0.38, 0.16), (0.78, 0.30, 0.52), (0.25, 0.42, 0.72), (0.36, 0.25, 0.55)),
}
EYES: tuple[Colour, ...] = (
    (0.27, 0.16, 0.09),
    (0.40, 0.24, 0.12),
    (0.46, 0.38, 0.18),
    (0.27, 0.46, 0.30),
    (0.25, 0.47, 0.68),
    (0.42, 0.52, 0.58),
)
METALS: tuple[Colour, ...] = ((0.90, 0.74, 0.34), (0.84, 0.86, 0.89))
FRAMES: tuple[Colour, ...] = (
    (0.07, 0.07, 0.08),
    (0.36, 0.18, 0.09),
    (0.55, 0.10, 0.14),
    (0.12, 0.22, 0.45),
    (0.78, 0.62, 0.28),
)


def pick(choices: Sequence[Colour], share: float) -> Colour:
    """Return the colour at a position of 0..1 in a list."""
    return choices[int(share * len(choices))]


@dataclass(frozen=True)
class Sitter:
    """One person before the easel, with all that the drawing functions of the parts need to know."""

    easel: Easel
    attributes: FaceAttributes
    seed: int
    own: Points  # (40,) random numbers in 0..1 that belong to the person
    skin: Colour
    hair: Colour  # of the head, and by default of brows and beard
    light: float  # the side it comes from: -1 left .. 1 right
    surroundings: Surroundings
    outline: Points  # of head and face, in head coordinates

    @property
    def shade(self) -> Colour:
        """The skin in shadow."""
        r, g, b = self.skin
        return 0.62 * r, 0.50 * g, 0.47 * b

    @property
    def glow(self) -> Colour:
        """The skin in full light."""
        return mix(self.skin, (1.0, 0.95, 0.86), 0.12 + 0.36 * luminance(self.skin))

    @property
    def blood(self) -> Colour:
        """The skin where it is red."""
        r, g, b = self.skin
        return min(1.0, 0.92 * r + 0.08), 0.66 * g, 0.66 * b

    @property
    def brow(self) -> Colour:
        """The brow's colour: darker than the hair, and distinct from the skin."""
        colour = mix(self.hair, (0.10, 0.07, 0.06), 0.40)
        if abs(luminance(colour) - luminance(self.skin)) < 0.20:
            colour = mix(colour, (0.07, 0.05, 0.05), 0.75)
        return colour


def _outline(attributes: FaceAttributes, own: Points) -> Points:
    """Return the head's outline; the attributes decide its shape below the cheekbones only."""
    wide = 0.05 * (own[0] - 0.5)
    skull = [(0.0, 1.42), (0.34, 1.37), (0.66, 1.18), (0.88, 0.84), (0.97 + wide, 0.42)]
    if attributes.oval_face:
        chin = -1.50 - 0.04 * own[1]
        face = [(0.95 + wide, 0.05), (0.87, -0.38), (0.70, -0.83), (0.43, -1.26), (0.20, chin + 0.05)]
    elif own[2] < 0.5:  # square
        chin = -1.31 - 0.05 * own[1]
        face = [(0.985 + wide, 0.05), (0.97, -0.35), (0.92, -0.74), (0.64, -1.13), (0.32, chin + 0.02)]
    else:  # round
        chin = -1.27 - 0.05 * own[1]
        face = [(1.0 + wide, 0.05), (1.0, -0.30), (0.91, -0.67), (0.65, -1.03), (0.33, chin + 0.03)]
    if attributes.is_chubby:
        face = [(x + 0.11 * math.exp(-(((y + 0.6) / 0.42) ** 2)), y) for x, y in face]
    return mirrored(smooth([*skull, *face, (0.0, chin)]))


def seat(
    attributes: FaceAttributes, seed: int, surroundings: Surroundings, width: int, height: int, scale: int
) -> Sitter:
    """Place a person before an empty canvas in a random pose."""
    own = np.random.default_rng((attributes.person, len(_STREAMS))).random(40)
    rng = stream(seed, "pose")
    unit = 0.214 * min(height, width * 218 / 178) * rng.uniform(0.88, 1.10)
    angle = math.radians(rng.uniform(-9.0, 9.0))
    place = np.array([width * rng.uniform(0.44, 0.56), height * rng.uniform(0.455, 0.51)])
    turn = (rng.uniform(-0.20, 0.20), rng.uniform(-0.07, 0.09))
    matrix = (
        unit
        * np.array([[1.0, 0.0], [0.0, -1.0]])
        @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    )
    hair = pick(_HAIR[attributes.hair], own[34])
    fair = attributes.hair == "Blond" or (attributes.hair == "Other" and hair[0] > hair[2] + 0.3)
    skin = _PALE if attributes.pale_skin else pick(_SKINS, own[30] * (0.5 if fair else 1.0))
    drift = 0.06 * (own[31:34] - 0.5)
    skin = (min(1.0, skin[0] + drift[0]), skin[1] + drift[1], skin[2] + drift[2])
    if attributes.hair == "Brown" and abs(luminance(hair) - luminance(skin)) < 0.16:
        hair = mix(hair, (0.13, 0.07, 0.04), 0.65)  # otherwise the head looks bald
    side = stream(seed, "light").uniform(-1.0, 1.0)
    return Sitter(
        easel=Easel((width * scale, height * scale), matrix * scale, place * scale, turn),
        attributes=attributes,
        seed=seed,
        own=own,
        skin=skin,
        hair=hair,
        light=math.copysign(0.35 + 0.65 * abs(side), side),
        surroundings=surroundings,
        outline=_outline(attributes, own),
    )
