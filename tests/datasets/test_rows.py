"""Tables of one's own images that others' tools write: JSON lines, a table in each split's folder, Label Studio's."""

from __future__ import annotations

import csv
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support_own_images import COLOURS, SIDES, TEN, facts, names, options, ten, write

from mtlbench.benchmark import Data
from mtlbench.data.check import suggested_benchmark
from mtlbench.data.table import Table, remarks_on_words
from mtlbench.datasets.contract import build_reader, read_with
from mtlbench.datasets.csv_files import read_csv
from mtlbench.errors import UserError


def lines(file: Path, *rows: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file.parent


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def suggested(root: Path) -> tuple[dict[str, Any], Table]:
    """Return the [data] that is suggested for a folder, and what it reads."""
    section = tomllib.loads(suggested_benchmark(root)[2])["data"]
    data = Data.model_validate(section)
    return section, read_with(build_reader(data), root, data)


JSONL = {"csv": {"file": "metadata.jsonl", "path": "file_name"}}


def test_json_lines_are_the_same_table_as_a_csv(tmp_path: Path) -> None:
    rows = zip(TEN, COLOURS, SIDES, strict=True)
    lines(tmp_path / "a/metadata.jsonl", *({"file_name": p, "colour": c or None, "split": s} for p, c, s in rows))
    ten(tmp_path / "b", colour=COLOURS, split=SIDES)
    assert facts(read_csv(tmp_path / "a", options(**JSONL))) == facts(read_csv(tmp_path / "b", options()))


def test_values_of_json_are_cells_of_text(tmp_path: Path) -> None:
    values = ["a", 1, 1.5, True, None, ["b", "a"], [], ["c"], "", "d"]
    cells = [
        {"file_name": p, "kind": v} if p != "9.jpg" else {"file_name": p} for p, v in zip(TEN, values, strict=True)
    ]
    lines(tmp_path / "metadata.jsonl", *cells)
    wanted = ["a", "1", "1.5", "true", None, "a;b", None, "c", None, None]
    table = read_csv(tmp_path, options(**JSONL))
    assert names(table.columns["kind"]) == wanted
    assert table.remarks == ("1 cell of kind holds several values: each combination is a value of its own.",)
    parted = read_csv(tmp_path, options(**JSONL, separator="|", multi_valued="first"))
    assert names(parted.columns["kind"]) == [*wanted[:5], "b", *wanted[6:]]


def test_objects_are_no_labels_and_said_to_be_left_out(tmp_path: Path) -> None:
    boxes = {"bbox": [[1, 2, 3, 4]], "id": [7]}
    lines(tmp_path / "metadata.jsonl", *({"file_name": p, "objects": boxes, "boxes": [[1]], "kind": "x"} for p in TEN))
    table = read_csv(tmp_path, options(**JSONL))
    assert list(table.columns) == ["kind"]
    assert table.remarks == tuple(
        f"metadata.jsonl: '{name}' holds objects or lists of lists, which are no labels: left out."
        for name in ("objects", "boxes")
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"file_name": "a.jpg"}\n{"file_name": ', r"line 2 can't be read as JSON"),
        ('\n["a.jpg"]', r"line 2 is not a JSON object"),
        ('{"file_name": "a.jpg", "k": 1, "k": 2}', r"line 1 can't be read as JSON: it has 'k' twice"),
        ("[" * 100_000, r"line 1 can't be read as JSON"),
        ('{"file_name": "a.jpg", "k": "\\ud800"}', r"line 1 holds half of a character"),
        ('{"file_name": "a.jpg", "k": ' + "9" * 5000 + "}", r"line 1 can't be read as JSON"),
        ("\n \n", r"lists no image: it needs a line for each image"),
        ('{"image": "a.jpg", "k": "x"}', r"has no column 'file_name'"),
    ],
)
def test_malformed_json_lines_are_refused_by_their_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(UserError, match=rf"metadata\.jsonl:? {words}"):
        read_csv(tmp_path, options(**JSONL))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_in_each_splits_folder_is_suggested_and_read(tmp_path: Path, ending: str) -> None:
    sides = {"train": range(6), "validation": (6, 7), "test": (8, 9)}
    for split, numbers in sides.items():
        touch(tmp_path, *(f"{split}/{TEN[n]}" for n in numbers))
        rows = [[TEN[n], COLOURS[n] or "red"] for n in numbers]
        if ending == "csv":
            write(tmp_path / split, ["file_name", "colour"], *rows, name="metadata.csv")
        else:
            lines(tmp_path / split / "metadata.jsonl", *({"file_name": p, "colour": c} for p, c in rows))
    section, table = suggested(tmp_path)
    assert section["csv"]["files"] == {
        "train": f"train/metadata.{ending}", "val": f"validation/metadata.{ending}", "test": f"test/metadata.{ending}",
    }  # fmt: skip
    assert table.paths == tuple(f"{split}/{TEN[n]}" for split, numbers in sides.items() for n in numbers)
    assert table.split.tolist() == [0] * 6 + [1] * 2 + [2] * 2
    assert list(table.columns) == ["colour"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_table_at_the_root_keeps_the_split_that_its_paths_name(tmp_path: Path, ending: str) -> None:
    paths = [f"{side}/{path}" for side, path in zip(SIDES, TEN, strict=True)]
    touch(tmp_path, *paths)
    if ending == "csv":
        write(tmp_path, ["file_name", "colour"], *map(list, zip(paths, COLOURS, strict=True)), name="metadata.csv")
    else:
        rows = ({"file_name": p, "colour": c} for p, c in zip(paths, COLOURS, strict=True))
        lines(tmp_path / "metadata.jsonl", *rows)
    section, table = suggested(tmp_path)
    assert section["csv"] == {"file": f"metadata.{ending}", "path": "file_name"}
    assert table.split.tolist() == [0] * 6 + [1] * 2 + [2] * 2
    assert table.split_rule == f"as in the paths of metadata.{ending}"
    drawn = read_csv(tmp_path, options(csv={**section["csv"], "split": ""}))
    assert drawn.split_rule == "by image at random, 70/10/20, seed 0"


def test_paths_of_which_only_some_name_a_split_are_split_at_random(tmp_path: Path) -> None:
    ten(tmp_path, path=["train/0.jpg", *TEN[1:]], colour=COLOURS)
    assert read_csv(tmp_path, options()).split_rule.startswith("by image at random")


def test_paths_beside_those_of_the_splits_are_refused_with_the_remedy(tmp_path: Path) -> None:
    sides = ("train", "train", "train", "train", "val", "val", "test", "test", "extra", "extra")
    ten(tmp_path, path=[f"{side}/{path}" for side, path in zip(sides, TEN, strict=True)], colour=COLOURS)
    said = r"images of test, train, val are in splits, and those of extra in none: .*set data\.csv\.split = ''"
    with pytest.raises(UserError, match=said):
        read_csv(tmp_path, options())
    assert read_csv(tmp_path, options(csv={"split": ""})).split_rule.startswith("by image at random")


def test_paths_that_name_one_split_alone_are_refused_with_the_remedy(tmp_path: Path) -> None:
    ten(tmp_path, path=[f"train/{path}" for path in TEN], colour=COLOURS)
    with pytest.raises(UserError, match=r"no image is in the split val or test: .*set data\.csv\.split = ''"):
        read_csv(tmp_path, options())


def test_a_table_whose_paths_lack_their_ending_is_suggested(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/{n}.png" for n in range(10)))
    write(
        tmp_path, ["colour", "id"], *[[COLOURS[n], f"images/{n}"] for n in range(10)], name="list.tsv", delimiter="\t"
    )
    section, table = suggested(tmp_path)
    assert section["csv"] == {"file": "list.tsv", "path": "id"}
    assert table.paths == tuple(f"images/{n}.png" for n in range(10))


def test_label_studios_addresses_are_found_in_its_media_and_among_the_originals(tmp_path: Path) -> None:
    touch(tmp_path, "upload/1/0a1b2c3d-0.jpg", "0a1b2c3d-1.jpg", "photos/2.jpg", "photos/3 b.jpg", "5 c.jpg", *TEN[4:])
    given = ["/data/upload/1/0a1b2c3d-0.jpg", "/data/upload/1/0a1b2c3d-1.jpg", "/data/upload/1/0a1b2c3d-2.jpg"]
    more = ["/data/local-files/?d=photos/3%20b.jpg", "4.jpg", "/data/upload/1/0a1b2c3d-5%20c.jpg", *TEN[6:]]
    ten(tmp_path, path=[*given, *more], colour=COLOURS, split=SIDES)
    table = read_csv(tmp_path, options())
    assert table.paths[5] == "5 c.jpg"
    assert table.paths[:4] == ("upload/1/0a1b2c3d-0.jpg", "0a1b2c3d-1.jpg", "photos/2.jpg", "photos/3 b.jpg")
    assert table.remarks == (
        "3 images have another path than in the table, such as 0a1b2c3d-1.jpg for upload/1/0a1b2c3d-1.jpg.",
    )


def test_label_studios_image_that_two_files_could_be_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.jpg", "b/0.jpg", *TEN[1:])
    ten(tmp_path, path=["/data/upload/1/0a1b2c3d-0.jpg", *TEN[1:]], colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path, options()).paths[0] == "upload/1/0a1b2c3d-0.jpg"


def test_label_studios_several_choices_are_remarked_on(tmp_path: Path) -> None:
    cells = ['{"choices":["red","blue"]}', *COLOURS[1:]]
    ten(tmp_path, colour=cells, split=SIDES)
    said = remarks_on_words(read_csv(tmp_path, options()), ["colour"])
    assert any("is JSON written as text" in remark for remark in said)


# --- where a table's paths are meant from -----------------------------------------------------------------------------


def test_a_table_in_a_folder_of_its_own_names_images_from_there_or_from_the_root(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/{path}" for path in TEN))
    for paths in ([f"../images/{path}" for path in TEN], [f"images/{path}" for path in TEN]):
        ten(tmp_path / "lists", path=paths, colour=COLOURS, split=SIDES)
        section, table = suggested(tmp_path)
        assert section["csv"] == {"file": "lists/labels.csv", "path": "path"}
        assert table.paths == tuple(f"images/{path}" for path in TEN)
        assert table.remarks == ()


def test_a_table_below_that_names_no_image_there_is_not_suggested(tmp_path: Path) -> None:
    touch(tmp_path, *(f"kind{n % 2}/{path}" for n, path in enumerate(TEN)))
    write(tmp_path / "old", ["path", "colour"], ["gone.jpg", "red"])
    section, _ = suggested(tmp_path)
    assert section["reader"] == "folders"


def test_paths_that_are_all_meant_from_one_folder_inside_are_found_there(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/{path}" for path in TEN), "thumbnails/0.jpg", "thumbnails/1.jpg")
    ten(tmp_path, colour=COLOURS, split=SIDES)
    table = read_csv(tmp_path, options())
    assert table.paths == tuple(f"images/{path}" for path in TEN)
    assert table.remarks == ("10 images have another path than in the table, such as images/0.jpg for 0.jpg.",)
    touch(tmp_path, *(f"thumbnails/{path}" for path in TEN))
    assert read_csv(tmp_path, options()).paths == tuple(TEN), "two folders hold them all: neither is meant"


def test_one_lost_image_is_not_taken_from_another_folder(tmp_path: Path) -> None:
    touch(tmp_path, *TEN[1:], "backup/0.jpg")
    ten(tmp_path, colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path, options()).paths == tuple(TEN)


def test_addresses_of_files_are_paths(tmp_path: Path) -> None:
    touch(tmp_path, "0 a.jpg", *TEN[1:])
    root = f"file://{tmp_path.resolve().as_posix()}"
    ten(tmp_path, path=[f"{root}/0%20a.jpg", *(f"{root}/{path}" for path in TEN[1:])], colour=COLOURS, split=SIDES)
    assert read_csv(tmp_path, options()).paths == ("0 a.jpg", *TEN[1:])


# --- tables that are not what they look like --------------------------------------------------------------------------


def test_a_table_without_a_header_loses_no_image(tmp_path: Path) -> None:
    touch(tmp_path, *TEN)
    write(tmp_path, *[[path, colour] for path, colour in zip(TEN, COLOURS, strict=True)])
    for section in ({"path": "0.jpg"}, {}):
        with pytest.raises(UserError, match=r"has no header: its first line, 0\.jpg, red, .* such as path,label"):
            read_csv(tmp_path, options(csv=section))


@pytest.mark.parametrize("name", ["partition", "Subset", "set"])
def test_a_column_of_0_1_2_that_is_called_a_split_is_suggested_as_one_and_never_a_task(
    tmp_path: Path, name: str
) -> None:
    touch(tmp_path, *TEN)
    ten(tmp_path, colour=COLOURS, **{name: list("0000001122")})
    section, table = suggested(tmp_path)
    assert section["csv"]["split"] == name
    assert table.split.tolist() == [0] * 6 + [1] * 2 + [2] * 2
    with pytest.raises(UserError, match=f"the column '{name}' looks like the split"):
        read_csv(tmp_path, options())
    assert name in read_csv(tmp_path, options(csv={"split": ""})).columns


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.xlsx", b"PK", "is a spreadsheet, which is not read: save it as CSV, in Excel as"),
        ("labels.json", b"[]", "is one JSON text, which is not read: make JSON lines of it"),
        ("labels.txt", b"0.jpg red", "is plain text, which is not read: write it as CSV"),
        ("labels.csv", "path,colour\n".encode("utf-16"), "is not UTF-8 text .*: save it as UTF-8"),
        ("labels.csv", b"path|colour\n0.jpg|red\n", "no column of its first row names an image"),
    ],
)
def test_a_table_that_is_not_read_is_named_with_the_remedy(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    touch(tmp_path, *TEN, name)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"holds no data set known here.*{said}"):
        suggested_benchmark(tmp_path)
    if name.endswith(".csv"):
        return
    with pytest.raises(UserError, match=said):
        read_csv(tmp_path, options(csv={"file": name}))


def test_a_cell_of_any_length_is_read(tmp_path: Path) -> None:
    """Masks as text are longer than Python's reader of CSV takes by itself, whose limit is the whole process's."""
    before = csv.field_size_limit()
    ten(tmp_path, colour=COLOURS, mask=["1 " * 100_000, *["2 3"] * 9])
    assert list(read_csv(tmp_path, options()).columns) == ["colour", "mask"]
    assert suggested_benchmark(tmp_path)
    assert csv.field_size_limit() == before == 131_072


def test_a_parquet_table_is_left_to_the_reader_that_reads_it(tmp_path: Path) -> None:
    touch(tmp_path, *TEN)
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        UserError, match=r"read_parquet\('labels\.parquet'\).*; if the images are in it, write reader = 'hub'"
    ):
        read_csv(tmp_path, options(csv={"file": "labels.parquet"}))
    assert suggested_benchmark(tmp_path)[0] == "a Hugging Face data set, parquet files"
