"""Query and gallery sets: from columns, from splits and from folders, and what says how large they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support_own_images import options, write

from mtlbench.benchmark import Benchmark, Data
from mtlbench.data.dataset import prepare
from mtlbench.data.reading import read_table
from mtlbench.data.table import Table
from mtlbench.datasets.csv_files import read_csv
from mtlbench.datasets.folders import read_folders
from mtlbench.errors import UserError

HEAD = ["path", "who", "split", "is_query", "is_gallery"]
TRAIN = [[f"t{i}.png", "ab"[i % 2], "train", "", ""] for i in range(48)]
TEST = [
    ["q0.png", "x", "test", "True", "False"],
    ["q1.png", "y", "test", "1", "0"],
    ["g0.png", "x", "test", "no", "yes"],
    ["g1.png", "y", "test", "", "1.0"],
    ["b0.png", "x", "test", "true", "true"],
]


def draw(root: Path, table: Table) -> None:
    for i, path in enumerate(table.paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (5 * i % 256, i, 90)).save(root / path)


def test_columns_say_which_images_are_queries_and_which_gallery(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, HEAD, *TRAIN, *TEST), options())
    assert list(table.columns) == ["who"]
    assert table.roles is not None
    assert np.flatnonzero(table.roles.query).tolist() == [48, 49, 52]
    assert np.flatnonzero(table.roles.gallery).tolist() == [50, 51, 52]
    assert str(table.roles) == "3 queries against 3 gallery images, 1 of them both"
    assert table.trainable("who") is None


def test_what_columns_can_not_mean_is_refused_and_what_plays_no_part_is_said(tmp_path: Path) -> None:
    def refusal(*rows: list[str]) -> str:
        with pytest.raises(UserError) as refused:
            read_csv(write(tmp_path, *rows), options())
        return str(refused.value)

    assert "has a column 'is_query' and none 'is_gallery'" in refusal(*[row[:4] for row in [HEAD, *TRAIN, *TEST]])
    odd = [*TEST[:-1], ["b0.png", "x", "test", "maybe", "true"]]
    assert "the column 'is_query' says 'maybe' where true or false belongs" in refusal(HEAD, *TRAIN, *odd)
    none = [[*row[:3], "0", "1"] for row in TEST]
    assert "no test image is marked by 'is_query'" in refusal(HEAD, *TRAIN, *none)
    marked = [[*row[:3], "0", "1"] for row in TRAIN[:2]] + TRAIN[2:]
    idle = [*TEST, ["n.png", "x", "test", "", ""]]
    table = read_csv(write(tmp_path, HEAD, *marked, *idle), options())
    assert table.remarks == (
        "2 training images are marked as query or gallery: trained on, not searched.",
        "1 test image is neither query nor gallery, and not used.",
    )
    assert table.roles is not None
    assert not table.roles.gallery[:48].any()


def test_splits_that_are_called_query_and_gallery_are_the_sets(tmp_path: Path) -> None:
    rows = [[path, who, {"t": "train", "q": "query", "g": "gallery"}[path[0]]] for path, who, *_ in (TRAIN + TEST[:4])]
    table = read_csv(write(tmp_path, HEAD[:3], *rows), options())
    assert table.roles is not None
    assert str(table.roles) == "2 queries against 2 gallery images"
    alone = [[*row[:2], row[2].replace("gallery", "test")] for row in rows]
    assert read_csv(write(tmp_path, HEAD[:3], *alone), options()).roles is None


def test_folders_that_are_called_so_are_the_sets_and_a_test_folder_beside_them_is_refused(tmp_path: Path) -> None:
    for side, count in (("train", 8), ("query", 2), ("gallery", 3)):
        for who in ("ann", "bob"):
            (tmp_path / side / who).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8)).save(tmp_path / side / who / f"{i}.png")
    table = read_folders(tmp_path, options("folders", levels=["who"]))
    assert table.roles is not None
    assert str(table.roles) == "4 queries against 6 gallery images"
    assert {path.split("/")[0] for path, q in zip(table.paths, table.roles.query, strict=True) if q} == {"query"}
    (tmp_path / "gallery").rename(tmp_path / "test")
    assert read_folders(tmp_path, options("folders", levels=["who"])).roles is None  # as before: one test set
    (tmp_path / "test" / "ann").rename(tmp_path / "ann")
    (tmp_path / "gallery").mkdir()
    (tmp_path / "ann").rename(tmp_path / "gallery" / "ann")
    with pytest.raises(UserError, match="'test' is a test set beside query and gallery"):
        read_folders(tmp_path, options("folders", levels=["who"]))


def test_market_1501_is_searched_as_its_folders_say(tmp_path: Path) -> None:
    for side, people in (
        ("bounding_box_train", range(1, 25)),
        ("query", range(30, 33)),
        ("bounding_box_test", range(30, 33)),
    ):
        (tmp_path / side).mkdir()
        for who in people:
            for camera in (1, 2, 3):
                Image.new("RGB", (8, 8)).save(tmp_path / side / f"{who:04d}_c{camera}s1_000151_0{camera}.png")
    for junk in ("-1_c1s1_000401_03.png", "0000_c1s1_000151_01.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "bounding_box_test" / junk)
    pattern = r"^(bounding_box_train|bounding_box_test|query)/(?P<identity>-?\d+)_c(?P<camera>\d+)"
    chosen = {"pattern": pattern, "group": "identity"}
    data = Data(reader="names", folder=str(tmp_path), options=chosen, missing=["-1", "0000"])
    table = read_table(data, None)
    assert table.roles is not None
    assert str(table.roles) == "9 queries against 11 gallery images"
    assert any("Published figures leave out a query's own person by its own camera" in said for said in table.remarks)
    assert table.trainable("identity") is None
    assert table.apart is None
    known = read_table(data.model_copy(update={"camera": "Camera", "missing": ["-1"]}), None)
    assert any("0000 counts as wrong, as published" in said for said in known.remarks)
    assert known.apart is not None
    by_code: dict[int, set[str]] = {}
    for path, code in zip(known.paths, known.apart.tolist(), strict=True):
        by_code.setdefault(code, set()).add(path.split("/")[1][:7])
    assert by_code.pop(-1) == {"-1_c1s1"}  # of no person
    assert all(len(names) == 1 for names in by_code.values())  # one person by one camera
    assert len(by_code) == 24 * 3 + 3 * 3 + 1
    part = known.subset(np.array([0, 5, 9]))
    assert part.apart is not None
    assert part.apart.tolist() == known.apart[[0, 5, 9]].tolist()


def test_cameras_need_groups_and_a_column_that_is_there(tmp_path: Path) -> None:
    head, rows = ["path", "who", "cam", "split"], [[*row[:2], "1", row[2]] for row in TRAIN + TEST]
    root = write(tmp_path, head, *rows)
    data = Data(reader="csv", folder=str(root), camera="cam")
    with pytest.raises(UserError, match=r"data\.camera = 'cam' needs groups, such as persons"):
        read_table(data, None)
    with pytest.raises(UserError, match=r"has no task 'came'\. Did you mean: cam\?"):
        read_table(data.model_copy(update={"camera": "came"}), None)


def test_the_rule_is_in_the_receipt_and_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    head = ["path", "who", "pid", "cam", *HEAD[2:]]
    rows = [[*row[:2], f"p{i // 4}", "12"[i % 2], *row[2:]] for i, row in enumerate(TRAIN + TEST)]
    root = write(tmp_path / "mine", head, *rows)
    draw(root, read_csv(root, options()))
    data = {"reader": "csv", "folder": str(root), "image_size": 8, "csv": {"group": "pid"}, "tasks": ["who"]}
    plain, told_plain = prepare(Benchmark(name="mine", data=data), None, None, torch.device("cpu"))
    known, told = prepare(Benchmark(name="mine", data=data | {"camera": "cam"}), None, None, torch.device("cpu"))
    assert plain.apart is None
    assert "camera" not in plain.facts
    assert known.facts["camera"] == "cam"
    said = "Another image of the same pid is left out of a query's gallery where its cam is the query's too."
    assert said in told
    assert said not in told_plain
    assert known.facts["fingerprint"] != plain.facts["fingerprint"]
    assert known.apart is not None
    assert len(known.apart) == 53


def test_a_task_whose_queries_have_nothing_to_find_is_no_task(tmp_path: Path) -> None:
    test = [[f"q{i}.png", "x", "query"] for i in range(2)] + [[f"g{i}.png", "y", "gallery"] for i in range(2)]
    train = [row[:3] for row in TRAIN]
    table = read_csv(write(tmp_path, HEAD[:3], *train, *test), options())
    assert table.trainable("who") == "has no test query with a gallery image of its value and one of another"


def test_the_receipt_has_the_sizes_and_the_sets_are_part_of_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))
    root = write(tmp_path / "mine", HEAD, *TRAIN, *TEST)
    draw(root, read_csv(root, options()))
    benchmark = Benchmark(name="mine", data=Data(reader="csv", folder=str(root), image_size=8))
    dataset, _ = prepare(benchmark, None, None, torch.device("cpu"))
    assert (dataset.facts["test_queries"], dataset.facts["test_gallery"]) == (3, 3)
    assert dataset.query is not None
    assert dataset.query.nonzero().flatten().tolist() == [48, 49, 52]
    swapped = [[*row[:3], row[4], row[3]] for row in TEST]
    write(root, HEAD, *TRAIN, *swapped)
    other, _ = prepare(benchmark, None, None, torch.device("cpu"))
    assert other.facts["fingerprint"] != dataset.facts["fingerprint"]
    write(root, HEAD[:3], *[row[:3] for row in TRAIN + TEST])
    plain, _ = prepare(benchmark, None, None, torch.device("cpu"))
    assert "test_queries" not in plain.facts
    assert plain.query is None


def test_a_part_of_a_table_keeps_its_roles(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, HEAD, *TRAIN, *TEST), options())
    part = table.subset(np.array([0, 49, 50, 52]))
    assert part.roles is not None
    assert part.roles.query.tolist() == [False, True, False, True]
    assert part.roles.gallery.tolist() == [False, False, True, True]
