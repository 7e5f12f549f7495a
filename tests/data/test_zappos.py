"""The UT-Zappos50K reader: labels from the table, brands from the paths, a seeded split by image."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mtlbench.data.rendered.shoes import render_shoes
from mtlbench.data.zappos import read_zappos
from mtlbench.errors import UserError

TABLE = "ut-zap50k-data/meta-data.csv"
COLUMNS = ["CID", "Category", "SubCategory", "HeelHeight", "Insole", "Closure", "Gender", "Material", "ToeStyle"]
OXFORD = {"Category": "Shoes", "SubCategory": "Oxfords", "Closure": "Lace up", "Gender": "Men", "HeelHeight": "Flat"}


def write(root: Path, *shoes: tuple[str, str, dict[str, str]]) -> Path:
    """Write shoes given as (CID, brand's folder, cells) in the official layout."""
    for cid, brand, cells in shoes:
        folder = root / "ut-zap50k-images" / cells["Category"] / cells["SubCategory"] / brand
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(folder / f"{cid.replace('-', '.')}.jpg")
    write_rows(root, [[cid, *(cells.get(c, "") for c in COLUMNS[1:])] for cid, _, cells in shoes])
    return root


def write_rows(root: Path, rows: list[list[str]], header: list[str] = COLUMNS) -> None:
    (root / "ut-zap50k-data").mkdir(exist_ok=True)
    with (root / TABLE).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def change_rows(root: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
    """Rewrite the table's rows, header excluded."""
    with (root / TABLE).open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    write_rows(root, change(rows), header)


def labels(root: Path, task: str) -> list[str | None]:
    """Return each image's value in words, None where it has none."""
    column = read_zappos(root).columns[task]
    return [column.values[c] if c >= 0 else None for c in column.codes]


def test_a_cid_is_found_at_the_path_that_has_a_dot_for_its_hyphen(tmp_path: Path) -> None:
    root = write(tmp_path, ("100627-72", "Bostonian", OXFORD), ("7-200627", "Keen", OXFORD))
    assert read_zappos(root).paths == (
        "ut-zap50k-images/Shoes/Oxfords/Bostonian/100627.72.jpg",
        "ut-zap50k-images/Shoes/Oxfords/Keen/7.200627.jpg",
    )


@pytest.mark.parametrize("brand", ["Dolce & Gabbana", "Levi's® Kids", "Mark Nason %2E", "A&#174;B", 'The "Shoe"', "É"])
def test_the_brand_is_the_folder_whatever_characters_it_has(tmp_path: Path, brand: str) -> None:
    root = write(tmp_path, ("1-1", brand, OXFORD), ("2-1", "Keen", OXFORD))
    assert labels(root, "brand") == [brand, "Keen"]
    assert (root / read_zappos(root).paths[0]).is_file()


def test_the_label_is_the_one_of_the_row_not_of_the_folder_order(tmp_path: Path) -> None:
    boot = {**OXFORD, "Category": "Boots", "SubCategory": "Mid-Calf", "Closure": "Zipper"}
    root = write(tmp_path, ("9-1", "Zeta", OXFORD), ("1-1", "Alpha", boot), ("5-1", "Mid", OXFORD))
    assert labels(root, "category") == ["Shoes", "Boots", "Shoes"]
    assert labels(root, "subcategory") == ["Oxfords", "Mid-Calf", "Oxfords"]
    assert labels(root, "closure") == ["Lace up", "Zipper", "Lace up"]
    assert labels(root, "brand") == ["Zeta", "Alpha", "Mid"]


def test_each_task_reads_its_own_column(tmp_path: Path) -> None:
    cells = {c: f"value of {c}" for c in COLUMNS[1:]}
    table = read_zappos(write(tmp_path, ("1-1", "Keen", cells)))
    tasks = ["category", "closure", "gender", "heel", "subcategory", "material", "toe", "insole", "brand"]
    assert list(table.columns) == tasks
    columns = ["Category", "Closure", "Gender", "HeelHeight", "SubCategory", "Material", "ToeStyle", "Insole"]
    assert [table.columns[t].values[0] for t in tasks] == [*(f"value of {c}" for c in columns), "Keen"]


def test_empty_cells_are_unlabelled_and_words_for_nothing_are_words(tmp_path: Path) -> None:
    shoes = [(f"{i}-1", "Keen", {**OXFORD, "Closure": value}) for i, value in enumerate(["", "NA", "Zipper", "None"])]
    assert labels(write(tmp_path, *shoes), "closure") == [None, "NA", "Zipper", "None"]


def test_a_cell_with_several_values_is_a_value_of_its_own(tmp_path: Path) -> None:
    values = ["Zipper", "Zipper;Buckle", "Buckle", "Zipper;Buckle"]
    shoes = [(f"{i}-1", "Keen", {**OXFORD, "Closure": value}) for i, value in enumerate(values)]
    root = write(tmp_path, *shoes)
    assert labels(root, "closure") == values
    assert read_zappos(root).columns["closure"].values == ("Buckle", "Zipper", "Zipper;Buckle")


def test_heels_are_ordered_by_height_and_nothing_else_is_ordered(tmp_path: Path) -> None:
    official = ["Flat", "Under 1in", "1in - 1 3/4in", "2in - 2 3/4in", "3in - 3 3/4in", "4in - 4 3/4in", "5in & over"]
    shuffled = [official[i] for i in (4, 6, 1, 0, 3, 5, 2)]
    shoes = [(f"{i}-1", "Keen", {**OXFORD, "HeelHeight": value}) for i, value in enumerate([*shuffled, ""])]
    table = read_zappos(write(tmp_path, *shoes))
    assert table.columns["heel"].values == tuple(official)
    assert table.columns["heel"].codes.tolist() == [4, 6, 1, 0, 3, 5, 2, -1]
    assert [task for task, column in table.columns.items() if column.ordered] == ["heel"]


def test_the_split_is_70_10_20_by_image(zappos_folder: Path) -> None:
    table = read_zappos(zappos_folder)
    assert np.bincount(table.split).tolist() == [42, 6, 12]
    assert table.split_rule == "by image at random, 70/10/20, seed 0"


def test_the_split_depends_on_the_seed_alone(zappos_folder: Path) -> None:
    splits = [read_zappos(zappos_folder, seed).split.tolist() for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_the_order_of_rows_changes_neither_an_images_split_nor_its_labels(zappos_folder: Path) -> None:
    def by_path() -> dict[str, tuple[object, ...]]:
        table = read_zappos(zappos_folder)
        named = [[c.values[v] if v >= 0 else "" for v in c.codes] for c in table.columns.values()]
        return {path: row for path, *row in zip(table.paths, table.split.tolist(), *named, strict=True)}

    before = by_path()
    order = np.random.default_rng(0).permutation(60)
    change_rows(zappos_folder, lambda rows: [rows[i] for i in order])
    assert by_path() == before


@pytest.mark.parametrize("name", ["ut-zap50k-images", TABLE])
def test_a_missing_part_is_named_with_the_remedy(zappos_folder: Path, name: str) -> None:
    (zappos_folder / name).rename(zappos_folder / "elsewhere")
    with pytest.raises(UserError, match=rf"is not UT-Zappos50K: {name} is missing.*--data-dir"):
        read_zappos(zappos_folder)


def test_a_row_without_its_image_is_named_and_counted(zappos_folder: Path) -> None:
    for path in read_zappos(zappos_folder).paths[:2]:
        (zappos_folder / path).unlink()
    with pytest.raises(UserError, match=r"no image of 100627-72 \(2 of 60 rows"):
        read_zappos(zappos_folder)


def test_an_image_without_a_row_plays_no_part(zappos_folder: Path) -> None:
    before = read_zappos(zappos_folder)
    change_rows(zappos_folder, lambda rows: rows[1:])
    after = read_zappos(zappos_folder)
    assert after.paths == before.paths[1:]


def test_a_cid_on_two_rows_is_refused(zappos_folder: Path) -> None:
    change_rows(zappos_folder, lambda rows: [*rows, rows[3]])
    with pytest.raises(UserError, match=r"meta-data\.csv lists 100648-75 twice"):
        read_zappos(zappos_folder)


def test_two_images_of_one_cid_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, ("1-1", "Keen", OXFORD), ("1-1", "Bostonian", OXFORD))
    change_rows(root, lambda rows: rows[:1])
    with pytest.raises(UserError, match=r"two images of 1-1: .*(Keen.*Bostonian|Bostonian.*Keen)"):
        read_zappos(root)


@pytest.mark.parametrize("name", ["CID", "HeelHeight", "ToeStyle"])
def test_a_missing_column_is_named(zappos_folder: Path, name: str) -> None:
    text = (zappos_folder / TABLE).read_text()
    (zappos_folder / TABLE).write_text(text.replace(name, "Other", 1))
    with pytest.raises(UserError, match=rf"meta-data\.csv has no column {name}"):
        read_zappos(zappos_folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-12],  # cut short within the last line
        lambda text: text.replace("\n100634-73,", "\n100634-73,,", 1),
        lambda text: text.replace("ToeStyle", "", 1).replace(",\n", "\n", 1).replace(",\r\n", "\r\n", 1),
        lambda text: "<!DOCTYPE html>\n<html>\n<p>Sorry, not now, later</p>\n</html>\n",
        lambda text: "",
    ],
    ids=["cut short", "a field too many", "a header too short", "a page", "empty"],
)
def test_a_malformed_table_is_refused_by_its_name(zappos_folder: Path, change: Callable[[str], str]) -> None:
    text = (zappos_folder / TABLE).read_bytes().decode()
    assert change(text) != text
    (zappos_folder / TABLE).write_bytes(change(text).encode())
    with pytest.raises(UserError, match=r"meta-data\.csv"):
        read_zappos(zappos_folder)


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(zappos_folder: Path) -> None:
    before = read_zappos(zappos_folder)
    text = (zappos_folder / TABLE).read_text()
    (zappos_folder / TABLE).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
    after = read_zappos(zappos_folder)
    assert after.paths == before.paths
    assert [c.codes.tolist() for c in after.columns.values()] == [c.codes.tolist() for c in before.columns.values()]


