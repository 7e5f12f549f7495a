"""What holds for every registered architecture: all that `mtlbench check` checks, and what it leaves to the engine."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from torch import nn

from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import load_benchmark
from mtlbench.checks import ARCHITECTURE_ITEMS, BALANCER_ITEMS, Part, Subject
from mtlbench.checks.items import run_items
from mtlbench.cost import added_by_one_task, operations, storage
from mtlbench.plugins import load_plugins
from mtlbench.registry import BALANCERS
from mtlbench.specs import method_groups, parse_method

load_plugins()
TASKS = ("colour", "shape", "size")
SPEED = "speed beside a shared trunk"  # takes seconds, and says nothing of right and wrong
MIX = {"cross-stitch", "nddr", "ple"}  # by their papers: each task's features are made of every task's
OWN_SCALE = {"cagrad", "fairgrad", "nash-mtl"}  # by their papers: the update's length does not follow the gradients'
WHOLE = {
    "only a task's own loss reaches what is its own",
    "a task starts the same whichever others there are",
}


@pytest.mark.slow
def test_an_architecture_passes_every_check(method: str) -> None:
    items = [item for item in ARCHITECTURE_ITEMS if item.name != SPEED]
    core = {
        parse_method(name).architecture for name in method_groups()["core"]
    }  # the others: 12 tasks, a lighter network
    results = list(run_items(items, Subject(parse_method(method), thorough=method in core)))
    assert [r.name for r in results] == [item.name for item in items]
    assert {r.name: r.lines for r in results if r.status == "failed"} == {}
    skipped = {r.name for r in results if r.status == "skipped"} - {"a rate acts"}  # of methods that have one
    assert skipped == (WHOLE if method in MIX else set())


@pytest.mark.slow
def test_so_does_a_gate_that_looks_at_each_image() -> None:
    method = parse_method("dselect-k[per_example=true]")  # the one option that brings another kind of layer
    items = [item for item in ARCHITECTURE_ITEMS if item.name != SPEED]
    assert {r.status for r in run_items(items, Subject(method, thorough=False))} == {"passed"}


@pytest.mark.slow
@pytest.mark.parametrize("balancer", sorted(BALANCERS))
def test_a_balancer_passes_every_check(balancer: str) -> None:
    options = "[weights=1:2:1]" if balancer == "static" else ""
    results = list(Part("balancer", parse_method(f"shared+{balancer}{options}")).results())
    assert {r.name: r.lines for r in results if r.status == "failed"} == {}
    assert len(results) == len(BALANCER_ITEMS)
    scale = next(r for r in results if r.name == "weights of 1 mean the plain mean")
    assert (scale.status == "skipped") == (balancer in OWN_SCALE)


def test_what_one_more_task_adds_is_the_difference(method):
    benchmark = load_benchmark("shoes", quick=True)
    spec = parse_method(method)
    factory = BackboneFactory("small", benchmark.data.size, benchmark.model.embedding)
    counts = []
    for tasks in (TASKS, (*TASKS, "weight")):
        with torch.device("meta"):
            counts.append(storage(spec.build(factory, tasks)[0])["parameters"])
    assert added_by_one_task(spec, benchmark, TASKS)["parameters_added"] == counts[1] - counts[0]


def test_one_task_costs_no_more_operations_than_all(method, backbones, images):
    counts = operations(parse_method(method).build(backbones, TASKS)[0], images[0, :1])
    assert 0 < counts["flops_one_task"] <= counts["flops_all_tasks"]


def test_the_last_shared_layer_is_the_last_of_those_that_tasks_share(method, backbones, images):
    """Other weights of it change no shared layer's input; those of any other shared one change the input of it."""
    net = parse_method(method).build(backbones, TASKS)[0].eval()
    last, shared = {id(p) for p in net.last_shared_layer()}, {id(p) for p in net.shared_parameters()}
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear) and id(m.weight) in shared]
    named = {layer for layer in layers if id(layer.weight) in last}
    given: dict[nn.Module, torch.Tensor] = {}
    for layer in layers:
        layer.register_forward_hook(lambda one, inputs, _: given.update({one: inputs[0].clone()}))

    @torch.no_grad()
    def behind(some: Iterable[nn.Module]) -> set[nn.Module]:
        net(images[:, :1])
        before, kept = dict(given), [(layer.weight, layer.weight.clone()) for layer in some]
        for weight, _ in kept:
            weight += 0.1
        net(images[:, :1])
        for weight, values in kept:
            weight.copy_(values)
        return {layer for layer in before if not torch.equal(before[layer], given[layer])}

    assert bool(named) == bool(layers)
    assert behind(named) == set()
    assert all(behind([layer]) & named for layer in layers if layer not in named)


def test_a_step_leaves_no_graph_and_operations_can_be_counted_behind_it(method, backbones, images):
    def kept(net):
        values = [value for module in net.modules() for value in vars(module).values()]
        return [value for value in values if isinstance(value, torch.Tensor) and value.grad_fn is not None]

    net = parse_method(method).build(backbones, TASKS)[0]
    fresh = operations(net, images[0, :1])
    net.train().embed(images[0])
    net.regulariser()
    assert operations(net, images[0, :1]) == fresh  # of a copy, whatever the pass has left
    net.forget()
    assert kept(net) == []


@pytest.mark.slow
def test_it_can_be_counted_for_forty_tasks_without_memory(method):
    with torch.device("meta"):
        net = parse_method(method).build(BackboneFactory("small", 48, 64), tuple(f"task {t}" for t in range(40)))[0]
    assert storage(net)["parameters"] == sum(p.numel() for p in net.parameters()) > 0
