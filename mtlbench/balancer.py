"""The contract of a balancer: how T losses become one update."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.errors import UserError
from mtlbench.gradients import TaskGradients
from mtlbench.recipes import Space
from mtlbench.registry import BALANCERS, register_class

C = TypeVar("C")
SMALLEST_SHARE = 0.01  # of the trained parameters, on which a balancer has to act to be worth its name


class Balancer(nn.Module, ABC):
    """How T losses become one update.

    A subclass takes `(tasks)` and its own options as keyword-only arguments with defaults. What it remembers lives in
    buffers and parameters, so that a checkpoint holds it; its parameters are trained by the run's optimiser, without
    weight decay.

    The convention that keeps balancers comparable: weights of 1 mean the plain mean. A parameter that all tasks share
    receives the mean over tasks of their weighted gradients, one that a single task owns its own weighted gradient.
    So T nets trained together take the very steps that each would take alone, and weights that sum to T leave the
    learning rate as it is. Where an architecture mixes tasks (`mixes_tasks`), a task's own parameters receive what
    other tasks' weighted losses send there too.

    >>> import torch
    >>> from mtlbench import Architecture, BackboneFactory, Balancer
    >>> class WorstFirst(Balancer):
    ...     def backward(self, losses, architecture):
    ...         weights = len(losses) * torch.softmax(losses.detach(), 0)
    ...         self.weighted_backward(losses, weights, architecture)
    ...         return weights
    >>> class Single(Architecture):
    ...     def __init__(self, backbones, tasks):
    ...         super().__init__(backbones, tasks)
    ...         self.net = backbones.backbone()
    ...
    ...     def forward(self, images):
    ...         return torch.stack([self.net(group) for group in images])
    >>> tasks = ["colour", "shape"]
    >>> net = Single(BackboneFactory("small", image_size=24, embedding_size=8), tasks)
    >>> losses = net(torch.randn(2, 3, 3, 24, 24)).square().mean((1, 2))
    >>> weights = WorstFirst(tasks).backward(losses, net)
    >>> round(weights.sum().item(), 4)
    2.0
    >>> all(p.grad is not None for p in net.parameters())
    True

    Attributes:
        search: see `Architecture`.
        own_scale: whether the length of the update is the balancer's own by design, so that it is not the plain mean's
            even where all tasks agree.
        gradient_norms: (T,) of the latest step where `backward` computes them, for the log; else None at all steps.
        judges_again: whether it wants the losses of the same batch after the step, for `judge`: a second forward pass
            at every step, which is a part of its speed.
        fixed: whether its weights are the same at every step by design, so that nobody is warned of it.
    """

    search: ClassVar[Space] = {}
    own_scale: bool = False
    judges_again: bool = False
    fixed: bool = False
    gradient_norms: Tensor | None = None

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.task_gradients = TaskGradients()

    def check(self, architecture: Architecture) -> None:
        """Refuse an architecture that this balancer can't serve.

        Raises:
            UserError: with the reason.
        """

    @classmethod
    def acts_on(cls, architecture: Architecture) -> list[nn.Parameter]:
        """Return the trained parameters whose update this balancer changes: all of them, where it weighs losses.

        A method whose balancer acts on less than a share of 0.01 of them is refused (`check_share`).
        """
        return [p for p in architecture.parameters() if p.requires_grad]

    @abstractmethod
    def backward(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """Add the update's gradient to every parameter's `.grad`.

        Args:
            losses: (T,), one a task, with their graph.
            architecture: whose parameters they came from.

        Returns:
            (T,) the weights used, detached; they are logged at every step.
        """

    def judge(self, losses: Tensor) -> None:
        """Take the (T,) losses of the same batch after the optimiser's step, detached; only where `judges_again`.

        As in `backward`, they hold the architecture's penalties.
        """

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """Return multiples of the learning rate for its own parameters; see `Architecture.learning_rate_scales`."""
        return {}

    def norms_at_last_shared_layer(self, losses: Tensor, architecture: Architecture) -> Tensor:
        """Return the (T,) lengths of the gradients of (T,) losses at `Architecture.last_shared_layer`, detached.

        The graph is kept. Only the heads and what stands behind that layer are passed for it; see `gradients`.
        """
        layer = [p for p in architecture.last_shared_layer() if p.requires_grad]
        return self.task_gradients.norms(losses, architecture, layer)

    def weighted_backward(self, losses: Tensor, weights: Tensor, architecture: Architecture) -> None:
        """Back-propagate (T,) losses under (T,) weights by the convention above; most balancers end with this."""
        if self.task_gradients.go_on(losses, weights, architecture):
            return
        (losses * weights).sum().backward()
        shared = [p.grad for p in architecture.shared_parameters() if p.grad is not None]
        if shared and len(losses) > 1:
            torch._foreach_mul_(shared, 1.0 / len(losses))
        self.task_gradients.look_again()


def share_acted_on(balancer: Balancer | type[Balancer], architecture: Architecture) -> float:
    """Return the share of an architecture's trained parameters that a balancer acts on, from 0 to 1."""
    trained = sum(p.numel() for p in architecture.parameters() if p.requires_grad)
    return sum(p.numel() for p in balancer.acts_on(architecture)) / max(trained, 1)


def check_share(name: str, balancer: Balancer, architecture: Architecture) -> None:
    """Refuse a balancer that would act on next to nothing of an architecture.

    Raises:
        UserError: it acts on less than a share of 0.01 of the trained parameters.
    """
    share = share_acted_on(balancer, architecture)
    if share == 0 and architecture.shared_parameters():
        raise UserError(
            f"{name} would have no effect, because everything that {type(architecture).__name__} shares is frozen:"
            " freeze fewer"
            " stages (model.freeze), or take a balancer that weighs losses (`mtlbench list balancers`)."
        )
    if share < SMALLEST_SHARE:
        raise UserError(
            f"{name} would act on {100 * share:.2g} % of the trained parameters, those that all tasks of"
            f" {type(architecture).__name__} share; it needs {100 * SMALLEST_SHARE:g} %. Take one that weighs losses"
            " (`mtlbench list balancers`)."
        )


def register_balancer(
    name: str, *, cite: str = "", needs: Sequence[str] = (), extra: str = ""
) -> Callable[[type[C]], type[C]]:
    """Class decorator: make a `Balancer` known as `name`, to be used as `architecture+name`.

    >>> import torch
    >>> from mtlbench import Balancer, register_balancer
    >>> @register_balancer("by-turns")
    ... class ByTurns(Balancer):
    ...     '''One task a step, at random.'''
    ...
    ...     def backward(self, losses, architecture):
    ...         weights = torch.zeros_like(losses.detach())
    ...         weights[torch.randint(len(losses), ())] = len(losses)
    ...         self.weighted_backward(losses, weights, architecture)
    ...         return weights

    Args:
        name: what users call it.
        cite: its source: a BibTeX entry, or a key of methods/references.bib.
        needs: packages to install beside mtlbench; while one is missing, the balancer's methods are left out of groups.
        extra: mtlbench's extra that brings them, if there is one.

    Raises:
        UserError: no subclass of `Balancer`, abstract methods left, or the name is taken.
    """
    return register_class(BALANCERS, Balancer, name, cite=cite, needs=needs, extra=extra)
