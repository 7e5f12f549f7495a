"""Devices, precisions and random generators that training and evaluation run with."""

from __future__ import annotations

import contextlib
import os
import platform
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mtlbench.errors import UserError, first_line


def choose_device(name: str) -> torch.device:
    """Return the device that `auto`, `cpu`, `cuda` or `cuda:1` stands for.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name} can't be used here: {first_line(error)}") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: mtlbench runs on cpu and cuda.")
    return device


def choose_precision(name: str, device: torch.device) -> str:
    """Return `bf16` or `fp32`; `auto` takes bfloat16 where the device has instructions for it."""
    if name != "auto":
        return name
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported() else "fp32"


def device_name(device: torch.device) -> str:
    """Return the device's own name, with the number of threads for a processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux: the platform module's word stands
    threads = torch.get_num_threads()
    return f"{model}, {threads} thread{'s' * (threads > 1)}"


def cuda_settings(deterministic: bool = False) -> dict[str, str | int | bool | None]:
    """Return how CUDA's libraries compute in this process: in which float32, by which choice of kernels.

    Args:
        deterministic: whether training took `deterministic_kernels`, which leave nothing behind.
    """
    cudnn = torch.backends.cudnn
    return {
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version() if cudnn.is_available() else None,
        "tf32_convolutions": cudnn.allow_tf32,
        "tf32_products": torch.get_float32_matmul_precision() != "highest",
        "cudnn_benchmark": cudnn.benchmark,
        "deterministic": deterministic or cudnn.deterministic or torch.are_deterministic_algorithms_enabled(),
    }


def allow_deterministic(device: torch.device) -> None:
    """Let cuBLAS be deterministic later on: it looks at this once, before its first product."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Take only kernels of a GPU that give the same bits every time, if that is wanted; torch refuses what has none.

    What was set before is set again in the end: other runs of this process, and evaluation, compute as they would.
    """
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
        torch.use_deterministic_algorithms(strict, warn_only=warns)


def named_generator(device: torch.device, seed: int, *names: str) -> torch.Generator:
    """Return a generator whose draws depend on the seed and the names alone."""
    generator = torch.Generator(device)
    generator.manual_seed(zlib.crc32("/".join((str(seed), *names)).encode()))
    return generator


def uniforms(generators: Sequence[torch.Generator], *shape: int) -> Tensor:
    """Return (G, *shape) float64 numbers in [0, 1), row g drawn by generator g alone."""
    rows = [torch.rand(*shape, generator=g, device=g.device, dtype=torch.float64) for g in generators]
    return torch.stack(rows)


def whole(draws: Tensor, high: Tensor | int) -> Tensor:
    """Turn float64 numbers in [0, 1) into whole numbers in [0, high), int64, each as likely as the others."""
    numbers = (draws * high).long()  # the product may round up to high
    return numbers.clamp(max=high - 1) if isinstance(high, int) else torch.minimum(numbers, high - 1)


def here(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Return the generator itself if it is the device's, else one of the device that is seeded by its next draw."""
    if generator.device.type == device.type:
        return generator
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    return torch.Generator(device).manual_seed(seed)


def sent(parts: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Return int64 tensors on a device: those of the host in one copy, which the host does not wait for."""
    if device.type == "cpu" or any(part.device.type != "cpu" for part in parts):
        return [part.to(device) for part in parts]
    total = sum(part.numel() for part in parts)
    packed = torch.empty(total, dtype=torch.int64, pin_memory=device.type == "cuda")
    torch.cat([part.reshape(-1) for part in parts], out=packed)
    there = packed.to(device, non_blocking=True).split([part.numel() for part in parts])
    return [piece.view(part.shape) for piece, part in zip(there, parts, strict=True)]


@contextlib.contextmanager
def convolutions_as_before() -> Iterator[None]:
    """At the end, restore in which float32 a GPU's convolutions compute, which `computing_in` sets."""
    before = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextlib.contextmanager
def computing_in(precision: str, device: torch.device) -> Iterator[None]:
    """Run networks in bfloat16 autocast, or in float32, as `precision` says.

    On a GPU float32 is float32, for the gradients that follow too: convolutions take TF32 only beside bfloat16, until
    the next call, or the end of `convolutions_as_before`.
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield
