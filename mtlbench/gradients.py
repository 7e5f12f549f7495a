"""The gradients of T losses, each by itself, in as few passes through the network as it allows.

What is made of them is a balancer's; `agreement` looks at them all, off the path of training.

Three short cuts, each taken only where the first step has shown that it gives what T passes give:

*At the representation.* Where each task takes the shared features as a row of its own (`Architecture.views`), the
gradient of the summed losses at those T rows holds the T gradients side by side: one pass through loss and heads.

*At a layer.* The gradient of a layer's weights is a product of its inputs and of the gradient at its outputs. So only
the part of the network behind the layer is passed T times, which is short where the layer is the last shared one; then
one product gives all T: for a convolution with O channels, one weight gradient with T O channels. Whatever stands
behind the layer, batch norm included, is differentiated by torch itself.

*In blocks.* Where images are sampled for each task, a loss reaches its own block of the batch alone, behind the layer.
One pass finds the gradients of all losses there, and two products give the layer's T gradients (`of_blocks`). Their
lengths are used; what trains the network is the ordinary pass, which they are compared with again later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from mtlbench.architecture import Architecture
from mtlbench.layer_gradients import Use, before_norm, dtype_of, lengths, nodes, of_blocks, of_parameters, uses_of

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # of the longest gradient
_COARSE = 2e-2  # bfloat16 has 8 bits
_ALWAYS, _SOMETIMES = 3, 50  # steps: a comparison waits for the device


class TaskGradients:
    """Finds the gradients of T losses; one object for one run, since it remembers which short cuts hold there.

    >>> import torch
    >>> from torch import nn
    >>> from mtlbench import Architecture, BackboneFactory
    >>> class Scaled(Architecture):
    ...     def __init__(self, backbones, tasks):
    ...         super().__init__(backbones, tasks)
    ...         self.trunk = nn.Linear(3, 2)
    ...         self.scales = nn.ParameterList([torch.ones(2) for _ in tasks])
    ...
    ...     def forward(self, images):
    ...         return self.trunk(images) * torch.stack(list(self.scales))[:, None]
    ...
    ...     def embed(self, images):
    ...         return self.branch_off(self.trunk(images)) * torch.stack(list(self.scales))[:, None]
    >>> net = Scaled(BackboneFactory("small", 24, 2), ["colour", "shape"])
    >>> losses = net.embed(torch.ones(5, 3)).sum((1, 2)) * torch.tensor([1.0, 2.0])
    >>> TaskGradients().at_representation(losses, net).sum((1, 2)).tolist()
    [10.0, 20.0]
    >>> TaskGradients().norms(losses, net, list(net.trunk.parameters()))  # 6 weights and 2 biases, each 5 and 10
    tensor([14.1421, 28.2843])
    """

    def __init__(self) -> None:
        self._apart: bool | None = None  # whether the tasks' rows of the representation stay apart
        self._beside: dict[int, Tensor] = {}  # parameters that losses reach past these rows
        self._direct: bool | None = None  # whether norms at the layer are right when found at its outputs
        self._in_blocks: bool | None = None  # whether each task has a block of the batch alone, at the layer's outputs
        self._confirmed = False  # whether all this was seen where every task had a gradient
        self._found: _Found | None = None
        self._steps = 0  # in blocks
        self._expected: list[tuple[nn.Parameter, Tensor, torch.dtype]] = []

    def __deepcopy__(self, memo: object) -> TaskGradients:
        """A copy looks for itself: what was learned is of one network's parameters."""
        return TaskGradients()

    def at_representation(self, losses: Tensor, architecture: Architecture) -> Tensor | None:
        """Return the (T, B, ...) gradients of (T,) losses at the representation; None where there is none."""
        if not self._branches(losses, architecture):
            features = architecture.representation
            return None if features is None or not features.requires_grad else _each(losses, features)
        return torch.autograd.grad(losses.sum(), _there(architecture.views), retain_graph=True)[0]

    def _branches(self, losses: Tensor, architecture: Architecture) -> bool:
        """Tell whether row t of the views reaches loss t alone, and nothing reaches the losses past the rows."""
        features, views = architecture.representation, architecture.views
        if features is None or views is None or not views.requires_grad:
            return False
        if self._apart is None:
            self._apart = self._stay_apart(losses, features, views)
        return self._apart

    def _stay_apart(self, losses: Tensor, features: Tensor, views: Tensor) -> bool:
        for node in nodes(losses.grad_fn, stop=views.grad_fn):
            if node is features.grad_fn:
                return False
            if isinstance(parameter := getattr(node, "variable", None), Tensor):
                self._beside[id(parameter)] = parameter
        together = torch.autograd.grad(losses.sum(), views, retain_graph=True, allow_unused=True)[0]
        return together is not None and _alike(together.flatten(1), _each(losses, features).flatten(1))

    def at(self, losses: Tensor, architecture: Architecture, places: Sequence[nn.Parameter]) -> Tensor:
        """Return the (T, P) float32 gradients of (T,) losses at shared parameters, flattened and joined.

        T passes through what all tasks share; loss and heads are passed once where the tasks' rows stay apart.
        """
        if self._branches(losses, architecture) and not any(id(p) in self._beside for p in places):
            found = _passes(architecture.representation, self.at_representation(losses, architecture), places)
        else:
            found = _whole_passes(losses, places)
        joined = []
        for gradients in found:
            parts = [torch.zeros_like(p) if g is None else g for p, g in zip(places, gradients, strict=True)]
            joined.append(torch.cat([part.flatten().float() for part in parts]))
        return torch.stack(joined)

    def norms(self, losses: Tensor, architecture: Architecture, layer: Sequence[nn.Parameter]) -> Tensor:
        """Return the (T,) lengths of the gradients of (T,) losses at a layer's parameters."""
        self._found = None
        if not self._confirmed:
            self._direct = self._in_blocks = self._apart = None
        uses = uses_of(losses, layer) if self._direct is not False else None
        if uses is None:
            return _norms_by_passes(losses, layer)
        norms = self._norms_at(losses, architecture, uses)
        if self._direct is None:
            whole = _norms_by_passes(losses, layer)
            self._confirmed = _none_is_zero(whole)  # a gradient of 0 shows nothing of other steps
            self._direct = norms is not None and _alike(norms[:, None], whole[:, None], dtype_of(uses))
            norms = norms if self._direct else whole
        return _norms_by_passes(losses, layer) if norms is None else norms

    def _norms_at(self, losses: Tensor, architecture: Architecture, uses: Sequence[Use]) -> Tensor | None:
        edges = [GradientEdge(use.node, 0) for use in uses]
        if not self._branches(losses, architecture):
            if len(uses) == 1 and (gradients := self._of_blocks(losses, uses[0])) is not None:
                self._found = _Found(losses, None, [], gradients, dtype_of(uses))
                return lengths(gradients)
            at_outputs = _stacked(_whole_passes(losses, edges))
            return None if at_outputs is None else lengths(of_parameters(uses, at_outputs))
        views, beside = _there(architecture.views), list(self._beside.values())
        rows, *own = torch.autograd.grad(losses.sum(), [views, *beside], retain_graph=True, allow_unused=True)
        if _all_at_once(rows):
            at_outputs = _together(architecture.representation, rows, uses)
        else:
            at_outputs = _stacked(_passes(architecture.representation, rows, edges))
        if at_outputs is None:
            return None
        gradients = of_parameters(uses, at_outputs)
        self._found = _Found(
            losses, rows, [(p, g) for p, g in zip(beside, own, strict=True) if g is not None],
            gradients, dtype_of(uses),
        )  # fmt: skip
        return lengths(gradients)

    def _of_blocks(self, losses: Tensor, use: Use) -> list[tuple[nn.Parameter, Tensor]] | None:
        """Return a layer's parameters with their T gradients, where images are sampled for each task.

        None where a task's loss reaches other images than those of its own block of the batch.
        """
        edge = GradientEdge(use.node if use.norm is None else use.norm, 0)
        if self._in_blocks is None:
            self._in_blocks = _stay_in_blocks(_stacked(_whole_passes(losses, [edge])))
        if not self._in_blocks:
            return None
        return of_blocks(use, torch.autograd.grad(losses.sum(), [edge], retain_graph=True)[0], len(losses))

    def go_on(self, losses: Tensor, weights: Tensor, architecture: Architecture) -> bool:
        """Add the gradients of weighted losses to `.grad`, from what `norms` found for these losses; tell if it could.

        The convention is `Balancer`'s. Loss and heads are not passed again, nor is the layer's gradient found again.
        """
        found, self._found = self._found, None
        if found is None or found.losses is not losses or not self._direct or weights.requires_grad:
            return False
        if found.rows is None:
            self._expect(found, weights)
            return False
        owners = {id(p): t for t in range(len(losses)) for p in architecture.task_parameters(t)}
        if architecture.mixes_tasks or any(id(p) not in owners for p, _ in found.own):
            return False  # several losses may reach them: a loss's own parameters, for one
        with torch.no_grad():
            shares = weights / len(losses)
            combined = torch.tensordot(shares, found.rows.to(shares.dtype), dims=1).to(found.rows.dtype)
            if found.own:
                _add_weighted(found.own, [owners[id(p)] for p, _ in found.own], weights)
            for parameter, gradients in found.layer:
                add_gradient(parameter, torch.tensordot(shares, gradients.to(shares.dtype), dims=1))
        done = {id(p) for p, _ in found.layer} | owners.keys()
        others = [p for p in architecture.parameters() if p.requires_grad and id(p) not in done]
        if others:
            torch.autograd.backward([_there(architecture.representation)], [combined], inputs=others)
        return True

    def _expect(self, found: _Found, weights: Tensor) -> None:
        """Keep what a layer's gradient of weighted losses should be: at the first steps, then at some."""
        self._steps += 1
        if self._steps <= _ALWAYS or self._steps % _SOMETIMES == 0:
            shares = weights.detach() / len(found.losses)
            with torch.no_grad():
                self._expected = [
                    (p, torch.tensordot(shares, g.to(shares.dtype), dims=1), found.dtype) for p, g in found.layer
                ]

    def look_again(self) -> None:
        """After the pass of weighted losses, compare a layer's `.grad` with what was found in blocks.

        A network may begin to mix images after the first step. Then blocks are not used again.
        """
        expected, self._expected = self._expected, []
        for parameter, gradient, dtype in expected:
            if parameter.grad is None or not _alike(parameter.grad.flatten()[None], gradient.flatten()[None], dtype):
                self._in_blocks, self._direct = False, None


