"""Figures of how well methods do: accuracy against what it costs, by task, and while training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mtlbench.names import joined
from mtlbench.report.columns import three_figures
from mtlbench.report.figures.data import Array, Method, against
from mtlbench.report.figures.labels import Label, Segment, place_labels
from mtlbench.report.figures.scene import Scene, method_lines
from mtlbench.report.figures.style import (
    COLUMN,
    FAINT,
    FULL,
    GREY,
    INK,
    Drawing,
    blank,
    colour_bar,
    count,
    head,
    heat,
    legend,
    log_x,
    logarithmic,
    panel,
    percent,
    shorts,
    signed,
)
from mtlbench.report.leading import Span, leading, listed_with
from mtlbench.report.receipt import STEADY, incomparable
from mtlbench.report.suites import RECIPE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_ALL_LABELLED = 10  # methods; of more, only the front and the core methods are named
_CELLS_WITH_NUMBERS = 16, 60  # columns, rows
_ONE_SEED = "One seed: the order of the methods is not known."


@dataclass(frozen=True)
class Cost:
    """A cost that accuracy is drawn against: its key in the records, the unit shown, which way is good."""

    stem: str
    words: str
    key: str
    scale: float
    unit: str
    less_is_better: bool


STORAGE = Cost("accuracy-storage", "storage of the network", "file_bytes", 1e-6, "MB", True)
EMBEDDING = Cost("accuracy-embedding", "embedding speed, all tasks", "embed_rate_all_tasks", 1, "images/s", False)
TRAINING = Cost("accuracy-training", "training speed", "train_rate", 1, "images/s", False)


def front(points: Sequence[tuple[float, float]], less_is_better: bool) -> list[int]:
    """Return which (cost, accuracy) points no other point beats, cheapest first.

    A point is beaten by one that is as good in both and better in one; equal points don't beat each other.
    """
    sign = 1 if less_is_better else -1

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return sign * a[0] <= sign * b[0] and a[1] >= b[1] and a != b

    kept = [n for n, point in enumerate(points) if not any(beats(other, point) for other in points)]
    return sorted(kept, key=lambda n: (sign * points[n][0], points[n][1]))


def accuracy_against(scene: Scene, cost: Cost, ax: Axes | None = None) -> Drawing | None:
    """Draw mean accuracy against a cost, with the Pareto front.

    Bars of accuracy are ± the standard deviation over seeds; of a method with one seed, ± the standard error that other
    test images would bring. Bars of a speed reach from the slowest to the fastest measured round of all seeds; of
    records without rounds, they are ± the standard deviation over seeds. On `ax` where given, without a heading.
    """
    measured = [(method, *method.cost(cost.key)) for method in scene.methods]
    measured = [(method, mean, deviation) for method, mean, deviation in measured if mean > 0]
    if len(measured) < 2:
        return None
    shown = [method for method, _, _ in measured]
    points = [(mean * cost.scale, method.mean) for method, mean, _ in measured]
    # by the costs as they are written: no method is on the front for a kilobyte
    written = [(float(three_figures(x).replace(",", "")), y) for x, y in points]
    best = front(written, cost.less_is_better)
    few = len(shown) <= _ALL_LABELLED
    prominent = scene.prominent(shown)
    named = [n for n, method in enumerate(shown) if few or n in best or method in prominent]

    errors = {n: scene.test_error(method) for n, method in enumerate(shown) if len(method.records) == 1}

    figure, axes = panel(ax, COLUMN, 3.3)
    steps = sorted(points[n] for n in best)
    axes.plot(*zip(*steps, strict=True), color=GREY, lw=0.8, zorder=1, gid="front",
              drawstyle="steps-post" if cost.less_is_better else "steps-pre")  # fmt: skip
    bars: dict[int, list[Segment]] = {}
    for n, (method, _, deviation) in enumerate(measured):
        x, y = points[n]
        low, high = _range(method, cost, deviation)
        along = method.deviation if len(method.records) > 1 else errors[n]
        along = 0.0 if math.isnan(along) else along
        bars[n] = [(max(low, x / 4), y, high, y), (x, y - along, x, y + along)]
        look = scene.looks[method.name]
        colour = look.colour if n in named else FAINT
        axes.errorbar(
            x,
            y,
            xerr=[[max(x - low, 0.0)], [max(high - x, 0.0)]] if high > low else None,
            yerr=along or None,
            marker=look.marker,
            markersize=4.5 if n in named else 3,
            fillstyle=look.fill,
            markerfacecolor="white" if method.collapsed else colour,
            markerfacecoloralt="white",
            markeredgewidth=0.8,
            color=colour,
            elinewidth=0.8 if n in named else 0.5,
            zorder=3 if n in named else 2,
            label=method.name,
        )
    flat = [bar for bar, _ in bars.values()]
    log_x(axes, min(bar[0] for bar in flat), max(bar[2] for bar in flat))
    axes.margins(y=0.12)
    axes.set(xlabel=f"{cost.words}, {cost.unit}{logarithmic(axes.xaxis)}", ylabel="triplet accuracy, %")
    title = f"Accuracy against {cost.words}"
    notes = [*["line: Pareto front of the means"] * (len(best) > 1), *_bars(shown, errors, cost),
             *[_fills(scene)] * any(scene.looks[m.name].fill != "full" for m in shown),
             *["hollow: collapsed"] * any(m.collapsed for m in shown),
             *["grey: others"] * (len(named) < len(shown))]  # fmt: skip
    where = "; ".join([scene.where(shown), *notes])
    if ax is None:
        head(figure, title, where)
    texts = dict(zip(named, shorts([shown[n].label for n in named], 24), strict=True))
    order = sorted(named, key=lambda n: (n not in best, shown[n].name not in scene.core, points[n]))
    labels = [Label(*points[n], texts[n], scene.looks[shown[n].name].colour) for n in order]
    place_labels(axes, labels, points, _staircase(steps, cost) + [bar for n in named for bar in bars[n]])
    ends = [f"{shown[n].label} ({percent(points[n][1])} at {three_figures(points[n][0])} {cost.unit})" for n in best]
    alt = (
        f"Mean triplet accuracy over {count(len(scene.tasks), 'task')} against {cost.words} in {cost.unit},"
        f" {len(shown)} methods. On the Pareto front: {joined(ends, 6)}."
    )
    says = f"{_means(scene, shown)} {_cheapest(shown, points, bars, cost)}{_unsteady(shown, cost)}"
    return Drawing(cost.stem, title, where, alt, figure, says)


def _fills(scene: Scene) -> str:
    """Say what the fill of marks means."""
    return f"fill: {joined(scene.suite.factors)}" if scene.suite.factors else "half-filled: tuned"


def _means(scene: Scene, shown: Sequence[Method]) -> str:
    """Say what the tables' comparison found: overlapping bars would name a best of equal methods too often."""
    stands = {method.name: scene.standing.get(method.name) for method in shown}
    best = next((method for method in shown if stands[method.name] == "best"), None)
    if best is None:
        means = [method.mean for method in shown]
        one_seed = f"{_ONE_SEED} " * all(len(method.records) == 1 for method in shown)
        return f"{one_seed}Means range from {percent(min(means))} to {percent(max(means))}."
    worse = [method.label for method in shown if stands[method.name] == "worse"]
    enough = " of enough seeds" * any(method.mean > best.mean for method in shown)
    if not worse:
        lower = "no other is significantly lower"
    elif len(worse) == len(shown) - 1 > 1:
        lower = "all others are significantly lower"
    else:
        lower = f"significantly lower: {joined(worse, 4)}"
    return f"Highest mean{enough}: {best.label}, {percent(best.mean)}; {lower}."


