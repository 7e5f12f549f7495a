"""The picture of a search: each query apart at the left, a row of neighbours per method, right and wrong marked.

Mark (✓, ✗), frame (solid, dashed) and colour tell right from wrong. `gallery` and `mtlbench search` find the
neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from mtlbench.data.canvas import GREY, INK, RULE, font, thumbnail, wrap

RIGHT, WRONG = "#0072B2", "#D55E00"  # Okabe and Ito's: told apart by the colour-blind
_CELL, _QUERY = 104, 210  # heights of a neighbour and at most of a query, in pixels
_FRAME, _AIR = 3, 2  # a frame's line, and the white between it and the image
_MARGIN, _GAP, _CAPTION = 30, 10, 17
_NAMES = 190  # the widest column of methods' names


@dataclass(frozen=True)
class Cell:
    """A neighbour: its file, what is written below it, and whether it is right; None where that is not known."""

    file: Path
    caption: str
    right: bool | None = None


@dataclass(frozen=True)
class Strip:
    """A row of neighbours: whose, what is said of it in small print, and the neighbours, the nearest first."""

    name: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """A query: its file, its heading, what is said of it, and its rows."""

    file: Path
    heading: str
    words: tuple[str, ...]
    strips: tuple[Strip, ...]


def lay_out(title: str, below: str, blocks: Sequence[Block]) -> Image.Image:
    """Draw a sheet: a title, what it shows in small print, a legend, and the blocks below each other."""
    cells = [cell for block in blocks for strip in block.strips for cell in strip.cells]
    images = {file: thumbnail(file, _CELL) for file in dict.fromkeys(cell.file for cell in cells)}
    asked = {}
    for block in blocks:
        tall = max(_CELL, min(_QUERY, _height(len(block.strips)) - 96))
        asked[block.file] = thumbnail(block.file, tall, _QUERY)
    names, small = font(14, bold=True), font(12)
    edge = _FRAME + _AIR
    pitch = max((image.width for image in images.values()), default=_CELL) + 2 * edge + _GAP
    left = max(150, *(image.width for image in asked.values())) + 2 * edge
    wide = max(
        face.getlength(text)
        for block in blocks
        for strip in block.strips
        for face, text in ((names, strip.name), (small, strip.note))
    )
    column = min(_NAMES, int(wide) + 1)
    start = _MARGIN + left + 24 + column + 18
    most = max(len(strip.cells) for block in blocks for strip in block.strips)
    width = max(start + pitch * most - _GAP, 640) + _MARGIN
    head = font(22, bold=True)
    titles, lines = (wrap(title, head, width - 2 * _MARGIN, 2), wrap(below, small, width - 2 * _MARGIN, 9))
    marked = any(cell.right is not None for cell in cells)
    top = _MARGIN + 30 * len(titles) + 6 + 17 * len(lines) + 14 + (30 if marked else 0)
    heights = [max(_height(len(block.strips)), asked[block.file].height + 2 * edge + 100) for block in blocks]
    picture = Image.new("RGB", (width, top + sum(heights) + _MARGIN), "white")
    pen = ImageDraw.Draw(picture)
    for i, line in enumerate(titles):
        pen.text((_MARGIN, _MARGIN + 30 * i - 4), line, INK, head)
    for i, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + 30 * len(titles) + 2 + 17 * i), line, GREY, small)
    if marked:
        _legend(pen, top - 34)
    y = top
    for block, height in zip(blocks, heights, strict=True):
        pen.line((_MARGIN, y, width - _MARGIN, y), RULE, 2)
        _query(picture, block, asked[block.file], (_MARGIN, y + 14), left)
        for row, strip in enumerate(block.strips):
            at = y + 14 + row * _step()
            _named(pen, strip, (_MARGIN + left + 24, at), column)
            for i, cell in enumerate(strip.cells):
                _neighbour(picture, cell, images[cell.file], (start + i * pitch, at), pitch - _GAP)
        y += height
    return picture


def _step() -> int:
    return _CELL + 2 * (_FRAME + _AIR) + _CAPTION + _GAP


def _height(strips: int) -> int:
    return strips * _step() + 18


def _legend(pen: ImageDraw.ImageDraw, y: int) -> None:
    x: float = _MARGIN
    for right, words in ((True, "has the query's label"), (False, "has another label")):
        _framed(pen, (int(x), y, int(x) + 24, y + 18), right)
        pen.text((x + 12, y + 9), "✓" if right else "✗", _colour(right), font(12, bold=True), anchor="mm")
        pen.text((x + 32, y + 9), words, INK, font(12), anchor="lm")
        x += 32 + font(12).getlength(words) + 28


def _query(picture: Image.Image, block: Block, image: Image.Image, at: tuple[int, int], width: int) -> None:
    pen, (x, y) = ImageDraw.Draw(picture), at
    edge = _FRAME + _AIR
    pen.rectangle((x, y, x + image.width + 2 * edge - 1, y + image.height + 2 * edge - 1), outline=INK, width=_FRAME)
    picture.paste(image, (x + edge, y + edge))
    y += image.height + 2 * edge + 6
    for line in wrap(block.heading, font(15, bold=True), width, 2):
        pen.text((x, y), line, INK, font(15, bold=True))
        y += 19
    for words in block.words:
        for line in wrap(words, font(12), width, 2):
            pen.text((x, y), line, GREY, font(12))
            y += 16


def _named(pen: ImageDraw.ImageDraw, strip: Strip, at: tuple[int, int], width: int) -> None:
    name, note = wrap(strip.name, font(14, bold=True), width, 3), wrap(strip.note, font(12), width, 2)
    x, y = at[0], at[1] + (_CELL + 2 * (_FRAME + _AIR) - 18 * len(name) - 16 * len(note)) // 2
    for line in name:
        pen.text((x, y), line, INK, font(14, bold=True))
        y += 18
    for line in note:
        pen.text((x, y + 2), line, GREY, font(12))
        y += 16


def _neighbour(picture: Image.Image, cell: Cell, image: Image.Image, at: tuple[int, int], width: int) -> None:
    pen, edge = ImageDraw.Draw(picture), _FRAME + _AIR
    x = at[0] + (width - image.width - 2 * edge) // 2
    y = at[1] + (_CELL - image.height) // 2
    picture.paste(image, (x + edge, y + edge))
    _framed(pen, (x, y, x + image.width + 2 * edge - 1, y + image.height + 2 * edge - 1), cell.right)
    bottom = at[1] + _CELL + 2 * edge + 2
    mark = "" if cell.right is None else "✓ " if cell.right else "✗ "
    bold, plain = font(12, bold=True), font(12)
    taken = bold.getlength(mark)
    (words,) = wrap(cell.caption, plain, width + _GAP - 3 - taken, 1)
    begin = at[0] + max(0, (width - taken - plain.getlength(words)) / 2)
    pen.text((begin, bottom), mark, _colour(cell.right), bold)
    pen.text((begin + taken, bottom), words, INK, plain)


def _colour(right: bool | None) -> str:
    return GREY if right is None else RIGHT if right else WRONG


def _framed(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], right: bool | None) -> None:
    """Draw a frame: solid where right, dashed where wrong, thin where that is not known."""
    if right is None:
        pen.rectangle(box, outline=RULE)
        return
    if right:
        pen.rectangle(box, outline=RIGHT, width=_FRAME)
        return
    left, top, end, low = box
    dash = 7
    for x in range(left, end, 2 * dash):
        for y in (top, low - _FRAME + 1):
            pen.rectangle((x, y, min(x + dash - 1, end), y + _FRAME - 1), fill=WRONG)
    for y in range(top, low, 2 * dash):
        for x in (left, end - _FRAME + 1):
            pen.rectangle((x, y, x + _FRAME - 1, min(y + dash - 1, low)), fill=WRONG)
