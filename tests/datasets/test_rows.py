"""Tables of one's own images that others' tools write: JSON lines, a table in each split's folder, Label Studio's."""

from __future__ import annotations

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
        ('\n["a.jpg"]', r"line 2 is no JSON object"),
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
    touch(tmp_path, "upload/1/0a1b2c3d-0.jpg", "0a1b2c3d-1.jpg", "photos/2.jpg", "photos/3 b.jpg", *TEN[4:])
    given = ["/data/upload/1/0a1b2c3d-0.jpg", "/data/upload/1/0a1b2c3d-1.jpg", "/data/upload/1/0a1b2c3d-2.jpg"]
    ten(tmp_path, path=[*given, "/data/local-files/?d=photos/3%20b.jpg", *TEN[4:]], colour=COLOURS, split=SIDES)
    table = read_csv(tmp_path, options())
    assert table.paths[:4] == ("upload/1/0a1b2c3d-0.jpg", "0a1b2c3d-1.jpg", "photos/2.jpg", "photos/3 b.jpg")
    assert table.remarks == (
        "2 images have another path than in the table, such as 0a1b2c3d-1.jpg for upload/1/0a1b2c3d-1.jpg.",
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
