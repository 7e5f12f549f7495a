"""The page, from records made up by hand: its words and numbers, its links, and what it does in a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from mtlbench.errors import UserError
from mtlbench.report import gallery, page
from mtlbench.report.gallery import Galleries, Neighbour, NoImages, Query
from mtlbench.report.page import leaderboard, write_page
from mtlbench.report.summary import Choice, Summary, summarise
from mtlbench.report.tables import as_frame
from mtlbench.report.verdict import verdict
from mtlbench.runs import Record, find_records, run_folder, write_record

TASKS = ("colour", "heel_height")
GROUPS = {"core": ["independent", "modulation", "shared"], "balancers": ["pcgrad"]}
QUESTIONS = 400


def put(results: Path, method: str, seed: int = 0, hits: Sequence[float] = (0.9, 0.7), **changes: Any) -> None:
    """Write a run that answers the first share of each task's questions rightly."""
    tasks = changes.pop("tasks", TASKS)
    name = changes.pop("benchmark", "made-up-quick")
    rendered = changes.pop("rendered", True)
    timed = changes.pop("timed", True)
    megabytes = changes.pop("megabytes", 2.5)
    settings = {
        "name": name, "title": changes.pop("title", "Made up"), "data": {"image_size": 48},
        "model": {"backbone": "small", "embedding": 8},
        "train": {"steps": 40, "sampling": "joint", "optimiser": "adamw", "lr": 0.01, "schedule": "none"},
        "evaluation": {"triplets": QUESTIONS},
    }  # fmt: skip
    setup = {"method": {"name": method}, "benchmark": settings, "tasks": list(tasks), "seed": seed, "data": "abc"}
    answers = np.array([np.arange(QUESTIONS) < round(QUESTIONS * hit) for hit in hits], dtype=np.uint8)
    made = Record(method, seed, "method", setup)
    made.metrics = {
        task: {"triplet": float(row.mean()), "macro/map@r": 0.25, "macro/precision@1": 0.5}
        for task, row in zip(tasks, answers, strict=True)
    }
    made.costs = {"parameters": 100, "file_bytes": 1e6 * megabytes, "bytes_added": 1280}
    plain = method.partition("[")[0] if "+" not in method else ""
    made.receipt = {
        "groups": [group for group, members in GROUPS.items() if plain in members],
        "device": "a processor", "precision": "fp32", "training_seconds": 12.5, "test_triplets": QUESTIONS,
        "data": {"name": "dots", "rendered": rendered, "split": "at random", "fingerprint": "abc"},
        "mtlbench": "0", "date": "2026-01-01",
    }  # fmt: skip
    for key, value in changes.items():
        setattr(made, key, value)
    folder = run_folder(results, name, method, seed)
    if made.status == "failed":
        made.metrics, made.costs = {}, {}
    curve = [{"step": s, "seconds": s / 2, "accuracy": made_mean(hits) * s / 40} for s in (20, 40)]
    if not timed:
        curve = [point | {"seconds": math.nan} for point in curve]
    write_record(folder, made, curve if made.status == "done" else ())
    if made.status == "done":
        save_file({"hits": answers}, folder / "test.safetensors")


