"""The table: which tasks can be trained, which are chosen, and what a limit leaves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtlbench.data.table import Column, Kin, Table, column_of, split_at_random
from mtlbench.datasets.celeba import read_celeba
from mtlbench.datasets.zappos import read_zappos
from mtlbench.errors import UserError

SPLIT = np.repeat([0, 1, 2], [6, 3, 3])
GOOD = [0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1]
NONE = [-1] * 12


def table(**columns: list[int]) -> Table:
    """Twelve images, six to train, three to validate, three to test."""
    return Table(
        name="Set",
        root=Path("/data/set"),
        paths=tuple(f"{i}.jpg" for i in range(12)),
        columns={t: Column(np.array(c), ("a", "b", "c")) for t, c in columns.items()},
        split=SPLIT,
        split_rule="by hand",
    )


def test_a_task_with_two_images_of_one_of_two_values_in_each_split_can_be_trained() -> None:
    assert table(t=GOOD).trainable("t") is None


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        (NONE, "has no labels"),
        ([0, 0, 0, 0, 0, 0, *GOOD[6:]], "has only one value in the train split"),
        ([*GOOD[:6], 1, 1, -1, *GOOD[9:]], "has only one value in the val split"),
        ([*GOOD[:9], 2, 2, 2], "has only one value in the test split"),
        ([*GOOD[:6], 0, 1, 2, *GOOD[9:]], "has no two val images of one value"),
        ([*GOOD[:9], 0, 1, -1], "has no two test images of one value"),
        ([*GOOD[:6], -1, -1, -1, *GOOD[9:]], "has no labelled image in the val split"),
    ],
)
def test_a_task_that_lacks_a_triplet_in_some_split_says_why(codes: list[int], reason: str) -> None:
    assert table(t=codes).trainable("t") == reason


@pytest.mark.parametrize(("name", "stands_for"), [("mean", "the mean over tasks"), ("worst", "the worst task")])
def test_a_task_is_not_called_as_a_column_of_every_table(name: str, stands_for: str) -> None:
    """`triplet/mean` of a CSV would hold that task's accuracy."""
    named = table(**{name: GOOD, "t": GOOD})
    with pytest.raises(UserError, match=f"the task '{name}' has a name that stands for {stands_for} in every table"):
        named.choose([name])
    chosen, note = named.choose_default([], [])
    assert chosen == ["t"]
    assert f"{name} has a name that stands for" in note


def test_a_split_without_any_image_is_named() -> None:
    whole = table(t=GOOD)
    empty = Table(**{**vars(whole), "split": np.where(SPLIT == 1, 0, SPLIT)})
    assert empty.trainable("t") == "has no labelled image in the val split"


def test_only_trainable_tasks_are_listed_and_in_the_data_sets_order() -> None:
    assert table(z=GOOD, none=NONE, a=GOOD).tasks_with_labels() == ["z", "a"]


@pytest.mark.parametrize("name", ["Big_Nose", "big_nose", "big-nose", "BigNose"])
def test_a_task_is_found_however_it_is_spelt(name: str) -> None:
    assert table(Big_Nose=GOOD).find_task(name) == "Big_Nose"


def test_an_unknown_task_is_refused_with_the_nearest_and_all_names() -> None:
    with pytest.raises(UserError, match=r"no task 'closur'\. Did you mean: closure\? Tasks: closure, gender\."):
        table(closure=GOOD, gender=GOOD).find_task("closur")


def test_chosen_tasks_keep_the_users_order() -> None:
    assert table(a=GOOD, b=GOOD, c=GOOD).choose(["C", "a"]) == ["c", "a"]


def test_a_chosen_task_without_labels_is_refused_and_those_with_labels_are_named() -> None:
    with pytest.raises(UserError, match=r"/data/set the task 'gender' has no labels\. Tasks with labels there: a, b\."):
        table(a=GOOD, gender=NONE, b=GOOD).choose(["a", "gender"])


def test_a_task_named_twice_is_refused_however_it_is_spelt() -> None:
    with pytest.raises(UserError, match="'a_b' is named twice"):
        table(a_b=GOOD).choose(["a_b", "A-B"])


def test_a_choice_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="No task is named"):
        table(a=GOOD).choose([])


def test_the_benchmarks_tasks_are_taken_as_they_are_when_all_have_labels() -> None:
    assert table(a=GOOD, b=GOOD, c=GOOD).choose_default(["b", "a"], ["c"]) == (["b", "a"], "")


