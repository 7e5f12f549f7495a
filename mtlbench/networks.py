"""Networks as runs use them: built for a benchmark, embedding images, saved and loaded by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.backbones.weights import is_frozen
from mtlbench.balancer import Balancer
from mtlbench.benchmark import Benchmark
from mtlbench.blame import breach
from mtlbench.data.dataset import Dataset
from mtlbench.devices import computing_in
from mtlbench.registry import ARCHITECTURES
from mtlbench.returned import ROUNDING, check_embeddings
from mtlbench.specs import Method

EMBEDDING_BATCH = 256


def build(method: Method, benchmark: Benchmark, tasks: tuple[str, ...], seed: int) -> tuple[Architecture, Balancer]:
    """Build a method's architecture and balancer for a benchmark, on torch's default device.

    Raises:
        UserError: see `BackboneFactory` and `Method.build`.
    """
    model = benchmark.model
    backbones = BackboneFactory(
        model.backbone,
        benchmark.data.size,
        model.embedding,
        seed,
        model.pretrained,
        model.freeze,
        model.pretrained_rate,
    )
    with torch.random.fork_rng(devices=[]):  # what a method draws itself depends on the seed alone
        torch.default_generator.manual_seed(seed)
        return method.build(backbones, tasks)


def tensors_by_task(architecture: Architecture) -> list[list[str]] | None:
    """Return the names of each task's tensors, as `state_of` has them; None unless every tensor is one task's alone.

    Frozen stages are in each list: they are the same in every checkpoint, whoever has them. An architecture declares
    the rest by its `task_state`, and that nothing passes between its parts by `mixes_tasks`.
    """
    if architecture.mixes_tasks:
        return None
    names = {id(tensor): name for name, tensor in state_of(architecture).items()}
    kept = [t for m in architecture.modules() if is_frozen(m) for t in (*m.parameters(False), *m.buffers(False))]
    fixed = [names.pop(i) for i in dict.fromkeys(map(id, kept)) if i in names]
    owned = []
    for task in range(len(architecture.tasks)):
        parts = architecture.task_state(task)
        tensors = [t for p in parts for t in ([p] if isinstance(p, nn.Parameter) else state_of(p).values())]
        owned.append(list(dict.fromkeys(names[id(tensor)] for tensor in tensors if id(tensor) in names)))
    every = [name for mine in owned for name in mine]
    return [[*mine, *fixed] for mine in owned] if len(every) == len(set(every)) == len(names) else None


@torch.no_grad()
def embed_images(architecture: Architecture, dataset: Dataset, index: Tensor, precision: str, size: int = -1) -> Tensor:
    """Embed images under every task, each once, in evaluation mode: (n,) indices -> (T, n, D) float32.

    Raises:
        ContractError: the architecture returns something else, or another D than `size`; -1 takes any.
    """
    was_training = architecture.training
    architecture.eval()
    parts = []
    with computing_in(precision, dataset.device):
        for part in index.split(EMBEDDING_BATCH):
            found = architecture.embed(dataset.batch(part))
            check_embeddings(architecture, found, (len(dataset.tasks), len(part), size), "embed")
            parts.append(found.float())
    architecture.train(was_training)
    return torch.cat(parts, dim=1)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state by name, each tensor once, under its first name, whatever other names it has."""
    names: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    for name, tensor in state.items():
        names.setdefault(id(tensor), name)
    return {name: state[name] for name in names.values()}


def deployed_state(module: nn.Module) -> dict[str, Tensor]:
    """Return `state_of` a module without batch norm's step counters, which only training reads."""
    return {name: tensor for name, tensor in state_of(module).items() if not name.endswith("num_batches_tracked")}


def load_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load what `state_of` returned.

    Raises:
        KeyError: a name is missing or unknown.
    """
    if state.keys() != state_of(module).keys():
        raise KeyError(f"other names than the module's: {sorted(state.keys() ^ state_of(module).keys())[:3]}")
    module.load_state_dict(state, strict=False)


def load_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load the weights that a run left, a `deployed_state`.

    Raises:
        KeyError: a name is missing or unknown.
        RuntimeError: a shape is another.
    """
    wanted = deployed_state(module).keys()
    if weights.keys() != wanted:
        raise KeyError(f"other names than the module's: {sorted(weights.keys() ^ wanted)[:3]}")
    module.load_state_dict(weights, strict=False)


def check_restored(
    new: Architecture, weights: Mapping[str, Tensor], embeddings: Tensor, embed: Callable[[Architecture], Tensor]
) -> None:
    """Refuse a trained network that its weights don't bring back: no file would hold what was measured.

    Args:
        new: the network, built again; weights: of the trained one, by name.
        embeddings: (T, n, D) of some images by the trained one; embed: embeds the same images.

    Raises:
        ContractError: other weights, or embeddings that differ by more than rounding.
    """
    cls, must = type(new), "keep all that it learns or draws in nn.Parameters and buffers made in __init__"
    try:
        load_weights(new, dict(weights))
    except (KeyError, RuntimeError) as error:
        raise breach(ARCHITECTURES, cls, must, f"weights that don't fit a new one ({error})", cls) from error
    gap, largest = float((embed(new) - embeddings).abs().max()), float(embeddings.abs().max())
    if gap > ROUNDING * largest:
        found = f"elsewhere: built again with its weights, its embeddings differ by {gap:.2g} of {largest:.2g}"
        raise breach(ARCHITECTURES, cls, must, found, cls)