def made_mean(hits: Sequence[float]) -> float:
    return float(np.mean(hits))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three seeds: modulation barely below shared, independent far below and large."""
    folder = tmp_path / "results"
    for seed in range(3):
        off = 0.01 * seed
        put(folder, "shared", seed, (0.9 - off, 0.7), megabytes=4)
        put(folder, "modulation", seed, (0.885 - off, 0.71), megabytes=2.5)
        put(folder, "independent", seed, (0.6 - off, 0.5), megabytes=8)
    return folder


def found(results: Path, **choice: Any) -> list[Summary]:
    return summarise(find_records(results), Choice(**choice), results)


class Parsed(HTMLParser):
    """Links, pictures, headings, ids and visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.cells: list[list[str]] = []
        self._hidden = self._in_cell = False
        self.feed(path.read_text("utf-8"))
        self.cells = [[" ".join(cell.split()) for cell in row] for row in self.cells]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self._hidden = tag in ("script", "style")
        self.links += [value for name in ("href", "src") if (value := given.get(name))]
        if tag == "img":
            self.pictures.append(given)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        if tag == "table":
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
            if self._in_cell and self.cells[-1]:
                self.cells[-1][-1] += data


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds: figures."""
    monkeypatch.setattr(page, "draw_scene", lambda *given: [])


def pictures(folder: Path) -> Galleries:
    """Two methods' neighbours of two queries among five images."""
    folder.mkdir()
    files = tuple(folder / f"picture {n}.png" for n in range(5))
    for n, file in enumerate(files):
        Image.new("RGB", (60 + 10 * n, 50), (40 * n, 90, 200)).save(file)
    near = {
        "shared": (Neighbour(1, True), Neighbour(2, False)),
        "modulation": (Neighbour(3, False), Neighbour(2, False)),
    }
    other = {"shared": (Neighbour(0, True),), "modulation": (Neighbour(1, True),)}
    queries = (Query(0, "colour", gallery.HARDEST, near), Query(3, "heel_height", gallery.TYPICAL, other))
    labels = np.array([[0, 0, 1, 1, 1], [0, 0, 1, 0, 0]])
    values = (("red", "<i>blue</i>"), ("flat", "high"))
    return Galleries(None, 0, ("shared", "modulation"), TASKS, files, labels, values, queries, {})  # type: ignore[arg-type]


# --- words ------------------------------------------------------------------------------------------------------------


def said(summary: Summary) -> str:
    words = verdict(summary)
    return " ".join([words.headline, *(" ".join([a.short, a.lead, *a.more]) for a in words.answers)])


def test_the_verdict_names_the_best_those_alike_and_the_smallest(results: Path) -> None:
    (summary,) = found(results)
    words = verdict(summary)
    assert (words.best, words.tied, words.smallest) == ("shared", ("modulation",), "modulation")
    which, cost, sure = words.answers
    assert which.short == "shared"
    assert "79.5 ±0.5 %, but 1 of the other 2 can't be told apart" in which.lead
    assert "modulation (79.2 ±0.5 %)" in which.more[0]
    assert cost.short == "4.00 MB"
    assert "modulation, 2.50 MB, one more task 1.28 kB" in cost.more[0]
    assert sure.short == "3 seeds"
    assert sure.lead.startswith("400 test questions on each of 2 tasks")
    assert "tells the highest mean apart from 1 of 2" in " ".join(sure.more)


def test_the_verdict_names_rendered_images_and_the_quick_protocol_and_else_not(results: Path, tmp_path: Path) -> None:
    (summary,) = found(results)
    assert "rendered images, which say nothing about real ones" in said(summary)
    assert "Quick protocol" in said(summary)
    put(tmp_path / "real", "shared", benchmark="zappos", rendered=False)
    (summary,) = found(tmp_path / "real")
    assert "real images" in said(summary)
    assert "endered" not in said(summary)
    assert "Quick" not in said(summary)


def test_a_best_method_that_is_told_apart_from_all_is_said_to_be(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, "shared", seed, (0.95, 0.9))
        put(tmp_path, "other", seed, (0.5, 0.5))
    (summary,) = found(tmp_path)
    assert "; a test tells it apart from the other" in said(summary)
    assert "Not told apart" not in said(summary)


def test_without_answers_kept_nothing_is_said_of_a_test(results: Path) -> None:
    for path in results.rglob("test.safetensors"):
        path.unlink()
    (summary,) = found(results)
    assert "whether by chance was not tested" in said(summary)
    assert "apart" not in said(summary)
    assert "Not compared, for test.safetensors is missing" in said(summary)