def _cheapest(
    shown: Sequence[Method], points: Sequence[tuple[float, float]], bars: Mapping[int, Sequence[Segment]], cost: Cost
) -> str:
    """Say which methods are smallest or fastest; several where sizes are equal or bars overlap."""
    if _unsure(shown, cost):
        return "None is called fastest: not all speeds can be compared."
    spans = {method.label: Span(bars[n][0][0], points[n][0], bars[n][0][2]) for n, method in enumerate(shown)}
    texts = {method.label: f"{three_figures(points[n][0])} {cost.unit}" for n, method in enumerate(shown)}
    first = leading(spans, highest=not cost.less_is_better)
    first += [name for name in texts if name not in first and texts[name] == texts[first[0]]]
    if len(first) == len(shown):
        return "All are of one size." if cost is STORAGE else "No speed stands out: all bars reach the fastest one's."
    word = "Smallest" if cost is STORAGE else "Fastest"
    overlap = ", whose bars overlap" * (len({texts[name] for name in first}) > 1)
    return f"{word}{overlap}: {listed_with(first, texts)}."


def _unsteady(shown: Sequence[Method], cost: Cost) -> str:
    """Name the methods whose speeds can't be compared."""
    names = _unsure(shown, cost)
    why = f"varied by more than ±{100 * STEADY:.0f} % or was measured on a busy machine"
    return f" Speed {why}: {joined(names, 4)}." if names else ""


