"""Figures of tuning: what trials gained, what fewer of them would have given, and what recipes did to the order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mtlbench.names import joined
from mtlbench.recipes import short
from mtlbench.report.figures.data import Array
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import (
    COLUMN,
    FULL,
    GREY,
    INK,
    TUNED,
    Drawing,
    Look,
    blank,
    count,
    head,
    legend,
    log_x,
    looks,
    percent,
    shorts,
)
from mtlbench.tuning.outcome import FOLDER, Outcome, places, read_trials
from mtlbench.tuning.study import RANDOM_TRIALS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_MOST_PARAMETERS = 3
_MARK = 4.5  # points


def expected_best(default: float, others: Sequence[float], trials: int) -> float:
    """Return what the best of so many trials is to be expected to score, the default always among them.

    Of n other trials with values v_1 <= ... <= v_n, any k = `trials` - 1 are as likely, and

        E[max(d, V_1, ..., V_k)] = sum_i max(d, v_i) C(i - 1, k - 1) / C(n, k)

    It is unbiased. Tang, Lee, Xin, Liu, Yu, Lin: Showing Your Work Doesn't Always Work, ACL 2020 (arXiv 2004.13705);
    the estimator of Dodge et al. (EMNLP 2019) draws with replacement and is too low. Neither has a default.

    Args:
        default: the score d of the default, the first trial.
        others: those of the n other trials, which no other guided; a failed one has -inf.
        trials: the budget, from 1 to n + 1.
    """
    if trials == 1:
        return default
    drawn = trials - 1
    values = np.maximum(default, np.sort(np.asarray(others, dtype=np.float64)))
    ways = [math.comb(below, drawn - 1) for below in range(len(values))]
    return float((values * ways).sum() / math.comb(len(values), drawn))


def _scores(outcome: Outcome) -> list[float]:
    """Return the scores in %, those of failed and dropped trials as -inf."""
    return [100 * trial.score if trial.score is not None else -math.inf for trial in outcome.trials]


def drawings(outcomes: Sequence[Outcome], subject: str, look: Mapping[str, Look] | None = None) -> Iterator[Drawing]:
    """Draw what trials came to; methods whose default failed, or that had one trial, are left out.

    Args:
        outcomes: of methods that were given equally many trials.
        subject: of what they are, for titles.
        look: how methods look in figures beside these.
    """
    known = [one for one in outcomes if one.default is not None and len(one.trials) > 1]
    if known:
        most = max(len(one.trials) for one in known)
        halved = any(trial.state == "dropped" for one in known for trial in one.trials)
        how = " by successive halving, points are those trained to the end" if halved else ""
        where = f"{subject}; {count(most, 'trial')} a method{how}, validation split"
        look = looks([one.method for one in known]) | dict(look or {})
        yield from _by_trial(known, where, look, halved)
        if not halved:  # what halving dropped has no score that fewer trials could be judged by
            yield _expected([replace(one, trials=one.trials[:RANDOM_TRIALS]) for one in known], where, look)


def of_scene(scene: Scene) -> Iterator[Drawing]:
    """Draw the trials beside a suite's runs, and what recipes did to its order."""
    yield from slopes(scene)
    yield from drawings(_trials(scene), scene.subject, scene.looks)


def _trials(scene: Scene) -> list[Outcome]:
    return read_trials(scene.results / str(scene.suite.benchmark["name"]) / FOLDER)


def _by_trial(outcomes: Sequence[Outcome], where: str, look: Mapping[str, Look], halved: bool) -> Iterator[Drawing]:
    """The best so far by trial, over methods, and each trial by its parameters.

    After halving without the first: few trials have a score, and when the best of them came is chance.
    """
    names = dict.fromkeys(name for one in outcomes for trial in one.trials[1:] for name in trial.values)
    common = sorted(names, key=lambda name: -sum(name in trial.values for one in outcomes for trial in one.trials))
    shown = common[:_MOST_PARAMETERS]
    if halved and not shown:
        return
    figure = blank(FULL, 3.2)
    first, *rest = figure.subplots(1, (not halved) + len(shown), squeeze=False, sharey=halved)[0]
    gains = _gains_so_far(outcomes)
    if halved:
        rest = [first, *rest]
        first.set(ylabel="points above default")
    else:
        numbers = np.arange(1, gains.shape[1] + 1)
        low, middle, high = np.nanquantile(gains, (0.25, 0.5, 0.75), axis=0)
        first.fill_between(numbers, low, high, color=GREY, alpha=0.2, lw=0)
        first.plot(numbers, middle, color=GREY, gid="median")
        first.set(xlabel="trials", ylabel="best so far, points above default")
    for axes, name in zip(rest, shown, strict=True):
        _by_parameter(axes, name, outcomes, look)
    if shown:
        legend(figure, [_point(name, look[one.method]) for one, name in zip(outcomes, _names(outcomes), strict=True)])
    title = "The gain of trials by their parameters"
    if not halved:
        title = "The gain of trials: median and quartiles over methods, and each by its parameters"
    head(figure, title, where)
    final = gains[:, -1]
    alt = (
        f"The best of {gains.shape[1]} trials is {np.median(final):.1f} points above the default in the median over"
        f" {count(len(outcomes), 'method')}, {final.min():.1f} at the least and {final.max():.1f} at the most."
    )
    yield Drawing("tuning-trials", title, where, alt, figure)


def _names(outcomes: Sequence[Outcome]) -> list[str]:
    return shorts([one.method for one in outcomes])


def _point(name: str, look: Look) -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D([], [], ls="", marker=look.marker, color=look.colour, markersize=_MARK, mew=0, label=name)


