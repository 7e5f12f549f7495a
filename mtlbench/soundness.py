"""Whether a processor's bfloat16 gives the right gradients for a network: some kernels do not, without a word.

torch 2.14.1 with oneDNN on processors with AVX-512 BF16: a convolution of stride 2 or more, of one group, of several or
of one a channel, gets a weight gradient from memory that was never written, channels last, under bfloat16 autocast: at
stride 2 on maps of width 1, at strides 3 and 4 on maps of width up to 4. Small images meet it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlbench.architecture import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import Benchmark
from mtlbench.devices import choose_precision
from mtlbench.errors import UserError
from mtlbench.networks import build
from mtlbench.registry import ARCHITECTURES
from mtlbench.specs import Method

_WORST = 0.05  # relative error of a gradient; that of rounding to bfloat16 is about 0.003
_TRIES, _BATCH = 3, 8

_TRIED: dict[tuple[object, ...], list[str]] = {}
_Seen = dict[str, tuple[nn.Conv2d, torch.Size]]


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
    except Exception:  # a fault in a plug-in's backbone: its runs will fail with it, and say where
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
    if network not in _TRIED:
        seen = _inputs(factory.backbone(), size, torch.device("cpu"))
        _TRIED[network] = [name for name, one in seen.items() if not _is_sound(*one)]
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
            known = {_likeness(*one) for one in _inputs(factory.backbone(), size, torch.device("cpu")).values()}
            further = {_likeness(*one): (name, one) for name, one in _of_method(method, benchmark, tasks).items()}
            _TRIED[own] = [
                f"{method.architecture}'s {name}"
                for likeness, (name, (convolution, shape)) in further.items()
                if likeness not in known and not _is_sound(_on_cpu(convolution), shape)
            ]
        wrong += _TRIED[own]
    return wrong


def _of_method(method: Method, benchmark: Benchmark, tasks: tuple[str, ...]) -> _Seen:
    """Return the convolutions of a method's network, built and run without memory where it can be.

    None of one that can't be built or run: its own run will fail with that, and the others run on.
    """
    for device in (torch.device("meta"), torch.device("cpu")):
        try:
            with device:
                architecture, _ = build(method, benchmark, tasks, 0)
                return _inputs(architecture, benchmark.data.size, device)
        except UserError:
            raise
        except Exception:
            continue
    return {}


def _inputs(network: nn.Module, size: tuple[int, int], device: torch.device) -> _Seen:
    """Return every convolution by name, with the shape of what it sees of one image."""
    seen: _Seen = {}
    hooks = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):

            def note(module: nn.Conv2d, given: tuple[Tensor, ...], name: str = name) -> None:
                seen[name] = (module, given[0].shape[1:])

            hooks.append(module.register_forward_pre_hook(note))
    images = torch.zeros(1, 3, *size, device=device)
    with torch.no_grad():
        network.eval()
        network.embed(images) if isinstance(network, Architecture) else network(images)
    for hook in hooks:
        hook.remove()
    return seen


def _likeness(convolution: nn.Conv2d, shape: torch.Size) -> tuple[object, ...]:
    """Return what two convolutions have in common whose gradients one kernel computes alike."""
    c = convolution
    return type(c), tuple(shape), c.out_channels, c.kernel_size, c.stride, c.padding, c.dilation, c.groups


def _on_cpu(convolution: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution of the same settings with weights."""
    made = copy.deepcopy(convolution).to_empty(device="cpu")
    made.reset_parameters()
    return made


def _is_sound(convolution: nn.Conv2d, shape: torch.Size) -> bool:
    convolution = convolution.to(memory_format=torch.channels_last).train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(_TRIES):
        maps = torch.randn(_BATCH, *shape, generator=generator).to(memory_format=torch.channels_last)
        right, tried = (_gradient(convolution, maps, bfloat16) for bfloat16 in (False, True))
        # written so that a NaN is not sound
        if not (tried - right).norm() <= _WORST * right.norm():
            return False
    return True


def _gradient(convolution: nn.Conv2d, maps: Tensor, bfloat16: bool) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        output = convolution(maps)
    towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    loss = (output.float() * towards).sum()
    stains = [torch.full((2**size,), 1e20) for size in range(4, 16) for _ in range(12)]
    del stains  # freed memory, of any size that a kernel may take for its result, holds what no gradient does
    (gradient,) = torch.autograd.grad(loss, convolution.weight)
    return gradient
