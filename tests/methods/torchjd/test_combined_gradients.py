"""Balancers from torchjd that combine gradients, each against a formula worked by hand or in NumPy.

Where a solver that some of them need is not installed, the tests that need it are skipped.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchjd import aggregation
from torchjd_support import WITHOUT_PLACE, close, lacks, make, random_gradients, update

from mtlbench import Architecture


def test_mgda_of_two_tasks_is_the_nearest_point_of_their_segment():
    combined, weights, _ = update(make("mgda"), [[1.0, 0.0], [0.0, 2.0]])
    close(combined, [0.8, 0.4])
    close(weights, [1.6, 0.4])
    combined, _, _ = update(make("mgda"), [[1.0, 0.0], [3.0, 1.0]])  # the shorter one is the nearest
    close(combined, [1, 0])


def test_pcgrad_of_two_tasks_projects_each_on_the_others_normal():
    combined, weights, _ = update(make("pcgrad"), [[1.0, 0.0], [-1.0, 1.0]])
    close(combined, [0.25, 0.75])  # the mean of (1/2, 1/2) and (0, 1)
    close(weights, [2, 1.5])
    combined, _, _ = update(make("pcgrad"), [[1.0, 0.0], [1.0, 1.0]])
    close(combined, [1, 0.5])


def test_gradvac_begins_as_pcgrad():
    for gradients in ([[1.0, 0.0], [-1.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]):
        close(update(make("gradvac"), gradients)[0], update(make("pcgrad"), gradients)[0])


def test_gradvac_turns_gradients_to_the_cosine_they_had():
    """With beta = 1 the target is the last cosine, 0.8: (1, 0) and (0, 1) become (1, 4/3) and (4/3, 1)."""
    balancer = make("gradvac", beta=1.0)
    update(balancer, [[1.0, 0.0], [0.8, 0.6]])
    close(update(balancer, [[1.0, 0.0], [0.0, 1.0]])[0], [7 / 6, 7 / 6])


def test_imtl_g_projects_equally_on_all_gradients():
    gradients = random_gradients(3)
    combined, weights, _ = update(make("imtl-g", 3), gradients)
    projections = gradients @ combined / gradients.norm(dim=1)
    close(projections, projections[0].expand(3), rtol=1e-3, atol=0)
    close(weights.sum(), 3.0)


def test_aligned_mtl_makes_the_principal_components_equally_long():
    gradients = random_gradients(3)
    u, values, v = np.linalg.svd(gradients.numpy(), full_matrices=False)
    for length, size in (("min", values[-1]), ("median", values[1]), ("rmse", np.sqrt((values**2).mean()))):
        combined, _, _ = update(make("aligned-mtl", 3, length=length), gradients)
        close(combined, (size * u @ v).mean(0), rtol=1e-3, atol=1e-4)


def test_config_has_equal_cosines_and_the_mean_of_the_projections():
    gradients = random_gradients(3)
    combined, weights, _ = update(make("config", 3), gradients)
    unit = combined / combined.norm()
    cosines = gradients @ unit / gradients.norm(dim=1)
    close(cosines, cosines[0].expand(3), rtol=1e-3, atol=0)
    close(combined.norm(), (gradients @ unit).mean())
    close(weights @ gradients / 3, combined, rtol=1e-3, atol=1e-4)


def test_graddrop_keeps_one_sign_as_often_as_it_is_pure():
    """(3, -1) is positive with purity (1 + 2/4) / 2 = 3/4; where all agree nothing is dropped."""
    torch.manual_seed(0)
    gradients = torch.tensor([3.0, -1.0])[:, None].repeat(1, 4000)
    combined, _, _ = update(make("graddrop"), gradients)
    assert sorted(set(combined.tolist())) == [-0.5, 1.5]
    assert (combined > 0).float().mean().item() == pytest.approx(0.75, abs=0.03)
    combined, _, _ = update(make("graddrop"), [[1.0, -2.0, 0.0], [2.0, -4.0, 0.0]])
    close(combined, [1.5, -3, 0])


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("length", [1.0, 1e-5])
def test_fairgrad_solves_its_equation_whatever_the_gradients_length(alpha, length):
    gradients = random_gradients(3).abs() * length
    _, weights, _ = update(make("fairgrad", 3, alpha=alpha), gradients)
    w = (weights / 3).double()
    shares = (gradients.double() @ gradients.double().T) @ w * w ** (1 / alpha)
    close(shares, np.ones(3), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["mgda", "upgrad", "dualproj"])
@pytest.mark.parametrize("ratio", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("length", [1.0, 1e-4])
def test_no_task_is_worsened_however_unlike_the_gradients_lengths(name, ratio, length):
    for seed in range(5):
        gradients = random_gradients(4, 5, seed) * torch.logspace(0, -np.log10(ratio), 4)[:, None] * length
        combined, _, _ = update(make(name, 4), gradients)
        cosines = gradients @ combined / (gradients.norm(dim=1) * combined.norm())
        assert cosines.min() > -1e-4, cosines


@pytest.mark.parametrize("tasks", [3, 7, 20])
def test_mgda_finds_the_shortest_vector_of_the_hull(tasks):
    """At the shortest vector v of a hull all gradients g have g v >= |v|^2, and those that it is made of have it."""
    for seed in range(5):
        gradients = random_gradients(tasks, tasks + 3, seed) + 0.2
        combined, weights, _ = update(make("mgda", tasks), gradients)
        square = float(combined.square().sum())
        products = gradients @ combined
        assert float(products.min()) > square * (1 - 1e-3)
        close(products[weights > 1e-4], np.full(int((weights > 1e-4).sum()), square), rtol=1e-3, atol=0)
        close(weights.sum(), float(tasks))


def test_dualproj_is_the_nearest_vector_of_the_cone(tmp_path):
    """The mean's distance to it is no greater than to any other combination that worsens no task."""
    random = torch.Generator().manual_seed(0)
    gradients = random_gradients(3, 5)
    combined, _, _ = update(make("dualproj", 3), gradients)
    mean, found = gradients.mean(0), 0
    for _ in range(20_000):
        other = torch.randn(3, generator=random) @ gradients
        if (gradients @ other >= 0).all():
            found += 1
            assert (other - mean).norm() > (combined - mean).norm() - 1e-5
    assert found > 100


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_without_conflict_the_mean_stays(solvers, name):
    gradients = random_gradients(3).abs()
    close(update(make(name, 3), gradients)[0], gradients.mean(0), rtol=1e-3, atol=1e-4)


