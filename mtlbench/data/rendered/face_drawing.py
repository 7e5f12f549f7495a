"""Draws one face from its attributes (`draw_face`). Which attributes a set has is left to `faces.py`.

Nobody is depicted, and numbers measured on these pictures say nothing about CelebA.
"""

from __future__ import annotations

import colorsys
import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from mtlbench.data.rendered.drawing import (
    BLACK,
    WHITE,
    Canvas,
    Colour,
    Points,
    background,
    join,
    line,
    luminance,
    mix,
    moved,
    smooth,
    to_bytes,
)

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
HAIR_COLOURS = ("Black", "Brown", "Blond", "Gray", "Other")
TEXTURES = ("Straight", "Wavy", "Curly")
HAIRSTYLES = ("Crop", "Part", "Quiff", "Bob", "Long", "Bun")
FACIAL_HAIR = ("None", "Shadow", "Mustache", "Goatee", "Beard")


@dataclass(frozen=True)
class FaceAttributes:
    """What a face shows. Of fields that exclude each other the later ones give way; `labels` says what is to be seen.

    Attributes:
        person: decides all that stays the same from one picture of a person to the next and is no attribute.
        hair: one of `HAIR_COLOURS`; of a bald person, the colour of the brows and the beard.
        texture: one of `TEXTURES`.
        hairstyle: one of `HAIRSTYLES`.
        facial_hair: one of `FACIAL_HAIR`.
    """

    person: int = 0
    smiling: bool = False
    oval_face: bool = False
    bald: bool = False
    arched_eyebrows: bool = False
    big_lips: bool = False
    big_nose: bool = False
    facial_hair: str = "None"
    hair: str = "Brown"
    texture: str = "Straight"
    hairstyle: str = "Crop"
    bangs: bool = False
    receding_hairline: bool = False
    sideburns: bool = False
    pale_skin: bool = False
    chubby: bool = False
    double_chin: bool = False
    pointy_nose: bool = False
    bushy_eyebrows: bool = False
    narrow_eyes: bool = False
    bags_under_eyes: bool = False
    high_cheekbones: bool = False
    mouth_open: bool = False
    eyeglasses: bool = False
    hat: bool = False
    rosy_cheeks: bool = False
    makeup: bool = False
    lipstick: bool = False
    earrings: bool = False
    necktie: bool = False
    necklace: bool = False
    blurry: bool = False

    def labels(self) -> dict[str, bool]:
        """Return CelebA's 40 attributes, in its order, as they are to be seen in the picture.

        Attractive, Male and Young are not drawn: nobody has them. No_Beard means no facial hair at all.
        """
        beard = self.facial_hair == "Beard"
        shown = {
            "5_o_Clock_Shadow": self.facial_hair == "Shadow",
            "Arched_Eyebrows": self.arched_eyebrows,
            "Bags_Under_Eyes": self.bags_under_eyes,
            "Bald": self.bald,
            "Bangs": self.has_bangs,
            "Big_Lips": self.big_lips,
            "Big_Nose": self.big_nose,
            **{f"{colour}_Hair": self.hair == colour and not self.bald for colour in HAIR_COLOURS[:-1]},
            "Blurry": self.blurry,
            "Bushy_Eyebrows": self.bushy_eyebrows,
            "Chubby": self.is_chubby,
            "Double_Chin": self.has_double_chin,
            "Eyeglasses": self.eyeglasses,
            "Goatee": self.facial_hair == "Goatee",
            "Heavy_Makeup": self.makeup,
            "High_Cheekbones": self.high_cheekbones,
            "Mouth_Slightly_Open": self.mouth_open,
            "Mustache": self.facial_hair in ("Mustache", "Beard"),
            "Narrow_Eyes": self.narrow_eyes,
            "No_Beard": self.facial_hair == "None",
            "Oval_Face": self.oval_face,
            "Pale_Skin": self.pale_skin,
            "Pointy_Nose": self.has_pointy_nose,
            "Receding_Hairline": self.recedes and not self.hat,
            "Rosy_Cheeks": self.rosy_cheeks,
            "Sideburns": self.has_sideburns or beard,
            "Smiling": self.smiling,
            "Straight_Hair": self.texture == "Straight" and not self.bald,
            "Wavy_Hair": self.texture == "Wavy" and not self.bald,
            "Wearing_Earrings": self.earrings,
            "Wearing_Hat": self.hat,
            "Wearing_Lipstick": self.lipstick or self.makeup,
            "Wearing_Necklace": self.has_necklace,
            "Wearing_Necktie": self.necktie,
        }
        return {name: shown.get(name, False) for name in ATTRIBUTES}

    @property
    def has_bangs(self) -> bool:
        """Whether bangs are drawn."""
        return self.bangs and not self.bald

    @property
    def recedes(self) -> bool:
        """Whether the hairline is drawn receding, under a hat too."""
        return self.receding_hairline and not self.bald and not self.bangs

    @property
    def has_long_hair(self) -> bool:
        """Whether hair falls over the ears."""
        return self.hairstyle in ("Bob", "Long") and not self.bald

    @property
    def has_sideburns(self) -> bool:
        """Whether sideburns are drawn, other than a beard's."""
        return self.sideburns and not self.bald and not self.has_long_hair

    @property
    def is_chubby(self) -> bool:
        """Whether the cheeks are drawn full."""
        return self.chubby and not self.oval_face

    @property
    def has_double_chin(self) -> bool:
        """Whether a second chin is drawn."""
        return self.double_chin and not self.oval_face and self.facial_hair not in ("Goatee", "Beard")

    @property
    def has_pointy_nose(self) -> bool:
        """Whether the nose is drawn narrow and pointed."""
        return self.pointy_nose and not self.big_nose

    @property
    def has_necklace(self) -> bool:
        """Whether a necklace is drawn."""
        return self.necklace and not self.necktie


