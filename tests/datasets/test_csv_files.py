"""A user's own images in a CSV: what it becomes, and what is refused with which remedy."""

from __future__ import annotations

import csv
import os
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_own_images import COLOURS, SIDES, SIZES, TEN, facts, names, options, ten, write

from mtlbench.data.table import remark_on_several
from mtlbench.datasets.csv_files import read_csv
from mtlbench.errors import UserError


def test_each_other_column_is_a_task_and_empty_cells_are_unlabelled(tmp_path: Path) -> None:
    root = ten(tmp_path / "mine", colour=COLOURS, size=SIZES, split=SIDES)
    table = read_csv(root, options())
    assert (table.name, table.root, table.paths, table.rendered) == ("mine", root, tuple(TEN), False)
    assert list(table.columns) == ["colour", "size"]
    assert names(table.columns["colour"]) == [cell.strip() or None for cell in COLOURS]
    assert table.columns["size"].values == ("l", "m", "s")
    assert table.split.tolist() == [0] * 6 + [1] * 2 + [2] * 2
    assert table.split_rule == "as in labels.csv, column split"
    assert table.remarks == ()


def test_file_and_columns_go_by_the_names_that_the_benchmark_gives(tmp_path: Path) -> None:
    rows = [[path, side, colour] for path, side, colour in zip(TEN, SIDES, COLOURS, strict=True)]
    write(tmp_path, ["image", "fold", "colour"], *rows, name="table.csv")
    section = {"file": "table.csv", "path": "image", "split": "fold"}
    table = read_csv(tmp_path, options(csv=section))
    assert table.paths == tuple(TEN)
    assert list(table.columns) == ["colour"]
    assert np.bincount(table.split).tolist() == [6, 2, 2]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_every_dialect_gives_the_same_table(tmp_path: Path, delimiter: str, end: str, mark: str) -> None:
    several = ["a;b", "b;a", "a, c", *COLOURS[3:]]
    ten(tmp_path, colour=several, size=SIZES, split=SIDES)
    before = facts(read_csv(tmp_path, options()))
    rows = [["path", "colour", "size", "split"], *map(list, zip(TEN, several, SIZES, SIDES, strict=True))]
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(mark)
        csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    assert facts(read_csv(tmp_path, options())) == before


def test_a_semicolon_table_may_have_commas_in_its_header(tmp_path: Path) -> None:
    rows = [[path, side, colour] for path, side, colour in zip(TEN, SIDES, COLOURS, strict=True)]
    write(tmp_path, ["path", "split", "colour, mostly"], *rows, delimiter=";")
    assert list(read_csv(tmp_path, options()).columns) == ["colour, mostly"]


def test_blank_lines_and_rows_of_empty_cells_are_no_images(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, split=SIDES)
    before = facts(read_csv(tmp_path, options()))
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text("\n" + text.replace("3.jpg", "\n,,\n3.jpg") + ",,\n\n")
    assert facts(read_csv(tmp_path, options())) == before


def test_a_column_of_real_numbers_is_a_task_only_by_name(tmp_path: Path) -> None:
    prices = ["3.2", "4", "", "4.75", *["1e1", "-2", "+0.5", "7", "8", "9"]]
    ten(tmp_path, colour=COLOURS, price=prices, size=[*["1.0", "2.0"] * 5], split=SIDES)
    table = read_csv(tmp_path, options())
    assert list(table.columns) == ["colour", "size"]
    assert "'price' holds real numbers, such as 3.2, and is no task unless data.tasks names it: left out." in (
        table.remarks
    )
    assert "price" in read_csv(tmp_path, options(tasks=["Price"])).columns
    ten(tmp_path, version=["1.2", "1.2.1", *["1.3"] * 8], colour=COLOURS, split=SIDES)
    assert list(read_csv(tmp_path, options()).columns) == ["version", "colour"]