def test_spare_tasks_stay_out_while_two_of_the_benchmarks_have_labels() -> None:
    tasks, note = table(a=GOOD, b=GOOD, c=NONE, spare=GOOD).choose_default(["a", "b", "c"], ["spare"])
    assert tasks == ["a", "b"]
    assert note.startswith("c has no labels in /data/set: using a, b instead")


def test_spare_tasks_with_labels_join_a_lone_task() -> None:
    tasks, note = table(a=GOOD, b=NONE, spare=GOOD, other=NONE).choose_default(["a", "b"], ["other", "spare"])
    assert tasks == ["a", "spare"]
    assert "b has no labels" in note
    assert "--tasks" in note


def test_a_benchmark_without_tasks_of_its_own_takes_all_that_have_labels() -> None:
    assert replace(table(a=GOOD, b=NONE, c=GOOD, d=GOOD), group="d").choose_default([], []) == (
        ["a", "c"],
        "Left out of the tasks: b has no labels.",
    )
    assert table(a=GOOD, c=GOOD).choose_default([], []) == (["a", "c"], "")


def test_no_task_with_labels_at_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"no task can be trained: a has no labels; b has no labels\. Each split needs"):
        table(a=NONE, b=NONE).choose_default(["a", "b"], ["b"])
    with pytest.raises(UserError, match=r"the task 'a' has no labels\. Each split needs .* \(train \d+, val \d+, test"):
        table(a=NONE, b=NONE).choose(["a"])
    many = table(**dict.fromkeys("abcde", NONE))
    with pytest.raises(UserError, match=r"c has no labels; and 2 more\. Each"):
        many.choose_default([], [])


