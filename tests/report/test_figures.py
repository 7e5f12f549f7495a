"""Figures from records and files made up by hand: they plot what is there, and nothing is drawn of nothing."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from mtlbench.errors import UserError
from mtlbench.report.figures import FORMATS, accuracy, draw_all, sharing
from mtlbench.report.figures.accuracy import EMBEDDING, STORAGE, TRAINING, accuracy_against, front, heat_map
from mtlbench.report.figures.data import similarity
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import CORE, Drawing, looks, settle, shorts, styled
from mtlbench.report.suites import suites
from mtlbench.runs import Record, find_records, folder_of, remove_run, run_folder, write_record

pytestmark = pytest.mark.filterwarnings("error")
TASKS = ("colour", "heel_height", "brand")
SMALL_MB, LARGE_MB = 2.5, 7.5


@pytest.fixture(autouse=True)
def _in_style():
    with styled():
        yield


def record(method: str, seed: int = 0, hits: Sequence[float] = (0.9, 0.7, 0.5), **changes: Any) -> Record:
    tasks = changes.pop("tasks", TASKS)
    settings = {
        "name": "made-up-quick", "title": "Made up", "data": {"image_size": [48, 64]},
        "model": {"backbone": "small", "embedding": 8}, "train": {"steps": 40},
        "evaluation": {"triplets": 200, "agreement_every": 20},
    }  # fmt: skip
    setup = {"method": {"name": method}, "benchmark": settings, "tasks": list(tasks), "seed": seed, "data": "abc"}
    made = Record(method, seed, "method", setup)
    made.metrics = {task: {"triplet": hit} for task, hit in zip(tasks, hits, strict=True)}
    size = LARGE_MB if method == "independent" else SMALL_MB
    made.costs = {"file_bytes": 1e6 * size, "train_rate": 1000.0 + 100 * seed, "embed_rate_all_tasks": 3000.0}
    made.receipt = {"device": "a processor", "data": {"rendered": True}}
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def curve(final: float, weights: Sequence[float] = (1.0, 1.0, 1.0), speed: float = 10.0) -> list[dict[str, float]]:
    """Forty steps with validations at 20 and 40; the weights go from 1 to `weights`."""
    rows = []
    for step in range(1, 41):
        row = {"step": step, "seconds": step / speed}
        row |= {f"weight/{t}": 1 + (w - 1) * step / 40 for t, w in zip(TASKS, weights, strict=True)}
        if step % 20 == 0:
            row["accuracy"] = final * step / 40
        rows.append(row)
    return rows


def cosines(*by_pair: Sequence[float | None]) -> list[dict[str, str]]:
    """One sequence a pair of tasks, of a cosine every 20 steps."""
    return [
        {"step": str(20 * n), "layer": layer, "task_a": a, "task_b": b, "cosine": "" if c is None else f"{c:.6g}"}
        for (a, b), values in zip(itertools.combinations(TASKS, 2), by_pair, strict=True)
        for n, c in enumerate(values)
        for layer in ("all", "net.head")
    ]


def put(results: Path, made: Record, **files: Any) -> None:
    name = made.setup["method"]["name"]
    write_record(run_folder(results, "made-up-quick", name, made.seed), made, **files)


def scene(results: Path) -> Scene:
    (suite,) = suites(find_records(results))
    return Scene.of(suite, results)


SCALES = {3: [[0.5, 1.0, 1.5, 1.2], [0.6, 1.0, 1.4, 1.3], [1.4, 1.1, 0.6, 0.9]], 5: [[1, 2], [1, 3], [2, 1]]}


def scale_tensors(scales: Mapping[int, Sequence[Sequence[float]]] = SCALES, shift: float = 0.0) -> dict[str, Any]:
    return {
        f"scales.{layer}.{t}": torch.tensor(values) + shift
        for layer, by_task in scales.items()
        for t, values in enumerate(by_task)
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Four methods and two seeds with everything that a run can leave."""
    folder = tmp_path / "results"
    agree, disagree = ([0.5, 0.3], [0.1, 0.1], [0.2, None]), ([-0.5, 0.3], [-0.1, -0.1], [0.2, None])
    for seed in (0, 1):
        low = 0.01 * seed
        put(folder, record("independent", seed, (0.8 - low, 0.6, 0.7)), curve=curve(0.7, speed=2))
        put(folder, record("shared", seed, (0.7, 0.6, 0.5 - low)), curve=curve(0.6), probes=cosines(*disagree))
        put(folder, record("gradnorm", seed, (0.7, 0.7, 0.4)), curve=curve(0.5 + low, (2 - low, 0.5, 0.5)))
        put(folder, record("modulation", seed, (0.75, 0.7 - low, 0.6)), curve=curve(0.65 + low, speed=8),
            weights=scale_tensors(shift=low), probes=cosines(*agree))  # fmt: skip
        units = {f"units.{n}": torch.eye(3) * (0.9 + 2 * low) + 0.05 * n for n in (0, 1)}
        put(folder, record("cross-stitch", seed, (0.7, 0.5, 0.6)), curve=curve(0.6), weights=units)
    return folder


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def line(figure: Figure, name: str, panel: int = 0) -> tuple[list[float], list[float]]:
    (found,) = [found for found in figure.axes[panel].lines if found.get_gid() == name]
    return list(found.get_xdata()), list(found.get_ydata())


