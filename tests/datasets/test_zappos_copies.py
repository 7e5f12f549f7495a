"""Copies of UT-Zappos50K that others made: tables of 0 and 1, folders elsewhere, brands with HTML entities."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from support_zappos import OXFORD, TABLE, labels, words, write

from mtlbench.datasets.zappos import Zappos, read_zappos
from mtlbench.errors import UserError

_BINARY = [
    "CID", "Category.Boots", "Category.Shoes", "SubCategory.Knee.High", "SubCategory.Mid.Calf", "SubCategory.Oxfords",
    "HeelHeight.1in...1.3.4in", "HeelHeight.5in...over", "HeelHeight.Flat", "HeelHeight.Under.1in", "Insole.Padded",
    "Closure.Lace.up", "Closure.Zipper", "Gender.Men", "Material.Leather", "Material.Suede", "ToeStyle.Round.Toe",
]  # fmt: skip


def binary(root: Path, *rows: tuple[str, ...], header: list[str] = _BINARY, one: str = "1") -> Path:
    """Write the table of 0 and 1 in place of that of words; each row gives its CID and the columns that are 1."""
    write(root, *((cid, "Keen", OXFORD) for cid, *_ in rows))
    (root / TABLE).unlink()
    with (root / TABLE).with_name("meta-data-bin.csv").open("w", newline="") as file:
        cells = [[cid, *(one if name in true else "0" for name in header[1:])] for cid, *true in rows]
        csv.writer(file).writerows([header, *cells])
    return root


def test_a_table_of_zeros_and_ones_gives_the_same_words(tmp_path: Path) -> None:
    root = binary(
        tmp_path,
        ("1-1", "Category.Boots", "SubCategory.Mid.Calf", "HeelHeight.1in...1.3.4in", "Closure.Zipper"),
        (
            "2-1",
            "Category.Boots",
            "SubCategory.Knee.High",
            "HeelHeight.5in...over",
            "Closure.Zipper",
            "Closure.Lace.up",
        ),
        ("3-1", "Category.Shoes", "HeelHeight.Under.1in", "Material.Suede", "ToeStyle.Round.Toe"),
        ("4-1", "Category.Shoes", "HeelHeight.Flat"),
    )
    assert labels(root, "category") == ["Boots", "Boots", "Shoes", "Shoes"]
    assert labels(root, "subcategory") == ["Mid Calf", "Knee High", None, None]
    assert labels(root, "closure") == ["Zipper", "Lace up;Zipper", None, None]
    assert labels(root, "closure", "unlabelled") == ["Zipper", None, None, None]
    assert labels(root, "material") == [None, None, "Suede", None]
    table = read_zappos(root)
    assert table.columns["heel"].values == ("Flat", "Under 1in", "1in - 1 3/4in", "5in & over")
    assert words(table, "heel") == ["1in - 1 3/4in", "5in & over", "Under 1in", "Flat"]
    assert table.remarks[0].startswith("The labels are those of meta-data-bin.csv")


def test_the_table_of_words_goes_before_that_of_zeros_and_ones(tmp_path: Path) -> None:
    root = binary(tmp_path, ("1-1", "SubCategory.Mid.Calf"))
    write(root, ("1-1", "Keen", OXFORD))
    assert labels(root, "subcategory") == ["Oxfords"]


def test_a_table_of_zeros_and_ones_that_is_cut_or_holds_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"meta-data-bin\.csv, line 2: it has a label that is not 0 or 1"):
        read_zappos(binary(tmp_path / "a", ("1-1", "SubCategory.Mid.Calf"), one="2"))
    with pytest.raises(UserError, match=r"meta-data-bin\.csv has no column Category"):
        read_zappos(binary(tmp_path / "b", ("1-1",), header=["CID", "SubCategory.Mid.Calf"]))


def test_the_tables_folder_may_lie_among_the_images(tmp_path: Path) -> None:
    root = write(tmp_path, ("1-1", "Keen", OXFORD))
    (root / "ut-zap50k-data").rename(root / "ut-zap50k-images/ut-zap50k-data")
    assert Zappos.found(root)
    assert labels(root, "category") == ["Shoes"]
    assert labels(root, "brand") == ["Keen"]


def test_brands_are_shown_as_their_shops_write_them(tmp_path: Path) -> None:
    root = write(tmp_path, ("1-1", "Levi's&#174; Kids", OXFORD), ("2-1", "Dr. Martens &amp; Co", OXFORD))
    assert labels(root, "brand") == ["Levi's® Kids", "Dr. Martens & Co"]
    table = read_zappos(root)
    assert all((root / path).is_file() for path in table.paths)
