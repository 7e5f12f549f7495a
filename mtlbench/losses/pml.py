"""The losses of pytorch-metric-learning: `pml:MultiSimilarityLoss`, `pml:ProxyAnchorLoss`, `pml:SupConLoss`, …

Musgrave, Belongie, Lim: PyTorch Metric Learning, 2020 (arXiv 2008.09164). Each task has a loss of its own, with proxies
or class weights of its own where it has such. Embeddings come at unit length where the benchmark says so; the distance
is the loss's own, not the benchmark's.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.errors import UserError, did_you_mean
from mtlbench.losses.contract import Loss, LossContext
from mtlbench.registry import LOSSES
from mtlbench.sampling.contract import Batch

# constructor arguments that the context gives, or that are objects of the library
_FROM_CONTEXT = ("num_classes", "embedding_size")


class _Adapter(Loss):
    """One loss of the library per task, on the labelled images of a batch."""

    made_of: type[nn.Module]

    def __init__(self, context: LossContext, **options: Any) -> None:
        super().__init__(context)
        accepted = _arguments(self.made_of)
        self.losses = nn.ModuleList()
        for task, values in zip(context.tasks, context.values, strict=True):
            facts = {"num_classes": values, "embedding_size": context.embedding_size}
            given = options | {name: fact for name, fact in facts.items() if name in accepted}
            try:
                with self.seeded(task):
                    self.losses.append(_with_buffers(self.made_of(**given)))
            except (TypeError, ValueError, AttributeError, AssertionError) as error:
                raise UserError(f"pml:{self.made_of.__name__} can't be built with {options}: {error}.") from error

    def forward(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """See `Loss.forward`."""
        found = []
        for loss, points, labels in zip(self.losses, self.points(embeddings), batch.labels, strict=True):
            known = labels >= 0
            value = loss(points[known], labels[known]) if known.any() else points.new_zeros(())
            found.append(value + 0.0 * points.sum())  # a graph also where the library returns a constant
            for buffer in loss.buffers():  # what is gathered over steps keeps no step's graph
                buffer.detach_()
        return torch.stack(found)


def _arguments(cls: type[nn.Module]) -> set[str]:
    """Return the names of a constructor's arguments, those that it hands on to its base classes too."""
    found: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base):
            arguments = inspect.signature(vars(base)["__init__"]).parameters
            found |= set(arguments)
            if all(argument.kind is not argument.VAR_KEYWORD for argument in arguments.values()):
                break
    return found


def _with_buffers(loss: nn.Module) -> nn.Module:
    """Make a loss's plain tensors buffers, which move to its device and go on with an interrupted run."""
    for name, value in list(vars(loss).items()):
        if isinstance(value, Tensor):
            delattr(loss, name)
            loss.register_buffer(name, value)
    return loss


def _library() -> Any:
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        raise UserError("pml: losses need pytorch-metric-learning: pip install 'mtlbench[losses]'.") from error
    return losses


def _names(losses: Any) -> list[str]:
    base = losses.BaseMetricLossFunction
    classes = [thing for thing in vars(losses).values() if inspect.isclass(thing) and issubclass(thing, base)]
    return sorted(cls.__name__ for cls in classes if not cls.__name__.startswith(("Base", "Generic")))


def _member(name: str) -> type[Loss]:
    """Return the loss class for a class name of the library.

    Raises:
        UserError: the library is not installed, or has no such loss.
    """
    losses = _library()
    known = _names(losses)
    if name not in known:
        raise UserError(f"Unknown loss 'pml:{name}'.{did_you_mean(name, known)} Available: {', '.join(known)}.")
    made_of = getattr(losses, name)
    options = [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=option.default,
            annotation=type(option.default) if isinstance(option.default, bool | int | float | str) else Any,
        )
        for option in inspect.signature(made_of.__init__).parameters.values()
        if option.kind in (option.POSITIONAL_OR_KEYWORD, option.KEYWORD_ONLY)
        and option.name not in ("self", *_FROM_CONTEXT)
    ]
    numbers = [o.replace(annotation=int | float) if o.annotation is int else o for o in options]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    doc = inspect.cleandoc(made_of.__doc__ or "").split("\n")[0]
    attributes = {"made_of": made_of, "__doc__": doc, "__signature__": inspect.Signature([context, *numbers])}
    return type(name, (_Adapter,), attributes)


LOSSES.add_family(
    "pml",
    _member,
    summary="A loss of pytorch-metric-learning, such as pml:MultiSimilarityLoss.",
    origin=__file__,
    needs=("pytorch-metric-learning",),
)