# --- all together -----------------------------------------------------------------------------------------------------


def test_every_figure_is_written_in_every_format_and_described(results: Path, tmp_path: Path) -> None:
    (suite,) = suites(find_records(results))
    drawn = draw_all(suite, results, tmp_path / "figures")
    assert [figure.stem for figure in drawn] == [
        "accuracy-storage", "accuracy-embedding", "accuracy-training", "accuracy-tasks", "learning-curves",
        "gradient-agreement", "gradient-pairs", "scales-modulation", "scales-similarity", "units-cross-stitch",
        "balancer-weights",
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


def test_a_failed_seed_is_left_out_and_the_number_of_seeds_says_so(results: Path) -> None:
    failed = record("shared", 1, metrics={}, costs={}, status="failed", reason="out of memory")
    remove_run(folder_of(results, failed))  # no failure takes the place of a finished run
    put(results, failed)
    drawing = accuracy_against(scene(results), STORAGE)
    assert drawing is not None
    assert "1 to 2 seeds" in drawing.title


def test_real_images_are_not_called_rendered(results: Path) -> None:
    found = scene(results)
    for one in found.suite.records:
        one.receipt["data"]["rendered"] = False
    assert found.where(found.methods) == "Made up, quick protocol; 2 seeds"


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


@pytest.mark.parametrize("name", ["curve.csv", "agreement.csv", "weights.safetensors"])
def test_a_damaged_file_is_named(results: Path, tmp_path: Path, name: str) -> None:
    path = run_folder(results, "made-up-quick", "modulation", 0) / name
    path.write_text("one,two\n1\n2,3,4,5\n")
    (suite,) = suites(find_records(results))
    with pytest.raises(UserError, match=r"modulation/seed-0/" + name + ".* can't be read"):
        draw_all(suite, results, tmp_path / "figures", ("svg",))


def test_runs_from_different_sources_are_found_in_their_folders(results: Path) -> None:
    for seed in (0, 1):
        path = run_folder(results, "made-up-quick", "modulation", seed) / "run.json"
        content = json.loads(path.read_text())
        content["setup"]["code"] = {"architecture": f"{seed}abcdef"}
        path.write_text(json.dumps(content))
    found = scene(results)
    names = [method.name for method in found.methods if found.curves(method)]
    assert {"modulation (source 0abcdef)", "modulation (source 1abcdef)"} <= set(names)


# --- accuracy against cost --------------------------------------------------------------------------------------------


def test_the_front_is_what_no_other_point_beats() -> None:
    points = [(1.0, 50.0), (2.0, 60.0), (3.0, 60.0), (4.0, 55.0), (5.0, 70.0)]
    assert front(points, less_is_better=True) == [0, 1, 4]  # as good for more storage is worse
    assert front(points, less_is_better=False) == [4]
    assert front([(3.0, 50.0), (1.0, 70.0), (2.0, 60.0), (1.5, 60.0)], less_is_better=False) == [0, 2, 1]


def test_equal_points_are_both_on_the_front_and_at_one_cost_only_the_best_is() -> None:
    assert front([(1.0, 50.0), (1.0, 50.0), (1.0, 49.0)], less_is_better=True) == [0, 1]
    assert front([(2.0, 50.0), (1.0, 50.0)], less_is_better=False) == [0]
    assert front([], less_is_better=True) == []


def test_points_are_the_means_and_bars_the_standard_deviations(results: Path) -> None:
    drawing = accuracy_against(scene(results), TRAINING)
    assert drawing is not None
    (bars,) = [c for c in drawing.figure.axes[0].containers if c.get_label() == "independent"]
    assert (bars.lines[0].get_xdata()[0], bars.lines[0].get_ydata()[0]) == pytest.approx((1050, 209.5 / 3))
    horizontal, vertical = (segments.get_segments()[0] for segments in bars.lines[2])
    assert horizontal[:, 0] == pytest.approx([1050 - 50 * math.sqrt(2), 1050 + 50 * math.sqrt(2)])
    of_means = math.sqrt(2) / 6  # the two seeds' means are 70 and 69.67
    assert vertical[:, 1] == pytest.approx([209.5 / 3 - of_means, 209.5 / 3 + of_means])


def test_the_front_is_drawn_through_its_points_and_named_in_words(results: Path) -> None:
    drawing = accuracy_against(scene(results), STORAGE)
    assert drawing is not None
    x, y = line(drawing.figure, "front")
    assert x == pytest.approx([SMALL_MB, LARGE_MB])
    assert y == pytest.approx([204.5 / 3, 209.5 / 3])
    assert "On the Pareto front: modulation (68.2 % at 2.5 MB), independent (69.8 % at 7.5 MB)." in drawing.alt


def test_one_seed_has_no_bar_and_a_collapsed_method_is_hollow(tmp_path: Path) -> None:
    put(tmp_path, record("one"))
    put(tmp_path, record("two", collapsed=["brand"]))
    drawing = accuracy_against(scene(tmp_path), EMBEDDING)
    assert drawing is not None
    one, two = drawing.figure.axes[0].containers
    assert all(not part for part in (*one.lines[2], *two.lines[2]))
    hollow = {c.get_label(): c.lines[0].get_markerfacecolor() == "white" for c in (one, two)}
    assert hollow == {"one": False, "two": True}
    assert "hollow: collapsed" in drawing.title
    assert "standard deviation" not in drawing.title


def test_methods_whose_cost_was_not_measured_are_left_out(results: Path) -> None:
    put(results, record("gradnorm", 1, costs={}))
    found = scene(results)
    drawing = accuracy_against(found, STORAGE)
    assert drawing is not None
    assert {c.get_label() for c in drawing.figure.axes[0].containers} == {
        "independent", "shared", "modulation", "cross-stitch",
    }  # fmt: skip
    found.methods = found.methods[:1]
    assert accuracy_against(found, STORAGE) is None


def crowd(results: Path, methods: int = 45, tasks: int = 3) -> Scene:
    random = np.random.default_rng(0)
    names = tuple(f"a_task_with_a_long_name_{t}" for t in range(tasks))
    for n in range(methods):
        name = [*CORE][n] if n < len(CORE) else f"a-method-with-options[depth={n},width=16]"
        made = record(name, 0, random.uniform(0.5, 0.9, tasks), tasks=names)
        made.costs["file_bytes"] = float(random.uniform(2e6, 9e6))
        put(results, made)
    return scene(results)


def test_in_a_crowd_the_front_and_the_core_are_named_and_names_do_not_collide(tmp_path: Path) -> None:
    found = crowd(tmp_path)
    drawing = accuracy_against(found, STORAGE)
    assert drawing is not None
    figure = drawing.figure
    (axes,) = figure.axes
    points = [(m.cost("file_bytes")[0], m.mean) for m in found.methods]
    wanted = {found.methods[n].name for n in front(points, less_is_better=True)} | set(CORE)
    labels = [text for text in axes.texts if text.get_text()]
    assert len(labels) == len(wanted)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [text.get_window_extent(renderer) for text in labels]
    for a, b in itertools.combinations(boxes, 2):
        both = Bbox.intersection(a, b)
        assert both is None or both.height < 0.25 * a.height or both.width < 2, (a, b)


# --- the heat map -----------------------------------------------------------------------------------------------------


def cells(drawing: Drawing) -> dict[str, list[float]]:
    """A map's values by the name of the row."""
    axes = drawing.figure.axes[0]
    values = axes.collections[0].get_array()
    assert values is not None
    rows = [label.get_text() for label in axes.get_yticklabels()]
    return {name: row.tolist() for name, row in zip(rows, np.ma.filled(values, math.nan), strict=True)}


def test_colours_tell_the_difference_to_independent_and_numbers_the_accuracy(results: Path) -> None:
    drawing = heat_map(scene(results))
    assert drawing is not None
    assert "difference to independent" in drawing.title
    shown = cells(drawing)
    assert list(shown) == ["independent", "modulation", "cross-stitch", "gradnorm", "shared"]
    assert shown["independent"] == [0, 0, 0, 0]
    assert shown["gradnorm"] == pytest.approx([(-9.5 + 10 - 30) / 3, -9.5, 10, -30])
    numbers = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert numbers[:4] == ["69.8", "79.5", "60.0", "70.0"]


def test_the_base_is_taken_over_the_seeds_that_both_have(results: Path) -> None:
    put(results, record("shared", 2, (0.1, 0.1, 0.1)))
    drawing = heat_map(scene(results))
    assert drawing is not None
    assert cells(drawing)["shared"][1:] == pytest.approx([-9.5, 0, -20.5])


def test_without_independent_the_base_is_the_mean_of_the_methods(tmp_path: Path) -> None:
    put(tmp_path, record("one", 0, (0.8, 0.6, 0.4)))
    put(tmp_path, record("two", 0, (0.6, 0.6, 0.5)))
    put(tmp_path, record("chance", 0, (0.5, 0.5, 0.5), kind="reference", costs={}))
    drawing = heat_map(scene(tmp_path))
    assert drawing is not None
    assert "difference to the mean of the methods on that task" in drawing.title
    shown = cells(drawing)
    assert list(shown)[-1] == "chance"
    assert shown["one"] == pytest.approx([5 / 3, 10, 0, -5])
    assert shown["chance"][1:] == pytest.approx([-20, -10, 5])


def test_a_large_map_has_no_numbers_and_every_name(tmp_path: Path) -> None:
    drawing = heat_map(crowd(tmp_path, 20, 30))
    assert drawing is not None
    axes = drawing.figure.axes[0]
    assert len(axes.texts) == 0
    assert len({label.get_text() for label in axes.get_xticklabels()}) == 31
    assert len({label.get_text() for label in axes.get_yticklabels()}) == 20


# --- curves -----------------------------------------------------------------------------------------------------------


def test_learning_curves_are_means_over_seeds_by_step_and_by_second(results: Path) -> None:
    drawing = accuracy.learning_curves(scene(results))
    assert drawing is not None
    steps, values = line(drawing.figure, "modulation")
    assert steps == [20, 40]
    assert values == pytest.approx([32.75, 65.5])
    seconds, same = line(drawing.figure, "modulation", 1)
    assert seconds == pytest.approx([2.5, 5])
    assert same == values
    bands = {to_hex(c.get_facecolor()[0]): c.get_paths()[0].vertices for c in drawing.figure.axes[0].collections}
    band = bands[CORE["modulation"][0].lower()]
    at_end = [y for x, y in band if x == 40]
    assert (min(at_end), max(at_end)) == pytest.approx((65, 66))
    assert "independent 70.0 % after 20 s" in drawing.alt


def test_learning_curves_without_times_are_by_step_alone(tmp_path: Path) -> None:
    put(tmp_path, record("one"), curve=[{**row, "seconds": math.nan} for row in curve(0.7)])
    drawing = accuracy.learning_curves(scene(tmp_path))
    assert drawing is not None
    assert [axes.get_xlabel() for axes in drawing.figure.axes] == ["training step"]
    assert "one 70.0 %." in drawing.alt


def test_of_many_methods_the_core_and_the_best_have_a_colour(tmp_path: Path) -> None:
    for n in range(12):
        put(tmp_path, record(f"method-{n:02}", 0, (0.5 + n / 100,) * 3), curve=curve(0.5 + n / 100))
    put(tmp_path, record("shared", 0, (0.4, 0.4, 0.4)), curve=curve(0.4))
    drawing = accuracy.learning_curves(scene(tmp_path))
    assert drawing is not None
    shown = [text for text in texts(drawing.figure) if text.startswith(("method-", "shared"))]
    assert shown == [*(f"method-{n:02}" for n in range(11, 4, -1)), "shared"]
    assert "5 other methods" in texts(drawing.figure)
    assert line(drawing.figure, "method-00")[1] == pytest.approx([25, 50])


def test_a_curve_without_a_validation_is_not_drawn(tmp_path: Path) -> None:
    put(tmp_path, record("one"))
    path = run_folder(tmp_path, "made-up-quick", "one", 0) / "curve.csv"
    path.write_text("step,seconds,accuracy\n1,0.1,\n2,0.2,\n")
    assert accuracy.learning_curves(scene(tmp_path)) is None


# --- agreement of gradients -------------------------------------------------------------------------------------------


def test_agreement_is_the_mean_cosine_and_the_share_of_pairs_above_0(results: Path) -> None:
    over_training, _ = sharing.agreement(scene(results))
    steps, means = line(over_training.figure, "shared")
    assert steps == [0, 20]
    assert means == pytest.approx([(-0.5 - 0.1 + 0.2) / 3, (0.3 - 0.1) / 2])  # the third pair has no cosine at step 20
    assert line(over_training.figure, "shared", 1)[1] == pytest.approx([100 / 3, 50])
    assert line(over_training.figure, "modulation", 1)[1] == pytest.approx([100, 100])
    assert "modulation 0.24 (100 %)" in over_training.alt
    assert "shared −0.04 (40 %)" in over_training.alt


def test_the_map_of_pairs_holds_each_pairs_mean_over_probes(results: Path) -> None:
    _, pairs = sharing.agreement(scene(results))
    panels = {axes.get_title(): axes.collections[0].get_array() for axes in pairs.figure.axes if axes.get_title()}
    values = np.ma.filled(panels["shared"], math.nan)
    expected = [[math.nan, -0.1, -0.1], [-0.1, math.nan, 0.2], [-0.1, 0.2, math.nan]]
    np.testing.assert_allclose(values, expected, atol=1e-9)
    limits = {axes.collections[0].get_clim() for axes in pairs.figure.axes if axes.get_title()}
    assert limits == {(-0.4, 0.4)}  # the same for all, up to modulation's 0.4


# --- what was learned -------------------------------------------------------------------------------------------------


def test_scales_are_shown_as_stored_of_one_seed_with_channels_in_the_order_of_their_mean(results: Path) -> None:
    (drawing,) = sharing.scales(scene(results))
    images = [axes.images[0].get_array() for axes in drawing.figure.axes if axes.images]
    expected = np.array(SCALES[3])
    np.testing.assert_allclose(images[0], expected[:, np.argsort(expected.mean(0))], rtol=1e-6)
    assert [axes.get_title() for axes in drawing.figure.axes[:2]] == ["layer 3", "layer 5"]
    assert "seed 0" in drawing.title
    assert "layer 3: 4 channels, 0.50 to 1.50" in drawing.alt


def test_similarity_is_the_correlation_over_channels_mean_over_layers_and_seeds(results: Path) -> None:
    (drawing,) = sharing.scales_similarity(scene(results))
    expected = np.mean([np.corrcoef(np.array(values)) for values in SCALES.values()], 0)  # a shift changes nothing
    np.testing.assert_allclose(list(cells(drawing).values()), expected, atol=1e-6)


def test_a_task_whose_scales_never_moved_is_similar_to_none() -> None:
    found = similarity({1: np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])})
    assert np.isnan(found[0]).all()
    assert found[1, 2] == pytest.approx(1)


