"""A user's own images in a CSV: what it becomes, and what is refused with which remedy."""

from __future__ import annotations

import csv
import os
import tempfile
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_own_images import COLOURS, SIDES, SIZES, TEN, facts, names, options, ten, write

from mtlbench.data.table import remark_on_several, split_at_random
from mtlbench.datasets.csv_files import CsvFile, read_csv
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


def test_file_and_columns_go_by_the_sidesthat_the_benchmark_gives(tmp_path: Path) -> None:
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


def test_an_order_that_lacks_a_value_or_sidesno_task_is_refused(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, size=SIZES, split=SIDES)
    with pytest.raises(UserError, match=r"labels\.csv, column size: The value 'l' has no place in the order s, m"):
        read_csv(tmp_path, options(ordered={"size": ["s", "m"]}))
    with pytest.raises(UserError, match=r"data\.ordered: .* no task 'sise'\. Did you mean: size\?"):
        read_csv(tmp_path, options(ordered={"sise": ["s", "m", "l"]}))


@pytest.mark.parametrize(
    "words",
    [
        ("train", "val", "test"),
        ("Training", "VALIDATION", "Testing"),
        (" train", "valid ", "TEST"),
        ("train", "Dev", "test"),
    ],
)
def test_splits_have_their_usual_names(tmp_path: Path, words: tuple[str, str, str]) -> None:
    ten(tmp_path, colour=COLOURS, split=[words[i] for i in (0, 1, 2, 0, 0, 1, 2, 0, 0, 0)])
    assert read_csv(tmp_path, options()).split.tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 0, 0]


@pytest.mark.parametrize("word", ["", "tets", "0"])
def test_a_split_that_is_none_is_refused_by_its_line(tmp_path: Path, word: str) -> None:
    ten(tmp_path, colour=COLOURS, split=[*SIDES[:4], word, *SIDES[5:]])
    with pytest.raises(UserError, match=rf"labels\.csv: line 6 says '{word}' in column split where train, val or test"):
        read_csv(tmp_path, options())


@pytest.mark.parametrize(
    ("sides", "empty"),
    [(["test"] * 10, "train or val"), (["val"] * 8 + ["test"] * 2, "train"), (["train"] * 10, "val or test")],
)
def test_a_table_without_one_of_the_splits_is_refused_with_the_remedy(
    tmp_path: Path, sides: list[str], empty: str
) -> None:
    ten(tmp_path, colour=COLOURS, split=sides)
    with pytest.raises(UserError, match=f"no image is in the split {empty}: .*drop the column"):
        read_csv(tmp_path, options())


def test_without_a_split_column_images_are_split_at_random_by_their_paths(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS)
    table = read_csv(tmp_path, options(split_seed=5))
    assert table.split.tolist() == split_at_random(TEN, 5).tolist()
    assert table.split_rule == "by image at random, 70/10/20, seed 5"


def test_a_split_column_of_the_users_own_name_has_to_be_there(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, fold=SIDES)
    with pytest.raises(UserError, match=r"no column 'folds'\. Did you mean: fold\?.*data\.csv\.split"):
        read_csv(tmp_path, options(csv={"split": "folds"}))


def test_a_split_column_can_be_switched_off_and_is_then_a_task(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, split=SIDES)
    table = read_csv(tmp_path, options(csv={"split": ""}))
    assert list(table.columns) == ["colour", "split"]
    assert table.split_rule.startswith("by image at random")


@pytest.mark.parametrize("name", ["Split", "SPLIT", "fold"])
def test_a_split_column_of_another_name_is_refused_and_not_taken_for_a_task(tmp_path: Path, name: str) -> None:
    ten(tmp_path, colour=COLOURS, **{name: [*SIDES[:3], "", *SIDES[4:]]})
    with pytest.raises(UserError, match=f"the column '{name}' looks like the split.*Set data.csv.split = '{name}', or"):
        read_csv(tmp_path, options())
    table = read_csv(tmp_path, options(csv={"split": ""}))
    assert list(table.columns) == ["colour", name]
    ten(tmp_path, colour=COLOURS, **{name: SIDES})
    assert np.bincount(read_csv(tmp_path, options(csv={"split": name})).split).tolist() == [6, 2, 2]


@pytest.mark.parametrize(
    "cells",
    [["Train", "bus"] * 5, ["train", ""] * 5, ["dev", "validation"] * 5],
    ids=["other words", "one", "one side"],
)
def test_a_column_of_other_words_or_of_one_split_alone_is_a_task(tmp_path: Path, cells: list[str]) -> None:
    ten(tmp_path, vehicle=cells)
    assert list(read_csv(tmp_path, options()).columns) == ["vehicle"]


