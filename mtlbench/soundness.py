"""Whether a processor's bfloat16 gives the right gradients for a network: some kernels do not, without a word.

torch 2.14.1 with oneDNN on processors with AVX-512 BF16: a 3x3 convolution of stride 2 on maps of width 1, channels
last, under bfloat16 autocast, gets a weight gradient from memory that was never written. Small images meet it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import Benchmark
from mtlbench.devices import choose_precision
from mtlbench.errors import UserError

_WORST = 0.05  # relative error of a gradient; that of rounding to bfloat16 is about 0.003
_TRIES, _BATCH = 3, 8

_TRIED: dict[tuple[type, str, tuple[int, int]], list[str]] = {}


def sound_precision(benchmark: Benchmark, device: torch.device) -> tuple[str, str]:
    """Return the precision that a benchmark's networks are to run in, and what the user should know of it.

    Float32 instead of bfloat16 where a processor's bfloat16 gives wrong gradients; see `unsound_convolutions`.
    """
    precision = choose_precision(benchmark.train.precision, device)
    if precision != "bf16" or device.type != "cpu":
        return precision, ""
    try:
        wrong = unsound_convolutions(benchmark)
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


def unsound_convolutions(benchmark: Benchmark) -> list[str]:
    """Return which convolutions of a benchmark's backbone get wrong weight gradients in bfloat16 on this processor.

    Each convolution is tried alone, on random maps of the size that it sees, against float32; a network and image size
    are tried once a process.
    """
    model, size = benchmark.model, benchmark.data.size
    factory = BackboneFactory(model.backbone, size, model.embedding)
    key = (type(factory.kind), model.backbone, size)  # a plug-in that has been edited is another class
    if key not in _TRIED:
        inputs = _inputs(factory.backbone(), size)
        _TRIED[key] = [name for name, (convolution, shape) in inputs.items() if not _is_sound(convolution, shape)]
    return _TRIED[key]


def _inputs(backbone: nn.Module, size: tuple[int, int]) -> dict[str, tuple[nn.Conv2d, torch.Size]]:
    """Return every convolution by name, with the shape of what it sees of one image."""
    seen: dict[str, tuple[nn.Conv2d, torch.Size]] = {}
    hooks = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):

            def note(module: nn.Conv2d, given: tuple[Tensor, ...], name: str = name) -> None:
                seen[name] = (module, given[0].shape[1:])

            hooks.append(module.register_forward_pre_hook(note))
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return seen


def _is_sound(convolution: nn.Conv2d, shape: torch.Size) -> bool:
    convolution = convolution.to(memory_format=torch.channels_last).train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(_TRIES):
        maps = torch.randn(_BATCH, *shape, generator=generator).to(memory_format=torch.channels_last)
        stains = [torch.full((convolution.weight.numel(),), 1e20) for _ in range(4)]
        del stains  # freed memory that a kernel may take for its result holds what no gradient does
        right, tried = (_gradient(convolution, maps, bfloat16) for bfloat16 in (False, True))
        # written so that a NaN is not sound
        if not (tried - right).norm() <= _WORST * right.norm():
            return False
    return True


def _gradient(convolution: nn.Conv2d, maps: Tensor, bfloat16: bool) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        output = convolution(maps)
    towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((output.float() * towards).sum(), convolution.weight)
    return gradient
