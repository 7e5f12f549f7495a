"""Figures of accuracy: against cost, by task, and while training."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from figure_records import CORE, LARGE_MB, SMALL_MB, cells, crowd, curve, line, put, record, scene, texts, varied
from matplotlib.colors import to_hex
from matplotlib.transforms import Bbox
from safetensors.numpy import save_file

from mtlbench.report.clustering import SharedImages
from mtlbench.report.figures import accuracy
from mtlbench.report.figures.accuracy import EMBEDDING, STORAGE, TRAINING, accuracy_against, front, heat_map
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.storage import MOST_TASKS, storage_by_tasks
from mtlbench.report.figures.style import settle
from mtlbench.report.leading import listed_with
from mtlbench.report.rows import Standing
from mtlbench.runs import run_folder

pytestmark = pytest.mark.filterwarnings("error")


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
    steps = {}
    for cost in (STORAGE, TRAINING):
        drawn = accuracy_against(scene(results), cost)
        assert drawn is not None
        steps[cost.stem] = next(one for one in drawn.figure.axes[0].lines if one.get_gid() == "front").get_drawstyle()
    # of what a cost allows the best is bought at less storage, or at more speed
    assert steps == {STORAGE.stem: "steps-post", TRAINING.stem: "steps-pre"}
    assert "On the Pareto front: modulation (68.2 % at 2.50 MB) and independent (69.8 % at 7.50 MB)." in drawing.alt


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


def _answers(folder: Path, name: str, hits: np.ndarray, triplets: np.ndarray, **more: np.ndarray) -> None:
    answers = {"hits": hits, "triplets": triplets, **more}
    save_file(answers, run_folder(folder, "made-up-quick", name, 0) / "test.safetensors")


def test_one_seeds_bar_is_the_standard_error_of_the_tests_own_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    hits = (random.random((3, 500)) < 0.7).astype(np.uint8)
    triplets = random.integers(0, 200, (3, 500, 3), dtype=np.int32)
    groups, labels = np.arange(200) // 5, np.tile(np.arange(200) % 25, (3, 1))
    made = record("one", hits=tuple(hits.mean(1).tolist()))
    put(tmp_path, made)
    put(tmp_path, record("two"))
    _answers(tmp_path, "one", hits, triplets, groups=groups, labels=labels)
    drawing = accuracy_against(scene(tmp_path), STORAGE)
    assert drawing is not None
    (bars,) = [c for c in drawing.figure.axes[0].containers if c.get_label() == "one"]
    ((low, high),) = (segments.get_segments()[0][:, 1] for segments in bars.lines[2])
    error = 100 * math.sqrt(SharedImages(triplets, groups, labels).spread(hits.astype(np.float64)))
    assert error != pytest.approx(100 * math.sqrt(SharedImages(triplets).spread(hits.astype(np.float64))))
    assert high - low == pytest.approx(2 * error)
    assert error > 100 * math.sqrt(0.7 * 0.3 / hits.size)  # triplets that share images tell less than single ones
    assert "bars: ± standard error of the test images" in drawing.where


def test_a_speeds_bar_reaches_from_the_slowest_to_the_fastest_round_of_all_seeds(tmp_path: Path) -> None:
    for seed, (slow, fast) in enumerate(((900.0, 1200.0), (800.0, 1100.0))):
        speeds = {"embed_rate_all_tasks": 1000.0, "embed_rate_all_tasks_slowest": slow,
                  "embed_rate_all_tasks_fastest": fast}  # fmt: skip
        put(tmp_path, record("one", seed, costs={"file_bytes": 1e6, **speeds}))
        put(tmp_path, record("two", seed))
    drawing = accuracy_against(scene(tmp_path), EMBEDDING)
    assert drawing is not None
    (bars,) = [c for c in drawing.figure.axes[0].containers if c.get_label() == "one"]
    horizontal = bars.lines[2][0].get_segments()[0]
    assert horizontal[:, 0] == pytest.approx([800, 1200])
    assert "slowest to fastest round" in drawing.where


def with_speed(middle: float, half: float) -> dict[str, float]:
    ends = {"": middle, "_slowest": middle - half, "_fastest": middle + half}
    return {"file_bytes": 1e6, **{f"embed_rate_all_tasks{end}": value for end, value in ends.items()}}


def test_a_caption_names_no_fastest_method_before_those_whose_bars_reach_its_own(tmp_path: Path) -> None:
    put(tmp_path, record("one", hits=(0.9, 0.9, 0.9), costs=with_speed(1000, 50)))
    put(tmp_path, record("two", hits=(0.8, 0.8, 0.8), costs=with_speed(1200, 230)))
    put(tmp_path, record("slow", hits=(0.7, 0.7, 0.7), costs=with_speed(500, 10)))
    drawing = accuracy_against(scene(tmp_path), EMBEDDING)
    assert drawing is not None
    assert drawing.says == (
        "One seed: the order of the methods is not known. Means range from 70.0 % to 90.0 %. Fastest, whose bars"
        " overlap: two 1,200 images/s and one 1,000 images/s."
    )
    put(tmp_path, record("slow", hits=(0.7, 0.7, 0.7), costs=with_speed(500, 110)))
    drawing = accuracy_against(scene(tmp_path), EMBEDDING)
    assert drawing is not None
    assert drawing.says.endswith(
        " None is called fastest: not all speeds can be compared. Speed varied by more than ±20 % or was measured on a"
        " busy machine: slow."
    )
    put(tmp_path, record("slow", hits=(0.7, 0.7, 0.7), costs=with_speed(900, 170)))
    drawing = accuracy_against(scene(tmp_path), EMBEDDING)
    assert drawing is not None
    assert "No speed stands out" in drawing.says
    put(tmp_path, record("two", hits=(0.8, 0.8, 0.8), costs=with_speed(1200, 30)))
    put(tmp_path, record("slow", hits=(0.7, 0.7, 0.7), costs=with_speed(500, 10)))
    drawing = accuracy_against(scene(tmp_path), EMBEDDING)
    assert drawing is not None
    assert drawing.says.endswith("Fastest: two, 1,200 images/s.")


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ({}, "Means range from 60.0 % to 90.0 %."),
        ({"one": "best", "two": "tied", "low": "worse"}, "Highest mean: one, 90.0 %; significantly lower: low."),
        (
            {"one": "best", "two": "worse", "low": "worse"},
            "Highest mean: one, 90.0 %; all others are significantly lower.",
        ),
        (
            {"one": "best", "two": "undecided", "low": "undecided"},
            "Highest mean: one, 90.0 %; no other is significantly lower.",
        ),
        ({"two": "best", "low": "worse"}, "Highest mean of enough seeds: two, 89.0 %; significantly lower: low."),
    ],
)
def test_a_caption_says_of_means_what_the_tables_comparison_found(
    tmp_path: Path, standing: dict[str, Standing], said: str
) -> None:
    """By bars that overlap, one of two equal methods of two seeds would stand out in a fifth of all tables."""
    for seed in (0, 1):
        put(tmp_path, record("one", seed, (0.9,) * 3))
        put(tmp_path, record("two", seed, (0.89,) * 3))
        put(tmp_path, record("low", seed, (0.6,) * 3))
    drawing = accuracy_against(replace(scene(tmp_path), standing=standing), STORAGE)
    assert drawing is not None
    assert drawing.says == f"{said} All are of one size."


def test_sizes_that_are_written_alike_are_equal(tmp_path: Path) -> None:
    for name, share, size in (("one", 0.7, 2.436e6), ("two", 0.8, 2.441e6), ("large", 0.6, 9e6)):
        put(tmp_path, record(name, 0, (share,) * 3, costs={"file_bytes": size}))
    drawing = accuracy_against(scene(tmp_path), STORAGE)
    assert drawing is not None
    assert drawing.says.endswith("Smallest: one and two, 2.44 MB.")
    assert "On the Pareto front: two (80.0 % at 2.44 MB)." in drawing.alt
    put(tmp_path, record("large", 0, (0.6,) * 3, costs={"file_bytes": 2.439e6}))
    drawing = accuracy_against(scene(tmp_path), STORAGE)
    assert drawing is not None
    assert drawing.says.endswith("All are of one size.")


def test_an_axis_says_that_it_is_logarithmic_and_is_not_for_a_narrow_range(tmp_path: Path) -> None:
    put(tmp_path, record("one", costs={"file_bytes": 1e6}))
    for size, scale, said in ((2e6, "linear", "storage of the network, MB"),
                              (3e6, "log", "storage of the network, MB (logarithmic)")):  # fmt: skip
        put(tmp_path, record("two", costs={"file_bytes": size}))
        drawing = accuracy_against(scene(tmp_path), STORAGE)
        assert drawing is not None
        axes = drawing.figure.axes[0]
        assert (axes.get_xscale(), axes.get_xlabel()) == (scale, said)


def test_a_caption_of_many_methods_names_a_few(tmp_path: Path) -> None:
    drawing = accuracy_against(crowd(tmp_path), EMBEDDING)  # all of one speed
    assert drawing is not None
    assert "No speed stands out" in drawing.says
    names = [f"m{n:02}" for n in range(35)]
    said = listed_with(names, {name: f"{name[1:]} images/s" for name in names})
    assert said.endswith("m03 03 images/s and 31 more")


# --- storage against tasks --------------------------------------------------------------------------------------------


def test_storage_goes_through_the_file_at_the_suites_tasks_and_grows_by_what_a_task_adds(tmp_path: Path) -> None:
    put(tmp_path, record("independent", costs={"file_bytes": 7.5e6, "bytes_added": 2.5e6}))
    put(tmp_path, record("modulation", costs={"file_bytes": 2.5e6, "bytes_added": 1280.0}))
    put(tmp_path, record("unmeasured", costs={"file_bytes": 2.5e6}))
    drawing = storage_by_tasks(scene(tmp_path))
    assert drawing is not None
    tasks, sizes = line(drawing.figure, "independent")
    assert (tasks[0], tasks[-1]) == (1, MOST_TASKS)
    assert sizes == pytest.approx([2.5 * t for t in tasks])
    _, sizes = line(drawing.figure, "modulation")
    assert sizes[2] == pytest.approx(2.5)
    assert sizes[-1] == pytest.approx(2.5 + 37 * 0.00128)
    assert drawing.says == "At 40 tasks independent would take 100 MB and modulation 2.55 MB, 39.3 times less."
    put(tmp_path, record("twin", costs={"file_bytes": 2.5e6, "bytes_added": 1280.0}))
    again = storage_by_tasks(scene(tmp_path))
    assert again is not None
    assert "and modulation and twin 2.55 MB" in again.says
    assert "from these records" in drawing.where
    with pytest.raises(ValueError, match="unpack"):
        line(drawing.figure, "unmeasured")


def test_lines_of_storage_that_lie_on_each_other_take_turns(tmp_path: Path) -> None:
    for name, added in (("one", 1e6), ("two", 1e6), ("apart", 3e6)):
        put(tmp_path, record(name, costs={"file_bytes": 3e6, "bytes_added": added}))
    drawing = storage_by_tasks(scene(tmp_path))
    assert drawing is not None
    axes = drawing.figure.axes[0]
    assert "logarithmic" in axes.get_ylabel()
    styles = {one.get_gid(): one._dash_pattern for one in axes.lines if one.get_gid()}  # type: ignore[attr-defined]
    assert styles["apart"][1] is None
    (first, on), (second, _) = styles["one"], styles["two"]
    assert on[0] == on[1] == pytest.approx(abs(first - second))  # one's dashes lie in the other's gaps
    assert drawing.where.endswith("; lines that coincide take turns")


def test_sizes_that_hardly_differ_look_it(tmp_path: Path) -> None:
    for name, added in (("one", 1e3), ("two", 3e3)):
        put(tmp_path, record(name, costs={"file_bytes": 3e6, "bytes_added": added}))
    drawing = storage_by_tasks(scene(tmp_path))
    assert drawing is not None
    low, high = drawing.figure.axes[0].get_ylim()
    assert high / low > 2
    assert drawing.says == "At 40 tasks two would take 3.11 MB and one 3.04 MB."  # not "1.02 times less"


def test_methods_whose_cost_was_measured_with_no_seed_are_left_out(results: Path) -> None:
    put(results, record("gradnorm", 1, costs={}))
    found = scene(results)
    drawing = accuracy_against(found, STORAGE)
    assert drawing is not None
    assert "gradnorm" in {c.get_label() for c in drawing.figure.axes[0].containers}
    for seed in (0, 1):
        put(results, record("gradnorm", seed, costs={}))
    found = scene(results)
    drawing = accuracy_against(found, STORAGE)
    assert drawing is not None
    assert {c.get_label() for c in drawing.figure.axes[0].containers} == {
        "independent", "shared", "modulation", "cross-stitch",
    }  # fmt: skip
    found.methods = found.methods[:1]
    assert accuracy_against(found, STORAGE) is None


def test_in_a_crowd_the_front_and_the_core_are_named_and_names_do_not_collide(tmp_path: Path) -> None:
    found = crowd(tmp_path)
    drawing = accuracy_against(found, STORAGE)
    assert drawing is not None
    figure = drawing.figure
    (axes,) = figure.axes
    points = [(m.cost("file_bytes")[0], m.mean) for m in found.methods]
    wanted = {found.methods[n].name for n in front(points, less_is_better=True)} | set(CORE)
    wanted |= {method.name for method in found.prominent(found.methods)}
    labels = [text for text in axes.texts if text.get_text()]
    assert len(labels) == len(wanted)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [text.get_window_extent(renderer) for text in labels]
    for a, b in itertools.combinations(boxes, 2):
        both = Bbox.intersection(a, b)
        assert both is None or both.height < 0.25 * a.height or both.width < 2, (a, b)


# --- the heat map -----------------------------------------------------------------------------------------------------


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


def test_the_base_of_a_row_is_that_of_the_tables(tmp_path: Path) -> None:
    """Each tuned row is compared with the tuned base, and with factors each row with the base of its own values."""
    for steps, low in ((40, 0.0), (80, 0.1)):
        varied(tmp_path, "independent", (0.6 + low, 0.6 + low, 0.6 + low), steps, train={"lr": 0.1})
        varied(tmp_path, "shared", (0.7 + low, 0.6 + low, 0.5), steps, train={"lr": 0.1})
    put(tmp_path, record("chance", 0, (0.5, 0.5, 0.5), kind="reference", costs={}))
    drawing = heat_map(scene(tmp_path, "train.steps"))
    assert drawing is not None
    assert "difference to independent of the same train.steps, same seeds" in drawing.title
    shown = list(cells(drawing).values())
    for row in ([10, 0, -10], [10, 0, -20], [0, 0, 0]):
        assert any(cell[1:] == pytest.approx(row) for cell in shown), row
    assert np.isnan(shown[-1]).all()  # chance has no steps; its numbers are written all the same
    assert [text.get_text() for text in drawing.figure.axes[0].texts].count("50.0") >= 4
    # a base that isn't shown is what the tables' gains are relative to as well
    found = scene(tmp_path, "train.steps")
    rows = {method.name for method in found.methods if "shared" in method.name and "80" in method.name}
    alone = heat_map(Scene.of(found.suite, tmp_path, rows))
    assert alone is not None
    assert "difference to independent" in alone.title
    assert next(iter(cells(alone).values()))[1:] == pytest.approx([10, 0, -20])


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


def test_a_map_of_one_method_compares_it_with_nothing(tmp_path: Path) -> None:
    put(tmp_path, record("shared", 0, (0.8, 0.6, 0.7)))
    put(tmp_path, record("chance", 0, (0.5, 0.5, 0.5), kind="reference", costs={}))
    drawing = heat_map(scene(tmp_path))
    assert drawing is not None
    assert drawing.says == "Tasks range from heel height, 60.0 %, to colour, 80.0 %."
    assert drawing.heading == "Triplet accuracy in % by method and task"
    assert not np.any(list(cells(drawing).values()))
    assert len(drawing.figure.axes) == 1  # no colour bar
    assert heat_map(crowd(tmp_path / "many", 1, 30)) is None  # nor numbers
    # with a base that is not shown there is a difference to tell
    put(tmp_path, record("independent", 0, (0.9, 0.6, 0.7)))
    drawing = heat_map(Scene.of(scene(tmp_path).suite, tmp_path, ["shared"]))
    assert drawing is not None
    assert cells(drawing)["shared"][1:] == pytest.approx([-10, 0, 0])
    assert drawing.says.startswith("Tasks range from")


def test_a_caption_takes_the_difference_of_the_numbers_that_are_written(tmp_path: Path) -> None:
    put(tmp_path, record("one", 0, (0.7646, 0.6, 0.5)))
    put(tmp_path, record("two", 0, (0.5954, 0.6, 0.5)))
    drawing = heat_map(scene(tmp_path))
    assert drawing is not None
    assert drawing.says.startswith("Methods lie farthest apart on colour, 17.0 points,")  # 76.5 and 59.5


def test_a_map_of_35_methods_keeps_its_numbers(tmp_path: Path) -> None:
    drawing = heat_map(crowd(tmp_path, 35, 4))
    assert drawing is not None
    numbers = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert len(numbers) == 35 * 5
    assert all(float(number) > 0 for number in numbers)


def test_a_maps_colour_bar_is_told_within_the_figure_beside_long_names(tmp_path: Path) -> None:
    for n in range(35):
        put(tmp_path, record(f"method-{n}[after=3:4]+balancer", hits=(0.6 + n / 100,) * 3))
    put(tmp_path, record("independent"))
    drawing = heat_map(scene(tmp_path))
    assert drawing is not None
    settle(drawing.figure)
    renderer = drawing.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    (bar,) = [axes for axes in drawing.figure.axes if "difference" in axes.get_xlabel()]
    box = bar.xaxis.label.get_window_extent(renderer)
    assert drawing.figure.bbox.x0 <= box.x0
    assert box.x1 <= drawing.figure.bbox.x1


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
    band = bands[scene(results).looks["modulation"].colour.lower()]
    at_end = [y for x, y in band if x == 40]
    assert (min(at_end), max(at_end)) == pytest.approx((65, 66))
    assert "independent 70.0 % after 20 s" in drawing.alt
    assert drawing.says.startswith("At the last validation accuracy is from")


def test_the_axis_of_learning_curves_is_that_of_their_second_half(tmp_path: Path) -> None:
    rows = [
        {"step": step, "seconds": step, "accuracy": a} for step, a in ((10, 0.5), (20, 0.8), (30, 0.82), (40, 0.83))
    ]
    put(tmp_path, record("one"), curve=rows)
    drawing = accuracy.learning_curves(scene(tmp_path))
    assert drawing is not None
    low, high = drawing.figure.axes[0].get_ylim()
    assert 75 < low < 80 < 83 < high < 90
    assert drawing.where.endswith("the axis begins where the second half does")
    put(tmp_path, record("one"), curve=rows[1:])
    drawing = accuracy.learning_curves(scene(tmp_path))
    assert drawing is not None
    assert "the axis begins" not in drawing.where


def test_learning_curves_without_times_are_by_step_alone(tmp_path: Path) -> None:
    put(tmp_path, record("one"), curve=[{**row, "seconds": math.nan} for row in curve(0.7)])
    drawing = accuracy.learning_curves(scene(tmp_path))
    assert drawing is not None
    assert [axes.get_xlabel() for axes in drawing.figure.axes] == ["training step"]
    assert "one 70.0 %." in drawing.alt
    put(tmp_path, record("two"), curve=curve(0.6))
    two = accuracy.learning_curves(scene(tmp_path))
    assert two is not None
    assert two.says == (
        "At the last validation accuracy is from 60.0 % to 70.0 %; since the one before, methods changed by +30.0 to"
        " +35.0 points."
    )


def test_a_caption_of_curves_writes_true_minuses(tmp_path: Path) -> None:
    rows = [{"step": step, "seconds": step, "accuracy": a} for step, a in ((10, 0.5), (20, 0.8), (30, 0.7996))]
    put(tmp_path, record("one"), curve=rows)
    put(tmp_path, record("two"), curve=[*rows[:2], rows[2] | {"accuracy": 0.75}])
    drawing = accuracy.learning_curves(scene(tmp_path))
    assert drawing is not None
    assert drawing.says.endswith("methods changed by −5.0 to 0.0 points.")


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
    settle(drawing.figure)
    axes = drawing.figure.axes[0]
    assert axes.get_position().height * drawing.figure.get_figheight() > 1.4  # inches, beside nine entries


def test_a_curve_without_a_validation_is_not_drawn(tmp_path: Path) -> None:
    put(tmp_path, record("one"))
    path = run_folder(tmp_path, "made-up-quick", "one", 0) / "curve.csv"
    path.write_text("step,seconds,accuracy\n1,0.1,\n2,0.2,\n")
    assert accuracy.learning_curves(scene(tmp_path)) is None
