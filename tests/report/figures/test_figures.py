"""Figures from records and files made up by hand: what is written, and nothing is drawn of nothing."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import pytest
from figure_records import cells, curve, line, put, record, scene, tuned

from mtlbench.errors import LeftOut
from mtlbench.report.figures import FORMATS, draw_all
from mtlbench.report.figures.accuracy import STORAGE, accuracy_against, heat_map, learning_curves
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import styled
from mtlbench.report.suites import suites
from mtlbench.runs import find_records, folder_of, remove_run, run_folder

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.slow
def test_every_figure_is_written_in_every_format_and_described(results: Path, tmp_path: Path) -> None:
    (suite,) = suites(find_records(results))
    drawn = draw_all(suite, results, tmp_path / "figures")
    assert [figure.stem for figure in drawn] == [
        "accuracy-storage", "accuracy-embedding", "accuracy-training", "accuracy-tasks", "learning-curves",
        "gradient-agreement", "gradient-compliance", "gradient-pairs", "scales-modulation", "scales-similarity",
        "units-cross-stitch", "balancer-weights",
    ]  # fmt: skip
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    files = {f"{figure.stem}.{ending}" for figure in drawn for ending in FORMATS}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == files
    for name in files:
        assert (tmp_path / "figures" / name).read_bytes().startswith(starts[name[-3:]])
    for figure in drawn:
        assert "Made up (rendered images), quick protocol" in figure.title
        assert "seed" in figure.title
        assert any(letter.isdigit() for letter in figure.alt), figure.alt
        assert any(letter.isdigit() for letter in figure.says), figure.says
        assert figure.says.endswith(".")
        assert 0 < figure.head < 0.5


def test_only_the_formats_asked_for_are_written_and_the_same_data_give_the_same_files(tmp_path: Path) -> None:
    put(tmp_path, record("one"), curve=curve(0.5))
    (suite,) = suites(find_records(tmp_path))
    for name in ("first", "second"):
        draw_all(suite, tmp_path, tmp_path / name, ("svg", "pdf"))
    assert {path.suffix for path in (tmp_path / "first").iterdir()} == {".svg", ".pdf"}
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_figures_of_what_no_run_left_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, record("one", costs={}), probes=[])
    (suite,) = suites(find_records(tmp_path))
    assert [figure.stem for figure in draw_all(suite, tmp_path, tmp_path / "figures", ("svg",))] == ["accuracy-tasks"]


def test_a_suite_without_a_finished_run_has_no_figure(tmp_path: Path) -> None:
    put(tmp_path, record("one", metrics={}, costs={}, status="failed", reason="out of memory"))
    (suite,) = suites(find_records(tmp_path))
    assert draw_all(suite, tmp_path, tmp_path / "figures") == []


def test_a_row_that_is_another_one_again_is_drawn_once(tmp_path: Path) -> None:
    for method, hits in (("independent", (0.8, 0.6, 0.7)), ("shared", (0.7, 0.6, 0.5))):
        put(tmp_path, record(method, 0, hits), curve=curve(0.5))
        tuned(tmp_path, method, hits)
    tuned(tmp_path, "modulation", (0.7, 0.7, 0.7), train={"lr": 0.1})
    found = scene(tmp_path)
    assert [method.name for method in found.methods] == ["independent", "modulation · tuned", "shared"]
    against, map_of_tasks, curves = accuracy_against(found, STORAGE), heat_map(found), learning_curves(found)
    assert against is not None
    assert map_of_tasks is not None
    assert curves is not None
    assert {text.get_text() for text in against.figure.axes[0].texts} == {method.name for method in found.methods}
    assert list(cells(map_of_tasks)) == [method.name for method in found.methods]
    assert line(curves.figure, "shared")[0] == [20, 40]
    with pytest.raises(ValueError, match="not enough values"):
        line(curves.figure, "shared · tuned")
    # where the other one is not asked for, it is drawn like any other
    alone = Scene.of(found.suite, tmp_path, {"shared · tuned", "modulation · tuned"})
    assert [method.name for method in alone.methods] == ["modulation · tuned", "shared · tuned"]
    # the one with more seeds stands for both, and the map's colours are relative to it
    tuned(tmp_path, "independent", (0.8, 0.6, 0.7), seed=1)
    drawing = heat_map(scene(tmp_path))
    assert drawing is not None
    assert "difference to independent · tuned" in drawing.title
    assert cells(drawing)["shared"] == pytest.approx([-10, -10, 0, -20])


def test_a_failed_seed_is_left_out_and_the_number_of_seeds_says_so(results: Path) -> None:
    failed = record("shared", 1, metrics={}, costs={}, status="failed", reason="out of memory")
    remove_run(folder_of(failed, results))  # no failure takes the place of a finished run
    put(results, failed)
    drawing = accuracy_against(scene(results), STORAGE)
    assert drawing is not None
    assert "1 to 2 seeds" in drawing.title


def test_real_images_are_not_called_rendered(results: Path) -> None:
    found = scene(results)
    for one in found.suite.records:
        one.receipt["data"]["rendered"] = False
    assert found.where(found.methods) == "Made up, quick protocol; 2 seeds"


@pytest.mark.slow
def test_the_users_settings_of_matplotlib_are_left_alone(results: Path, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    (suite,) = suites(find_records(results))
    with matplotlib.rc_context({"font.size": 31, "axes.grid": False, "savefig.dpi": 17}):
        before, backend = dict(matplotlib.rcParams), matplotlib.rcParams._get("backend")  # type: ignore[attr-defined]
        draw_all(suite, results, tmp_path / "figures", ("png",))
        assert dict(matplotlib.rcParams) == before
        assert matplotlib.rcParams._get("backend") == backend  # type: ignore[attr-defined]
    assert plt.get_fignums() == []
    with styled():
        plain = accuracy_against(scene(results), STORAGE)
    assert plain is not None
    assert plain.figure.axes[0].xaxis.label.get_fontsize() == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["curve.csv", "agreement.csv", "weights.safetensors"])
def test_a_damaged_file_is_named_and_left_out(results: Path, tmp_path: Path, name: str) -> None:
    path = run_folder(results, "made-up-quick", "modulation", 0) / name
    (suite,) = suites(find_records(results))
    whole = draw_all(suite, results, tmp_path / "whole", ("svg",))
    path.write_text("one,two\n1\n2,3,4,5\n")
    with pytest.warns(LeftOut, match=r"left out: .*modulation/seed-0/" + name):
        drawn = draw_all(suite, results, tmp_path / "figures", ("svg",))
    assert [figure.stem for figure in drawn] == [figure.stem for figure in whole]


def test_runs_from_different_sources_are_found_in_their_folders(results: Path) -> None:
    for seed in (0, 1):
        path = run_folder(results, "made-up-quick", "modulation", seed) / "run.json"
        content = json.loads(path.read_text())
        content["setup"]["code"] = {"architecture": f"{seed}abcdef"}
        path.write_text(json.dumps(content))
    found = scene(results)
    names = [method.name for method in found.methods if found.curves(method)]
    assert {"modulation (source 0abcdef)", "modulation (source 1abcdef)"} <= set(names)
