"""Records and files made up by hand, of which figures are drawn in tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import Drawing
from mtlbench.report.suites import suites
from mtlbench.runs import Record, find_records, run_folder, write_record

CORE = ("independent", "shared", "cross-stitch", "gradnorm", "modulation")
TASKS = ("colour", "heel_height", "brand")
SMALL_MB, LARGE_MB = 2.5, 7.5


def record(method: str, seed: int = 0, hits: Sequence[float] = (0.9, 0.7, 0.5), **changes: Any) -> Record:
    tasks = changes.pop("tasks", TASKS)
    settings = {
        "name": "made-up-quick", "title": "Made up", "data": {"reader": "zappos", "image_size": [48, 64]},
        "model": {"backbone": "small", "embedding": 8}, "train": {"steps": 40},
        "evaluation": {"triplets": 200, "agreement_every": 20},
    }  # fmt: skip
    setup = {"method": {"name": method}, "benchmark": settings, "tasks": list(tasks), "seed": seed, "data": "abc"}
    made = Record(method, seed, "method", setup)
    made.metrics = {task: {"triplet": hit} for task, hit in zip(tasks, hits, strict=True)}
    size = LARGE_MB if method == "independent" else SMALL_MB
    made.costs = {"file_bytes": 1e6 * size, "train_rate": 1000.0 + 100 * seed, "embed_rate_all_tasks": 3000.0}
    groups = ["core"] * (method in CORE) + ["base"] * (method == "independent")
    made.receipt = {"device": "a processor", "data": {"rendered": True}, "groups": groups}
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


def tuned(results: Path, method: str, hits: Sequence[float], seed: int = 0, **recipe: Any) -> None:
    """Leave a run with a recipe; without settings in it, it is the default's."""
    made = record(method, seed, hits)
    made.setup = made.setup | {"method": {"name": method, "recipe": recipe}}
    write_record(run_folder(results, "made-up-quick", f"{method}@tuned", seed), made, curve=curve(0.5))


def varied(results: Path, method: str, hits: Sequence[float], steps: int, **recipe: Any) -> None:
    """Leave a run with a recipe and so many steps, which `scene(results, "train.steps")` takes for a factor."""
    made = record(method, 0, hits)
    settings = made.setup["benchmark"] | {"train": {"steps": steps}}
    made.setup = made.setup | {"method": {"name": method, "recipe": recipe}, "benchmark": settings}
    write_record(run_folder(results, "made-up-quick", f"{method}@{steps}", 0), made, curve=curve(0.5))


def scene(results: Path, *across: str) -> Scene:
    (suite,) = suites(find_records(results), across)
    return Scene.of(suite, results)


SCALES = {3: [[0.5, 1.0, 1.5, 1.2], [0.6, 1.0, 1.4, 1.3], [1.4, 1.1, 0.6, 0.9]], 5: [[1, 2], [1, 3], [2, 1]]}


def scale_tensors(scales: Mapping[int, Sequence[Sequence[float]]] = SCALES, shift: float = 0.0) -> dict[str, Any]:
    return {
        f"scales.{layer}.{t}": torch.tensor(values) + shift
        for layer, by_task in scales.items()
        for t, values in enumerate(by_task)
    }


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def line(figure: Figure, name: str, panel: int = 0) -> tuple[list[float], list[float]]:
    (found,) = [found for found in figure.axes[panel].lines if found.get_gid() == name]
    return list(found.get_xdata()), list(found.get_ydata())


def crowd(results: Path, methods: int = 45, tasks: int = 3) -> Scene:
    random = np.random.default_rng(0)
    names = tuple(f"a_task_with_a_long_name_{t}" for t in range(tasks))
    for n in range(methods):
        name = CORE[n] if n < len(CORE) else f"a-method-with-options[depth={n},width=16]"
        made = record(name, 0, random.uniform(0.5, 0.9, tasks), tasks=names)
        made.costs["file_bytes"] = float(random.uniform(2e6, 9e6))
        put(results, made)
    return scene(results)


def cells(drawing: Drawing) -> dict[str, list[float]]:
    """A map's values by the name of the row."""
    axes = drawing.figure.axes[0]
    values = axes.collections[0].get_array()
    assert values is not None
    rows = [label.get_text() for label in axes.get_yticklabels()]
    return {name: row.tolist() for name, row in zip(rows, np.ma.filled(values, math.nan), strict=True)}
