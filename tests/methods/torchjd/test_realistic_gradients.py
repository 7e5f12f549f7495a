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
from support import tool
from torchjd_support import GRADIENTS, lacks, make, update, weights_at

from mtlbench.registry import BALANCERS

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


def test_every_balancer_has_a_reference_here():
    """But the fixed weights, and `rlw`, whose weights are drawn whatever the gradients are."""
    tested = Path(__file__).read_text().rpartition("# --- references")[2]
    assert {name for name in BALANCERS if f'"{name}"' not in tested} == {"mean", "static", "rlw"}


# --- references ------------------------------------------------------------------------------------------------------


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


# --- balancers that remember, over recorded steps --------------------------------------------------------------------


@pytest.fixture(params=[1.0, 1e-3], ids=["as-recorded", "short"])
def batches(request: pytest.FixtureRequest, unlike: float) -> list[Array]:
    """Gradients (4, 4) of the steps of one run, twice over: down to 1e-4 long, or 1e-5 where lengths are unlike."""
    found = [np.array(o["rows"]) for o in RECORDED if o["benchmark"].startswith("shoes") and o["place"] == "shared"]
    return [rows * np.geomspace(1, 1 / unlike, len(rows))[:, None] * request.param for rows in found * 2]


def steps_of(name: str, batches: list[Array], **options: Any) -> list[tuple[Array, Array]]:
    balancer = make(name, len(batches[0]), **options)
    found = []
    for rows in batches:
        combined, weights, _ = update(balancer, torch.from_numpy(rows).float())
        found.append((combined.double().numpy(), weights.double().numpy()))
    return found


def on_simplex(point: Array) -> Array:
    """The nearest point of the simplex, by bisection of the shift."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    nearest: Array = np.maximum(point - low, 0)
    return nearest


def test_modo(batches):
    shares, previous, waiting = np.full(4, 0.25), None, np.full(4, 0.25)
    for rows, (combined, weights) in zip(batches, steps_of("modo", batches, gamma=0.1, rho=0.1), strict=True):
        shares = waiting
        if previous is not None:
            products = previous @ rows.T / (rows**2).sum(1).mean()
            waiting = on_simplex(shares - 0.1 * (products @ shares + 0.1 * shares))
        previous = rows
        assert weights == pytest.approx(4 * shares, rel=1e-3, abs=1e-4)
        close_to(combined, shares @ rows, 1e-3)


def test_sdmgrad(batches):
    options = {"pull": 0.3, "lr": 0.05, "momentum": 0.5, "iterations": 5}
    w, previous, waiting = np.full(4, 0.25), None, np.full(4, 0.25)
    for rows, (combined, weights) in zip(batches, steps_of("sdmgrad", batches, **options), strict=True):
        shares = waiting
        if previous is not None:
            products = previous @ rows.T / (rows**2).sum(1).mean()
            velocity = np.zeros(4)
            for _ in range(5):
                velocity = 0.5 * velocity + products @ (w + 0.3 / 4)
                w = on_simplex(w - 0.05 * velocity)
            waiting = (w + 0.3 / 4) / 1.3
        previous = rows
        assert weights == pytest.approx(4 * shares, rel=1e-2, abs=1e-3)
        close_to(combined, shares @ rows, 1e-2)


def test_excess_mtl(batches):
    squares, logits, first = np.zeros_like(batches[0]), np.zeros(4), None
    for rows, (combined, weights) in zip(batches, steps_of("excess-mtl", batches, step=0.1, warmup=0), strict=True):
        squares += rows**2
        excess = (rows**2 / np.sqrt(squares + 1e-7)).sum(1)
        logits = logits + 0.1 * (excess if first is None else excess / (first + 1e-7))
        first = excess if first is None else first
        shares = np.exp(logits) / np.exp(logits).sum()
        assert weights == pytest.approx(4 * shares, rel=1e-3)
        close_to(combined, shares @ rows, 1e-3)


def test_cr_mogm(batches):
    smoothed = None
    for rows, (combined, _) in zip(batches, steps_of("cr-mogm", batches, alpha=0.5), strict=True):
        latest = simplex_minimum(rows)
        smoothed = latest if smoothed is None else (smoothed + latest) / 2
        close_to(combined, smoothed @ rows, 5e-3)


def test_gradvac_begins_as_pcgrad_does(batches):
    """Its targets start at a cosine of 0, so that the first step's corrections are those of conflicts alone."""
    for rows in batches[:3]:
        torch.manual_seed(0)
        theirs = combined_by("pcgrad", rows)[0]
        torch.manual_seed(0)
        assert np.linalg.norm(combined_by("gradvac", rows)[0] - theirs) < 0.05 * np.linalg.norm(theirs)


def test_gradvac_over_recorded_steps(batches):
    """The vectors themselves turned to the moving average of their cosines, in the order that torch draws."""
    balancer, targets = make("gradvac", 4, beta=0.5), np.zeros((4, 4))
    turned = 0
    for n, rows in enumerate(batches):
        torch.manual_seed(n)
        combined = update(balancer, torch.from_numpy(rows).float())[0].double().numpy()
        torch.manual_seed(n)
        expected = []
        for i, row in enumerate(rows):
            others, moved = [j for j in range(4) if j != i], row
            for j in (others[place] for place in torch.randperm(3).tolist()):
                length, other = np.linalg.norm(moved), np.linalg.norm(rows[j])
                cosine = moved @ rows[j] / length / other
                wanted = targets[i, j]
                if cosine < wanted:
                    sines = [np.sqrt(1 - one**2) for one in (cosine, wanted)]
                    share = length * (wanted * sines[0] - cosine * sines[1]) / (other * sines[1])
                    moved = moved + share * rows[j]
                    turned += 1
                targets[i, j] = (wanted + cosine) / 2
            expected.append(moved)
        close_to(combined, np.mean(expected, axis=0), 2e-2)
    assert turned > len(batches)


