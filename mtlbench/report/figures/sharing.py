"""Figures of how tasks get on while training: their gradients' agreement, and balancers' weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtlbench.errors import counted
from mtlbench.names import joined
from mtlbench.report.figures import data
from mtlbench.report.figures.data import Array, Method, mean_known, windows
from mtlbench.report.figures.maps import closely, drawn_of, maps_of_tasks
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import (
    COLUMN,
    FAINT,
    FULL,
    TASK_COLOURS,
    Drawing,
    blank,
    count,
    head,
    legend,
    logarithmic,
    plain_numbers,
    shorts,
    signed,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_WINDOWS = 50  # points of a line
_FLATTENED = 1.5  # times what the middle panel takes of the axis: where that is gained, it is logarithmic
_MOVES = 1e-3  # of the mean weight; less is rounding


# --- agreement of gradients -------------------------------------------------------------------------------------------


def agreement(scene: Scene) -> list[Drawing]:
    """Draw how the tasks' gradients agree on the shared parameters: over training, and every two tasks."""
    probed = [m for m in scene.methods if data.probed(scene.suite, scene.results, m)]
    shown = scene.prominent(probed)
    every = {m.name: tables for m in shown if (tables := data.cosines(scene.suite, scene.results, m))}
    shown = [m for m in shown if m.name in every]
    if not shown:
        return []
    note = drawn_of(shown, probed)
    over_training = [_agreement_over_training(scene, shown, note, every, measure) for measure in (_COSINE, _SHARE)]
    return [*over_training, *_agreement_of_pairs(scene, closely(scene, shown), probed, every)]


@dataclass(frozen=True)
class _Measure:
    """What of the cosines is drawn over training, a panel a method."""

    stem: str
    column: str
    title: str
    label: str
    neutral: float


_COSINE = _Measure(
    "gradient-agreement", "cosine", "Agreement of the tasks' gradients, while training", "mean cosine", 0
)
_SHARE = _Measure("gradient-compliance", "share", "How often the tasks' gradients agree", "pairs that agree, %", 50)


