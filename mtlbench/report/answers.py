"""What runs kept query by query, read beside `run.json` without torch; significance of a metric's means needs it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mtlbench.runs import Record

QueryScores = NDArray[np.float32]  # (T, N): a metric of every test image as a query; NaN where it has none


def read_queries(folder: Path, record: Record, metric: str) -> QueryScores | None:
    """Return a finished run's (T, N) scores of a metric, query by query.

    None where the run kept none of this metric, or not those that its record gives the means of.
    """
    tasks = record.setup["tasks"]
    try:
        with safe_open(folder / "test.safetensors", framework="numpy") as file:
            scores: QueryScores = file.get_tensor(f"queries/{metric}").astype(np.float32, copy=False)
    except (OSError, SafetensorError):
        return None
    if scores.ndim != 2 or len(scores) != len(tasks):
        return None
    answered = ~np.isnan(scores)
    wanted = np.array([record.metrics.get(task, {}).get(metric, math.nan) for task in tasks])
    counts = answered.sum(1)
    found = np.where(answered, scores, 0).sum(1, dtype=np.float64) / np.where(counts, counts, math.nan)
    return scores if np.allclose(found, wanted, rtol=0, atol=1e-5, equal_nan=True) else None