def test_dualproj_and_upgrad_of_two_tasks_in_conflict(solvers):
    """g = (1, 0) and (-1, 0.5). Each one's projection on the other's normal, as PCGrad's; and the mean's."""
    gradients = [[1.0, 0.0], [-1.0, 0.5]]
    close(update(make("upgrad"), gradients)[0], update(make("pcgrad"), gradients)[0], rtol=5e-3, atol=1e-3)
    close(update(make("dualproj"), [[1.0, 0.0], [-3.0, 1.0]])[0], [0, 0.5], rtol=5e-3, atol=5e-3)


@pytest.mark.skipif(bool(lacks("cagrad")), reason="cvxpy is not installed")
def test_cagrad_stays_in_the_ball_around_the_mean_and_helps_the_worst_task():
    gradients = random_gradients(3)
    mean = gradients.mean(0)
    close(update(make("cagrad", 3, c=0.0), gradients)[0], mean, rtol=1e-3, atol=1e-4)
    combined, _, _ = update(make("cagrad", 3, c=0.5), gradients)
    close((combined - mean).norm(), 0.5 * mean.norm(), rtol=1e-2, atol=0)
    assert (gradients @ combined).min() > (gradients @ mean).min()
    close(update(make("cagrad", c=0.5), [[1.0, 2.0], [1.0, 2.0]])[0], [1.5, 3], rtol=1e-3, atol=0)


def test_nash_mtl_solves_the_bargaining_equation(solvers):
    gradients = random_gradients(3).abs()
    _, weights, _ = update(make("nash-mtl", 3, max_norm=0.0), gradients)
    gramian = gradients @ gradients.T
    close(gramian @ (weights / 3) * (weights / 3), np.ones(3), rtol=1e-2, atol=0)


@pytest.mark.parametrize("length", [1e-2, 1e-4, 1e-6])
def test_nash_mtl_solves_it_for_small_gradients_too(solvers, length):
    gradients = random_gradients(3).abs().double() * length
    _, weights, _ = update(make("nash-mtl", 3, max_norm=0.0), gradients)
    shares = weights.double() / 3
    close(gradients @ gradients.T @ shares * shares, np.ones(3), rtol=1e-2, atol=0)
    assert shares.std() / shares.mean() > 0.05, "not the plain sum"


@pytest.mark.parametrize("tasks", [2, 7, 40])
@pytest.mark.parametrize("ratio", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("length", [1.0, 1e-3, 1e-5])
def test_nash_mtl_is_exact_for_any_number_of_tasks_and_unlike_lengths(tasks, ratio, length):
    gradients = random_gradients(tasks, tasks + 3) * torch.logspace(0, -np.log10(ratio), tasks)[:, None] * length
    combined, weights, _ = update(make("nash-mtl", tasks, max_norm=0.0), gradients)
    gradients, shares = gradients.double(), weights.double() / tasks
    close(gradients @ gradients.T @ shares * shares, np.ones(tasks), rtol=1e-3, atol=0)
    close(combined.square().sum(), float(tasks), rtol=1e-3, atol=0)  # a G a = T


def test_a_task_without_a_gradient_takes_no_part_in_nash_mtls_bargain():
    gradients = random_gradients(3)
    gradients[1] = 0
    combined, weights, _ = update(make("nash-mtl", 3), gradients)
    close(combined, update(make("nash-mtl", 2), gradients[[0, 2]])[0], rtol=1e-4, atol=1e-5)
    assert weights[1] == 1


def test_nash_mtl_stays_finite_where_gradients_cancel():
    combined, weights, _ = update(make("nash-mtl"), [[1.0, 0.0], [-1.0, 0.0]])
    assert weights.isfinite().all()
    close(combined, [0, 0])


def test_nash_mtl_cuts_its_update_to_max_norm(solvers):
    gradients = 100 * random_gradients(3).abs()
    close(update(make("nash-mtl", 3, max_norm=0.5), gradients)[0].norm(), 0.5)


def test_nash_mtl_keeps_its_weights_between_solutions(solvers):
    balancer = make("nash-mtl", 3, every=2, max_norm=0.0)
    weights = [update(balancer, random_gradients(3, seed=seed).abs())[1] for seed in range(4)]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[2], weights[3])
    assert not torch.equal(weights[1], weights[2])


def project(y: np.ndarray) -> np.ndarray:
    """Project on the simplex, by sorting."""
    u = np.sort(y)[::-1]
    candidates = (np.cumsum(u) - 1) / np.arange(1, len(y) + 1)
    return np.maximum(y - candidates[np.nonzero(u > candidates)[0][-1]], 0)


def test_modos_weights_come_from_the_two_batches_before():
    balancer = make("modo", 3, gamma=0.1, rho=0.2)
    batches = [random_gradients(3, seed=seed).numpy().astype(np.float64) for seed in range(4)]
    expected = np.full(3, 1 / 3)
    for n, batch in enumerate(batches):
        if n >= 2:
            products = batches[n - 2] @ batches[n - 1].T / (batches[n - 1] ** 2).sum(1).mean()
            expected = project(expected - 0.1 * (products @ expected + 0.2 * expected))
        combined, weights, _ = update(balancer, batch)
        close(weights, 3 * expected, rtol=1e-4, atol=1e-5)
        close(combined, expected @ batch, rtol=1e-4, atol=1e-5)


def test_sdmgrads_weights_come_from_the_two_batches_before():
    balancer = make("sdmgrad", 3, pull=0.3, lr=0.5, momentum=0.5, iterations=4)
    batches = [random_gradients(3, seed=seed).numpy().astype(np.float64) for seed in range(5)]
    w, expected = np.full(3, 1 / 3), np.full(3, 1 / 3)
    for n, batch in enumerate(batches):
        if n >= 2:
            products, velocity = batches[n - 2] @ batches[n - 1].T / (batches[n - 1] ** 2).sum(1).mean(), 0
            for _ in range(4):
                velocity = 0.5 * velocity + products @ (w + 0.3 / 3)
                w = project(w - 0.5 * velocity)
            expected = (w + 0.3 / 3) / 1.3
        combined, weights, _ = update(balancer, batch)
        close(weights, 3 * expected, rtol=1e-3, atol=1e-4)
        close(combined, expected @ batch, rtol=1e-3, atol=1e-4)


