"""MMoE against its formula in NumPy and against the shared trunk, which it is with one expert."""

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


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def trunk_features(net: Architecture, images: torch.Tensor) -> torch.Tensor:
    for stage in net.trunk:
        images = stage(images)
    return images


@pytest.mark.parametrize("after", [0, 2, 3])
def test_a_task_mixes_the_experts_by_the_softmax_of_its_gate(backbones, images, after):
    net = build(f"mmoe[experts=3,after={after}]", backbones).eval()
    with torch.no_grad():
        for t in range(3):
            x = trunk_features(net, images[t])
            gate = softmax(x.numpy().mean((2, 3)) @ net.gates[t].weight.numpy().T)  # (B, experts)
            outputs = np.stack([expert(x).numpy() for expert in net.experts])
            mixed = torch.from_numpy(np.einsum("be,ebchw->bchw", gate, outputs))
            expected = net.heads[t](mixed)
            torch.testing.assert_close(net(images)[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed(images[t])[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed_task(images[t], t), expected, rtol=1e-4, atol=1e-5)
            assert not np.allclose(gate[0], gate[1], atol=1e-4)  # images have mixes of their own


def test_with_one_expert_mmoe_is_shared(backbones, images):
    net, shared = build("mmoe[experts=1]", backbones), build("shared", backbones)
    assert len(net.gates) == 0
    net.experts[0][0].load_state_dict(shared.trunk[-1].state_dict())
    torch.testing.assert_close(net(images), shared(images), rtol=1e-5, atol=1e-6)
    net(images).square().sum().backward()
    shared(images).square().sum().backward()
    mine, theirs = list(net.parameters()), list(shared.parameters())
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_a_gate_that_is_sure_leaves_one_expert(backbones, images):
    net = build("mmoe", backbones).eval()
    with torch.no_grad():
        net.gates[1].weight.zero_()
        net.gates[1].weight[2] = 1e4  # channel means of a trunk are positive
        alone = net.heads[1](net.experts[2](trunk_features(net, images[1])))
        torch.testing.assert_close(net(images)[1], alone, rtol=1e-4, atol=1e-5)
    net(images)[1].square().sum().backward()
    assert all(p.grad.any() for p in net.experts[2].parameters())
    assert not any(p.grad.any() for i in (0, 1, 3) for p in net.experts[i].parameters())


def test_experts_and_gates_start_differently(backbones):
    net = build("mmoe", backbones)
    first = [next(expert.parameters()) for expert in net.experts]
    gates = [gate.weight for gate in net.gates]
    for different in (first, gates):
        assert not any(torch.equal(a, b) for i, a in enumerate(different) for b in different[:i])
    fresh = build("mmoe", BackboneFactory("small", 24, 8, seed=4))
    assert not torch.equal(next(fresh.experts[0].parameters()), first[0])
    assert not torch.equal(fresh.gates[0].weight, gates[0])


def test_a_task_called_like_an_expert_changes_nothing(backbones):
    plain, odd = build("mmoe", backbones), build("mmoe", backbones, ("expert 0", "shape", "size"))
    for a, b in zip(plain.experts.parameters(), odd.experts.parameters(), strict=True):
        assert torch.equal(a, b)


def test_by_default_four_experts_copy_the_last_stage(backbones):
    net, whole = build("mmoe", backbones), backbones.backbone()

    def size(*parts: nn.Module) -> int:
        return sum(p.numel() for part in parts for p in part.parameters())

    gate = backbones.channels[-2] * 4
    assert size(net) == size(*whole.stages[:-1]) + 4 * size(whole.stages[-1]) + 3 * (gate + size(whole.head))
    assert [sum(p.numel() for p in net.task_parameters(t)) for t in range(3)] == [gate + size(whole.head)] * 3


def test_the_last_shared_layer_is_every_experts_last_convolution(backbones, images):
    net = build("mmoe", backbones)
    weights = net.last_shared_layer()
    assert [w.shape[0] for w in weights] == [backbones.channels[-1]] * 4
    assert [any(w is p for p in expert.parameters()) for w, expert in zip(weights, net.experts, strict=True)] == [
        True
    ] * 4
    net, balancer = parse_method("mmoe+gradnorm").build(backbones, TASKS)
    balancer.backward(net(images).square().mean((1, 2)), net)
    assert (balancer.gradient_norms > 0).all()


@pytest.mark.parametrize(
    ("option", "message"),
    [("experts=0", "at least 1"), ("after=4", "between 0 and 3"), ("after=-1", "between 0 and 3")],
)
def test_mmoe_refuses_what_makes_no_network(backbones, option, message):
    with pytest.raises(UserError, match=message):
        build(f"mmoe[{option}]", backbones)
