"""Shows bfloat16 gradients of convolutions that torch reads from memory never written; for a report upstream.

It needs torch alone, no part of mtlbench: python tools/bf16_reproduction.py

The tool computes each convolution on a CPU, channels last, in bfloat16 and in float32, on the same numbers. Before
that, it fills memory of every size with 1e20 and frees it: a gradient that was never written then holds such numbers.
Rounding to bfloat16 alone gives a relative error of about 0.003.
"""

from __future__ import annotations

import itertools
import platform
from pathlib import Path

import torch
from torch import Tensor

TRIES, WORST = 4, 0.05
CHANNELS, BATCH = 32, 8


def processor() -> str:
    """Return the processor's name, and its instructions that compute in bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    about = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    about = {key.strip(): value.strip() for key, value in about.items()}
    instructions = [one for one in about.get("flags", "").split() if "bf16" in one]
    return f"{about.get('model name', platform.machine())}, {' '.join(instructions) or 'no bfloat16 instructions'}"


def gradient(images: Tensor, weights: Tensor, stride: int, groups: int, kind: torch.dtype) -> Tensor:
    """Return the weights' gradient of a convolution, computed in `kind` as autocast would."""
    weights = weights.detach().requires_grad_()
    output = torch.conv2d(images.to(kind), weights.to(kind), None, stride, padding=1, groups=groups)
    towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    loss = (output.float() * towards).sum()
    stains = [torch.full((2**size,), 1e20) for size in range(4, 16) for _ in range(12)]
    del stains
    return torch.autograd.grad(loss, weights)[0].double()


def main() -> None:
    """Print which convolutions have a wrong gradient, in how many tries, and how wrong it is."""
    print(f"torch {torch.__version__}, {processor()}, {torch.get_num_threads()} threads")
    kinds = list(itertools.product((1, 2, 3, 4), (1, 4, CHANNELS), (1, 2, 5), (1, 2, 3, 4, 5, 8)))
    wrong = 0
    for stride, groups, height, width in kinds:
        errors = []
        for seed in range(TRIES):
            draw = torch.Generator().manual_seed(seed)
            images = torch.randn(BATCH, CHANNELS, height, width, generator=draw)
            weights = torch.randn(CHANNELS, CHANNELS // groups, 3, 3, generator=draw)
            images, weights = (one.to(memory_format=torch.channels_last) for one in (images, weights))
            right, found = (gradient(images, weights, stride, groups, one) for one in (torch.float32, torch.bfloat16))
            errors.append(float((found - right).norm() / right.norm()))
        bad = [error for error in errors if not error <= WORST]  # a NaN is bad too
        if bad:
            wrong += 1
            print(
                f"wrong in {len(bad)} of {TRIES} tries: 3x3, stride {stride}, padding 1, groups {groups}, images"
                f" ({BATCH}, {CHANNELS}, {height}, {width}); relative errors {min(bad):.2g} to {max(bad):.2g}"
            )
    print(f"{wrong} of {len(kinds)} convolutions have a wrong weight gradient.")


if __name__ == "__main__":
    main()
