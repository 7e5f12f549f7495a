"""What runs' checkpoints say about sharing, read by what their architectures declare (see `mtlbench.Learned`)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtlbench.errors import leave_out
from mtlbench.learned import Axes, Learned
from mtlbench.report.figures.data import Array, Method, mean_known
from mtlbench.runs import Record, folder_of

_SCALES, _UNITS = re.compile(r"scales\.(\d+)\.(\d+)"), re.compile(r"units\.(\d+)")


@dataclass(frozen=True)
class Part:
    """What one run learned, under one name; see `Learned` for the words.

    Attributes:
        places: values by place: (T, C) of vectors of channels, (T, T) of mixes of tasks.
    """

    name: str
    axes: Axes
    meaning: str
    neutral: float
    places: dict[str, Array]


def learned(results: Path, method: Method, tasks: int) -> list[tuple[int, list[Part]]]:
    """Return seed by seed what a method's runs learned about sharing, for the runs whose checkpoint says it.

    A checkpoint that can't be read is left out with a warning that names it.
    """
    found = []
    for record in method.records:
        path = folder_of(record, results) / "weights.safetensors"
        parts = _read(path, record, tasks) if path.exists() and record.learned != [] else []
        if parts:
            found.append((record.seed, parts))
    return found


def _read(path: Path, record: Record, tasks: int) -> list[Part]:
    from safetensors import SafetensorError, safe_open

    parts: dict[tuple[str, Axes], Part] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())

            def shape(name: str) -> tuple[int, ...]:
                return tuple(file.get_slice(name).get_shape())

            if record.learned is None:
                declared = _declared_by_names(names, shape, tasks)
            else:
                declared = [Learned.from_json(content) for content in record.learned]
            for one in declared:
                if set(one.tensors) <= set(names):
                    values = _values(one, [file.get_tensor(name).astype(np.float64) for name in one.tensors], tasks)
                    if values is not None:
                        empty = Part(one.name, one.axes, one.meaning, one.neutral, {})
                        parts.setdefault((one.name, one.axes), empty).places[one.place] = values
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        leave_out(f"left out: {path} can't be read ({error}); copy it again.")
        return []
    return list(parts.values())


def _values(one: Learned, tensors: Sequence[Array], tasks: int) -> Array | None:
    """Return (T, C) or (T, T); None where the tensors are not shaped as was declared."""
    if one.row is not None:
        tensors = [tensor[one.row] for tensor in tensors if tensor.ndim and one.row < len(tensor)]
    if one.axes == ("task", "task"):
        return tensors[0] if len(tensors) == 1 and tensors[0].shape == (tasks, tasks) else None
    alike = len({tensor.shape for tensor in tensors}) == 1 and tensors[0].ndim == 1
    return np.stack(tensors) if alike and len(tensors) == tasks else None


def _declared_by_names(names: Sequence[str], shape: Callable[[str], tuple[int, ...]], tasks: int) -> list[Learned]:
    """Return what runs of mtlbench 0.1 learned, which declared nothing: the two kinds that it drew, by their names."""
    scales: dict[int, set[int]] = {}
    units = []
    for name in names:
        if (match := _SCALES.fullmatch(name)) and len(shape(name)) == 1:
            scales.setdefault(int(match[1]), set()).add(int(match[2]))
        elif match := _UNITS.fullmatch(name):
            units.append(int(match[1]))
    meaning = "scale, as stored (1: the channel is passed on as it is)"
    return [
        *(
            Learned(
                "scales", f"layer {layer}", tuple(f"scales.{layer}.{t}" for t in range(tasks)), ("task", "channel"),
                meaning, 1,
            )
            for layer, there in sorted(scales.items())
            if there == set(range(tasks))
        ),
        *(Learned("units", f"unit {n + 1}", (f"units.{n}",), ("task", "task"), "weight") for n in sorted(units)),
    ]  # fmt: skip


def similarity(vectors: dict[str, Array]) -> Array:
    """Return (T, T): how similar two tasks' vectors of channels are, Pearson's correlation over channels, mean over
    places.

    Correlation, since vectors stay near where they began: their plain cosine is near 1 for any two tasks. A task whose
    vector at a place is all equal has no correlation there; a pair without any is nan.
    """
    by_place = []
    for values in vectors.values():
        centred = values - values.mean(1, keepdims=True)
        length = np.linalg.norm(centred, axis=1)
        length[length <= 1e-7 * np.abs(values).max()] = math.nan
        by_place.append((centred @ centred.T) / np.outer(length, length))
    return mean_known(by_place)
