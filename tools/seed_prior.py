"""Measures how much methods vary between seeds, for `PRIORS`: the prior on variances in `report/inference.py`.

    python tools/seed_prior.py results/published              # docs/inference.md holds its figures
    python tools/seed_prior.py results/tuned celeba-quick     # of one benchmark

For every choice of one, two, three and four tasks, each method with at least three seeds gives a sample variance of its
mean; a method with its recipe is another one. The tool treats these variances as draws from a scaled inverse chi-
square. Mean and variance of their logarithms give the scale s0 and the degrees of freedom d0 (Smyth, Statistical
Applications in Genetics and Molecular Biology 2004, section 6.2). Choices of tasks overlap, so the variances are not
independent, and d0 is rough.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from mtlbench.errors import UserError
from mtlbench.runs import Record, find_records

METRICS = ("triplet", "macro/map@r", "macro/precision@1")
SIZES = (1, 2, 3, 4)


def variances(records: Sequence[Record], metric: str, size: int) -> tuple[list[float], list[int]]:
    """Return sample variances over seeds of methods' means over `size` tasks, and their degrees of freedom."""
    runs: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if record.kind == "method" and record.status == "done":
            recipe = json.dumps(record.setup["method"].get("recipe"), sort_keys=True)
            runs.setdefault((record.setup["benchmark"]["name"], record.method, recipe), []).append(record)
    found, freedoms = [], []
    for own in runs.values():
        if len(own) < 3:
            continue
        for tasks in combinations(own[0].metrics, size):
            means = [np.mean([record.metrics[task][metric] for task in tasks]) for record in own]
            found.append(float(np.var(means, ddof=1)))
            freedoms.append(len(own) - 1)
    return found, freedoms


def fit(found: Sequence[float], freedom: int) -> tuple[float, float]:
    """Return s0, a standard deviation, and d0 of sample variances with the same degrees of freedom; d0 may be inf."""
    logs = np.log(found) - _digamma(freedom / 2) + math.log(freedom / 2)
    excess = float(np.var(logs, ddof=1)) - _trigamma(freedom / 2)
    if excess <= 0:
        return math.exp(float(np.mean(logs)) / 2), math.inf
    low, high = 1e-3, 1e6  # trigamma decreases
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _trigamma(middle) > excess else (low, middle)
    return math.exp((float(np.mean(logs)) + _digamma(low) - math.log(low)) / 2), 2 * low


def _digamma(x: float) -> float:
    return float(torch.digamma(torch.tensor(x, dtype=torch.float64)))


def _trigamma(x: float) -> float:
    return float(torch.polygamma(1, torch.tensor(x, dtype=torch.float64)))


def main() -> None:
    """Print s0 and d0 by metric and number of tasks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("name", nargs="?", help="a benchmark, by its folder's name; without one, all")
    chosen = parser.parse_args()
    records = find_records(chosen.results, chosen.name)
    print("| tasks | metric | variances | s0, points | d0 |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        for metric in METRICS:
            found, freedoms = variances(records, metric, size)
            if len(found) < 3 or len(set(freedoms)) > 1:
                raise UserError(f"It takes three methods of three seeds or more, as many for all; here are {freedoms}.")
            deviation, freedom = fit(found, freedoms[0])
            print(f"| {size} | {metric} | {len(found)} | {100 * deviation:.2f} | {freedom:.1f} |")


if __name__ == "__main__":
    main()
