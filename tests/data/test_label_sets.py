"""Cells of several values as sets: what they become, what is rare or can't be trained, and what `data check` counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support_own_images import SIDES, TEN, options, ten

from mtlbench.benchmark import Benchmark, Data
from mtlbench.data.dataset import prepare
from mtlbench.data.reading import read_table
from mtlbench.data.table import Column, Table, alike_counts, labels_of, remarks_on_words
from mtlbench.datasets.contract import Reader, read_with
from mtlbench.datasets.csv_files import read_csv
from mtlbench.errors import UserError

CELLS = ["a|b", "b|a", "a", "c", "", "b | c", "c", "a", "b", "c"]


def sets(column: Column) -> list[set[str]]:
    assert column.members is not None
    return [{column.parts[i] for i in np.flatnonzero(column.members[c])} if c >= 0 else set() for c in column.codes]


def test_cells_of_several_values_are_sets() -> None:
    column = labels_of(CELLS, "set", separator="|")
    assert column.parts == ("a", "b", "c")
    assert column.values == ("a", "a|b", "b", "b|c", "c")
    assert sets(column) == [{"a", "b"}, {"a", "b"}, {"a"}, {"c"}, set(), {"b", "c"}, {"c"}, {"a"}, {"b"}, {"c"}]
    counted, names = column.of_parts(column.codes >= 0)
    assert dict(zip(names, np.bincount(counted).tolist(), strict=True)) == {"a": 4, "b": 4, "c": 4}


def test_a_column_without_a_cell_of_several_values_is_what_it_is_under_any_rule() -> None:
    cells = ["a", "b", "", "a"]
    plain, as_sets = labels_of(cells, "value"), labels_of(cells, "set")
    assert as_sets.members is None
    assert (as_sets.codes.tolist(), as_sets.values) == (plain.codes.tolist(), plain.values)


def test_a_set_is_not_remarked_on_as_one_value() -> None:
    cells = ["a|b", "a", "b", "A"]
    as_values, as_sets = (table_of(labels_of(cells, "set", separator=mark), [0] * 4) for mark in (";", "|"))
    assert any("'a|b' counts as one value" in said for said in remarks_on_words(as_values, ["tags"]))
    [said] = remarks_on_words(as_sets, ["tags"])
    assert "'A' and 'a' are different label values" in said


def test_in_an_ordered_task_a_set_has_no_place() -> None:
    column = labels_of(["s", "s;m", "m"], "set", ["s", "m"])
    assert column.members is None
    assert column.codes.tolist() == [0, -1, 1]


def test_how_many_images_share_a_value_with_each_set() -> None:
    members = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]], bool)
    assert alike_counts(members, np.array([5, 2, 3, 7])).tolist() == [7, 10, 5, 7]


def table_of(column: Column, split: list[int]) -> Table:
    paths = tuple(f"{i}.jpg" for i in range(len(split)))
    return Table("made", Path("made"), paths, {"tags": column}, np.array(split), "by hand")


def test_a_rare_value_leaves_its_sets_and_what_had_nothing_else_is_unlabelled() -> None:
    column = labels_of(["a;b", "a", "a", "b;z", "b", "z;y"], "set")
    kept = table_of(column, [0] * 6).without_rare(3).columns["tags"]
    assert sets(kept) == [{"a", "b"}, {"a"}, {"a"}, {"b"}, {"b"}, set()]
    assert kept.codes.tolist()[5] == -1


def test_a_task_of_sets_needs_images_that_are_alike_and_one_that_is_not_in_each_split() -> None:
    able = ["a;b", "b;c", "d"]
    assert table_of(labels_of(able * 3, "set"), [0] * 3 + [1] * 3 + [2] * 3).trainable("tags") is None
    unable = ["a;b", "b;c", "b"]  # all share b
    why = table_of(labels_of(able * 2 + unable, "set"), [0] * 3 + [1] * 3 + [2] * 3).trainable("tags")
    assert why == "has no test image that shares a value with another and none with a third"


def test_a_data_set_carries_its_sets_and_another_rule_is_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    root = ten(
        tmp_path / "mine",
        tags=["a|b", "b", "c", "a", "a|b", "c", "b|a", "c", "a", "a"][:10],
        split=["train"] * 4 + ["val"] * 3 + ["test"] * 3,
    )
    for i, name in enumerate(TEN):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(root / name)
    found = {}
    for rule in ("set", "value"):
        data = Data(reader="csv", folder=str(root), image_size=8, multi_valued=rule, separator="|")  # type: ignore[arg-type]
        table = read_csv(root, data)
        assert bool(table.remarks) == any("|" in v for v in table.columns["tags"].values)
        if rule == "set":
            assert table.remarks == ("3 cells of tags hold several values: images that share one are alike.",)
            assert table.trainable("tags") is None
            dataset, _ = prepare(Benchmark(name="mine", data=data), root, None, torch.device("cpu"))
            found[rule] = dataset
    (members,) = found["set"].sets
    assert members is not None
    assert members.shape == (4, 3)
    data = Data(reader="csv", folder=str(root), image_size=8, multi_valued="set", separator="|")
    positive = Benchmark.model_validate({"name": "mine", "data": data.model_dump(), "train": {"anchors": "positive"}})
    with pytest.raises(UserError, match="The labels of 'tags' are sets, which have no label 1"):
        prepare(positive, root, None, torch.device("cpu"))


def test_sets_are_searched_without_the_querys_own_group_by_its_own_camera(tmp_path: Path) -> None:
    cameras, both = list("1122112212"), ["1|2"] + ["1"] * 9
    root = ten(tmp_path, tags=CELLS, who=[*"ppppqqqq", "", "q"], cam=cameras, both=both, split=SIDES)
    data = options(multi_valued="set", separator="|", folder=str(root), csv={"group": "who"}, camera="cam")
    table = read_table(data, None)
    assert sets(table.columns["tags"])[5] == {"b", "c"}
    assert table.apart is not None
    assert table.apart.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, -1, 4]  # of nobody: -1
    with pytest.raises(UserError, match=r"data\.camera = 'both': its cells hold several values"):
        read_table(data.model_copy(update={"camera": "both"}), None)


def test_sets_of_a_csv_are_those_of_its_cells(tmp_path: Path) -> None:
    column = read_csv(ten(tmp_path, tags=CELLS), options(multi_valued="set", separator="|")).columns["tags"]
    assert sets(column)[5] == {"b", "c"}


def test_a_reader_whose_sets_do_not_fit_its_values_is_refused() -> None:
    class Odd(Reader):
        def read(self, folder: Path, data: Data) -> Table:
            column = Column(np.array([0, 1]), ("a", "b"), members=self.members, parts=("a", "b"))
            return table_of(column, [0, 2])

        members = np.ones((2, 3), bool)

    with pytest.raises(UserError, match=r"truth values \(2, 2\) as members"):
        read_with(Odd(), Path(), options())
    Odd.members = np.array([[True, False], [False, False]])
    with pytest.raises(UserError, match="sets of at least one value"):
        read_with(Odd(), Path(), options())
