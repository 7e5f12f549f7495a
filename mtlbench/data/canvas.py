"""Helpers for pictures made of images and words: a font with all letters, lines that fit, thumbnails."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mtlbench.data.decoding import BROKEN, size_of
from mtlbench.data.pack import decode
from mtlbench.errors import UserError

INK, GREY, RULE = "#1a1a1a", "#767676", "#e4e4e4"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def thumbnail(file: Path, height: int, widest: int | None = None) -> Image.Image:
    """Return an image as packing reads it, scaled in proportion to fit a height and a width.

    By default, the width is at most twice the height. An image that can't be read becomes a crossed box with its name.
    """
    try:
        wide, high = size_of(file)
        scale = min(height / high, (widest or 2 * height) / wide)
        pixels, _ = decode(file, (max(1, round(high * scale)), max(1, round(wide * scale))), "squash")
        return Image.fromarray(pixels)
    except (UserError, *BROKEN):
        box = Image.new("RGB", (height, height), "#f6f6f6")
        pen, end = ImageDraw.Draw(box), height - 1
        pen.line((0, 0, end, end), "#d0a0a0")
        pen.line((0, end, end, 0), "#d0a0a0")
        pen.rectangle((0, 0, end, end), outline="#c08080")
        for i, line in enumerate(wrap(file.name, font(10), height - 8, 3)):
            pen.text((height / 2, 6 + 13 * i), line, INK, font(10), anchor="ma")
        return box


def wrap(text: str, face: Font, width: float, most: int) -> list[str]:
    """Break text into at most `most` lines of a width in pixels; text that does not fit ends in an ellipsis."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if face.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += [""] if lines[-1] else []
        for letter in word:  # a word that is too long for a line is split
            if lines[-1] and face.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    if len(lines) > most:
        last = lines[most - 1]
        while last and face.getlength(f"{last}…") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last.rstrip()}…"]
    return lines


@functools.cache
def font(size: int, bold: bool = False) -> Font:
    """Return DejaVu Sans, which matplotlib ships: Pillow's own font lacks accents, Greek and Cyrillic."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    matplotlib = importlib.util.find_spec("matplotlib")  # locate it without importing it, which takes a second
    home = Path(matplotlib.origin).parent if matplotlib and matplotlib.origin else Path()
    try:
        return ImageFont.truetype(home / "mpl-data/fonts/ttf" / name, size)
    except OSError:
        return ImageFont.load_default(size)
