"""Figures of what was learned about sharing, as architectures declare it: vectors of channels, and mixes of tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mtlbench.names import slug
from mtlbench.report.figures.checkpoints import Part, similarity
from mtlbench.report.figures.data import Array, Method, mean_known
from mtlbench.report.figures.maps import FEW_TASKS, closely, drawn_of, maps_of_tasks, task_maps
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import FULL, Drawing, blank, colour_bar, count, head, shorts, signed


def _of_channels(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.axes == ("task", "channel")]


def _of_tasks(parts: Sequence[Part]) -> list[Part]:
    return [part for part in parts if part.axes == ("task", "task")]


def channels(scene: Scene) -> list[Drawing]:
    """Draw every task's vectors of channels, place by place, of one seed: channels mean nothing to another seed."""
    there = [m for m in scene.methods if any(_of_channels(parts) for _, parts in scene.learned(m))]
    drawings = []
    for method in closely(scene, there):
        seed, parts = next((s, p) for s, parts in scene.learned(method) if (p := _of_channels(parts)))
        drawings += [_channels_of(scene, method, seed, part) for part in parts]
    return drawings


def _channels_of(scene: Scene, method: Method, seed: int, part: Part) -> Drawing:
    places, neutral = part.places, part.neutral
    every = np.concatenate([values.ravel() for values in places.values()])
    limit = max(0.1, math.ceil(10 * float(np.percentile(np.abs(every - neutral), 99.5))) / 10)
    names = shorts(scene.tasks, 24)
    row = 0.2 if len(names) <= FEW_TASKS else 0.12
    figure = blank(FULL, 1.35 + max(0.7, row * len(names)))
    widths = [max(values.shape[1], 24) for values in places.values()]
    grid = figure.subplots(1, len(places), squeeze=False, width_ratios=widths)[0]
    for n, (axes, (place, values)) in enumerate(zip(grid, places.items(), strict=True)):
        ordered = values[:, np.argsort(values.mean(0), kind="stable")]
        image = axes.imshow(ordered, aspect="auto", cmap="PuOr_r", vmin=neutral - limit, vmax=neutral + limit)
        axes.set_title(place, fontsize=8, pad=3)
        axes.set(xticks=[0, values.shape[1] - 1], xticklabels=["1", str(values.shape[1])], xlabel="channel")
        axes.set_yticks(range(len(names)), names if n == 0 else [])
        axes.grid(False)
        axes.tick_params(length=0, pad=2, labelsize=7 if len(names) <= FEW_TASKS else 6)
        axes.spines[:].set_visible(False)
    beyond = bool((every < neutral - limit).any()), bool((every > neutral + limit).any())
    colour_bar(figure, image, list(grid), part.meaning, beyond)
    title = f"{part.name.capitalize()} of channels that {method.label} learned, by task and layer"
    where = f"{scene.about}; seed {seed}; channels in the order of their mean"
    head(figure, title, where)
    said = [f"{place}: {v.shape[1]} channels, {signed(v.min())} to {signed(v.max())}" for place, v in places.items()]
    off = f" {float((every <= 0).mean()):.0%} are 0 or below." if neutral > 0 else ""
    alt = f"Channel {part.name} of {method.label}, {count(len(names), 'task')}. {'; '.join(said)}.{off}"
    return Drawing(f"{slug(part.name)}-{slug(method.name)}", title, where, alt, figure)


def channels_similarity(scene: Scene) -> list[Drawing]:
    """Draw how similar the tasks' vectors of channels are, by `checkpoints.similarity`, mean over seeds.

    Of a method with several kinds of vectors, by those that it names first.
    """
    runs = {m.name: [p[0].places for _, parts in scene.learned(m) if (p := _of_channels(parts))] for m in scene.methods}
    there = [m for m in scene.methods if runs[m.name]]
    shown = closely(scene, there)
    if not shown or len(scene.tasks) < 2:
        return []
    maps = {m.name: mean_known([similarity(places) for places in runs[m.name]]) for m in shown}
    title = "Similarity of tasks that the learned scales imply"
    label = "correlation over channels, mean over layers and seeds"
    return maps_of_tasks(scene, shown, maps, "scales-similarity", title, drawn_of(shown, there), 1.0, label)


def mixes(scene: Scene) -> list[Drawing]:
    """Draw the learned mixes between tasks, place by place, mean over seeds."""
    there = [m for m in scene.methods if any(_of_tasks(parts) for _, parts in scene.learned(m))]
    shown = closely(scene, there)
    if len(scene.tasks) > FEW_TASKS:
        shown = shown[:1]  # a page for every place
    drawings = []
    for method in shown:
        runs = [_of_tasks(parts) for _, parts in scene.learned(method)]
        for name in dict.fromkeys(part.name for parts in runs for part in parts):
            drawings += _mixes_of(scene, method, [part for parts in runs for part in parts if part.name == name])
    return drawings


def _mixes_of(scene: Scene, method: Method, runs: Sequence[Part]) -> list[Drawing]:
    name, meaning = runs[0].name, runs[0].meaning
    means = {place: np.mean([run.places[place] for run in runs if place in run.places], 0) for place in runs[0].places}
    panels = list(means.items())
    limit = max(1.0, math.ceil(10 * max(float(np.abs(v).max()) for v in means.values())) / 10)
    title = f"Learned {name} of {method.label}: what each task (row) takes of every task's features"
    label = f"{meaning}, mean over seeds" if len(runs) > 1 else meaning
    where = scene.where([method])
    pages = [panels] if len(scene.tasks) <= FEW_TASKS else [[panel] for panel in panels]
    drawings = []
    for page in pages:
        figure = task_maps(page, scene.tasks, title, where, limit, label)
        parts = [
            f"{place}: own column {signed(np.diag(v).mean())}, others {signed(_off(v))} on average" for place, v in page
        ]
        stem = f"{slug(name)}-{slug(method.name)}" + (f"-{slug(page[0][0])}" if len(pages) > 1 else "")
        alt = f"Learned {name} of {method.label}. {'; '.join(parts)}."
        drawings.append(Drawing(stem, title, where, alt, figure))
    return drawings


def _off(values: Array) -> float:
    """Return the mean of a matrix beside its diagonal; 0 where there is nothing."""
    beside = values[~np.eye(len(values), dtype=bool)]
    return float(beside.mean()) if len(beside) else 0.0
