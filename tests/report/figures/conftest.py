"""What the tests of figures start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from figure_records import cosines, curve, put, record, scale_tensors

from mtlbench.report.figures.style import styled


@pytest.fixture(autouse=True)
def _in_style():
    with styled():
        yield


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Four methods and two seeds with everything that a run can leave."""
    folder = tmp_path / "results"
    agree, disagree = ([0.5, 0.3], [0.1, 0.1], [0.2, None]), ([-0.5, 0.3], [-0.1, -0.1], [0.2, None])
    for seed in (0, 1):
        low = 0.01 * seed
        put(folder, record("independent", seed, (0.8 - low, 0.6, 0.7)), curve=curve(0.7, speed=2))
        put(folder, record("shared", seed, (0.7, 0.6, 0.5 - low)), curve=curve(0.6), probes=cosines(*disagree))
        put(folder, record("gradnorm", seed, (0.7, 0.7, 0.4)), curve=curve(0.5 + low, (2 - low, 0.5, 0.5)))
        put(folder, record("modulation", seed, (0.75, 0.7 - low, 0.6)), curve=curve(0.65 + low, speed=8),
            weights=scale_tensors(shift=low), probes=cosines(*agree))  # fmt: skip
        units = {f"units.{n}": torch.eye(3) * (0.9 + 2 * low) + 0.05 * n for n in (0, 1)}
        put(folder, record("cross-stitch", seed, (0.7, 0.5, 0.6)), curve=curve(0.6), weights=units)
    return folder
