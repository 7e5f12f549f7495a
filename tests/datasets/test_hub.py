"""Hugging Face data sets: from parquet, arrow and image folders, and from a Hub that is served on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, List, Value
from support_hub import parquet, picture, pictures, rows, served
from support_own_images import names, options

from mtlbench.benchmark import Data
from mtlbench.cli import main
from mtlbench.data.check import suggested_benchmark
from mtlbench.data.pack import open_pack
from mtlbench.data.reading import read_table
from mtlbench.data.table import Table
from mtlbench.errors import UserError

COLOURS = ["red", "blue", "red", "", "blue", "red", "red", "blue", "red", "blue"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MTLBENCH_DATA", str(tmp_path / "data"))


def settings(folder: Path | None, /, more: dict[str, Any] | None = None, **chosen: Any) -> Data:
    where = {"folder": str(folder)} if folder else {}
    return options("hub", **where, options=chosen, **(more or {}))


def read(folder: Path | None, /, more: dict[str, Any] | None = None, **chosen: Any) -> Table:
    return read_table(settings(folder, more, **chosen), None)


def refusal(folder: Path | None, /, more: dict[str, Any] | None = None, **chosen: Any) -> str:
    with pytest.raises(UserError) as refused:
        read(folder, more, **chosen)
    return str(refused.value)


def test_classes_words_numbers_flags_and_lists_are_tasks(tmp_path: Path) -> None:
    made = rows(
        {"kind": ClassLabel(names=["sandal", "boot"]), "size": Value("int8"), "tags": List(Value("string"))},
        kind=[0, 1, -1, 0, 1, None, 0, 1, 0, 1],
        colour=COLOURS,
        size=[3, None, 10, 3, 10, 3, 10, 3, 10, 3],
        wet=[True, False, None] + [True] * 7,
        tags=[["b", "a"], ["a"], [], None] + [["a"]] * 6,
    )
    table = read(parquet(tmp_path / "shop", train=made))
    assert (table.name, len(table)) == ("shop", 10)
    # the classes' own order and numbers, not the alphabet's
    assert table.columns["kind"].values == ("sandal", "boot")
    assert table.columns["kind"].codes.tolist() == [0, 1, -1, 0, 1, -1, 0, 1, 0, 1]
    assert names(table.columns["colour"]) == [colour or None for colour in COLOURS]
    assert names(table.columns["size"])[:3] == ["3", None, "10"]
    assert table.columns["wet"].values == ("no", "yes")
    assert table.columns["wet"].codes.tolist()[:4] == [1, 0, -1, 1]
    assert names(table.columns["tags"])[:5] == ["a;b", "a", None, None, "a"]
    assert table.split_rule == "by image at random, 70/10/20, seed 0"
    assert np.bincount(table.split).tolist() == [7, 1, 2]


def test_images_in_parquet_come_out_of_packing_as_the_pixels_that_went_in(tmp_path: Path) -> None:
    table = read(parquet(tmp_path / "shop", train=rows(colour=COLOURS)))
    pack = open_pack(table, (16, 20), "squash")
    expected = [(4 * i, 100, 255 - 4 * i) for i in range(10)]
    assert [tuple(image[5, 5].tolist()) for image in pack.images] == expected
    assert (pack.images == pack.images[:, :1, :1]).all()
    assert [(table.root / path).read_bytes() for path in table.paths] == [picture(i) for i in range(10)]


def test_images_are_unpacked_once_and_anew_where_the_source_has_changed(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "shop", train=rows(colour=COLOURS))
    first = read(folder)
    times = [(first.root / path).stat().st_mtime_ns for path in first.paths]
    again = read(folder)
    assert [(again.root / path).stat().st_mtime_ns for path in again.paths] == times
    before = open_pack(first, (8, 8), "squash").fingerprint
    changed = rows(colour=COLOURS).add_column("more", list(range(10)))
    changed = datasets.concatenate_datasets([changed.select(range(9)), changed.select([0])])
    parquet(folder, train=changed)
    other = read(folder)
    assert (other.root, other.paths) == (first.root, first.paths)
    assert (other.root / other.paths[9]).read_bytes() == picture(0)
    # what stayed the same keeps its time: it need not be decoded again
    assert [(other.root / path).stat().st_mtime_ns for path in other.paths][:9] == times[:9]
    pack = open_pack(other, (8, 8), "squash")
    assert pack.fingerprint != before
    assert pack.changed == 1


def test_an_unpacked_image_that_was_deleted_is_written_again(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "shop", train=rows(colour=COLOURS))
    table = read(folder)
    (table.root / table.paths[3]).unlink()
    assert (read(folder).root / table.paths[3]).read_bytes() == picture(3)


def test_jpegs_stay_jpegs_and_rows_without_an_image_are_named_by_packing(tmp_path: Path) -> None:
    images = [{"bytes": picture(i, "JPEG"), "path": "x.jpg"} for i in range(19)] + [None]
    made = datasets.Dataset.from_dict({"photo": images, "colour": COLOURS * 2})
    made = made.cast(datasets.Features(made.features | {"photo": datasets.Image()}))
    table = read(parquet(tmp_path / "shop", train=made))
    assert table.paths[0] == "train/0000000.jpg"
    with pytest.raises(UserError, match=r"no-image/train-19 \(No such file"):
        open_pack(table, (8, 8), "squash")
    assert len(open_pack(table, (8, 8), "squash", skip_unreadable=True).kept) == 19


def test_splits_are_taken_over_and_a_missing_validation_split_is_drawn_from_train(tmp_path: Path) -> None:
    def part(n: int) -> datasets.Dataset:
        return rows(colour=(COLOURS * 2)[:n])

    whole = read(parquet(tmp_path / "whole", train=part(10), validation=part(4), test=part(6)))
    assert whole.split.tolist() == [0] * 10 + [1] * 4 + [2] * 6
    assert whole.split_rule == "as in the splits train, validation, test"
    two = read(parquet(tmp_path / "two", train=part(16), test=part(4)))
    assert np.bincount(two.split).tolist() == [14, 2, 4]
    assert two.split[16:].tolist() == [2] * 4
    assert two.split_rule == "as in the splits train, test, validation an eighth of train at random, seed 0"
    held = read(parquet(tmp_path / "held", train=part(16), validation=part(4)))
    assert "val taken as test" in held.split_rule


def test_splits_of_other_names_are_named_by_an_option(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "odd", clean=rows(colour=COLOURS), noisy=rows(colour=COLOURS), extra=rows(colour=["a"]))
    assert refusal(folder).startswith(f"{folder} has splits of other names, clean, extra, noisy: say which are train")
    table = read(folder, splits={"clean": "train", "noisy": "test"})
    assert np.bincount(table.split).tolist() == [9, 1, 10]
    assert table.remarks == ("Left out the split extra.",)
    assert "no split 'clear'. Did you mean: clean?" in refusal(folder, splits={"clear": "train"})


def test_splits_or_columns_of_query_and_gallery_are_the_sets(tmp_path: Path) -> None:
    train = rows(colour=COLOURS)
    folder = parquet(tmp_path / "a", train=train, query=rows(colour=["red"] * 2), gallery=rows(colour=COLOURS[:3]))
    table = read(folder)
    assert table.roles is not None
    assert str(table.roles) == "2 queries against 3 gallery images"
    made = rows(colour=COLOURS[:3], is_query=[True, False, True], is_gallery=[False, True, True])
    nowhere = train.add_column("is_query", [None] * 10).add_column("is_gallery", [None] * 10)
    nowhere = nowhere.cast(made.features)
    table = read(parquet(tmp_path / "b", train=nowhere, test=made))
    assert list(table.columns) == ["colour"]
    assert str(table.roles) == "2 queries against 2 gallery images, 1 of them both"


def test_flags_of_splits_and_folds_are_no_tasks(tmp_path: Path) -> None:
    columns = {"kind": list("abab") * 5, "is_train": [True] * 15 + [False] * 5, "fold": [0, 1, 2, 3] * 5}
    parquet(tmp_path, train=rows(**columns))
    table = read(tmp_path)
    assert list(table.columns) == ["kind"]
    assert (table.split == 2).tolist() == [False] * 15 + [True] * 5
    assert table.split_rule.startswith("as in is_train, validation an eighth of train at random")
    assert sum("no task unless data.tasks names it" in remark for remark in table.remarks) == 2
    asked = read(tmp_path, {"tasks": ["kind", "is_train", "fold"]})
    assert (list(asked.columns), asked.split_rule[:18]) == (["kind", "is_train", "fold"], "by image at random")


@pytest.mark.parametrize(
    "cells",
    [
        {"split": ["train"] * 12 + ["dev"] * 4 + ["test"] * 4},
        {"Split": [0] * 12 + [1] * 4 + [2] * 4},
        {"partition": ["train"] * 12 + ["val"] * 4 + ["test"] * 4},
    ],
)
def test_a_column_of_splits_is_the_split_and_no_task(tmp_path: Path, cells: dict[str, list[Any]]) -> None:
    (name,) = cells
    parquet(tmp_path, train=rows(kind=list("abab") * 5, **cells))
    table = read(tmp_path)
    assert (list(table.columns), table.split_rule) == (["kind"], f"as in {name}")
    assert table.split.tolist() == [0] * 12 + [1] * 4 + [2] * 4
    assert table.remarks == (f"'{name}' says the split, and is no task unless data.tasks names it.",)
    asked = read(tmp_path, {"tasks": ["kind", name]})
    assert (list(asked.columns), asked.split_rule[:18]) == (["kind", name], "by image at random")


def test_what_looks_like_a_split_and_says_none_is_refused(tmp_path: Path) -> None:
    kinds = {"kind": list("abab") * 5}
    flags = [True] * 15 + [False] * 5
    assert "the column train looks like the split" in refusal(parquet(tmp_path / "a", train=rows(**kinds, train=flags)))
    sides = ["train"] * 15 + ["test"] * 5
    two = rows(**kinds, old=sides, new=sides)
    assert "the columns old, new all look like the split" in refusal(parquet(tmp_path / "b", train=two))
    for kind, gap in (("int8", "c"), ("float64", "d")):
        gaps = rows({"is_train": Value(kind)}, **kinds, is_train=[1, None, *map(int, flags[2:])])
        assert "line 2 says '' in column is_train where" in refusal(parquet(tmp_path / gap, train=gaps))
    given = rows(**kinds, train=flags, split=sides)
    table = read(parquet(tmp_path / "e", train=given, test=given))
    assert list(table.columns) == ["kind", "split"]  # the data set's own splits are kept to


def test_a_group_stays_on_one_side(tmp_path: Path) -> None:
    made = rows(colour=COLOURS * 4, product=[f"p{i // 2}" for i in range(40)])
    table = read(parquet(tmp_path / "shop", train=made), group="product")
    assert table.group == "product"
    sides = table.split.reshape(-1, 2)
    assert (sides[:, 0] == sides[:, 1]).all()
    assert table.split_rule == "by product at random, 70/10/20, seed 0"
    assert "no column 'prduct'. Did you mean: product?" in refusal(tmp_path / "shop", group="prduct")


def numbered(words: list[str], names: list[str]) -> datasets.Dataset:
    """A split whose colours are classes, numbered by `names`."""
    return rows({"colour": ClassLabel(names=names)}, colour=[names.index(word) for word in words])


def saved(folder: Path, **splits: datasets.Dataset) -> Path:
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


@pytest.mark.parametrize("written", [saved, parquet])
@pytest.mark.parametrize("test_names", [["green", "red"], ["red", "blue", "green"], ["red", "green", "mauve"]])
def test_classes_are_those_of_their_own_splits_names(tmp_path: Path, written: Any, test_names: list[str]) -> None:
    """class_encode_column numbers the classes of each split on its own, and the test split may lack some."""
    words = ["green", "blue", "red", "green"] * 4
    tested = ["red", "green", "green", "red"]
    parts = {"train": numbered(words, ["blue", "green", "red"]), "test": numbered(tested, test_names)}
    table = read(written(tmp_path / "shop", **parts))
    assert names(table.columns["colour"]) == [*words, *tested]
    more = ["mauve"] if "mauve" in test_names else []
    assert table.columns["colour"].values == ("blue", "green", "red", *more)
    ordered = read(tmp_path / "shop", {"ordered": {"colour": ["red", "green", "blue", "mauve"]}})
    assert ordered.columns["colour"].codes.tolist()[-4:] == [0, 1, 1, 0]


def test_lists_of_classes_are_those_of_their_own_splits_names(tmp_path: Path) -> None:
    def part(names: list[str], count: int) -> datasets.Dataset:
        return rows({"tags": List(ClassLabel(names=names))}, tags=[[0], [0, 1], [1], []] * count)

    table = read(parquet(tmp_path / "shop", train=part(["a", "b"], 4), test=part(["b", "c"], 1)))
    assert names(table.columns["tags"])[-4:] == ["b", "b;c", "c", None]
    words = rows(tags=[["c"], ["b", "a"], ["a"], []] * 4)
    table = read(parquet(tmp_path / "words", train=words, test=part(["b", "c"], 1)))
    assert names(table.columns["tags"])[:2] + names(table.columns["tags"])[-4:] == ["c", "a;b", "b", "b;c", "c", None]


def test_files_of_one_split_that_number_classes_differently_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "shop" / "data"
    place.mkdir(parents=True)
    for i, order in enumerate((["red", "blue"], ["blue", "red"])):
        numbered(["red", "blue"] * 5, order).to_parquet(place / f"train-{i:05d}-of-00002.parquet")
    assert refusal(tmp_path / "shop") == (
        f"{tmp_path / 'shop'}: train-00000-of-00002.parquet and train-00001-of-00002.parquet of the split train number"
        " the classes of 'colour' differently: write them with the same names in the same order."
    )


@pytest.mark.parametrize("written", [saved, parquet])
def test_a_column_of_other_types_in_other_splits_is_matched_by_its_words_or_refused(
    tmp_path: Path, written: Any
) -> None:
    words, classes = ["red", "blue"] * 8, numbered(["red", "blue", "blue", "red"], ["blue", "red"])
    table = read(written(tmp_path / "a", train=rows(colour=words), test=classes))
    assert names(table.columns["colour"]) == [*words, "red", "blue", "blue", "red"]
    sizes = read(written(tmp_path / "b", train=rows(size=["3", "L"] * 8), test=rows(size=[3, 4, 3, 4])))
    assert names(sizes.columns["size"])[-4:] == ["3", "4", "3", "4"]
    hidden = read(written(tmp_path / "c", train=rows(colour=words * 2), test=rows(colour=[None] * 4)))
    assert names(hidden.columns["colour"])[-5:] == ["blue", None, None, None, None]
    numbers = rows(colour=[0, 1, 1, 0], size=[3, 4, 3, 4])
    odd = written(tmp_path / "d", train=rows(colour=words, size=[3, 4] * 8), test=numbers)
    said = (
        f"{odd}: the column 'colour' holds string in train and int64 in test, which share no value: write the same kind"
        " of labels in all splits, or name other columns in data.tasks."
    )
    assert refusal(odd) == said
    assert refusal(odd, {"tasks": ["Colour"]}) == said
    table = read(odd, {"tasks": ["size"]})
    assert list(table.columns) == ["size"]
    assert table.remarks == ("'colour' holds string in train and int64 in test, which share no value: left out.",)


def test_a_column_of_images_holds_images_in_every_split(tmp_path: Path) -> None:
    odd = datasets.Dataset.from_dict({"image": [1, 2], "colour": ["red", "blue"]})
    folder = saved(tmp_path / "odd", train=rows(colour=COLOURS), test=odd)
    assert "the column 'image' holds images, and in the split test int64: make them alike" in refusal(folder)


@pytest.mark.parametrize("multi_valued", ["unlabelled", "first", "value", "set"])
def test_groups_are_what_their_cells_say_whatever_labels_are_made_of_them(tmp_path: Path, multi_valued: str) -> None:
    products = [f"shop;{i // 4}" for i in range(80)] + ["3;shop", "3;shop", None, ""]
    made = rows(colour=(COLOURS * 9)[:84], product=products)
    folder = parquet(tmp_path / "shop", train=made)
    table = read(folder, {"multi_valued": multi_valued, "missing": ["shop;5", "shop"]}, group="product")
    assert table.split_rule == "by product at random, 70/10/20, seed 0"
    sides = table.split[:80].reshape(-1, 4)
    assert (sides == sides[:, :1]).all()
    assert table.kin is not None
    assert len(set(table.kin.codes.tolist()) - {-1}) == 21  # shop;3 and 3;shop are two
    assert table.kin.codes.tolist()[-2:] == [-1, -1]


def test_a_group_leaves_images_of_its_own_camera_out_and_counts_relatives_in_train(tmp_path: Path) -> None:
    def part(people: str, cameras: str) -> datasets.Dataset:
        return rows(person=list(people), camera=list(cameras))

    folder = parquet(tmp_path / "people", train=part("aabbccdd" * 2, "12" * 8), test=part("aaxx", "1122"))
    table = read(folder, {"camera": "camera"}, group="person")
    assert table.split_in_words.endswith("; 50.0 % of the test images have another image of the same person in train")
    assert table.apart is not None
    assert table.apart[-4] == table.apart[-3]
    assert table.apart[-3] != table.apart[-2]
    assert any(remark.startswith("1 value of person is in several splits, such as a.") for remark in table.remarks)
    made = rows(colour=COLOURS, box=[{"x": 1}] * 10)
    said = refusal(parquet(tmp_path / "box", train=made), group="box")
    assert said.endswith("the column 'box' holds objects, which name no groups. Correct data.options.group.")


def test_an_image_folder_with_metadata_is_read_where_it_lies(tmp_path: Path) -> None:
    for side, count in (("train", 16), ("test", 4)):
        place = tmp_path / "mine" / side
        place.mkdir(parents=True)
        lines = [{"file_name": f"{i}.png", "colour": "red" if i % 2 else "blue"} for i in range(count)]
        (place / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for i in range(count):
            (place / f"{i}.png").write_bytes(picture(i))
    table = read(tmp_path / "mine")
    assert table.root == tmp_path / "mine"
    assert {"train/0.png", "test/3.png"} <= set(table.paths)
    colours = dict(zip(table.paths, names(table.columns["colour"]), strict=True))
    assert (colours["train/0.png"], colours["test/3.png"]) == ("blue", "red")


@pytest.mark.parametrize("split", [True, False])
def test_what_save_to_disk_wrote_is_read_too(tmp_path: Path, split: bool) -> None:
    made = rows(colour=COLOURS * 2)
    saved: Any = datasets.DatasetDict({"train": made, "test": made.select(range(5))}) if split else made
    saved.save_to_disk(tmp_path / "saved")
    table = read(tmp_path / "saved")
    assert np.bincount(table.split).tolist() == ([18, 2, 5] if split else [14, 2, 4])
    assert (table.root / table.paths[7]).read_bytes() == picture(7)
    assert names(table.columns["colour"])[:3] == ["red", "blue", "red"]


def test_arrow_files_are_read_as_parquet_is(tmp_path: Path) -> None:
    rows(colour=COLOURS).save_to_disk(tmp_path / "saved")
    (tmp_path / "arrow").mkdir()
    (tmp_path / "saved" / "data-00000-of-00001.arrow").rename(tmp_path / "arrow" / "train-00000-of-00001.arrow")
    table = read(tmp_path / "arrow")
    assert names(table.columns["colour"])[:3] == ["red", "blue", "red"]
    assert (table.root / table.paths[7]).read_bytes() == picture(7)


def test_columns_that_hold_no_labels_are_left_out_and_asking_for_one_is_refused(tmp_path: Path) -> None:
    made = rows(colour=COLOURS, weight=[0.5] + [1.0] * 9, grade=[1.0, float("nan")] + [2.0] * 8, box=[{"x": 1}] * 10)
    folder = parquet(tmp_path / "shop", train=made)
    table = read(folder)
    assert set(table.columns) == {"colour", "grade"}
    assert names(table.columns["grade"])[:3] == ["1", None, "2"]
    assert table.remarks == (
        "'weight' holds real numbers, such as 0.5, no labels: left out.",
        "'box' holds objects, no labels: left out.",
    )
    said = refusal(folder, {"tasks": ["Weight"]})
    assert said.startswith(f"{folder}: the column 'weight' holds real numbers, such as 0.5, no labels. Put")


def test_cells_without_a_value_are_unlabelled_however_they_are_written_and_it_is_said(tmp_path: Path) -> None:
    made = rows(colour=["red", None, "", " ", "n/a"] + ["red"] * 5, grade=[1.0, None, float("nan")] + [2.0] * 7)
    table = read(parquet(tmp_path / "shop", train=made), {"missing": ["N/A"]})
    assert names(table.columns["colour"])[:6] == ["red", None, None, None, None, "red"]
    assert names(table.columns["grade"])[:4] == ["1", None, None, "2"]
    assert table.remarks == (
        "Cells of colour without a value are written in several ways, 1 None, 2 empty text: unlabelled.",
        "Cells of grade without a value are written in several ways, 1 None, 1 NaN: unlabelled.",
    )


def test_ordered_values_and_their_order(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "shop", train=rows(size=["s", "l", "m", "s", "l"] * 2))
    table = read(folder, {"ordered": {"size": ["s", "m", "l"]}})
    assert table.columns["size"].ordered
    assert table.columns["size"].codes.tolist()[:3] == [0, 2, 1]
    assert "column size: The value 'l' has no place in the order s, m" in refusal(
        folder, {"ordered": {"size": ["s", "m"]}}
    )


def test_a_list_whose_value_holds_the_separator_is_refused(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "shop", train=rows(tags=[["a;b", "c"]] + [["c"]] * 9))
    assert "a list in column 'tags' holds 'a;b', in which ';' would split it" in refusal(folder)
    assert names(read(folder, {"separator": "|"}).columns["tags"])[0] == "a;b|c"


def test_images_without_the_hubs_types_are_found_as_bytes_and_paths(tmp_path: Path) -> None:
    made = datasets.Dataset.from_dict({"photo": pictures(10), "colour": COLOURS})
    table = read(parquet(tmp_path / "bare", train=made))
    assert (table.root / table.paths[2]).read_bytes() == picture(2)


def test_a_column_of_images_must_be_there_and_be_the_only_one_or_be_named(tmp_path: Path) -> None:
    none = parquet(tmp_path / "none", train=datasets.Dataset.from_dict({"text": ["a"] * 5, "n": [1] * 5}))
    assert refusal(none) == (
        f"{none} has no column of images. Its columns: text (string), n (int64). A table of paths is read by"
        " data.reader = 'csv'."
    )
    made = rows(colour=COLOURS).add_column("other", pictures(10, 20))
    made = made.cast(datasets.Features(made.features | {"other": datasets.Image()}))
    two = parquet(tmp_path / "two", train=made)
    assert "several columns of images: name one of image, other with data.options.image" in refusal(two)
    table = read(two, image="other")
    assert (table.root / table.paths[0]).read_bytes() == picture(20)
    assert "has no column 'imag'. Did you mean: image?" in refusal(two, image="imag")
    assert "the column 'colour' holds no images" in refusal(two, image="colour")


def test_two_sources_never_share_their_images(tmp_path: Path) -> None:
    one = read(parquet(tmp_path / "a" / "shop", train=rows(colour=COLOURS)))
    two = read(parquet(tmp_path / "b" / "shop", train=rows(colour=COLOURS[::-1])))
    assert one.root != two.root


def test_an_absent_folder_and_one_that_the_library_cannot_read_are_refused(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "absent")
    assert "there is no such folder. Set data.folder, or name one with --data-dir" in refusal(None)
    (tmp_path / "empty").mkdir()
    assert "is not a data set that the library datasets can read" in refusal(tmp_path / "empty")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "train.parquet").write_bytes(b"PAR1 no more")
    assert "is not a data set that the library datasets can read" in refusal(broken)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = parquet(tmp_path / "shop", train=rows(colour=COLOURS))
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal(folder) == "The reader hub needs the library datasets: pip install 'mtlbench[hub]'."
    assert suggested_benchmark(folder)[0] == "a Hugging Face data set, parquet files"


def test_a_folder_of_parquet_gets_a_benchmark_that_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = parquet(tmp_path / "shop", train=rows(colour=COLOURS * 8))
    capfd.readouterr()

    def mtlbench(*words: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["mtlbench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capfd.readouterr()

    code, _, _ = mtlbench("new", "--benchmark", folder, "--folder", tmp_path)
    assert code == 0
    assert 'reader = "hub"\nfolder = "shop"' in (tmp_path / "shop.toml").read_text()
    code, out, err = mtlbench("data", "check", tmp_path / "shop.toml")
    assert code == 0, out + err
    assert "80 images (56 / 8 / 16 train / val / test" in " ".join(out.split())
    assert "Generating" not in err  # the library's bars are for terminals
    code, out, _ = mtlbench("list", "readers")
    assert re.search(r"^hub ", out, re.MULTILINE)


SCRIPT = """
import sys
from mtlbench.benchmark import Data
from mtlbench.cli import main
from mtlbench.data.reading import read_table
from mtlbench.errors import UserError
for name in sys.argv[1:]:
    try:
        table = read_table(Data(reader="hub", options={"id": name}), None)
        print(table.name, len(table), table.split_rule, table.columns["colour"].values)
    except UserError as error:
        print("refused:", error)
