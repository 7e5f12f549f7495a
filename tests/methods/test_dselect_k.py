"""DSelect-k against the paper's formulas in NumPy, and after training: sparse, exactly."""

from __future__ import annotations

import math

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


def smooth_step(z: np.ndarray, gamma: float) -> np.ndarray:
    inside = -2 / gamma**3 * z**3 + 3 / (2 * gamma) * z + 1 / 2
    return np.where(z <= -gamma / 2, 0, np.where(z >= gamma / 2, 1, inside))


def selector(z: np.ndarray, experts: int, gamma: float = 1.0) -> np.ndarray:
    """Shares of one selector with m numbers z: the product over the bits of each expert's number."""
    shares = []
    for expert in range(experts):
        code = np.binary_repr(expert, width=len(z))
        shares.append(math.prod(s if bit == "1" else 1 - s for s, bit in zip(smooth_step(z, gamma), code, strict=True)))
    return np.array(shares)


def gate_weights(z: np.ndarray, alpha: np.ndarray, experts: int, gamma: float = 1.0) -> np.ndarray:
    softmax = np.exp(alpha) / np.exp(alpha).sum()
    return sum(a * selector(row, experts, gamma) for a, row in zip(softmax, z, strict=True))


def penalty(z: np.ndarray, experts: int, entropy: float) -> float:
    total = 0.0
    for row in z:
        r = selector(row, experts)
        total += entropy * -(r * np.log(np.maximum(r, 1e-300))).sum() + (1 / r.sum() - 1)
    return total


def set_z(gate: nn.Module, z: np.ndarray) -> None:
    with torch.no_grad():
        gate.z.copy_(torch.from_numpy(z).flatten())


def trunk_features(net: Architecture, images: torch.Tensor) -> torch.Tensor:
    for stage in net.trunk:
        images = stage(images)
    return images


# --- the gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1.0, 0.3])
def test_one_bit_between_two_experts_is_the_smooth_step(backbones, gamma):
    gate = build(f"dselect-k[experts=2,k=1,gamma={gamma}]", backbones).gates[0]
    for z in np.linspace(-gamma, gamma, 21):
        gate.zero_grad()
        set_z(gate, np.array([z]))
        ((off, on),) = gate()[0]
        assert on.item() == pytest.approx(smooth_step(np.array(z), gamma).item(), abs=1e-6)
        assert off.item() == pytest.approx(1 - on.item(), abs=1e-6)
        on.backward()
        slope = -6 / gamma**3 * z**2 + 3 / (2 * gamma) if abs(z) < gamma / 2 else 0.0
        assert gate.z.grad.item() == pytest.approx(slope, abs=1e-4)
        if abs(z) >= gamma / 2:  # reached, not approached
            assert on.item() == float(z > 0)


@pytest.mark.parametrize(("experts", "k", "gamma"), [(2, 2, 1.0), (4, 2, 1.0), (8, 3, 0.5), (3, 2, 1.0), (5, 1, 2.0)])
def test_a_gate_mixes_products_of_binary_codes(backbones, experts, k, gamma):
    gate = build(f"dselect-k[experts={experts},k={k},gamma={gamma}]", backbones).gates[0]
    random = np.random.default_rng(0)
    z = random.uniform(-0.7 * gamma, 0.7 * gamma, (k, math.ceil(math.log2(experts))))
    alpha = random.normal(size=k)
    set_z(gate, z)
    if k > 1:
        with torch.no_grad():
            gate.alpha.copy_(torch.from_numpy(alpha))
    with torch.no_grad():
        weights, shares = gate()
    np.testing.assert_allclose(weights[0].numpy(), gate_weights(z, alpha, experts, gamma), atol=1e-6)
    np.testing.assert_allclose(shares[0].numpy(), [selector(row, experts, gamma) for row in z], atol=1e-6)


