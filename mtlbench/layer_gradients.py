"""A layer in autograd's graph, and T gradients of its parameters from the T gradients at its outputs.

The gradient of a weight is a product of a layer's inputs and of the gradient at its outputs. For a linear layer with
inputs H (N, I) and gradients D_t (N, O) it is D_t^T H, and that of the bias the sum of D_t's rows; a convolution is the
same with H the patches that its kernel sees. So one product serves T tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mtlbench.patches import Geometry

_TURN = "TBackward0"
_CASTS = {_TURN, "ToCopyBackward0"}  # what may stand between a parameter and the operation that takes it
_PRODUCTS = {"AddmmBackward0", "MmBackward0"}  # they take an (O, I) weight transposed
_PATCHES = 2**24  # numbers of a convolution's patches that are held at a time


_NORMS = {"NativeBatchNormBackward0", "CudnnBatchNormBackward0"}


class Use(NamedTuple):
    """An operation of the graph that takes parameters of a layer: a convolution or a product of matrices.

    `norm` is the batch norm, in training, that takes what it gives; None where something else does.
    """

    node: Any
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    norm: Any = None


def nodes(root: Any, stop: Any = None) -> Iterator[Any]:
    """Yield the nodes of a graph, the nearest to its root first, without what lies behind `stop`."""
    queue, seen = deque([root]), {root}
    while queue:
        node = queue.popleft()
        if node is None or node is stop:
            continue
        yield node
        for child, _ in node.next_functions:
            if child not in seen:
                seen.add(child)
                queue.append(child)


def uses_of(losses: Tensor, layer: Sequence[nn.Parameter]) -> list[Use] | None:
    """Return the operations that take a layer's parameters; None where one of them is of another form than is known."""
    wanted = {id(p): p for p in layer if p.requires_grad}
    users: dict[Any, list[Any]] = {}
    leaves = []
    for node in nodes(losses.grad_fn):
        for child, _ in node.next_functions:
            users.setdefault(child, []).append(node)
        if id(getattr(node, "variable", None)) in wanted:
            leaves.append(node)
    found: dict[Any, dict[int, nn.Parameter]] = {}
    for node in leaves:
        below, user, turned = node, _only(users, node), False
        while user is not None and user.name() in _CASTS:
            turned ^= user.name() == _TURN
            below, user = user, _only(users, user)
        parameter = wanted.pop(id(node.variable))
        if user is None or (parameter.dim() == 2 and not turned and user.name() in _PRODUCTS):
            return None
        place = next(i for i, (child, _) in enumerate(user.next_functions) if child is below)
        found.setdefault(user, {})[place] = parameter
    uses = [_as_use(node, parameters) for node, parameters in found.items()]
    if wanted or not uses or None in uses:
        return None
    return [use._replace(norm=_norm_of(_only(users, use.node))) for use in uses if use is not None]


def _only(users: Mapping[Any, Sequence[Any]], node: Any) -> Any:
    """Return the one operation that takes what a node gives; None where several do."""
    found = users.get(node, ())
    return found[0] if len(found) == 1 else None


def _norm_of(node: Any) -> Any:
    """Return a node of the graph if it is a batch norm of maps in training."""
    known = node is not None and node.name() in _NORMS and node._saved_training
    return node if known and node._saved_input.dim() == 4 and node._saved_weight is not None else None


