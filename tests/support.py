"""A data set in memory and a short protocol, for tests that train."""

from __future__ import annotations

import torch

from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.data.dataset import Dataset

TASKS = ("colour", "shape")


def make_dataset(tasks: tuple[str, ...] = TASKS, seed: int = 0) -> Dataset:
    """90 noisy images of 24 px, whose halves show the labels of two tasks: 54 train, 18 val, 18 test."""
    random = torch.Generator().manual_seed(seed)
    labels = {"colour": torch.randint(0, 2, (90,), generator=random), "shape": torch.arange(90) // 2 % 3}
    images = torch.randint(0, 60, (90, 24, 24, 3), generator=random)
    images[:, :, :12] += labels["colour"][:, None, None, None] * 120
    images[:, :, 12:] += labels["shape"][:, None, None, None] * 60
    return Dataset(
        images=images.to(torch.uint8),
        labels=torch.stack([labels[t] for t in tasks]),
        split=torch.tensor([0, 0, 0, 1, 2]).repeat(18),
        tasks=tasks,
        values=tuple(tuple("abc"[: int(labels[t].max()) + 1]) for t in tasks),
        ordered=tuple(False for _ in tasks),
        pixels="unit",
        facts={"fingerprint": "made up", "name": "made up", "rendered": True},
    )


def protocol(*settings: str) -> Benchmark:
    """The quick shoes protocol, cut to a handful of steps on tiny images."""
    short = (
        "data.image_size=24", "model.embedding=8", "train.steps=6", "train.triplets=4", "train.joint_triplets=16",
        "evaluation.every=3", "evaluation.triplets=64", "train.precision='fp32'", "train.shift=1",
    )  # fmt: skip
    return load_benchmark("shoes", quick=True, settings=[*short, *settings])