def _unsure(shown: Sequence[Method], cost: Cost) -> list[str]:
    if cost is STORAGE:
        return []
    unsure = incomparable([record for method in shown for record in method.records])
    return [method.label for method in shown if {record.method for record in method.records} & unsure]


def _range(method: Method, cost: Cost, deviation: float) -> tuple[float, float]:
    """Return the ends of a method's bar across, in the unit shown; equal where it has none."""
    mean = method.cost(cost.key)[0] * cost.scale
    if cost is STORAGE:  # every seed's file has the same size
        return mean, mean
    ends = [[record.costs.get(f"{cost.key}_{end}") for record in method.records] for end in ("slowest", "fastest")]
    slow, fast = ([float(value) for value in side if value is not None] for side in ends)
    if len(slow) == len(fast) == len(method.records):
        return min(slow) * cost.scale, max(fast) * cost.scale
    across = 0.0 if math.isnan(deviation) else deviation * cost.scale
    return mean - across, mean + across


def _bars(shown: Sequence[Method], errors: Mapping[int, float], cost: Cost) -> list[str]:
    """Say what the bars are."""
    said = []
    if any(len(method.records) > 1 for method in shown):
        said.append("bars: ± standard deviation over seeds")
    if any(not math.isnan(error) for error in errors.values()):
        said.append(f"bars{' of one seed' * bool(said)}: ± standard error of the test images")
    if any(f"{cost.key}_slowest" in record.costs for method in shown for record in method.records):
        said.append("across: slowest to fastest round")
    return said


def _staircase(steps: Sequence[tuple[float, float]], cost: Cost) -> list[Segment]:
    """Return the pieces of the front's line through points in the order of their cost."""
    found = []
    for (x0, y0), (x1, y1) in pairwise(steps):
        x, y = (x1, y0) if cost.less_is_better else (x0, y1)
        found += [(x0, y0, x, y), (x, y, x1, y1)]
    return found


