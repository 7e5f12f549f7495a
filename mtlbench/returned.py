"""What things of every kind return, held against their contracts: a run says at once what came instead.

A shape costs a step microseconds to look at. Values are looked at in the first batch alone: on a GPU that waits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.blame import breach, said
from mtlbench.errors import counted
from mtlbench.learned import Learned
from mtlbench.names import joined
from mtlbench.registry import (
    ARCHITECTURES,
    AUGMENTATIONS,
    BACKBONES,
    BALANCERS,
    LOSSES,
    METRICS,
    OPTIMISERS,
    SAMPLERS,
    Registry,
)
from mtlbench.unsaved import print_of

if TYPE_CHECKING:
    from mtlbench.architecture import Architecture
    from mtlbench.backbones.contract import BackboneFactory, BackboneKind
    from mtlbench.balancer import Balancer
    from mtlbench.losses.contract import Loss
    from mtlbench.sampling.contract import Batch, Sampler


ROUNDING = 0.05  # of the largest number of embeddings: bfloat16 and compiled networks stay far below


def _is(found: object, shape: Sequence[int]) -> TypeGuard[Tensor]:
    """Whether something is a tensor of real floating-point numbers of a shape, in which -1 is any number."""
    return (
        isinstance(found, Tensor)
        and found.is_floating_point()
        and len(found.shape) == len(shape)
        and all(there == wanted or wanted == -1 for there, wanted in zip(found.shape, shape, strict=True))
    )


def check_embeddings(
    architecture: Architecture, found: object, shape: Sequence[int], name: str, *, graph: bool = False
) -> None:
    """Refuse what an architecture returned if it is no embeddings of a shape.

    Args:
        architecture: whose.
        found: what it returned.
        shape: (T, B, D), or (B, D) from `embed_task`.
        name: the method that returned it: `forward`, `embed` or `embed_task`.
        graph: in training: gradients must reach the network.

    Raises:
        ContractError: with what was expected and what came.
    """
    cls = type(architecture)
    axes = "tasks × images × model.embedding" if len(shape) == 3 else "images × model.embedding"
    if not _is(found, shape):
        must = f"return a float tensor of shape {tuple(shape)}, {axes}, from {name}"
        raise breach(ARCHITECTURES, cls, must, found, getattr(cls, name))
    if graph and not found.requires_grad:
        must = f"return embeddings from {name} that gradients flow back from"
        raise breach(ARCHITECTURES, cls, must, "detached ones", getattr(cls, name))


def check_architecture(architecture: Architecture) -> None:
    """Refuse an architecture that says something else of its parts than the contract allows.

    Raises:
        ContractError: with what was expected and what came.
    """
    cls, own = type(architecture), {id(p) for p in architecture.parameters()}
    for task in range(len(architecture.tasks)):
        parts: Any = architecture.task_state(task)
        must = "return a list or tuple of its own modules and parameters from task_state"
        if not isinstance(parts, Iterable) or isinstance(parts, Tensor):
            raise breach(ARCHITECTURES, cls, must, parts, cls.task_state)
        for part in parts:
            if not isinstance(part, nn.Module | nn.Parameter):
                raise breach(ARCHITECTURES, cls, must, f"one with {said(part)} in it", cls.task_state)
            if not own.issuperset(map(id, [part] if isinstance(part, nn.Parameter) else part.parameters())):
                raise breach(ARCHITECTURES, cls, must, "parameters that the network does not have", cls.task_state)
    layer: Any = architecture.last_shared_layer()
    must = "return a list or tuple of parameters from last_shared_layer"
    if not isinstance(layer, Sequence) or not all(isinstance(p, Tensor) for p in layer):
        raise breach(ARCHITECTURES, cls, must, layer, cls.last_shared_layer)


def check_scales(registry: Registry[Any], module: Architecture | Balancer, found: object) -> Mapping[str, float]:
    """Return the multiples of the learning rate of an architecture or a balancer, as its registry says.

    Raises:
        ContractError: they are no numbers by name.
    """
    cls = type(module)
    if not isinstance(found, Mapping) or not all(isinstance(scale, int | float) for scale in found.values()):
        must = "return a dict of names to numbers from learning_rate_scales"
        raise breach(registry, cls, must, found, cls.learning_rate_scales)
    return found


def check_learned(architecture: Architecture) -> Sequence[Learned]:
    """Return what an architecture says that it learned.

    Raises:
        ContractError: that is no sequence of `Learned`, or names tensors that the network does not have.
    """
    cls, found = type(architecture), architecture.learned()
    must = "return a list or tuple of mtlbench.Learned from learned"
    if not isinstance(found, Sequence) or not all(isinstance(one, Learned) for one in found):
        raise breach(ARCHITECTURES, cls, must, found, cls.learned)
    known = architecture.state_dict().keys()
    unknown = [name for one in found for name in one.tensors if name not in known]
    if unknown:
        must = "name tensors of its state_dict in learned"
        raise breach(ARCHITECTURES, cls, must, f"'{unknown[0]}'", cls.learned)
    return found


def check_regulariser(architecture: Architecture, found: object) -> None:
    """Refuse a penalty that is not one per task.

    Raises:
        ContractError: with what was expected and what came.
    """
    cls, shape = type(architecture), (len(architecture.tasks),)
    if found is not None and not _is(found, shape):
        must = f"return None or a float tensor of shape {shape}, a penalty per task, from regulariser"
        raise breach(ARCHITECTURES, cls, must, found, cls.regulariser)


def check_weights(balancer: Balancer, found: object, tasks: int, gradients: Sequence[Tensor]) -> Tensor:
    """Return the weights that a balancer used, detached.

    Args:
        balancer: whose.
        found: what `backward` returned.
        tasks: T.
        gradients: those that it left in the network's parameters.

    Raises:
        ContractError: it returned something else, or left no gradient.
    """
    cls = type(balancer)
    if not _is(found, (tasks,)):
        must = f"return a float tensor of shape {(tasks,)}, the weight of each task, from backward"
        raise breach(BALANCERS, cls, must, found, cls.backward)
    if not gradients:
        must = "leave gradients in the network's parameters in backward"
        raise breach(BALANCERS, cls, must, "none: nothing would be trained", cls.backward)
    norms: object = balancer.gradient_norms
    if norms is not None and not _is(norms, (tasks,)):
        must = f"hold None or a float tensor of shape {(tasks,)} as gradient_norms"
        raise breach(BALANCERS, cls, must, norms, cls.backward)
    return found.detach()


def check_losses(loss: Loss, found: object, tasks: int, *, finite: bool) -> Tensor:
    """Return a batch's losses.

    Args:
        loss: whose.
        found: what it returned.
        tasks: T.
        finite: they must be: nothing has been trained, and the embeddings are.

    Raises:
        ContractError: they are no (T,) tensor with a graph, or not finite.
    """
    cls = type(loss)
    if not _is(found, (tasks,)):
        must = f"return a float tensor of shape {(tasks,)}, one loss per task, from forward"
        raise breach(LOSSES, cls, must, found, cls.forward)
    if torch.is_grad_enabled() and not found.requires_grad:
        must = "return losses from forward that gradients flow back from"
        raise breach(LOSSES, cls, must, "detached ones", cls.forward)
    if finite and not found.isfinite().all():
        must = "return finite losses from forward for the finite embeddings of the first batch"
        raise breach(LOSSES, cls, must, f"{found.tolist()}", cls.forward)
    return found


def check_batch(sampler: Sampler, found: object, tasks: int, device: torch.device) -> Batch:
    """Return a batch.

    Raises:
        ContractError: it is none, or its tensors don't fit each other or the sampler's `images_per_step`.
    """
    from mtlbench.sampling.contract import Batch

    cls = type(sampler)

    def refuse(must: str, what: object) -> Exception:
        return breach(SAMPLERS, cls, must, what, cls.draw)

    if not isinstance(found, Batch):
        raise refuse("return a Batch from draw", found)
    images: object = found.images
    shapes = f"(B, 3, H, W), or ({tasks}, B, 3, H, W)"
    floats = isinstance(images, Tensor) and images.is_floating_point()
    if not (floats and found.images.dim() in (4, 5) and found.images.shape[-3] == 3):
        raise refuse(f"draw images of shape {shapes}", images)
    if not found.joint and len(found.images) != tasks:
        raise refuse(f"draw images of shape {shapes}", images)
    size = found.images.shape[-4]
    drawn = size if found.joint else tasks * size
    if drawn != sampler.images_per_step:
        raise refuse(f"draw images_per_step = {counted(sampler.images_per_step, 'image')} at every step", f"{drawn}")
    for name, wanted, dtype in (
        ("labels", (tasks, size), torch.int64),
        ("triplets", None, torch.int64),
        ("possible", (tasks,), torch.bool),
    ):
        part: object = getattr(found, name)
        if part is None and name != "labels":
            continue
        words = f"draw {name} of shape {wanted or f'({tasks}, n, 3)'} and type {str(dtype).removeprefix('torch.')}"
        if not isinstance(part, Tensor) or part.dtype != dtype:
            raise refuse(words, part)
        shape = tuple(part.shape)
        if shape != wanted if wanted else (part.dim() != 3 or shape[::2] != (tasks, 3)):
            raise refuse(words, part)
        if part.device != device:
            raise refuse(f"draw {name} on the device of the source's labels, {device}", f"on {part.device}")
    return found


def check_chance(registry: Registry[Any], target: Any, draw: Callable[..., Any], *given: Any) -> Any:
    """Return what something that draws by given generators returns.

    Args:
        registry: of its kind; target: the registered class or function.
        draw: is called; given: with these.

    Raises:
        ContractError: it drew from a global generator, which does not follow the run's seed, or differs by method.
    """
    before = _global_states()
    found = draw(*given)
    for name, state in _global_states().items():
        if state != before[name]:
            raise breach(registry, target, "draw with the given generators alone", f"with {name}'s global one", draw)
    return found


def _global_states() -> dict[str, int]:
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    states = {"torch": (torch.get_rng_state(), cuda), "NumPy": np.random.get_state(), "Python": random.getstate()}
    return {name: print_of(state) for name, state in states.items()}


def check_repeated(sampler: Sampler, same: bool, changed: Sequence[str]) -> None:
    """Refuse a sampler that drew from generators in one state, and with the same buffers, otherwise the second time.

    Args:
        sampler: which; same: whether both batches are equal.
        changed: the attributes that differ after the second draw, though they are in no checkpoint.

    Raises:
        ContractError: it draws by another chance, or has memory that no checkpoint holds.
    """
    cls = type(sampler)
    if changed:
        must = "keep what it remembers in buffers (self.register_buffer)"
        raise breach(SAMPLERS, cls, must, f"in {joined(changed, 4)}, which no checkpoint holds", cls.draw)
    if not same:
        must = "draw the same batch under equal generators (draw with the given ones alone)"
        raise breach(SAMPLERS, cls, must, "another one the second time", cls.draw)


def check_drawn(cls: type[Sampler], index: Tensor, training: Tensor) -> None:
    """Refuse to load images that are not for training: those of the other splits must not reach a network in training.

    Args:
        cls: of the sampler that asks for them.
        index: (n,) of the images; looking at one on a GPU waits, so samplers draw on the CPU.
        training: (N,) bool on the CPU, which images are of the training split.

    Raises:
        ContractError: one is of another split.
    """
    others = int((~training[index.cpu()]).sum())
    if others:
        found = f"{counted(others, 'image')} of the validation and test splits among {len(index):,}"
        raise breach(SAMPLERS, cls, "draw training images alone (source.images)", found, cls.draw)


def check_indices(sampler: Sampler, batch: Batch, values: Sequence[int]) -> None:
    """Refuse a batch's labels and triplets that stand for nothing, before a loss looks there.

    Args:
        sampler: of the batch.
        batch: has the right shapes.
        values: how many label values each task has.

    Raises:
        ContractError: with what was expected and what came.
    """
    cls = type(sampler)
    for row, number in zip(batch.labels, values, strict=True):
        low, high = int(row.min()), int(row.max())
        if low < -1 or high >= number:
            must = f"draw labels from -1 to {number - 1} for a task of {counted(number, 'value')}"
            raise breach(SAMPLERS, cls, must, f"from {low} to {high}", cls.draw)
    if batch.triplets is not None and batch.triplets.numel():
        low, high, size = int(batch.triplets.min()), int(batch.triplets.max()), batch.images.shape[-4]
        if low < 0 or high >= size:
            must = f"draw triplets of indices from 0 to {size - 1} into the batch"
            raise breach(SAMPLERS, cls, must, f"from {low} to {high}", cls.draw)


def check_finite(architecture: Architecture, sampler: Sampler, images: Tensor, backbones: BackboneFactory) -> None:
    """Say who made embeddings of the first batch infinite or not a number, though nothing has been trained.

    Args:
        architecture: whose embeddings they are.
        sampler: that drew the images.
        images: (…, 3, H, W).
        backbones: of the architecture.

    Raises:
        ContractError: always.
    """
    found = "inf or nan"
    if not images.isfinite().all():
        raise breach(SAMPLERS, type(sampler), "draw finite images", found, type(sampler).draw)
    with torch.no_grad():
        alone = backbones.backbone().to(images.device)(images.flatten(0, -4))
    if not alone.isfinite().all():
        kind = type(backbones.kind)
        raise breach(BACKBONES, kind, "build networks that embed images by finite numbers", found, kind.stages)
    name = "embed" if images.dim() == 4 else "forward"
    must = f"return finite embeddings from {name}"
    raise breach(ARCHITECTURES, type(architecture), must, found, getattr(type(architecture), name))


def check_evaluation(architecture: Architecture, images: Tensor, backbones: BackboneFactory) -> None:
    """Refuse a network of which two passes in evaluation differ: no file would hold what was measured.

    Args:
        architecture: whose passes; it is left in the mode that it has.
        images: (n, 3, H, W), a few.
        backbones: of the architecture.

    Raises:
        ContractError: it names the architecture, or the backbone where that alone does so too.
    """

    def differs(net: nn.Module, embed: Callable[[Tensor], Tensor]) -> bool:
        training = net.training
        net.eval()
        with torch.no_grad():
            one, two = embed(images), embed(images)
        net.train(training)
        return float((one - two).abs().max()) > ROUNDING * float(one.abs().max())

    if differs(architecture, architecture.embed):
        must, found = "embed an image alike each time in evaluation", "by chance: noise and dropout are for training"
        alone = backbones.backbone().to(images.device)
        if differs(alone, alone):
            raise breach(BACKBONES, type(backbones.kind), must, found, type(backbones.kind).stages)
        raise breach(ARCHITECTURES, type(architecture), must, found, type(architecture).embed)


def check_stages(kind: BackboneKind, found: object) -> nn.ModuleList:
    """Return a backbone's stages.

    Raises:
        ContractError: they are no list of modules, or an empty one.
    """
    if isinstance(found, nn.ModuleList) and len(found):
        return found
    must = "return an nn.ModuleList of one stage or more from stages"
    raise breach(BACKBONES, type(kind), must, "an empty one" if found == nn.ModuleList() else found, type(kind).stages)


def check_features(kind: BackboneKind, number: int, found: object) -> None:
    """Refuse what a stage returned for one image if it is no feature map.

    Raises:
        ContractError: with what was expected and what came.
    """
    if not (isinstance(found, Tensor) and found.dim() == 4 and len(found) == 1):
        must = f"return feature maps (B, channels, height, width) from stage {number}"
        raise breach(BACKBONES, type(kind), must, f"{said(found)} for one image", type(kind).stages)


def check_head(kind: BackboneKind, found: object, size: int) -> None:
    """Refuse what a head made of one image's features if it is no embedding of a size.

    Raises:
        ContractError: with what was expected and what came.
    """
    if not _is(found, (1, size)):
        must = f"return embeddings of shape (B, {size}), B images × model.embedding, from its head"
        raise breach(BACKBONES, type(kind), must, f"{said(found)} for one image", type(kind).head)


def check_augmented(function: Any, found: object, given: Tensor) -> Tensor:
    """Return what an augmentation made of images.

    Raises:
        ContractError: the shape, type or device is another.
    """
    same = isinstance(found, Tensor) and found.shape == given.shape and found.dtype == given.dtype
    if not isinstance(found, Tensor) or not same or found.device != given.device:
        must = f"return images of the shape {tuple(given.shape)} and type uint8 that it was given"
        raise breach(AUGMENTATIONS, function, must, found, function)
    return found


def check_scores(function: Any, found: object, queries: int) -> Tensor:
    """Return a metric's scores of some queries.

    Raises:
        ContractError: they are no (queries,) floats.
    """
    if not _is(found, (queries,)):
        must = f"return a float tensor of shape {(queries,)}, a score for each query"
        raise breach(METRICS, function, must, found, function)
    return found


def check_bounded(function: Any, scores: Tensor) -> None:
    """Refuse infinite scores, which no mean survives; NaN stands for a query that a metric does not score.

    Raises:
        ContractError: a score is infinite.
    """
    if scores.isinf().any():
        raise breach(METRICS, function, "score a query by a finite number, or NaN where it scores none", "inf")


def check_unscored(function: Any, found: Tensor, misses: Tensor, hits: Tensor) -> None:
    """Refuse NaN that depends on the ranking: each method's mean would then be that of other queries.

    Args:
        function: the metric; found: its scores.
        misses, hits: its scores of the same queries with galleries of irrelevant, and of relevant images alone.

    Raises:
        ContractError: it scores other queries there.
    """
    same = found.isnan()
    if not (torch.equal(same, misses.isnan()) and torch.equal(same, hits.isnan())):
        must = "score the same queries whatever the ranking: by 0, for example, where nothing is found"
        raise breach(METRICS, function, must, f"NaN for {same.sum():,} of {len(same):,} queries here", function)


def check_optimiser(kind: Any, found: object) -> torch.optim.Optimizer:
    """Return a new optimiser of a kind.

    Raises:
        ContractError: it is none.
    """
    if not isinstance(found, torch.optim.Optimizer):
        raise breach(OPTIMISERS, kind, "make a torch.optim.Optimizer", found)
    return found
