"""Labels that stand in the paths of a user's own images: what they become, and what is refused with which remedy."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from support_own_images import names, options

from mtlbench.benchmark import Data
from mtlbench.data.check import suggested_benchmark
from mtlbench.data.table import Table
from mtlbench.datasets.contract import build_reader, read_with
from mtlbench.datasets.names import Names
from mtlbench.errors import UserError

PERSON = r"(?P<identity>-?\d+)_c(?P<camera>\d+)"


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def read(root: Path, *, missing: tuple[str, ...] = (), **section: str) -> Table:
    return Names(**section).read(root, options("names", options=section, missing=list(missing)))


def suggested(root: Path) -> Table:
    """Read a folder by the benchmark that is suggested for it."""
    data = Data.model_validate(tomllib.loads(suggested_benchmark(root)[2])["data"])
    return read_with(build_reader(data), root, data)


def persons(root: Path) -> Path:
    """Write images in Market-1501's layout: persons 1 to 8 in train, 9 and 10 in test, junk and distractors."""
    train = [f"bounding_box_train/{p:04}_c{c}s1_{p:06}_0{c}.jpg" for p in range(1, 9) for c in (1, 2)]
    query = [f"query/{p:04}_c1s1_000451_00.jpg" for p in (9, 10)]
    test = [f"bounding_box_test/{p:04}_c{c}s1_000451_03.jpg" for p in (9, 10) for c in (2, 3)]
    junk = ["bounding_box_test/-1_c1s1_000401_03.jpg", "bounding_box_test/0000_c1s1_000151_01.jpg"]
    boxes = ["gt_bbox/0001_c1s1_000001_00.jpg", "gt_bbox/0009_c1s1_000451_00.jpg"]
    return touch(root, *train, *query, *test, *junk, *boxes, "gt_query/0009_c1s1_000451_00_good.mat", "readme.txt")


def test_a_folder_as_market_1501_is_suggested_by_identity_with_a_split_of_persons(tmp_path: Path) -> None:
    table = suggested(persons(tmp_path))
    identity = names(table.columns["identity"])
    by_split = [{i for i, side in zip(identity, table.split, strict=True) if side == n} for n in range(3)]
    assert by_split[2] == {"0009", "0010", "0000", None}
    assert by_split[0] | by_split[1] == {f"{p:04}" for p in range(1, 9)}
    assert not by_split[0] & by_split[1], "no person is on both sides"
    assert len(by_split[1]) == 1
    assert {path.split("/")[0] for path in table.paths} == {"bounding_box_train", "bounding_box_test", "query"}
    assert table.split_rule == "as in folders, validation an eighth of train at random, seed 0"
    unlabelled = {path for path, name in zip(table.paths, identity, strict=True) if name is None}
    assert unlabelled == {"bounding_box_test/-1_c1s1_000401_03.jpg"}
    assert table.remarks == (
        "2 images whose path doesn't fit were left out, such as gt_bbox/0001_c1s1_000001_00.jpg.",
        "query/ is searched for in bounding_box_test/. A query's own person by its own camera is left out, and 0000"
        " counts as wrong, as published.",
    )
    assert set(names(table.columns["camera"])) == {"1", "2", "3"}


def test_images_that_are_named_in_one_folder_are_split_by_their_group(tmp_path: Path) -> None:
    paths = [f"{p:04}_c{c}.jpg" for p in range(10) for c in (1, 2, 3)]
    table = read(touch(tmp_path, *paths), pattern=PERSON, group="identity")
    assert table.paths == tuple(sorted(paths))
    sides = dict(zip(names(table.columns["identity"]), table.split.tolist(), strict=True))
    assert [sides[path[:4]] for path in table.paths] == table.split.tolist()
    assert sorted(sides.values()) == [0] * 7 + [1] + [2] * 2
    assert table.split_in_words == (
        "by identity at random, 70/10/20, seed 0; no test image has another image of the same identity in train"
    )


def test_a_group_in_several_splits_is_remarked(tmp_path: Path) -> None:
    paths = [f"{side}/{p:04}_c1_{i}.jpg" for side in ("train", "val", "test") for p in (1, 2) for i in (1, 2)]
    table = read(touch(tmp_path, *paths), pattern=PERSON, group="identity")
    assert table.remarks == ("2 values of identity are in several splits, such as 0001.",)


def test_groups_are_what_their_names_say_whatever_labels_are_made_of_them(tmp_path: Path) -> None:
    touch(tmp_path, *(f"shop;{p}_{i}.jpg" for p in range(10) for i in range(3)))
    section = {"pattern": r"^(?P<product>.+)_(?P<view>\d)", "group": "product"}
    table = Names(**section).read(tmp_path, options("names", options=section, multi_valued="unlabelled"))
    assert all(len(set(table.split[i : i + 3])) == 1 for i in range(0, 30, 3))
    assert table.kin is not None
    assert len(set(table.kin.codes.tolist())) == 10


def test_images_beside_the_folders_of_splits_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{side}/{kind}/{i}.jpg" for side in ("train", "test", "more") for kind in "ab" for i in "123"))
    with pytest.raises(UserError, match=r"images of test, train are in splits, and those of more in none: move the la"):
        read(tmp_path, pattern="/(?P<kind>[ab])/")
    assert set(read(tmp_path, pattern="^t.*/(?P<kind>[ab])/").split.tolist()) == {0, 1, 2}


