"""Probes of gradient agreement as runs keep them: which numbers there are, and the file that holds them.

Reports read them here, without torch; how they are measured is in `agreement`, when, in `training`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TypedDict

ALL = "all"  # stands for all shared parameters together, where a layer's name would stand
FILE, OLD_FILE = "agreement.csv", "conflict.csv"  # in a run's folder; runs of mtlbench 0.1 have the old name
COLUMNS = ("step", "layer", "task_a", "task_b", "cosine")


class Probe(TypedDict):
    """One probe, on all shared parameters or on one layer's: a cosine for every two tasks, in `pairs`' order.

    None where a gradient is 0, so that it has no direction (a task without an active triplet), or is not finite.
    """

    step: int
    layer: str
    cosines: list[float | None]


def pairs(tasks: Sequence[str]) -> list[tuple[str, str]]:
    """Return every two of the tasks once, in their order."""
    return list(combinations(tasks, 2))


def rows(probes: Sequence[Probe], tasks: Sequence[str]) -> list[dict[str, str]]:
    """Return probes as `agreement.csv` holds them: a row per probe, layer and pair; no cosine is an empty cell."""
    return [
        {
            "step": str(probe["step"]),
            "layer": probe["layer"],
            "task_a": a,
            "task_b": b,
            "cosine": "" if cosine is None else f"{cosine:.6g}",
        }
        for probe in probes
        for (a, b), cosine in zip(pairs(tasks), probe["cosines"], strict=True)
    ]


def probes_file(folder: Path) -> Path:
    """Return the file of a run's probes, there or not; one of the old name is taken where only that is there."""
    old = folder / OLD_FILE
    return old if old.exists() and not (folder / FILE).exists() else folder / FILE
