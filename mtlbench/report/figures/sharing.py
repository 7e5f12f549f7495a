"""Figures of how tasks share: their gradients' agreement, learned scales and units, balancers' weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtlbench.report.figures import data
from mtlbench.report.figures.data import Array, Method, mean_known, similarity, windows
from mtlbench.report.figures.scene import Scene, method_lines
from mtlbench.report.figures.style import (
    COLUMN,
    FAINT,
    FULL,
    TASK_COLOURS,
    Drawing,
    blank,
    colour_bar,
    count,
    head,
    heat,
    legend,
    listed,
    shorts,
    signed,
    slug,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_FEW_TASKS = 10  # up to these, maps of several methods or layers stand in one figure
_WITH_NUMBERS = 7  # tasks
_DETAILED = 6, 2  # methods looked at closely, for few tasks and for more
_WINDOWS = 50  # points of a line
_MOVES = 1e-3  # of the mean weight; less is rounding


def _closely(scene: Scene, methods: Sequence[Method]) -> list[Method]:
    return scene.prominent(methods, _DETAILED[len(scene.tasks) > _FEW_TASKS])


def _of(shown: Sequence[Method], all_of_them: Sequence[Method]) -> str:
    return f"; drawn for {len(shown)} of {len(all_of_them)} methods" if len(shown) < len(all_of_them) else ""


# --- agreement of gradients -------------------------------------------------------------------------------------------


def agreement(scene: Scene) -> list[Drawing]:
    """Draw how the tasks' gradients agree on the shared parameters: over training, and every two tasks."""
    probed = [m for m in scene.methods if data.probed(scene.suite, scene.results, m)]
    shown = scene.prominent(probed)
    every = {m.name: tables for m in shown if (tables := data.cosines(scene.suite, scene.results, m))}
    shown = [m for m in shown if m.name in every]
    if not shown:
        return []
    over_training = _agreement_over_training(scene, shown, _of(shown, probed), every)
    return [over_training, *_agreement_of_pairs(scene, _closely(scene, shown), probed, every)]