def _gains_so_far(outcomes: Sequence[Outcome]) -> Array:
    """Return how far the best so far is above the default, (methods, trials), in points."""
    longest = max(len(one.trials) for one in outcomes)
    rows = np.full((len(outcomes), longest), np.nan)
    for row, one in zip(rows, outcomes, strict=True):
        best = np.maximum.accumulate(_scores(one))
        row[: len(best)] = best - best[0]
        row[len(best) :] = row[len(best) - 1]
    return rows


def _by_parameter(axes: Axes, name: str, outcomes: Sequence[Outcome], look: Mapping[str, Look]) -> None:
    numeric = True
    for one in outcomes:
        default = one.default
        points = [
            (trial.values[name], 100 * (trial.score - default.score))
            for trial in one.trials
            if name in trial.values and trial.score is not None and default is not None and default.score is not None
        ]
        numeric &= all(isinstance(x, int | float) and not isinstance(x, bool) and x > 0 for x, _ in points)
        xs = [x if numeric else str(x) for x, _ in points]
        axes.plot(
            xs, [y for _, y in points], ls="", marker=look[one.method].marker, markersize=_MARK, alpha=0.7,
            color=look[one.method].colour, mew=0,
        )  # fmt: skip
    if numeric:
        tried = [float(trial.values[name]) for one in outcomes for trial in one.trials if name in trial.values]
        log_x(axes, min(tried), max(tried), most=4)
    axes.axhline(0, color=GREY, lw=0.8)
    axes.set(xlabel=short(name))


def _expected(outcomes: Sequence[Outcome], where: str, look: Mapping[str, Look]) -> Drawing:
    """What the best of fewer trials is to be expected to score; of trials that no earlier ones guided."""
    figure = blank(FULL, 3.2)
    axes = figure.subplots()
    lines = []
    ends = {}
    for one, name in zip(outcomes, _names(outcomes), strict=True):
        first, *others = _scores(one)
        budgets = range(1, len(one.trials) + 1)
        curve = [expected_best(first, others, budget) for budget in budgets]
        ends[one.method] = curve
        style = look[one.method]
        (line,) = axes.plot(budgets, curve, color=style.colour, ls=style.line, marker=style.marker, ms=3, label=name)
        lines.append(line)
    axes.set(xlabel="trials", ylabel="expected best score on validation, %")
    legend(figure, lines)
    title = "The expected score of the best of fewer trials, the default among them"
    head(figure, title, where)
    reach = [
        " to ".join(dict.fromkeys(percent(end([curve[place] for curve in ends.values()])) for end in (min, max)))
        for place in (0, -1)
    ]
    most = max(map(len, ends.values()))
    alt = (
        f"With one trial, the default, methods score {reach[0]}; with {most}, {reach[1]} is expected. Later trials,"
        " which earlier ones guide, are left out."
    )
    return Drawing("tuning-expected", title, where, alt, figure)


def slopes(scene: Scene) -> Iterator[Drawing]:
    """Draw the places of methods by their default and by their tuned recipe, where two or more have both.

    Where the default won the search, the method's plain runs are on both sides.
    """
    found = {method.name: method for method in (*scene.methods, *scene.again)}
    tuned = {name: found[name + TUNED] for name in found if name + TUNED in found}
    if not tuned:
        return
    kept = [one.method for one in _trials(scene) if one.recipe == {}]
    won = [name for name in kept if name in found and name not in tuned]
    tuned |= {name: found[name] for name in won}
    won += [name for name in tuned if {name, name + TUNED} & {method.name for method in scene.again}]
    both = [name for name in found if name in tuned]
    if len(both) < 2:
        return
    sides = [{name: side[name].mean for name in both} for side in (found, tuned)]
    before, after = (places(side) for side in sides)
    figure = blank(COLUMN, 1.1 + 0.22 * len(both))
    axes = figure.subplots()
    lines = [{name: n for n, name in enumerate(sorted(both, key=lambda name: (side[name], name)), 1)}
             for side in (before, after)]  # fmt: skip
    for name, text in zip(both, shorts(both, 18), strict=True):
        style = scene.looks[name]
        axes.plot([0, 1], [line[name] for line in lines], color=style.colour, marker=style.marker, ls=style.line)
        for x, place, mean in ((0, lines[0], sides[0]), (1, lines[1], sides[1])):
            said = f"{text} {percent(mean[name])}" if x == 0 else f"{percent(mean[name])} {text}"
            axes.annotate(
                said, (x, place[name]), xytext=(-6 if x == 0 else 6, 0), textcoords="offset points", fontsize=7,
                ha="right" if x == 0 else "left", va="center", color=INK,
            )  # fmt: skip
    beside = max(1.1, 0.095 * (max(map(len, shorts(both, 18))) + 7))  # room for the longest name with its number
    axes.set_xlim(-beside, 1 + beside)
    axes.set_ylim(len(both) + 0.6, 0.4)
    axes.set_xticks([0, 1], ["default", "tuned"])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    title = "Places by mean test accuracy, with the default and with the tuned recipe"
    where = scene.where([side[name] for side in (found, tuned) for name in both])
    where += f"; the default won: {joined(won)}" if won else ""
    where += "; methods of one mean share a place, and follow by name" * (before != lines[0] or after != lines[1])
    head(figure, title, where)
    moved = [name for name in both if before[name] != after[name]]
    changed = f"By the means alone, whose differences may be chance, {len(moved)} of {len(both)} methods change places"
    alt = f"{changed}: {_moves(moved, before, after)}" if moved else "No method changes its place."
    yield Drawing("tuning-places", title, where, alt.strip(), figure)


def _moves(moved: Sequence[str], before: dict[str, int], after: dict[str, int]) -> str:
    said = [f"{name} from {before[name]} to {after[name]}" for name in sorted(moved, key=lambda name: after[name])]
    return f"{', '.join(said[:6])}." if said else ""