def test_columns_without_a_name_are_left_out_and_remarked(tmp_path: Path) -> None:
    rows = [[str(i), path, side, ""] for i, (path, side) in enumerate(zip(TEN, SIDES, strict=True))]
    write(tmp_path, ["", "path", "split", ""], *rows)
    with pytest.raises(UserError, match="no column for a task"):
        read_csv(tmp_path, options())
    write(tmp_path, ["", "path", "split", "kind"], *rows)
    table = read_csv(tmp_path, options())
    assert list(table.columns) == ["kind"]
    assert table.remarks == ("1 column of labels.csv without a name: left out.",)


@pytest.mark.parametrize(
    ("rule", "expected"), [("value", "a;b"), ("first", "b"), ("unlabelled", None)], ids=["value", "first", "unlabelled"]
)
def test_cells_of_several_values_follow_the_benchmarks_rule_and_are_remarked(
    tmp_path: Path, rule: str, expected: str | None
) -> None:
    ten(tmp_path, colour=["b;a", *COLOURS[1:]], split=SIDES)
    table = read_csv(tmp_path, options(multi_valued=rule))
    assert names(table.columns["colour"])[0] == expected
    assert table.remarks == tuple(remark_on_several("colour", ["b;a"], rule))


def test_ordered_tasks_have_the_order_of_the_benchmark(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, size=SIZES, split=SIDES)
    table = read_csv(tmp_path, options(ordered={"size": ["s", "m", "l"]}))
    assert table.columns["size"].values == ("s", "m", "l")
    assert table.columns["size"].ordered
    assert not table.columns["colour"].ordered


def test_an_order_that_lacks_a_value_or_names_no_task_is_refused(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, size=SIZES, split=SIDES)
    with pytest.raises(UserError, match=r"labels\.csv, column size: The value 'l' has no place in the order s, m"):
        read_csv(tmp_path, options(ordered={"size": ["s", "m"]}))
    with pytest.raises(UserError, match=r"data\.ordered: .* no task 'sise'\. Did you mean: size\?"):
        read_csv(tmp_path, options(ordered={"sise": ["s", "m", "l"]}))


@pytest.mark.parametrize("key", ["path", "group"])
def test_a_missing_column_is_named_with_the_nearest_and_the_key_to_set(tmp_path: Path, key: str) -> None:
    write(tmp_path, ["Paths", "persons", "kind"], ["a.jpg", "x", "y"])
    section = {"path": {}, "group": {"path": "Paths", "group": "person"}}[key]
    nearest = {"path": "Paths", "group": "persons"}[key]
    with pytest.raises(UserError, match=rf"Did you mean: {nearest}\? Its columns: .*kind.*data\.csv\.{key}"):
        read_csv(tmp_path, options(csv=section))


def test_a_table_without_a_task_is_refused(tmp_path: Path) -> None:
    ten(tmp_path, split=SIDES)
    with pytest.raises(UserError, match="no column for a task"):
        read_csv(tmp_path, options())


@pytest.mark.parametrize(
    "header", [["path", "kind", "kind"], ["path", "kind", "Kind"], ["path", "heel_height", "heel-height"]]
)
def test_two_columns_of_one_name_are_refused(tmp_path: Path, header: list[str]) -> None:
    write(tmp_path, header, ["a.jpg", "x", "y"])
    with pytest.raises(UserError, match=rf"'{header[1]}' (twice|and '{header[2]}' have the same name)"):
        read_csv(tmp_path, options())


@pytest.mark.parametrize(("cells", "fields"), [(["5.jpg"], "1 field "), (["5.jpg", "x", "train", ""], "4 fields ")])
def test_a_line_of_another_length_is_named_by_its_number(tmp_path: Path, cells: list[str], fields: str) -> None:
    rows = [[path, "x", side] for path, side in zip(TEN, SIDES, strict=True)]
    rows[2][1] = "two\nlines"  # the numbers are those of lines in an editor, not of rows
    write(tmp_path, ["path", "kind", "split"], *rows[:5], cells, *rows[6:])
    with pytest.raises(UserError, match=rf"labels\.csv: line 8 has {fields}where 3 belong"):
        read_csv(tmp_path, options())