def _agreement_over_training(
    scene: Scene, shown: Sequence[Method], note: str, every: dict[str, list[pd.DataFrame]]
) -> Drawing:
    import pandas as pd

    figure = blank(FULL, 2.9)
    left, right = figure.subplots(1, 2)
    ends = []
    for method in shown:
        look = scene.looks[method.name]
        runs = []
        for table in every[method.name]:
            # first over the pairs of a probe, so that every probe counts the same
            probes = table.assign(share=100.0 * (table["cosine"] > 0)).groupby("step")[["cosine", "share"]].mean()
            runs.append(windows(probes.reset_index(), _WINDOWS // 2).set_index("step"))
        for axes, column in ((left, "cosine"), (right, "share")):
            lines = pd.concat([run[column] for run in runs], axis=1, join="inner")
            axes.fill_between(lines.index, lines.min(axis=1), lines.max(axis=1), color=look.colour, alpha=0.12, lw=0)
            axes.plot(lines.index, lines.mean(axis=1), color=look.colour, ls=look.line, marker=look.marker,
                      markersize=3.2, markevery=max(1, len(lines) // 8), gid=method.name)  # fmt: skip
        tables = [table["cosine"] for table in every[method.name]]
        mean = np.mean([t.mean() for t in tables])
        share = np.mean([(t > 0).mean() for t in tables])
        ends.append(f"{method.name} {signed(float(mean))} ({100 * share:.0f} %)")
    left.axhline(0, color="#888888", lw=0.6, zorder=0)
    left.set(xlabel="training step", ylabel="mean cosine of two tasks")
    right.set(xlabel="training step", ylabel="pairs of tasks that agree, %", ylim=(0, 103))
    legend(figure, method_lines(scene, shown))
    title = "Agreement of the tasks' gradients on shared parameters, while training"
    several = any(len(every[m.name]) > 1 for m in shown)
    band = "; mean, and band from lowest to highest seed" * several
    where = scene.where(shown) + note + band
    head(figure, title, where)
    measured = "Mean cosine of two tasks' gradients and, in brackets, update compliance ratio (how often it is above 0)"
    alt = f"{measured}: {listed(ends, 8)}."
    return Drawing("gradient-agreement", title, where, alt, figure)


def _agreement_of_pairs(
    scene: Scene, shown: Sequence[Method], probed: Sequence[Method], every: dict[str, list[pd.DataFrame]]
) -> list[Drawing]:
    maps = {m.name: mean_known([_pairs(scene, table) for table in every[m.name]]) for m in shown}
    limit = _round_limit([maps[m.name] for m in shown])
    title = "Mean cosine of two tasks' gradients over training"
    return _maps(scene, shown, maps, "gradient-pairs", title, _of(shown, probed), limit, "mean cosine")


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


# --- maps of tasks by tasks -------------------------------------------------------------------------------------------


def _maps(
    scene: Scene,
    shown: Sequence[Method],
    maps: dict[str, Array],
    stem: str,
    title: str,
    note: str,
    limit: float,
    label: str,
) -> list[Drawing]:
    """Draw one task × task map a method: side by side for few tasks, else in figures of their own."""
    pages = [list(shown)] if len(scene.tasks) <= _FEW_TASKS else [[m] for m in shown]
    drawings = []
    for page in pages:
        alone = len(pages) > 1  # then the heading names the method
        names = [""] if alone else shorts([m.name for m in page], 30)
        panels = list(zip(names, (maps[m.name] for m in page), strict=True))
        heading = f"{title}: {page[0].name}" if alone else title
        where = scene.where(page) + note
        figure = task_maps(panels, scene.tasks, heading, where, limit, label)
        parts = [f"{m.name}: {_extremes(maps[m.name], scene.tasks)}" for m in page]
        ending = f"-{slug(page[0].name)}" if alone else ""
        drawings.append(Drawing(stem + ending, heading, where, f"{title}. {'; '.join(parts)}.", figure))
    return drawings


def _extremes(values: Array, tasks: Sequence[str]) -> str:
    """Say which two tasks have the highest and the lowest value."""
    first, second = np.triu_indices(len(tasks), 1)
    pairs = values[first, second]
    if np.isnan(pairs).all():
        return "no value"
    high, low = int(np.nanargmax(pairs)), int(np.nanargmin(pairs))
    words = [f"{tasks[first[n]]} and {tasks[second[n]]} {pairs[n]:.2f}" for n in dict.fromkeys((high, low))]
    return f"mean {np.nanmean(pairs):.2f}, " + ("from " if len(words) > 1 else "") + " down to ".join(words)


def task_maps(
    panels: Sequence[tuple[str, Array]],
    tasks: Sequence[str],
    title: str,
    where: str,
    limit: float,
    label: str,
) -> Figure:
    """Draw (T, T) maps in one colour scale from -limit to limit, each under its name if it has one; nan stays white."""
    few = len(tasks) <= _FEW_TASKS
    down = math.ceil(len(panels) / 3) if few else len(panels)
    across = math.ceil(len(panels) / down)
    names = shorts(list(tasks), 24)
    margin = 0.062 * max(map(len, names)) + 0.1  # inches for the tasks' names
    width = COLUMN if few and across == 1 else FULL
    side = min((width - 0.15 - margin) / across - 0.1, 0.42 * len(tasks)) if few else min(5.2, 0.14 * len(tasks))
    figure = blank(width, 0.95 + margin + down * (side + 0.27))
    grid = figure.subplots(down, across, squeeze=False)
    numbers = np.vectorize(signed, otypes=[str])
    for n, axes in enumerate(grid.flat):
        if n >= len(panels):
            axes.set_axis_off()
            continue
        name, values = panels[n]
        heat(
            axes,
            values,
            limit,
            names if n % across == 0 else [],
            names if n + across >= len(panels) else [],
            numbers(values) if len(tasks) <= _WITH_NUMBERS else None,
            square=True,
            annot_kws={"fontsize": 5.5},
        )
        if name:
            axes.set_title(name, fontsize=8, pad=3)
    colour_bar(figure, grid[0, 0].collections[0], list(grid.flat), label, (False, False))
    head(figure, title, where)
    return figure


# --- what was learned -------------------------------------------------------------------------------------------------


def scales(scene: Scene) -> list[Drawing]:
    """Draw every task's channel scales, layer by layer, of one seed: channels mean nothing to another seed."""
    with_scales = [m for m in scene.methods if any(one.scales for _, one in scene.learned(m))]
    return [_scales_of(scene, method) for method in _closely(scene, with_scales)]


def _scales_of(scene: Scene, method: Method) -> Drawing:
    seed, one = next((s, one) for s, one in scene.learned(method) if one.scales)
    layers = one.scales
    every = np.concatenate([values.ravel() for values in layers.values()])
    limit = max(0.1, math.ceil(10 * float(np.percentile(np.abs(every - 1), 99.5))) / 10)
    names = shorts(scene.tasks, 24)
    row = 0.2 if len(names) <= _FEW_TASKS else 0.12
    figure = blank(FULL, 1.35 + max(0.7, row * len(names)))
    widths = [max(values.shape[1], 24) for values in layers.values()]
    grid = figure.subplots(1, len(layers), squeeze=False, width_ratios=widths)[0]
    for n, (axes, (layer, values)) in enumerate(zip(grid, layers.items(), strict=True)):
        ordered = values[:, np.argsort(values.mean(0), kind="stable")]
        image = axes.imshow(ordered, aspect="auto", cmap="PuOr_r", vmin=1 - limit, vmax=1 + limit)
        axes.set_title(f"layer {layer}", fontsize=8, pad=3)
        axes.set(xticks=[0, values.shape[1] - 1], xticklabels=["1", str(values.shape[1])], xlabel="channel")
        axes.set_yticks(range(len(names)), names if n == 0 else [])
        axes.grid(False)
        axes.tick_params(length=0, pad=2, labelsize=7 if len(names) <= _FEW_TASKS else 6)
        axes.spines[:].set_visible(False)
    beyond = bool((every < 1 - limit).any()), bool((every > 1 + limit).any())
    colour_bar(figure, image, list(grid), "scale, as stored (1: the channel is passed on as it is)", beyond)
    title = f"Scales of channels that {method.name} learned, by task and layer"
    off = float((every <= 0).mean())
    where = f"{scene.subject}; seed {seed}; channels in the order of their mean"
    head(figure, title, where)
    parts = [f"layer {layer}: {v.shape[1]} channels, {v.min():.2f} to {v.max():.2f}" for layer, v in layers.items()]
    alt = f"Channel scales of {method.name}, {count(len(names), 'task')}. {'; '.join(parts)}. {off:.0%} are 0 or below."
    return Drawing(f"scales-{slug(method.name)}", title, where, alt, figure)


def scales_similarity(scene: Scene) -> list[Drawing]:
    """Draw how alike the tasks' scales are, by `data.similarity`, mean over seeds."""
    with_scales = [m for m in scene.methods if any(one.scales for _, one in scene.learned(m))]
    shown = _closely(scene, with_scales)
    if not shown or len(scene.tasks) < 2:
        return []
    maps = {m.name: mean_known([similarity(one.scales) for _, one in scene.learned(m) if one.scales]) for m in shown}
    title = "Similarity of tasks that the learned scales imply"
    label = "correlation over channels, mean over layers and seeds"
    return _maps(scene, shown, maps, "scales-similarity", title, _of(shown, with_scales), 1.0, label)


def units(scene: Scene) -> list[Drawing]:
    """Draw the learned units between tasks' columns, place by place, mean over seeds."""
    with_units = [m for m in scene.methods if any(one.units for _, one in scene.learned(m))]
    shown = _closely(scene, with_units)
    if len(scene.tasks) > _FEW_TASKS:
        shown = shown[:1]  # a page for every place
    return [drawing for method in shown for drawing in _units_of(scene, method)]


def _units_of(scene: Scene, method: Method) -> list[Drawing]:
    runs = [one.units for _, one in scene.learned(method) if one.units]
    means = {n: np.mean([run[n] for run in runs if n in run], 0) for n in runs[0]}
    panels = [(f"unit {n + 1}", values) for n, values in means.items()]
    limit = max(1.0, math.ceil(10 * max(float(np.abs(v).max()) for v in means.values())) / 10)
    title = f"Learned units of {method.name}: what each task (row) takes of every task's features"
    label = "weight, mean over seeds" if len(runs) > 1 else "weight"
    where = scene.where([method])
    pages = [panels] if len(scene.tasks) <= _FEW_TASKS else [[panel] for panel in panels]
    drawings = []
    for page in pages:
        figure = task_maps(page, scene.tasks, title, where, limit, label)
        parts = [f"{name}: own column {np.diag(v).mean():.2f}, others {_off(v):.2f} on average" for name, v in page]
        stem = f"units-{slug(method.name)}" + (f"-{slug(page[0][0])}" if len(pages) > 1 else "")
        drawings.append(Drawing(stem, title, where, f"Learned units of {method.name}. {'; '.join(parts)}.", figure))
    return drawings


def _off(values: Array) -> float:
    """Return the mean of a matrix beside its diagonal; 0 where there is nothing."""
    beside = values[~np.eye(len(values), dtype=bool)]
    return float(beside.mean()) if len(beside) else 0.0


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
    grid = figure.subplots(down, across, squeeze=False, sharex=True)
    highlighted = _highlighted(moving, columns)
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
        axes.set_title(shorts([m.name for m in shown])[n], fontsize=8, pad=3)
        if n + across >= len(shown):
            axes.set_xlabel("training step")
            axes.tick_params(labelbottom=True)
        if n % across == 0:
            axes.set_ylabel("weight")
    _task_legend(figure, [scene.tasks[columns.index(c)] for c in highlighted], len(columns) - len(highlighted))
    title = "Weights that balancers gave the tasks' losses"
    where = scene.where(shown) + _of(shown, methods) + f"; means over {_WINDOWS} windows of steps"
    head(figure, title, where)
    parts = []
    for method in shown:
        last = moving[method.name].iloc[-1]
        high, low = (scene.tasks[columns.index(str(c))] for c in (last.idxmax(), last.idxmin()))
        parts.append(f"{method.name} {last.max():.3g} ({high}) to {last.min():.3g} ({low})")
    alt = (
        f"Loss weights over training of {count(len(shown), 'method')}. At the end, highest to lowest: {listed(parts)}."
    )
    return Drawing("balancer-weights", title, where, alt, figure)


def _moves(values: Array) -> bool:
    """Return whether a run's weights, (steps, T), change by more than rounding."""
    return bool((np.ptp(values, axis=0) > _MOVES * np.abs(values).mean()).any())


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
        lines.append(Line2D([], [], color=FAINT, lw=0.8, label=f"{others} other tasks"))
    legend(figure, lines)
