"""CSN's lists of triplets of UT-Zappos50K: who is mentioned where, in whatever spelling, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support_zappos import COLUMNS, OXFORD, change_rows, words, write

from mtlbench.data.table import Table
from mtlbench.datasets.zappos import read_zappos
from mtlbench.errors import UserError

SPLITS = ("train", "val", "test")


CSN = {"category": "class", "closure": "closure", "gender": "gender", "heel": "heel"}


def write_csn(folder: Path, filenames: list[str], **triplets: str) -> None:
    """Write CSN's lists; lines are given by list (`heel_val`), by split or, for all others, as `rest`."""
    (folder / "tripletlists").mkdir(parents=True)
    (folder / "filenames.json").write_text("\n".join(filenames) + "\n", encoding="utf-8")
    for name in CSN.values():
        for split in SPLITS:
            lines = triplets.get(f"{name}_{split}") or triplets.get(split) or triplets["rest"]
            (folder / "tripletlists" / f"{name}_tripletlist_{split}.txt").write_text(lines)


@pytest.fixture
def csn_folder(tmp_path: Path) -> Path:
    """Ten shoes; images 0 to 2 are mentioned by training triplets, 4 to 6 by validation's, 7 to 9 by test's."""
    boot = {**OXFORD, "Category": "Boots", "SubCategory": "Ankle", "Closure": "Zipper", "Gender": "Women"}
    boot["HeelHeight"] = "3in - 3 3/4in"
    kinds = [OXFORD, boot, OXFORD, boot, OXFORD, boot, OXFORD, OXFORD, boot, OXFORD]
    root = write(tmp_path / "csn-zappos", *((f"{i}1-7", "Levi's® Kids", kind) for i, kind in enumerate(kinds)))
    names = [f"{k['Category']}/{k['SubCategory']}/Levi's Kids/{i}1.7.jpg" for i, k in enumerate(kinds)]
    write_csn(root, names, train="0 1 2\n2 1 0\n", val="4 5 6\n", test="7 8 9\n9 8 7\n")
    return root


def listed(table: Table) -> dict[tuple[str, str], list[list[str]]]:
    """Return the triplets as CIDs' first digits: the images' places in the fixture."""
    number = [Path(path).name[0] for path in table.paths]
    return {
        (task, split): [[number[i] for i in row] for row in rows]
        for task, splits in table.triplets.items()
        for split, rows in splits.items()
    }


def test_csns_triplets_are_anchor_close_far_of_the_images_that_their_lists_name(csn_folder: Path) -> None:
    table = read_zappos(csn_folder, split="csn")
    train, val, test = [["0", "2", "1"], ["2", "0", "1"]], [["4", "6", "5"]], [["7", "9", "8"], ["9", "7", "8"]]
    assert listed(table) == {
        (task, split): rows for task in CSN for split, rows in zip(SPLITS, (train, val, test), strict=True)
    }
    assert all(rows.dtype == np.int64 for splits in table.triplets.values() for rows in splits.values())


def test_csns_images_are_the_mentioned_ones_on_the_side_of_their_lists(csn_folder: Path) -> None:
    table = read_zappos(csn_folder, split="csn")
    assert [Path(path).name[0] for path in table.paths] == list("012456789")
    assert all((csn_folder / path).is_file() for path in table.paths)
    assert table.split.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert table.split_rule == "CSN's own lists"
    assert table.remarks == ("1 row of meta-data.csv in no triplet of CSN's lists: left out.",)


def test_csns_tasks_have_the_labels_of_the_table_by_cid(csn_folder: Path) -> None:
    change_rows(csn_folder, lambda rows: rows[::-1])
    table = read_zappos(csn_folder, split="csn")
    assert list(table.columns) == list(CSN)
    assert words(table, "category") == ["Shoes", "Boots", "Shoes"] * 3
    assert words(table, "heel") == ["Flat", "3in - 3 3/4in", "Flat"] * 3
    assert table.columns["heel"].ordered