@torch.no_grad()
def before_norm(norm: Any, at_output: Tensor) -> Tensor:
    """Return T gradients at a batch norm's input for those at its output, (T, B, C, H, W): as of T C channels.

    torch's own way for several at a time goes from one to the next.
    """
    tasks, channels = len(at_output), at_output.shape[2]
    together = at_output.movedim(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    inputs = norm._saved_input.repeat(1, tasks, 1, 1).contiguous(memory_format=torch.channels_last)
    weight, mean, scale = (t.repeat(tasks) for t in (norm._saved_weight, norm._saved_result1, norm._saved_result2))
    found = torch.ops.aten.native_batch_norm_backward(
        together, inputs, weight, None, None, mean, scale, True, norm._saved_epsilon if norm.name().startswith("Cudnn")
        else norm._saved_eps, (True, False, False),
    )  # fmt: skip
    at_input: Tensor = found[0].unflatten(1, (tasks, channels)).movedim(1, 0)
    return at_input


def _as_use(node: Any, parameters: dict[int, nn.Parameter]) -> Use | None:
    """Name the parameters, which are given by their places among an operation's inputs."""
    name = node.name()
    if name == "ConvolutionBackward0" and not node._saved_transposed and node._saved_groups == 1:
        known = len(node._saved_weight.shape) == 4 and 0 not in parameters
        return Use(node, parameters.get(1), parameters.get(2)) if known else None
    if name == "AddmmBackward0" and 1 not in parameters:
        return Use(node, parameters.get(2), parameters.get(0))
    if name == "MmBackward0" and 0 not in parameters:
        return Use(node, parameters.get(1), None)
    return None


def _inputs(node: Any) -> Tensor:
    names = {"ConvolutionBackward0": "_saved_input", "AddmmBackward0": "_saved_mat1", "MmBackward0": "_saved_self"}
    inputs: Tensor = getattr(node, names[node.name()])
    return inputs


def dtype_of(uses: Sequence[Use]) -> torch.dtype:
    """Return the coarsest type in which the operations are done."""
    return min((_inputs(use.node).dtype for use in uses), key=lambda dtype: dtype.itemsize)


@torch.no_grad()
def of_parameters(uses: Sequence[Use], at_outputs: Sequence[Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
    """Return the operations' parameters with their T gradients, (T, ...), from those at the outputs, (T, B, ...)."""
    found = []
    for use, at_output in zip(uses, at_outputs, strict=True):
        convolution = use.node.name() == "ConvolutionBackward0"
        if use.weight is not None:
            gradient = _of_convolution(use.node, at_output) if convolution else at_output.mT @ _inputs(use.node)
            found.append((use.weight, gradient))
        if use.bias is not None:
            found.append((use.bias, at_output.sum((1, 3, 4) if convolution else 1)))
    return found


@torch.no_grad()
def of_blocks(use: Use, at_output: Tensor, tasks: int) -> list[tuple[nn.Parameter, Tensor]]:
    """Return an operation's parameters with their T gradients, (T, ...), where a task has its own block of the batch.

    Through a batch norm a task's gradient reaches all images, since they share mean and deviation. For one at its
    output, d, that at its input is s (d - mean(d) - x mean(d x)), with s the scale and x the normalised input. The
    first term stays in the task's block; the others take one product for all tasks, with 1 and x at the output. So T
    tasks cost as much as two.

    Args:
        use: the operation.
        at_output: (T B, ...) gradient of all losses together, at the output of `use.norm`, if there is one.
        tasks: T.
    """
    convolution = use.node.name() == "ConvolutionBackward0"
    if use.norm is not None:
        scale = use.norm._saved_weight * use.norm._saved_result2
        at_output = (at_output * scale[:, None, None]).to(at_output.dtype)
    blocks = at_output.unflatten(0, (tasks, -1))
    found = []
    if use.weight is not None and convolution:
        own = _of_blocks(use.node, at_output, tasks)
        found.append((use.weight, own if use.norm is None else _through_norm(use, blocks, own)))
    elif use.weight is not None:
        found.append((use.weight, blocks.mT @ _inputs(use.node).unflatten(0, (tasks, -1))))
    if use.bias is not None:  # a batch norm takes away what a bias adds
        dims = (1, 3, 4) if convolution else (1,)
        bias = blocks.sum(dims) if use.norm is None else blocks.new_zeros(tasks, len(use.bias))
        found.append((use.bias, bias))
    return found


def _through_norm(use: Use, blocks: Tensor, own: Tensor) -> Tensor:
    """Return (T, O, I, h, w) gradients of a weight behind which there is a batch norm; overwrites `own`.

    Args:
        use: the convolution.
        blocks: (T, B, O, h', w') gradients at the norm's output, times its scale.
        own: what the weight's gradients would be if these were at the convolution's output.
    """
    maps, mean, inverse = use.norm._saved_input, use.norm._saved_result1, use.norm._saved_result2
    normalised = ((maps.to(mean.dtype) - mean[:, None, None]) * inverse[:, None, None]).to(maps.dtype)
    both = torch.cat([normalised, torch.ones_like(normalised[:, :1])], dim=1)
    both = both.contiguous(memory_format=torch.channels_last)
    products = _of_convolution(use.node, both[None])[0].to(own.dtype, memory_format=torch.contiguous_format)
    with_maps, with_ones = products.split([len(mean), 1])
    images = maps.numel() // len(mean)
    level = blocks.sum((1, 3, 4), dtype=own.dtype) / images  # (T, O)
    along = (blocks * normalised.unflatten(0, (len(blocks), -1))).sum((1, 3, 4), dtype=own.dtype) / images
    some = len(own) if own.is_cuda else 1  # one task's fit a core's cache
    for part, by_level, by_maps in zip(own.split(some), level.split(some), along.split(some), strict=True):
        part.addcmul_(by_level[..., None, None, None], with_ones, value=-1)
        part.addcmul_(by_maps[..., None, None, None], with_maps, value=-1)
    return own


@torch.no_grad()
def lengths(gradients: Sequence[tuple[nn.Parameter, Tensor]]) -> Tensor:
    """Return the (T,) lengths of T gradients of several parameters together."""
    by_parameter = []
    for _, g in gradients:
        wide = torch.promote_types(g.dtype, torch.float32)
        rows = torch.linalg.vector_norm(g.flatten(min(2, g.dim() - 1)), dim=-1, dtype=wide)  # a long sum loses digits
        by_parameter.append(torch.linalg.vector_norm(rows.flatten(1), dim=1) if rows.dim() > 1 else rows)
    found: Tensor = torch.linalg.vector_norm(torch.stack(by_parameter), dim=0)
    return found


def _of_convolution(node: Any, at_output: Tensor) -> Tensor:
    """Return a weight's T gradients, (T, O, I, h, w), for those at the output, (T, B, O, h', w')."""
    tasks, outputs = len(at_output), at_output.shape[2]
    if _as_patches(at_output):
        return _by_patches(node, at_output)
    if not at_output.is_cuda:  # in float32 a CPU is as fast on one after the other
        return torch.stack([_weight_gradient(node, gradient, node._saved_input) for gradient in at_output])
    together = at_output.movedim(2, -1).movedim(0, -2).flatten(-2).movedim(-1, 1)  # T O channels, channels last
    gradients: Tensor = _weight_gradient(node, together, node._saved_input).unflatten(0, (tasks, outputs))
    return gradients


def _of_blocks(node: Any, at_output: Tensor, tasks: int) -> Tensor:
    """Return a weight's gradients from each of T blocks of a batch, (T, O, I, h, w); `at_output`: (T B, O, h', w')."""
    images, blocks = node._saved_input.unflatten(0, (tasks, -1)), at_output.unflatten(0, (tasks, -1))
    wide = torch.promote_types(at_output.dtype, torch.float32)
    if at_output.is_cuda:  # one launch: a convolution with T groups of channels
        gradient, inputs = (
            t.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last) for t in (blocks, images)
        )
        gradients: Tensor = _weight_gradient(node, gradient, inputs, groups=tasks).unflatten(0, (tasks, -1)).to(wide)
        return gradients
    found = at_output.new_empty((tasks, *node._saved_weight.shape), dtype=wide)
    for place, block, own in zip(found, blocks, images, strict=True):
        place.copy_(
            _by_patches(node, block[None], own)[0] if _as_patches(block) else _weight_gradient(node, block, own)
        )
    return found


def _as_patches(at_output: Tensor) -> bool:
    return not at_output.is_cuda and at_output.dtype == torch.bfloat16


def _weight_gradient(node: Any, at_output: Tensor, inputs: Tensor, groups: int = 1) -> Tensor:
    """Return a weight's gradient, (O, I, h, w), for one at the output, (B, O, h', w'), of any number of channels."""
    weight = node._saved_weight
    wanted = weight.new_empty((at_output.shape[1], *weight.shape[1:])).to(memory_format=torch.channels_last)
    found: Tensor = torch.ops.aten.convolution_backward(
        at_output, inputs, weight if wanted.shape == weight.shape else wanted, None, node._saved_stride,
        node._saved_padding, node._saved_dilation, False, node._saved_output_padding, groups, (False, True, False),
    )[1]  # fmt: skip
    return found


def _by_patches(node: Any, at_output: Tensor, inputs: Tensor | None = None) -> Tensor:
    """As `_of_convolution`, as a product with the patches that the kernel sees; `inputs`: some of the node's own.

    In bfloat16 on a CPU that is several times as fast as oneDNN's own gradient of a weight where maps are small.
    """
    geometry = Geometry(node._saved_weight.shape[2:], node._saved_stride, node._saved_padding, node._saved_dilation)
    patches = geometry.patches(node._saved_input if inputs is None else inputs)  # (B, h', w', kernel, kernel, I)
    high, wide, channels = patches.shape[3:]
    by_place = at_output.movedim(2, -1)  # (T, B, h', w', O)
    tasks, outputs = len(at_output), at_output.shape[2]
    found, some = [], max(1, _PATCHES // patches[0].numel())
    for at in range(0, len(patches), some):
        ours = by_place[:, at : at + some].flatten(1, 3).mT.reshape(tasks * outputs, -1)
        found.append(ours @ patches[at : at + some].reshape(-1, high * wide * channels))
    whole = found[0] if len(found) == 1 else torch.stack(found).float().sum(0)
    gradients: Tensor = whole.view(tasks, outputs, high, wide, channels).movedim(-1, 2)
    return gradients
