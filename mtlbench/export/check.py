"""Whether an exported file embeds as the run did: differences, triplet accuracy, size, time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtlbench.data.decoding import BROKEN, FILE, Pixels, read_image, reason_of
from mtlbench.errors import UserError
from mtlbench.evaluation.triplets import triplet_hits
from mtlbench.export.formats import Embed
from mtlbench.export.network import Deployed
from mtlbench.report.clustering import SharedImages
from mtlbench.report.evidence import read_groups, read_hits, read_labels, read_triplets
from mtlbench.search import Run, finite, read_stored

_BATCH = 64
_RANDOM = 16  # images
# of the largest number in an embedding; wrong conversions are far beyond. In int8 no difference is known beforehand:
# what it does to the accuracy is measured and said, and only a file that embeds at random is refused
_TOLERATED = {"fp32": 1e-3, "fp16": 5e-2, "int8": 1.0}
_TIMED_BATCH, _REPEATS = 32, 10
_SURE = 1.96  # standard errors


@dataclass(frozen=True)
class Check:
    """What an exported file was found to do.

    Attributes:
        images: how many were embedded.
        random: they are random pixels, since the run's test images are not at hand.
        largest: the largest absolute number in the embeddings that the run's network computes in float32.
        difference: the largest absolute difference of the file's embeddings to those.
        stored: the largest absolute difference to the embeddings that the run stored in float16; None without them.
        before, after: triplet accuracy by task, of the run and of the file, on the same triplets; empty without them.
        errors: the standard error by task that other test images would bring to the difference of the two, a share.
        bytes: the file's size.
        one, many: milliseconds an image under onnxruntime, one at a time and in batches of 32; None elsewhere.
        threads: that it ran on.
    """

    images: int
    random: bool
    largest: float
    difference: float
    stored: float | None
    before: dict[str, float]
    after: dict[str, float]
    errors: dict[str, float]
    bytes: int
    one: float | None
    many: float | None
    threads: int

    @property
    def fallen(self) -> tuple[str, ...]:
        """The tasks whose accuracy the file lowers by more than other test images explain."""
        return tuple(task for task in self.before if self.fall(task) > _SURE * self.errors[task])

    def fall(self, task: str) -> float:
        """Return by how much the file's accuracy is below the run's, a share."""
        return self.before[task] - self.after[task]

    def fall_in_words(self, task: str) -> str:
        """Return by how much the file's accuracy is below the run's, in points with the 95 % interval's half."""
        return f"{100 * self.fall(task):.1f} ±{100 * _SURE * self.errors[task]:.1f} points"