@pytest.mark.parametrize(
    ("flags", "drawn"),
    [
        ({"is_train": "1111110000", "is_val": "0000001100", "is_test": "0000000011"}, ""),
        ({"is_train": "1111110000", "is_valid": "0000001100"}, ""),
        ({"IsVal": "0000001100", "isTest": "0000000011"}, ""),
        ({"is_training": "1111110000", "is_test": "0000000011"}, ""),
        ({"is_train": "1111111100"}, ", validation an eighth of train"),
        ({"is_test": "0000000011"}, ", validation an eighth of train"),
        ({"is_valid": "0000000011"}, ", val taken as test, validation an eighth of train"),
    ],
)
@pytest.mark.parametrize("words", [("0", "1"), ("False", "True"), ("no", "yes"), ("", "1.0")])
def test_columns_that_say_of_one_split_who_is_in_it_are_the_split_and_no_tasks(
    tmp_path: Path, flags: dict[str, str], drawn: str, words: tuple[str, str]
) -> None:
    ten(tmp_path, colour=COLOURS, **{name: [words[int(i)] for i in cells] for name, cells in flags.items()})
    table = read_csv(tmp_path, options())
    assert list(table.columns) == ["colour"]
    expected = [0] * 6 + [1] * 2 + [2] * 2
    assert (table.split == 2).tolist() == [side == 2 for side in expected]
    if not drawn:
        assert table.split.tolist() == expected
    assert table.split_rule.startswith(f"as in labels.csv, {', '.join(flags)}{drawn}")
    assert [r for r in table.remarks if "says the split, and is no task" in r] != []
    assert set(read_csv(tmp_path, options(csv={"split": ""})).columns) == {"colour", *flags}
    asked = read_csv(tmp_path, options(tasks=["colour", *flags]))
    assert set(asked.columns) == {"colour", *flags}
    assert asked.split_rule.startswith("by image at random")


@pytest.mark.parametrize(
    ("train", "val", "test", "said"),
    [
        ("1111110000", "0000011100", "0000000011", "line 7 is in two splits by the columns is_train, is_val, is_test"),
        ("1111100000", "0000001100", "0000000011", "line 7 is in no split by the columns is_train, is_val, is_test"),
        (
            "11111100x0",
            "0000001100",
            "0000000011",
            "the column 'is_train' says 'x' where true or false belongs: correct",
        ),
        ("0000000000", "1111111100", "0000000011", "no image is in the split train: give it some images, or drop"),
    ],
)
def test_flags_of_splits_that_contradict_each_other_are_refused_with_the_remedy(
    tmp_path: Path, train: str, val: str, test: str, said: str
) -> None:
    ten(tmp_path, colour=COLOURS, is_train=list(train), is_val=list(val), is_test=list(test))
    with pytest.raises(UserError, match=said):
        read_csv(tmp_path, options())


def test_a_flag_beside_a_column_of_splits_is_no_task_and_changes_no_split(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, is_train=list("0101010101"), split=SIDES)
    table = read_csv(tmp_path, options())
    assert (list(table.columns), table.split.tolist()) == (["colour"], [0] * 6 + [1] * 2 + [2] * 2)


@pytest.mark.parametrize("name", ["fold", "kfold", "K-Fold", "fold_id"])
@pytest.mark.parametrize("form", ["{}", "fold{}", "{}.0", "Fold {}"])
def test_folds_of_a_cross_validation_are_no_task_unless_asked_for(tmp_path: Path, name: str, form: str) -> None:
    ten(tmp_path, colour=COLOURS, **{name: [form.format(i % 5) for i in range(10)]})
    table = read_csv(tmp_path, options())
    assert list(table.columns) == ["colour"]
    assert table.remarks[-1] == f"'{name}' numbers folds, and is no task unless data.tasks names it: left out."
    assert list(read_csv(tmp_path, options(tasks=["colour", name])).columns) == ["colour", name]


def test_folds_of_cloth_are_a_task_and_folds_may_be_a_group(tmp_path: Path) -> None:
    ten(tmp_path, fold=["pleated", "plain"] * 5)
    assert list(read_csv(tmp_path, options()).columns) == ["fold"]
    ten(tmp_path, colour=COLOURS, fold=list("0123456789"))
    assert read_csv(tmp_path, options(csv={"group": "fold"})).group == "fold"


