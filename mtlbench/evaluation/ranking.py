"""Galleries in the order of distance, a chunk of queries at a time: products in float64, and no more sorted than asked.

The gallery is taken in tiles that fit a processor's cache, a row is partitioned down to the depth that metrics need and
sorted no further, and each thread has chunks and memory of its own, so that none waits for another or for new pages.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from mtlbench.evaluation.distances import FARTHEST, STEP, points_of

T = TypeVar("T")

_CPU_BYTES, _GPU_BYTES = 64 * 2**20, 256 * 2**20  # of working memory: a thread's; a device's
_CPU_TILE, _CPU_CHUNK = 2**17, 256  # pairs whose float64 distances fit a core's second cache, and queries among them
_SORT_BYTES = 8  # times the key's: a sort on an accelerator holds keys, their 64-bit indices and a buffer for both
_RADIX = 2**15  # integers: as many or more, in one dimension, torch sorts by their digits where it has FBGEMM
_NEXT_TO_ZERO = 1e-30  # as a squared distance: the same step as 0, whose root takes many times as long


class Space:
    """Working memory of one thread, and how many queries are taken at once in it.

    Args:
        n: images in the gallery.
        key_type: of what galleries are sorted by.
        device: where the work is done.
        max_bytes: what it takes at most, the metrics' share included, if one query's row fits into it.

    Attributes:
        chunk: queries whose distances it holds; tile: images to which they are worked out at once.
        block: queries that are sorted and scored at once.
    """

    def __init__(self, n: int, key_type: torch.dtype, device: torch.device, max_bytes: int) -> None:
        cpu = device.type == "cpu"
        n = max(1, n)
        self.chunk = max(1, min(max_bytes // 4 // (4 * n), _CPU_CHUNK if cpu else n))
        self.tile = max(1, min(n, min(_CPU_TILE if cpu else max_bytes, max_bytes // 4 // 8) // self.chunk))
        self.block = max(1, min(self.chunk, max_bytes // 2 // (_SORT_BYTES * key_type.itemsize * n)))
        self._products = torch.empty(self.chunk * self.tile, dtype=torch.float64, device=device)
        self._bits = torch.empty(self.chunk * n, dtype=torch.int32, device=device)
        self._keys = torch.empty(self.block * n, dtype=key_type, device=device)

    def products(self, rows: int, columns: int) -> Tensor:
        """Return room for float64 products."""
        return self._products[: rows * columns].view(rows, columns)

    def bits(self, rows: int, columns: int) -> Tensor:
        """Return room for the int32 bits of distances."""
        return self._bits[: rows * columns].view(rows, columns)

    def keys(self, rows: int, columns: int) -> Tensor:
        """Return room for keys."""
        return self._keys[: rows * columns].view(rows, columns)


class Distances:
    """Distances between images of a set and those of its gallery, which are its last ones.

    Args:
        embeddings: `(n, D)`.
        normalise: divide each by its L2 norm first.
        first: where the gallery begins.
    """

    def __init__(self, embeddings: Tensor, normalise: bool, first: int = 0) -> None:
        points, unit, finite = points_of(embeddings, normalise)
        # By a power of two, which is exact, so that squares neither overflow nor vanish.
        scale = unit.max().log2().floor().exp2() if len(unit) else unit.sum()
        points, self._unit = points / scale, unit / scale
        # |x|² - 2 x·y + |y|² as one product of (-2 x, |x|², 1) and (y, 1, |y|²)
        self._right = torch.empty(len(points), points.shape[1] + 2, dtype=points.dtype, device=points.device)
        self._right[:, :-2] = points
        self._right[:, -2] = 1
        self._right[:, -1] = points.square_().sum(dim=1)
        self._finite = None if finite.all() else finite
        self._first = first

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self._right.device

    def bits(self, query: slice, space: Space) -> Tensor:
        """Return `(q, g)` int32, the steps of distance from images to the gallery, as `STEP` says; in `space`."""
        gallery, own = self._right[self._first :], self._right[query]
        n = len(gallery)
        left = torch.cat([own[:, :-2] * -2, own[:, -1:], own[:, -2:-1]], dim=1)
        left /= self._unit[query, None].square()
        bits = space.bits(len(left), n)
        distances = bits.view(torch.float32)
        for start in range(0, n, space.tile):
            right = gallery[start : start + space.tile]
            squared = torch.mm(left, right.T, out=space.products(len(left), len(right)))
            distances[:, start : start + space.tile] = squared.clamp_min_(_NEXT_TO_ZERO).sqrt_().add_(1)
        bits.bitwise_and_(-STEP)
        if self._finite is not None:
            bits[~self._finite[query]] = FARTHEST
            bits[:, ~self._finite[self._first :]] = FARTHEST
        return bits


def in_chunks(
    queries: Sequence[range],
    n: int,
    key_type: torch.dtype,
    device: torch.device,
    max_bytes: int | None,
    score: Callable[[slice, Space], T],
) -> Iterator[tuple[slice, T]]:
    """Yield every chunk of queries with what `score` makes of it; several threads work where torch has several.

    Args:
        queries: by their numbers, in parts; no chunk is of two.
        n: images in their galleries.
        key_type, device: see `Space`.
        max_bytes: of working memory for all threads; by default what suits the device.
        score: takes a chunk and its thread's memory.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    own_bytes = max_bytes // threads if max_bytes else _CPU_BYTES if device.type == "cpu" else _GPU_BYTES
    first_space = Space(n, key_type, device, own_bytes)
    size = first_space.chunk
    chunks = [slice(i, min(i + size, part.stop)) for part in queries for i in range(part.start, part.stop, size)]
    if min(threads, len(chunks)) < 2:
        yield from ((chunk, score(chunk, first_space)) for chunk in chunks)
        return
    del first_space
    local = threading.local()

    @torch.no_grad()
    def work(chunk: slice) -> T:
        if not hasattr(local, "space"):
            local.space = Space(n, key_type, device, own_bytes)
        return score(chunk, local.space)

    with _one_thread_each(threads), ThreadPoolExecutor(min(threads, len(chunks))) as pool:
        yield from zip(chunks, pool.map(work, chunks), strict=True)


@contextmanager
def _one_thread_each(threads: int) -> Iterator[None]:
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _has_radix_sort() -> bool:
    return "fbgemm" in torch.backends.quantized.supported_engines


def first(keys: Tensor, depth: int) -> Tensor:
    """Return the lowest `depth` keys of each row, ascending; overwrites `keys`."""
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values[:, :depth]
    if keys.shape[1] >= _RADIX and depth > keys.shape[1] // 6 and _has_radix_sort():
        for row in keys:  # in half the time that NumPy takes
            row.copy_(row.sort().values)
        return keys[:, :depth]
    # NumPy orders the values alone, about fifteen times faster than torch, which carries the indices along.
    rows = keys.numpy()
    if 0 < depth < rows.shape[1]:
        rows.partition(depth - 1, axis=1)
    rows = rows[:, :depth]
    rows.sort(axis=1)
    return torch.from_numpy(rows)
