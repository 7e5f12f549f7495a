"""Measures all costs of a method on a benchmark, on a trainer built for this purpose."""

from __future__ import annotations

from torch import Tensor

from mtlbench import cost
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.networks import EMBEDDING_BATCH, load_weights, state_of
from mtlbench.specs import Method
from mtlbench.training.loop import Trainer


def measure(
    method: Method, benchmark: Benchmark, dataset: Dataset, precision: str, weights: dict[str, Tensor] | None = None
) -> cost.Costs:
    """Measure all costs of a method; see `cost`. Memory is left out on devices that don't report it.

    Training costs are measured on the network as it starts. Embedding costs are measured on the trained network, since
    what it learned may decide how much of it runs.

    Args:
        method: what to build; benchmark, dataset, precision: what it runs on.
        weights: of the chosen checkpoint, as `cost.weights_of` returns them; None measures the network as it starts.

    Raises:
        UserError: the method can't be built for this benchmark.
        KeyError, RuntimeError: the weights do not fit the method.
    """
    trainer = Trainer(method, benchmark, dataset, 0, precision)
    architecture, device, val = trainer.architecture, dataset.device, dataset.members("val")
    start = {name: tensor.detach().clone() for name, tensor in cost.weights_of(architecture).items()}
    costs = cost.storage(architecture) | cost.added_by_one_task(method, benchmark, dataset.tasks)
    costs["file_bytes"] = cost.file_size(architecture)
    costs |= cost.training_rate(trainer.step, trainer.images_per_step, device)
    in_training = sum(p.numel() for module in (trainer.loss, trainer.balancer) for p in module.parameters())
    if in_training:
        costs["training_parameters"] = in_training
    memory = memory_of(trainer)
    if memory is not None:
        costs["training_memory"] = memory
    load_weights(architecture, start if weights is None else weights)
    costs |= cost.operations(architecture, dataset.batch(val[:1]))
    many = dataset.batch(val.repeat(EMBEDDING_BATCH)[:EMBEDDING_BATCH])
    return costs | cost.embedding_rates(architecture, many, precision)


def memory_of(trainer: Trainer) -> int | None:
    """Return the peak bytes of one training step, including what a run keeps between steps.

    Kept between steps are parameters and buffers of network, balancer and loss, and the optimiser's state. See
    `cost.training_memory`.
    """
    kept: list[Tensor] = []
    for module in (trainer.architecture, trainer.loss):
        kept += [*module.parameters(), *module.buffers()]
    kept += state_of(trainer.balancer).values()  # including state that the balancer keeps outside of buffers
    for values in trainer.optimiser.state.values():
        kept += [t for t in values.values() if isinstance(t, Tensor)]
    trainer.optimiser.zero_grad(set_to_none=True)
    return cost.training_memory(trainer.step, kept, trainer.dataset.device)