def test_a_train_split_too_small_to_draw_validation_from_ends_with_the_remedy(tmp_path: Path) -> None:
    """One training image leaves none to draw; six leave one, which no task can be judged on."""
    ten(tmp_path, colour=COLOURS, split=["train"] + ["test"] * 9)
    with pytest.raises(UserError, match="no image is in the split val: give it some images, or drop the column to"):
        read_csv(tmp_path, options())
    ten(tmp_path, colour=["red", "blue"] * 5, split=["train"] * 6 + ["test"] * 4)
    table = read_csv(tmp_path, options())
    for choose in (lambda: table.choose_default([], []), lambda: table.choose(["colour"])):
        with pytest.raises(UserError, match=r"colour has only one value in the val split|'colour' has only") as refused:
            choose()
        assert "add images, or move some there from another split (train 5, val 1, test 4)." in str(refused.value)


def test_beside_a_split_column_one_of_the_same_words_is_a_task(tmp_path: Path) -> None:
    ten(tmp_path, split=SIDES, old=SIDES[::-1])
    table = read_csv(tmp_path, options())
    assert (list(table.columns), table.split.tolist()) == (["old"], [0] * 6 + [1] * 2 + [2] * 2)


def test_the_group_is_a_task_only_where_it_is_asked_for(tmp_path: Path) -> None:
    rows = [[f"{i}.jpg", f"person {i % 5}", "xy"[i % 2], side] for i, side in enumerate(SIDES * 4)]
    write(tmp_path, ["path", "person", "kind", "split"], *rows)
    table = read_csv(tmp_path, options(csv={"group": "person"}))
    assert table.group == "person"
    assert table.choose_default([], []) == (["kind"], "")
    assert table.choose(["person"]) == ["person"]
    assert read_csv(tmp_path, options()).choose_default([], []) == (["person", "kind"], "")


def test_images_of_a_group_stay_on_one_side_and_the_group_is_a_task_too(tmp_path: Path) -> None:
    people = [f"person {i // 3}" for i in range(30)]
    rows = [[f"{i}.jpg", person, "x"] for i, person in enumerate(people)]
    write(tmp_path, ["path", "person", "kind"], *rows)
    table = read_csv(tmp_path, options(csv={"group": "person"}, split_seed=2))
    assert table.split.tolist() == split_at_random(people, 2).tolist()
    assert len(set(zip(people, table.split.tolist(), strict=True))) == 10
    assert table.split_in_words == (
        "by person at random, 70/10/20, seed 2; no test image has another image of the same person in train"
    )
    assert names(table.columns["person"]) == people


def test_images_without_a_group_are_on_their_own(tmp_path: Path) -> None:
    rows = [[f"{i}.jpg", "", "x"] for i in range(40)]
    write(tmp_path, ["path", "person", "kind"], *rows)
    table = read_csv(tmp_path, options(csv={"group": "person"}))
    assert np.bincount(table.split).tolist() == [28, 4, 8]


def test_a_group_on_two_sides_of_the_given_split_is_remarked(tmp_path: Path) -> None:
    ten(tmp_path, person=["a", "a", "b", "b", "c", "d", "d", "e", "a", "f"], split=SIDES)
    table = read_csv(tmp_path, options(csv={"group": "person"}))
    assert table.remarks == ("2 values of person are in several splits, such as a.",)
    assert table.split_in_words == (
        "as in labels.csv, column split; 50.0 % of the test images have another image of the same person in train"
    )
    ten(tmp_path, person=["a", "a", "b", "b", "c", "c", "d", "e", "d", "f"], split=SIDES)
    table = read_csv(tmp_path, options(csv={"group": "person"}))
    assert table.remarks == ("1 value of person is in several splits, such as d.",)
    ten(tmp_path, person=["a", "a", "b", "b", "c", "c", "d", "e", "f", "f"], split=SIDES)
    assert read_csv(tmp_path, options(csv={"group": "person"})).remarks == ()


def test_too_few_images_or_groups_for_three_splits_are_refused(tmp_path: Path) -> None:
    write(tmp_path, ["path", "kind"], ["a.jpg", "x"], ["b.jpg", "y"])
    with pytest.raises(UserError, match="too small to be split 70/10/20 by image: it has 2"):
        read_csv(tmp_path, options())
    ten(tmp_path, person=["a"] * 5 + ["b"] * 5)
    with pytest.raises(UserError, match="too small to be split 70/10/20 by person: it has 2"):
        read_csv(tmp_path, options(csv={"group": "person"}))


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


def test_splits_by_number_are_those_of_celebas_partition(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, split=list("0120120000"))
    assert read_csv(tmp_path, options()).split.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 0, 0]