def test_a_quote_that_never_ends_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text('path,kind\na.jpg,x\nb.jpg,"y\nc.jpg,z\n')
    with pytest.raises(UserError, match=r"labels\.csv: line 3 can't be read"):
        read_csv(tmp_path, options())


@pytest.mark.parametrize(
    "path", ["/data/a.jpg", "../a.jpg", "x/../../a.jpg", "C:\\data\\a.jpg", "\\\\host\\a.jpg", "C:/a.jpg"]
)
def test_paths_that_leave_the_folder_are_refused_with_the_remedy(tmp_path: Path, path: str) -> None:
    write(tmp_path, ["path", "kind"], ["a.jpg", "x"], [path, "y"])
    with pytest.raises(UserError, match=r"line 3: the path .* leads out of the folder.*data\.folder"):
        read_csv(tmp_path, options())


def test_paths_are_written_with_slashes_and_without_detours(tmp_path: Path) -> None:
    paths = ["./a/b.jpg", "a\\c.jpg", "a//d.jpg", " e.jpg ", *TEN[4:]]
    ten(tmp_path, path=paths, colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path, options()).paths == ("a/b.jpg", "a/c.jpg", "a/d.jpg", "e.jpg", *TEN[4:])


@pytest.mark.parametrize("again", ["1.jpg", "./1.jpg"])
def test_an_image_on_two_lines_is_refused_with_both(tmp_path: Path, again: str) -> None:
    ten(tmp_path, path=[*TEN[:8], again, TEN[9]], colour=COLOURS, split=SIDES)
    with pytest.raises(UserError, match=r"lines 3 and 10 both list 1\.jpg"):
        read_csv(tmp_path, options())


def test_a_line_without_a_path_is_refused(tmp_path: Path) -> None:
    ten(tmp_path, path=[*TEN[:8], " ", TEN[9]], colour=COLOURS, split=SIDES)
    with pytest.raises(UserError, match="line 10 names no image"):
        read_csv(tmp_path, options())


def test_a_missing_table_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path, ["path", "kind"], name="mine.csv")
    with pytest.raises(UserError, match=r"labels\.csv is missing.*data\.csv\.file\. There: mine\.csv\."):
        read_csv(tmp_path, options())


@pytest.mark.parametrize("text", ["", "\n\n", "path,kind\n"], ids=["empty", "blank", "header alone"])
def test_a_table_without_images_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=r"labels\.csv lists no image"):
        read_csv(tmp_path, options())


