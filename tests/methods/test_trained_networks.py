"""Trained networks against each paper's formula in numpy: features and parameters as a run makes them, not as drawn.

A method's own part is written anew, in double precision, from its weights; the backbone's stages are taken as they are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import make_dataset, protocol
from torch import nn

from mtlbench import Architecture
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

Array = NDArray[np.float64]
TASKS = ("colour", "shape")
STEPS = 12


def trained(spec: str) -> tuple[Architecture, torch.Tensor]:
    """A network after a short run with its own vectors' rate raised, and test images of the run's data."""
    dataset = make_dataset()
    settings = protocol(f"train.steps={STEPS}", "train.optimiser=adam", "train.lr=0.01")
    trainer = Trainer(parse_method(spec), settings, dataset, 0, "fp32")
    for _ in range(STEPS):
        trainer.step()
    architecture: Architecture = trainer.architecture.eval()
    return architecture, dataset.batch(dataset.members("test")[:6])


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().double().numpy()


def run(module: nn.Module, features: Array) -> Array:
    with torch.no_grad():
        return array(module(torch.from_numpy(features).float()))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def softmax(x: Array) -> Array:
    shares = np.exp(x - x.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def spatial(vector: Array, features: Array) -> Array:
    return vector.reshape(*vector.shape, *[1] * (features.ndim - vector.ndim))


def walked(change: Callable[[Architecture, int, int, Array], Array]) -> Callable[[Architecture, Array, int], Array]:
    """One network whose layers' outputs a task changes: stages from 1, then the embedding."""

    def embedded(net: Architecture, images: Array, task: int) -> Array:
        x = images
        for n, stage in enumerate([*net.net.stages, net.net.head], 1):
            x = run(stage, x)
            if n in net.chosen:
                x = change(net, n, task, x)
        return x

    return embedded


def modulation(net: Architecture, n: int, t: int, x: Array) -> Array:
    return x * spatial(relu(array(net.get_parameter(f"scales.{n}.{t}")))[None], x)


def film(net: Architecture, n: int, t: int, x: Array) -> Array:
    scale, shift = array(net.get_parameter(f"rows.{n}.{t}"))
    return x * spatial(scale[None], x) + spatial(shift[None], x)


def channel_mixing(net: Architecture, n: int, t: int, x: Array) -> Array:
    return np.einsum("oc,bc...->bo...", array(net.get_parameter(f"matrices.{n}.{t}")), x)


def task_se(net: Architecture, n: int, t: int, x: Array) -> Array:
    w1, b1, w2, b2 = (array(p) for p in net.gates[t][str(n)].parameters())
    hidden = relu(x.mean((2, 3)) @ w1.T + b1)
    return x * spatial(sigmoid(hidden @ w2.T + b2), x)


def masked(net: Architecture, images: Array, task: int) -> Array:
    """CSN: a mask per task, through a ReLU, on the embedding."""
    return run(net.net, images) * relu(array(net.masks[task].values))


def scaled(net: Architecture, images: Array, task: int) -> Array:
    return run(net.net, images) * array(net.masks[task].values)


def cross_stitch(net: Architecture, images: Array, task: int) -> Array:
    columns = [images] * len(net.tasks)
    for n, stages in enumerate(zip(*net.columns, strict=True)):
        columns = [run(stage, x) for stage, x in zip(stages, columns, strict=True)]
        if n < len(net.units):
            columns = list(np.einsum("ts,sbchw->tbchw", array(net.units[n]), np.stack(columns)))
    return run(net.heads[task], columns[task])


def nddr(net: Architecture, images: Array, task: int) -> Array:
    columns = [images] * len(net.tasks)
    for n, stages in enumerate(zip(*net.columns, strict=True)):
        together = np.concatenate([run(stage, x) for stage, x in zip(stages, columns, strict=True)], axis=1)
        columns = []
        for own in net.layers:
            conv, norm, _ = own[n]
            x = np.einsum("oc,bchw->bohw", array(conv.weight)[:, :, 0, 0], together)
            x = (x - spatial(array(norm.running_mean)[None], x)) / np.sqrt(
                spatial(array(norm.running_var)[None], x) + 1e-3
            )
            columns.append(relu(x * spatial(array(norm.weight)[None], x) + spatial(array(norm.bias)[None], x)))
    return run(net.heads[task], columns[task])


def mmoe(net: Architecture, images: Array, task: int) -> Array:
    x = run(nn.Sequential(*net.trunk), images)
    shares = softmax(x.mean((2, 3)) @ array(net.gates[task].weight).T)
    mixed = np.einsum("be,ebchw->bchw", shares, np.stack([run(expert, x) for expert in net.experts]))
    return run(net.heads[task], mixed)


def gated_experts(gates: list[Array], x: Array, outputs: list[Array]) -> Array:
    shares = softmax(x.mean((2, 3)) @ np.concatenate(gates).T)
    return np.einsum("be,ebchw->bchw", shares, np.stack(outputs))


def ple(net: Architecture, images: Array, task: int) -> Array:
    shared = run(nn.Sequential(*net.trunk), images)
    own = [shared] * len(net.tasks)
    for n, level in enumerate(net.levels, 1):
        of_shared = [run(expert, shared) for expert in level.shared]
        of_tasks = [[run(expert, x) for expert in experts] for experts, x in zip(level.own, own, strict=True)]
        gates = [array(gate.weight) for gate in level.gates]
        own = [
            gated_experts([gate], x, [*outputs, *of_shared])
            for gate, x, outputs in zip(gates, own, of_tasks, strict=True)
        ]
        if n < len(net.levels):
            rows = [array(gate.weight) for gate in level.shared_gates]
            shared = gated_experts(rows, shared, [*(y for outputs in of_tasks for y in outputs), *of_shared])
    return run(net.heads[task], own[task])