@pytest.mark.parametrize(
    "tensors",
    [
        {f"scales.3.{t}": torch.ones(2, 4) for t in range(3)},  # matrices
        {f"scales.3.{t}": torch.ones(4 + t) for t in range(3)},  # of different lengths
        {f"scales.3.{t}": torch.ones(4) for t in range(2)},  # a task without
        {"units.0": torch.ones(2, 2), "units.1": torch.ones(3)},
        {"net.scales.3.0": torch.ones(4)},
    ],
)
def test_tensors_of_another_shape_are_something_else(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    put(tmp_path, record("one"), weights=tensors)
    found = scene(tmp_path)
    assert sharing.scales(found) == sharing.scales_similarity(found) == sharing.units(found) == []


def test_any_method_with_such_scales_is_shown(tmp_path: Path) -> None:
    put(tmp_path, record("my-own+uw"), weights=scale_tensors())
    assert [drawing.stem for drawing in sharing.scales(scene(tmp_path))] == ["scales-my-own+uw"]


def test_units_are_means_over_seeds(results: Path) -> None:
    (drawing,) = sharing.units(scene(results))
    panels = [axes.collections[0].get_array() for axes in drawing.figure.axes if axes.get_title()]
    for n, values in enumerate(panels):
        np.testing.assert_allclose(np.ma.getdata(values), np.eye(3) * 0.91 + 0.05 * n, atol=1e-6)
    assert "unit 1: own column 0.91, others 0.00 on average; unit 2: own column 0.96, others 0.05" in drawing.alt


def test_weights_are_shown_where_they_move(results: Path) -> None:
    drawing = sharing.weights(scene(results))
    assert drawing is not None
    assert [axes.get_title() for axes in drawing.figure.axes] == ["gradnorm"]
    steps, weights = line(drawing.figure, "weight/colour")
    assert (len(steps), steps[0], steps[-1]) == (40, 1, 40)
    assert weights[-1] == pytest.approx(1.995)  # the mean of 2 and 1.99
    assert "gradnorm 2 (colour) to 0.5 (heel height)" in drawing.alt  # 1.995 to three figures


def test_a_long_run_is_drawn_as_means_over_windows(tmp_path: Path) -> None:
    rows = [{"step": s, "seconds": s, "accuracy": 0.5} | {f"weight/{t}": s for t in TASKS} for s in range(1, 201)]
    put(tmp_path, record("one"), curve=rows)
    drawing = sharing.weights(scene(tmp_path))
    assert drawing is not None
    steps, weights = line(drawing.figure, "weight/brand")
    assert len(steps) == 50
    assert steps[:2] == [2.5, 6.5]
    assert weights == steps


# --- looks ------------------------------------------------------------------------------------------------------------


def test_the_core_methods_look_the_same_in_whatever_company() -> None:
    alone = {name: looks([name])[name] for name in CORE}
    together = looks([*CORE, *(f"method-{n}" for n in range(40))])
    assert {name: together[name] for name in CORE} == alone
    assert len({look.colour for look in alone.values()}) == len(CORE)


def test_a_methods_look_follows_from_its_name_and_is_nobody_elses() -> None:
    names = [f"method-{n}" for n in range(40)]
    found = looks([*CORE, *names])
    assert found == looks([*reversed(names), *CORE])
    assert len({(look.colour, look.marker) for look in found.values()}) == 45
    few = looks([*CORE, *names[:6]])
    assert len({look.colour for look in few.values()}) == 11
    assert looks(["single"])["single"] == looks(["single", *CORE])["single"]


def test_more_methods_than_looks_can_be_drawn() -> None:
    assert len(looks(f"method-{n}" for n in range(60))) == 60


def test_a_method_has_its_colour_in_every_figure(results: Path) -> None:
    found = scene(results)
    for drawing in (accuracy.learning_curves(found), sharing.agreement(found)[0]):
        assert drawing is not None
        lines = [one for axes in drawing.figure.axes for one in axes.lines if one.get_gid() == "shared"]
        assert {to_hex(one.get_color()).upper() for one in lines} == {CORE["shared"][0]}
    against = accuracy_against(found, STORAGE)
    assert against is not None
    (bars,) = [c for c in against.figure.axes[0].containers if c.get_label() == "shared"]
    assert to_hex(bars.lines[0].get_color()).upper() == CORE["shared"][0]


def test_long_names_are_cut_unless_they_would_become_the_same() -> None:
    assert shorts(["short", "a-very-long-name-of-a-method"], 11) == ["short", "a-very…thod"]
    alike = ["beginning-one-the-end", "beginning-two-the-end"]
    assert shorts(alike, 11) == alike


def drawings(found: Scene) -> list[Drawing]:
    one_each = [accuracy_against(found, cost) for cost in (STORAGE, EMBEDDING, TRAINING)]
    one_each += [heat_map(found), accuracy.learning_curves(found), sharing.weights(found)]
    several = [sharing.agreement(found), sharing.scales(found), sharing.scales_similarity(found), sharing.units(found)]
    return [one for one in one_each if one] + [one for some in several for one in some]


def written(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Bbox]]:
    """Every text that drawing a figure really writes, and its box."""
    settle(figure)
    found: list[tuple[str, Bbox]] = []
    draw = Text.draw

    def note(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        if self.get_text() and self.get_visible():
            found.append((self.get_text(), Text.get_window_extent(self, renderer)))
        draw(self, renderer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", note)
        FigureCanvasAgg(figure).draw()
    return found


@pytest.mark.parametrize("tasks", [3, 12])
def test_no_text_leaves_its_figure_or_runs_into_another(
    results: Path, tmp_path: Path, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scene(results) if tasks == 3 else crowd(tmp_path / "many", 12, tasks)
    for drawing in drawings(found):
        page = drawing.figure.bbox.padded(1)
        shown = written(drawing.figure, monkeypatch)
        assert len(shown) > 5
        for text, box in shown:
            assert page.containsx(box.x0), (drawing.stem, text)
            assert page.containsx(box.x1), (drawing.stem, text)
            assert page.containsy(box.y0), (drawing.stem, text)
            assert page.containsy(box.y1), (drawing.stem, text)
        for (text, box), (other, beside) in itertools.combinations(shown, 2):
            both = Bbox.intersection(box, beside)
            # boxes have some room above and below their letters
            collide = both is not None and min(both.width, both.height) > 0.3 * min(box.height, box.width)
            assert not collide, (drawing.stem, text, other)


def test_names_with_signs_of_mathematics_are_written_as_they_are(tmp_path: Path) -> None:
    names = ("$price$", "50%_off", "a^b_{c}")
    for method in ("one", "two"):
        put(tmp_path, record(method, tasks=names))
    (suite,) = suites(find_records(tmp_path))
    assert [f.stem for f in draw_all(suite, tmp_path, tmp_path / "figures", ("svg", "pdf"))][-1] == "accuracy-tasks"
    drawing = heat_map(Scene.of(suite, tmp_path))
    assert drawing is not None
    assert {"$price$", "50% off", "a^b {c}"} <= set(texts(drawing.figure))


def test_one_task_and_one_method_are_enough(tmp_path: Path) -> None:
    rows = [{"step": s, "seconds": s / 9, "accuracy": 0.5, "weight/only": 1 + s} for s in range(1, 5)]
    weights = {"scales.3.0": torch.linspace(0, 2, 8), "units.0": torch.ones(1, 1)}
    put(tmp_path, record("one", 0, (0.5,), tasks=("only",)), curve=rows, weights=weights)
    (suite,) = suites(find_records(tmp_path))
    stems = [figure.stem for figure in draw_all(suite, tmp_path, tmp_path / "figures", ("png",))]
    assert stems == ["accuracy-tasks", "learning-curves", "scales-one", "units-one", "balancer-weights"]