@pytest.mark.parametrize("gone", ["modulation", "independent"])
def test_a_method_whose_answers_are_missing_is_named_and_not_said_to_be_told_apart(results: Path, gone: str) -> None:
    for path in (results / "made-up-quick" / gone).rglob("test.safetensors"):
        path.unlink()
    (summary,) = found(results)
    assert summary.comparison.missing == (gone,)
    which, _, sure = verdict(summary).answers
    if gone == "modulation":
        assert "a test tells it apart from the other tested" in which.lead
        assert "apart from 1 of 1 tested" in " ".join(sure.more)
    else:
        assert "but the other one tested can't be told apart" in which.lead
        assert "apart from 0 of 1 tested" in " ".join(sure.more)
    assert f"Not tested: {gone}." in which.more


def test_where_the_best_methods_answers_alone_are_kept_no_test_is_spoken_of(results: Path) -> None:
    for gone in ("modulation", "independent"):
        for path in (results / "made-up-quick" / gone).rglob("test.safetensors"):
            path.unlink()
    (summary,) = found(results)
    assert summary.comparison.best == {}
    assert "whether by chance was not tested" in said(summary)
    assert "apart" not in said(summary)
    assert "is not of the same run: independent, modulation" in said(summary)


def test_csv_says_nothing_of_a_test_of_methods_that_were_not_tested(results: Path) -> None:
    put(results, "broken", status="failed", reason="out of memory")
    for path in (results / "made-up-quick" / "independent").rglob("test.safetensors"):
        path.unlink()
    (alike,) = [as_frame(found(results)).set_index("method")["mean/alike"]]
    assert alike["modulation"] is True
    assert alike["shared"] is False
    assert alike["independent"] is None
    assert alike["broken"] is None


def test_another_metric_is_not_called_accuracy_nor_tested(results: Path) -> None:
    (summary,) = found(results, metric="macro/map@r")
    assert "The highest mean macro/map@r, 25.0" in said(summary)
    assert "The test images on each of 2 tasks, the same for every method" in said(summary)
    assert "question" not in said(summary)
    assert "not tested" in said(summary)
    assert "accuracy, " not in said(summary).replace("triplet accuracy", "")


def test_one_seed_is_said_to_tell_nothing_of_seeds(tmp_path: Path) -> None:
    put(tmp_path, "shared")
    put(tmp_path, "other", hits=(0.5, 0.5))
    (summary,) = found(tmp_path)
    assert "One seed: how much another would change is not known." in said(summary)
    assert "over questions, at 5 %" in said(summary)
    assert "with this one seed, a test tells it apart from the other" in said(summary)


def test_methods_that_share_too_few_seeds_are_not_passed_off_as_equal(results: Path) -> None:
    put(results, "late", 0, (0.1, 0.1))
    (summary,) = found(results)
    assert "late" in verdict(summary).tied
    assert "Fewer than two seeds in common with shared, so not told apart however far below: late." in said(summary)


def test_a_method_of_too_few_common_seeds_is_not_offered_as_the_small_one(results: Path) -> None:
    put(results, "late", 0, (0.1, 0.1), megabytes=0.1)
    (summary,) = found(results)
    assert verdict(summary).smallest == "modulation"
    assert "Smallest of those not told apart from it by a test of common seeds: modulation" in said(summary)


def test_unequal_seeds_are_warned_of_and_equal_ones_are_not(results: Path) -> None:
    put(results, "broken", 9, status="failed", reason="out of memory")
    (summary,) = found(results)
    assert summary.warnings == []
    put(results, "late", 0)
    (summary,) = found(results)
    assert summary.warnings == ["not all methods have the same seeds: their means are over what each has."]
    assert "Not all is equal between these runs" in said(summary)
    (summary,) = found(results, methods="shared,modulation")
    assert summary.warnings == []


def test_speeds_that_were_not_measured_are_not_spoken_of(results: Path) -> None:
    (summary,) = found(results)
    assert "images/s" not in said(summary)
    rates = {f"embed_rate_all_tasks{end}": 1000.0 * n for end, n in (("", 2), ("_slowest", 1.9), ("_fastest", 2.1))}
    fast = {k: 2 * v for k, v in rates.items()}
    for seed in range(3):
        put(results, "shared", seed, (0.9, 0.7), costs={"file_bytes": 4e6, "parameters": 1, **rates})
        put(results, "modulation", seed, (0.885, 0.71), costs={"file_bytes": 2e6, "parameters": 1, **fast})
    (summary,) = found(results)
    assert "Embeds 2,000 ±5% images/s under all tasks" in said(summary)
    assert "modulation is fastest: 4,000 ±5% images/s" in said(summary)
    assert "within the range" not in said(summary)


