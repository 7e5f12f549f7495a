"""All costs of a method on a benchmark, measured on a run made for it."""

from __future__ import annotations

from torch import Tensor

from mtlbench import cost
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.networks import EMBEDDING_BATCH, state_of
from mtlbench.specs import Method
from mtlbench.training.loop import Trainer


def measure(method: Method, benchmark: Benchmark, dataset: Dataset, precision: str) -> cost.Costs:
    """Measure all costs of a method; see `cost`. Memory is left out on devices that can't tell it.

    Raises:
        UserError: the method can't be built for this benchmark.
    """
    trainer = Trainer(method, benchmark, dataset, 0, precision)
    architecture, device, val = trainer.architecture, dataset.device, dataset.members("val")
    costs = cost.storage(architecture) | cost.added_by_one_task(method, benchmark, dataset.tasks)
    costs["file_bytes"] = cost.file_size(architecture)
    costs |= cost.operations(architecture, dataset.batch(val[:1]))
    costs |= cost.training_rate(trainer.step, trainer.images_per_step, device)
    costs |= cost.embedding_rates(architecture, dataset.batch(val.repeat(EMBEDDING_BATCH)[:EMBEDDING_BATCH]), precision)
    in_training = sum(p.numel() for module in (trainer.loss, trainer.balancer) for p in module.parameters())
    if in_training:
        costs["training_parameters"] = in_training
    memory = memory_of(trainer)
    return costs if memory is None else costs | {"training_memory": memory}


def memory_of(trainer: Trainer) -> int | None:
    """Return the peak bytes of one training step, what a run keeps between steps included; see `cost.training_memory`.

    That is parameters and buffers of network, balancer and loss, and the optimiser's state.
    """
    kept: list[Tensor] = []
    for module in (trainer.architecture, trainer.loss):
        kept += [*module.parameters(), *module.buffers()]
    kept += state_of(trainer.balancer).values()  # what it remembers outside of buffers too
    for values in trainer.optimiser.state.values():
        kept += [t for t in values.values() if isinstance(t, Tensor)]
    trainer.optimiser.zero_grad(set_to_none=True)
    return cost.training_memory(trainer.step, kept, trainer.dataset.device)