def test_excess_mtl_weighs_by_the_excess_risk():
    """The second step: excess g H^-1 g with H the root of the summed squares, over that of the first step."""
    balancer = make("excess-mtl", 3, step=0.5, warmup=0)
    batches = [random_gradients(3, seed=seed).numpy().astype(np.float64) for seed in range(2)]
    squares, logits, baseline = np.zeros((3, 6)), np.log(np.full(3, 1 / 3)), None
    for batch in batches:
        squares = squares + batch**2
        excess = (batch**2 / np.sqrt(squares + 1e-7)).sum(1)
        if baseline is None:
            baseline = excess
        else:
            excess = excess / (baseline + 1e-7)
        logits = logits + 0.5 * excess
        expected = np.exp(logits) / np.exp(logits).sum()
        combined, weights, _ = update(balancer, batch)
        close(weights, 3 * expected, rtol=1e-4, atol=1e-5)
        close(combined, expected @ batch, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("base", ["mgda", "aligned-mtl", "imtl-g"])
def test_cr_mogm_smooths_the_weights_of_its_base(base):
    balancer, plain = make("cr-mogm", 3, base=base, alpha=0.75), make(base, 3)
    expected = None
    for seed in range(3):
        gradients = random_gradients(3, seed=seed)
        latest = update(plain, gradients)[1]
        expected = latest if expected is None else 0.75 * expected + 0.25 * latest
        combined, weights, _ = update(balancer, gradients)
        close(weights, expected, rtol=1e-4, atol=1e-5)
        close(combined, expected @ gradients / 3, rtol=1e-4, atol=1e-5)


def test_cr_mogm_takes_over_the_scale_of_its_base():
    gradients = [[1.0, 0.0], [-1.0, 1.0]]
    close(update(make("cr-mogm", base="pcgrad"), gradients)[0], update(make("pcgrad"), gradients)[0])


@pytest.mark.parametrize(
    ("name", "theirs", "factor"),
    [
        ("imtl-g", aggregation.IMTLG, 1),
        ("pcgrad", aggregation.PCGrad, 1 / 3),
        ("gradvac", aggregation.GradVac, 1 / 3),
        ("aligned-mtl", aggregation.AlignedMTL, 1),
        ("config", aggregation.ConFIG, 1 / 3),
        ("graddrop", aggregation.GradDrop, 1 / 3),
        ("fairgrad", lambda: aggregation.FairGrad(1.0), 1),
        ("excess-mtl", lambda: aggregation.ExcessMTL(robust_step_size=0.1, n_warmup_steps=1), 1),
    ],
)
def test_on_one_linear_layer_the_update_is_torchjds_up_to_its_scale(name, theirs, factor):
    """Features x W, one linear head per task, squared errors: gradients of W and heads are those of autograd."""
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 4, generator=random), torch.randn(3, 8, generator=random)

    class OneLayer(Architecture):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.tasks = ("a", "b", "c")
            draw = torch.Generator().manual_seed(2)
            self.trunk = nn.Parameter(torch.randn(4, 5, generator=draw))
            self.heads = nn.ParameterList([nn.Parameter(torch.randn(5, generator=draw)) for _ in self.tasks])

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([images @ self.trunk @ head for head in self.heads])

        def task_state(self, task: int) -> tuple[nn.Parameter]:
            return (self.heads[task],)

    net, options = OneLayer(), {"at": "shared"} if name not in WITHOUT_PLACE else {}
    losses = (net(x) - y).square().mean(1)
    jacobian = torch.stack([torch.autograd.grad(loss, net.trunk, retain_graph=True)[0].flatten() for loss in losses])
    heads = [
        torch.autograd.grad(loss, head, retain_graph=True)[0] for loss, head in zip(losses, net.heads, strict=True)
    ]
    torch.manual_seed(7)
    expected = theirs()(jacobian).view(4, 5) * factor
    torch.manual_seed(7)
    balancer = make(name, 3, **options)
    balancer.backward(losses, net)
    close(net.trunk.grad, expected, rtol=2e-3, atol=1e-4)
    close(balancer.gradient_norms, jacobian.norm(dim=1))
    for head, gradient in zip(net.heads, heads, strict=True):
        close(head.grad, gradient)