def test_another_encoding_is_named_by_its_line_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("path,kind\na.jpg,x\nb.jpg,façade\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"labels\.csv is not UTF-8 text \(line 3\).*save it as UTF-8"):
        read_csv(tmp_path, options())
    (tmp_path / "labels.csv").write_bytes("path,kind\na.jpg,x\n".encode("utf-16"))
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_csv(tmp_path, options())


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: ";" not in text)


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.tuples(words, words), min_size=10, max_size=10),
    delimiter=st.sampled_from([",", ";", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_any_text_that_a_csv_holds_is_read_as_written(
    cells: list[tuple[str, str]], delimiter: str, quoting: Any
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Path(folder, "labels.csv").open("w", newline="", encoding="utf-8") as file:
            rows = [[path, *pair] for path, pair in zip(TEN, cells, strict=True)]
            writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
            writer.writerows([["path", "one", "two"], *rows])
        table = read_csv(Path(folder), options())
    assert table.paths == tuple(TEN)
    for number, task in enumerate(("one", "two")):
        assert names(table.columns[task]) == [pair[number].strip() or None for pair in cells]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_a_table_in_each_splits_folder_names_the_images_beside_it(tmp_path: Path) -> None:
    sides = {"train": range(6), "val": (6, 7), "test": (8, 9)}
    for split, numbers in sides.items():
        touch(tmp_path, *(f"{split}/{TEN[n]}" for n in numbers))
        write(tmp_path / split, ["file_name", "colour"], *[[TEN[n], COLOURS[n]] for n in numbers], name="metadata.csv")
    files = {split: f"{split}/metadata.csv" for split in sides}
    table = read_csv(tmp_path, options(csv={"files": files, "path": "file_name"}))
    assert table.paths == tuple(f"{split}/{TEN[n]}" for split, numbers in sides.items() for n in numbers)


def test_absolute_paths_inside_the_folder_are_relative_to_it(tmp_path: Path) -> None:
    ten(tmp_path, path=[str(tmp_path.resolve() / name) for name in TEN], colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path, options()).paths == tuple(TEN)


@pytest.mark.parametrize("given", ["real", "link"])
@pytest.mark.parametrize("named", ["real", "link", "other"])
def test_absolute_paths_through_links_to_the_folder_are_inside(tmp_path: Path, given: str, named: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "other").symlink_to("link")
    (tmp_path / "real" / "img").symlink_to(tmp_path / "away")
    paths = [*TEN[:9], "img/9.jpg"]
    ten(tmp_path / "real", path=[str(tmp_path / named / name) for name in paths], colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path / given, options()).paths == tuple(paths)
    ten(tmp_path / "real", path=[*paths[:9], str(tmp_path / "away" / "9.jpg")], colour=COLOURS, split=SIDES)
    with pytest.raises(UserError, match=r"line 11: the path .*away/9\.jpg leads out of the folder"):
        read_csv(tmp_path / given, options())


def test_an_address_is_no_path(tmp_path: Path) -> None:
    ten(tmp_path, path=[*TEN[:9], "https://example.org/a.jpg"], colour=COLOURS, split=SIDES)
    with pytest.raises(UserError, match=r"line 11 gives an address, https://example\.org/a\.jpg: fetch the images"):
        read_csv(tmp_path, options())


def test_images_are_found_under_the_names_that_they_have(tmp_path: Path) -> None:
    """Without an ending, from the folder above, and in another Unicode form."""
    root = tmp_path / "photos"
    touch(root, "0.jpg", "1.png", "a/2.jpg", unicodedata.normalize("NFD", "3é.jpg"), *TEN[4:])
    written_as = ["0", "1", "photos/a/2.jpg", unicodedata.normalize("NFC", "3é.jpg"), *TEN[4:]]
    ten(root, path=written_as, colour=COLOURS, split=SIDES)
    table = read_csv(root, options())
    assert all((root / path).is_file() for path in table.paths)
    assert table.remarks[0] == "4 images have another path than in the table, such as 0.jpg for 0."
    root = tmp_path / "forms"
    touch(root, *(unicodedata.normalize("NFD", f"é{path}") for path in TEN))
    ten(root, path=[unicodedata.normalize("NFC", f"é{path}") for path in TEN], colour=COLOURS, split=SIDES)
    assert read_csv(root, options()).remarks[0].endswith("0.jpg, in another Unicode form.")


def test_a_nul_in_a_path_is_named_by_its_line(tmp_path: Path) -> None:
    ten(tmp_path, path=[*TEN[:9], "9\0.jpg"], colour=COLOURS, split=SIDES)
    with pytest.raises(UserError, match="line 11 has a NUL byte in its path"):
        read_csv(tmp_path, options())


def test_a_line_per_label_is_told_to_be_pivoted(tmp_path: Path) -> None:
    write(tmp_path, ["path", "task", "label"], ["0.jpg", "colour", "red"], ["0.jpg", "size", "s"])
    with pytest.raises(
        UserError, match=r"lines 2 and 3 both list 0\.jpg; .*Pivot a table with a line per label to a column per task"
    ):
        read_csv(tmp_path, options())


def test_a_pipe_of_an_images_name_is_no_other_path(tmp_path: Path) -> None:
    touch(tmp_path, *TEN[1:])
    os.mkfifo(tmp_path / TEN[0])
    ten(tmp_path, colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path, options()).remarks == ()