@pytest.mark.parametrize("experts", [2, 4, 8])
def test_selectors_and_weights_sum_to_1_where_every_code_is_an_expert(backbones, experts):
    gate = build(f"dselect-k[experts={experts},k=2]", backbones).gates[0]
    with torch.no_grad():
        for seed in range(5):
            gate.z.normal_(0, 0.4, generator=torch.Generator().manual_seed(seed))
            weights, shares = gate()
            torch.testing.assert_close(shares.sum(2), torch.ones(1, 2))
            torch.testing.assert_close(weights.sum(1), torch.ones(1))
            assert (shares >= 0).all()


def test_every_code_of_an_expert_selects_it_alone(backbones):
    gate = build("dselect-k[experts=5,k=1]", backbones).gates[0]
    for expert in range(5):
        set_z(gate, np.array([[1.0 if bit == "1" else -1.0 for bit in np.binary_repr(expert, width=3)]]))
        assert gate()[0].tolist() == [[float(i == expert) for i in range(5)]]


def test_gates_start_in_the_middle_and_differ_by_task(backbones):
    net = build("dselect-k", backbones)
    for gate in net.gates:
        assert gate.z.shape == (4,)  # two selectors of two bits
        assert gate.z.abs().max() <= 0.01
        assert gate.alpha.abs().max() <= 0.05
        torch.testing.assert_close(gate()[0], torch.full((1, 4), 0.25), rtol=0, atol=0.01)
    assert not torch.equal(net.gates[0].z, net.gates[1].z)
    assert build("dselect-k[gamma=0.1]", backbones).gates[0].z.abs().max() <= 0.001


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_example", [False, True])
@pytest.mark.parametrize("experts", [3, 4])
def test_a_task_mixes_the_experts_by_its_gate(backbones, images, per_example, experts):
    net = build(f"dselect-k[experts={experts},gamma=0.5,per_example={per_example}]", backbones).eval()
    with torch.no_grad():
        for parameter in net.gates.parameters():  # far from the start, some bits settled
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(parameter.numel()))
        for t, gate in enumerate(net.gates):
            x = trunk_features(net, images[t])
            if per_example:
                means = x.numpy().mean((2, 3))
                z, alpha = (means @ f.weight.numpy().T + f.bias.numpy() for f in (gate.z, gate.alpha))
            else:
                z, alpha = (np.tile(p.numpy(), (len(x), 1)) for p in (gate.z, gate.alpha))
            rows = [gate_weights(z[i].reshape(2, 2), alpha[i], experts, 0.5) for i in range(len(x))]
            outputs = np.stack([expert(x).numpy() for expert in net.experts])
            mixed = torch.from_numpy(np.einsum("be,ebchw->bchw", np.stack(rows), outputs)).float()
            expected = net.heads[t](mixed)
            torch.testing.assert_close(net(images)[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed(images[t])[t], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(net.embed_task(images[t], t), expected, rtol=1e-4, atol=1e-5)


def test_per_example_gates_differ_between_images(backbones, images):
    net = build("dselect-k[per_example=true]", backbones).eval()
    with torch.no_grad():
        weights = net.gates[0](trunk_features(net, images[0]).mean((2, 3)))[0]
    assert weights.shape == (4, 4)
    assert len({tuple(row) for row in weights.tolist()}) == 4


@pytest.mark.parametrize("per_example", [False, True])
def test_with_one_expert_it_is_shared(backbones, images, per_example):
    net, shared = build(f"dselect-k[experts=1,k=1,per_example={per_example}]", backbones), build("shared", backbones)
    net.experts[0][0].load_state_dict(shared.trunk[-1].state_dict())
    torch.testing.assert_close(net(images), shared(images), rtol=1e-5, atol=1e-6)
    assert len(list(net.parameters())) == len(list(shared.parameters()))
    assert net.regulariser() is None


def test_experts_start_as_mmoes(backbones):
    net, mmoe = build("dselect-k", backbones), build("mmoe", backbones)
    for a, b in zip(net.experts.parameters(), mmoe.experts.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_static_gates_tasks_branch_off_the_experts_outputs(backbones, images):
    net = build("dselect-k", backbones)
    embeddings = net.embed(images[0])
    assert net.representation.shape[:2] == (4, 4)  # images, experts
    loss = embeddings.square().sum()
    parameters = list(net.experts.parameters())
    (at,) = torch.autograd.grad(loss, net.representation, retain_graph=True)
    through = torch.autograd.grad(net.representation, parameters, at, retain_graph=True)
    for a, b in zip(through, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(a, b)
    net.eval().embed(images[0])
    assert net.representation is None


# --- the penalties ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("experts", [4, 3, 6])
def test_the_penalty_is_entropy_and_the_reciprocal_of_what_experts_get(backbones, experts):
    net = build(f"dselect-k[experts={experts},k=2,entropy=0.3]", backbones)
    random = np.random.default_rng(1)
    z = random.uniform(-0.45, 0.45, (3, 2, math.ceil(math.log2(experts))))
    for gate, values in zip(net.gates, z, strict=True):
        set_z(gate, values)
    expected = [penalty(values, experts, 0.3) for values in z]
    np.testing.assert_allclose(net.regulariser().detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_penalty_is_0_once_the_bits_are_settled_on_experts(backbones):
    net = build("dselect-k[experts=3,entropy=1]", backbones)
    for gate in net.gates:
        set_z(gate, np.array([[-0.5, 0.6], [0.5, -0.7]]))  # experts 1 and 2
    torch.testing.assert_close(net.regulariser(), torch.zeros(3), rtol=0, atol=1e-5)
    net.regulariser().sum().backward()
    assert not any(gate.z.grad.any() for gate in net.gates)


def test_without_entropy_a_power_of_two_has_no_penalty(backbones):
    torch.testing.assert_close(
        build("dselect-k[entropy=0]", backbones).regulariser(), torch.zeros(3), rtol=0, atol=1e-5
    )


def test_a_tasks_penalty_reaches_its_own_gate_alone(backbones):
    net = build("dselect-k[experts=3]", backbones)
    net.regulariser()[1].backward()
    assert [n for n, p in net.named_parameters() if p.grad is not None and p.grad.any()] == ["gates.1.z"]


def test_the_penalty_of_per_example_gates_is_the_mean_over_the_latest_images(backbones, images):
    net = build("dselect-k[experts=3,entropy=0.3,per_example=true]", backbones)
    assert net.regulariser() is None
    with torch.no_grad():
        for gate in net.gates:
            gate.z.weight.normal_(0, 0.03, generator=torch.Generator().manual_seed(2))
    groups_features = trunk_features(net, images.flatten(0, 1)).unflatten(0, (3, 4))
    alike_features = trunk_features(net, images[0]).expand(3, -1, -1, -1, -1)
    for embed, x in ((lambda: net(images), groups_features), (lambda: net.embed(images[0]), alike_features)):
        embed()
        expected = []
        for gate, means in zip(net.gates, x.detach().numpy().mean((3, 4)), strict=True):
            z = means @ gate.z.weight.detach().numpy().T + gate.z.bias.detach().numpy()
            expected.append(np.mean([penalty(row.reshape(2, 2), 3, 0.3) for row in z]))
            assert expected[-1] > 0.1
        np.testing.assert_allclose(net.regulariser().detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    net.eval()(images)
    assert net.regulariser() is None


# --- after training ---------------------------------------------------------------------------------------------------


def trained_to_choose(net: Architecture, wanted: torch.Tensor) -> Architecture:
    """Train the gates so that their weights come near (T, experts) wanted ones, under the penalties."""
    parameters = list(net.gates.parameters())
    optimiser = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(200):
        optimiser.zero_grad()
        weights = torch.cat([gate()[0] for gate in net.gates])
        ((weights - wanted).square().sum() + net.regulariser().sum()).backward()
        optimiser.step()
    return net.eval()


@pytest.mark.parametrize(("experts", "k"), [(4, 1), (4, 2), (3, 2), (5, 2), (8, 3)])
def test_trained_gates_use_at_most_k_experts_exactly(backbones, images, experts, k):
    net = build(f"dselect-k[experts={experts},k={k},entropy=1]", backbones)
    wanted = torch.rand(3, experts, generator=torch.Generator().manual_seed(experts)).square()
    trained_to_choose(net, wanted / wanted.sum(1, keepdim=True))
    with torch.no_grad():
        weights = torch.cat([gate()[0] for gate in net.gates])
        assert ((weights > 0).sum(1) <= k).all()
        torch.testing.assert_close(weights.sum(1), torch.ones(3))
        for gate in net.gates:
            assert set(gate()[1].flatten().tolist()) == {0.0, 1.0}

        ran: list[int] = []
        for i, expert in enumerate(net.experts):
            expert.register_forward_hook(lambda *_, i=i: ran.append(i))
        embeddings = net.embed(images[0])
        for t in range(3):
            ran.clear()
            torch.testing.assert_close(net.embed_task(images[0], t), embeddings[t], rtol=1e-4, atol=1e-5)
            assert ran == weights[t].nonzero().flatten().tolist()


def test_a_gate_finds_the_two_experts_that_are_worth_it(backbones):
    net = trained_to_choose(
        build("dselect-k[entropy=0.01]", backbones),
        torch.tensor([[0.5, 0.5, 0, 0], [0, 0.3, 0, 0.7], [0, 0, 1.0, 0]]),
    )
    weights = torch.cat([gate()[0] for gate in net.gates]).detach()
    expected = torch.tensor([[0.5, 0.5, 0, 0], [0, 0.3, 0, 0.7], [0, 0, 1.0, 0]])
    torch.testing.assert_close(weights, expected, rtol=0, atol=0.02)


def test_a_selector_leaves_the_code_of_an_expert_that_is_not_there(backbones):
    net = build("dselect-k[experts=3,k=1,entropy=0]", backbones)
    gate = net.gates[0]
    set_z(gate, np.array([[0.4, 0.4]]))  # nearly 11 in binary: expert 3 of 0, 1, 2
    assert gate()[0].sum() < 0.1
    optimiser = torch.optim.SGD(gate.parameters(), lr=1e-3)
    for _ in range(300):
        optimiser.zero_grad()
        net.regulariser()[0].backward()
        optimiser.step()
    assert gate()[0].sum() > 0.9


def test_a_selector_on_no_expert_at_all_stays_finite(backbones, images):
    net = build("dselect-k[experts=3,k=1]", backbones).eval()
    for gate in net.gates:
        set_z(gate, np.array([[1.0, 1.0]]))
    (net(images).square().sum() + net.regulariser().sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert net.regulariser().isfinite().all()
    torch.testing.assert_close(net.embed_task(images[0], 0), net.embed(images[0])[0], rtol=1e-4, atol=1e-5)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_a_static_gate_stores_a_few_numbers(backbones):
    def own(spec: str) -> int:
        net = build(spec, backbones)
        return sum(p.numel() for p in net.task_parameters(0)) - sum(p.numel() for p in net.heads[0].parameters())

    assert own("dselect-k") == 2 * 2 + 2
    assert own("dselect-k[experts=5,k=3]") == 3 * 3 + 3
    assert own("dselect-k[k=1]") == 2
    assert own("dselect-k[per_example=true]") == (backbones.channels[-2] + 1) * (2 * 2 + 2)


def test_gradnorm_measures_at_every_experts_last_convolution(backbones, images):
    net, balancer = parse_method("dselect-k+gradnorm").build(backbones, TASKS)
    assert [w.shape[0] for w in net.last_shared_layer()] == [backbones.channels[-1]] * 4
    balancer.backward(net(images).square().mean((1, 2)), net)
    assert (balancer.gradient_norms > 0).all()


@pytest.mark.parametrize(
    ("option", "message"),
    [("k=0", "between 1 and"), ("k=5", "number of experts, 4"), ("after=4", "between 0 and 3"), ("gamma=0", "above 0"),
     ("entropy=-1", "at least 0"), ("experts=0", "between 1 and")],
)  # fmt: skip
def test_it_refuses_what_makes_no_gate(backbones, option, message):
    with pytest.raises(UserError, match=f"dselect-k: .*{message}"):
        build(f"dselect-k[{option}]", backbones)