"""


def elsewhere(*names: str, **variables: str) -> list[str]:
    """Read data sets of the Hub in a process of its own, as the library reads its variables when it is imported."""
    command = [sys.executable, "-c", SCRIPT, *names]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_data_set_of_the_hub_is_downloaded_once_by_its_id(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "served", train=rows(colour=COLOURS * 8), test=rows(colour=COLOURS[::-1]))
    said = "me/shapes 90 as in the splits train, test, validation an eighth of train at random, seed 0 ('blue', 'red')"
    with served(folder) as (address, fetched):
        where = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
        assert elsewhere("me/shapes", "me/shapes", **where) == [said, said]
        parts = sorted(name for name in fetched if name.endswith(".parquet"))
        assert parts == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]
    # a copy at the usual place goes before the Hub, which answers no longer
    parquet(tmp_path / "data" / "hub" / "me-shapes", train=rows(colour=COLOURS))
    table = read(None, id="me/shapes")
    assert (table.name, len(table)) == ("me-shapes", 10)


def test_a_data_set_that_the_hub_refuses_is_told_by_its_reason(tmp_path: Path) -> None:
    with served(parquet(tmp_path / "served", train=rows(colour=COLOURS))) as (address, _):
        gated, absent, malformed = elsewhere(
            "me/secret", "me/shaeps", "me:shapes", HF_ENDPOINT=address, HF_HOME=str(tmp_path / "home")
        )
    assert gated.startswith("refused: The data set 'me/secret' is gated: ask for access on its page there, and log in")
    assert absent.startswith("refused: The Hub has no data set 'me/shaeps' that you may see: correct data.options.id, ")
    assert malformed.startswith("refused: The data set 'me:shapes' can't be loaded from the Hub: ")


def test_a_hub_that_cannot_be_reached_is_told_and_a_copy_is_the_way_out(tmp_path: Path) -> None:
    [said] = elsewhere("me/shapes", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert said.startswith("refused: The Hub can't be reached for 'me/shapes': ")
    assert "copy it to this machine and name its folder with --data-dir" in said
