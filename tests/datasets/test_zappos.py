"""The UT-Zappos50K reader: labels from the table, brands from the paths, a seeded split by image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support_zappos import COLUMNS, OXFORD, TABLE, change_rows, labels, with_values, words, write

from mtlbench.datasets.zappos import Zappos, read_zappos
from mtlbench.errors import UserError
from mtlbench.rendered.shoes import render_shoes


def test_a_cid_is_found_at_the_path_that_has_a_dot_for_its_hyphen(tmp_path: Path) -> None:
    root = write(tmp_path, ("100627-72", "Bostonian", OXFORD), ("7-200627", "Keen", OXFORD))
    assert read_zappos(root).paths == (
        "ut-zap50k-images/Shoes/Oxfords/Bostonian/100627.72.jpg",
        "ut-zap50k-images/Shoes/Oxfords/Keen/7.200627.jpg",
    )


@pytest.mark.parametrize("brand", ["Dolce & Gabbana", "Levi's® Kids", "Mark Nason %2E", 'The "Shoe"', "É"])
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
    cells = {c: f"{i}in of {c}" for i, c in enumerate(COLUMNS) if i}
    table = read_zappos(write(tmp_path, ("1-1", "Keen", cells)))
    tasks = ["category", "closure", "gender", "heel", "subcategory", "material", "toe", "insole", "brand"]
    assert list(table.columns) == tasks
    columns = ["Category", "Closure", "Gender", "HeelHeight", "SubCategory", "Material", "ToeStyle", "Insole"]
    assert [table.columns[t].values[0] for t in tasks] == [*(cells[c] for c in columns), "Keen"]


def test_empty_cells_are_unlabelled_and_words_for_nothing_are_words(tmp_path: Path) -> None:
    shoes = [(f"{i}-1", "Keen", {**OXFORD, "Closure": value}) for i, value in enumerate(["", "NA", "Zipper", "None"])]
    assert labels(write(tmp_path, *shoes), "closure") == [None, "NA", "Zipper", "None"]


@pytest.mark.parametrize(
    ("multi_valued", "closures", "made"),
    [
        ("value", ["Zipper", "Buckle;Zipper", "Buckle;Zipper", None], "each combination is a value of its own"),
        ("first", ["Zipper", "Zipper", "Buckle", None], "the first counts"),
        ("unlabelled", ["Zipper", None, None, None], "counted as unlabelled"),
    ],
)
def test_cells_with_several_values_are_read_as_asked_and_counted(
    tmp_path: Path, multi_valued: str, closures: list[str | None], made: str
) -> None:
    root = with_values(tmp_path, "Closure", ["Zipper", "Zipper;Buckle", "Buckle;Zipper", ""])
    assert labels(root, "closure", multi_valued) == closures
    assert read_zappos(root, multi_valued=multi_valued).remarks == (f"2 cells of closure hold several values: {made}.",)


@pytest.mark.parametrize(
    ("multi_valued", "heels"),
    [("value", ["Flat", None, None]), ("first", ["Flat", "2in", None]), ("unlabelled", ["Flat", None, None])],
)
def test_several_heights_never_make_a_height_of_their_own(
    tmp_path: Path, multi_valued: str, heels: list[str | None]
) -> None:
    root = with_values(tmp_path, "HeelHeight", ["Flat", "2in;Flat", "High heel;2in"])
    assert labels(root, "heel", multi_valued) == heels
    made = "the first counts" if multi_valued == "first" else "counted as unlabelled"
    assert f"2 cells of heel hold several values: {made}." in read_zappos(root, multi_valued=multi_valued).remarks


def test_heels_are_ordered_by_height_and_nothing_else_is_ordered(tmp_path: Path) -> None:
    official = ["Flat", "Under 1in", "1in - 1 3/4in", "2in - 2 3/4in", "3in - 3 3/4in", "4in - 4 3/4in", "5in & over"]
    shuffled = [official[i] for i in (4, 6, 1, 0, 3, 5, 2)]
    shoes = [(f"{i}-1", "Keen", {**OXFORD, "HeelHeight": value}) for i, value in enumerate([*shuffled, ""])]
    table = read_zappos(write(tmp_path, *shoes))
    assert table.columns["heel"].values == tuple(official)
    assert table.columns["heel"].codes.tolist() == [4, 6, 1, 0, 3, 5, 2, -1]
    assert [task for task, column in table.columns.items() if column.ordered] == ["heel"]


@pytest.mark.parametrize(
    "low_to_high",
    [
        ["Flat", "Under 1in", "1in", "1in & over"],
        ["1/2in", "3/4in", "1in", "1 1/4in", "1.5in", "2in", "10in"],
        ["4in - 4 3/4in", "4in & up"],
    ],
)
def test_heels_are_ordered_by_their_numbers(tmp_path: Path, low_to_high: list[str]) -> None:
    root = with_values(tmp_path, "HeelHeight", sorted(low_to_high))
    assert read_zappos(root).columns["heel"].values == tuple(low_to_high)


def test_heels_that_say_no_height_are_unlabelled_and_named(tmp_path: Path) -> None:
    root = with_values(tmp_path, "HeelHeight", ["Short heel", "2in - 2 3/4in", "High heel", "Flat", "Short heel", ""])
    assert labels(root, "heel") == [None, "2in - 2 3/4in", None, "Flat", None, None]
    assert read_zappos(root).columns["heel"].values == ("Flat", "2in - 2 3/4in")
    assert read_zappos(root).remarks == (
        "3 cells of heel without a height, 'High heel', 'Short heel': counted as unlabelled.",
    )


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


def test_everything_missing_is_listed_at_once(tmp_path: Path) -> None:
    missing = "ut-zap50k-images is missing and ut-zap50k-data/meta-data.csv is missing"
    with pytest.raises(UserError, match=rf"{missing}\. Unpack ut-zap50k-images\.zip and ut-zap50k-data\.zip there"):
        read_zappos(tmp_path)


def test_an_archive_that_is_not_unpacked_is_named_with_the_command(zappos_folder: Path) -> None:
    shutil.rmtree(zappos_folder / "ut-zap50k-images")
    (zappos_folder / "ut-zap50k-images.zip").touch()
    command = rf"images\.zip is not unpacked\. Run `mtlbench data get zappos --data-dir {zappos_folder}`"
    with pytest.raises(UserError, match=rf"{command}, which unpacks it, or unzip it there\.$"):
        read_zappos(zappos_folder)


def archive_of_square_images(root: Path) -> None:
    shutil.rmtree(root / "ut-zap50k-images")
    (root / "ut-zap50k-images-square.zip").touch()


def square_images_beside_an_archive_of_labels(root: Path) -> None:
    (root / "ut-zap50k-images").rename(root / "ut-zap50k-images-square")
    (root / TABLE).unlink()
    (root / "ut-zap50k-data.zip").touch()


def half_a_folder_of_labels(root: Path) -> None:
    (root / TABLE).rename(root / "ut-zap50k-data" / "image-path.mat")
    (root / "ut-zap50k-data.zip").touch()


@pytest.mark.parametrize(
    "change", [archive_of_square_images, square_images_beside_an_archive_of_labels, half_a_folder_of_labels]
)
def test_an_archive_that_the_command_would_not_unpack_is_to_be_unzipped_there(
    zappos_folder: Path, change: Callable[[Path], None]
) -> None:
    """It would download the other images, or refuse to unpack over what is there."""
    change(zappos_folder)
    with pytest.raises(UserError, match=r"\.zip is not unpacked\. Unzip it there\.$") as raised:
        read_zappos(zappos_folder)
    assert "data get" not in str(raised.value)


def test_an_archive_beside_a_missing_part_leaves_the_remedies_of_both(tmp_path: Path) -> None:
    (tmp_path / "ut-zap50k-data.zip").touch()
    faults = r"ut-zap50k-images is missing and ut-zap50k-data\.zip is not unpacked\."
    with pytest.raises(UserError, match=rf"{faults} Run .*data get.* Unpack ut-zap50k-images\.zip there"):
        read_zappos(tmp_path)


def test_archives_beside_what_they_held_are_no_fault(zappos_folder: Path) -> None:
    (zappos_folder / "ut-zap50k-images.zip").touch()
    assert len(read_zappos(zappos_folder)) == 60


def move_into(folder: str) -> Callable[[Path], None]:
    """Return what moves the named folders of a copy into another folder."""

    def move(root: Path) -> None:
        parts = list(root.iterdir())
        (root / folder).mkdir()
        for part in parts:
            part.rename(root / folder / part.name)

    return move


def double(root: Path) -> None:
    """Put each part into a folder of its own name, as some archives do."""
    for part in list(root.iterdir()):
        part.rename(root / "moving")
        part.mkdir()
        (root / "moving").rename(part / part.name)


def double_and_move(root: Path) -> None:
    double(root)
    move_into("zappos")(root)


@pytest.mark.parametrize(
    ("change", "images"),
    [
        (lambda root: None, "ut-zap50k-images"),
        (move_into("ut-zap50k"), "ut-zap50k/ut-zap50k-images"),
        (move_into("UT-Zappos50K"), "UT-Zappos50K/ut-zap50k-images"),
        (double, "ut-zap50k-images/ut-zap50k-images"),
        (double_and_move, "zappos/ut-zap50k-images/ut-zap50k-images"),
    ],
    ids=["official", "nested", "nested, by another name", "doubled", "doubled and nested"],
)
def test_nested_and_doubled_folders_are_the_same_data(
    zappos_folder: Path, change: Callable[[Path], object], images: str
) -> None:
    before = read_zappos(zappos_folder)
    change(zappos_folder)
    after = read_zappos(zappos_folder)
    assert Zappos.found(zappos_folder)
    assert after.paths == tuple(path.replace("ut-zap50k-images", images, 1) for path in before.paths)
    assert all((after.root / path).is_file() for path in after.paths)
    assert {task: words(after, task) for task in after.columns} == {
        task: words(before, task) for task in before.columns
    }
    assert after.split.tolist() == before.split.tolist()
    assert after.remarks == before.remarks


def test_two_whole_copies_in_one_folder_are_not_chosen_between(
    tmp_path: Path, write_zappos: Callable[..., Path]
) -> None:
    for name in ("zappos-a", "zappos-b"):
        write_zappos(tmp_path / name, images=3)
    with pytest.raises(UserError, match=r"more than one UT-Zappos50K: zappos-a, zappos-b\. .*--data-dir"):
        read_zappos(tmp_path)
    write_zappos(tmp_path, images=4)
    assert len(read_zappos(tmp_path)) == 4


def test_square_images_are_used_where_there_are_no_others(zappos_folder: Path) -> None:
    square = zappos_folder / "ut-zap50k-images-square"
    shutil.copytree(zappos_folder / "ut-zap50k-images", square)
    table = read_zappos(zappos_folder)
    assert {path.split("/")[0] for path in table.paths} == {"ut-zap50k-images"}
    assert not any("square" in remark for remark in table.remarks)
    shutil.rmtree(zappos_folder / "ut-zap50k-images")
    (zappos_folder / "ut-zap50k-images").mkdir()  # as an unpacking leaves it that ran out of disk
    table = read_zappos(zappos_folder)
    assert {path.split("/")[0] for path in table.paths} == {square.name}
    assert "The images are the square ones of ut-zap50k-images-square." in table.remarks


@pytest.mark.parametrize(
    "part",
    ["ut-zap50k-images/Boots", "ut-zap50k-images-square/Boots", TABLE, "ut-zap50k-data.zip", "UT-Zap50K/" + TABLE],
)
def test_any_part_makes_a_folder_look_like_the_data_set(tmp_path: Path, part: str) -> None:
    for other in ("celeba", "Img/ut-zap50k-data/meta-data.csv", "zappos.txt"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).touch()
    assert not Zappos.found(tmp_path)
    assert not Zappos.found(tmp_path / "celeba")
    assert not Zappos.found(tmp_path / "nowhere")
    (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / part).touch()
    assert Zappos.found(tmp_path)


def test_a_row_without_its_image_keeps_its_place_with_a_path_where_nothing_lies(tmp_path: Path) -> None:
    root = write(tmp_path, ("1-1", "Keen", OXFORD), ("22-3", "Bostonian", OXFORD), ("3-1", "Keen", OXFORD))
    (root / read_zappos(root).paths[1]).unlink()
    table = read_zappos(root)
    assert table.paths[1] == "ut-zap50k-images/Shoes/Oxfords/22.3.jpg"
    assert [(root / path).is_file() for path in table.paths] == [True, False, True]
    assert words(table, "brand") == ["Keen", None, "Keen"]
    assert words(table, "category") == ["Shoes"] * 3


def test_a_table_that_fits_none_of_the_images_is_refused(zappos_folder: Path) -> None:
    change_rows(zappos_folder, lambda rows: [[f"9{row[0]}", *row[1:]] for row in rows])
    with pytest.raises(UserError, match=r"ut-zap50k-images has no image of 9100627-72 nor of any other row of .*csv"):
        read_zappos(zappos_folder)


def test_an_image_without_a_row_plays_no_part(zappos_folder: Path) -> None:
    before = read_zappos(zappos_folder)
    change_rows(zappos_folder, lambda rows: rows[1:])
    after = read_zappos(zappos_folder)
    assert after.paths == before.paths[1:]
    assert "1 image has no row in meta-data.csv and is not used." in after.remarks
    change_rows(zappos_folder, lambda rows: rows[2:])
    assert "3 images have no row in meta-data.csv and are not used." in read_zappos(zappos_folder).remarks


def test_what_macos_leaves_beside_images_is_no_image(zappos_folder: Path) -> None:
    before = read_zappos(zappos_folder)
    image = zappos_folder / before.paths[0]
    image.with_name(f"._{image.name}").touch()
    assert (read_zappos(zappos_folder).paths, read_zappos(zappos_folder).remarks) == (before.paths, before.remarks)


def test_a_cid_on_two_rows_is_refused(zappos_folder: Path) -> None:
    change_rows(zappos_folder, lambda rows: [*rows, rows[3]])
    with pytest.raises(UserError, match=r"meta-data\.csv lists 100648-75 twice, the second time in line 62\."):
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
        lambda text: text.split("\n")[0],
        lambda text: text.replace("\n100634-73,", "\n,", 1),
        lambda text: text.replace("\n100634-73,", '\n"100634-73"",', 1),
    ],
    ids=["cut short", "too many", "a header too short", "a page", "empty", "no rows", "no CID", "an open quote"],
)
def test_a_malformed_table_is_refused_by_its_name(zappos_folder: Path, change: Callable[[str], str]) -> None:
    text = (zappos_folder / TABLE).read_bytes().decode()
    assert change(text) != text
    (zappos_folder / TABLE).write_bytes(change(text).encode())
    with pytest.raises(UserError, match=r"meta-data\.csv"):
        read_zappos(zappos_folder)


@pytest.mark.parametrize(("old", "new", "fields"), [(",Men,", ",Men,,", 10), (",Men,", ",", 8)])
def test_a_row_of_another_length_is_named_by_its_line(tmp_path: Path, old: str, new: str, fields: int) -> None:
    root = write(tmp_path, *((f"{i}-1", "Keen", OXFORD) for i in range(4)))
    lines = (root / TABLE).read_text().split("\n")
    lines[3] = lines[3].replace(old, new)
    lines.insert(1, "")  # a blank line counts among the lines of the file
    (root / TABLE).write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"meta-data\.csv, line 5: it has {fields} fields where its header has 9\."):
        read_zappos(root)


@pytest.mark.parametrize("start", [b"<!DOCTYPE html>", b"\xef\xbb\xbf\n <html>", b"<HTML lang='fran\xe7ais'>"])
def test_a_web_page_in_the_place_of_the_table_is_called_one(zappos_folder: Path, start: bytes) -> None:
    (zappos_folder / TABLE).write_bytes(start + b"\n<p>Not found</p>\n")
    with pytest.raises(UserError, match=r"meta-data\.csv is a web page .*host answered.*ut-zap50k-data\.zip .* again"):
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


def test_rendered_shoes_stay_rendered_without_one_of_their_images(tmp_path: Path) -> None:
    render_shoes(tmp_path, 6, width=16, height=16)
    (tmp_path / read_zappos(tmp_path).paths[0]).unlink()
    assert read_zappos(tmp_path).rendered


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


def several_colours(root: Path) -> Path:
    """40 products in 1 to 4 colours each."""
    return write(root, *((f"{100 + n}-{c}", "Keen", OXFORD) for n in range(40) for c in range(1 + n % 4)))


def test_by_product_all_its_colours_lie_on_one_side(tmp_path: Path) -> None:
    table = read_zappos(several_colours(tmp_path), split="product")
    sides: dict[str, set[int]] = {}
    for path, side in zip(table.paths, table.split.tolist(), strict=True):
        sides.setdefault(path.rsplit("/", 1)[1].split(".")[0], set()).add(side)
    assert len(sides) == 40
    assert all(len(found) == 1 for found in sides.values())
    assert table.split_in_words == (
        "by product at random, 70/10/20, seed 0; no test image has another colour of the same product in train"
    )


@pytest.mark.parametrize("split", ["default", "image"])
def test_by_image_the_rule_says_how_many_test_images_have_a_sibling_in_train(tmp_path: Path, split: str) -> None:
    table = read_zappos(several_colours(tmp_path), split=split)
    products = [path.rsplit("/", 1)[1].split(".")[0] for path in table.paths]
    train = {product for product, side in zip(products, table.split, strict=True) if side == 0}
    tested = [product for product, side in zip(products, table.split, strict=True) if side == 2]
    share = sum(product in train for product in tested) / len(tested)
    assert 0 < share < 1
    assert table.split_in_words == (
        f"by image at random, 70/10/20, seed 0; {100 * share:.1f} % of the test images have another colour of the same"
        " product in train"
    )


def test_rendered_shoes_have_one_colour_a_product_and_say_so(tmp_path: Path) -> None:
    render_shoes(tmp_path, 20, width=16, height=16)
    assert read_zappos(tmp_path).split_in_words == (
        "by image at random, 70/10/20, seed 0; no test image has another colour of the same product in train"
    )


def test_heels_and_the_other_tasks_agree_on_what_is_missing_and_what_parts_values(tmp_path: Path) -> None:
    root = with_values(tmp_path, "HeelHeight", ["NaN|1in", "NaN", "Flat", "2in"])
    closures = ["NaN|a", "NaN", "b", "c"]
    change_rows(root, lambda rows: [[*row[:5], c, *row[6:]] for row, c in zip(rows, closures, strict=True)])
    table = read_zappos(root, missing=["nan"], separator="|")
    assert words(table, "heel") == ["1in", None, "Flat", "2in"]
    assert words(table, "closure") == ["a", None, "b", "c"]
    plain = read_zappos(root)
    assert words(plain, "closure") == ["NaN|a", "NaN", "b", "c"]
