"""The picture of a task: its rows, their order, its examples, and images that can't be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlbench.data import show
from mtlbench.data.canvas import font, wrap
from mtlbench.data.show import MOST_VALUES, draw_examples
from mtlbench.data.table import Table, column_of
from mtlbench.errors import UserError

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250), "": (250, 250, 10)}


def make_table(root: Path, cells: list[str], order: list[str] | None = None, size: tuple[int, int] = (48, 32)) -> Table:
    """Images of one colour each, that of their label; all of them in the train split."""
    root.mkdir(exist_ok=True)
    names = [f"{i}.png" for i in range(len(cells))]
    for name, cell in zip(names, cells, strict=True):
        Image.new("RGB", size, COLOURS.get(cell, (90, 90, 90))).save(root / name)
    columns = {"colour": column_of(cells, order)}
    return Table("mine", root, tuple(names), columns, np.zeros(len(cells), dtype=np.int64), "by hand")


def blocks(picture: Image.Image) -> list[list[str]]:
    """The examples of a picture, row by row, by their colours, left to right."""
    pixels = np.asarray(picture).astype(int)
    names = np.full(pixels.shape[:2], -1)
    for i, colour in enumerate(COLOURS.values()):
        names[np.abs(pixels - colour).max(2) < 12] = i
    found: list[list[str]] = []
    y = 0
    while y < len(names):
        (filled,) = np.nonzero(names[y] >= 0)
        if not len(filled):
            y += 1
            continue
        starts = filled[np.flatnonzero(np.diff(filled, prepend=-9) > 1)]
        found.append([list(COLOURS)[names[y, x]] for x in starts])
        while (names[y] >= 0).any():
            y += 1
    return found


def test_a_row_per_value_the_most_common_first_and_unlabelled_ones_last(tmp_path):
    picture = draw_examples(
        make_table(tmp_path, ["red", "green", "green", "", "", "", "green", "red", "blue"]), "colour"
    )
    assert blocks(picture) == [["green"] * 3, ["red"] * 2, ["blue"], [""] * 3]


def test_ordered_values_keep_their_order(tmp_path):
    table = make_table(tmp_path, ["red", "green", "green", "blue"], order=["blue", "red", "green"])
    assert [row[0] for row in blocks(draw_examples(table, "colour"))] == ["blue", "red", "green"]


def test_examples_limit_a_row_and_the_split_is_kept_to(tmp_path):
    table = make_table(tmp_path, ["red"] * 9 + ["blue"] * 9)
    table = replace(table, split=np.array([0] * 6 + [2] * 6 + [0] * 6))
    assert blocks(draw_examples(table, "colour", examples=4)) == [["blue"] * 4, ["red"] * 4]
    assert blocks(draw_examples(table, "colour", "test", examples=4)) == [["blue"] * 3, ["red"] * 3]


def test_the_seed_decides_which_examples_are_drawn(tmp_path, monkeypatch):
    table = make_table(tmp_path, ["red"] * 30 + ["blue"] * 30)
    drawn: list[int] = []
    example = show._example
    monkeypatch.setattr(show, "_example", lambda table, i: drawn.append(i) or example(table, i))

    def draws(seed: int) -> list[int]:
        drawn.clear()
        draw_examples(table, "colour", seed=seed)
        return list(drawn)

    first = draws(0)
    assert len(set(first)) == 16
    assert sorted(first) != list(range(16))
    assert draws(0) == first
    assert draws(1) != first


@pytest.mark.parametrize(
    ("size", "shown"), [((48, 32), (144, 96)), ((10, 10), (96, 96)), ((1000, 100), (192, 19)), ((30, 300), (10, 96))]
)
def test_examples_have_one_height_and_keep_their_shape(tmp_path, size, shown):
    table = make_table(tmp_path, ["red", "blue"], size=size)
    assert show._example(table, 0).size == shown


def test_an_image_is_shown_turned_and_laid_on_white_as_it_is_trained_on(tmp_path):
    table = make_table(tmp_path, ["red", "blue"])
    turned = Image.Exif()
    turned[0x0112] = 6  # what is stored on the left is seen above
    stored = Image.new("RGB", (60, 30), "black")
    stored.paste((250, 250, 250), (0, 0, 30, 30))
    stored.save(tmp_path / "0.png", exif=turned)
    shown = show._example(table, 0)
    assert shown.size == (48, 96)
    assert np.asarray(shown)[:40].min() > 240
    assert np.asarray(shown)[56:].max() < 10
    Image.new("RGBA", (20, 20), (0, 0, 0, 0)).save(tmp_path / "1.png")
    assert np.asarray(show._example(table, 1)).min() == 255


def test_what_packing_refuses_is_a_crossed_box(tmp_path):
    table = make_table(tmp_path, ["red", "blue"])
    Image.new("F", (50, 50), 0.5).save(tmp_path / "0.png", "TIFF")
    assert len(show._example(table, 0).getcolors(9999) or []) > 2


def test_an_image_that_can_not_be_read_is_a_crossed_box_among_the_others(tmp_path):
    table = make_table(tmp_path, ["red"] * 3 + ["blue"] * 3)
    (tmp_path / "1.png").write_bytes(b"broken")
    (tmp_path / "2.png").unlink()
    box = show._example(table, 1)
    assert box.size == (96, 96)
    assert len(box.getcolors(9999) or []) > 2
    assert sorted(blocks(draw_examples(table, "colour"))) == [["blue"] * 3, ["red"]]


def test_of_many_values_the_most_common_are_drawn(tmp_path, monkeypatch):
    cells = [f"value {i:02d}" for i in range(MOST_VALUES + 5) for _ in range(2 if i >= 5 else 1)]
    laid: list[tuple] = []
    lay_out = show._lay_out
    monkeypatch.setattr(show, "_lay_out", lambda *parts: laid.append(parts) or lay_out(*parts))
    picture = draw_examples(make_table(tmp_path, cells), "colour", examples=2)
    ((title, below, heads, strips),) = laid
    assert title == "mine: colour"
    assert [name for name, _ in heads] == [f"value {i:02d}" for i in range(5, MOST_VALUES + 5)]
    assert {count for _, count in heads} == {"2 images, 2.4 %"}
    assert "the 40 most common values, 5 others (5 images) left out" in below
    assert len(strips) == MOST_VALUES
    assert picture.height > MOST_VALUES * 96


def test_a_rendered_set_is_called_so(tmp_path, monkeypatch):
    titles: list[str] = []
    lay_out = show._lay_out
    monkeypatch.setattr(show, "_lay_out", lambda title, *parts: titles.append(title) or lay_out(title, *parts))
    table = make_table(tmp_path, ["red", "blue"])
    draw_examples(replace(table, rendered=True), "colour")
    draw_examples(replace(table, rendered=True, name="rendered shoes"), "colour")
    assert titles == ["mine (rendered): colour", "rendered shoes: colour"]


def test_long_names_stay_clear_of_the_examples(tmp_path):
    short = make_table(tmp_path, ["red", "blue"])
    words = ("a name of many words " * 20, "Pneumonoultramicroscopicsilicovolcanoconiosis" * 5)
    column = replace(short.columns["colour"], values=words)
    picture = draw_examples(replace(short, columns={"colour": column}), "colour")
    assert blocks(picture) in ([["red"], ["blue"]], [["blue"], ["red"]])
    start = show._MARGIN + show._LABEL + show._MARGIN
    assert np.asarray(picture)[100:, start - 12 : start - 2].min() > 200  # white, and the rules


def test_wrapped_text_fits_and_says_that_it_was_cut():
    face = font(15)
    lines = wrap("Sneakers and Athletic Shoes, of every make and in every colour that there is", face, 150, 2)
    assert len(lines) == 2
    assert lines[-1].endswith("…")
    assert max(face.getlength(line) for line in lines) <= 150
    assert wrap("Oxfords", face, 150, 2) == ["Oxfords"]
    assert "".join(wrap("x" * 60, face, 150, 9)) == "x" * 60
    assert wrap("", face, 150, 2) == [""]


def test_a_task_without_labels_in_the_split_is_an_error(tmp_path):
    table = make_table(tmp_path, ["red", "blue", ""])
    with pytest.raises(UserError, match="no val image is labelled for the task 'colour'"):
        draw_examples(table, "colour", "val")
    with pytest.raises(UserError, match="no train image is labelled"):
        draw_examples(make_table(tmp_path / "none", ["", ""]), "colour")
