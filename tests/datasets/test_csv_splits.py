"""The split and the groups of a user's own images in a CSV, and what is refused with which remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from support_own_images import COLOURS, SIDES, TEN, names, options, ten, write

from mtlbench.data.table import split_at_random
from mtlbench.datasets.csv_files import CsvFile, read_csv
from mtlbench.errors import UserError


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
@pytest.mark.parametrize("words", [("0", "1"), ("False", "True"), ("no", "yes"), ("0.0", "1.0"), ("f", "T")])
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
            "line 10 says 'x' in column is_train where true or false belongs: correct",
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


@pytest.mark.parametrize("name", ["is_train", "is_val", "is_test"])
@pytest.mark.parametrize("cell", ["", "nan", " "])
def test_an_empty_cell_of_a_flag_of_splits_is_refused_by_its_line(tmp_path: Path, name: str, cell: str) -> None:
    ten(tmp_path, colour=COLOURS, **{name: [*"1100", cell, *"11000"]})
    with pytest.raises(UserError, match=rf"line 6 says '{cell}' in column {name} where true or false belongs"):
        read_csv(tmp_path, options())


def test_an_empty_cell_among_splits_by_number_is_refused_by_its_line(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, split=[*"0120", "", *"20000"])
    with pytest.raises(UserError, match="line 6 says '' in column split where 0, 1 or 2 belongs"):
        read_csv(tmp_path, options())


@pytest.mark.parametrize(
    "name", ["train", "Test", "val", "training", "in_train", "is_in_test", "train_set", "test image", "is_train_image"]
)
@pytest.mark.parametrize("words", ["01", "ft", ["no", "yes"], ["", "1"]])
def test_flags_called_like_a_split_are_no_silent_task(tmp_path: Path, name: str, words: str | list[str]) -> None:
    flags = [words[i] for i in (1, 1, 1, 1, 1, 1, 1, 1, 0, 0)]
    ten(tmp_path, colour=COLOURS, **{name: flags})
    said = f"the column {name} looks like the split. Have one column for each split, called is_train, is_val or is_test"
    with pytest.raises(UserError, match=said):
        read_csv(tmp_path, options())
    for chosen in ({"csv": {"split": ""}}, {"tasks": ["colour", name]}):
        assert list(read_csv(tmp_path, options(**chosen)).columns) == ["colour", name]
    ten(tmp_path, colour=COLOURS, split=SIDES, **{name: flags})
    table = read_csv(tmp_path, options())
    assert (list(table.columns), np.bincount(table.split).tolist()) == (["colour"], [6, 2, 2])
    assert table.remarks == (f"'{name}' looks like a split, and is no task unless data.tasks names it.",)


def test_two_flags_about_one_split_are_refused_and_no_tasks(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, is_val=list("0000001100"), is_dev=list("0000000011"))
    with pytest.raises(UserError, match="the columns is_val, is_dev look like the split"):
        read_csv(tmp_path, options())


def test_words_called_like_a_split_are_a_task(tmp_path: Path) -> None:
    ten(tmp_path, train=["steam", "diesel"] * 5, test=["", "failed"] * 5)
    assert list(read_csv(tmp_path, options()).columns) == ["train", "test"]


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


def test_splits_by_number_are_those_of_celebas_partition(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, split=list("0120120000"))
    assert read_csv(tmp_path, options()).split.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 0, 0]


def test_without_a_validation_split_an_eighth_of_train_is_drawn_and_said(tmp_path: Path) -> None:
    ten(tmp_path, colour=COLOURS, split=["train"] * 8 + ["test"] * 2)
    table = read_csv(tmp_path, options())
    assert np.bincount(table.split).tolist() == [7, 1, 2]
    assert table.split[8:].tolist() == [2, 2]
    assert table.split_rule == "as in labels.csv, column split, validation an eighth of train at random, seed 0"
    drawn = {tuple(read_csv(tmp_path, options(split_seed=seed)).split.tolist()) for seed in range(5)}
    assert len(drawn) > 1


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


def test_tables_of_splits_with_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path, ["path", "colour"], ["a.jpg", "red"], name="train.csv")
    write(tmp_path, ["path", "color"], ["b.jpg", "red"], name="test.csv")
    with pytest.raises(UserError, match=r"test\.csv has different columns from .*train\.csv"):
        read_csv(tmp_path, options(csv={"files": {"train": "train.csv", "test": "test.csv"}}))
    with pytest.raises(UserError, match="'tarin' is no split"):
        read_csv(tmp_path, options(csv={"files": {"tarin": "train.csv"}}))


def test_no_table_of_a_split_is_lost(tmp_path: Path) -> None:
    for name in ("train", "val", "valid", "test"):
        write(tmp_path, ["path", "colour"], ["a.jpg", "red"], name=f"{name}.csv")
    proposal = CsvFile.propose(tmp_path)
    assert proposal is not None
    assert 'train = "train.csv", val = "val.csv", valid = "valid.csv", test = "test.csv"' in proposal.section[1]


def test_tables_of_query_and_gallery_are_both_proposed_and_both_test(tmp_path: Path) -> None:
    for name, numbers in (("train", range(6)), ("query", (6, 7)), ("gallery", (8, 9))):
        write(tmp_path, ["path", "colour"], *[[TEN[n], COLOURS[n]] for n in numbers], name=f"{name}.csv")
    proposal = CsvFile.propose(tmp_path)
    assert proposal is not None
    section = tomllib.loads(proposal.section[1])["csv"]
    assert section["files"] == {"train": "train.csv", "query": "query.csv", "gallery": "gallery.csv"}
    table = read_csv(tmp_path, options(csv=section))
    assert {path for path, side in zip(table.paths, table.split, strict=True) if side == 2} == set(TEN[6:])