@torch.no_grad()
def check(
    run: Run,
    embed: Embed,
    file: Path,
    task: int | None,
    precision: str,
    test_images: Sequence[Path] | None,
    timed: bool,
    progress: Callable[[int, int], None] | None = None,
) -> Check:
    """Compare an exported file with the run.

    Args:
        run: on the CPU.
        embed: runs the file.
        file: it.
        task: the task's index, or None for all.
        precision: `fp32`, `fp16` or `int8`.
        test_images: the run's, in the order of its embeddings; None where they are not at hand.
        timed: measure its speed.
        progress: told how many images are embedded, of how many.

    Raises:
        UserError: the file's embeddings are not the network's, these are not finite, or a test image can't be read.
    """
    reference = Deployed(run, task)
    found, wanted = [], []
    random = random_images(run)
    total = _RANDOM if test_images is None else len(test_images)
    for start in range(0, total, _BATCH):
        images = random if test_images is None else _read(run, test_images[start : start + _BATCH])
        wanted.append(finite(run, reference(images)))
        found.append(embed(images).float())
        if progress:
            progress(min(start + _BATCH, total), total)
    axis = 0 if task is not None else 1
    ours, theirs = torch.cat(found, axis), torch.cat(wanted, axis)
    one_image = random[:1] if test_images is None else _read(run, test_images[:1])
    alone = embed(one_image)  # a batch of another size
    difference = max(_apart(ours, theirs), _apart(alone, reference(one_image)))
    largest = float(theirs.abs().max())
    if not difference <= _TOLERATED[precision] * max(largest, 1e-6):
        raise UserError(
            f"The exported file does not embed as {run.folder} does: its numbers differ by up to {difference:.3g},"
            f" where the largest is {largest:.3g}; nothing was kept. Take another --format"
            f"{' or --precision fp32' if precision != 'fp32' else ''}."
        )
    stored, before, after, errors = None, dict[str, float](), dict[str, float](), dict[str, float]()
    if test_images is not None:
        kept = read_stored(run)[0]
        stored = _apart(ours, kept if task is None else kept[task])
        before, after, errors = _accuracies(run, ours if task is None else ours[None], task)
    one = _milliseconds(embed, random[:1]) if timed else None
    many = _milliseconds(embed, random.repeat(_TIMED_BATCH // _RANDOM, 1, 1, 1)) if timed else None
    return Check(
        total,
        test_images is None,
        largest,
        difference,
        stored,
        before,
        after,
        errors,
        file.stat().st_size,
        one,
        many,
        torch.get_num_threads(),
    )


def random_images(run: Run) -> Tensor:
    """Return some images (n, H, W, 3) uint8 of random pixels, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (_RANDOM, *run.benchmark.data.size, 3), dtype=torch.uint8, generator=generator)


def _apart(first: Tensor, second: Tensor) -> float:
    """Return the largest absolute difference; infinite where shapes differ or a number is none."""
    if first.shape != second.shape:
        return float("inf")
    far = (first - second).abs()
    return float(far.max()) if bool(far.isfinite().all()) else float("inf")


def _read(run: Run, files: Sequence[Path]) -> Tensor:
    return torch.from_numpy(read_pixels(run, files))


def read_pixels(run: Run, files: Sequence[Path]) -> Pixels:
    """Return images as the benchmark prepares them: (n, H, W, 3) uint8.

    Raises:
        UserError: one can't be read.
    """
    data, pixels = run.benchmark.data, []
    for file in files:
        try:
            pixels.append(read_image(file, data.size, data.fit, np.zeros(1, FILE)[0]))
        except BROKEN as error:
            raise UserError(f"{file}, an image of the run's data, can't be read: {reason_of(error)}.") from error
    return np.stack(pixels)


def _accuracies(
    run: Run, embeddings: Tensor, task: int | None
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return the triplet accuracy of the run and of the file's embeddings (T or 1, N, D), by task.

    And the standard error of their difference: both answered the same triplets, which share images, persons and labels.
    """
    hits, triplets = read_hits(run.folder, run.record), read_triplets(run.folder)
    count = embeddings.shape[1]
    if hits is None or triplets is None or triplets.shape[:2] != hits.shape or int(triplets.max()) >= count:
        return {}, {}, {}
    tasks = range(len(run.tasks)) if task is None else (task,)
    groups, labels = read_groups(run.folder), read_labels(run.folder, run.record)
    before, after, errors = {}, {}, {}
    for t, points in zip(tasks, embeddings, strict=True):
        asked = torch.from_numpy(triplets[t].astype(np.int64))
        name, own = run.tasks[t], hits[t].astype(np.float64)
        ordered = triplet_hits(points, asked, run.benchmark.embedding.normalise).numpy().astype(np.float64)
        before[name], after[name] = float(own.mean()), float(ordered.mean())
        shared = SharedImages(triplets[t][None], groups, None if labels is None else labels[t][None])
        errors[name] = math.sqrt(shared.spread((own - ordered)[None]))
    return before, after, errors


def _milliseconds(embed: Embed, images: Tensor) -> float:
    """Return the median time an image, after a pass to warm up."""
    embed(images)
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        embed(images)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken) / len(images)