def convolved(layer: nn.Sequential, x: Array) -> Array:
    """Convolution with zeros around, then batch norm by the running statistics."""
    conv, norm = layer[0], layer[1]
    weight = array(conv.weight)
    edge = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], axis=(2, 3))
    x = np.einsum("bchwij,ocij->bohw", windows, weight) - spatial(array(norm.running_mean)[None], padded)
    x = x / np.sqrt(spatial(array(norm.running_var)[None], x) + norm.eps)
    return x * spatial(array(norm.weight)[None], x) + spatial(array(norm.bias)[None], x)


def largest(x: Array, size: tuple[int, ...]) -> Array:
    """The maximum of the windows of 2 x 2 that lead to a size: side by side where it is half, else as far apart."""
    steps = [before // after for before, after in zip(x.shape[2:], size, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3)).max((4, 5))[
        :, :, :: steps[0], :: steps[1]
    ]
    assert windows.shape[2:] == size
    return windows


def mtan(net: Architecture, images: Array, task: int) -> Array:
    features, outputs = images, []
    for stage in net.trunk:
        features = run(stage, features)
        outputs.append(features)
    seen = outputs[0]
    for n, p in enumerate(outputs):
        attention = net.attention[task][n]
        attended = sigmoid(convolved(attention[3:], relu(convolved(attention[:3], seen)))) * p
        passed = relu(convolved(net.passing[n], attended))
        if n + 1 < len(outputs):
            after = outputs[n + 1]
            seen = np.concatenate([after, largest(passed, after.shape[2:])], axis=1)
    return run(net.heads[task], passed)


def dselect_k(net: Architecture, images: Array, task: int) -> Array:
    """Selectors by the paper's smooth-step, gamma 1, and binary codes; gates are numbers or functions of means."""
    x = run(nn.Sequential(*net.trunk), images)
    means = x.mean((2, 3))

    def value(part: nn.Module | nn.Parameter) -> Array:
        return array(part)[None] if isinstance(part, nn.Parameter) else means @ array(part.weight).T + array(part.bias)

    z, alpha = value(net.gates[task].z), value(net.gates[task].alpha)
    z = z.reshape(len(z), alpha.shape[1], -1)  # (1 or B, k, m)
    bits = np.where(z <= -0.5, 0, np.where(z >= 0.5, 1, -2 * z**3 + 1.5 * z + 0.5))
    shares = np.stack(
        [
            np.prod([bits[..., n] if bit == "1" else 1 - bits[..., n] for n, bit in enumerate(code)], axis=0)
            for code in (np.binary_repr(expert, bits.shape[-1]) for expert in range(len(net.experts)))
        ],
        axis=-1,
    )
    weights = np.broadcast_to((softmax(alpha)[..., None] * shares).sum(1), (len(x), len(net.experts)))
    mixed = np.einsum("be,ebchw->bchw", weights, np.stack([run(expert, x) for expert in net.experts]))
    return run(net.heads[task], mixed)


def branched(net: Architecture, images: Array, task: int) -> Array:
    """The first stages, then the task's own; a narrow embedding has zeros behind it."""
    x = images
    for layer in (*net.trunk, *net.branches[task]):
        x = run(layer, x)
    return np.pad(x, ((0, 0), (0, 8 - x.shape[1])))


FORMULAS = {
    "modulation[rate=10]": walked(modulation),
    "film[rate=10]": walked(film),
    "channel-mixing": walked(channel_mixing),
    "embedding-mask[rate=10]": scaled,
    "csn": masked,
    "cross-stitch[rate=10]": cross_stitch,
    "nddr": nddr,
    "mmoe[experts=3,rate=10]": mmoe,
    "cgc[own=2,shared=2,rate=10]": ple,
    "ple[rate=10]": ple,
    "mtan[rate=10]": mtan,
    "dselect-k[experts=4,rate=10]": dselect_k,
    "dselect-k[experts=3,per_example=true,rate=10]": dselect_k,
    "branched": branched,
    "branched[at=2,embedding=narrow]": branched,
}


def gated(net: Architecture, images: Array, task: int) -> Array:
    x = images
    for n, stage in enumerate(net.net.stages, 1):
        x = run(stage, x)
        if n in net.chosen:
            x = task_se(net, n, task, x)
    return run(net.net.head, x)


FORMULAS["task-se"] = gated


def test_every_architecture_with_a_part_of_its_own_has_a_formula_here() -> None:
    """The others are a backbone, alone or once a task, or with a head a task."""
    load_plugins()
    written = {parse_method(spec).architecture for spec in FORMULAS}
    assert set(ARCHITECTURES) == written | {"single", "independent", "shared"}


@pytest.mark.slow
@pytest.mark.parametrize("spec", FORMULAS)
def test_a_trained_network_is_what_the_paper_writes(spec: str) -> None:
    net, images = trained(spec)
    with torch.no_grad():
        found = array(net.embed(images))
    expected = np.stack([FORMULAS[spec](net, array(images), t) for t in range(len(net.tasks))])
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * size)
    assert np.abs(found[0] - found[1]).max() > 1e-3 * size  # training has told the tasks apart
