"""The CelebA reader: what the official files say, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtlbench.data.celeba import read_celeba
from mtlbench.data.table import Table
from mtlbench.errors import UserError

ATTRIBUTES, IDENTITIES, PARTITION = "list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt"
PAGE = (
    "<!DOCTYPE html>\n<html>\n<head><title>Google Drive - Quota exceeded</title></head>\n"
    "<body><p>Sorry, you can't view or download this file at this time.</p></body>\n</html>\n"
)


def edit(root: Path, name: str, change: Callable[[list[str]], list[str]]) -> None:
    """Rewrite a file by its lines."""
    lines = (root / name).read_text().splitlines()
    (root / name).write_text("\n".join(change(lines)) + "\n")


def write_three(root: Path, attributes: str | None = None) -> Path:
    """CelebA's layout with two attributes and three images, written out by hand; the pictures are not read."""
    (root / "img_align_celeba").mkdir(parents=True)
    by_hand = "3\nBald Oval_Face \n000007.jpg -1  1\n000002.jpg  1 -1\n000009.jpg  1  1\n"
    (root / ATTRIBUTES).write_text(by_hand if attributes is None else attributes)
    (root / IDENTITIES).write_text("000002.jpg 9\n000007.jpg 10\n000009.jpg 9\n")
    (root / PARTITION).write_text("000002.jpg 2\n000007.jpg 0\n000009.jpg 1\n")
    return root


def facts(table: Table) -> tuple[object, ...]:
    """All that a reader says of the images, to be compared."""
    columns = {t: (c.codes.tolist(), c.values, c.ordered) for t, c in table.columns.items()}
    return table.paths, columns, table.split.tolist()


def test_labels_identities_and_splits_belong_to_the_image_that_the_files_name(tmp_path: Path) -> None:
    table = read_celeba(write_three(tmp_path / "celeba"))
    assert table.paths == tuple(f"img_align_celeba/{n}.jpg" for n in ("000007", "000002", "000009"))
    assert list(table.columns) == ["Bald", "Oval_Face", "identity"]
    assert table.columns["Bald"].codes.tolist() == [0, 1, 1]
    assert table.columns["Oval_Face"].codes.tolist() == [1, 0, 1]
    assert table.columns["Bald"].values == ("no", "yes")
    assert table.columns["identity"].values == ("9", "10")  # in the order of numbers, not of words
    assert table.columns["identity"].codes.tolist() == [1, 0, 0]
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
    assert facts(read_celeba(celeba_folder)) == before


@pytest.mark.parametrize("name", ["img_align_celeba", ATTRIBUTES, IDENTITIES, PARTITION])
def test_a_missing_part_is_named_with_all_that_belongs_there(celeba_folder: Path, name: str) -> None:
    (celeba_folder / name).rename(celeba_folder / "elsewhere")
    with pytest.raises(UserError, match=rf"is not CelebA: {name} is missing.*--data-dir"):
        read_celeba(celeba_folder)


def lose_field(lines: list[str]) -> list[str]:
    return [*lines[:5], lines[5].rsplit(" ", 1)[0], *lines[6:]]


def gain_field(lines: list[str]) -> list[str]:
    return [*lines[:5], lines[5] + " 1", *lines[6:]]


def say_word(lines: list[str]) -> list[str]:
    return [*lines[:5], lines[5].rsplit(" ", 1)[0] + " yes", *lines[6:]]


def name_twice(lines: list[str]) -> list[str]:
    return [*lines[:6], lines[5], *lines[7:]]


def page(lines: list[str]) -> list[str]:
    return PAGE.splitlines()


def page_on_one_line(lines: list[str]) -> list[str]:
    return [PAGE.replace("\n", "")]


def nothing(lines: list[str]) -> list[str]:
    return []


