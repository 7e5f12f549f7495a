"""Retrieval metrics: precision, memory, time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from retrieval_support import (
    random_task,
)
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from mtlbench.evaluation.retrieval import retrieval_metrics
from mtlbench.evaluation.triplets import triplet_hits


@pytest.fixture
def low_matmul_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def test_training_precision_settings_do_not_reach_the_metrics(low_matmul_precision: None) -> None:
    embeddings, labels = random_task(200, 4, size=64)
    embeddings += 30  # what bfloat16 products would blur
    triplets = torch.randint(0, 200, (500, 3), generator=torch.Generator().manual_seed(0))
    direct = embeddings.double()
    expected_hits = (direct[triplets[:, 0]] - direct[triplets[:, 1]]).norm(dim=1) < (
        direct[triplets[:, 0]] - direct[triplets[:, 2]]
    ).norm(dim=1)
    order = torch.cdist(direct, direct, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf).argmin(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metrics = retrieval_metrics(embeddings, labels, normalise=False, ordered_values=4)
        hits = triplet_hits(embeddings, triplets, normalise=False)
    assert metrics["precision@1"] == pytest.approx((labels[order] == labels).double().mean().item())
    assert torch.equal(hits, expected_hits)


class PeakMemory(TorchDispatchMode):
    """The most bytes that tensors made inside the block held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.live[storage.data_ptr()] = (StorageWeakRef(storage), storage.nbytes())
        self.live = {pointer: entry for pointer, entry in self.live.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result


class Operations(TorchDispatchMode):
    """How many operations on tensors there are inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The modes above hear of the operations of their own thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("ordered_values", [None, 8, 200])
def test_working_memory_stays_below_the_bound(ordered_values: int | None, one_thread: None) -> None:
    embeddings, labels = random_task(600, 2, size=4)
    bound = 2**20  # a tenth of what all pairs at once would take, or less
    with PeakMemory() as memory:
        retrieval_metrics(embeddings, labels, normalise=True, ordered_values=ordered_values, max_bytes=bound)
    per_image = 300 * len(labels)  # copies of the embeddings, labels, counts, scores: they grow with N, not with N²
    assert bound / 4 < memory.peak < bound + per_image


def test_two_thousand_images_take_seconds_at_most(one_thread: None) -> None:
    """Whatever the machine: there is no loop over images, and chunks are large enough to take few operations."""
    embeddings, labels = random_task(2000, 21, size=64)
    with Operations() as operations:
        retrieval_metrics(embeddings, labels, normalise=True, ordered_values=21)
    assert 0 < operations.count < len(labels)
