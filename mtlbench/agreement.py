"""How the tasks' gradients agree on what they share: the cosine between every two, off the path of training.

When a probe is made, and on which batch, is decided in `training`; its numbers are kept as `probes` says.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.probes import ALL


def gramians(losses: Tensor, architecture: Architecture, by_layer: bool = False) -> dict[str, Tensor]:
    """Return the inner products of the tasks' gradients on the shared parameters, (T, T) float64 each.

    Those of all shared parameters together are under `all`; with `by_layer`, those of each module that holds some are
    under its name. A shared parameter that a task's loss does not reach counts with a gradient of 0. Empty where
    nothing is shared. All T gradients are held at once: T times the memory of the shared parameters.

    Args:
        losses: (T,) with their graph, which is kept.
        architecture: whose parameters they came from.
        by_layer: also by module.
    """
    names = {id(p): name for name, p in architecture.named_parameters()}
    shared = [p for p in architecture.shared_parameters() if p.requires_grad]
    if not shared:
        return {}
    each = [torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True) for loss in losses]
    found = {ALL: losses.new_zeros(len(losses), len(losses), dtype=torch.float64)}
    for parameter, gradients in zip(shared, zip(*each, strict=True), strict=True):
        rows = torch.stack([(torch.zeros_like(parameter) if g is None else g).flatten() for g in gradients]).double()
        products = rows @ rows.t()
        found[ALL] += products
        if by_layer:
            name = names[id(parameter)]
            layer = name.rpartition(".")[0] or name
            found[layer] = found[layer] + products if layer in found else products
    return found


def cosines(gramian: Tensor) -> list[float | None]:
    """Return the cosine of every two gradients from their inner products, (T, T), in `probes.pairs`' order; see
    `probes.Probe`."""
    lengths = gramian.diagonal().sqrt()
    first, second = torch.triu_indices(len(gramian), len(gramian), 1, device=gramian.device)
    found = (gramian[first, second] / (lengths[first] * lengths[second])).clamp(-1, 1).tolist()
    return [float(f"{c:.6g}") if math.isfinite(c) else None for c in found]  # six figures keep the sign, at any size


@contextlib.contextmanager
def preserved_state(architecture: Architecture, others: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Put back, in the end, what a pass through a network and others, such as its loss, in training changes.

    That is their buffers (running statistics), the network's mode and representation, and torch's random states.
    Gradients taken with `torch.autograd.grad` leave `.grad` alone by themselves.
    """
    modules = [module for one in (architecture, *others) for module in one.modules()]
    buffers = [(m, name, b, b.clone()) for m in modules for name, b in m.named_buffers(recurse=False)]
    training, left = architecture.training, (architecture.representation, architecture.views)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for module, name, buffer, value in buffers:
            setattr(module, name, buffer.copy_(value))  # a module may have put another tensor in its place
        architecture.train(training)
        architecture.representation, architecture.views = left
