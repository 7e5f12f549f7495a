"""Draws one picture of a task: a row of example images per label value, the thing to look at before training.

Nothing is decided here: what the labels are comes from the table, where the picture goes from the command line.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtlbench.data.check import size_of
from mtlbench.data.decoding import BROKEN
from mtlbench.data.pack import decode
from mtlbench.data.table import SPLITS, Table
from mtlbench.errors import UserError

MOST_VALUES = 40  # rows of one picture
_HEIGHT, _WIDEST = 96, 192  # of an example, in pixels
_GAP, _MARGIN = 6, 24
_LABEL = 230  # the widest column of names
_INK, _GREY, _RULE = "#1a1a1a", "#767676", "#e4e4e4"
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_examples(table: Table, task: str, split: str = "train", examples: int = 8, seed: int = 0) -> Image.Image:
    """Draw a row of examples for each label value of a task.

    Rows are in the order of the values where they have one, else the most common comes first; those that are not
    labelled come last. Of more than `MOST_VALUES` values the most common are drawn. An image that can't be read is a
    crossed box with its name.

    Args:
        table: the data set.
        task: in the data set's spelling.
        split: `train`, `val` or `test`.
        examples: images a row, drawn at random.
        seed: of that draw.

    Raises:
        UserError: no image of the split is labelled.
    """
    column = table.columns[task]
    members = np.flatnonzero(table.split == SPLITS.index(split))
    codes = column.codes[members]
    counts = np.bincount(codes[codes >= 0], minlength=len(column.values))
    if not counts.sum():
        raise UserError(
            f"In {table.root} no {split} image is labelled for the task '{task}': see mtlbench data check {table.root}."
        )
    common = sorted(np.flatnonzero(counts).tolist(), key=lambda c: (-counts[c], c))
    drawn = common[:MOST_VALUES]
    rows = [(column.values[c], c) for c in (sorted(drawn) if column.ordered else drawn)]
    if (codes < 0).any():
        rows.append(("not labelled", -1))
    heads, strips = [], []
    for name, code in rows:
        images = members[codes == code]
        chosen = np.random.default_rng([seed, code + 1]).permutation(images)[:examples]
        share = 100 * len(images) / len(members)
        percent = f"{share:.1f}" if share >= 0.05 else "<0.1"
        heads.append((name, f"{len(images):,} image{'s' * (len(images) != 1)}, {percent} %"))
        strips.append([_example(table, int(i)) for i in chosen])
    title = f"{table.name}{' (rendered)' if table.rendered and 'rendered' not in table.name.lower() else ''}: {task}"
    below = f"{split} split, {len(members):,} images; examples drawn at random, seed {seed}"
    left = len(common) - len(drawn)
    if left:
        rest = int(counts[common[MOST_VALUES:]].sum())
        below += f"; the {MOST_VALUES} most common values, {left:,} others ({rest:,} images) left out"
    return _lay_out(title, below, heads, strips)


def _lay_out(title: str, below: str, heads: list[tuple[str, str]], strips: list[list[Image.Image]]) -> Image.Image:
    names, small = _font(15, bold=True), _font(12)
    lines = [_wrap(name, names, _LABEL, 3) for name, _ in heads]
    label = max(
        [names.getlength(line) for wrapped in lines for line in wrapped]
        + [small.getlength(count) for _, count in heads]
    )
    cell = max(image.width for strip in strips for image in strip) + _GAP
    start = _MARGIN + int(label) + _MARGIN
    width = max(start + cell * max(map(len, strips)) - _GAP, 480) + _MARGIN
    subtitle = _wrap(below, small, width - 2 * _MARGIN, 4)
    top = _MARGIN + 34 + 17 * len(subtitle) + 12
    step = _HEIGHT + 2 * _GAP + 1
    picture = Image.new("RGB", (width, top + step * len(strips) + _MARGIN), "white")
    pen = ImageDraw.Draw(picture)
    (heading,) = _wrap(title, _font(22, bold=True), width - 2 * _MARGIN, 1)
    pen.text((_MARGIN, _MARGIN), heading, _INK, _font(22, bold=True))
    for i, line in enumerate(subtitle):
        pen.text((_MARGIN, _MARGIN + 34 + 17 * i), line, _GREY, small)
    for row, (wrapped, (_, count), strip) in enumerate(zip(lines, heads, strips, strict=True)):
        y = top + step * row
        pen.line((_MARGIN, y, width - _MARGIN, y), _RULE)
        text = y + (step - 19 * len(wrapped) - 18) // 2
        for i, line in enumerate(wrapped):
            pen.text((_MARGIN, text + 19 * i), line, _INK, names)
        pen.text((_MARGIN, text + 19 * len(wrapped) + 2), count, _GREY, small)
        for i, image in enumerate(strip):
            centred = (cell - _GAP - image.width) // 2, (_HEIGHT - image.height) // 2
            picture.paste(image, (start + cell * i + centred[0], y + 1 + _GAP + centred[1]))
    y = top + step * len(strips)
    pen.line((_MARGIN, y, width - _MARGIN, y), _RULE)
    return picture


def _example(table: Table, index: int) -> Image.Image:
    """Return an image as packing reads it, its shape kept, at the height of a row; a crossed box if that fails."""
    path = table.root / table.paths[index]
    try:
        width, height = size_of(path)
        scale = min(_HEIGHT / height, _WIDEST / width)
        pixels, _ = decode(path, (max(1, round(height * scale)), max(1, round(width * scale))), "squash")
        return Image.fromarray(pixels)
    except (UserError, *BROKEN):
        box = Image.new("RGB", (_HEIGHT, _HEIGHT), "#f6f6f6")
        pen, end = ImageDraw.Draw(box), _HEIGHT - 1
        pen.line((0, 0, end, end), "#d0a0a0")
        pen.line((0, end, end, 0), "#d0a0a0")
        pen.rectangle((0, 0, end, end), outline="#c08080")
        for i, line in enumerate(_wrap(path.name, _font(10), _HEIGHT - 8, 3)):
            pen.text((_HEIGHT / 2, 6 + 13 * i), line, _INK, _font(10), anchor="ma")
        return box


def _wrap(text: str, font: Font, width: float, most: int) -> list[str]:
    """Break text into at most so many lines of a width in pixels; what does not fit ends in an ellipsis."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        lines += [""] if lines[-1] else []
        for letter in word:  # a word that is too long for a line is cut
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    if len(lines) > most:
        last = lines[most - 1]
        while last and font.getlength(f"{last}…") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last.rstrip()}…"]
    return lines


@functools.cache
def _font(size: int, bold: bool = False) -> Font:
    """Return DejaVu Sans as matplotlib brings it: Pillow's own font lacks accents, Greek and Cyrillic."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    matplotlib = importlib.util.find_spec("matplotlib")  # found, not imported: that takes a second
    home = Path(matplotlib.origin).parent if matplotlib and matplotlib.origin else Path()
    try:
        return ImageFont.truetype(home / "mpl-data/fonts/ttf" / name, size)
    except OSError:
        return ImageFont.load_default(size)
