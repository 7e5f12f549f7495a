"""CGC and PLE against the paper's equations in NumPy, against each other, and against `mmoe` and `shared`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mtlbench import Architecture, BackboneFactory, UserError
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method

load_plugins()
TASKS = ("colour", "shape", "size")


def build(spec: str, backbones: BackboneFactory, tasks: tuple[str, ...] = TASKS) -> Architecture:
    return parse_method(spec).build(backbones, tasks)[0]


def gated(gate: np.ndarray, selecting: torch.Tensor, outputs: list[torch.Tensor]) -> torch.Tensor:
    """The paper's w(x) S(x): w the softmax of the gate on channel means, S the experts' outputs."""
    logits = selecting.numpy().mean((2, 3)) @ gate.T
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert shares.shape[1] == len(outputs)
    return torch.from_numpy(sum(shares[:, i, None, None, None] * y.numpy() for i, y in enumerate(outputs)))


def trunk_features(net: Architecture, images: torch.Tensor) -> torch.Tensor:
    for stage in net.trunk:
        images = stage(images)
    return images


@pytest.mark.parametrize("after", [1, 3])
def test_cgc_gates_a_tasks_own_and_the_shared_experts(backbones, images, after):
    net = build(f"cgc[own=2,shared=3,after={after}]", backbones).eval()
    (level,) = net.levels
    with torch.no_grad():
        for t in range(3):
            x = trunk_features(net, images[t])
            outputs = [expert(x) for expert in (*level.own[t], *level.shared)]
            expected = net.heads[t](gated(level.gates[t].weight.numpy(), x, outputs))
            torch.testing.assert_close(net(images)[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed(images[t])[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed_task(images[t], t), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("own", "shared", "after"), [(1, 1, 2), (2, 1, 1), (0, 2, 1), (1, 2, 0)])
def test_ple_follows_the_papers_layers(backbones, images, own, shared, after):
    net = build(f"ple[own={own},shared={shared},after={after}]", backbones).eval()
    assert len(net.levels) == len(backbones.channels) - after
    with torch.no_grad():
        x = trunk_features(net, images[1])
        g, g_shared = [x, x, x], x
        for j, level in enumerate(net.levels):
            of_tasks = [[expert(g[k]) for expert in level.own[k]] for k in range(3)]
            of_shared = [expert(g_shared) for expert in level.shared]
            if j < len(net.levels) - 1:
                rows = np.concatenate([gate.weight.numpy() for gate in level.shared_gates])
                g_shared = gated(rows, g_shared, [*(y for own_outputs in of_tasks for y in own_outputs), *of_shared])
            g = [gated(level.gates[k].weight.numpy(), g[k], [*of_tasks[k], *of_shared]) for k in range(3)]
        expected = torch.stack([net.heads[k](g[k]) for k in range(3)])
        torch.testing.assert_close(net.embed(images[1]), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net(images)[1], expected[1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net.embed_task(images[1], 2), expected[2], rtol=1e-4, atol=1e-5)


def test_ple_with_one_level_is_cgc(backbones, images):
    ple, cgc = build("ple[own=2,shared=2,after=3]", backbones), build("cgc[own=2,shared=2]", backbones)
    assert len(ple.levels) == 1
    assert torch.equal(ple(images), cgc(images))
    assert torch.equal(ple.embed(images[0]), cgc.embed(images[0]))


@pytest.mark.parametrize("architecture", ["cgc", "ple"])
def test_with_one_shared_expert_alone_it_is_shared(backbones, images, architecture):
    net, shared = build(f"{architecture}[own=0,shared=1,after=2]", backbones), build("shared", backbones)
    copies = [stage for level in net.levels for stage in level.shared[0]]
    for stage, theirs in zip(copies, shared.trunk[2:], strict=True):
        stage.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(net(images), shared(images), rtol=1e-5, atol=1e-6)
    net(images).square().sum().backward()
    shared(images).square().sum().backward()
    mine, theirs = list(net.parameters()), list(shared.parameters())
    assert len(mine) == len(theirs)  # no gate is left
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_cgc_without_own_experts_is_mmoe(backbones, images):
    cgc, mmoe = build("cgc[own=0,shared=3]", backbones), build("mmoe[experts=3]", backbones)
    mmoe.gates.load_state_dict(cgc.levels[0].gates.state_dict())
    torch.testing.assert_close(cgc(images), mmoe(images), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in cgc.parameters()) == sum(p.numel() for p in mmoe.parameters())


def reached(net: Architecture, part: nn.Module, images: torch.Tensor, task: int) -> bool:
    net.zero_grad()
    net(images)[task].square().sum().backward()
    return any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())


def test_in_cgc_only_its_task_reaches_an_own_expert(backbones, images):
    net = build("cgc", backbones).eval()
    (level,) = net.levels
    assert [reached(net, level.own[1], images, t) for t in range(3)] == [False, True, False]
    assert all(reached(net, level.shared, images, t) for t in range(3))


def test_in_ple_the_shared_gate_lets_all_tasks_reach_the_lower_experts(backbones, images):
    net = build("ple", backbones).eval()
    lower, upper = net.levels
    assert all(reached(net, lower.own[1], images, t) for t in range(3))
    assert [reached(net, upper.own[1], images, t) for t in range(3)] == [False, True, False]


def test_in_ple_a_shared_gate_closed_to_own_experts_keeps_other_tasks_out(backbones, images):
    net = build("ple", backbones).eval()
    with torch.no_grad():
        *own, shared = net.levels[0].shared_gates
        for gate in own:
            gate.weight.fill_(-1e4)  # channel means of a trunk are positive
        shared.weight.zero_()
    assert [reached(net, net.levels[0].own[1], images, t) for t in range(3)] == [False, True, False]


def test_a_tasks_rows_of_the_shared_gate_are_those_of_its_own_experts(backbones):
    net = build("ple[own=2,shared=2]", backbones)
    *rows, of_shared = net.levels[0].shared_gates
    owners = [[t for t in range(3) if any(p is gate.weight for p in net.task_parameters(t))] for gate in rows]
    assert owners == [[0], [1], [2]]
    assert any(p is of_shared.weight for p in net.shared_parameters())


def test_the_last_level_has_no_shared_gate(backbones):
    *layers, last = build("ple[after=0]", backbones).levels
    assert [len(layer.shared_gates) for layer in layers] == [4, 4, 4]  # rows of three tasks and of the shared experts
    assert len(last.shared_gates) == 0


def test_all_experts_start_differently(backbones):
    net = build("ple[own=2,shared=2]", backbones)
    for level in net.levels:
        experts = [*level.shared, *(expert for own in level.own for expert in own)]
        first = [next(expert.parameters()) for expert in experts]
        assert len(first) == 8
        assert not any(torch.equal(a, b) for i, a in enumerate(first) for b in first[:i])


@pytest.mark.parametrize(("architecture", "stages"), [("cgc", 1), ("ple", 2)])
def test_a_task_adds_its_experts_its_gates_and_an_embedding_layer(backbones, architecture, stages):
    net, whole = build(architecture, backbones), backbones.backbone()
    expert = sum(p.numel() for p in whole.stages[-stages:].parameters())
    head = sum(p.numel() for p in whole.head.parameters())
    gates = 2 * sum(backbones.channels[-1 - stages : -1])  # one own, one shared expert
    rows = sum(backbones.channels[-1 - stages : -2])  # of the shared gate, before the last level
    assert [sum(p.numel() for p in net.task_parameters(t)) for t in range(3)] == [expert + head + gates + rows] * 3
    shared = sum(p.numel() for p in whole.stages.parameters()) + rows
    assert sum(p.numel() for p in net.shared_parameters()) == shared


@pytest.mark.parametrize("architecture", ["cgc", "ple"])
def test_gradnorm_measures_at_the_last_shared_experts(backbones, images, architecture):
    net, balancer = parse_method(f"{architecture}[shared=2]+gradnorm").build(backbones, TASKS)
    weights = net.last_shared_layer()
    for weight, expert in zip(weights, net.levels[-1].shared, strict=True):
        assert any(weight is p for p in expert.parameters())
    balancer.backward(net(images).square().mean((1, 2)), net)
    assert (balancer.gradient_norms > 0).all()


@pytest.mark.parametrize("architecture", ["cgc", "ple"])
@pytest.mark.parametrize(
    ("option", "message"),
    [("own=-1", "at least 0"), ("shared=0", "at least 1"), ("after=4", "between 0 and 3"), ("after=-1", "between 0")],
)
def test_it_refuses_what_makes_no_network(backbones, architecture, option, message):
    with pytest.raises(UserError, match=f"{architecture}: .*{message}"):
        build(f"{architecture}[{option}]", backbones)
