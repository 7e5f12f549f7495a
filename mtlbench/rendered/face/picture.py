"""Draws one face from its attributes; `rendered.faces` chooses the attributes of a set.

The faces depict nobody, and numbers measured on these pictures say nothing about CelebA.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mtlbench.rendered.drawing import background
from mtlbench.rendered.face.accessories import draw_earrings, draw_glasses, draw_hat
from mtlbench.rendered.face.attributes import FaceAttributes, Surroundings
from mtlbench.rendered.face.clothes import draw_chin_shadow, draw_clothes, draw_neck
from mtlbench.rendered.face.eyes import draw_brow, draw_eye
from mtlbench.rendered.face.facial_hair import draw_facial_hair, draw_mustache
from mtlbench.rendered.face.hair import draw_back_hair, draw_hair
from mtlbench.rendered.face.head import draw_ears, draw_head
from mtlbench.rendered.face.nose_and_mouth import draw_mouth, draw_nose
from mtlbench.rendered.face.sitter import Sitter, seat, stream, surroundings_by_chance


def _backdrop(s: Sitter, width: int, height: int) -> NDArray[np.float32]:
    """Draw a wall with clutter, in the hue and brightness of the surroundings: (H, W, 3) in 0..1."""
    rng = stream(s.seed, "backdrop")
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


def _develop(s: Sitter, behind: NDArray[np.float32], scale: int) -> Image.Image:
    """Light the painting, put it before the backdrop, and take the picture."""
    rng = stream(s.seed, "light")
    rng.random()  # skip the number for the side of the light
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

    `attributes.person` decides the face behind the attributes. `seed` decides pose, light, backdrop, clothes and
    everything else that differs between pictures of a person. `surroundings` sets some of that; by default, they are
    drawn from `seed`. Raises KeyError for an unknown word.
    """
    scale = max(3, min(5, round(288 / width)))
    s = seat(attributes, seed, surroundings or surroundings_by_chance(seed), width, height, scale)
    gaze = (stream(seed, "expression").random(8)[6:] - 0.5) * (0.10, 0.03)
    draw_back_hair(s)
    draw_neck(s)
    draw_chin_shadow(s)
    draw_clothes(s)
    draw_ears(s)
    draw_head(s)
    draw_facial_hair(s)
    draw_nose(s)
    if attributes.facial_hair in ("Mustache", "Beard"):
        draw_mustache(s)
    draw_mouth(s)
    for side in (-1.0, 1.0):
        draw_eye(s, side, gaze)
        draw_brow(s, side)
    draw_hair(s)
    if attributes.earrings:
        draw_earrings(s)
    if attributes.hat:
        draw_hat(s)
    if attributes.eyeglasses:
        draw_glasses(s)
    return _develop(s, _backdrop(s, width, height), scale)
