"""The balancers from torchjd: each against a formula worked by hand or in NumPy, their scale, memory and refusals.

Where a solver that some of them need is not installed, SciPy or a few lines of NumPy stand in for it; the tests that
need the solver itself are skipped.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import make_dataset, protocol
from torch import Tensor, nn

from mtlbench import Architecture, Balancer, UserError
from mtlbench.networks import load_state, state_of
from mtlbench.plugins import load_plugins
from mtlbench.registry import ALIASES, BALANCERS
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

load_plugins()
import torchjd.aggregation as aggregation  # noqa: E402
import torchjd.scalarization as scalarization  # noqa: E402

LOSSES = ("uw", "imtl-l", "dwa", "rlw", "geometric-mean", "stch", "famo")
WITH_MEMORY = ("gradvac", "nash-mtl", "sdmgrad", "modo", "excess-mtl", "cr-mogm")
GRADIENTS = (
    "mgda", "imtl-g", "pcgrad", "cagrad", "aligned-mtl", "config", "dualproj", "upgrad", "graddrop", "fairgrad",
    *WITH_MEMORY,
)  # fmt: skip
WITHOUT_PLACE = ("sdmgrad", "modo", "excess-mtl")  # which take gradients at the shared parameters alone
PACKAGES = {
    "cagrad": ("cvxpy", "clarabel"),
    "nash-mtl": ("cvxpy", "ecos"),
    "dualproj": ("qpsolvers", "quadprog"),
    "upgrad": ("qpsolvers", "quadprog"),
    "fairgrad": ("scipy",),
}


def lacks(name: str) -> list[str]:
    return [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]


class Given(Architecture):
    """Shared numbers z = p and one number per task, all 1, with losses own_t (J z)_t: the gradients on z are J."""

    def __init__(self, gradients: Sequence[Sequence[float]] | Tensor, start: float = 1.0) -> None:
        nn.Module.__init__(self)
        self.gradients = torch.as_tensor(gradients, dtype=torch.float32)
        self.tasks = tuple(f"task {t}" for t in range(len(self.gradients)))
        self.p = nn.Parameter(torch.full((self.gradients.shape[1],), start))
        self.own = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in self.tasks])

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images)

    def embed(self, images: Tensor) -> Tensor:
        self.representation = self.p * 1.0
        return torch.stack(list(self.own)) * (self.gradients @ self.representation)

    def task_state(self, task: int) -> tuple[nn.Parameter]:
        return (self.own[task],)


@pytest.fixture
def solvers() -> None:
    """Skip a test of balancers whose packages are missing; the extra `test` brings them all."""
    missing = sorted({package for name in PACKAGES for package in lacks(name)})
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def make(name: str, tasks: int = 2, **options: Any) -> Balancer:
    return BALANCERS.get(name).target([f"task {t}" for t in range(tasks)], **options)


def update(balancer: Balancer, gradients: Any, start: float = 1.0) -> tuple[Tensor, Tensor, Given]:
    """Return the shared update, the weights, and the architecture after one backward of losses with these gradients."""
    net = Given(gradients, start)
    balancer.check(net)
    weights = balancer.backward(net.embed(torch.empty(0)), net)
    assert net.p.grad is not None
    return net.p.grad, weights, net


def close(found: Tensor, expected: Any, **tolerance: float) -> None:
    torch.testing.assert_close(found, torch.as_tensor(np.asarray(expected), dtype=found.dtype), **tolerance)


class Losses(Architecture):
    """Losses set from outside: one parameter per task, and nothing else."""

    def __init__(self, values: Sequence[float]) -> None:
        nn.Module.__init__(self)
        self.tasks = tuple(f"task {t}" for t in range(len(values)))
        self.values = nn.Parameter(torch.tensor(values))

    def forward(self, images: Tensor) -> Tensor:
        return self.values * 1.0


def weights_at(balancer: Balancer, values: Sequence[float]) -> Tensor:
    net = Losses(values)
    weights = balancer.backward(net(torch.empty(0)), net)
    close(net.values.grad, weights / len(values))  # what is shared gets the mean of the weighted gradients
    return weights


# --- registration and refusals ----------------------------------------------------------------------------------------


def test_every_balancer_that_works_here_has_a_method_of_its_name():
    for name in (*LOSSES, *GRADIENTS):
        if lacks(name):
            assert name not in ALIASES  # so that --methods balancers runs what can be run
            continue
        alias = ALIASES.get(name)
        assert (alias.target.architecture, alias.target.balancer, alias.groups) == ("shared", name, ("balancers",))


def test_every_balancer_has_a_source():
    for name in (*LOSSES, *GRADIENTS):
        entry = BALANCERS.get(name)
        assert entry.cite.startswith("@")
        assert "year = {20" in entry.cite
        assert entry.cite.count("{") == entry.cite.count("}")


def test_a_package_that_is_needed_stands_in_the_summary():
    for name, packages in PACKAGES.items():
        assert all(package in BALANCERS.get(name).summary for package in packages)


def test_loading_the_methods_does_not_import_torchjd():
    program = "import sys, mtlbench.plugins as p; assert p.load_plugins() == []; assert 'torchjd' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named(monkeypatch, name):
    packages = PACKAGES[name]
    only_torchjd = lambda package: find_spec(package) if package == "torchjd" else None  # noqa: E731
    monkeypatch.setattr(sys.modules["mtlbench.methods.jd"], "find_spec", only_torchjd)
    with pytest.raises(UserError, match=f"{name} needs .*{packages[0]}.*: pip install {' '.join(packages)}"):
        make(name)


def test_without_torchjd_a_balancer_says_so(monkeypatch):
    monkeypatch.setattr(sys.modules["mtlbench.methods.jd"], "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"pcgrad needs torchjd: pip install torchjd"):
        make("pcgrad")


def test_a_class_that_another_torchjd_lacks_stops_only_its_own_balancer(monkeypatch):
    monkeypatch.delattr(aggregation, "MoDoWeighting")
    with pytest.raises(UserError, match="no MoDoWeighting"):
        make("modo")
    assert make("sdmgrad").tasks == ("task 0", "task 1")


@pytest.mark.parametrize("name", sorted(set(GRADIENTS) - {"cagrad"}))
def test_nets_that_share_nothing_are_refused_with_the_reason(backbones, solvers, name):
    with pytest.raises(UserError, match="shares none: gradient surgery is meaningless there"):
        parse_method(f"independent+{name}").build(backbones, ("colour", "shape"))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("architecture", ["independent", "shared", "single", "cross-stitch", "modulation"])
def test_weighing_losses_goes_with_every_architecture(backbones, images, architecture, name):
    net, balancer = parse_method(f"{architecture}+{name}").build(backbones, ("colour", "shape", "size"))
    weights = balancer.backward(net(images).square().mean(dim=(1, 2)), net)
    assert weights.shape == (3,)
    assert not weights.requires_grad
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", ["mgda", "imtl-g"])
def test_without_common_features_a_representation_is_missed_or_the_shared_parameters_serve(backbones, images, name):
    def step(options: str) -> list[Tensor]:
        net, balancer = parse_method(f"shared+{name}{options}").build(backbones, ("colour", "shape", "size"))
        balancer.backward(net(images).square().mean(dim=(1, 2)), net)  # triplets per task: no common features
        return [p.grad for p in net.parameters() if p.grad is not None]

    with pytest.raises(UserError, match="set at=shared"):
        step("[at=representation]")
    for found, expected in zip(step(""), step("[at=shared]"), strict=True):
        assert torch.equal(found, expected)


def test_an_architecture_that_embeds_task_by_task_has_no_representation():
    with pytest.raises(UserError, match="Losses shows no features that all tasks share"):
        make("pcgrad", at="representation").check(Losses([1.0, 1.0]))


@pytest.mark.parametrize(
    "spec",
    ["dwa[temperature=0]", "dwa[every=0]", "stch[mu=0]", "famo[lr=-1]", "gradvac[beta=2]", "cagrad[c=1]",
     "fairgrad[alpha=0]", "sdmgrad[pull=-1]", "modo[gamma=0]", "excess-mtl[step=0]", "excess-mtl[warmup=-1]",
     "cr-mogm[alpha=2]", "cr-mogm[base=mean]", "aligned-mtl[length=max]", "pcgrad[at=everywhere]"],
)  # fmt: skip
def test_options_out_of_range_are_refused(backbones, spec):
    with pytest.raises(UserError, match=spec.partition("[")[0]):
        parse_method(f"shared+{spec}").build(backbones, ("colour", "shape"))


# --- weights of losses ------------------------------------------------------------------------------------------------


def test_uw_takes_the_step_worked_by_hand():
    """exp(-s) L + s at s = (0, log 2), L = (3, 5): weights (1, 1/2), derivatives of s (1 - 3, 1 - 5/2)."""
    balancer = make("uw")
    (s,) = balancer.parameters()
    with torch.no_grad():
        s[1] = np.log(2)
    close(weights_at(balancer, [3.0, 5.0]), [1, 0.5])
    close(s.grad, [-2, -1.5])


def test_imtl_l_takes_the_step_worked_by_hand():
    """exp(s) L - s at s = (0, log 2), L = (3, 5): weights (1, 2), derivatives of s (3 - 1, 2 * 5 - 1)."""
    balancer = make("imtl-l")
    (s,) = balancer.parameters()
    with torch.no_grad():
        s[1] = np.log(2)
    close(weights_at(balancer, [3.0, 5.0]), [1, 2])
    close(s.grad, [2, 9])


def test_uncertainty_weights_settle_at_one_over_the_loss():
    balancer = make("uw")
    optimiser = torch.optim.SGD(balancer.parameters(), lr=0.1)
    for _ in range(500):
        optimiser.zero_grad()
        weights = weights_at(balancer, [0.5, 4.0])
        optimiser.step()
    close(weights, [2, 0.25], rtol=1e-3, atol=0)


def test_dwa_follows_the_ratios_of_the_two_latest_epochs():
    """Epochs of two steps: means (2, 4), then (1, 4): ratios (1/2, 1) at temperature 2."""
    balancer = make("dwa", every=2)
    for values in ([1.0, 4.0], [3.0, 4.0], [1.5, 5.0], [0.5, 3.0]):
        close(weights_at(balancer, values), [1, 1])
    e = np.exp([0.25, 0.5])
    for _ in range(2):
        close(weights_at(balancer, [9.0, 9.0]), 2 * e / e.sum())
    e = np.exp([9 / 2, 9 / 8])
    close(weights_at(balancer, [9.0, 9.0]), 2 * e / e.sum())


def test_rlw_draws_the_softmax_of_normal_numbers():
    torch.manual_seed(5)
    expected = 3 * torch.softmax(torch.randn(3), 0)
    torch.manual_seed(5)
    balancer = make("rlw", 3)
    close(weights_at(balancer, [1.0, 2.0, 3.0]), expected)
    assert not torch.equal(weights_at(balancer, [1.0, 2.0, 3.0]), expected)


def test_the_geometric_means_weights_are_its_share_of_each_loss():
    close(weights_at(make("geometric-mean"), [0.5, 2.0]), [2, 0.5])


def test_stch_weighs_by_the_softmax_of_losses():
    e = np.exp(np.array([0.1, 0.15, 0.2]) / (3 * 0.05))
    close(weights_at(make("stch", 3, mu=0.05), [0.1, 0.15, 0.2]), 3 * e / e.sum())


def test_famo_takes_the_steps_worked_in_numpy():
    balancer = make("famo", lr=0.1, decay=0.0)
    first, second = np.array([0.5, 0.25]), np.array([0.25, 0.24])
    inverse = 1 / first
    close(weights_at(balancer, first.tolist()), 2 * inverse / inverse.sum())
    # the first task fell at the greater rate; Adam's first step is its rate against the gradient's sign
    xi = np.array([-0.1, 0.1])
    z = np.exp(xi) / np.exp(xi).sum()
    close(weights_at(balancer, second.tolist()), 2 * (z / second) / (z / second).sum(), rtol=1e-4, atol=0)


def test_famo_is_torchjds_where_the_next_batchs_losses_are_those_after_the_step():
    balancer, theirs = make("famo", 3), scalarization.FAMO(3)
    torch.manual_seed(0)
    batches = torch.rand(6, 3) + 0.1
    for n, values in enumerate(batches):
        if n:
            theirs.update(values)
        leaf = values.clone().requires_grad_()
        theirs(leaf).backward()
        close(weights_at(balancer, values.tolist()), 3 * leaf.grad)


def test_a_task_at_0_leaves_famos_weight_to_the_others():
    close(weights_at(make("famo", 3), [0.0, 0.1, 0.1]), [1, 1, 1])


@pytest.mark.parametrize("name", LOSSES)
def test_equal_losses_weigh_1_on_average_at_the_start(name):
    torch.manual_seed(0)
    weights = weights_at(make(name, 3), [0.15, 0.15, 0.15])
    close(weights.sum(), 3.0)
    if name != "rlw":
        close(weights, [1, 1, 1])


@pytest.mark.parametrize("name", LOSSES)
def test_a_tasks_own_parameter_gets_its_weighted_gradient(name):
    torch.manual_seed(0)
    balancer, net = make(name, 2), Given([[1.0, 2.0], [0.5, 0.25]])
    losses = net.embed(torch.empty(0))
    weights = balancer.backward(losses, net)
    close(torch.stack([p.grad for p in net.own]), weights * losses.detach())
    close(net.p.grad, (weights[:, None] * net.gradients).mean(0))


@pytest.mark.parametrize("name", LOSSES)
def test_weighing_losses_takes_one_backward_pass(backbones, images, name):
    net, balancer = parse_method(f"shared+{name}").build(backbones, ("colour", "shape", "size"))
    passes = []
    features = net._trunk(images[0])
    features.register_hook(lambda gradient: passes.append(1))
    losses = torch.stack([head(features) for head in net.heads]).square().mean(dim=(1, 2))
    balancer.backward(losses, net)
    assert len(passes) == 1


# --- combined gradients -----------------------------------------------------------------------------------------------


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


def random_gradients(tasks: int, size: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(tasks, size, generator=torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_no_conflict_is_left(solvers, name):
    for seed in range(5):
        gradients = random_gradients(4, 5, seed)
        combined, _, _ = update(make(name, 4), gradients)
        assert (gradients @ combined > -0.01 * gradients.norm(dim=1) * combined.norm()).all()


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
            products = batches[n - 2] @ batches[n - 1].T
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
            products = batches[n - 2] @ batches[n - 1].T
            scale = np.sqrt(np.maximum(np.diag(products), 0)).mean()
            products, velocity = products / scale**2, 0
            for _ in range(4):
                velocity = 0.5 * velocity + products @ (w + 0.3 / 3)
                w = project(w - 0.5 * velocity)
            expected = (w + 0.3 / 3) / 1.3
        combined, weights, _ = update(balancer, batch)
        close(weights, 3 * expected, rtol=1e-3, atol=1e-4)
        close(combined, expected @ batch, rtol=1e-3, atol=1e-4)


def test_excess_mtl_weighs_by_the_excess_risk():
    """The second step: excess g H^-1 g with H the root of the summed squares, over that of the first step."""
    balancer = make("excess-mtl", 3, step=0.5)
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
        ("mgda", aggregation.MGDA, 1),
        ("imtl-g", aggregation.IMTLG, 1),
        ("pcgrad", aggregation.PCGrad, 1 / 3),
        ("gradvac", aggregation.GradVac, 1 / 3),
        ("aligned-mtl", aggregation.AlignedMTL, 1),
        ("config", aggregation.ConFIG, 1 / 3),
        ("graddrop", aggregation.GradDrop, 1 / 3),
        ("fairgrad", lambda: aggregation.FairGrad(1.0), 1),
        ("excess-mtl", aggregation.ExcessMTL, 1),
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


# --- scale ------------------------------------------------------------------------------------------------------------

OWN_SCALE = {"cagrad", "nash-mtl", "fairgrad"}


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in OWN_SCALE])
@pytest.mark.parametrize("length", [10.0, 1e-4])
def test_gradients_that_agree_give_the_plain_means_step(solvers, name, length):
    gradients = length * torch.tensor([[1.0, -2.0, 0.5]]).repeat(3, 1)
    combined, weights, net = update(make(name, 3), gradients)
    close(combined, gradients.mean(0), rtol=1e-3, atol=0)
    close(weights.sum(), 3.0, rtol=1e-3, atol=0)
    close(torch.stack([p.grad for p in net.own]), gradients.sum(1))


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in OWN_SCALE])
@pytest.mark.parametrize("length", [10.0, 1e-4])
def test_gradients_at_right_angles_give_the_plain_means_step(solvers, name, length):
    combined, weights, _ = update(make(name, 3), length * torch.eye(3, 4))
    close(combined, length * np.array([1, 1, 1, 0]) / 3, rtol=1e-3, atol=length * 1e-6)
    close(weights, [1, 1, 1], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "name", ["mgda", "imtl-g", "pcgrad", "gradvac", "aligned-mtl", "upgrad", "dualproj", "cr-mogm"]
)
def test_small_gradients_have_the_weights_of_large_ones(solvers, name):
    gradients = random_gradients(3)
    weights = []
    for length in (1.0, 1e-6):
        torch.manual_seed(0)
        weights.append(update(make(name, 3), length * gradients)[1])
    close(weights[1], weights[0], rtol=1e-3, atol=1e-4)


# --- zero losses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_weights_stay_finite_when_losses_are_zero(name):
    balancer = make(name, 3, **({"every": 1} if name == "dwa" else {}))
    for values in ([0.0, 0.0, 0.0], [0.1, 0.0, 0.2], [0.0, 0.1, 0.1], [0.0, 0.0, 0.0], [0.2, 1e-9, 0.1], [0.1] * 3):
        weights = weights_at(balancer, values)
        assert weights.isfinite().all()
        assert (weights >= 0).all()
    assert all(p.grad.isfinite().all() for p in balancer.parameters())


@pytest.mark.parametrize("name", GRADIENTS)
def test_updates_stay_finite_when_gradients_are_zero(solvers, name):
    balancer = make(name, 3)
    for active in ([0, 0, 0], [1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0], [1, 1, 1]):
        gradients = torch.tensor(active)[:, None] * random_gradients(3)
        combined, weights, _ = update(balancer, gradients)
        assert combined.isfinite().all()
        assert weights.isfinite().all()
        assert weights[torch.tensor(active) == 0].tolist() == [1] * active.count(0)
        if not any(active):
            assert not combined.any()


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in WITH_MEMORY and n != "fairgrad"])
def test_a_task_without_a_gradient_leaves_the_others_as_if_alone(solvers, name):
    gradients = random_gradients(3)
    gradients[1] = 0
    torch.manual_seed(0)
    with_it = update(make(name, 3), gradients)[0]
    torch.manual_seed(0)
    alone = update(make(name, 2), gradients[[0, 2]])[0]
    close(with_it, alone * 2 / 3, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_that_are_not_finite_reach_the_run(solvers, name):
    gradients = random_gradients(2)
    gradients[0, 0] = float("nan")
    assert not update(make(name), gradients)[0].isfinite().all()


# --- where gradients are taken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n not in WITHOUT_PLACE])
def test_behind_an_identity_the_representation_is_the_shared_parameters(solvers, name):
    found = []
    for at in ("shared", "representation"):
        torch.manual_seed(0)
        balancer = make(name, 3, at=at)
        for seed in range(2):
            combined, weights, net = update(balancer, random_gradients(3, seed=seed))
        found.append((combined, weights, torch.stack([p.grad for p in net.own])))
    for one, other in zip(*found, strict=True):
        close(one, other, rtol=1e-4, atol=1e-5)


def test_at_the_representation_the_trunk_gets_the_combination_in_one_pass(backbones, images):
    tasks = ("colour", "shape", "size")
    net, balancer = parse_method("shared+mgda").build(backbones, tasks)
    losses = net.embed(images[0]).square().mean(dim=(1, 2))
    features = net.representation
    rows = torch.stack([torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses])
    expected = aggregation.MGDAWeighting()(rows @ rows.T / (rows @ rows.T).diagonal().mean())
    trunk = torch.autograd.grad((losses * expected).sum(), net.shared_parameters(), retain_graph=True)
    heads = [torch.autograd.grad(loss, net.task_parameters(t), retain_graph=True) for t, loss in enumerate(losses)]
    passes = []
    net.trunk[0].register_full_backward_hook(lambda *_: passes.append(1))
    weights = balancer.backward(losses, net)
    close(weights, 3 * expected, rtol=1e-3, atol=1e-4)
    for parameter, gradient in zip(net.shared_parameters(), trunk, strict=True):
        close(parameter.grad, gradient.numpy(), rtol=1e-3, atol=1e-6)
    for t in range(3):
        for parameter, gradient in zip(net.task_parameters(t), heads[t], strict=True):
            close(parameter.grad, gradient.numpy())


@pytest.mark.parametrize(("at", "expected"), [("shared", 3), ("representation", 1)])
def test_the_trunk_is_passed_once_at_the_representation_and_once_a_task_at_the_parameters(
    backbones, images, at, expected
):
    net, balancer = parse_method(f"shared+pcgrad[at={at}]").build(backbones, ("colour", "shape", "size"))
    passes = []
    first = net.trunk[0]
    first.register_forward_hook(lambda module, _, out: out.register_hook(lambda gradient: passes.append(1)) and None)
    balancer.backward(net.embed(images[0]).square().mean(dim=(1, 2)), net)
    assert len(passes) == expected


def test_shared_parameters_behind_the_representation_are_not_silently_left_untrained():
    class Behind(Given):
        def __init__(self) -> None:
            super().__init__([[1.0, 0.0], [0.0, 1.0]])
            self.late = nn.Parameter(torch.ones(()))

        def embed(self, images: Tensor) -> Tensor:
            return super().embed(images) * self.late

    net = Behind()
    with pytest.raises(UserError, match="lie behind the representation of Behind; set at=shared"):
        make("mgda").backward(net.embed(torch.empty(0)), net)


def test_gradients_lie_in_memory_as_their_parameters(backbones, images):
    net, balancer = parse_method("shared+pcgrad").build(backbones, ("colour", "shape", "size"))
    net = net.to(memory_format=torch.channels_last)
    losses = net.embed(images[0]).square().mean(dim=(1, 2))
    plain = torch.autograd.grad(losses.mean(), net.shared_parameters(), retain_graph=True)
    balancer.part.forward = lambda gramian: torch.ones(3)  # every gradient as it is
    balancer.backward(losses, net)
    assert any(not p.is_contiguous() for p in net.shared_parameters())
    for parameter, gradient in zip(net.shared_parameters(), plain, strict=True):
        assert parameter.grad.stride() == parameter.stride()
        close(parameter.grad, gradient.numpy(), rtol=1e-4, atol=1e-7)


def test_frozen_parameters_get_no_gradient():
    net = Given([[1.0, 0.0], [0.0, 1.0]])
    net.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    make("pcgrad").backward(net.embed(torch.empty(0)), net)
    assert net.frozen.grad is None
    close(net.p.grad, [0.5, 0.5])


@pytest.mark.parametrize("at", ["shared", "representation"])
def test_a_gradient_that_is_there_already_is_added_to(at):
    net = Given([[1.0, 0.0], [0.0, 1.0]])
    net.p.grad = torch.tensor([10.0, 10.0])
    make("pcgrad", at=at).backward(net.embed(torch.empty(0)), net)
    close(net.p.grad, [10.5, 10.5])


# --- memory and randomness --------------------------------------------------------------------------------------------

FAST = {"dwa": {"every": 2}, "excess-mtl": {"warmup": 2}, "nash-mtl": {"every": 2}, "cr-mogm": {"alpha": 0.5}}


def one_step(balancer: Balancer, seed: int) -> tuple[Tensor, Tensor]:
    gradients = random_gradients(3, seed=seed)  # in conflict, but with losses above 0
    wanted = 0.2 + torch.rand(3, 1, generator=torch.Generator().manual_seed(seed))
    gradients = gradients + (wanted - gradients.sum(1, keepdim=True)) / 6
    combined, weights, _ = update(balancer, gradients, start=0.5)
    for parameter in balancer.parameters():  # the run's optimiser
        with torch.no_grad():
            parameter -= 0.1 * parameter.grad
        parameter.grad = None
    return combined, weights


@pytest.mark.parametrize("name", [*LOSSES, *GRADIENTS])
@pytest.mark.parametrize("before", [0, 1, 2, 3, 5])
def test_a_restored_balancer_goes_on_exactly(solvers, tmp_path: Path, name, before):
    balancer, restored = make(name, 3, **FAST.get(name, {})), make(name, 3, **FAST.get(name, {}))
    assert state_of(balancer).keys() == state_of(restored).keys()
    torch.manual_seed(0)
    for seed in range(before):
        one_step(balancer, seed)
    save_file(state_of(balancer), tmp_path / "state.safetensors")
    generator = torch.get_rng_state()
    expected = [one_step(balancer, seed) for seed in range(before, before + 4)]
    load_state(restored, load_file(tmp_path / "state.safetensors"))
    load_state(restored, state_of(restored))  # saved again before it took a step
    torch.set_rng_state(generator)
    for seed, (combined, weights) in enumerate(expected, before):
        again = one_step(restored, seed)
        assert torch.equal(again[0], combined)
        assert torch.equal(again[1], weights)


@pytest.mark.parametrize("name", sorted({*WITH_MEMORY, "dwa", "famo"}))
def test_without_its_memory_a_balancer_would_go_on_otherwise(solvers, name):
    """So that the test above can fail: a new balancer's next weights differ from those of one that has worked."""
    balancer = make(name, 3, **FAST.get(name, {}))
    torch.manual_seed(0)
    for seed in range(5):
        one_step(balancer, seed)
    torch.manual_seed(1)
    used = one_step(balancer, 5)[1]
    torch.manual_seed(1)
    assert not torch.equal(one_step(make(name, 3, **FAST.get(name, {})), 5)[1], used)