@pytest.mark.parametrize("folder", ["csn", "csn_zappos_triplets", "csn/tripletlists"])
def test_csns_lists_may_lie_in_a_folder_of_their_own(csn_folder: Path, folder: str) -> None:
    before = listed(read_zappos(csn_folder, split="csn"))
    names = [csn_folder / "filenames.json", *(csn_folder / "tripletlists").iterdir()]
    (csn_folder / folder).mkdir(parents=True)
    for name in names:
        name.rename(csn_folder / folder / name.name)
    assert listed(read_zappos(csn_folder, split="csn")) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda names: json.dumps(names),
        lambda names: "\r\n".join(["\ufeff" + names[0], *names[1:]]),
        lambda names: "\n".join(f"ut-zap50k-images/{name}" for name in names),
        lambda names: "\n".join(name.replace("/", "\\") for name in names),
        lambda names: "\n".join(name.split("/")[-1] for name in names),
    ],
    ids=["a JSON list", "Windows line ends", "the images folder first", "backslashes", "file names alone"],
)
def test_csns_file_names_are_read_in_every_spelling(csn_folder: Path, change: Callable[[list[str]], str]) -> None:
    before = read_zappos(csn_folder, split="csn")
    file = csn_folder / "filenames.json"
    file.write_bytes(change(file.read_text().splitlines()).encode())
    after = read_zappos(csn_folder, split="csn")
    assert after.paths == before.paths
    assert listed(after) == listed(before)


def test_an_image_that_csns_list_names_twice_is_one_image(csn_folder: Path) -> None:
    with (csn_folder / "filenames.json").open("a") as file:
        file.write("Shoes/Oxfords/Levis/01.7.jpg\n")
    (csn_folder / "tripletlists" / "heel_tripletlist_train.txt").write_text("10 1 2\n")
    table = read_zappos(csn_folder, split="csn")
    assert listed(table)["heel", "train"] == [["0", "2", "1"]]
    assert len(table) == 9


def test_an_image_that_csn_mentions_on_two_sides_is_named_with_its_lists(csn_folder: Path) -> None:
    (csn_folder / "tripletlists" / "heel_tripletlist_test.txt").write_text("7 8 9\n7 8 2\n")
    others = "class_tripletlist_train.txt, closure_tripletlist_train.txt, gender_tripletlist_train.txt"
    lists = rf"{others}, heel_tripletlist_train\.txt, heel_tripletlist_test\.txt"
    with pytest.raises(UserError, match=rf"21-7 into more than one split: {lists} all mention it \(1 such image\)"):
        read_zappos(csn_folder, split="csn")


def test_csns_missing_lists_are_listed_exactly(csn_folder: Path) -> None:
    (csn_folder / "tripletlists" / "heel_tripletlist_val.txt").unlink()
    with pytest.raises(UserError, match=r"lists: missing is tripletlists/heel_tripletlist_val\.txt\. Unpack"):
        read_zappos(csn_folder, split="csn")
    (csn_folder / "filenames.json").unlink()
    both = r"missing are filenames\.json, tripletlists/heel_tripletlist_val\.txt\. Unpack csn_zappos_triplets\.zip"
    with pytest.raises(UserError, match=both):
        read_zappos(csn_folder, split="csn")
    shutil.rmtree(csn_folder / "tripletlists")
    with pytest.raises(UserError) as caught:
        read_zappos(csn_folder, split="csn")
    assert str(caught.value).count("_tripletlist_") == 12


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0 1 2\n\n2 1 10\n", r", line 3: there is no image 10, as filenames\.json lists 10, counted from 0"),
        ("0 1 2\n-1 1 0\n", ", line 2: there is no image -1"),
        ("0 1 2\n2 1\n2 1 0\n", ", line 2: '2 1' is not three integers"),
        ("0 1 2\n2 1 0 4\n", ", line 2: '2 1 0 4' is not three integers"),
        ("0 1 2 3\n2 1 0\n", ", line 1: '0 1 2 3' is not three integers"),
        ("0 1 2 3\n2 1 0 3\n", ", line 1: '0 1 2 3' is not three integers"),
        ("0 1 2\n0 one 2\n", ", line 2: '0 one 2' is not three integers"),
        ("0 1 2\n0 1.5 2\n", ", line 2: '0 1.5 2' is not three integers"),
        ("<html>\n", ", line 1: '<html>' is not three integers"),
        ("\n", " holds no triplet"),
        ("", " holds no triplet"),
    ],
)
def test_a_malformed_triplet_list_is_refused_by_its_line(csn_folder: Path, text: str, fault: str) -> None:
    (csn_folder / "tripletlists" / "gender_tripletlist_train.txt").write_text(text)
    with pytest.raises(UserError, match=rf"gender_tripletlist_train\.txt{fault}"):
        read_zappos(csn_folder, split="csn")


def test_triplet_lists_may_have_windows_line_ends_tabs_and_no_last_line_end(csn_folder: Path) -> None:
    before = listed(read_zappos(csn_folder, split="csn"))
    for path in (csn_folder / "tripletlists").iterdir():
        text = path.read_text().strip().replace(" ", "\t").replace("\n", " \r\n")
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert listed(read_zappos(csn_folder, split="csn")) == before


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "line 1: ''"),
        ("Shoes/01.7.jpg\n\nShoes/11.7.jpg\n", "line 2: ''"),
        ('["Shoes/01.7.jpg", 7]', "entry 2: '7'"),
        ("<html>\n", "line 1: '<html>'"),
    ],
)
def test_a_malformed_list_of_file_names_is_refused_by_its_line(csn_folder: Path, text: str, where: str) -> None:
    (csn_folder / "filenames.json").write_text(text)
    with pytest.raises(UserError, match=rf"filenames\.json, {where} is not the path of an image"):
        read_zappos(csn_folder, split="csn")


def test_an_open_json_list_of_file_names_is_refused(csn_folder: Path) -> None:
    (csn_folder / "filenames.json").write_text('["Shoes/01.7.jpg",')
    with pytest.raises(UserError, match=r"filenames\.json can't be read"):
        read_zappos(csn_folder, split="csn")


def test_csns_images_without_a_row_are_unlabelled_and_counted(csn_folder: Path) -> None:
    change_rows(csn_folder, lambda rows: rows[1:3] + rows[4:])
    table = read_zappos(csn_folder, split="csn")
    assert words(table, "gender")[:3] == [None, "Women", "Men"]
    assert (csn_folder / table.paths[0]).is_file()
    assert table.remarks == (
        "1 image of CSN's lists without a row in meta-data.csv: unlabelled.",
        "1 image has no row in meta-data.csv and is not used.",
    )


def test_labels_that_contradict_csns_triplets_are_counted(csn_folder: Path) -> None:
    def change(rows: list[list[str]]) -> list[list[str]]:
        closure, gender, heel = (COLUMNS.index(name) for name in ("Closure", "Gender", "HeelHeight"))
        rows[2][closure] = "Velcro"  # close to 0, and 0 to it, in two triplets
        rows[5][gender] = "Men"  # far from 4, in one
        rows[9][heel] = "Under 1in"  # not as flat as 7, to which it is close, but not as high as 8, which is far: none
        rows[0][heel] = "4in - 4 3/4in"  # 1, which is far, is between it and 2, in two
        return rows

    change_rows(csn_folder, change)
    fault = "their close image has another label than the anchor, or their far one the same"
    assert read_zappos(csn_folder, split="csn").remarks[1:] == (
        f"2 of CSN's 5 triplets of closure disagree with the labels of meta-data.csv: {fault}.",
        f"1 of CSN's 5 triplets of gender disagree with the labels of meta-data.csv: {fault}.",
        "2 of CSN's 5 triplets of heel disagree with the labels of meta-data.csv: their far image is no further from"
        " the anchor in height than their close one.",
    )


def test_unlabelled_images_contradict_no_triplet(csn_folder: Path) -> None:
    change_rows(csn_folder, lambda rows: [[*row[:3], *([""] * 6)] for row in rows])
    table = read_zappos(csn_folder, split="csn")
    assert len(table.remarks) == 1
    assert (table.columns["closure"].codes == -1).all()
    assert len(table.triplets["closure"]["test"]) == 2
