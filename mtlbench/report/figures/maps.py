"""Maps of tasks by tasks: one a method or place, all in one colour scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtlbench.names import slug
from mtlbench.report.figures.data import Array, Method
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import (
    COLUMN,
    FULL,
    Drawing,
    blank,
    colour_bar,
    head,
    heat,
    shorts,
    signed,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW_TASKS = 10  # up to these, maps of several methods or layers stand in one figure
_WITH_NUMBERS = 7  # tasks
_DETAILED = 6, 2  # methods looked at closely, for few tasks and for more


def closely(scene: Scene, methods: Sequence[Method]) -> list[Method]:
    """Choose the methods that are looked at closely, each in figures of its own."""
    return scene.prominent(methods, _DETAILED[len(scene.tasks) > FEW_TASKS])


def drawn_of(shown: Sequence[Method], all_of_them: Sequence[Method]) -> str:
    """Say for how many of the methods a figure is drawn; nothing where for all."""
    return f"; drawn for {len(shown)} of {len(all_of_them)} methods" if len(shown) < len(all_of_them) else ""


def maps_of_tasks(
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
    pages = [list(shown)] if len(scene.tasks) <= FEW_TASKS else [[m] for m in shown]
    drawings = []
    for page in pages:
        alone = len(pages) > 1  # then the heading names the method
        names = [""] if alone else shorts([m.label for m in page], 30)
        panels = list(zip(names, (maps[m.name] for m in page), strict=True))
        heading = f"{title}: {page[0].label}" if alone else title
        where = scene.where(page) + note
        figure = task_maps(panels, scene.tasks, heading, where, limit, label)
        parts = [f"{m.label}: {_extremes(maps[m.name], scene.tasks)}" for m in page]
        ending = f"-{slug(page[0].name)}" if alone else ""
        alt = f"{title}. {'; '.join(parts)}."
        drawings.append(Drawing(stem + ending, heading, where, alt, figure, _most(page, maps, scene.tasks)))
    return drawings


def _most(methods: Sequence[Method], maps: dict[str, Array], tasks: Sequence[str]) -> str:
    """Say in one sentence where the highest and the lowest value of some maps are."""
    first, second = np.triu_indices(len(tasks), 1)
    values = np.stack([maps[method.name][first, second] for method in methods])
    if not values.size or np.isnan(values).all():
        return ""

    def said(place: int) -> str:
        m, pair = divmod(place, values.shape[1])
        return (
            f"{tasks[first[pair]]} and {tasks[second[pair]]} under {methods[m].label}, {signed(float(values[m, pair]))}"
        )

    high, low = int(np.nanargmax(values)), int(np.nanargmin(values))
    return f"Highest: {said(high)}" + (f"; lowest: {said(low)}." if high != low else ".")


def _extremes(values: Array, tasks: Sequence[str]) -> str:
    """Say which two tasks have the highest and the lowest value."""
    first, second = np.triu_indices(len(tasks), 1)
    pairs = values[first, second]
    if np.isnan(pairs).all():
        return "no value"
    high, low = int(np.nanargmax(pairs)), int(np.nanargmin(pairs))
    words = [f"{tasks[first[n]]} and {tasks[second[n]]} {signed(float(pairs[n]))}" for n in dict.fromkeys((high, low))]
    return f"mean {signed(float(np.nanmean(pairs)))}, " + ("from " if len(words) > 1 else "") + " down to ".join(words)


def task_maps(
    panels: Sequence[tuple[str, Array]],
    tasks: Sequence[str],
    title: str,
    where: str,
    limit: float,
    label: str,
) -> Figure:
    """Draw (T, T) maps in one colour scale from -limit to limit, each under its name if it has one; nan stays white."""
    few = len(tasks) <= FEW_TASKS
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
