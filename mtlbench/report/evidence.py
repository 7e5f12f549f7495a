"""What runs left beside `run.json` for comparisons: scores of triplets and queries, and what validation measured.

Nothing here loads torch; `comparison` and `summary` draw the conclusions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mtlbench.benchmark import LARGEST
from mtlbench.errors import leave_out
from mtlbench.runs import Record

Hits = NDArray[np.uint8]  # (T, n): 1 where a run ordered a test triplet rightly
_TEST = "test.safetensors"
TRIPLETS = "triplets.safetensors"  # of published runs: in a run's folder, or in its benchmark's for all that have none
_MOST_IMAGES = 10_000_000  # of a test split; comparisons count by image


def read_hits(folder: Path, record: Record) -> Hits | None:
    """Return a finished run's (T, n) hits, or None where they are missing or don't give the record's own accuracy."""
    tasks = record.setup["tasks"]
    hits = _tensor(folder / _TEST, "hits")
    if hits is None or hits.ndim != 2 or len(hits) != len(tasks) or not hits.size:
        return None
    found = np.count_nonzero(hits, axis=1) / hits.shape[1]
    wanted = [record.metrics.get(task, {}).get("triplet", math.nan) for task in tasks]
    return hits.astype(np.uint8, copy=False) if np.allclose(found, wanted, rtol=0, atol=1e-5) else None


def read_triplets(folder: Path) -> NDArray[np.integer] | None:
    """Return the (T, n, 3) test triplets that a run answered, as places among the test images; None without them."""
    triplets = _first(folder, "triplets")
    if triplets is None or triplets.dtype.kind not in "iu" or triplets.ndim != 3 or triplets.shape[2] != 3:
        return None
    return triplets if triplets.size and triplets.min() >= 0 and triplets.max() < _MOST_IMAGES else None


def read_groups(folder: Path) -> NDArray[np.integer] | None:
    """Return (N,) numbers that test images of one person or product share; None where that is not known."""
    groups = _first(folder, "groups")
    return groups if groups is not None and groups.dtype.kind in "iu" and groups.ndim == 1 and groups.size else None


def read_labels(folder: Path, record: Record) -> NDArray[np.int64] | None:
    """Return the (T, N) labels of the test images, below 0 where there is none; None where the run kept none."""
    labels = _tensor(folder / _TEST, "labels")
    if labels is None or labels.dtype.kind not in "iu" or labels.ndim != 2:
        return None
    return labels.astype(np.int64) if len(labels) == len(record.setup["tasks"]) and labels.size else None


def read_gallery(folder: Path, record: Record) -> NDArray[np.int64] | None:
    """Return the (T, N) labels of the test images in the gallery, below 0 elsewhere; None where the run kept none."""
    labels, gallery = read_labels(folder, record), _tensor(folder / _TEST, "gallery")
    if labels is None or gallery is None or gallery.shape != labels.shape[1:]:
        return None
    return np.where(gallery > 0, labels, -1)