def heat_map(scene: Scene, ax: Axes | None = None) -> Drawing | None:
    """Draw every method's accuracy on every task; colours tell the difference to the base, task by task.

    On `ax` where given, without a heading.
    The base is that of the tables' Δm, over the seeds that both have; rows without one have no colour. Where no row has
    one, it is the mean over the methods. One method that is compared with nothing has numbers alone, if they fit.
    """
    if not scene.methods:
        return None
    rows = [*scene.methods, *scene.references]
    bases = {row.name: scene.bases[row.name] for row in rows if row.name in scene.bases}
    task_means = np.mean([method.accuracy.mean(0) for method in scene.methods], 0)
    accuracy = np.stack([with_mean(method.accuracy.mean(0)) for method in rows])
    if bases:
        none = np.full(len(scene.tasks), math.nan)
        gains = [against(bases[row.name], row) if row.name in bases else none for row in rows]
    else:
        gains = [row.accuracy.mean(0) - task_means for row in rows]
    gained = np.stack([with_mean(gain) for gain in gains])
    # what decides the colours is how methods differ; chance and a collapsed method may lie beyond
    apart = np.abs(gained[: len(scene.methods)])
    limit = max(1.0, float(np.nanpercentile(apart, 95)) if not np.isnan(apart).all() else 1.0)

    columns = ["mean", *scene.tasks]
    numbers = len(columns) <= _CELLS_WITH_NUMBERS[0] and len(rows) <= _CELLS_WITH_NUMBERS[1]
    best, worst = scene.methods[0], scene.methods[-1]
    alone = best is worst and bases.get(best.name, best).name == best.name
    if alone and not numbers:
        return None
    names, heads = shorts([row.label for row in rows]), shorts(columns, 24)
    cell = 0.19 if numbers else 0.135
    width = COLUMN if len(columns) <= 6 else FULL
    figure, axes = panel(ax, width, 1.2 + cell * len(rows) + 0.062 * max(map(len, heads)))
    shown = np.vectorize("{:.1f}".format, otypes=[str])(accuracy) if numbers else None
    heat(axes, gained * (not alone), limit, names, heads, shown, annot_kws={"fontsize": 6})
    axes.axvline(1, color="white", lw=2.5)
    if scene.references:
        axes.axhline(len(scene.methods), color="white", lw=2.5)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(GREY if row.kind == "reference" else INK)
    compared = f"difference to {_base_in_words(scene, bases)}"
    title = f"Triplet accuracy{' in %' * numbers} by method and task"
    if not alone:
        beyond = bool((gained < -limit).any()), bool((gained > limit).any())
        colour_bar(figure, axes.collections[0], [axes], f"{compared}, percentage points", beyond)
        title += f"; colour: {compared}"
    where = scene.where(scene.methods)
    if ax is None:
        head(figure, title, where)
    spread = [f"{best.label} {percent(best.mean)}", f"{worst.label} {percent(worst.mean)}"]
    by_task = sorted(zip(task_means, scene.tasks, strict=True))
    easy = f" Over the methods, tasks range from {by_task[0][1]} ({percent(by_task[0][0])}) to"
    alt = (
        f"Triplet accuracy of {count(len(scene.methods), 'method')} on {count(len(scene.tasks), 'task')}, highest mean"
        f" first: {' to '.join(dict.fromkeys(spread))}.{easy} {by_task[-1][1]} ({percent(by_task[-1][0])})."
    )
    if best is worst:
        ends = [f"{task}, {percent(float(mean))}" for mean, task in dict.fromkeys((by_task[0], by_task[-1]))]
        says = f"Tasks range from {ends[0]}, to {ends[1]}." if len(ends) > 1 else f"{ends[0]}."
        return Drawing("accuracy-tasks", title, where, alt, figure, says)
    # of the numbers as they are written, so that the difference is theirs
    apart_by_task = np.ptp([method.accuracy.mean(0).round(1) for method in scene.methods], axis=0)
    wide, narrow = int(np.argmax(apart_by_task)), int(np.argmin(apart_by_task))
    says = f"Methods lie farthest apart on {scene.tasks[wide]}, {apart_by_task[wide]:.1f} points"
    if wide != narrow:
        says += f", and closest on {scene.tasks[narrow]}, {apart_by_task[narrow]:.1f} points"
    lowest = f"{scene.tasks[int(np.argmin(task_means))]}, {percent(float(task_means.min()))}"
    says += f"; the lowest mean over the methods is that of {lowest}." if len(scene.tasks) > 1 else "."
    return Drawing("accuracy-tasks", title, where, alt, figure, says)


def _base_in_words(scene: Scene, bases: Mapping[str, Method]) -> str:
    found = {base.name: base for base in bases.values()}
    if not found:
        return "the mean of the methods on that task"
    if len(found) == 1:
        return f"{next(iter(found.values())).label}, same seeds"
    recipes = {RECIPE in scene.suite.values.get(name, ()) for name in found}
    same = joined([*["recipe"] * (len(recipes) > 1), *scene.suite.factors])
    return f"{scene.suite.base} of the same {same}, same seeds"


def with_mean(values: Array) -> Array:
    """Put the mean over tasks before a value a task."""
    return np.concatenate([[values.mean()], values])


