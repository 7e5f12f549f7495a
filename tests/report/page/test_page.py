"""The page, from records made up by hand: its numbers, its links, its folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from page_records import Parsed, found, pictures, put

from mtlbench.errors import UserError
from mtlbench.report import gallery, page
from mtlbench.report.figures.scene import Scene
from mtlbench.report.gallery import Galleries, NoImages
from mtlbench.report.grids import MARKS
from mtlbench.report.page import leaderboard, write_page
from mtlbench.report.tables import as_markup
from mtlbench.runs.record import BROKEN


@pytest.mark.usefixtures("_undrawn")
def test_with_one_seed_the_page_says_before_all_else_what_is_missing_and_marks_nothing(tmp_path: Path) -> None:
    put(tmp_path / "runs", "shared")
    put(tmp_path / "runs", "other", hits=(0.5, 0.5))
    parsed = Parsed(write_page(found(tmp_path / "runs"), tmp_path / "runs", tmp_path / "page"))
    answers = " ".join(parsed.text.partition("Leaderboard")[0].split())
    assert "undecided: one seed" in answers
    assert "With one seed, the variation between seeds is unknown." in answers
    assert not re.search("[≈?*]", " ".join(cell for row in parsed.cells[1:] for cell in row))


# --- the leaderboard --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_undrawn")
def test_the_leaderboard_has_the_tables_own_numbers_and_marks(results: Path, tmp_path: Path) -> None:
    (summary,) = found(results)
    cells = Parsed(write_page([summary], results, tmp_path / "page")).cells
    head, rows = cells[0], {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[1:]}
    assert head[:6] == ["method", "mean", "vs best", "worst", "Δm", "tasks hurt"]  # all have the same seeds
    assert list(rows) == ["shared", "modulation", "independent"]
    for table in summary.tables:
        for column in table.columns:
            for row in table.rows:
                if any(column.number(other) for other in table.rows) and column.key not in ("method", "seeds"):
                    expected = " ".join(filter(None, (column.number(row), column.spread(row))))
                    expected += MARKS.get(row.standing.get(column.key, ""), "")
                    assert re.sub(" ([*≈?])$", r"\1", rows[row.method][column.heading]) == expected, column.key
    assert rows["shared"]["mean"].endswith("*")
    assert rows["modulation"]["mean"].endswith("≈")
    assert rows["independent"]["mean"][-1].isdigit()
    put(results, "shared", 3, (0.894, 0.7), megabytes=4)
    (summary,) = found(results)
    assert [column["text"] for column in leaderboard(summary)["columns"]][:2] == ["seeds", "mean"]


def test_a_methods_groups_are_by_its_name_without_options(results: Path) -> None:
    put(results, "modulation[after=3]")
    put(results, "modulation+pcgrad")
    (summary,) = found(results)
    groups = {row["method"]: row["groups"] for row in leaderboard(summary)["rows"]}
    assert groups["modulation[after=3]"] == ["core"]
    assert groups["modulation+pcgrad"] == []
    assert leaderboard(summary)["groups"] == ["core", "base"]
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


@pytest.mark.usefixtures("_undrawn")
def test_a_verdict_for_machines_lies_beside_the_page(results: Path, tmp_path: Path) -> None:
    write_page(found(results), results, tmp_path / "page")
    (said,) = json.loads((tmp_path / "page" / "verdict.json").read_text())
    assert (said["benchmark"], said["best"], said["tied"]) == ("made-up-quick", "shared", ["shared", "modulation"])
    assert (said["smallest"], said["undecided"], len(said["closing"])) == (["modulation"], [], 3)


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
    assert len(parsed.pictures) == 4  # storage, storage by tasks, tasks, curves; no speeds were measured
    assert all(str(picture["src"]).endswith(".svg") for picture in parsed.pictures)
    assert len([link for link in parsed.links if link.endswith(".png")]) == 4
    assert any("On the Pareto front: modulation" in str(picture["alt"]) for picture in parsed.pictures)
    assert (folder / "made-up-quick/figures.pdf").read_bytes().count(b"/Type /Page ") == 4
    assert {path.name for path in (folder / "made-up-quick/images").iterdir()} == {f"{n}.jpg" for n in range(4)}
    table = pd.read_csv(folder / "made-up-quick/table.csv").set_index("method")
    assert table.loc["shared", "mean"] == pytest.approx(0.799)
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
    assert "Galleries" not in Parsed(index).text
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
    assert "shared and modulation are tied. The highest mean accuracy" in text
    assert "4.00 MB" in text


@pytest.mark.usefixtures("_undrawn")
def test_the_page_that_leads_to_several_tells_what_collapsed_failed_or_breaks_the_contract(tmp_path: Path) -> None:
    results = tmp_path / "results"
    for seed in range(3):
        put(results, "shared", seed, (0.9 - 0.01 * seed, 0.9), collapsed=["colour"])
        put(results, "film", seed, (0.7, 0.7), status="failed", reason="no memory")
        put(results, "csn", seed, (0.7, 0.7), checked={"csn": BROKEN})
        put(results, "shared", seed, benchmark="other")
    write_page(found(results), results, tmp_path / "page")
    text = " ".join(Parsed(tmp_path / "page" / "index.html").text.split())
    assert "shared collapsed: under some task all its embeddings are nearly equal." in text
    for line in ("Failed: film.", "Collapsed: shared.", "Breaks the contract, so its numbers may be wrong: csn."):
        assert text.count(line) == 1


@pytest.mark.usefixtures("_undrawn")
@pytest.mark.parametrize(
    ("changes", "heading", "badge"),
    [
        ({"reason": "cost not measured: full"}, "Remarks", "note"),
        ({"collapsed": ["colour"]}, "What went wrong", "collapsed"),
        ({"status": "failed", "reason": "no memory"}, "What went wrong", "partly failed"),
        ({"checked": {"film": BROKEN}}, "What went wrong", "breaks the contract"),
    ],
)
def test_remarks_are_headed_as_what_went_wrong_where_something_did(
    tmp_path: Path, changes: dict[str, Any], heading: str, badge: str
) -> None:
    results = tmp_path / "results"
    put(results, "film", 0)
    put(results, "film", 1, **changes)
    (summary,) = found(results)
    page = write_page([summary], results, tmp_path / "page")
    text = Parsed(page).text
    assert [h for h in ("Remarks", "What went wrong") if h in text.partition("What the columns")[0]] == [heading]
    assert Parsed(page).cells[1][0] == f"film {badge}"
    strong = re.search(r"^- \*\*film", as_markup(summary, "md"), re.MULTILINE)
    assert bool(strong) is (heading == "What went wrong")


@pytest.mark.usefixtures("_undrawn")
def test_suites_titled_alike_are_told_apart_by_their_benchmarks(results: Path, tmp_path: Path) -> None:
    put(results, "shared", benchmark="other-quick")
    write_page(found(results), results, tmp_path / "page")
    text = Parsed(tmp_path / "page" / "index.html").text
    for name in ("made-up-quick", "other-quick"):
        titled = f"Made up (rendered images, not real ones), quick protocol ({name})"
        assert titled in text
        for style in ("md", "latex"):
            (summary,) = (one for one in found(results) if one.suite.benchmark["name"] == name)
            assert f"{titled}: triplet accuracy" in as_markup(summary, style)
            assert f"Cost: {titled}" in as_markup(summary, style)
    put(results, "shared", benchmark="mine", title="mine", rendered=False)
    assert found(results)[1].subject == "mine"  # once is enough


@pytest.mark.usefixtures("_undrawn")
def test_suites_of_one_name_are_told_apart_by_the_settings_in_which_they_differ(tmp_path: Path) -> None:
    for method, precision in (("shared", "fp32"), ("film", "bf16")):
        put(tmp_path / "results", method)
        (file,) = (tmp_path / "results/made-up-quick" / method).rglob("run.json")
        content = json.loads(file.read_text())
        content["setup"]["precision"] = precision
        file.write_text(json.dumps(content))
    summaries = found(tmp_path / "results")
    write_page(summaries, tmp_path / "results", tmp_path / "page")
    text = Parsed(tmp_path / "page" / "index.html").text
    for stem, precision in (("made-up-quick", "bf16"), ("made-up-quick-2", "fp32")):
        assert f"quick protocol (made-up-quick), precision {precision}" in text
        alone = Parsed(tmp_path / "page" / f"{stem}.html").text
        assert f"quick protocol (made-up-quick), precision {precision}" in alone
        assert "the table above" not in alone


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
        "verdict.json",
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


def curves_of(index: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = index.read_text("utf-8").partition('id="curves">')[2].partition("</script>")[0]
    return json.loads(text, parse_constant=refuse)


@pytest.mark.usefixtures("_a_figure")
def test_of_35_methods_few_curves_have_a_colour_and_no_name_is_broken_within_its_parts(tmp_path: Path) -> None:
    names = ["independent", "shared", "modulation", *(f"method-{n:02}" for n in range(31)), "film[after=3,relu]+pcgrad"]
    for place, method in enumerate(names):
        put(tmp_path / "results", method, hits=(0.95 - place / 100, 0.7))
    index = write_page(found(tmp_path / "results"), tmp_path / "results", tmp_path / "page")
    curves = curves_of(index)
    assert [one["method"] for one in curves] == names
    assert [one["method"] for one in curves if one["prominent"]] == names[:8]
    text = index.read_text("utf-8")
    for parts in (["method-30"], ["film[", "after=3,", "relu]+", "pcgrad"]):
        assert "<wbr>".join(f'<span class="part">{part}</span>' for part in parts) in text


@pytest.mark.slow
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
    assert "they cover all 2 tasks, and this page covers 1 of them" in Parsed(index).text
    check_links(tmp_path / "page")
    index = write_page(found(results), results, tmp_path / "page")
    assert len(curves_of(index)) == 3
    assert "img" in Parsed(index).tags
    assert "No figures" not in Parsed(index).text


def test_figures_hear_how_the_tables_means_compare_and_of_another_metric_nothing(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[dict[str, str]] = []

    def draw(scene: Scene, *given: object) -> list[page.Figure]:
        heard.append(dict(scene.standing))
        return []

    monkeypatch.setattr(page, "draw_scene", draw)
    for metric in ("triplet", "macro/map@r"):
        write_page(found(results, metric=metric), results, tmp_path / "page")
    assert heard == [{"shared": "best", "modulation": "tied", "independent": "worse"}, {}]


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
    assert summary.receipt[0].startswith("accuracy: 2,000 test triplets a task, the same for all methods, mean ±")
