"""Balancers on gradients as a run has them (`tools/record_gradients.py`), and with their lengths up to 26 times unlike.

Each against a reference that is worked here, in NumPy or SciPy, from the paper's definition.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import minimize
from torchjd_support import GRADIENTS, lacks, make, update

Array = npt.NDArray[np.float64]
RECORDED = json.loads((Path(__file__).parent / "gradients.json").read_text())
NAMES = [f"{one['benchmark']}-{one['step']}-{one['place']}" for one in RECORDED]


@pytest.fixture(params=[1.0, 26.0], ids=["as-recorded", "unlike"])
def unlike(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture(params=RECORDED, ids=NAMES)
def rows(request: pytest.FixtureRequest, unlike: float) -> Array:
    found = np.array(request.param["rows"])
    return found * np.geomspace(1, 1 / unlike, len(found))[:, None]


def combined_by(name: str, rows: Array, **options: Any) -> tuple[Array, Array]:
    """The update and the weights, in float64, for gradients of mean length 1: a comparison needs no small numbers."""
    combined, weights, _ = update(make(name, len(rows), **options), torch.from_numpy(rows).float())
    return combined.double().numpy(), weights.double().numpy()


def unit(rows: Array) -> Array:
    """Gradients of mean squared length 1, for the references' solvers."""
    scaled: Array = rows / np.sqrt((rows**2).sum(1).mean())
    return scaled