def test_without_a_validation_split_an_eighth_of_train_is_drawn_and_said(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, split=["train"] * 8 + ["test"] * 2)
    table = read_csv(tmp_path, options())
    assert np.bincount(table.split).tolist() == [7, 1, 2]
    assert table.split[8:].tolist() == [2, 2]
    assert table.split_rule == "as in labels.csv, column split, validation an eighth of train at random, seed 0"


def test_without_a_test_split_val_is_test_and_the_rule_says_so(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, split=["train"] * 8 + ["val"] * 2)
    table = read_csv(tmp_path, options())
    assert table.split[8:].tolist() == [2, 2]
    assert np.bincount(table.split).tolist() == [7, 1, 2]
    assert table.split_rule == (
        "as in labels.csv, column split, val taken as test, validation an eighth of train at random, seed 0"
    )


def test_tables_of_the_splits_are_read_as_one(tmp_path: Path) -> None:
    for split, numbers in (("train", range(6)), ("valid", (6, 7)), ("test", (8, 9))):
        write(tmp_path, ["path", "colour"], *[[TEN[n], COLOURS[n]] for n in numbers], name=f"{split}.csv")
    table = read_csv(tmp_path, options(csv={"files": {"train": "train.csv", "val": "valid.csv", "test": "test.csv"}}))
    assert table.paths == tuple(TEN)
    assert table.split.tolist() == [0] * 6 + [1] * 2 + [2] * 2
    assert list(table.columns) == ["colour"]
    assert table.split_rule == "as in train.csv, valid.csv, test.csv"
    proposal = CsvFile.propose(tmp_path)
    assert proposal is not None
    assert proposal.section[1] == (
        'csv = { files = { train = "train.csv", val = "valid.csv", test = "test.csv" }, path = "path" }'
    )


def test_a_table_in_each_splits_folder_names_the_images_beside_it(tmp_path: Path) -> None:
    sides = {"train": range(6), "val": (6, 7), "test": (8, 9)}
    for split, numbers in sides.items():
        touch(tmp_path, *(f"{split}/{TEN[n]}" for n in numbers))
        write(tmp_path / split, ["file_name", "colour"], *[[TEN[n], COLOURS[n]] for n in numbers], name="metadata.csv")
    files = {split: f"{split}/metadata.csv" for split in sides}
    table = read_csv(tmp_path, options(csv={"files": files, "path": "file_name"}))
    assert table.paths == tuple(f"{split}/{TEN[n]}" for split, numbers in sides.items() for n in numbers)


def test_tables_of_splits_with_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path, ["path", "colour"], ["a.jpg", "red"], name="train.csv")
    write(tmp_path, ["path", "color"], ["b.jpg", "red"], name="test.csv")
    with pytest.raises(UserError, match=r"test\.csv has different columns from .*train\.csv"):
        read_csv(tmp_path, options(csv={"files": {"train": "train.csv", "test": "test.csv"}}))
    with pytest.raises(UserError, match="'tarin' is no split"):
        read_csv(tmp_path, options(csv={"files": {"tarin": "train.csv"}}))


def test_absolute_paths_inside_the_folder_are_relative_to_it(tmp_path: Path) -> None:
    ten(tmp_path, path=[str(tmp_path.resolve() / name) for name in TEN], colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path, options()).paths == tuple(TEN)


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


def test_tables_of_query_and_gallery_are_both_proposed_and_both_test(tmp_path: Path) -> None:
    for name, numbers in (("train", range(6)), ("query", (6, 7)), ("gallery", (8, 9))):
        write(tmp_path, ["path", "colour"], *[[TEN[n], COLOURS[n]] for n in numbers], name=f"{name}.csv")
    proposal = CsvFile.propose(tmp_path)
    assert proposal is not None
    section = tomllib.loads(proposal.section[1])["csv"]
    assert section["files"] == {"train": "train.csv", "query": "query.csv", "gallery": "gallery.csv"}
    table = read_csv(tmp_path, options(csv=section))
    assert {path for path, side in zip(table.paths, table.split, strict=True) if side == 2} == set(TEN[6:])


def test_no_table_of_a_split_is_lost(tmp_path: Path) -> None:
    for name in ("train", "val", "valid", "test"):
        write(tmp_path, ["path", "colour"], ["a.jpg", "red"], name=f"{name}.csv")
    proposal = CsvFile.propose(tmp_path)
    assert proposal is not None
    assert 'train = "train.csv", val = "val.csv", valid = "valid.csv", test = "test.csv"' in proposal.section[1]


def test_a_pipe_of_an_images_name_is_no_other_path(tmp_path: Path) -> None:
    touch(tmp_path, *TEN[1:])
    os.mkfifo(tmp_path / TEN[0])
    ten(tmp_path, colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path, options()).remarks == ()