@pytest.mark.parametrize("change", [lose_field, gain_field, say_word, name_twice, page, page_on_one_line, nothing])
@pytest.mark.parametrize("name", [ATTRIBUTES, IDENTITIES, PARTITION])
def test_a_malformed_file_is_refused_by_its_name(
    celeba_folder: Path, name: str, change: Callable[[list[str]], list[str]]
) -> None:
    edit(celeba_folder, name, change)
    with pytest.raises(UserError, match=name):
        read_celeba(celeba_folder)


def test_an_image_named_twice_is_itself_named(celeba_folder: Path) -> None:
    edit(celeba_folder, PARTITION, name_twice)
    with pytest.raises(UserError, match=r"lists 000006\.jpg twice"):
        read_celeba(celeba_folder)


@pytest.mark.parametrize("name", [IDENTITIES, PARTITION])
def test_an_image_without_a_line_in_another_file_is_named(celeba_folder: Path, name: str) -> None:
    edit(celeba_folder, name, lambda lines: [*lines[:10], *lines[12:]])
    with pytest.raises(UserError, match=rf"{name} has no line for 000011\.jpg \(2 images"):
        read_celeba(celeba_folder)


@pytest.mark.parametrize(
    "attributes",
    [
        "3\nBald\n000007.jpg -1  1\n000002.jpg  1 -1\n000009.jpg  1  1\n",  # one name lost from the header
        "3\nBald Oval_Face Young\n000007.jpg -1  1\n000002.jpg  1 -1\n000009.jpg  1  1\n",
        "3\nBald Bald\n000007.jpg -1  1\n000002.jpg  1 -1\n000009.jpg  1  1\n",
        "000007.jpg -1  1\n000002.jpg  1 -1\n000009.jpg  1  1\n",
        "Bald Oval_Face\n000007.jpg -1  1\n000002.jpg  1 -1\n000009.jpg  1  1\n",
    ],
    ids=["too few names", "too many names", "a name twice", "no header", "no number of images"],
)
def test_a_header_that_does_not_fit_the_columns_never_shifts_the_labels(tmp_path: Path, attributes: str) -> None:
    with pytest.raises(UserError, match=ATTRIBUTES):
        read_celeba(write_three(tmp_path / "celeba", attributes))


@pytest.mark.parametrize("name", [IDENTITIES, PARTITION])
def test_a_column_too_many_on_every_line_is_refused(celeba_folder: Path, name: str) -> None:
    edit(celeba_folder, name, lambda lines: [line + " 1" for line in lines])
    with pytest.raises(UserError, match=f"{name}.*3 fields"):
        read_celeba(celeba_folder)


def test_attributes_cut_short_between_two_lines_are_refused(celeba_folder: Path) -> None:
    edit(celeba_folder, ATTRIBUTES, lambda lines: lines[:40])
    with pytest.raises(UserError, match=f"{ATTRIBUTES} is cut short.*'60' images and 38 follow"):
        read_celeba(celeba_folder)


def test_an_attribute_other_than_plus_and_minus_one_is_refused(celeba_folder: Path) -> None:
    edit(celeba_folder, ATTRIBUTES, lambda lines: [line.replace("-1", " 0") for line in lines])
    with pytest.raises(UserError, match=f"{ATTRIBUTES} holds values other than -1 and 1"):
        read_celeba(celeba_folder)


def test_a_split_of_another_number_is_refused(celeba_folder: Path) -> None:
    edit(celeba_folder, PARTITION, lambda lines: [lines[0][:-1] + "3", *lines[1:]])
    with pytest.raises(UserError, match=f"{PARTITION} holds splits other than 0, 1 and 2"):
        read_celeba(celeba_folder)


def test_a_file_that_is_no_text_is_refused(celeba_folder: Path) -> None:
    (celeba_folder / ATTRIBUTES).write_bytes(b"\xff\xfe\x00\x01PK\x03\x04" * 50)
    with pytest.raises(UserError, match=ATTRIBUTES):
        read_celeba(celeba_folder)


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
