"""The CelebA reader: what the official files say, in every shape they are met in, and what is missing."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support_celeba import ATTRIBUTES, IDENTITIES, PAGE, PARTITION, edit, facts, to_csv, write_three

from mtlbench.data.table import split_at_random
from mtlbench.datasets.celeba import IMAGES, CelebA, read_celeba, told_apart
from mtlbench.errors import UserError
from mtlbench.rendered.marks import FIRST_IDENTITY


def test_labels_identities_and_splits_belong_to_the_image_that_the_files_name(tmp_path: Path) -> None:
    table = read_celeba(write_three(tmp_path / "celeba"))
    assert table.paths == tuple(f"img_align_celeba/{n}.jpg" for n in ("000007", "000002", "000009"))
    assert list(table.columns) == ["Bald", "Oval_Face", "identity"]
    assert table.columns["Bald"].codes.tolist() == [0, 1, 1]
    assert table.columns["Oval_Face"].codes.tolist() == [1, 0, 1]
    assert table.columns["Bald"].values == ("no", "yes")
    assert table.columns["identity"].values == ("9", "10")  # in the order of numbers, not of words
    assert table.columns["identity"].codes.tolist() == [1, 0, 0]
    assert table.kin.codes.tolist() == [1, 0, 0]  # images of a person are one cluster of the test images
    assert table.split.tolist() == [0, 2, 1]
    assert (table.name, table.rendered) == ("CelebA", False)


def test_all_forty_attributes_are_read_as_written(celeba_folder: Path) -> None:
    table = read_celeba(celeba_folder)
    lines = (celeba_folder / ATTRIBUTES).read_text().splitlines()
    names = lines[1].split()
    assert len(names) == 40
    assert [*names, "identity"] == list(table.columns)
    for i, line in enumerate(lines[2:]):
        file, *values = line.split()
        assert table.paths[i] == f"img_align_celeba/{file}"
        assert [2 * int(table.columns[n].codes[i]) - 1 for n in names] == [int(v) for v in values]
    assert np.bincount(table.split).tolist() == [36, 12, 12]


def test_the_official_headers_trailing_space_is_no_attribute(celeba_folder: Path) -> None:
    assert (celeba_folder / ATTRIBUTES).read_text().splitlines()[1].endswith(" ")
    assert len(read_celeba(celeba_folder).columns) == 41


def test_windows_line_ends_and_blank_last_lines_change_nothing(celeba_folder: Path) -> None:
    before = facts(read_celeba(celeba_folder))
    for name in (ATTRIBUTES, IDENTITIES, PARTITION):
        text = (celeba_folder / name).read_bytes()
        (celeba_folder / name).write_bytes(text.replace(b"\n", b"\r\n") + b"\r\n")
    assert facts(read_celeba(celeba_folder)) == before


def test_the_order_of_lines_in_the_other_files_plays_no_part(celeba_folder: Path) -> None:
    before = facts(read_celeba(celeba_folder))
    for name in (IDENTITIES, PARTITION):
        edit(celeba_folder, name, lambda lines: lines[::-1])
    assert facts(read_celeba(celeba_folder)) == before


def test_lines_of_images_that_the_attributes_do_not_name_are_ignored(celeba_folder: Path) -> None:
    before = facts(read_celeba(celeba_folder))
    edit(celeba_folder, IDENTITIES, lambda lines: [*lines, "999999.jpg 7"])
    edit(celeba_folder, PARTITION, lambda lines: ["999999.jpg 1", *lines])
    table = read_celeba(celeba_folder)
    assert facts(table) == before
    assert table.remarks == tuple(
        f"{name} lists images that {ATTRIBUTES} does not (1): they are left out." for name in (IDENTITIES, PARTITION)
    )


@pytest.mark.parametrize("name", [IMAGES, ATTRIBUTES, PARTITION])
def test_a_missing_part_is_named_alone_with_the_folder_it_belongs_into(celeba_folder: Path, name: str) -> None:
    (celeba_folder / name).rename(celeba_folder / "elsewhere")
    with pytest.raises(UserError, match=rf"missing is {name}.* Put it into {celeba_folder},.*--data-dir") as raised:
        read_celeba(celeba_folder)
    for other in {IMAGES, ATTRIBUTES, IDENTITIES, PARTITION} - {name}:
        assert other not in str(raised.value)


def test_all_missing_parts_are_named_at_once(tmp_path: Path) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    with pytest.raises(UserError) as raised:
        read_celeba(root)
    assert f"missing are {IMAGES}/ (the folder of images), {ATTRIBUTES}, {PARTITION}. Put them" in str(raised.value)


def test_missing_parts_belong_to_those_that_are_there(celeba_folder: Path) -> None:
    (celeba_folder / ATTRIBUTES).unlink()
    with pytest.raises(UserError, match=f"Put it into {celeba_folder},"):
        read_celeba(celeba_folder.parent)


def test_without_identities_there_is_no_identity_task_and_a_remark_says_so(celeba_folder: Path) -> None:
    before = read_celeba(celeba_folder)
    (celeba_folder / IDENTITIES).unlink()
    table = read_celeba(celeba_folder)
    assert list(table.columns) == list(before.columns)[:-1]
    assert (table.paths, table.split.tolist()) == (before.paths, before.split.tolist())
    assert any(IDENTITIES in remark for remark in table.remarks)
    assert before.remarks == ()


def test_a_split_by_identity_needs_identities_and_no_partition(celeba_folder: Path) -> None:
    (celeba_folder / PARTITION).unlink()
    assert len(read_celeba(celeba_folder, "identity")) == 60
    (celeba_folder / IDENTITIES).unlink()
    with pytest.raises(UserError, match=f"missing is {IDENTITIES}"):
        read_celeba(celeba_folder, "identity")


def test_a_split_by_identity_keeps_each_person_on_one_side_and_follows_its_seed(celeba_folder: Path) -> None:
    table = read_celeba(celeba_folder, "identity", 3)
    people = [table.columns["identity"].values[code] for code in table.columns["identity"].codes]
    assert table.split.tolist() == split_at_random(people, 3).tolist()
    assert len(set(zip(people, table.split.tolist(), strict=True))) == len(set(people)) == 20
    assert np.bincount(table.split).tolist() == [42, 6, 12]
    assert "identity" in table.split_rule
    assert "seed 3" in table.split_rule
    assert read_celeba(celeba_folder, "identity", 4).split.tolist() != table.split.tolist()


def double(root: Path) -> Path:
    (root / IMAGES).rename(root / "inner")
    (root / IMAGES).mkdir()
    (root / "inner").rename(root / IMAGES / IMAGES)
    return root


def as_in_the_official_drive(root: Path) -> Path:
    for folder, names in {"Img": [IMAGES], "Anno": [ATTRIBUTES, IDENTITIES], "Eval": [PARTITION]}.items():
        (root / folder).mkdir()
        for name in names:
            (root / name).rename(root / folder / name)
    return root


def to_csv_on_windows(root: Path) -> Path:
    for path in to_csv(root).glob("*.csv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    return root


def to_the_side(root: Path) -> Path:
    """Leave only the labels in the root and move the images below celeba/."""
    (root / "celeba").mkdir()
    (root / IMAGES).rename(root / "celeba" / IMAGES)
    return root


SHAPES = {
    "doubled": (double, f"{IMAGES}/{IMAGES}"),
    "csv": (to_csv, IMAGES),
    "csv on Windows": (to_csv_on_windows, IMAGES),
    "doubled csv": (lambda root: to_csv(double(root)), f"{IMAGES}/{IMAGES}"),
    "below celeba": (lambda root: root.parent, f"celeba/{IMAGES}"),
    "below CelebA": (lambda root: root.rename(root.parent / "CelebA").parent, f"CelebA/{IMAGES}"),
    "images below celeba": (to_the_side, f"celeba/{IMAGES}"),
    "official drive": (as_in_the_official_drive, f"Img/{IMAGES}"),
}


@pytest.mark.parametrize(("change", "images"), SHAPES.values(), ids=SHAPES)
def test_every_shape_it_is_met_in_gives_the_same_table(
    celeba_folder: Path, change: Callable[[Path], Path], images: str
) -> None:
    before = read_celeba(celeba_folder)
    root = change(celeba_folder)
    table = read_celeba(root)
    assert CelebA.found(root)
    assert table.root == root
    assert table.paths == tuple(path.replace(IMAGES, images, 1) for path in before.paths)
    assert all((root / path).is_file() for path in table.paths)
    assert facts(table)[1:] == facts(before)[1:]


def test_the_folder_of_images_itself_will_do(celeba_folder: Path) -> None:
    assert CelebA.found(celeba_folder / IMAGES)
    assert read_celeba(celeba_folder / IMAGES).paths == read_celeba(celeba_folder).paths
    assert read_celeba(celeba_folder / IMAGES).root == celeba_folder
    double(celeba_folder)
    assert read_celeba(celeba_folder / IMAGES / IMAGES).root == celeba_folder


@pytest.mark.parametrize("name", [IMAGES, f"{IMAGES}.zip", ATTRIBUTES, "list_attr_celeba.csv"])
def test_a_folder_with_one_part_is_recognised(tmp_path: Path, name: str) -> None:
    assert not CelebA.found(tmp_path)
    (tmp_path / name).mkdir() if name == IMAGES else (tmp_path / name).touch()
    assert CelebA.found(tmp_path)
    assert CelebA.found(tmp_path / "absent") is False


def test_other_data_is_not_taken_for_celeba(zappos_folder: Path) -> None:
    assert not CelebA.found(zappos_folder)


def test_an_archive_that_is_not_unpacked_is_named_with_the_command_that_does_it(celeba_folder: Path) -> None:
    (celeba_folder / IMAGES).rename(celeba_folder.parent / "elsewhere")
    (celeba_folder / f"{IMAGES}.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(
        UserError, match=rf"not unpacked.*mtlbench data get celeba --data-dir {celeba_folder}"
    ) as raised:
        read_celeba(celeba_folder)
    assert "missing" not in str(raised.value)
    (celeba_folder / PARTITION).unlink()
    with pytest.raises(UserError, match=rf"missing is {PARTITION}\. .*{IMAGES}\.zip is not unpacked"):
        read_celeba(celeba_folder)


def test_an_archive_that_is_not_beside_its_labels_is_to_be_unzipped_there(celeba_folder: Path) -> None:
    """The command would download the labels again, into the folder of the archive."""
    as_in_the_official_drive(celeba_folder)
    (celeba_folder / "Img" / IMAGES).rename(celeba_folder.parent / "elsewhere")
    archive = celeba_folder / "Img" / f"{IMAGES}.zip"
    archive.write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError) as raised:
        read_celeba(celeba_folder)
    assert str(raised.value) == f"{archive} is not unpacked: unzip it there."
    for folder in ("Anno", "Eval"):
        shutil.rmtree(celeba_folder / folder)
    with pytest.raises(UserError, match=r"unpacked: unzip it there\.$") as raised:
        read_celeba(celeba_folder)
    assert "data get" not in str(raised.value)


@pytest.mark.parametrize("change", [as_in_the_official_drive, to_the_side], ids=["official drive", "images elsewhere"])
def test_a_missing_part_of_scattered_ones_is_not_left_to_the_command(
    celeba_folder: Path, change: Callable[[Path], Path]
) -> None:
    """It would download the images again, which do not lie where it unpacks them."""
    change(celeba_folder)
    next(celeba_folder.rglob(PARTITION)).unlink()
    with pytest.raises(UserError, match=f"missing is {PARTITION}. Put it into {celeba_folder}, from") as raised:
        read_celeba(celeba_folder)
    assert "data get" not in str(raised.value)


def test_web_pages_saved_as_data_are_all_named_with_the_usual_reason(celeba_folder: Path) -> None:
    (celeba_folder / ATTRIBUTES).write_text(PAGE)
    (celeba_folder / PARTITION).write_text("\n  " + PAGE.lower())
    with pytest.raises(UserError, match=rf"web page, usually 'quota exceeded'.*{ATTRIBUTES}, .*{PARTITION}") as raised:
        read_celeba(celeba_folder)
    assert IDENTITIES not in str(raised.value)


def test_a_web_page_saved_as_the_archive_is_refused_before_it_is_unpacked(celeba_folder: Path) -> None:
    (celeba_folder / IMAGES).rename(celeba_folder.parent / "elsewhere")
    (celeba_folder / f"{IMAGES}.zip").write_text(PAGE)
    with pytest.raises(UserError, match=rf"web page.*{IMAGES}\.zip"):
        read_celeba(celeba_folder)


def test_a_folder_without_any_listed_image_is_refused_and_one_image_is_enough(celeba_folder: Path) -> None:
    for path in (celeba_folder / IMAGES).glob("*.jpg"):
        if path.name != "000031.jpg":
            path.unlink()
    assert len(read_celeba(celeba_folder)) == 60
    (celeba_folder / IMAGES / "000031.jpg").rename(celeba_folder / IMAGES / "31.jpg")
    with pytest.raises(UserError, match=rf"{IMAGES} holds none of the first 60 images.*such as 000001\.jpg"):
        read_celeba(celeba_folder)


def test_rendered_faces_are_never_called_celeba(celeba_folder: Path) -> None:
    assert not read_celeba(celeba_folder).rendered

    def raised(lines: list[str]) -> list[str]:
        return [f"{line.split()[0]} {FIRST_IDENTITY + int(line.split()[1])}" for line in lines]

    edit(celeba_folder, IDENTITIES, raised)
    table = read_celeba(celeba_folder)
    assert (table.name, table.rendered) == ("rendered faces", True)


def test_attributes_of_0_and_1_are_those_of_minus_1_and_1(celeba_folder: Path) -> None:
    official = read_celeba(celeba_folder)
    edit(celeba_folder, ATTRIBUTES, lambda lines: [line.replace("-1", " 0") for line in lines])
    found = read_celeba(celeba_folder)
    assert all(np.array_equal(found.columns[task].codes, official.columns[task].codes) for task in official.columns)
    assert found.remarks == (f"{ATTRIBUTES} writes 0 for no, where the official file has -1.",)


@pytest.mark.parametrize("header", ["image identity", "path label", "img label\r"])
def test_a_header_before_the_identities_is_no_image(celeba_folder: Path, header: str) -> None:
    official = read_celeba(celeba_folder)
    edit(celeba_folder, IDENTITIES, lambda lines: [header, *lines])
    assert np.array_equal(read_celeba(celeba_folder).columns["identity"].codes, official.columns["identity"].codes)


def rewritten(root: Path, change: Callable[[list[list[str]]], list[list[str]]], join: str = ",") -> Path:
    """Turn the attributes into a CSV whose rows are changed."""
    to_csv(root)
    file = root / ATTRIBUTES.replace(".txt", ".csv")
    rows = list(csv.reader(file.read_text().splitlines()))
    file.write_text("".join(join.join(row) + "\n" for row in change(rows)))
    return root


def test_blanks_after_commas_and_a_column_of_row_numbers_are_no_part_of_a_csv(celeba_folder: Path) -> None:
    official = read_celeba(celeba_folder)
    rewritten(celeba_folder, lambda rows: rows, ", ")
    assert facts(read_celeba(celeba_folder))[1:] == facts(official)[1:]
    for name in ("", "Unnamed: 0"):
        file = celeba_folder / ATTRIBUTES.replace(".txt", ".csv")
        rows = [row[-41:] for row in csv.reader(file.read_text().splitlines(), skipinitialspace=True)]
        numbered = [[name, *rows[0]], *([str(n), *row] for n, row in enumerate(rows[1:]))]
        file.write_text("".join(",".join(row) + "\n" for row in numbered))
        found = read_celeba(celeba_folder)
        assert all(np.array_equal(found.columns[t].codes, official.columns[t].codes) for t in official.columns)


def test_a_partition_in_the_attributes_csv_stands_for_its_file(celeba_folder: Path) -> None:
    official = read_celeba(celeba_folder)
    sides = {row.split()[0]: row.split()[1] for row in (celeba_folder / PARTITION).read_text().splitlines()}
    rewritten(celeba_folder, lambda rows: [[*rows[0], "partition"], *([*row, sides[row[0]]] for row in rows[1:])])
    for name in (PARTITION, PARTITION.replace(".txt", ".csv")):
        (celeba_folder / name).unlink(missing_ok=True)
    found = read_celeba(celeba_folder)
    assert np.array_equal(found.split, official.split)
    own = "CelebA's own 162,770 / 19,867 / 19,962"
    assert found.split_rule == f"as in list_attr_celeba.csv, column partition, not {own}"
    assert "partition" not in found.columns


@pytest.mark.parametrize(
    ("rule", "sizes", "told"),
    [
        ("as in l.txt; sorted", (7, 2, 3), "as in l.txt, not CelebA's own 162,770 / 19,867 / 19,962; sorted"),
        ("as in l.txt", (162_770, 19_867, 19_962), "as in l.txt"),
        ("as in l.txt, not CelebA's own 162,770 / 19,867 / 19,962", (7, 2, 3), None),
        ("as in l.txt; the 12 of 202,599 listed images that are there", (7, 2, 3), None),
        ("as in l.txt; 12 images drawn at random", (7, 2, 3), None),
        ("by identity at random, 70/10/20, seed 0", (7, 2, 3), None),
    ],
)  # fmt: skip
def test_an_early_records_partition_is_told_from_celebas_own(rule: str, sizes: tuple[int, ...], told: str) -> None:
    assert told_apart(rule, sizes) == (told or rule)


def test_png_files_are_found_under_the_names_that_the_lists_give(celeba_folder: Path) -> None:
    for file in sorted((celeba_folder / IMAGES).iterdir())[:3]:
        file.rename(file.with_suffix(".png"))
    found = read_celeba(celeba_folder)
    assert all((celeba_folder / path).is_file() for path in found.paths)
    assert found.remarks == ("3 images have .png names, such as 000001.png for 000001.jpg.",)


def test_every_image_may_be_a_png_file(celeba_folder: Path) -> None:
    for file in (celeba_folder / IMAGES).iterdir():
        file.rename(file.with_suffix(".png"))
    for subset in (False, True):
        found = read_celeba(celeba_folder, subset=subset)
        assert len(found) == 60
        assert all((celeba_folder / path).is_file() for path in found.paths)


def test_a_part_of_the_images_will_do_where_one_says_so(celeba_folder: Path) -> None:
    official = read_celeba(celeba_folder)
    for file in sorted((celeba_folder / IMAGES).iterdir())[1::2]:
        file.unlink()
    assert len(read_celeba(celeba_folder)) == len(official)  # packing names what is missing
    found = read_celeba(celeba_folder, subset=True)
    assert found.paths == official.paths[::2]
    assert np.array_equal(found.columns["Smiling"].codes, official.columns["Smiling"].codes[::2])
    assert np.array_equal(found.split, official.split[::2])
    assert found.split_rule.endswith("; the 30 of 60 listed images that are there")


def test_a_part_may_begin_anywhere_in_the_lists(celeba_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlbench.datasets.celeba._LOOKED_AT", 5)
    for file in sorted((celeba_folder / IMAGES).iterdir())[:10]:
        file.unlink()
    assert len(read_celeba(celeba_folder, subset=True)) == 50
    with pytest.raises(UserError, match="holds none of the first 5 images"):
        read_celeba(celeba_folder)


def test_the_header_of_the_identity_csv_may_vary_and_cells_may_be_quoted(celeba_folder: Path) -> None:
    before = facts(read_celeba(celeba_folder))
    to_csv(celeba_folder)
    path = celeba_folder / "identity_CelebA.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    with path.open("w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["file", "person number"], *rows])
    assert facts(read_celeba(celeba_folder)) == before


def test_the_real_sample_is_read_whole_and_no_identity_is_on_two_sides(real_data: Path) -> None:
    table = read_celeba(real_data / "celeba-10k")
    assert len(table) == 10_000
    assert len(table.columns) == 41
    assert np.bincount(table.split) / 10_000 == pytest.approx([0.7, 0.1, 0.2], abs=0.02)
    identity = table.columns["identity"].codes
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(identity[table.split == one]) & set(identity[table.split == other])
    # the file read a second way, without pandas
    rows = [line.split() for line in (real_data / "celeba-10k" / ATTRIBUTES).read_text().splitlines()]
    for name in ("5_o_Clock_Shadow", "Smiling", "Young"):
        column = rows[1].index(name) + 1
        assert table.columns[name].codes.tolist() == [int(row[column] == "1") for row in rows[2:]]
