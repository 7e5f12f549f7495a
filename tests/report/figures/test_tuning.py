"""Figures of tuning: expected best scores, trials by number and parameter, places by recipe."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from figure_records import put, record, texts, tuned
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mtlbench.report.figures import draw_all, tuning
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import settle
from mtlbench.report.figures.tuning import drawings, expected_best, slopes
from mtlbench.report.suites import suites
from mtlbench.runs import find_records
from mtlbench.tuning.outcome import Outcome, write_trials
from mtlbench.tuning.study import Trial


def outcome(method: str, *scores: float | None) -> Outcome:
    return Outcome(
        method,
        tuple(
            Trial(method, n, "failed" if s is None else "done", {"train.lr": 10.0**-n, "options.relu": n > 1}, s, s)
            for n, s in enumerate(scores)
        ),
    )


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 6])
def test_the_expected_best_is_the_mean_over_all_draws(budget):
    """Every choice of so many trials is as likely: their maxima are counted out."""
    default, others = 0.6, [0.5, 0.9, 0.7, 0.7, -math.inf]
    counted = [max(default, *drawn) if drawn else default for drawn in itertools.combinations(others, budget - 1)]
    assert expected_best(default, others, budget) == pytest.approx(float(np.mean(counted)))


def test_it_rises_from_the_default_to_the_best():
    curve = [expected_best(0.5, [0.4, 0.8, 0.6, 0.9], k) for k in range(1, 6)]
    assert curve[0] == 0.5
    assert all(b > a for a, b in itertools.pairwise(curve))
    assert curve[-1] == pytest.approx(0.9)


def test_trials_that_earlier_ones_guided_tell_nothing_of_fewer():
    found = outcome("shared", 0.5, *[0.6] * 7, *[0.9] * 8)
    _, expected = drawings([found], "Made up")
    (line,) = expected.figure.axes[0].lines
    assert list(line.get_ydata()) == pytest.approx([50, *[60] * 7])
    assert "with 8, 60.0 % is expected" in expected.alt


def test_trials_are_drawn_with_what_they_came_to():
    outcomes = [outcome("shared", 0.5, 0.6, None), outcome("modulation", 0.4, 0.7, 0.8), outcome("csn", None, 0.5, 0.5)]
    trials, expected = drawings(outcomes, "Made up")
    assert (trials.stem, expected.stem) == ("tuning-trials", "tuning-expected")
    (median,) = [line for line in trials.figure.axes[0].lines if line.get_gid() == "median"]
    assert list(median.get_ydata()) == pytest.approx([0, 20, 25])  # csn, whose default failed, has no gain
    assert "25.0 points above the default in the median over 2 methods, 10.0 at the least and 40.0" in trials.alt
    assert {"train.lr", "relu"} <= set(texts(trials.figure))
    assert "methods score 40.0 % to 50.0 %; with 3, " in expected.alt
    assert not any(f"{one.method} " in expected.alt for one in outcomes)  # trials are chance's too
    assert "3 trials a method" in trials.where
    assert not list(drawings([outcome("csn", None, 0.5)], "Made up"))


def test_after_halving_nothing_is_said_of_the_order_of_trials():
    """Of eight trials two were trained to the end: when the better one came is chance."""
    default, *others = outcome("shared", 0.5, 0.6, 0.7).trials
    dropped = replace(others[0], state="dropped", score=None)
    halved = Outcome("shared", (default, dropped, others[1]))
    (trials,) = drawings([halved], "Made up")
    assert [axes.get_xlabel() for axes in trials.figure.axes if axes.get_xlabel()] == ["train.lr", "relu"]
    assert not [line for axes in trials.figure.axes for line in axes.lines if line.get_gid() == "median"]
    assert trials.heading == "The gain of trials by their parameters"
    assert "20.0 points above the default" in trials.alt
    marks = [line.get_markersize() for axes in trials.figure.axes for line in axes.lines if line.get_marker() != "None"]
    assert min(marks) >= 4
    bare = Outcome("shared", tuple(replace(trial, values={}) for trial in halved.trials))
    assert not list(drawings([bare], "Made up"))


@pytest.mark.parametrize("rates", [(3e-4, 3e-2), (6e-4, 2.1e-2), (3e-4, 1e-3)])
def test_the_numbers_below_a_parameters_axis_stand_apart(rates):
    made = Outcome(
        "shared", tuple(Trial("shared", n, "done", {"train.lr": rate}, 0.5, 0.5) for n, rate in enumerate(rates))
    )
    figure = next(iter(drawings([made], "Made up"))).figure
    settle(figure)
    FigureCanvasAgg(figure).draw()
    (axes,) = [axes for axes in figure.axes if axes.get_xlabel() == "train.lr"]
    inside = [label for at, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
              if axes.get_xlim()[0] <= at <= axes.get_xlim()[1]]  # fmt: skip
    boxes = [label.get_window_extent() for label in inside]
    assert len(boxes) > 1
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_places_by_default_and_tuned_recipe(tmp_path):
    put(tmp_path, record("shared", 0, (0.7, 0.7, 0.7)))
    put(tmp_path, record("modulation", 0, (0.6, 0.6, 0.6)))
    put(tmp_path, record("single", 0, (0.5, 0.5, 0.5)))
    tuned(tmp_path, "shared", (0.71, 0.71, 0.71))
    (suite,) = suites(find_records(tmp_path))
    assert not list(slopes(Scene.of(suite, tmp_path)))
    tuned(tmp_path, "modulation", (0.8, 0.8, 0.8))
    (suite,) = suites(find_records(tmp_path))
    (drawing,) = slopes(Scene.of(suite, tmp_path))
    assert drawing.alt == (
        "By the means alone, whose differences may be chance, 2 of 2 methods change places:"
        " modulation from 2 to 1, shared from 1 to 2."
    )
    assert {"shared 70.0 %", "80.0 % modulation"} <= set(texts(drawing.figure))
    # where the default won the search, the plain runs are on both sides
    write_trials(tmp_path / "made-up-quick" / "tuning", [outcome("single", 0.5, 0.4)], {"single": {}})
    (drawing,) = slopes(Scene.of(suite, tmp_path))
    assert "2 of 3 methods change places" in drawing.alt
    assert "; the default won: single" in drawing.where
    write_trials(tmp_path / "made-up-quick" / "tuning", [outcome("shared", 0.5, 0.6)], {})
    stems = [figure.stem for figure in draw_all(suite, tmp_path, tmp_path / "figures", ("svg",))]
    assert stems[-3:] == ["tuning-places", "tuning-trials", "tuning-expected"]


def test_methods_that_share_a_place_are_written_one_below_the_other(tmp_path):
    for method, plain, after in (("uw", 0.7, 0.6), ("imtl-l", 0.7, 0.6), ("stch", 0.6, 0.8)):
        put(tmp_path, record(method, 0, (plain,) * 3))
        tuned(tmp_path, method, (after,) * 3)
    (suite,) = suites(find_records(tmp_path))
    (drawing,) = slopes(Scene.of(suite, tmp_path))
    assert "methods of one mean share a place, and follow by name" in drawing.where
    assert "imtl-l from 1 to 2, uw from 1 to 2" in drawing.alt
    ends = [tuple(line.get_ydata()) for line in drawing.figure.axes[0].lines]
    assert sorted(ends) == [(1, 2), (2, 3), (3, 1)]


def test_the_longest_names_of_places_are_not_cut(tmp_path):
    for method, share in (("embedding-mask", 0.7), ("representation-a", 0.6)):
        put(tmp_path, record(method, 0, (share, share, share)))
        tuned(tmp_path, method, (share, share, share))
    (suite,) = suites(find_records(tmp_path))
    (drawing,) = slopes(Scene.of(suite, tmp_path))
    figure = drawing.figure
    canvas = FigureCanvasAgg(figure)
    settle(figure)
    (axes,) = figure.axes
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
    assert len(boxes) == 4
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.width


def test_trials_of_other_methods_stay(tmp_path):
    write_trials(tmp_path, [outcome("shared", 0.5, 0.6)], {})
    write_trials(tmp_path, [outcome("csn", 0.5, None)], {})
    kept = tuning.read_trials(tmp_path)
    assert [one.method for one in kept] == ["shared", "csn"]
    assert kept[1].trials[1] == replace(outcome("csn", 0.5, None).trials[1])