class _Found(NamedTuple):
    """What was found for (T,) losses."""

    losses: Tensor
    rows: Tensor | None  # (T, B, ...) gradients at the representation; None where images are sampled for each task
    own: list[tuple[Tensor, Tensor]]  # parameters behind it, with the gradients of the summed losses
    layer: list[tuple[nn.Parameter, Tensor]]  # the layer's parameters, with their T gradients, (T, ...)
    dtype: torch.dtype  # the coarsest in which it computes


def _stay_in_blocks(at_output: list[Tensor] | None) -> bool:
    """Tell whether T gradients at an output, (T, T B, ...), are each zero but in a block of the batch of its own."""
    if at_output is None or at_output[0].shape[1] % len(at_output[0]):
        return False
    tasks = len(at_output[0])
    blocks = at_output[0].unflatten(1, (tasks, -1)).flatten(2).abs().amax(2)  # (T, T)
    return not bool((blocks.fill_diagonal_(0) != 0).any())


def _there(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def _whole_passes(losses: Tensor, places: Any) -> list[tuple[Tensor | None, ...]]:
    """Go from each of (T,) losses to places: a pass of the network for each."""
    return [torch.autograd.grad(loss, places, retain_graph=True, allow_unused=True) for loss in losses]


def _passes(features: Tensor | None, rows: Tensor | None, places: Any) -> list[tuple[Tensor | None, ...]]:
    """Go on from T gradients at the features, (T, B, ...), to places before them: a pass for each."""
    each = _there(rows)
    return [torch.autograd.grad(_there(features), places, row, retain_graph=True, allow_unused=True) for row in each]


def _all_at_once(rows: Tensor) -> bool:
    """Tell whether T gradients are to go on together: on a GPU launches count; on a CPU the loop is no slower."""
    return rows.is_cuda


def _together(features: Tensor | None, rows: Tensor, uses: Sequence[Use]) -> list[Tensor] | None:
    """Go on from T gradients at the features, (T, B, ...), to outputs of operations before them, in one pass.

    None where none reached an output.
    """
    edges = [GradientEdge(use.node if use.norm is None else use.norm, 0) for use in uses]
    arrived = torch.autograd.grad(
        _there(features), edges, rows, retain_graph=True, allow_unused=True, is_grads_batched=True
    )
    if any(gradient is None for gradient in arrived):
        return None
    return [g if use.norm is None else before_norm(use.norm, g) for use, g in zip(uses, arrived, strict=True)]


def _stacked(found: Sequence[tuple[Tensor | None, ...]]) -> list[Tensor] | None:
    """Return what T passes found at each place, (T, ...); None where none reached a place."""
    stacked = []
    for gradients in zip(*found, strict=True):
        some = next((g for g in gradients if g is not None), None)
        if some is None:
            return None
        stacked.append(torch.stack([torch.zeros_like(some) if g is None else g for g in gradients]))
    return stacked


def add_gradient(parameter: nn.Parameter | Tensor, gradient: Tensor) -> None:
    """Add to `.grad`, laid out in memory as its parameter: fused optimisers take that for granted."""
    part = torch.empty_like(parameter).copy_(gradient.view_as(parameter))
    parameter.grad = part if parameter.grad is None else parameter.grad + part


def _add_weighted(own: Sequence[tuple[Tensor, Tensor]], owners: Sequence[int], weights: Tensor) -> None:
    """Add gradients to `.grad`, each times its task's weight: those of one shape in one product, whatever T is."""
    by_task = weights.unbind()
    alike: dict[tuple[torch.Size, torch.dtype], list[int]] = {}
    for i, (_, gradient) in enumerate(own):
        alike.setdefault((gradient.shape, gradient.dtype), []).append(i)
    for (shape, dtype), members in alike.items():
        factors = torch.stack([by_task[owners[i]] for i in members]).to(dtype)
        scaled = torch.stack([own[i][1] for i in members]).mul_(factors.view(-1, *[1] * len(shape)))
        for i, part in zip(members, scaled, strict=True):
            parameter = own[i][0]
            if parameter.grad is None and part.stride() == parameter.stride() and dtype == parameter.dtype:
                parameter.grad = part
            else:
                add_gradient(parameter, part)


def _each(losses: Tensor, features: Tensor) -> Tensor:
    """Return the (T, B, ...) gradients of (T,) losses at features, a pass for each."""
    found = _whole_passes(losses, [features])
    return torch.stack([torch.zeros_like(features) if g is None else g for (g,) in found])


def _norms_by_passes(losses: Tensor, layer: Sequence[Tensor]) -> Tensor:
    norms = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, layer, retain_graph=True, allow_unused=True)
        squares = [g.float().square().sum() for g in gradients if g is not None]
        norms.append(torch.stack(squares).sum().sqrt() if squares else loss.new_zeros(()))
    return torch.stack(norms).detach()


def _none_is_zero(norms: Tensor) -> bool:
    return bool((norms > 0).all())


def _alike(found: Tensor, wanted: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Tell whether (T, P) gradients are others up to rounding, measured by the longest of them."""
    tolerance = _TOLERANCE.get(found.dtype if dtype is None else dtype, _COARSE)
    off = (found.float() - wanted.float()).norm(dim=1).max()
    return bool(off <= tolerance * wanted.float().norm(dim=1).max())
