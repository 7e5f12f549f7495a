"""Checks whether matrix products are right in bfloat16 on this processor; `mtlbench.soundness` checks convolutions.

python tools/bf16_products.py

The tool runs linear layers, batched products and attention of widths 1, 2, odd and even, under bfloat16 autocast,
forward and backward, and compares them with float32 on the same numbers. Before each, it fills freed memory with 1e20.
The error is taken over all results of an operation together, output and gradients: a single number may nearly cancel,
and attention with one key has zero gradients.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TRIES, WORST = 2, 0.05
NUMBERS, FEW = (1, 2, 3, 7, 8, 17, 33), (1, 2, 5)
Operation = Callable[..., Tensor]


def self_attention(x: Tensor, into: Tensor, out: Tensor) -> Tensor:
    """Return attention with two heads, (B, S, D), computed as `nn.MultiheadAttention` does in training."""
    heads = nn.MultiheadAttention(x.shape[-1], 2, bias=False, batch_first=True)
    scale = x.shape[-1] ** -0.5  # as layers start; with larger products, softmax may enlarge rounding errors
    weights = {"in_proj_weight": into * scale, "out_proj.weight": out * scale}
    return torch.func.functional_call(heads, weights, (x, x, x), {"need_weights": False})[0]


def operations() -> list[tuple[str, Operation, tuple[tuple[int, ...], ...]]]:
    """Return the operations to try: name, function, and the shapes of the arguments."""
    found: list[tuple[str, Operation, tuple[tuple[int, ...], ...]]] = []
    for b, i, o in itertools.product(NUMBERS, repeat=3):
        found.append(("linear", F.linear, ((b, i), (o, i), (o,))))
        found.append(("product of a transposed matrix", lambda x, y: x.T @ y, ((i, b), (i, o))))
        for t in FEW:
            found.append(("batched product", torch.bmm, ((t, b, i), (t, i, o))))
            found.append(("batched product with a bias", torch.baddbmm, ((t, 1, o), (t, b, i), (t, i, o))))
            found.append(("one input, many heads", lambda x, y: x @ y.mT, ((b, i), (t, o, i))))
    for b, heads, s, d in itertools.product(FEW, FEW, (1, 2, 5, 17, 50), (1, 2, 3, 8, 17, 64)):
        found.append(("attention", F.scaled_dot_product_attention, ((b, heads, s, d),) * 3))
    for b, s, d in itertools.product(FEW, (1, 2, 5, 17), (2, 6, 8, 34)):
        found.append(("self-attention", self_attention, ((b, s, d), (3 * d, d), (d, d))))
    return found


def error(operation: Operation, shapes: tuple[tuple[int, ...], ...], seed: int) -> float:
    """Return the relative error of an operation's output and gradients in bfloat16."""
    draw = torch.Generator().manual_seed(seed)
    given = [torch.randn(shape, generator=draw) for shape in shapes]
    results = []
    for bfloat16 in (False, True):
        arguments = [tensor.clone().requires_grad_() for tensor in given]
        stain()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            output = operation(*arguments)
        towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
        loss = (output.float() * towards).sum()
        stain()
        parts = (output, *torch.autograd.grad(loss, arguments))
        results.append(torch.cat([part.detach().flatten().double() for part in parts]))
    return float((results[1] - results[0]).norm() / results[0].norm())


def stain() -> None:
    """Fill memory of many sizes with a number that no result has, and free it."""
    stains = [torch.full((2**size,), 1e20) for size in range(4, 14) for _ in range(8)]
    del stains


def main() -> None:
    """Print the largest error of each kind of operation, and every wrong operation."""
    print(f"torch {torch.__version__}, bfloat16 instructions: {torch.cpu._is_avx512_bf16_supported()}")
    largest: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, operation, shapes in operations():
        worst = max((error(operation, shapes, seed) for seed in range(TRIES)), key=lambda e: e if e == e else 1e99)
        counts[name] = counts.get(name, 0) + 1
        largest[name] = max(largest.get(name, 0.0), worst if worst == worst else float("inf"))
        if not worst <= WORST:
            print(f"wrong: {name} of {', '.join(map(str, shapes))}: relative error {worst:.2g}")
    for name, worst in largest.items():
        print(f"{name}: largest relative error {worst:.4f}, of {counts[name]:,} shapes")


if __name__ == "__main__":
    main()