def test_images_in_one_flat_folder_have_no_brand(tmp_path: Path) -> None:
    root = write(tmp_path, ("1-1", "Keen", OXFORD))
    (root / read_zappos(root).paths[0]).rename(root / "ut-zap50k-images" / "1.1.jpg")
    assert labels(root, "brand") == [None]
    assert read_zappos(root).paths == ("ut-zap50k-images/1.1.jpg",)


def test_rendered_shoes_are_known_for_what_they_are_in_any_folder(tmp_path: Path, zappos_folder: Path) -> None:
    render_shoes(tmp_path / "UT-Zappos50K", 6, width=16, height=16)
    table = read_zappos(tmp_path / "UT-Zappos50K")
    assert (table.name, table.rendered) == ("rendered shoes", True)
    assert (read_zappos(zappos_folder).name, read_zappos(zappos_folder).rendered) == ("UT-Zappos50K", False)


def test_the_real_sample_is_read_whole(real_data: Path) -> None:
    table = read_zappos(real_data / "zappos-8k")
    assert len(table) == len((real_data / "zappos-8k" / TABLE).read_text().splitlines()) - 1 >= 8_000
    assert len(set(table.paths)) == len(list((real_data / "zappos-8k").rglob("*.jpg")))
    assert np.bincount(table.split) / len(table) == pytest.approx([0.7, 0.1, 0.2], abs=1e-3)
    values = {task: len(column.values) for task, column in table.columns.items()}
    assert (values["category"], values["subcategory"]) == (4, 21)
    assert all(values[task] == 0 for task in ("closure", "gender", "heel", "material", "toe", "insole"))
    assert not table.rendered
    # the folders say category and sub-category a second time
    for task, depth in (("category", 1), ("subcategory", 2)):
        column = table.columns[task]
        assert [column.values[c] for c in column.codes] == [path.split("/")[depth] for path in table.paths]