def _agreement_over_training(
    scene: Scene, shown: Sequence[Method], note: str, every: dict[str, list[pd.DataFrame]], measure: _Measure
) -> Drawing:
    """Draw small multiples: a panel a method, the others grey behind it."""
    import pandas as pd

    bands: dict[str, pd.DataFrame] = {}
    overall: dict[str, float] = {}
    for method in shown:
        runs, wholes = [], []
        for table in every[method.name]:
            # first over the pairs of a probe, so that every probe counts the same
            by_pair = table.assign(share=100.0 * (table["cosine"] > 0))
            probes = by_pair.groupby("step")[["cosine", "share"]].mean()
            runs.append(windows(probes.reset_index(), _WINDOWS // 2).set_index("step")[measure.column])
            wholes.append(by_pair[measure.column].mean())
        bands[method.name] = pd.concat(runs, axis=1, join="inner")
        overall[method.name] = float(np.mean(wholes))
    across = math.ceil(len(shown) / math.ceil(len(shown) / 4))  # at most 4, rows as equal as can be
    down = math.ceil(len(shown) / across)
    figure = blank(FULL, 0.75 + 1.45 * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    names = shorts([m.label for m in shown], 22)
    for n, axes in enumerate(grid.flat):
        if n >= len(shown):
            axes.set_axis_off()
            continue
        method = shown[n]
        for other in shown:
            if other is not method:
                axes.plot(bands[other.name].index, bands[other.name].mean(axis=1), color=FAINT, lw=0.6, zorder=1)
        lines, look = bands[method.name], scene.looks[method.name]
        axes.axhline(measure.neutral, color="#888888", lw=0.6, zorder=0)
        axes.fill_between(lines.index, lines.min(axis=1), lines.max(axis=1), color=look.colour, alpha=0.15, lw=0)
        axes.plot(lines.index, lines.mean(axis=1), color=look.colour, lw=1.4, zorder=3, gid=method.name)
        axes.set_title(names[n], fontsize=8, pad=3)
        if n + across >= len(shown):
            axes.set_xlabel("training step")
            axes.tick_params(labelbottom=True)
        if n % across == 0:
            axes.set_ylabel(measure.label)
    several = any(len(every[m.name]) > 1 for m in shown)
    band = "; mean, and band from lowest to highest seed" * several
    others = "; grey: the other methods" * (len(shown) > 1)
    where = scene.where(shown) + note + "; shared parameters" + band + others
    head(figure, measure.title, where)

    def value(name: str) -> str:
        return signed(overall[name]) if measure is _COSINE else f"{overall[name]:.0f} %"

    ends = [f"{method.label} {value(method.name)}" for method in shown]
    what = (
        "Mean cosine of two tasks' gradients"
        if measure is _COSINE
        else "Update compliance ratio, how often the cosine of two tasks' gradients is above 0"
    )
    low, high = min(overall, key=overall.__getitem__), max(overall, key=overall.__getitem__)
    says = f"Over training the mean over probes is {' to '.join(dict.fromkeys((value(low), value(high))))}"
    says += " (0: neither for nor against)." if measure is _COSINE else " of pairs and probes (50 %: as by chance)."
    return Drawing(measure.stem, measure.title, where, f"{what}: {joined(ends, 8)}.", figure, says)


def _agreement_of_pairs(
    scene: Scene, shown: Sequence[Method], probed: Sequence[Method], every: dict[str, list[pd.DataFrame]]
) -> list[Drawing]:
    maps = {m.name: mean_known([_pairs(scene, table) for table in every[m.name]]) for m in shown}
    limit = _round_limit([maps[m.name] for m in shown])
    title = "Mean cosine of two tasks' gradients over training"
    return maps_of_tasks(scene, shown, maps, "gradient-pairs", title, drawn_of(shown, probed), limit, "mean cosine")


def _pairs(scene: Scene, table: pd.DataFrame) -> Array:
    """Return (T, T) mean cosines of a run, nan on the diagonal and where there is none."""
    place = {task: n for n, task in enumerate(scene.suite.tasks)}
    found: Array = np.full((len(place), len(place)), math.nan)
    means = table.groupby(["task_a", "task_b"], as_index=False)["cosine"].mean()
    for a, b, cosine in zip(means["task_a"], means["task_b"], means["cosine"], strict=True):
        found[place[a], place[b]] = found[place[b], place[a]] = cosine
    return found


def _round_limit(maps: Sequence[Array]) -> float:
    """Return what maps around 0 reach to, rounded up to a tenth."""
    values = np.abs(np.stack([m[~np.eye(len(m), dtype=bool)] for m in maps]))
    return max(0.1, math.ceil(10 * float(np.nanmax(values)) - 1e-9) / 10) if not np.isnan(values).all() else 0.1


# --- weights of the losses --------------------------------------------------------------------------------------------


def weights(scene: Scene) -> Drawing | None:
    """Draw the balancers' weights over training, for the methods whose weights move: means over windows and seeds."""
    import pandas as pd

    columns = [f"weight/{task}" for task in scene.suite.tasks]
    moving: dict[str, pd.DataFrame] = {}
    for method in scene.methods:
        runs = [run for run in scene.curves(method) if set(columns) <= set(run)]
        if any(_moves(run[columns].to_numpy()) for run in runs):
            means = [windows(run[["step", *columns]], _WINDOWS).set_index("step") for run in runs]
            moving[method.name] = pd.concat(means).groupby(level=0).mean()
    methods = [method for method in scene.methods if method.name in moving]
    if not methods:
        return None
    shown = scene.prominent(methods, 12)
    across = min(3, len(shown))
    down = math.ceil(len(shown) / across)
    width = COLUMN if across == 1 else FULL
    figure = blank(width, 1.2 + 1.5 * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    highlighted = _highlighted(moving, columns)
    scale = _scale([moving[method.name][columns].to_numpy() for method in shown])
    for n, axes in enumerate(grid.flat):
        if n >= len(shown):
            axes.set_axis_off()
            continue
        lines = moving[shown[n].name]
        for column in sorted(columns, key=lambda c: c in highlighted):
            if column in highlighted:
                colour = TASK_COLOURS[highlighted.index(column)]
                axes.plot(lines.index, lines[column], color=colour, lw=1, zorder=2, gid=column)
            else:
                axes.plot(lines.index, lines[column], color=FAINT, lw=0.5, zorder=1, gid=column)
        axes.set_title(shorts([m.label for m in shown])[n], fontsize=8, pad=3)
        axes.set_yscale(scale)
        if n + across >= len(shown):
            axes.set_xlabel("training step")
            axes.tick_params(labelbottom=True)
        if n % across == 0:
            axes.set_ylabel(f"weight{logarithmic(axes.yaxis)}")
    if scale == "log":
        plain_numbers(grid[0, 0])
    _task_legend(figure, [scene.tasks[columns.index(c)] for c in highlighted], len(columns) - len(highlighted))
    title = "Weights that balancers gave the tasks' losses"
    points = max(len(moving[method.name]) for method in shown)
    kept = max(len(run) for method in shown for run in scene.curves(method))
    how = f"means over {counted(points, 'window')} of steps" if kept > points else f"at {counted(points, 'step')}"
    where = f"{scene.where(shown)}{drawn_of(shown, methods)}; {how}"
    head(figure, title, where)
    parts = []
    for method in shown:
        last = moving[method.name].iloc[-1]
        high, low = (scene.tasks[columns.index(str(c))] for c in (last.idxmax(), last.idxmin()))
        parts.append(f"{method.label} {last.max():.3g} ({high}) to {last.min():.3g} ({low})")
    over = f"Loss weights over training of {count(len(shown), 'method')}"
    alt = f"{over}. At the end, highest to lowest: {joined(parts, 6)}."
    says = f"At the end, each balancer's highest and lowest weight: {joined(parts, 3)}."
    return Drawing("balancer-weights", title, where, alt, figure, says)


def _moves(values: Array) -> bool:
    """Return whether a run's weights, (steps, T), change by more than rounding."""
    return bool((np.ptp(values, axis=0) > _MOVES * np.abs(values).mean()).any())


def _scale(panels: Sequence[Array]) -> str:
    """Return `log` for an axis on which a few balancers' weights, (windows, T) each, would flatten the others'."""
    ends = np.array([(np.nanmin(panel), np.nanmax(panel)) for panel in panels])
    if ends.min() <= 0 or ends.min() == ends.max():
        return "linear"
    straight, curved = (float(np.median(np.ptp(each, axis=1)) / np.ptp(each)) for each in (ends, np.log(ends)))
    return "log" if curved > _FLATTENED * straight else "linear"


def _highlighted(moving: dict[str, pd.DataFrame], columns: list[str]) -> list[str]:
    """Choose the tasks that have a colour: all if few, else those farthest from the rest."""
    if len(columns) <= len(TASK_COLOURS):
        return columns
    apart = np.zeros(len(columns))
    for lines in moving.values():
        values = lines[columns].to_numpy()
        apart += np.abs(values.mean(0) - values.mean()) / np.abs(values).mean()
    return [columns[n] for n in sorted(np.argsort(-apart, kind="stable")[:6])]


def _task_legend(figure: Figure, tasks: Sequence[str], others: int) -> None:
    from matplotlib.lines import Line2D

    names = shorts(tasks, 24)
    lines = [Line2D([], [], color=c, lw=1.2, label=n) for c, n in zip(TASK_COLOURS, names, strict=False)]
    if others:
        lines.append(Line2D([], [], color=FAINT, lw=0.8, label=f"{counted(others, 'other task')}"))
    legend(figure, lines)