def test_failed_and_collapsed_methods_are_named_and_a_collapsed_one_is_not_the_small_alternative(results: Path) -> None:
    put(results, "broken", status="failed", reason="out of memory")
    for seed in range(3):
        put(results, "fallen", seed, (0.89 - 0.01 * seed, 0.7), megabytes=0.1, collapsed=["colour"])
    (summary,) = found(results)
    assert "Failed: broken." in said(summary)
    assert "Collapsed: fallen." in said(summary)
    assert verdict(summary).smallest == "modulation"


@pytest.mark.usefixtures("_undrawn")
def test_where_nothing_finished_that_is_the_verdict(tmp_path: Path) -> None:
    put(tmp_path / "results", "broken", status="failed", reason="out of memory")
    summaries = found(tmp_path / "results")
    assert verdict(summaries[0]).best == ""
    text = Parsed(write_page(summaries, tmp_path / "results", tmp_path / "page")).text
    assert "No method has finished" in text
    assert "out of memory" in text


# --- the leaderboard --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_undrawn")
def test_the_leaderboard_has_the_tables_own_numbers_and_marks(results: Path, tmp_path: Path) -> None:
    (summary,) = found(results)
    cells = Parsed(write_page([summary], results, tmp_path / "page")).cells
    head, rows = cells[0], {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[1:]}
    assert head[:6] == ["method", "seeds", "mean", "worst", "Δm", "tasks hurt"]
    assert list(rows) == ["shared", "modulation", "independent"]
    for table in summary.tables:
        for column in table.columns:
            for row in table.rows:
                if any(column.number(other) for other in table.rows) and column.key != "method":
                    expected = " ".join(filter(None, (column.number(row), column.spread(row))))
                    expected += "≈" if column.key in row.tied else ""
                    assert rows[row.method][column.heading].replace(" ≈", "≈") == expected, column.key
    assert rows["modulation"]["mean"].endswith("≈")


def test_a_methods_groups_are_by_its_name_without_options(results: Path) -> None:
    put(results, "modulation[after=3]")
    put(results, "modulation+pcgrad")
    (summary,) = found(results)
    groups = {row["method"]: row["groups"] for row in leaderboard(summary)["rows"]}
    assert groups["modulation[after=3]"] == ["core"]
    assert groups["modulation+pcgrad"] == []
    assert leaderboard(summary)["groups"] == ["core"]
    for record in summary.suite.records:
        record.receipt["groups"] = []
    assert leaderboard(summary)["groups"] == []


def test_without_independent_there_is_no_column_of_what_sharing_gained(tmp_path: Path) -> None:
    put(tmp_path, "shared")
    put(tmp_path, "other")
    (summary,) = found(tmp_path)
    headings = [column["text"] for column in leaderboard(summary)["columns"]]
    assert "Δm" not in headings
    assert "mean" in headings


# --- the folder -------------------------------------------------------------------------------------------------------


def check_links(folder: Path) -> None:
    for path in folder.glob("*.html"):
        parsed = Parsed(path)
        for link in parsed.links:
            assert not re.match(r"\w+:", link) or link == "data:,", link
            target, _, fragment = unquote(link).partition("#")
            if link != "data:,":
                assert not target or (folder / target).is_file(), link
                assert not fragment or fragment in parsed.ids, link
        for picture in parsed.pictures:
            assert picture.get("alt"), picture
        assert parsed.headings[0] == 1
        assert parsed.headings.count(1) == 1
        assert all(b - a <= 1 for a, b in zip(parsed.headings, parsed.headings[1:], strict=False)), parsed.headings
        assert len(set(parsed.ids)) == len(parsed.ids)