@pytest.mark.parametrize(
    "spec", ["uw", "dwa[every=1]", "famo", "rlw", "pcgrad", "gradvac", "mgda", "sdmgrad", "excess-mtl"]
)
def test_an_interrupted_run_ends_where_it_would_have(spec):
    benchmark, method = protocol("train.sampling='joint'"), parse_method(f"shared+{spec}")
    whole = Trainer(method, benchmark, make_dataset(), 0, "fp32")
    for step in range(5):
        if step == 3:
            tensors, state = {k: v.clone() for k, v in whole.tensors().items()}, whole.state
        whole.step()
    resumed = Trainer(method, benchmark, make_dataset(), 0, "fp32")
    state.step = 3
    resumed.restore(tensors, state)
    for _ in range(2):
        resumed.step()
    for name, expected in state_of(whole.architecture).items():
        assert torch.equal(state_of(resumed.architecture)[name], expected), name
    assert torch.equal(torch.stack(resumed._pending), torch.stack(whole._pending[3:]))


@pytest.mark.parametrize("name", ["rlw", "graddrop", "pcgrad", "gradvac"])
def test_chance_comes_from_the_global_generator(name):
    gradients = random_gradients(6, 8)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(update(make(name, 6), gradients, start=0.1)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_learned_weights_are_trained_by_the_runs_optimiser_and_famos_are_not():
    assert [p.shape for p in make("uw", 3).parameters()] == [(3,)]
    assert [p.shape for p in make("imtl-l", 3).parameters()] == [(3,)]
    assert list(make("famo", 3).parameters()) == []


@pytest.mark.parametrize("name", [*LOSSES, *GRADIENTS])
def test_one_task_is_trained_as_by_the_plain_mean(solvers, name):
    torch.manual_seed(0)
    balancer = make(name, 1)
    for _ in range(2):
        combined, weights, net = update(balancer, [[0.3, 0.4]])
    if name not in OWN_SCALE:
        close(combined, [0.3, 0.4], rtol=1e-4, atol=0)
        close(weights, [1], rtol=1e-4, atol=0)
    assert combined.isfinite().all()
    close(net.own[0].grad, 0.7)