def learning_curves(scene: Scene, ax: Axes | None = None, by: str = "step") -> Drawing | None:
    """Draw mean validation accuracy by step and, where it was timed, by second: the mean over seeds, and a band.

    On `ax` where given, by `step` or `seconds` alone, without a heading.
    """
    known = {method.name: curve for method in scene.methods if len(curve := validations(scene, method))}
    shown = [method for method in scene.methods if method.name in known]
    if not shown:
        return None
    prominent = scene.prominent(shown)
    timed = all(known[method.name]["seconds"].notna().all() for method in shown)
    panels: dict[str, Axes]
    if ax is None:
        figure = blank(FULL if timed else COLUMN, 2.9)
        axes = figure.subplots(1, 1 + timed, sharey=True, squeeze=False)[0]
        panels = dict(zip(("step", "seconds"), axes, strict=False))
    elif by == "seconds" and not timed:
        return None
    else:
        figure, panels = panel(ax, COLUMN, 2.9)[0], {by: ax}
    for method in sorted(shown, key=lambda m: m in prominent):
        curve, look = known[method.name], scene.looks[method.name]
        for x, axes in ((curve[key], panels[key]) for key in panels):
            if method not in prominent:
                axes.plot(x, curve["mean"], color=FAINT, lw=0.6, zorder=1, gid=method.name)
                continue
            every = max(1, len(curve) // 8)
            axes.fill_between(x, curve["low"], curve["high"], color=look.colour, alpha=0.12, lw=0, zorder=2)
            axes.plot(x, curve["mean"], color=look.colour, ls=look.line, marker=look.marker, markevery=every,
                      fillstyle=look.fill, markerfacecoloralt="white", markersize=3.2, markeredgewidth=0.6, zorder=3,
                      gid=method.name)  # fmt: skip
    # how methods end is what tells them apart: the steep first half may begin below the axis
    late = [curve[curve["step"] >= curve["step"].iloc[-1] / 2] for curve in known.values()]
    bottom, top = min(float(curve["low"].min()) for curve in late), max(float(curve["high"].max()) for curve in late)
    room = 0.06 * (top - bottom) or 1.0
    next(iter(panels.values())).set_ylim(bottom - room, top + room)
    cut = min(float(curve["mean"].min()) for curve in known.values()) < bottom - room
    if "step" in panels:
        panels["step"].set(xlabel="training step")
    next(iter(panels.values())).set(ylabel="validation accuracy, %")
    if "seconds" in panels:
        firsts, lasts = ([float(known[method.name]["seconds"].iloc[end]) for method in shown] for end in (0, -1))
        if max(lasts) > 3 * min(lasts) and min(firsts) > 0:
            log_x(panels["seconds"], min(firsts), max(lasts))
        panels["seconds"].set(xlabel=f"seconds of training{logarithmic(panels['seconds'].xaxis)}")
    lines = method_lines(scene, prominent, others=len(shown) - len(prominent))
    if ax is None:
        legend(figure, lines)
    else:
        ax.legend(handles=lines)
    several = any(len(m.records) > 1 for m in shown)
    title = f"Validation accuracy while training, by step{' and by second' * timed}"
    where = scene.where(shown) + "; mean, and band from lowest to highest seed" * several
    where += "; the axis begins where the second half does" * cut
    if ax is None:
        head(figure, title, where)
    last = sorted(prominent, key=lambda m: -known[m.name]["mean"].iloc[-1])
    parts = [
        f"{m.label} {percent(known[m.name]['mean'].iloc[-1])}"
        + (f" after {known[m.name]['seconds'].iloc[-1]:,.3g} s" if timed else "")
        for m in last
    ]
    alt = f"Mean validation accuracy of {count(len(shown), 'method')} while training. At the end: {joined(parts, 6)}."
    ends = sorted(float(known[method.name]["mean"].iloc[-1]) for method in shown)
    reach = f"from {percent(ends[0])} to {percent(ends[-1])}" if len(ends) > 1 else percent(ends[0])
    says = f"At the last validation accuracy is {reach}"
    gains = [float(known[m.name]["mean"].diff().iloc[-1]) for m in shown if len(known[m.name]) > 1]
    if gains:
        low, high = (signed(value, 1, plus=True) for value in (min(gains), max(gains)))
        who = "it" if len(gains) == 1 else "methods"
        says += f"; since the one before, {who} changed by {low if low == high else f'{low} to {high}'} points"
    return Drawing("learning-curves", title, where, alt, figure, says + ".")


def validations(scene: Scene, method: Method) -> pd.DataFrame:
    """Return step, seconds, and mean, low and high accuracy over seeds in per cent, at the validations all runs did."""
    import pandas as pd

    if method.name in scene.validations:
        return scene.validations[method.name]
    runs = [curve.dropna(subset="accuracy").set_index("step") for curve in scene.curves(method)]
    runs = [run for run in runs if len(run)]
    if not runs:
        return scene.validations.setdefault(method.name, pd.DataFrame())
    accuracy = 100 * pd.concat([run["accuracy"] for run in runs], axis=1, join="inner")
    seconds = pd.concat([run["seconds"] for run in runs], axis=1, join="inner")
    columns = {"seconds": seconds.mean(axis=1), "mean": accuracy.mean(axis=1)}
    columns |= {"low": accuracy.min(axis=1), "high": accuracy.max(axis=1)}
    return scene.validations.setdefault(method.name, pd.DataFrame(columns).reset_index())