@pytest.mark.slow
def test_figures_downloads_and_thumbnails_are_there_and_linked(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pictures(tmp_path / "pictures")
    monkeypatch.setattr(gallery, "galleries", lambda *given, **more: made)
    summaries = found(results)
    folder = tmp_path / "page"
    assert write_page(summaries, results, folder) == folder / "index.html"
    check_links(folder)
    parsed = Parsed(folder / "index.html")
    assert len(parsed.pictures) == 3  # storage, tasks, curves; no speeds were measured
    assert all(str(picture["src"]).endswith(".svg") for picture in parsed.pictures)
    assert len([link for link in parsed.links if link.endswith(".png")]) == 3
    assert any("On the Pareto front: modulation" in str(picture["alt"]) for picture in parsed.pictures)
    assert (folder / "made-up-quick/figures.pdf").read_bytes().count(b"/Type /Page ") == 3
    assert {path.name for path in (folder / "made-up-quick/images").iterdir()} == {f"{n}.jpg" for n in range(4)}
    table = pd.read_csv(folder / "made-up-quick/table.csv").set_index("method")
    assert table.loc["shared", "mean"] == pytest.approx(0.795)
    assert len(pd.read_csv(folder / "made-up-quick/runs.csv")) == 9
    assert "booktabs" in (folder / "made-up-quick/table.tex").read_text("utf-8")


@pytest.mark.usefixtures("_undrawn")
def test_hostile_names_are_shown_as_they_are(tmp_path: Path) -> None:
    results = tmp_path / "results"
    hostile = "</script><img src=x onerror=alert(1)>"
    put(results, "shared", tasks=("<b>bold</b>", 'it\'s "so" & <so>'), title=hostile)
    put(results, hostile, tasks=("<b>bold</b>", 'it\'s "so" & <so>'), title=hostile)
    index = write_page(found(results), results, tmp_path / "page")
    parsed = Parsed(index)
    assert hostile in parsed.text
    assert parsed.cells[0].count("<b>bold</b>") == 1
    assert "img" not in parsed.tags
    assert "</script><img" not in index.read_text("utf-8")


@pytest.mark.usefixtures("_undrawn")
def test_absent_images_are_told_and_the_rest_is_there(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*given: Any, **more: Any) -> Galleries:
        raise NoImages("No galleries of made-up-quick: its images are not at /secret/place.")

    monkeypatch.setattr(gallery, "galleries", absent)
    told: list[str] = []
    index = write_page(found(results), results, tmp_path / "page", say=told.append)
    assert "/secret/place" in " ".join(told)
    assert "/secret/place" not in index.read_text("utf-8")
    assert "No galleries: the images or the embeddings" in Parsed(index).text
    check_links(tmp_path / "page")


@pytest.mark.usefixtures("_undrawn")
def test_several_suites_have_a_page_each_and_one_that_leads_to_them(results: Path, tmp_path: Path) -> None:
    put(results, "shared", benchmark="zappos", title="Shoes", rendered=False)
    folder = tmp_path / "page"
    write_page(found(results), results, folder)
    assert {path.name for path in folder.glob("*.html")} == {"index.html", "made-up-quick.html", "zappos.html"}
    check_links(folder)
    text = Parsed(folder / "index.html").text
    assert "Made up (rendered images, not real ones), quick protocol" in text
    assert "shared: the highest mean accuracy" in text
    assert "4.00 MB" in text


@pytest.mark.usefixtures("_undrawn")
def test_an_earlier_page_is_replaced_and_other_folders_are_left_alone(results: Path, tmp_path: Path) -> None:
    put(results, "shared", benchmark="zappos")
    folder = tmp_path / "page"
    write_page(found(results), results, folder)
    (folder / "made-up-quick" / "old.jpg").write_text("")
    (folder / "mine.txt").write_text("kept")
    shutil.rmtree(results / "zappos")
    write_page(found(results), results, folder)
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        "made-up-quick",
        "page.css",
        "page.js",
        "mine.txt",
    }
    assert not (folder / "made-up-quick" / "old.jpg").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("<html>my own site</html>")
    with pytest.raises(UserError, match="holds other files"):
        write_page(found(results), results, other)
    assert (other / "index.html").read_text() == "<html>my own site</html>"