def read_queries(folder: Path, record: Record, metric: str) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Return a finished run's scores of single queries and their labels, (T, N) each, of a metric such as `map@r`.

    A query without a score has NaN and the label -1. None where they are missing or don't give the record's own macro
    means over label values.
    """
    tasks = record.setup["tasks"]
    scores, labels = _tensor(folder / _TEST, f"queries/{metric}"), read_labels(folder, record)
    if (
        scores is None
        or labels is None
        or scores.ndim != 2
        or scores.shape != labels.shape
        or len(scores) != len(tasks)
    ):
        return None
    scores = scores.astype(np.float64)
    labels = np.where(np.isnan(scores), -1, labels)
    for task, own, values in zip(tasks, scores, labels, strict=True):
        means = [own[values == value].mean() for value in np.unique(values[values >= 0])]
        found = float(np.mean(means)) if means else math.nan
        if not math.isclose(found, record.metrics.get(task, {}).get(f"macro/{metric}", math.nan), abs_tol=1e-5):
            return None
    return scores, labels


def _first(folder: Path, name: str) -> NDArray[Any] | None:
    """Return a tensor on test images; published runs keep some in a file of their own, most for a whole benchmark."""
    places = (folder / _TEST, folder / TRIPLETS, folder.parent.parent / TRIPLETS)
    return next((found for place in places if (found := _tensor(place, name)) is not None), None)


def _tensor(path: Path, name: str) -> NDArray[Any] | None:
    try:
        with safe_open(path, framework="numpy") as file:
            found: NDArray[Any] = file.get_tensor(name)
            return found
    except (OSError, ValueError, TypeError, SafetensorError):
        return None


def read_curve(
    folder: Path, wanted: Callable[[str], bool] = lambda column: True, needed: Sequence[str] = ()
) -> pd.DataFrame | None:
    """Return some columns of a run's curve as numbers, NaN where nothing was measured.

    None where the run kept none; one that lacks a needed column, or holds anything but numbers, is left out with a
    warning that names it.
    """
    path = folder / "curve.csv"
    if not path.is_file():
        return None
    try:
        found = pd.read_csv(path, usecols=wanted, encoding="utf-8").astype("float64")
        if missing := [column for column in needed if column not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        if "step" in found:
            if not found["step"].between(0, 2**53).all():
                raise ValueError("a row has no step")
            found["step"] = found["step"].astype("int64")
        if (found.abs().gt(LARGEST) & found.abs().lt(math.inf)).any(axis=None):
            raise ValueError(f"a number is larger than {LARGEST:g}")
        return found
    except (OSError, ValueError, OverflowError) as error:  # a task may have any name: it is no reason to read text
        words = " ".join(str(error).split())
        leave_out(f"left out: {path} is no table of numbers ({words}); copy it again.")
        return None


def read_validated(record: Record) -> dict[str, float]:
    """Return the validation accuracy of the checkpoint that a run's scores are of, by task; nothing where not kept."""
    curve = None
    if record.folder:
        curve = read_curve(record.folder, lambda name: name == "step" or name.startswith("accuracy/"), ["step"])
    steps = record.receipt.get("selected_steps", {})
    found: dict[str, float] = {}
    for task in record.setup["tasks"]:
        name, step = f"accuracy/{task}", steps.get(task, record.receipt.get("selected_step"))
        if curve is None or name not in curve:
            continue
        measured = curve.loc[curve["step"] == step, name].dropna()
        if len(measured):
            found[task] = float(measured.iloc[-1])
    return found


def read_validations(folder: Path) -> pd.DataFrame | None:
    """Return a run's validations: `seconds` of training steps until then, `accuracy`, and `accuracy/<task>` each.

    None where the run kept no curve, or one without seconds.
    """
    curve = read_curve(folder, lambda name: name == "seconds" or name.partition("/")[0] == "accuracy")
    if curve is None or not {"seconds", "accuracy"} <= set(curve):
        return None
    timed = curve.dropna(subset=["accuracy", "seconds"])
    return None if timed.empty else timed


def accuracy_within(
    validations: pd.DataFrame, seconds: float, tasks: Sequence[str], select: str = "mean"
) -> float | None:
    """Return the mean validation accuracy over some tasks of the checkpoint that would be chosen after some seconds.

    That is the one of highest mean accuracy over all tasks; with `select` = `worst`, of the highest accuracy on its
    worst task; with `per-task`, each task's own best. By retrieval metrics, which curves don't hold, it is not known.
    None if nothing was measured by then.
    """
    there = validations[validations["seconds"] <= seconds]
    names = [f"accuracy/{task}" for task in tasks]
    if there.empty or not set(names) <= set(there) or select not in ("mean", "worst", "per-task"):
        return None
    if select == "per-task":
        return float(there[names].max().mean())
    every = there.filter(regex="^accuracy/")
    score = every.min(axis=1) if select == "worst" else there["accuracy"]
    return float(there.iloc[int(score.to_numpy().argmax())][names].mean())
