"""Whether a processor's bfloat16 gives the right gradients for a network: some kernels do not, without a word.

torch 2.14.1 with oneDNN on processors with AVX-512 BF16: a convolution of stride 2 or more, of one group, of several or
of one a channel, gets a weight gradient from memory that was never written, channels last, under bfloat16 autocast: at
stride 2 on maps of width 1, at strides 3 and 4 on maps of width up to 4. Small images meet it.

Every convolution that a network computes is tried, of one, two or three dimensions, transposed or not, a layer's or a
function's (`F.conv2d`): what PyTorch is asked for is listened to. `tools/bf16_reproduction.py` shows the fault by torch
alone. Products of matrices are not tried in a run: on the same processor and release, linear layers, batched products
and attention of widths 1, 2, odd and even were right in all of 4,091 shapes, forward and backward, within 1.2 % of
float32 (`tools/bf16_products.py`). Nor are convolutions that a network computes in training on other paths than one
call of `forward` and one of `embed` take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import Benchmark
from mtlbench.devices import choose_precision
from mtlbench.errors import FAULTS, UserError
from mtlbench.networks import build
from mtlbench.registry import ARCHITECTURES
from mtlbench.specs import Method

_WORST = 0.05  # relative error of a gradient; that of rounding to bfloat16 is about 0.003
_TRIES, _BATCH = 3, 8

_TRIED: dict[tuple[object, ...], list[str]] = {}


@dataclass(frozen=True)
class Convolution:
    """A convolution as PyTorch is asked for it; two that are equal are computed by one kernel.

    Attributes:
        maps: (C, ...) of what one image has.
        weights: (C', C / groups, ...) of the kernel; (C, C' / groups, ...) of a transposed one's.
        folded: all images stand in the channels of one, each a group of its own.
        computed: the weights are no parameter, and their channels last or not.
    """

    maps: tuple[int, ...]
    weights: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    folded: bool
    computed: bool


_Seen = dict[Convolution, str]  # by the name of the module that computes it


def sound_precision(
    benchmark: Benchmark, device: torch.device, methods: Sequence[Method] = (), tasks: tuple[str, ...] = ()
) -> tuple[str, str]:
    """Return the precision that a benchmark's networks are to run in, and what the user should know of it.

    Float32 instead of bfloat16 where a processor's bfloat16 gives wrong gradients; see `unsound_convolutions`.
    """
    precision = choose_precision(benchmark.train.precision, device)
    if precision != "bf16" or device.type != "cpu":
        return precision, ""
    try:
        wrong = unsound_convolutions(benchmark, methods, tasks)
    except UserError:
        raise
    except FAULTS:  # a fault in a plug-in's backbone: its runs will fail with it, and say where
        return precision, ""
    if not wrong:
        return precision, ""
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    height, width = benchmark.data.size
    return "fp32", (
        f"In bfloat16 this processor's gradients of {wrong[0]}{more} are wrong on images of {height}×{width} px, a"
        f" fault of torch {torch.__version__}: networks run in float32."
    )


def unsound_convolutions(
    benchmark: Benchmark, methods: Sequence[Method] = (), tasks: tuple[str, ...] = ()
) -> list[str]:
    """Return which convolutions get wrong gradients in bfloat16 on this processor: the backbone's, then methods'.

    Each convolution is tried alone, on random maps of the size that it sees, against float32; a network and image size
    are tried once a process, and of methods what the backbone lacks.
    """
    model, size = benchmark.model, benchmark.data.size
    factory = BackboneFactory(model.backbone, size, model.embedding)
    network = (type(factory.kind), model.backbone, size)  # a plug-in that has been edited is another class
    of_backbone = cache(lambda: _of_network(factory.backbone(), size, torch.device("cpu")))
    if network not in _TRIED:
        _TRIED[network] = _wrong(of_backbone())
    wrong = list(_TRIED[network])
    for method in {method.architecture_spec: method for method in methods}.values():
        own = (
            *network,
            ARCHITECTURES.get(method.architecture).target,
            method.architecture_spec,
            model.embedding,
            tasks,
        )
        if own not in _TRIED:
            computed = _of_method(method, benchmark, tasks)
            further = {one: name for one, name in computed.items() if one not in of_backbone()}
            _TRIED[own] = [f"{method.architecture}'s {name}" for name in _wrong(further)]
        wrong += _TRIED[own]
    return wrong


def _wrong(seen: _Seen) -> list[str]:
    """Return which modules have a convolution that gets wrong gradients."""
    return list(dict.fromkeys(name for convolution, name in seen.items() if not _is_sound(convolution)))


def _of_method(method: Method, benchmark: Benchmark, tasks: tuple[str, ...]) -> _Seen:
    """Return the convolutions of a method's network, built and run without memory where it can be.

    None of one that can't be built or run: its own run will fail with that, and the others run on.
    """
    for device in (torch.device("meta"), torch.device("cpu")):
        try:
            with device:
                architecture, _ = build(method, benchmark, tasks, 0)
                return _of_network(architecture, benchmark.data.size, device, len(tasks))
        except UserError:
            raise
        except FAULTS:
            continue
    return {}


def _of_network(network: nn.Module, size: tuple[int, int], device: torch.device, tasks: int = 1) -> _Seen:
    """Return every convolution that a network computes of some images, in training and when it embeds."""
    number = _BATCH if device.type == "meta" else 2
    images = torch.zeros(number, 3, *size, device=device)
    draws = torch.random.fork_rng(devices=()) if device.type == "cpu" else nullcontext()
    with torch.no_grad(), draws, _listening(network, number) as seen:
        network.eval()
        if isinstance(network, Architecture):
            network.embed(images)
            network.train()
            network(images.expand(tasks, *images.shape))
        else:
            network(images)
    return seen


class _Listener(TorchDispatchMode):
    """Notes each convolution that is computed while it is on."""

    def __init__(self, within: list[str], own: set[int], images: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: _Seen = {}
        self._within, self._own, self._images = within, own, images

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            maps, weights, _, stride, padding, dilation, transposed, output_padding, groups = args
            convolution = Convolution(
                maps=tuple(maps.shape[1:]), weights=tuple(weights.shape), stride=tuple(stride), padding=tuple(padding),
                dilation=tuple(dilation), transposed=transposed, output_padding=tuple(output_padding), groups=groups,
                folded=maps.shape[0] == 1 < self._images, computed=id(weights) not in self._own,
            )  # fmt: skip
            self.seen.setdefault(convolution, self._within[-1] or "forward")
        return func(*args, **(kwargs or {}))


@contextmanager
def _listening(network: nn.Module, images: int) -> Iterator[_Seen]:
    """Note the convolutions of a network meanwhile, by the innermost module that each is computed in."""
    within = [""]
    hooks = []
    for name, module in network.named_modules():

        def enter(module: nn.Module, given: Any, name: str = name) -> None:
            within.append(name)

        def leave(module: nn.Module, given: Any, made: Any) -> None:
            within.pop()

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    listener = _Listener(within, {id(parameter) for parameter in network.parameters()}, images)
    try:
        with listener:
            yield listener.seen
    finally:
        for hook in hooks:
            hook.remove()


def _is_sound(convolution: Convolution) -> bool:
    """Tell whether the gradients of a convolution of random maps are in bfloat16 those of float32, but for rounding."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(_TRIES):
        maps = torch.randn(1 if convolution.folded else _BATCH, *convolution.maps, generator=generator)
        weights = torch.randn(convolution.weights, generator=generator)
        layouts = [weights]
        if maps.dim() == 4:
            maps = maps.to(memory_format=torch.channels_last)
            layouts = [weights.to(memory_format=torch.channels_last), *(layouts if convolution.computed else ())]
        right = _gradients(convolution, maps, weights, False)
        for laid in layouts:
            for one, other in zip(right, _gradients(convolution, maps, laid, True), strict=True):
                # written so that a NaN is not sound
                if not (other - one).norm() <= _WORST * one.norm():
                    return False
    return True


def _gradients(convolution: Convolution, maps: Tensor, weights: Tensor, bfloat16: bool) -> tuple[Tensor, ...]:
    """Return the gradients of weights and maps, which autocast would turn to bfloat16 as is done here."""
    given = [tensor.detach().requires_grad_() for tensor in (weights, maps)]
    kernel, images = (tensor.bfloat16() for tensor in given) if bfloat16 else given
    c = convolution
    output = torch.convolution(
        images, kernel, None, c.stride, c.padding, c.dilation, c.transposed, c.output_padding, c.groups
    )
    towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    loss = (output.float() * towards).sum()
    stains = [torch.full((2**size,), 1e20) for size in range(4, 16) for _ in range(12)]
    del stains  # freed memory, of any size that a kernel may take for its result, holds what no gradient does
    return torch.autograd.grad(loss, given)
