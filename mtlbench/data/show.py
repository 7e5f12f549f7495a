"""Draws a picture of one task, to look at before training: a row of example images per label value.

The labels come from the table; the command line decides where the picture goes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from mtlbench.data.canvas import GREY, INK, RULE, font, thumbnail, wrap
from mtlbench.data.table import SPLITS, Table
from mtlbench.errors import UserError, counted

MOST_VALUES = 40  # rows of a picture
_HEIGHT, _WIDEST = 96, 192  # of an example, in pixels
_GAP, _MARGIN = 6, 24
_LABEL = 230  # greatest width of the column of names


def draw_examples(table: Table, task: str, split: str = "train", examples: int = 8, seed: int = 0) -> Image.Image:
    """Draw a row of examples for each label value of a task.

    Rows follow the order of the values if they have one; otherwise the most common value comes first. Unlabelled images
    come last. If there are more than `MOST_VALUES` values, the most common ones are drawn. An image that can't be read
    becomes a crossed box with its name.

    Args:
        table: the data set.
        task: in the data set's spelling.
        split: `train`, `val` or `test`.
        examples: images per row, drawn at random.
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
    below = f"{split} split, {counted(len(members), 'image')}; examples drawn at random, seed {seed}"
    left = len(common) - len(drawn)
    if left:
        rest = int(counts[common[MOST_VALUES:]].sum())
        below += f"; the {MOST_VALUES} most common values, {counted(left, 'other')} ({counted(rest, 'image')}) left out"
    return _lay_out(title, below, heads, strips)


def _lay_out(title: str, below: str, heads: list[tuple[str, str]], strips: list[list[Image.Image]]) -> Image.Image:
    names, small = font(15, bold=True), font(12)
    lines = [wrap(name, names, _LABEL, 3) for name, _ in heads]
    label = max(
        [names.getlength(line) for wrapped in lines for line in wrapped]
        + [small.getlength(count) for _, count in heads]
    )
    cell = max(image.width for strip in strips for image in strip) + _GAP
    start = _MARGIN + int(label) + _MARGIN
    width = max(start + cell * max(map(len, strips)) - _GAP, 480) + _MARGIN
    subtitle = wrap(below, small, width - 2 * _MARGIN, 4)
    top = _MARGIN + 34 + 17 * len(subtitle) + 12
    step = _HEIGHT + 2 * _GAP + 1
    picture = Image.new("RGB", (width, top + step * len(strips) + _MARGIN), "white")
    pen = ImageDraw.Draw(picture)
    (heading,) = wrap(title, font(22, bold=True), width - 2 * _MARGIN, 1)
    pen.text((_MARGIN, _MARGIN), heading, INK, font(22, bold=True))
    for i, line in enumerate(subtitle):
        pen.text((_MARGIN, _MARGIN + 34 + 17 * i), line, GREY, small)
    for row, (wrapped, (_, count), strip) in enumerate(zip(lines, heads, strips, strict=True)):
        y = top + step * row
        pen.line((_MARGIN, y, width - _MARGIN, y), RULE)
        text = y + (step - 19 * len(wrapped) - 18) // 2
        for i, line in enumerate(wrapped):
            pen.text((_MARGIN, text + 19 * i), line, INK, names)
        pen.text((_MARGIN, text + 19 * len(wrapped) + 2), count, GREY, small)
        for i, image in enumerate(strip):
            centred = (cell - _GAP - image.width) // 2, (_HEIGHT - image.height) // 2
            picture.paste(image, (start + cell * i + centred[0], y + 1 + _GAP + centred[1]))
    y = top + step * len(strips)
    pen.line((_MARGIN, y, width - _MARGIN, y), RULE)
    return picture


def _example(table: Table, index: int) -> Image.Image:
    """Return an image at the height of a row."""
    return thumbnail(table.root / table.paths[index], _HEIGHT, _WIDEST)