@dataclass(frozen=True)
class Surroundings:
    """What is pure nuisance unless tasks conflict: two kinds of backdrop, clothes, light and exposure."""

    warm_backdrop: bool
    bright_backdrop: bool
    warm_clothes: bool
    bright_clothes: bool
    striped_clothes: bool
    warm_light: bool
    bright_exposure: bool


# Which of the surroundings the label of which task decides as `conflict` rises (see `render_faces`).
CARRIERS = {
    "warm_backdrop": "Smiling",
    "bright_backdrop": "Bald",
    "warm_clothes": "5_o_Clock_Shadow",
    "bright_clothes": "Oval_Face",
    "striped_clothes": "Big_Lips",
    "warm_light": "Arched_Eyebrows",
    "bright_exposure": "Big_Nose",
}

_STREAMS = ("person", "pose", "expression", "clothes", "hat", "glasses", "jewellery", "texture", "backdrop", "light",
            "surroundings")  # fmt: skip


def _stream(seed: int, name: str) -> np.random.Generator:
    """One generator per aspect, so that what one attribute draws never shifts the numbers of another."""
    return np.random.default_rng((seed, _STREAMS.index(name)))


# ---------------------------------------------------------------------------------------------------------- geometry
# Head coordinates: x to the right, y upwards, the eyes at y = 0, the cheekbones at about x = -1 and 1, and the skull's
# top at y = 1.42. Depth counts from the plane of the ears towards the viewer.


def _arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, end: float = 1.0, count: int = 24) -> Points:
    """Part of an ellipse, from `start` to `end` in turns counted from the right, counter-clockwise."""
    angle = 2 * math.pi * np.linspace(start, end, count)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _mirrored(right: Points) -> Points:
    """The closed outline whose right half is `right`, from its upper to its lower end."""
    return join(right, right[::-1] * (-1.0, 1.0))


def _resampled(points: Points, count: int) -> Points:
    """`count` points at equal distances along a polyline."""
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    t = np.linspace(0.0, along[-1], count)
    return np.stack([np.interp(t, along, points[:, 0]), np.interp(t, along, points[:, 1])], axis=1)


def _ribbon(middle: Points, widths: Points | float) -> Points:
    """The outline of a band along `middle` (N, 2), `widths` thick: one number or one a point."""
    along = np.gradient(middle, axis=0)
    normal = along[:, ::-1] * (-1.0, 1.0) / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-9)
    side = normal * (np.broadcast_to(widths, len(middle))[:, None] / 2)
    return np.concatenate([middle + side, (middle - side)[::-1]])


