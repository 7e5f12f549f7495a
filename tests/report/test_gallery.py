"""Galleries: neighbours as the evaluation orders them, the choice of queries, images that are absent, the picture."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from mtlbench.cli import app
from mtlbench.errors import UserError
from mtlbench.report import gallery, sheet
from mtlbench.report.gallery import DISAGREE, HARDEST, TYPICAL, Galleries, NoImages, galleries
from mtlbench.report.suites import Suite, suites
from mtlbench.runs import find_records
from tests.support import leave_runs

METHODS = ("shared", "single", "independent")
SHORT = ("data.image_size=24", "model.embedding=8", "evaluation.triplets=40", "data.tasks=['category','closure']")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, write_zappos: Callable[..., Path]) -> tuple[Path, Path]:
    """Results of three methods, and the folder of their 200 images, 40 of them for testing."""
    root = tmp_path_factory.mktemp("gallery")
    folder = write_zappos(root / "zappos", images=200)
    leave_runs(root / "results", "zappos", folder, SHORT, *METHODS)
    return root / "results", folder


def only(results: Path) -> Suite:
    (suite,) = suites(find_records(results))
    return suite


def everything(made: tuple[Path, Path]) -> Galleries:
    """Galleries that ask for every image that can be asked for."""
    return galleries(only(made[0]), *made, queries_per_task=10_000)


def test_the_first_neighbours_of_all_queries_give_the_precision_of_the_record(made):
    found = everything(made)
    assert found.methods == tuple(sorted(METHODS, key=lambda m: -mean_triplet(found, m)))
    for task in found.tasks:
        queries = [q for q in found.queries if q.task == task]
        assert len(queries) == found.searched[task] == len({q.image for q in queries})
        for method in found.methods:
            precision = np.mean([q.neighbours[method][0].right for q in queries])
            # stored embeddings are float16: a neighbour that is nearer by less than that may change places
            assert precision == pytest.approx(found.precision(method, task), abs=2.01 / len(queries))
    assert len({found.precision(m, t) for m in METHODS for t in found.tasks}) > 2


def mean_triplet(found: Galleries, method: str) -> float:
    (record,) = (r for r in found.suite.records if r.method == method)
    return float(np.mean([record.metrics[t]["triplet"] for t in found.tasks]))


def test_neighbours_are_those_of_brute_force(made):
    found = everything(made)
    normalised = found.suite.benchmark["embedding"]["normalise"]
    for record in found.suite.done:
        stored = load_file(made[0] / "zappos-quick" / record.method / "seed-0" / "test.safetensors")
        for query in found.queries:
            t = found.tasks.index(query.task)
            points = stored["embeddings"][t].double().numpy()
            if normalised:
                points /= np.linalg.norm(points, axis=1, keepdims=True)
            labelled = [i for i in range(len(points)) if found.labels[t, i] >= 0 and i != query.image]
            far = {i: np.linalg.norm(points[i] - points[query.image]) for i in labelled}
            nearest = sorted(labelled, key=lambda i: far[i])[:8]
            neighbours = query.neighbours[record.method]
            assert [far[n.image] for n in neighbours] == pytest.approx([far[i] for i in nearest], abs=1e-5)
            assert len({n.image for n in neighbours}) == 8
            for n in neighbours:
                assert n.right == (found.label(n.image, query.task) == found.label(query.image, query.task))


def test_files_are_those_of_the_stored_embeddings(made):
    """The label of a file stands in its path: its category is the folder."""
    found = galleries(only(made[0]), *made)
    t = found.tasks.index("category")
    assert len(found.files) == found.labels.shape[1] == 40
    for i, file in enumerate(found.files):
        assert file.is_file()
        assert found.values[t][found.labels[t, i]] == file.relative_to(made[1] / "ut-zap50k-images").parts[0]
        assert found.label(i, "category") == file.relative_to(made[1] / "ut-zap50k-images").parts[0]


def test_queries_of_a_query_set_need_another_image_of_their_label_in_the_gallery():
    labels = np.array([0, 0, 1, 1, 2, 2, -1])
    query = np.array([1, 0, 1, 1, 1, 0, 1], bool)
    held = np.array([1, 0, 1, 1, 0, 1, 1], bool)
    # 0 is alone of its label in the gallery; 2 and 3 have each other, 4 has 5; 6 has no label
    assert gallery._askable(labels, query, held).tolist() == [2, 3, 4]


def test_sets_are_alike_where_they_share_a_value():
    members = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], bool)
    labels, everyone = np.array([0, 1, 2, 1, -1]), np.ones(5, bool)
    assert gallery._askable(labels, everyone, everyone, members).tolist() == [0, 1, 3]
    assert gallery._others(labels, labels, np.array([0, 1, 2]), members).tolist() == [2, 2, 0]
    assert gallery._alike(np.array([[1, 2]]), np.array([[0]]), members).tolist() == [[True, False]]


def test_the_same_records_give_the_same_queries_and_none_twice(made):
    first, again = (galleries(only(made[0]), *made) for _ in range(2))
    assert first.queries == again.queries
    for task in first.tasks:
        images = [q.image for q in first.queries if q.task == task]
        assert len(images) == len(set(images)) == 6


def chosen(right: list[list[int]], labels: list[int], number: int, k: int = 4) -> list[tuple[int, str]]:
    codes = np.array(labels)
    everyone = np.ones(len(codes), bool)
    candidates = gallery._askable(codes, everyone, everyone)
    able = gallery._others(codes, codes, candidates, None)
    return gallery._choose(candidates, np.array(right), codes, able, k, number, np.random.default_rng(0))


def test_hardest_disputed_and_typical_queries_take_turns():
    labels = [0] * 6 + [1] * 6
    right = [[2, 2, 0, 2, 4, 2, 1, 2, 2, 4, 2, 2], [2, 2, 1, 2, 1, 2, 1, 2, 2, 0, 2, 2]]
    queries = chosen(right, labels, 6)
    assert queries[0] == (2, HARDEST)  # 1 of 8 right
    assert queries[1] == (9, DISAGREE)  # 4 and 0 of 4
    assert queries[2][1] == TYPICAL
    assert queries[3] == (6, HARDEST)  # of the other label, though others of the first are as hard
    assert queries[4] == (4, DISAGREE)  # likewise
    assert len({place for place, _ in queries}) == 6


def test_one_method_alone_is_never_disputed():
    queries = chosen([[3, 1, 2, 4]], [0, 0, 1, 1], 4)
    assert DISAGREE not in [why for _, why in queries]
    assert len(queries) == 4


def test_a_label_of_one_image_is_no_query_and_a_rare_one_is_not_harder():
    everyone = np.ones(7, bool)
    assert gallery._askable(np.array([0, 0, 1, -1, 2, 2, 2]), everyone, everyone).tolist() == [0, 1, 4, 5, 6]
    # one of the one that there could be, against 2 of 4
    assert chosen([[1, 1, 2, 2, 2, 2, 2]], [0, 0, 1, 1, 1, 1, 1], 1)[0][0] >= 2


def test_in_a_large_suite_queries_are_looked_for_among_some(made, monkeypatch):
    monkeypatch.setattr(gallery, "_PAIRS", 0)
    monkeypatch.setattr(gallery, "_LEAST_SEARCHED", 10)
    found = galleries(only(made[0]), *made)
    assert set(found.searched.values()) == {10}
    assert "10, drawn at random, of 40 images" in gallery.caption(found, found.tasks[0])


def test_methods_tasks_and_seed_can_be_chosen(made):
    found = galleries(only(made[0]), *made, methods=["single"], tasks=["closure"], queries_per_task=2, neighbours=3)
    assert (found.methods, found.tasks, found.labels.shape) == (("single",), ("closure",), (1, 40))
    assert [len(q.neighbours["single"]) for q in found.queries] == [3, 3]
    with pytest.raises(NoImages, match="no method has finished with seed 7"):
        galleries(only(made[0]), *made, seed=7)


def test_absent_images_are_said_to_be_absent(made, tmp_path):
    with pytest.raises(NoImages, match=r"No galleries of zappos-quick: its images are not at .*--data-dir"):
        galleries(only(made[0]), made[0])
    with pytest.raises(NoImages, match=f"its images are not at {tmp_path / 'no'}"):
        galleries(only(made[0]), made[0], tmp_path / "no")


def test_other_images_are_refused(made, tmp_path, write_zappos):
    fewer = write_zappos(tmp_path / "fewer", images=60)
    with pytest.raises(NoImages, match="not those that it was made with"):
        galleries(only(made[0]), made[0], fewer)
    others = write_zappos(tmp_path / "others", images=200)
    assert galleries(only(made[0]), made[0], others)  # a copy
    first = next(others.rglob("*.jpg"))
    Image.new("RGB", (68, 51)).save(first)
    with pytest.raises(NoImages, match="not those that it was made with"):
        galleries(only(made[0]), made[0], others)


def test_records_without_embeddings_or_with_other_labels_are_refused(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "results")
    file = tmp_path / "results/zappos-quick/shared/seed-0/test.safetensors"
    stored = load_file(file)
    save_file(stored | {"labels": stored["labels"].roll(1, 1)}, file)
    with pytest.raises(NoImages, match=r"the labels in .* are not those of"):
        galleries(only(tmp_path / "results"), tmp_path / "results", made[1])
    file.write_bytes(b"broken")
    with pytest.raises(NoImages, match="can't be read"):
        galleries(only(tmp_path / "results"), tmp_path / "results", made[1])
    file.unlink()
    assert galleries(only(tmp_path / "results"), tmp_path / "results", made[1]).methods != METHODS
    for other in (tmp_path / "results").rglob("test.safetensors"):
        other.unlink()
    with pytest.raises(NoImages, match=r"copy test\.safetensors along"):
        galleries(only(tmp_path / "results"), tmp_path / "results", made[1])


def test_published_records_and_settings_of_another_version_are_told_as_such(made, tmp_path):
    results, images = made
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    for file in copy.rglob("test.safetensors"):
        save_file({"hits": torch.ones(2, 3, dtype=torch.uint8)}, file)
    with pytest.raises(NoImages, match="holds no embeddings; published records leave them out"):
        galleries(only(copy), copy, images)
    suite = only(results)
    for record in suite.records:
        record.setup["benchmark"]["evaluation"]["from_the_future"] = 1
    with pytest.raises(NoImages, match="another version of mtlbench"):
        galleries(suite, results, images)


def test_the_caption_says_what_is_shown_and_that_rendered_images_are_rendered(made):
    found = galleries(only(made[0]), *made)
    text = gallery.caption(found, "closure")
    assert "(zappos-quick), seed 0: real images, 40 in the test split" in text
    records = [
        replace(r, receipt=r.receipt | {"data": {"name": "shoes", "rendered": True}}) for r in found.suite.records
    ]
    drawn = replace(found, suite=replace(found.suite, records=tuple(records)))
    assert "rendered images, not real ones" in gallery.caption(drawn, "closure")
    assert gallery.data_name(drawn.suite) == "shoes (rendered)"


def coloured(picture: Image.Image, colour: str) -> np.ndarray:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.asarray(picture) == wanted).all(2)


def frame(right: bool | None) -> Image.Image:
    """A sheet of one neighbour, cut to it: what differs is its frame."""
    file = Path(__file__)  # no image: a crossed box
    cells = (sheet.Cell(file, "", right),)
    return sheet.lay_out("", "", [sheet.Block(file, "", (), (sheet.Strip("", "", cells),))])


def test_right_and_wrong_are_told_by_more_than_colour():
    right, wrong, unknown = (frame(r) for r in (True, False, None))
    # the longest line of a frame's colour below the legend: solid ones have no gaps
    longest = {}
    for name, picture, colour in (("right", right, sheet.RIGHT), ("wrong", wrong, sheet.WRONG)):
        lines = coloured(picture, colour)[110:]
        longest[name] = max(len(part) for row in lines for part in "".join("x" if p else " " for p in row).split())
    assert longest["right"] > 100
    assert 5 < longest["wrong"] < 20
    assert not coloured(unknown, sheet.RIGHT).any()
    assert not coloured(unknown, sheet.WRONG).any()


def test_a_sheet_has_a_row_per_method_and_marks_what_is_wrong(made):
    found = galleries(only(made[0]), *made, queries_per_task=2)
    both = gallery.draw(found, "closure")
    one = gallery.draw(found, "closure", found.queries[-1:])
    few = replace(found, methods=found.methods[:1])
    assert both.width == one.width
    assert both.height - one.height > 3 * sheet._CELL
    assert one.height - gallery.draw(few, "closure", found.queries[-1:]).height > sheet._CELL
    hits = {n.right for m in found.methods for n in found.queries[-1].neighbours[m]}
    assert hits == {True, False}
    assert coloured(one, sheet.RIGHT).sum() > 500
    assert coloured(one, sheet.WRONG).sum() > 500


def report(*words: str) -> Result:
    return CliRunner().invoke(app, ["report", *words], catch_exceptions=False)


def test_the_report_draws_a_sheet_per_task_and_says_where(made, tmp_path):
    ended = report("--results", str(made[0]), "--galleries", str(tmp_path / "g"), "--data-dir", str(made[1]))
    assert ended.exit_code == 0
    assert sorted(p.name for p in (tmp_path / "g/zappos-quick").iterdir()) == ["category.png", "closure.png"]
    assert f"{tmp_path / 'g/zappos-quick'}: category.png, closure.png" in ended.output
    assert Image.open(tmp_path / "g/zappos-quick/closure.png").height > 9 * sheet._CELL


def test_galleries_stand_beside_a_table_at_equal_seconds(made, tmp_path):
    words = ("--galleries", str(tmp_path / "g"), "--data-dir", str(made[1]), "--at-seconds", "shortest")
    ended = report("--results", str(made[0]), *words)
    assert ended.exit_code == 0, ended.output
    assert (tmp_path / "g/zappos-quick/closure.png").exists()


def test_a_table_in_a_file_holds_nothing_else(made, tmp_path):
    results, images = made
    words = [
        "--results",
        str(results),
        "--data-dir",
        str(images),
        "--galleries",
        str(tmp_path / "g"),
        "--format",
        "csv",
    ]
    ended = report(*words)
    assert ended.exit_code == 0, ended.output
    assert ended.stdout.startswith("schema,suite,benchmark,method")
    assert "packing" not in ended.stdout
    assert str(tmp_path / "g") not in ended.stdout
    assert "closure.png" in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--html", "p", "--agreement"), "leave out --agreement"), (("--html", "p", "--format", "md"), "and --format"),
     (("--figures", "f", "--tasks", "closure"), "leave out --tasks"),
     (("--agreement", "--format", "verdict"), "--agreement makes one table"),
     (("--agreement", "--against", "nothing"), "leave out --sort, --against and --at-seconds")],
)  # fmt: skip
def test_options_that_would_be_ignored_are_refused(made, words, said):
    with pytest.raises(UserError, match=said):
        report("--results", str(made[0]), *words)


def test_without_images_the_report_says_so_in_a_sentence_and_goes_on(made, tmp_path):
    ended = report("--results", str(made[0]), "--galleries", str(tmp_path / "g"))
    assert ended.exit_code == 0
    assert ended.output.count("No galleries of zappos-quick: its images are not at") == 1
    assert "independent" in ended.output
    assert not (tmp_path / "g").exists()


def test_a_rendered_set_that_is_absent_is_drawn_anew(tmp_path, cache, monkeypatch):
    settings = ("data.rendered.images=60", "data.image_size=24", "model.embedding=4", "evaluation.triplets=20")
    leave_runs(tmp_path, "shoes", None, settings, "shared")
    monkeypatch.setenv("MTLBENCH_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(NoImages, match="its images are not at"):
        galleries(only(tmp_path), tmp_path, draw_absent=False)
    done = []
    found = galleries(only(tmp_path), tmp_path, drawing=lambda n, of: done.append((n, of)))
    assert done[-1] == (60, 60)
    assert found.files[0].is_relative_to(tmp_path / "elsewhere")


def test_reports_without_galleries_import_no_torch():
    code = "import sys, mtlbench.report.gallery, mtlbench.report.sheet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