def simplex_minimum(rows: Array) -> Array:
    """The weights of the shortest vector of the hull, by SLSQP from several starts."""
    scaled, number = unit(rows), len(rows)
    gramian = scaled @ scaled.T
    found = [
        minimize(
            lambda w: w @ gramian @ w,
            start,
            jac=lambda w: 2 * gramian @ w,
            bounds=[(0, 1)] * number,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        for start in (np.full(number, 1 / number), *np.eye(number))
    ]
    best: Array = min(found, key=lambda result: result.fun).x
    return best


def projected(rows: Array, vector: Array) -> Array:
    """The nearest vector that worsens no task, by SLSQP."""
    size = np.linalg.norm(vector)
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = minimize(
        lambda v: ((v - vector / size) ** 2).sum(),
        vector / size,
        jac=lambda v: 2 * (v - vector / size),
        constraints={"type": "ineq", "fun": lambda v: directions @ v, "jac": lambda v: directions},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    nearest: Array = found.x * size
    return nearest


def close_to(found: Array, expected: Array, share: float) -> None:
    assert np.linalg.norm(found - expected) <= share * np.linalg.norm(expected), (found, expected)


def test_what_was_recorded_is_as_unlike_as_runs_are():
    lengths = [np.linalg.norm(one["rows"], axis=1) for one in RECORDED]
    assert {len(one["rows"]) for one in RECORDED} == {4, 7}
    assert max(map(np.max, lengths)) > 0.3
    assert min(map(np.min, lengths)) < 3e-3
    assert max(length.max() / length.min() for length in lengths) > 3


def test_mgda(rows):
    combined, weights = combined_by("mgda", rows)
    best = simplex_minimum(rows)
    close_to(combined, best @ rows, 1e-3)
    assert (weights >= 0).all()
    assert np.linalg.norm(combined) <= np.linalg.norm(best @ rows) * (1 + 1e-4)


def test_upgrad_and_dualproj(rows):
    number = len(rows)
    each = np.mean([projected(rows, row) for row in rows], axis=0)
    close_to(combined_by("upgrad", rows)[0], each, 2e-3)
    close_to(combined_by("dualproj", rows)[0], projected(rows, rows.mean(0)), 2e-3)
    for name in ("upgrad", "dualproj", "mgda"):
        combined, _ = combined_by(name, rows)
        cosines = rows @ combined / np.linalg.norm(rows, axis=1) / np.linalg.norm(combined)
        assert cosines.min() > -1e-5, (name, number)


def test_pcgrad(rows):
    """In each order of the others; with few tasks in conflict the order plays no part, else it is one of them."""
    expected = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        total = np.zeros(rows.shape[1])
        for t, row in enumerate(rows):
            moved = row.copy()
            for other in random.permutation([o for o in range(len(rows)) if o != t]):
                product = moved @ rows[other]
                if product < 0:
                    moved = moved - product / (rows[other] @ rows[other]) * rows[other]
            total += moved
        expected.append(total / len(rows))
    torch.manual_seed(0)
    combined, _ = combined_by("pcgrad", rows)
    assert min(np.linalg.norm(combined - e) / np.linalg.norm(e) for e in expected) < 0.02


def test_imtl_g_projects_equally_on_all(rows):
    combined, weights = combined_by("imtl-g", rows)
    projections = rows @ combined / np.linalg.norm(rows, axis=1)
    assert np.ptp(projections) < 1e-2 * np.abs(projections).max()
    assert weights.sum() == pytest.approx(len(rows), rel=1e-3)


def test_aligned_mtl(rows):
    u, values, v = np.linalg.svd(rows, full_matrices=False)
    combined, _ = combined_by("aligned-mtl", rows)
    close_to(combined, (values[-1] * u @ v).mean(0), 1e-2)


def test_config(rows):
    """Equal cosines with all gradients, as long as the gradients' projections on it together say."""
    combined, _ = combined_by("config", rows)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    direction = np.linalg.pinv(units) @ np.ones(len(rows))
    direction /= np.linalg.norm(direction)
    close_to(combined, direction * (rows @ direction).mean(), 1e-2)


def test_fairgrad(rows):
    _, weights = combined_by("fairgrad", rows, alpha=1.0)
    shares = weights / len(rows)
    products = (rows @ rows.T) @ shares * shares
    assert products == pytest.approx(np.ones(len(rows)), rel=2e-2)


def test_nash_mtl(rows):
    _, weights = combined_by("nash-mtl", rows, max_norm=0.0)
    shares = weights / len(rows)
    products = (rows @ rows.T) @ shares * shares
    assert products == pytest.approx(np.ones(len(rows)), rel=1e-3)


@pytest.mark.skipif(bool(lacks("cagrad")), reason="cvxpy is not installed")
def test_cagrad(rows):
    """g0 + c |g0| g_w / |g_w| with the w of the simplex that minimises g_w g0 + c |g0| |g_w|."""
    scaled, number, c = unit(rows), len(rows), 0.5
    mean = scaled.mean(0)
    radius = c * np.linalg.norm(mean)

    def objective(w: Array) -> float:
        vector = w @ scaled
        return float(vector @ mean + radius * np.linalg.norm(vector))

    found = [
        minimize(
            objective,
            start,
            bounds=[(0, 1)] * number,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
            options={"ftol": 1e-13, "maxiter": 1000},
        )
        for start in (np.full(number, 1 / number), *(0.9 * np.eye(number) + 0.1 / number))
    ]
    vector = min(found, key=lambda result: result.fun).x @ scaled
    expected = mean + radius * vector / np.linalg.norm(vector)
    combined, _ = combined_by("cagrad", rows, c=c)
    close_to(combined / np.linalg.norm(combined), expected / np.linalg.norm(expected), 1e-2)


@pytest.mark.parametrize("name", GRADIENTS)
def test_every_one_gives_a_finite_update_that_no_task_decides_alone(solvers, name):
    """Over the recorded steps, in order."""
    balancer = make(name, 4)
    torch.manual_seed(0)
    single = 0
    steps = [one for one in RECORDED if one["benchmark"].startswith("shoes") and one["place"] == "shared"]
    for one in steps:
        combined, weights, _ = update(balancer, torch.tensor(one["rows"]))
        assert combined.isfinite().all()
        assert weights.isfinite().all()
        single += bool(weights.max() > 0.99 * weights.sum())
    assert single <= 1, "one task has all of the weight in most steps"