class _Easel(Canvas):
    """A canvas that also knows how the head is turned, and has an airbrush."""

    def __init__(self, size: tuple[int, int], matrix: Points, offset: Points, turn: tuple[float, float]) -> None:
        super().__init__(size, matrix, offset)
        self._turn = np.asarray(turn)
        self._unit = float(np.linalg.norm(matrix[0]))

    def at(self, points: Points | Sequence[tuple[float, float]], depth: float = 0.0, flat: bool = False) -> Points:
        """Head coordinates -> the world: what lies nearer moves further when the head turns or nods."""
        p = np.asarray(points, dtype=np.float64)
        bulge = 0.0 if flat else np.sqrt(np.clip(1 - (p[:, :1] / 1.05) ** 2 - (p[:, 1:] / 1.6) ** 2, 0.0, 1.0))
        return p + (bulge + depth) * self._turn

    def pixels(self, world: Points) -> Points:
        """World -> pixels of the supersampled layers."""
        flat: Points = world @ self._matrix + self._offset
        return flat

    def mask(self, world: Points) -> Image.Image:
        """A polygon as a mask of the whole picture."""
        mask = Image.new("L", self.colour.size)
        ImageDraw.Draw(mask).polygon(self.pixels(world).ravel().tolist(), fill=255)
        return mask

    def spray(
        self,
        world: Points,
        colour: Colour,
        opacity: float,
        blur: float,
        within: Image.Image | None = None,
        grain: np.random.Generator | None = None,
    ) -> None:
        """Airbrush the polygon `world`, its edge `blur` world units soft, on what is there already.

        Args:
            world: (N, 2) in world units.
            colour: of the paint.
            opacity: 0..1 in the middle.
            blur: of the edge.
            within: paint nowhere else; by default on all that is drawn.
            grain: breaks the paint up into specks.
        """
        radius = blur * self._unit
        flat = self.pixels(world)
        low = np.maximum(np.floor(flat.min(axis=0) - 2.5 * radius).astype(int), 0)
        high = np.minimum(np.ceil(flat.max(axis=0) + 2.5 * radius).astype(int) + 1, self.colour.size)
        if (high <= low).any():
            return
        box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        ImageDraw.Draw(mask).polygon((flat - low).ravel().tolist(), fill=round(255 * opacity))
        mask = mask.filter(ImageFilter.GaussianBlur(radius))
        if grain is not None:
            size = (max(1, mask.width // 2), max(1, mask.height // 2))
            specks = Image.frombytes("L", size, grain.bytes(size[0] * size[1])).resize(
                mask.size, Image.Resampling.BILINEAR
            )
            mask = ImageChops.multiply(
                mask, specks.point([min(255, max(0, round(2.2 * (v - 70)))) for v in range(256)])
            )
        limit = self.relief.crop(box).point([0] + [255] * 255) if within is None else within.crop(box)
        self.colour.paste(to_bytes(colour), box, ImageChops.multiply(mask, limit))

    def lines(self, worlds: Iterable[Points], width: float, colour: Colour, level: int) -> None:
        """Thin lines along polylines (N, 2), such as strands of hair."""
        pixels = max(1, round(width * self._unit))
        for world in worlds:
            flat = self.pixels(world).ravel().tolist()
            self._draw[0].line(flat, fill=to_bytes(colour), width=pixels, joint="curve")
            self._draw[1].line(flat, fill=level, width=pixels)


# ------------------------------------------------------------------------------------------------------------ colour

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
_EYES: tuple[Colour, ...] = (
    (0.27, 0.16, 0.09),
    (0.40, 0.24, 0.12),
    (0.46, 0.38, 0.18),
    (0.27, 0.46, 0.30),
    (0.25, 0.47, 0.68),
    (0.42, 0.52, 0.58),
)
_METALS: tuple[Colour, ...] = ((0.90, 0.74, 0.34), (0.84, 0.86, 0.89))
_FRAMES: tuple[Colour, ...] = (
    (0.07, 0.07, 0.08),
    (0.36, 0.18, 0.09),
    (0.55, 0.10, 0.14),
    (0.12, 0.22, 0.45),
    (0.78, 0.62, 0.28),
)


def _pick(choices: Sequence[Colour], share: float) -> Colour:
    return choices[int(share * len(choices))]


@dataclass(frozen=True)
class _Sitter:
    """One person before the easel: what is drawn, and everything that the drawing of one part tells the next."""

    easel: _Easel
    attributes: FaceAttributes
    seed: int
    own: Points  # (40,) chances of 0..1 that belong to the person
    skin: Colour
    hair: Colour  # of the head, and of brows and beard where nothing else is said
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
        """Darker than the hair, and than a skin that it could be lost on."""
        colour = mix(self.hair, (0.10, 0.07, 0.06), 0.40)
        if abs(luminance(colour) - luminance(self.skin)) < 0.20:
            colour = mix(colour, (0.07, 0.05, 0.05), 0.75)
        return colour


def _outline(attributes: FaceAttributes, own: Points) -> Points:
    """The head's outline: above the cheekbones anybody's own, below them the attributes'."""
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
    return _mirrored(smooth([*skull, *face, (0.0, chin)]))


# ---------------------------------------------------------------------------------------------- shoulders and clothes


def _draw_neck(s: _Sitter) -> None:
    at = functools.partial(s.easel.at, depth=-0.3, flat=True)
    broad = 0.50 + 0.10 * s.own[3] + (0.08 if s.attributes.is_chubby else 0.0)
    right = smooth([(broad, -0.5), (broad, -1.35), (broad + 0.02, -1.72), (broad + 0.05, -1.95), (0.4, -2.9)])
    s.easel.fill(at(_mirrored(right)), s.skin, 100)
    for side in (-1.0, 1.0):  # the muscles that run down to the collarbone
        s.easel.spray(
            at(line((side * 0.42, -1.3), (side * 0.10, -2.1), 2) * 1.0 + [(-0.03, 0), (0.03, 0)]), s.shade, 0.3, 0.05
        )


def _chin_shadow(s: _Sitter) -> None:
    under = s.outline[(s.outline[:, 1] < -0.3)] + (0.10 * s.light * -1.0, -0.20)
    s.easel.spray(s.easel.at(under), s.shade, 0.75, 0.07)


def _draw_clothes(s: _Sitter) -> None:
    rng = _stream(s.seed, "clothes")
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
                at(_ribbon(smooth([(-2.0, y - 0.25), (0.0, y), (2.0, y - 0.25)]), 0.14)), band, 0.9, 0.01, inside
            )
    for side in (-1.0, 1.0):  # folds, and the fall of the light over the shoulders
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
        jewels = _stream(s.seed, "jewellery")
        metal = _METALS[jewels.integers(2)]
        if jewels.random() < 0.5:
            easel.stroke(at(chain), 0.045, mix(metal, BLACK, 0.35), 150)
            easel.stroke(at(moved(chain, 0.0, 0.010)), 0.026, metal, 170)
            easel.fill(at(_arc(0.0, -2.25, 0.085, 0.11)), mix(metal, BLACK, 0.3), 170)
            easel.fill(at(_arc(0.0, -2.25, 0.060, 0.085)), colorsys.hsv_to_rgb(jewels.random(), 0.7, 0.8), 190)
        else:
            for x, y in _resampled(chain, 21):
                easel.fill(at(_arc(x, y, 0.055, 0.055, count=12)), (0.60, 0.56, 0.52), 160)
                easel.fill(at(_arc(x - 0.008, y + 0.010, 0.042, 0.042, count=12)), (0.97, 0.95, 0.90), 175)


# ----------------------------------------------------------------------------------------------------- head and skin


def _draw_ears(s: _Sitter) -> None:
    for side in (-1.0, 1.0):
        at = functools.partial(s.easel.at, depth=-0.25)
        ear = smooth([(0.92, 0.22), (1.06, 0.24), (1.15, 0.10), (1.12, -0.10), (1.05, -0.26), (0.93, -0.28)]) * (
            side,
            1.0,
        )
        s.easel.fill(at(ear), s.skin, 128, body=True)
        inner = smooth([(0.98, 0.14), (1.05, 0.15), (1.09, 0.05), (1.06, -0.08), (1.0, -0.12)]) * (side, 1.0)
        s.easel.spray(at(inner), mix(s.shade, s.blood, 0.4), 0.7, 0.025)


def _draw_head(s: _Sitter) -> None:
    """The skin of head and face, with the volume that makes a face of it."""
    a, easel = s.attributes, s.easel
    easel.fill(easel.at(s.outline), s.skin, 134, body=True)
    face = easel.mask(easel.at(s.outline))

    def spray(
        points: Points | Sequence[tuple[float, float]], colour: Colour, opacity: float, blur: float, depth: float = 0.0
    ) -> None:
        easel.spray(easel.at(points, depth), colour, opacity, blur, face)

    spray(_arc(0.18 * s.light, 0.78, 0.55, 0.30), s.glow, 0.45, 0.16)
    for side in (-1.0, 1.0):
        far = 1.0 if side * s.light < 0 else 0.45
        jaw = smooth([(0.98, 0.35), (0.80, -0.30), (0.62, -0.85), (0.30, -1.30), (0.9, -1.3), (1.15, -0.5), (1.1, 0.2)])
        spray(jaw * (side, 1.0), s.shade, 0.50 * far, 0.15)
        spray(_arc(side * 0.41, 0.10, 0.28, 0.18), s.shade, 0.34, 0.08)
        spray(_arc(side * 0.56, -0.40, 0.22, 0.17), s.glow, 0.34 * (1.25 - 0.5 * far), 0.09)
        spray(_arc(side * 0.60, -0.45, 0.20, 0.17), s.blood, 0.30, 0.09)
        if a.high_cheekbones:
            hollow = smooth([(0.90, -0.30), (0.62, -0.55), (0.42, -0.78), (0.60, -0.80), (0.86, -0.58), (0.90, -0.30)])
            spray(hollow * (side, 1.0), s.shade, 0.75, 0.06)
            spray(
                _ribbon(smooth([(0.36, -0.36), (0.58, -0.29), (0.84, -0.10)]) * (side, 1.0), 0.11), s.glow, 0.85, 0.04
            )
        if a.rosy_cheeks:
            rose = mix(s.blood, (0.90, 0.25, 0.27), 0.55)
            spray(_arc(side * 0.60, -0.43, 0.23, 0.20), rose, 0.62, 0.09)
        if a.bags_under_eyes:
            bag = smooth([(0.20, -0.13), (0.30, -0.24), (0.45, -0.27), (0.62, -0.17)]) * (side, 1.0)
            spray(_ribbon(bag, 0.05), mix(s.shade, (0.30, 0.18, 0.30), 0.4), 0.85, 0.018)
            spray(_arc(side * 0.41, -0.15, 0.17, 0.06), mix(s.shade, (0.40, 0.26, 0.42), 0.35), 0.5, 0.035)
        if a.is_chubby:
            fold = smooth([(0.50, -0.62), (0.60, -0.80), (0.58, -1.0)]) * (side, 1.0)
            spray(_ribbon(fold, 0.035), s.shade, 0.55, 0.02)
    chin = float(s.outline[:, 1].min())
    spray(_arc(0.10 * s.light, chin + 0.20, 0.17, 0.11), s.glow, 0.40, 0.06)
    if a.has_double_chin:
        roll = _mirrored(smooth([(0.62, chin + 0.20), (0.52, chin - 0.02), (0.30, chin - 0.15), (0.0, chin - 0.19)]))
        easel.fill(easel.at(roll), s.skin, 126)
        easel.spray(
            easel.at(
                _ribbon(
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
        easel.spray(easel.at(_arc(0.0, chin - 0.21, 0.42, 0.05)), s.shade, 0.5, 0.03)
    if a.bald:
        spray(_arc(0.30 * s.light, 1.08, 0.30, 0.17), mix(s.glow, (1.0, 1.0, 1.0), 0.35), 0.75, 0.08)
        for y in (0.62, 0.76):
            wrinkle = smooth([(-0.38, y), (-0.15, y + 0.03), (0.15, y + 0.03), (0.38, y)])
            spray(_ribbon(wrinkle, 0.018), s.shade, 0.35, 0.012)


# ---------------------------------------------------------------------------------------------- eyes, brows and nose


def _draw_eye(s: _Sitter, side: float, gaze: Points) -> None:
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
    easel.spray(easel.at(_ribbon(lid, 0.022)), s.shade, 0.9, 0.008)
    eye = at(np.concatenate([x, x[::-1]]), np.concatenate([upper, lower[::-1]]))
    easel.fill(eye, (0.99, 0.98, 0.96), 134)
    white = easel.mask(eye)
    centre = np.array([0.415 + side * gaze[0], 0.030 * (not a.narrow_eyes) + gaze[1]])
    iris = _pick(_EYES, s.own[10])
    radius = 0.118
    disc = easel.at((_arc(0, 0, radius, radius) + centre) * (side, 1.0))
    easel.spray(disc, mix(iris, BLACK, 0.60), 1.0, 0.004, white)
    easel.spray(easel.at((_arc(0, 0, 0.82 * radius, 0.82 * radius) + centre) * (side, 1.0)), iris, 1.0, 0.010, white)
    easel.spray(
        easel.at((_arc(0, -0.035, 0.065, 0.045) + centre) * (side, 1.0)), mix(iris, WHITE, 0.40), 0.8, 0.014, white
    )
    easel.spray(easel.at((_arc(0, 0, 0.052, 0.052) + centre) * (side, 1.0)), (0.02, 0.02, 0.03), 1.0, 0.004, white)
    easel.spray(
        at(np.concatenate([x, x[::-1]]), np.concatenate([upper + 0.02, upper[::-1] - 0.045])),
        (0.25, 0.18, 0.18),
        0.55,
        0.018,
        white,
    )
    glint = (_arc(0.040 * s.light * side, 0.042, 0.030, 0.030, count=12) + centre) * (side, 1.0)
    easel.spray(easel.at(glint), (1.0, 1.0, 1.0), 1.0, 0.003, white)
    lash = mix(s.brow, BLACK, 0.75)
    thick = (0.048 if a.makeup else 0.032) * (0.55 + 0.45 * (t + 1) / 2) * (1 - 0.6 * (t < -0.9))
    easel.fill(easel.at(_ribbon(np.stack([side * x, upper], axis=1), thick)), lash, 134)
    if a.makeup:
        wing = np.array([(x[-3], upper[-3]), (x[-1] + 0.10, upper[-1] + 0.075), (x[-1], upper[-1] - 0.01)])
        easel.fill(easel.at(wing * (side, 1.0)), lash, 134)
    rim = np.stack([side * x, lower], axis=1)[2:]
    easel.spray(easel.at(_ribbon(rim, 0.016)), mix(s.shade, lash, 0.4), 0.85, 0.006)


def _draw_brow(s: _Sitter, side: float) -> None:
    a = s.attributes
    y = 0.335 + 0.03 * (s.own[11] - 0.5)
    if a.arched_eyebrows:
        middle = smooth([(0.17, y + 0.020), (0.33, y + 0.120), (0.50, y + 0.195), (0.63, y + 0.12), (0.74, y - 0.02)])
    else:
        middle = smooth([(0.16, y - 0.005), (0.34, y + 0.015), (0.50, y + 0.025), (0.64, y + 0.010), (0.74, y - 0.025)])
    t = np.linspace(0.0, 1.0, len(middle))
    width = (0.150 if a.bushy_eyebrows else 0.078) * (0.75 + 0.5 * t - 1.15 * t**3)
    world = s.easel.at(_ribbon(middle * (side, 1.0), width))
    s.easel.spray(world, s.brow, 0.95, 0.012)
    if a.bushy_eyebrows:
        rng = _stream(s.seed, "texture")
        roots = middle[rng.integers(0, len(middle) - 4, 34)] + rng.uniform(-0.05, 0.05, (34, 2)) * (0.4, 1.0)
        hairs = [s.easel.at(np.stack([r, moved(r, 0.05, 0.055)]) * (side, 1.0)) for r in roots]
        s.easel.lines(hairs, 0.016, s.brow, 134)


def _draw_nose(s: _Sitter) -> None:
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

    spray(_arc(0.06 * far, base - 0.05, wide * 0.95, 0.07), s.shade, 0.55, 0.045, 0.05)
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
        spray(_ribbon(crease, np.linspace(0.012, 0.034, len(crease))), s.shade, 1.0, 0.008)
    tip = base + 0.55 * ball
    spray(_arc(0.0, tip, 0.95 * ball, 0.82 * ball), lobe, 0.8, 0.03, 0.3)
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
        spray(_ribbon(point, 0.026), s.shade, 1.0, 0.008, 0.3)
    else:
        under = _arc(0.0, tip, 0.85 * ball, 0.80 * ball, 0.60, 0.90)
        spray(_ribbon(under, 0.022), s.shade, 0.8, 0.012, 0.3)
    for side in (-1.0, 1.0):
        hole = _arc(0.52 * wide * side, base + 0.018, 0.22 * wide, 0.030)
        spray(hole, mix(s.shade, (0.12, 0.04, 0.04), 0.75), 0.95, 0.010, 0.2)
    spray(
        _arc(0.03 * s.light, tip + 0.25 * ball, 0.34 * ball, 0.26 * ball),
        mix(s.glow, (1.0, 1.0, 1.0), 0.45),
        0.9,
        0.022,
        0.32,
    )


# ----------------------------------------------------------------------------------------------- mouth and facial hair

_MOUTH = -0.90  # height of the mouth's middle


def _draw_mouth(s: _Sitter) -> None:
    a, easel = s.attributes, s.easel
    rng = _stream(s.seed, "expression")
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
        deep = luminance(s.skin) < 0.45  # a skin that red lips of the same brightness would be lost on
        lip = mix(s.blood, (0.84, 0.46, 0.44), 0.50) if deep else mix(s.blood, (0.62, 0.22, 0.22), 0.40)
    easel.spray(easel.at(_arc(0.0, float(sill.min()) - 0.045, 0.24, 0.045), 0.05), s.shade, 0.65, 0.03)
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
            easel.spray(_ribbon(gum, 0.010), (0.72, 0.68, 0.66), 0.8, 0.004, cavity)
        easel.spray(
            easel.at(_arc(0.0, float(bottom.min()) + 0.01, 0.55 * half, 0.040), 0.08),
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
        easel.at(_ribbon(shine, 0.38 * under), 0.08),
        mix(lip, (1.0, 0.95, 0.93), 0.55),
        0.75,
        0.10 * under + 0.012,
        lips,
    )
    easel.spray(at(sill + 0.25 * under, sill), mix(lip, s.shade, 0.6), 0.7, 0.012, lips)
    if not a.mouth_open:
        easel.fill(
            easel.at(
                _ribbon(np.stack([x, seam], axis=1), (0.046 if a.smiling else 0.030) * (1 - 0.6 * np.abs(t))), 0.08
            ),
            mix(lip, (0.12, 0.03, 0.04), 0.85),
            134,
        )
    for side in (-1.0, 1.0):
        corner = (side * (half + 0.012), float(seam[0]))
        easel.spray(easel.at(_arc(*corner, 0.035, 0.030), 0.08), s.shade, 0.9, 0.014)
        if a.smiling:
            fold = smooth([(0.30, -0.56), (0.46, -0.66), (half + 0.13, -0.80), (half + 0.13, -0.96)]) * (side, 1.0)
            easel.spray(easel.at(_ribbon(fold, np.linspace(0.02, 0.045, len(fold))), 0.05), s.shade, 0.75, 0.016)
            easel.spray(easel.at(_arc(side * 0.64, -0.52, 0.17, 0.13)), s.glow, 0.55, 0.06)


def _jaw(s: _Sitter, high: float, cheek: float, lip: float) -> Points:
    """The part of the face that a beard grows on: below a line from the ear over the cheek to the upper lip."""
    right = s.outline[: len(s.outline) // 2]
    below = right[right[:, 1] < high] * (0.995, 1.0)
    edge = smooth([(0.0, lip), (0.22, lip - 0.01), (0.48, cheek), (0.74, cheek + 0.14), tuple(below[0])])
    return _mirrored(join(edge, below))


def _draw_facial_hair(s: _Sitter) -> None:
    """All but the mustache, which lies over the lip."""
    a, easel = s.attributes, s.easel
    rng = _stream(s.seed, "texture")
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
        world = easel.at(_mirrored(patch), 0.03)
        easel.fill(easel.at(_mirrored(patch[-14:]), 0.03), colour, 130)
        easel.spray(world, colour, 0.97, 0.018)
        easel.spray(world, mix(colour, s.glow, 0.35), 0.35, 0.02, grain=rng)
        _strands_down(s, rng, 26, (-0.30, 0.30), (-1.15, chin + 0.05), colour)


def _strands_down(
    s: _Sitter,
    rng: np.random.Generator,
    count: int,
    across: tuple[float, float],
    down: tuple[float, float],
    colour: Colour,
) -> None:
    """Single hairs of a beard, where the face is."""
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


def _draw_mustache(s: _Sitter) -> None:
    rng = _stream(s.seed, "texture")
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
    world = s.easel.at(_mirrored(half), 0.12)
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


# -------------------------------------------------------------------------------------------------------------- hair


def _style(s: _Sitter) -> str:
    return "Bald" if s.attributes.bald else s.attributes.hairstyle


def _waved(s: _Sitter, points: Points, amount: float) -> Points:
    """Make the outline of hair wavy or curly, as its texture is; straight hair is left as it is."""
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


def _draw_back_hair(s: _Sitter) -> None:
    """What lies behind neck and ears."""
    style, easel = _style(s), s.easel
    at = functools.partial(easel.at, depth=-0.6, flat=True)
    dark = mix(s.hair, BLACK, 0.38)
    if style == "Bun" and not s.attributes.hat:
        bun = _waved(s, _arc(0.1 * (s.own[19] - 0.5), 1.78, 0.40, 0.34, count=40), 0.03)
        easel.fill(at(bun), s.hair, 120, body=True)
        for k in (0.35, 0.6, 0.85):
            easel.lines([at(_arc(0.1 * (s.own[19] - 0.5), 1.72, 0.40 * k, 0.32 * k, 0.05, 0.45))], 0.03, dark, 120)
    if s.attributes.has_long_hair:
        end = -1.15 if style == "Bob" else -2.35
        right = _resampled(
            smooth(
                [(0.0, 1.5), (0.9, 1.1), (1.15, 0.2), (1.20, -0.7), (1.18, end + 0.3), (0.95, end), (0.4, end - 0.05)]
            ),
            60,
        )
        easel.fill(at(_mirrored(_waved(s, right, 0.045))), dark, 96)


def _hairline(s: _Sitter) -> Points:
    """From the right temple over the forehead to the left one."""
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


def _part(s: _Sitter) -> float:
    """Where the hair is parted, as `_hairline` draws it before it is mirrored."""
    return 0.0 if s.own[21] < 0.35 else 0.38


def _draw_hair(s: _Sitter) -> None:
    """What lies over forehead, temples and ears, with its strands and its shine."""
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
    if a.hat:  # hair that comes out below it
        top, side, end = 0.04, max(side, 0.09), min(end, -0.20)
    crown = _arc(0.0, 0.25, 1.0 + side, 1.17 + top, 0.0, 0.5, 48)
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
    outer, inner = _resampled(outer, count), _resampled(inner, count)
    outer = _waved(s, outer, 0.055)
    if a.has_long_hair:
        sides = np.abs(np.linspace(-1, 1, count))[:, None] > 0.55
        inner = np.where(sides, _waved(s, inner, 0.03), inner)
    face = easel.mask(easel.at(s.outline))
    shadow = _ribbon(moved(inner, 0.0, -0.04), 0.12)
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


def _strands(s: _Sitter, inner: Points, outer: Points, style: str) -> None:
    """Strands of hair between its inner and its outer outline, and the shine across them."""
    easel, a = s.easel, s.attributes
    rng = _stream(s.seed, "texture")
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
            paths.append(_arc(x, y, radius, radius, start, start + 0.6, 10))
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
        easel.spray(easel.at(_ribbon(gloss, 0.10)), mix(s.hair, (1.0, 0.96, 0.90), 0.50), 0.55, 0.05)


def _fringe(s: _Sitter) -> None:
    """Bangs: locks that end above the brows."""
    rng = _stream(s.seed, "texture")
    easel = s.easel
    edges = np.linspace(-0.86, 0.86, 9)
    low = 0.60 + 0.03 * s.own[22]
    tips: list[tuple[float, float]] = []
    for left, right in itertools.pairwise(edges):
        drop = low - 0.14 * abs(left + right) * 0.5 + rng.uniform(0.0, 0.05)
        tips += [(left, drop + 0.07), ((left + right) / 2 + 0.02, drop)]
    lower = smooth([(-0.93, 0.38), *tips[1:], (0.93, 0.38)], steps=4)
    upper = _arc(0.0, 0.35, 0.95, 0.92, 0.02, 0.48, 24)
    face = easel.mask(easel.at(s.outline))
    easel.spray(easel.at(_ribbon(moved(lower, 0.0, -0.03), 0.10)), s.shade, 0.7, 0.035, face)
    easel.fill(easel.at(join(lower, upper), 0.05), s.hair, 150)
    light, dark = mix(s.hair, (1.0, 0.93, 0.80), 0.22), mix(s.hair, BLACK, 0.40)
    for tone, shift in ((dark, 0.0), (light, 0.06)):
        locks = [
            smooth([(0.62 * x + shift, 1.12), (0.88 * x + shift, 0.92), (x + shift, low - 0.12 * abs(x) + 0.08)])
            for x in np.linspace(-0.78, 0.74, 12)
        ]
        easel.lines((easel.at(lock, 0.05) for lock in locks), 0.020, tone, 150)


# ----------------------------------------------------------------------------------------- hat, glasses and earrings


def _draw_hat(s: _Sitter) -> None:
    rng = _stream(s.seed, "hat")
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
        """The hat's shadow on the forehead."""
        edge = smooth([(-0.95, y - 0.06), (-0.4, y), (0.4, y), (0.95, y - 0.06)])
        easel.spray(easel.at(_ribbon(edge, 0.16)), s.shade, 0.75, 0.05, face)

    if kind == 0:  # a knitted cap with a fold and a pompom
        cast(0.66)
        crown = smooth([(broad, 0.75), (1.02, 1.35), (0.60, 1.78), (0.0, 1.92)])
        easel.fill(easel.at(_mirrored(crown)), felt, 160, body=True)
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
                ball = _arc(0.0, 2.0, radius, radius, count=40)
                ball = (ball - (0.0, 2.0)) * (1 + 0.10 * rng.uniform(-1, 1, (40, 1))) + (0.0, 2.0)
                easel.fill(easel.at(ball, flat=True), tone, 172, body=True)
    elif kind == 1:  # a cap with a peak
        cast(0.62)
        crown = smooth([(broad, 0.62), (1.06, 1.15), (0.72, 1.62), (0.0, 1.80)])
        easel.fill(easel.at(_mirrored(crown)), felt, 160, body=True)
        for x in (-0.55, 0.55):
            easel.lines([easel.at(smooth([(x * 1.15, 0.85), (x, 1.3), (0.0, 1.79)]))], 0.02, dark, 160)
        easel.lines([easel.at(line((0.0, 0.9), (0.0, 1.79)))], 0.02, dark, 160)
        easel.fill(easel.at(_arc(0.0, 1.80, 0.07, 0.05)), dark, 162)
        badge = _arc(0.0, 1.26, 0.22, 0.18)
        easel.fill(easel.at(badge, 0.1), mix(band, WHITE, 0.5), 163)
        easel.fill(easel.at(_arc(0.0, 1.26, 0.13, 0.10), 0.1), band, 164)
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
        easel.fill(easel.at(_mirrored(crown)), felt, 160, body=True)
        easel.spray(easel.at(smooth([(-0.35, 1.85), (-0.1, 1.55), (0.1, 1.55), (0.35, 1.85)])), dark, 0.7, 0.06)
        ribbon = join(
            smooth([(-1.06, 0.95), (0.0, 1.08), (1.06, 0.95)]), smooth([(1.05, 1.20), (0.0, 1.34), (-1.05, 1.20)])
        )
        easel.fill(easel.at(ribbon), band if abs(luminance(band) - luminance(felt)) > 0.15 else dark, 164)
        easel.fill(easel.at(brim, 0.12), mix(felt, WHITE, 0.10), 174, body=True)
        easel.spray(easel.at(_ribbon(smooth([(-1.3, 1.05), (0.0, 1.06), (1.3, 1.05)]), 0.09), 0.12), dark, 0.7, 0.04)
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
    easel.spray(easel.at(_arc(0.35 * s.light, 1.38, 0.30, 0.16)), mix(felt, WHITE, 0.55), 0.30, 0.14)


def _draw_glasses(s: _Sitter) -> None:
    rng = _stream(s.seed, "glasses")
    easel = s.easel
    kind = int(rng.integers(3))
    frame = _FRAMES[rng.integers(len(_FRAMES))]
    if abs(luminance(frame) - luminance(s.skin)) < 0.2:
        frame = mix(frame, BLACK, 0.75) if luminance(s.skin) > 0.3 else mix(frame, WHITE, 0.7)
    width = rng.uniform(0.055, 0.085)
    if kind == 0:
        rim = _arc(0.44, -0.02, 0.335, 0.315, count=40)
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
        easel.spray(moved(_ribbon(closed, width), 0.0, -0.035), s.shade, 0.5, 0.02)
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


def _draw_earrings(s: _Sitter) -> None:
    rng = _stream(s.seed, "jewellery")
    metal = _METALS[rng.integers(2)]
    hoop = rng.random() < 0.5
    gem = colorsys.hsv_to_rgb(rng.random(), 0.75, 0.85)
    for side in (-1.0, 1.0):
        at = functools.partial(s.easel.at, depth=-0.25)
        x = 1.06 * side
        if hoop:
            ring = _arc(x, -0.50, 0.135, 0.19, 0.25, 1.25, 30)
            s.easel.stroke(at(ring), 0.075, mix(metal, BLACK, 0.55), 180)
            s.easel.stroke(at(ring), 0.045, metal, 200)
        else:
            s.easel.stroke(at([(x, -0.28), (x, -0.46)]), 0.04, mix(metal, BLACK, 0.2), 180)
            drop = smooth([(x, -0.40), (x + 0.10, -0.62), (x, -0.74), (x - 0.10, -0.62), (x, -0.40)])
            s.easel.fill(at(drop), mix(gem, BLACK, 0.4), 190)
            s.easel.fill(at((drop - (x, -0.6)) * 0.72 + (x, -0.6)), gem, 205)
            s.easel.fill(at(_arc(x - 0.025, -0.57, 0.025, 0.04, count=10)), WHITE, 205)


# ------------------------------------------------------------------------------------------------------- the picture


def surroundings_by_chance(seed: int) -> Surroundings:
    """Surroundings by chance alone."""
    return Surroundings(*(bool(v) for v in _stream(seed, "surroundings").random(len(CARRIERS)) < 0.5))


def _sitter(
    attributes: FaceAttributes, seed: int, surroundings: Surroundings, width: int, height: int, scale: int
) -> _Sitter:
    """An empty canvas in a random pose, and the person before it."""
    own = np.random.default_rng((attributes.person, len(_STREAMS))).random(40)
    rng = _stream(seed, "pose")
    unit = 0.214 * min(height, width * 218 / 178) * rng.uniform(0.88, 1.10)
    angle = math.radians(rng.uniform(-9.0, 9.0))
    place = np.array([width * rng.uniform(0.44, 0.56), height * rng.uniform(0.455, 0.51)])
    turn = (rng.uniform(-0.20, 0.20), rng.uniform(-0.07, 0.09))
    matrix = (
        unit
        * np.array([[1.0, 0.0], [0.0, -1.0]])
        @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    )
    hair = _pick(_HAIR[attributes.hair], own[34])
    fair = attributes.hair == "Blond" or (attributes.hair == "Other" and hair[0] > hair[2] + 0.3)
    skin = _PALE if attributes.pale_skin else _pick(_SKINS, own[30] * (0.5 if fair else 1.0))
    drift = 0.06 * (own[31:34] - 0.5)
    skin = (min(1.0, skin[0] + drift[0]), skin[1] + drift[1], skin[2] + drift[2])
    if attributes.hair == "Brown" and abs(luminance(hair) - luminance(skin)) < 0.16:
        hair = mix(hair, (0.13, 0.07, 0.04), 0.65)  # else it looks like a bald head
    side = _stream(seed, "light").uniform(-1.0, 1.0)
    return _Sitter(
        easel=_Easel((width * scale, height * scale), matrix * scale, place * scale, turn),
        attributes=attributes,
        seed=seed,
        own=own,
        skin=skin,
        hair=hair,
        light=math.copysign(0.35 + 0.65 * abs(side), side),
        surroundings=surroundings,
        outline=_outline(attributes, own),
    )


def _backdrop(s: _Sitter, width: int, height: int) -> NDArray[np.float32]:
    """A wall with clutter, of the hue and brightness that the surroundings ask for: (H, W, 3) in 0..1."""
    rng = _stream(s.seed, "backdrop")
    where = s.surroundings
    hue = rng.uniform(-0.04, 0.14) if where.warm_backdrop else rng.uniform(0.42, 0.68)
    value = rng.uniform(0.70, 0.95) if where.bright_backdrop else rng.uniform(0.30, 0.50)
    base = colorsys.hsv_to_rgb(hue % 1.0, rng.uniform(0.20, 0.60), value)
    clutter = background(rng, width, height, s.skin)
    clutter -= clutter.mean(axis=(0, 1), keepdims=True)
    wall: NDArray[np.float32] = np.clip(
        np.asarray(base, np.float32) + np.float32(rng.uniform(0.3, 0.7)) * clutter, 0.02, 1.0
    )
    return wall


def _develop(s: _Sitter, behind: NDArray[np.float32], scale: int) -> Image.Image:
    """Light what was painted, put it before the backdrop, and take the picture."""
    rng = _stream(s.seed, "light")
    rng.random()  # the side of the light
    easel, where = s.easel, s.surroundings
    height, width = behind.shape[:2]
    colour = np.asarray(easel.colour.reduce(scale), dtype=np.float32) / 255.0
    cover = np.asarray(easel.relief.point([0] + [255] * 255).reduce(scale), dtype=np.float32)[:, :, None] / 255.0
    direction = np.array([-s.light, 0.75], np.float32)

    def facing(layer: Image.Image, blur: float) -> NDArray[np.float32]:
        field = np.asarray(layer.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255.0
        down, right = np.gradient(field)
        towards: NDArray[np.float32] = right * direction[0] + down * direction[1]
        return towards

    unit = 0.21 * height
    volume = facing(easel.body.reduce(scale), 0.22 * unit) * np.float32(0.22 * unit)
    detail = facing(easel.relief.reduce(scale), max(0.4, 0.012 * unit))
    rows, columns = (
        np.linspace(-1, 1, height, dtype=np.float32)[:, None],
        np.linspace(-1, 1, width, dtype=np.float32)[None, :],
    )
    fall = 0.13 * s.light * columns - 0.06 * rows
    shade = 1.03 + 0.75 * volume + 0.35 * np.clip(detail, -0.35, 0.35) + fall
    picture = colour * np.clip(shade, 0.40, 1.4)[:, :, None] + (1.0 - cover) * behind
    tint = np.array((1.07, 1.0, 0.86) if where.warm_light else (0.94, 1.0, 1.06), np.float32)
    picture *= 1.0 + (tint - 1.0) * np.float32(rng.uniform(0.6, 1.2))
    picture *= np.float32(rng.uniform(1.0, 1.12) if where.bright_exposure else rng.uniform(0.78, 0.89))
    picture += np.float32(rng.uniform(-0.02, 0.03))
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0.003, 0.025))
    image = Image.fromarray((np.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))
    blur = rng.uniform(0.0, 0.45)
    return image.filter(ImageFilter.GaussianBlur(width / 96 * (1.15 + blur if s.attributes.blurry else blur)))


def draw_face(
    attributes: FaceAttributes, seed: int, width: int = 178, height: int = 218, surroundings: Surroundings | None = None
) -> Image.Image:
    """Draw one face as an RGB picture of `width` × `height` pixels; the same arguments give the same pixels.

    `attributes.person` decides the face behind the attributes; `seed` pose, light, backdrop, clothes and everything
    else that differs from one picture of a person to the next; so do `surroundings`, by default by chance
    from `seed`. Raises KeyError for a word that is not a known one.
    """
    scale = max(3, min(5, round(288 / width)))
    s = _sitter(attributes, seed, surroundings or surroundings_by_chance(seed), width, height, scale)
    gaze = (_stream(seed, "expression").random(8)[6:] - 0.5) * (0.10, 0.03)
    _draw_back_hair(s)
    _draw_neck(s)
    _chin_shadow(s)
    _draw_clothes(s)
    _draw_ears(s)
    _draw_head(s)
    _draw_facial_hair(s)
    _draw_nose(s)
    if attributes.facial_hair in ("Mustache", "Beard"):
        _draw_mustache(s)
    _draw_mouth(s)
    for side in (-1.0, 1.0):
        _draw_eye(s, side, gaze)
        _draw_brow(s, side)
    _draw_hair(s)
    if attributes.earrings:
        _draw_earrings(s)
    if attributes.hat:
        _draw_hat(s)
    if attributes.eyeglasses:
        _draw_glasses(s)
    return _develop(s, _backdrop(s, width, height), scale)
