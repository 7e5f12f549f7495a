"""The CelebA reader: files that say something else are refused by name, with the line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support_celeba import ATTRIBUTES, IDENTITIES, PAGE, PARTITION, edit, to_csv, write_three

from mtlbench.data.check import suggested_benchmark
from mtlbench.datasets.celeba import read_celeba
from mtlbench.errors import UserError


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
    with pytest.raises(UserError, match=f"{name}: line 1 has 3 fields where 2 belong"):
        read_celeba(celeba_folder)


def test_attributes_cut_short_between_two_lines_are_refused(celeba_folder: Path) -> None:
    edit(celeba_folder, ATTRIBUTES, lambda lines: lines[:40])
    with pytest.raises(UserError, match=f"{ATTRIBUTES} is cut short.*'60' images and 38 follow"):
        read_celeba(celeba_folder)


def test_0_beside_minus_1_is_refused(celeba_folder: Path) -> None:
    edit(celeba_folder, ATTRIBUTES, lambda lines: [*lines[:2], lines[2].replace("-1", " 0"), *lines[3:]])
    with pytest.raises(UserError, match=f"{ATTRIBUTES}: line 3 says '0' for 000001.jpg where -1 or 1 belongs"):
        read_celeba(celeba_folder)


def test_a_split_of_another_number_is_refused(celeba_folder: Path) -> None:
    edit(celeba_folder, PARTITION, lambda lines: [lines[0][:-1] + "3", *lines[1:]])
    with pytest.raises(UserError, match=f"{PARTITION}: line 1 says '3' for 000001.jpg where 0 or 1 or 2 belongs"):
        read_celeba(celeba_folder)


@pytest.mark.parametrize("line", [3, 17, 62])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.rsplit(" ", 1)[0].rstrip(), "has 40 fields where 41 belong"),
        (lambda line: line + " 1", "has 42 fields where 41 belong"),
        (lambda line: line.split()[0], "has 1 field where 41 belong"),
        (lambda line: line.rsplit(" ", 1)[0] + " 2", "says '2' for .* where -1 or 1 belongs"),
        (lambda line: line.rsplit(" ", 1)[0] + " yes", "says 'yes' for .* where -1 or 1 belongs"),
        (lambda line: line.rsplit(" ", 1)[0] + " 1.5", "says '1.5' for .* where -1 or 1 belongs"),
    ],
    ids=["a field less", "a field more", "the name alone", "another number", "a word", "a fraction"],
)
@pytest.mark.parametrize("comma", [False, True], ids=["txt", "csv"])
def test_the_first_bad_line_is_named_by_its_number(
    celeba_folder: Path, line: int, change: Callable[[str], str], message: str, comma: bool
) -> None:
    edit(celeba_folder, ATTRIBUTES, lambda lines: [*lines[: line - 1], change(lines[line - 1]), *lines[line:]])
    name = ATTRIBUTES
    if comma:
        to_csv(celeba_folder)
        name, line = "list_attr_celeba.csv", line - 1  # one line of header instead of two
    with pytest.raises(UserError, match=rf"{name}: line {line} {message}"):
        read_celeba(celeba_folder)


def test_a_bad_line_after_blank_lines_has_the_number_an_editor_shows(celeba_folder: Path) -> None:
    edit(celeba_folder, IDENTITIES, lambda lines: [*lines[:4], "", "", lines[4] + " 5", *lines[5:]])
    with pytest.raises(UserError, match=f"{IDENTITIES}: line 7 has 3 fields where 2 belong"):
        read_celeba(celeba_folder)


def test_a_csv_without_its_header_is_refused_instead_of_losing_an_image(celeba_folder: Path) -> None:
    to_csv(celeba_folder)
    edit(celeba_folder, "list_eval_partition.csv", lambda lines: lines[1:])
    with pytest.raises(UserError, match=r"list_eval_partition\.csv has no line of header, such as image_id,partition"):
        read_celeba(celeba_folder)


def test_a_csv_with_a_column_too_many_is_refused(celeba_folder: Path) -> None:
    to_csv(celeba_folder)
    edit(celeba_folder, "list_eval_partition.csv", lambda lines: [f"{line},1" for line in lines])
    with pytest.raises(UserError, match=r"list_eval_partition\.csv has 3 columns"):
        read_celeba(celeba_folder)


def test_a_file_that_is_no_text_is_refused(celeba_folder: Path) -> None:
    (celeba_folder / ATTRIBUTES).write_bytes(b"\xff\xfe\x00\x01PK\x03\x04" * 50)
    with pytest.raises(UserError, match=ATTRIBUTES):
        read_celeba(celeba_folder)


def test_celebamask_hq_is_refused_with_what_makes_a_table_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("Smiling", "Young")
    folder = tmp_path / "hq"
    (folder / "CelebA-HQ-img").mkdir(parents=True)
    lines = []
    for n in range(20):
        (folder / "CelebA-HQ-img" / f"{n}.jpg").write_bytes(b"")
        lines.append(f"{n}.jpg  {2 * (n % 2) - 1} {2 * (n // 2 % 2) - 1}\n")
    (folder / "CelebAMask-HQ-attribute-anno.txt").write_text(f"20\n{' '.join(names)}\n" + "".join(lines))
    with pytest.raises(UserError, match="holds CelebAMask-HQ") as refused:
        suggested_benchmark(folder)
    monkeypatch.chdir(folder)
    exec(str(refused.value).partition("with Python: ")[2])
    assert (folder / "labels.csv").read_text().splitlines()[:2] == ["path,Smiling,Young", "CelebA-HQ-img/0.jpg,-1,-1"]
    what, _, _ = suggested_benchmark(folder)
    assert what == "a table of images, labels.csv"
