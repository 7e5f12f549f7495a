"""Balancers from torchjd: which there are, what they need, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torchjd import aggregation
from torchjd_support import GRADIENTS, LOSSES, PACKAGES, Given, Losses, lacks, make

from mtlbench import UserError
from mtlbench.balancer import check_share, share_acted_on
from mtlbench.registry import ALIASES, BALANCERS
from mtlbench.specs import left_out_methods, parse_method


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


@pytest.mark.slow
def test_loading_the_methods_does_not_import_torchjd():
    program = "import sys, mtlbench.plugins as p; assert p.load_plugins() == []; assert 'torchjd' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named(monkeypatch, name):
    packages = PACKAGES[name]
    only_torchjd = lambda package: find_spec(package) if package == "torchjd" else None  # noqa: E731
    monkeypatch.setattr("mtlbench.registry.find_spec", only_torchjd)
    with pytest.raises(UserError, match=f"{name} needs .*{packages[0]}.*: pip install {' '.join(packages)}"):
        make(name)


def test_without_torchjd_a_balancer_says_so(monkeypatch):
    monkeypatch.setattr("mtlbench.registry.find_spec", lambda package: None)
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


def test_nets_whose_mixing_layers_are_the_tasks_own_are_refused_too(backbones):
    with pytest.raises(UserError, match="shares none: gradient surgery is meaningless there"):
        parse_method("nddr+pcgrad").build(backbones, ("colour", "shape"))


@pytest.mark.parametrize("name", sorted(set(GRADIENTS) - {"cagrad"}))
def test_a_balancer_that_would_act_on_next_to_nothing_is_refused(backbones, name):
    """Cross-stitch networks share a few scalars between all tasks, and nothing else."""
    with pytest.raises(UserError, match=f"{name} would act on 0.00.* % of the trained parameters"):
        parse_method(f"cross-stitch+{name}").build(backbones, ("colour", "shape"))


@pytest.mark.parametrize(("own", "refused"), [(48, False), (49, True)])
def test_the_share_below_which_a_balancer_is_refused_is_one_in_a_hundred(own, refused):
    """One shared number to two tasks of 49 numbers each, or of 50."""

    class Little(Given):
        def __init__(self) -> None:
            super().__init__([[1.0], [1.0]])
            self.more = nn.ParameterList([nn.Parameter(torch.ones(own)) for _ in self.tasks])

        def task_state(self, task: int) -> tuple[nn.Parameter, ...]:
            return (self.own[task], self.more[task])

    net, balancer = Little(), make("pcgrad")
    assert share_acted_on(balancer, net) == 1 / (1 + 2 * (1 + own))
    if refused:
        with pytest.raises(UserError, match=r"pcgrad would act on 0\.99.* % of the trained parameters"):
            check_share("pcgrad", balancer, net)
    else:
        check_share("pcgrad", balancer, net)


@pytest.mark.parametrize("name", [*GRADIENTS, *LOSSES, "gradnorm", "mean"])
def test_a_balancer_says_on_what_share_of_the_parameters_it_acts(solvers, backbones, name):
    """What a task alone owns gets its plain gradient from those that combine gradients."""
    net, balancer = parse_method(f"shared+{name}").build(backbones, ("colour", "shape", "size"))
    trunk = sum(p.numel() for p in net.trunk.parameters())
    expected = trunk / sum(p.numel() for p in net.parameters()) if name in GRADIENTS else 1.0
    assert share_acted_on(balancer, net) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["pcgrad", "upgrad"])
def test_where_tasks_mix_a_tasks_own_layers_get_its_own_losss_gradient(backbones, images, name):
    """In PLE every task's loss reaches the other tasks' lower experts."""
    net, balancer = parse_method(f"ple+{name}").build(backbones, ("colour", "shape", "size"))
    losses = net(images).square().mean(dim=(1, 2))
    own = [net.task_parameters(t) for t in range(3)]
    expected = [
        torch.autograd.grad(loss, parameters, retain_graph=True) for loss, parameters in zip(losses, own, strict=True)
    ]
    crossing = torch.autograd.grad(losses[1], own[0], retain_graph=True, allow_unused=True)
    assert any(g is not None and g.any() for g in crossing)
    balancer.backward(losses, net)
    for parameters, gradients in zip(own, expected, strict=True):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("architecture", ["independent", "shared"])
def test_losses_are_weighed_whether_anything_is_shared_or_not(backbones, images, architecture, name):
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
     "cr-mogm[alpha=2]", "cr-mogm[base=mean]", "aligned-mtl[length=max]", "pcgrad[at=everywhere]",
     "nash-mtl[max_norm=-1]", "nash-mtl[every=0]"],
)  # fmt: skip
def test_options_out_of_range_are_refused(backbones, spec):
    with pytest.raises(UserError, match=spec.partition("[")[0]):
        parse_method(f"shared+{spec}").build(backbones, ("colour", "shape"))


WITHOUT_SOLVERS = """
import sys
from importlib.util import find_spec
from mtlbench import registry

registry.find_spec = lambda name: None if name in ("cvxpy", "clarabel", "ecos", "quadprog") else find_spec(name)
from mtlbench.errors import UserError
from mtlbench.plugins import load_plugins
from mtlbench.specs import left_out_line, left_out_methods, method_groups, parse_method, parse_methods

assert load_plugins() == []
assert load_plugins() == []
print(*(one.name for one in left_out_methods()))
print(len(left_out_methods("balancers,shared")), len(left_out_methods("core")))
print(any(one.name in method_groups()[group] for one in left_out_methods() for group in ("all", "balancers")))
print(len(parse_methods("all")) > 30)
print(left_out_line(left_out_methods()))
for text in ("cagrad", "shared+cagrad"):
    try:
        parse_method(text).build(None, ("a", "b"))
    except (UserError, AttributeError) as error:
        print(error)
"""


@pytest.mark.slow
def test_methods_without_their_packages_are_left_out_of_groups_and_say_so() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_SOLVERS], capture_output=True, text=True, check=True)
    names, numbers, held, rest, line, said, *_ = done.stdout.splitlines()
    assert sorted(names.split()) == ["cagrad"]
    assert numbers == "1 0"
    assert (held, rest) == ("False", "True")
    assert line == "1 left out (cagrad): pip install 'mtlbench[solvers]'"
    assert said == "cagrad needs cvxpy and clarabel: pip install cvxpy clarabel, or pip install 'mtlbench[solvers]'."


def test_here_only_what_lacks_its_packages_is_left_out() -> None:
    assert sorted(one.name for one in left_out_methods()) == sorted(name for name in PACKAGES if lacks(name))