@pytest.mark.usefixtures("_undrawn")
def test_an_interrupted_page_can_be_made_again(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(results, "shared", benchmark="zappos")
    folder = tmp_path / "page"

    def interrupt(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(page, "_galleries", interrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                write_page(found(results), results, folder)
            assert "making it was interrupted" in (folder / "index.html").read_text("utf-8")
    write_page(found(results), results, folder)
    assert "interrupted" not in (folder / "index.html").read_text("utf-8")
    check_links(folder)


@pytest.mark.usefixtures("_undrawn")
def test_a_folder_of_a_suites_name_that_is_no_pages_is_never_removed(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    write_page(found(results), results, folder)
    put(results, "shared", benchmark="zappos")
    (folder / "zappos").mkdir()
    (folder / "zappos" / "mine.txt").write_text("kept")
    for _ in range(2):
        with pytest.raises(UserError, match="zappos is not of an earlier page"):
            write_page(found(results), results, folder)
        assert (folder / "zappos" / "mine.txt").read_text() == "kept"
        assert "shared" in Parsed(folder / "index.html").text


def test_a_gallerys_neighbours_carry_their_own_labels_and_verdicts(tmp_path: Path) -> None:
    given = page.gallery_data(pictures(tmp_path / "pictures"), "x/", {0: (1, 1)})
    assert given["tasks"] == ["colour", "heel height"]
    assert given["queries"][0] == {"task": 0, "image": 0, "why": "hardest", "near": [[3, 4], [6, 4]]}
    assert given["labels"][0] == {0: "red", 1: "red", 2: "<i>blue</i>", 3: "<i>blue</i>"}
    assert given["labels"][1] == {3: "flat", 0: "flat", 1: "flat"}


@pytest.fixture
def _a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one empty figure in place of the real ones."""

    def draw(scene: Any, folder: Path, *given: Any) -> list[Any]:
        folder.mkdir()
        (folder / "made.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="500pt" height="200pt"/>')
        (folder / "made.png").write_bytes(b"")
        (folder.parent / "figures.pdf").write_bytes(b"")
        return [page.Figure("made", "A figure", "Somewhere", "An alt text")]

    monkeypatch.setattr(page, "draw_scene", draw)


def curves_of(index: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = index.read_text("utf-8").partition('id="curves">')[2].partition("</script>")[0]
    return json.loads(text, parse_constant=refuse)


@pytest.mark.usefixtures("_a_figure")
def test_curves_of_records_without_times_are_still_read_by_browsers(tmp_path: Path) -> None:
    put(tmp_path / "results", "shared", timed=False)
    put(tmp_path / "results", "other")
    curves = curves_of(write_page(found(tmp_path / "results"), tmp_path / "results", tmp_path / "page"))
    by_method = {curve["method"]: curve for curve in curves}
    assert by_method["shared"]["seconds"] == [None, None]
    assert by_method["shared"]["step"] == [20, 40]
    assert by_method["other"]["seconds"] == [10, 20]


@pytest.mark.usefixtures("_a_figure")
def test_a_page_of_some_tasks_has_no_figures_and_curves_of_all_and_says_so(results: Path, tmp_path: Path) -> None:
    index = write_page(found(results, tasks="colour"), results, tmp_path / "page")
    assert 'id="curves"' not in index.read_text("utf-8")
    assert "img" not in Parsed(index).tags
    assert "they are over all 2 tasks, this page is of 1 of them" in Parsed(index).text
    check_links(tmp_path / "page")
    index = write_page(found(results), results, tmp_path / "page")
    assert len(curves_of(index)) == 3
    assert "img" in Parsed(index).tags
    assert "No figures" not in Parsed(index).text


@pytest.mark.usefixtures("_undrawn")
def test_methods_tasks_and_seeds_are_counted_as_shown(results: Path, tmp_path: Path) -> None:
    put(results, "late", 7)
    index = write_page(found(results), results, tmp_path / "page")
    assert "4 methods · 2 tasks · 4 seeds" in Parsed(index).text
    index = write_page(found(results, tasks="colour", methods="shared,modulation"), results, tmp_path / "page")
    assert "2 methods · 1 task · 3 seeds" in Parsed(index).text


@pytest.mark.usefixtures("_undrawn")
def test_a_page_of_another_metric_speaks_of_it_and_not_of_triplets(results: Path, tmp_path: Path) -> None:
    (summary,) = found(results, metric="macro/map@r")
    index = write_page([summary], results, tmp_path / "page")
    text = index.read_text("utf-8")
    assert "Mean over the tasks of macro/map@r, in per cent." in text
    assert "Triplet accuracy" not in text
    assert "<caption>macro/map@r in per cent" in text
    assert summary.receipt[0].startswith("accuracy: macro/map@r on the test images, the same for all methods, mean ±")
    (summary,) = found(results)
    index = write_page([summary], results, tmp_path / "page")
    text = index.read_text("utf-8")
    assert "Triplet accuracy, in per cent" in text
    assert "<caption>Accuracy in per cent" in text
    assert summary.receipt[0].startswith("accuracy: 400 test triplets a task, the same for all methods, mean ±")


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Debian's Chromium, without a window and without a network."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium with chromedriver here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--window-size=1200,900",
        "--force-prefers-reduced-motion",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    from selenium.webdriver.chrome.service import Service

    driven = webdriver.Chrome(options=options, service=Service(driver))
    yield driven
    driven.quit()


@pytest.fixture
def opened(browser: Any, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The page of three methods with galleries, open; nothing may have been written to the console."""
    made = pictures(tmp_path / "pictures")
    monkeypatch.setattr(gallery, "galleries", lambda *given, **more: made)
    for path in results.rglob("run.json"):
        content = json.loads(path.read_text())
        content["receipt"]["groups"] = {"independent": ["core"], "shared": ["balancers"]}.get(content["method"], [])
        path.write_text(json.dumps(content))
    fake = page.Figure("made", "A figure", "Somewhere", "An alt text with 1 number")

    def draw(scene: Any, folder: Path, formats: Sequence[str], booklet: Path) -> list[Any]:
        folder.mkdir()
        Image.new("RGB", (1500, 500)).save(folder / "made.png")
        svg = '<svg xmlns="http://www.w3.org/2000/svg" width="500.5pt" height="200pt" viewBox="0 0 500 200"/>'
        (folder / "made.svg").write_text(svg)
        booklet.write_bytes(b"")
        return [fake]

    monkeypatch.setattr(page, "draw_scene", draw)
    browser.get(write_page(found(results), results, tmp_path / "page").resolve().as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def shown(browser: Any) -> list[str]:
    script = "return [...document.querySelectorAll('.board tbody tr:not([hidden]) th')].map(th => th.innerText.trim())"
    return list(browser.execute_script(script))


@pytest.mark.slow
def test_columns_sort_by_click_and_by_keyboard(opened: Any) -> None:
    assert shown(opened) == ["shared", "modulation", "independent"]
    heads = opened.find_elements("css selector", ".board thead th")
    size = next(head for head in heads if head.text == "file MB")
    size.find_element("css selector", "button").click()
    assert shown(opened) == ["modulation", "shared", "independent"]  # less is better
    assert size.get_attribute("aria-sort") == "ascending"
    size.find_element("css selector", "button").send_keys("\ue007")  # Enter
    assert shown(opened) == ["independent", "shared", "modulation"]
    assert size.get_attribute("aria-sort") == "descending"
    heads[0].find_element("css selector", "button").send_keys(" ")
    assert shown(opened) == ["independent", "modulation", "shared"]
    assert len(opened.find_elements("css selector", "[aria-sort]")) == 1


@pytest.mark.slow
def test_rows_are_filtered_by_group_and_by_text_and_columns_can_be_hidden(opened: Any) -> None:
    from selenium.webdriver.support.select import Select

    group = Select(find(opened, "select[name=group]"))
    group.select_by_visible_text("core")
    assert shown(opened) == ["independent"]
    group.select_by_visible_text("all")
    find(opened, "input[name=find]").send_keys("SHA")
    assert shown(opened) == ["shared"]
    assert find(opened, ".count").text == "1 of 3 methods"
    assert find(opened, ".board tr:not([hidden]) td.task").is_displayed()
    find(opened, "input[name=task]").click()
    assert not find(opened, ".board tr:not([hidden]) td.task").is_displayed()


@pytest.mark.slow
def test_curves_are_read_out_by_keyboard_and_by_pointer(opened: Any) -> None:
    button = find(opened, ".legend button")
    opened.execute_script("arguments[0].focus()", button)
    assert find(opened, ".readout").text == "shared: 79.5 % (seeds 79 to 80) at step 40, after 20 s"
    button.send_keys("\ue012")  # left
    assert "at step 20, after 10 s" in find(opened, ".readout").text
    from selenium.webdriver import ActionChains

    chart = find(opened, ".chart svg")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", chart)
    size = chart.size
    ActionChains(opened).move_to_element(chart).move_by_offset(int(size["width"] / 2 - 14), 0).perform()
    assert "at step 40" in find(opened, ".readout").text
    find(opened, "input[value=seconds]").click()
    assert "seconds of training" in opened.execute_script("return document.querySelector('.chart').textContent")


@pytest.mark.slow
def test_curves_without_times_are_read_out_by_step_alone(opened: Any, results: Path, tmp_path: Path) -> None:
    for seed in range(3):
        put(results, "shared", seed, timed=False)
    opened.get(write_page(found(results), results, tmp_path / "untimed").resolve().as_uri())
    find(opened, ".legend button").click()
    assert find(opened, ".readout").text.endswith(" at step 40")
    assert not find(opened, "input[value=seconds]").is_displayed()


@pytest.mark.slow
def test_galleries_are_browsed_by_task_and_method_and_tell_right_from_wrong_in_words(opened: Any) -> None:
    rows = opened.find_elements("css selector", ".near")
    assert [row.find_element("css selector", "h4").text for row in rows] == [
        "shared · 1 of 2 right", "modulation · 0 of 2 right",
    ]  # fmt: skip
    first = [item.get_attribute("innerText").split() for item in rows[0].find_elements("css selector", "li")]
    assert first == [["✓", "right:", "red"], ["✗", "wrong:", "<i>blue</i>"]]
    frames = [item.value_of_css_property("border-top-style") for item in rows[0].find_elements("css selector", "li")]
    assert frames == ["solid", "dashed"]
    find(opened, "select[name=task]").send_keys("heel")
    assert "heel height: flat" in find(opened, ".asked").text
    opened.execute_script("document.querySelector('.methods').open = true")
    find(opened, ".methods input").click()
    assert [h.text for h in opened.find_elements("css selector", ".near h4")] == ["modulation · 1 of 1 right"]
    loaded = "return [...document.images].filter(i => i.closest('.gallery')).every(i => i.alt !== null)"
    assert opened.execute_script(loaded)


@pytest.mark.slow
def test_nothing_makes_a_phones_page_scroll_sideways(opened: Any) -> None:
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.refresh()
    assert opened.execute_script("return document.documentElement.scrollWidth") == 360
    bottom = opened.execute_script(
        "return [...document.querySelectorAll('.lead')].at(-1).getBoundingClientRect().bottom"
    )
    assert bottom < 800  # the three answers are on the first screen
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.slow
def test_with_scripts_off_the_tables_are_there(opened: Any) -> None:
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    opened.refresh()
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert shown(opened) == ["shared", "modulation", "independent"]
    assert not find(opened, "#leaderboard form").is_displayed()
    assert find(opened, ".board td.task").is_displayed()