def test_what_is_recorded_are_the_lengths_and_angles_of_the_gradients():
    """The root (T, T) that `tools/record_gradients.py` keeps of gradients (T, P)."""
    own = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    place = torch.zeros(50, requires_grad=True)
    kept = tool("record_gradients").rows_of(own @ place, [place])
    assert kept.shape == (3, 3)
    torch.testing.assert_close(kept @ kept.T, (own @ own.T).double(), rtol=1e-4, atol=1e-4)


def test_graddrop_keeps_at_each_place_the_gradients_of_one_sign(rows):
    torch.manual_seed(0)
    combined = combined_by("graddrop", rows)[0] * len(rows)
    positive, negative = np.maximum(rows, 0).sum(0), np.minimum(rows, 0).sum(0)
    wrong = np.minimum(abs(combined - positive), abs(combined - negative))
    assert wrong.max() < 1e-5 * abs(rows).max()


@pytest.mark.parametrize("name", ["modo", "sdmgrad", "excess-mtl"])
def test_the_defaults_of_balancers_with_weights_of_their_own_suit_a_short_run(name):
    """100 steps, of the recorded gradients over and over: neither the plain mean nor one task alone in most of them."""
    steps = [torch.tensor(o["rows"]) for o in RECORDED if o["benchmark"].startswith("shoes") and o["place"] == "shared"]
    balancer, even, single = make(name, 4), 0, 0
    for n in range(100):
        weights = update(balancer, steps[n % len(steps)])[1]
        even += bool((weights - 1).abs().max() < 0.01)
        single += bool(weights.max() > 0.99 * weights.sum())
    assert even <= 30
    assert single <= 10


def test_dwas_default_is_the_plain_mean_for_40_steps_and_no_longer():
    """Losses that fall at unlike rates."""
    balancer, rates = make("dwa", 4), np.array([0.0, 0.01, 0.02, 0.05])
    even = [weights_at(balancer, np.exp(-n * rates).tolist()).sub(1).abs().max() < 0.01 for n in range(60)]
    assert sum(map(bool, even)) == 40


# --- balancers that weigh losses, on recorded losses -----------------------------------------------------------------

LOSSES = [np.array(o["losses"]) for o in RECORDED if o["benchmark"].startswith("shoes") and o["place"] == "shared"]


def weights_over(name: str, losses: list[Array], **options: Any) -> list[Array]:
    balancer = make(name, len(losses[0]), **options)
    return [weights_at(balancer, one.tolist()).double().numpy() for one in losses]


def test_losses_weights_at_recorded_losses():
    for losses in LOSSES:
        assert weights_over("geometric-mean", [losses])[0] == pytest.approx(
            np.exp(np.log(losses).mean()) / losses, rel=1e-3
        )
        e = np.exp(losses / (4 * 0.05))
        assert weights_over("stch", [losses], mu=0.05)[0] == pytest.approx(4 * e / e.sum(), rel=1e-3)
        for name in ("uw", "imtl-l"):
            assert weights_over(name, [losses])[0] == pytest.approx(np.ones(4), rel=1e-5)


def test_dwa_over_recorded_losses():
    found = weights_over("dwa", LOSSES + LOSSES[:1], every=1)
    for n, weights in enumerate(found):
        e = np.exp(LOSSES[n - 1] / LOSSES[n - 2] / 2) if n >= 2 else np.ones(4)
        assert weights == pytest.approx(4 * e / e.sum(), rel=1e-3)


def test_famo_over_recorded_losses():
    """xi by Adam along softmax's derivative of the rates, worked in NumPy, the losses after a step being given."""
    balancer = make("famo", 4, lr=0.025, decay=0.0)
    xi, first, second = np.zeros(4), np.zeros(4), np.zeros(4)
    after = [losses * np.array([0.9, 1.02, 0.97, 0.8]) for losses in LOSSES]
    for n, (losses, then) in enumerate(zip(LOSSES, after, strict=True), 1):
        z = np.exp(xi) / np.exp(xi).sum()
        weights = weights_at(balancer, losses.tolist()).double().numpy()
        assert weights == pytest.approx(4 * (z / losses) / (z / losses).sum(), rel=1e-3)
        balancer.judge(torch.from_numpy(then).float())
        rates = np.log(losses) - np.log(then)
        slope = z * (rates - (z * rates).sum())  # d softmax(xi) . rates
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        xi = xi - 0.025 * (first / (1 - 0.9**n)) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_gradnorm_over_recorded_gradients(optimiser, batches):
    """Three steps of its weights from the losses and the lengths of the gradients, worked in NumPy."""
    balancer = make("gradnorm", 4, alpha=1.5, lr=0.025, optimiser=optimiser)
    w, first, second = np.ones(4), np.zeros(4), np.zeros(4)
    for n, (rows, losses) in enumerate(zip(batches, LOSSES * 2, strict=True), 1):
        lengths = np.linalg.norm(rows, axis=1)
        balancer._update(torch.from_numpy(losses).float(), torch.from_numpy(lengths).float())
        ratios = losses / LOSSES[0]
        wanted = (w * lengths).mean() * (ratios / ratios.mean()) ** 1.5
        slope = np.sign(w * lengths - wanted) * lengths
        if optimiser == "adam":
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            slope = (first / (1 - 0.9**n)) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)
        w = np.maximum(w - 0.025 * slope, 1e-3)
        w *= 4 / w.sum()
        assert balancer.weights.double().numpy() == pytest.approx(w, rel=1e-3)