def numbered(images: int = 100) -> Table:
    """A table whose label is the image's number, 70 % to train, 10 % to validate, 20 % to test, shuffled."""
    split = np.random.default_rng(5).permutation(np.repeat([0, 1, 2], [images * 7 // 10, images // 10, images // 5]))
    column = Column(np.arange(images), tuple(str(i) for i in range(images)))
    return Table("Set", Path("/d"), tuple(f"{i}.jpg" for i in range(images)), {"t": column}, split, "by hand")


@pytest.mark.parametrize("seed", range(5))
def test_a_limit_keeps_that_many_images_and_each_splits_share(seed: int) -> None:
    limited = numbered().limited(20, seed)
    assert np.bincount(limited.split).tolist() == [14, 2, 4]


@pytest.mark.parametrize("limit", [1, 7, 33, 99])
def test_a_limit_is_exact_and_no_split_is_more_than_one_image_from_its_share(limit: int) -> None:
    counts = np.bincount(numbered().limited(limit).split, minlength=3)
    assert counts.sum() == limit
    assert np.abs(counts - limit * np.array([0.7, 0.1, 0.2])).max() <= 1


def test_a_limit_keeps_paths_labels_and_splits_together() -> None:
    whole = numbered()
    limited = whole.limited(30)
    kept = limited.columns["t"].codes
    assert limited.paths == tuple(f"{i}.jpg" for i in kept)
    assert np.array_equal(limited.split, whole.split[kept])
    assert len(set(limited.paths)) == 30
    assert "30 images drawn at random" in limited.split_rule


def test_a_limit_draws_by_its_seed() -> None:
    assert numbered().limited(30, 1).paths == numbered().limited(30, 1).paths
    assert numbered().limited(30, 1).paths != numbered().limited(30, 2).paths


def test_every_image_can_be_drawn_by_a_limit() -> None:
    drawn = {path for seed in range(60) for path in numbered().limited(20, seed).paths}
    assert len(drawn) == 100


@pytest.mark.parametrize("limit", [0, 100, 1000])
def test_no_limit_or_a_wide_one_leaves_the_table_as_it_is(limit: int) -> None:
    whole = numbered()
    assert whole.limited(limit) is whole


def test_a_column_codes_its_values_alphabetically_and_empty_cells_as_unlabelled() -> None:
    column = column_of(["b", "", "a", "b"])
    assert column.values == ("a", "b")
    assert column.codes.tolist() == [1, -1, 0, 1]
    assert not column.ordered


def test_a_column_with_a_given_order_codes_by_it() -> None:
    column = column_of(["high", "", "low", "high"], ["low", "middle", "high"])
    assert column.codes.tolist() == [2, -1, 0, 2]
    assert column.values == ("low", "middle", "high")
    assert column.ordered


def test_a_column_of_empty_cells_has_no_values() -> None:
    assert column_of(["", ""]).values == ()
    assert column_of(["", ""]).codes.tolist() == [-1, -1]


def test_the_real_zappos_sample_falls_back_to_the_two_tasks_with_labels(real_data: Path) -> None:
    sample = read_zappos(real_data / "zappos-8k")
    tasks, note = sample.choose_default(["category", "closure", "gender", "heel"], ["subcategory"])
    assert tasks == ["category", "subcategory"]
    for task in ("closure", "gender", "heel"):
        assert f"{task} has no labels" in note
    with pytest.raises(UserError, match=r"'closure' has no labels.*category, subcategory"):
        sample.choose(["category", "closure"])


def test_the_real_celeba_sample_trains_all_attributes_and_identity(real_data: Path) -> None:
    assert len(read_celeba(real_data / "celeba-10k").tasks_with_labels()) == 41


def test_a_subset_keeps_each_images_labels_and_the_triplets_that_lost_none() -> None:
    whole = replace(
        table(t=GOOD), triplets={"t": {"train": np.array([[0, 1, 3], [5, 4, 2]]), "val": np.array([[6, 7, 8]])}}
    )
    part = whole.subset(np.array([0, 1, 3, 6, 7, 8]))
    assert part.paths == ("0.jpg", "1.jpg", "3.jpg", "6.jpg", "7.jpg", "8.jpg")
    assert part.columns["t"].codes.tolist() == [GOOD[i] for i in (0, 1, 3, 6, 7, 8)]
    assert part.split.tolist() == [0, 0, 0, 1, 1, 1]
    assert part.triplets["t"]["train"].tolist() == [[0, 1, 2]]
    assert part.triplets["t"]["val"].tolist() == [[3, 4, 5]]


def test_a_task_with_triplets_in_no_list_cannot_be_trained() -> None:
    rows = {"train": np.array([[0, 1, 3]]), "val": np.array([[6, 7, 8]]), "test": np.empty((0, 3), dtype=np.int64)}
    assert replace(table(t=GOOD), triplets={"t": rows}).trainable("t") == "has no test triplets"


def test_rare_values_become_unlabelled_and_the_others_keep_their_names_and_order() -> None:
    column = Column(np.array([0, 2, 2, 1, 1, 1, -1, 2, 1, 0, 1, 2]), ("low", "mid", "high"), ordered=True)
    assert replace(table(), columns={"t": column}).without_rare(2).columns["t"].values == ("low", "mid", "high")
    kept = replace(table(), columns={"t": column}).without_rare(3).columns["t"]
    assert kept.values == ("mid", "high")
    assert kept.ordered
    assert kept.codes.tolist() == [-1, 1, 1, 0, 0, 0, -1, 1, 0, -1, 0, 1]


def test_a_random_split_keeps_groups_together_and_ignores_the_order_of_images() -> None:
    groups = [f"person {i % 50}" for i in range(400)]
    split = split_at_random(groups, 3)
    side = dict(zip(groups, split.tolist(), strict=True))
    assert [side[g] for g in groups] == split.tolist()
    assert Counter(side.values()) == {0: 35, 1: 5, 2: 10}
    shuffled = list(np.random.default_rng(0).permutation(groups))
    assert [side[g] for g in shuffled] == split_at_random(shuffled, 3).tolist()
    assert split_at_random(groups, 4).tolist() != split.tolist()


def test_the_share_of_test_images_with_kin_in_train_is_that_of_the_images_that_are_left():
    """A share of the whole set would be wrong of a part of it: fewer of a product's pictures are left in train."""
    table = Table(
        "Set", Path("/d"), tuple("abcdefgh"), {"t": column_of(list("xyxyxyxy"))},
        np.array([0, 0, 0, 1, 2, 2, 2, 2]), "by hand", kin=Kin.of(["p", "q", "", "p", "p", "q", "", "r"], "a sister"),
    )  # fmt: skip
    assert table.split_in_words == "by hand; 50.0 % of the test images have a sister in train"
    part = table.subset(np.array([0, 2, 3, 4, 5, 6]))
    assert part.split_in_words == "by hand; 33.3 % of the test images have a sister in train"
    alone = table.subset(np.array([2, 3, 4, 5, 6]))
    assert alone.split_in_words == "by hand; no test image has a sister in train"
    assert replace(table, kin=None).split_in_words == "by hand"