def test_a_named_group_of_splits_is_no_silent_task(tmp_path: Path) -> None:
    sides = ["train"] * 7 + ["val", "test", "test"]
    touch(tmp_path, *(f"{side}_{'ab'[i % 2]}_{i}.jpg" for i, side in enumerate(sides * 2)))
    pattern = r"(?P<side>[a-z]+)_(?P<kind>[ab])_"
    with pytest.raises(UserError, match=r"'side' of data\.options\.pattern looks like the split, which is"):
        read(tmp_path, pattern=pattern)
    asked = options("names", options={"pattern": pattern}, tasks=["side", "kind"])
    assert list(Names(pattern=pattern).read(tmp_path, asked).columns) == ["side", "kind"]


def test_words_for_no_label_are_no_group(tmp_path: Path) -> None:
    paths = [f"-1_c1_{i:02}.jpg" for i in range(20)]
    table = read(touch(tmp_path, *paths), missing=("-1",), pattern=PERSON, group="identity")
    assert names(table.columns["identity"]) == [None] * 20
    assert sorted(table.split.tolist()) == [0] * 14 + [1] * 2 + [2] * 4


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"pattern": r"(\d+)_c(\d+)"}, "names no task: give each a named group"),
        ({"pattern": "(?P<a>["}, "pattern is not a regular expression: unterminated character set"),
        ({"pattern": PERSON, "group": "identiy"}, r"no task 'identiy'\. Did you mean: identity\?"),
        ({"pattern": r"^(?P<kind>[a-z]+)_"}, r"fits none of 1 image, such as 0001_c1\.jpg\."),
        ({"pattern": "(?P<a_b>1)(?P<ab>_)"}, "'a_b' and 'ab' have the same name"),
    ],
)
def test_a_pattern_that_can_not_be_meant_is_refused(tmp_path: Path, section: dict[str, str], words: str) -> None:
    touch(tmp_path, "0001_c1.jpg")
    with pytest.raises(UserError, match=words):
        read(tmp_path, **section)


# --- pairs of attribute and object ------------------------------------------------------------------------------------

SPLITS = {
    "train": [("Suede", "Boots.Ankle"), ("Canvas", "Sandals"), ("Suede", "Sandals")],
    "val": [("Nubuck", "Boots.Ankle"), ("Nubuck", "Sandals")],
    "test": [("Canvas", "Boots.Ankle"), ("Satin", "Sandals")],
}


def pairs(root: Path, splits: dict[str, list[tuple[str, str]]], folder: str = "compositional-split") -> Path:
    """Write images in folders of attribute and object with lists of which pairs are in which split."""
    (root / folder).mkdir(parents=True)
    for split, listed in splits.items():
        (root / folder / f"{split}_pairs.txt").write_text("".join(f"{a} {o}\n" for a, o in listed))
        touch(root, *(f"images/{a}_{o}/{i}.{i}.jpg" for a, o in listed for i in range(3)))
    return touch(root, "_images/Boots/Ankle/Keen/1.1.jpg", "metadata.t7")


def test_pairs_of_attribute_and_object_are_two_tasks_split_as_their_lists_say(tmp_path: Path) -> None:
    table = suggested(pairs(tmp_path, SPLITS))
    assert list(table.columns) == ["attribute", "object"]
    where = {pair: n for n, listed in enumerate(SPLITS.values()) for pair in listed}
    found = zip(names(table.columns["attribute"]), names(table.columns["object"]), table.split, strict=True)
    assert [(a, o, n) for a, o, n in found] == [
        (*pair, where[pair]) for path in table.paths for pair in [tuple(path.split("/")[1].split("_"))]
    ]
    assert len(table) == 21
    assert table.split_rule == "by attribute and object, as in compositional-split"
    assert table.remarks == ("1 image whose path doesn't fit was left out, such as _images/Boots/Ankle/Keen/1.1.jpg.",)


def test_without_a_list_for_validation_it_is_drawn_from_train(tmp_path: Path) -> None:
    table = suggested(pairs(tmp_path, {"train": SPLITS["train"] + SPLITS["val"], "test": SPLITS["test"]}))
    assert table.split_rule.endswith("as in compositional-split, validation an eighth of train at random, seed 0")
    assert (table.split == 2).sum() == 6


def test_lists_that_share_pairs_are_refused_for_what_they_lack_and_not_suggested(tmp_path: Path) -> None:
    both = {**SPLITS, "test": [*SPLITS["test"], SPLITS["train"][0]]}
    pairs(tmp_path, both, "compositional-split-natural")
    with pytest.raises(UserError, match=r"test_pairs\.txt: line 3, Suede Boots\.Ankle, is in train_pairs\.txt too"):
        read(tmp_path, pattern=r"images/(?P<attribute>\w+?)_(?P<object>[^/]+)/", lists="compositional-split-natural")
    assert suggested(tmp_path).split_rule == "by image at random, 70/10/20, seed 0"
    (tmp_path / "compositional-split").mkdir()
    for split, listed in SPLITS.items():
        (tmp_path / "compositional-split" / f"{split}_pairs.txt").write_text("".join(f"{a} {o}\n" for a, o in listed))
    assert suggested(tmp_path).split_rule == "by attribute and object, as in compositional-split"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.write_text("Suede\n"), r"line 1 has 1 word where 2 belong, attribute object"),
        (lambda file: file.unlink(), r"train_pairs\.txt can't be read: No such file"),
        (lambda file: file.write_bytes(b"\xff\xfe"), r"train_pairs\.txt is not UTF-8 text"),
    ],
    ids=["one word", "missing", "another encoding"],
)
def test_a_list_that_can_not_be_used_is_named(tmp_path: Path, change: object, words: str) -> None:
    pairs(tmp_path, SPLITS)
    assert callable(change)
    change(tmp_path / "compositional-split/train_pairs.txt")
    with pytest.raises(UserError, match=words):
        read(tmp_path, pattern=r"images/(?P<attribute>\w+?)_(?P<object>[^/]+)/", lists="compositional-split")
