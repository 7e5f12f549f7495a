"""Probes of gradient agreement while a run trains; training goes on as if none had been made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mtlbench.agreement import cosines, gramians, preserved_state
from mtlbench.architecture import Architecture
from mtlbench.devices import named_generator
from mtlbench.probes import Probe
from mtlbench.sampling.contract import Batch, Sampler

_STREAM = "conflict"  # names the random stream of probes; another word would draw other batches


def probe_gradients(
    architecture: Architecture,
    sampler: Sampler,
    losses: Callable[[Batch], Tensor],
    loss: nn.Module,
    *,
    seed: int,
    step: int,
    device: torch.device,
    by_layer: bool,
) -> list[Probe]:
    """Return how the tasks' gradients agree before a step; none where tasks share no parameters.

    The gradients are those of the losses alone, without a balancer's weights and the regulariser, on a batch drawn as a
    step draws it, by the seed and the step's number alone: the same for every method, and for a run that was
    interrupted.

    Args:
        architecture: whose shared parameters are looked at; it is left as it was.
        sampler: draws the batch; it is left as it was.
        losses: a batch -> (T,) losses with their graph.
        loss: the module that they come from; it is left as it was too.
        seed: of the run; step: the step's number.
        device: where networks run.
        by_layer: probe every shared layer too.
    """
    tasks = architecture.tasks
    if len(tasks) < 2 or not architecture.shared_parameters():
        return []
    generators = {task: named_generator(torch.device("cpu"), seed, _STREAM, str(step), task) for task in tasks}
    with preserved_state(architecture, (loss, sampler), device):
        torch.manual_seed(named_generator(torch.device("cpu"), seed, _STREAM, str(step)).initial_seed())
        products = gramians(losses(sampler.draw(generators)), architecture, by_layer)
    return [{"step": step, "layer": layer, "cosines": cosines(gramian)} for layer, gramian in products.items()]
