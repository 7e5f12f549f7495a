"""Times the retrieval metrics of a split, beside mtlbench's earlier code and beside the bare matrix product.

    python tools/speed/evaluation.py --images 10000 20000 50000 --tasks 4 --threads 2

Embeddings are drawn at random around a centre for each label value. Every way runs in its own process, so that its
peak memory is its own, and in turn with the others, so that other work on the machine slows all of them. The tool
prints medians over the rounds of seconds for all tasks, wall-clock and CPU.

    plain      float64 distances of a chunk of queries to all images, every row sorted to its end: mtlbench before
    now        `scores_of_tasks`, task by task, as the tasks have embeddings of their own
    together   `scores_of_tasks`, where all tasks have the same embeddings
    float64    the product of all embeddings with all in float64, in the same tiles: nothing exact is faster
    float32    the same in float32

50,000 images of 64 numbers, four tasks of two values, two threads of an AMD EPYC with AVX-512 (torch 2.14.1, NumPy
2.4.6): 91 s and 0.79 GiB, or 69 s where the tasks have the same embeddings. A pair of images takes a core about 18 ns:
7 to sort it, since R is half of the gallery, 6 to 7 for its distance in float64, 4 for the scores. torch sorts 32,768
integers and more by their digits; NumPy takes 15 ns for the nearer half of a gallery and 20 for a whole one there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor

from mtlbench.devices import device_name
from mtlbench.evaluation.retrieval import retrieval_scores, scores_of_tasks
from mtlbench.plugins import load_plugins

KS = (1, 5, 10, 20)
_ONE, _DROPPED, _FARTHEST = 0x3F800000, 4, 42 << 19


def plain(embeddings: Tensor, labels: Tensor, max_bytes: int = 32 * 2**20) -> dict[str, Tensor]:
    """Score the unordered labels of one task by the definitions: the reference that `now` must equal.

    Args:
        embeddings: `(N, D)`, all finite and none zero; they are normalised.
        labels: `(N,)`, none below 0.
        max_bytes: working memory.
    """
    order = labels.argsort(stable=True)
    labels, points = labels[order], embeddings[order].double()
    points /= points.norm(dim=1, keepdim=True)
    squares = points.square().sum(dim=1)
    relevant = (labels[:, None] == labels.unique()).sum(0)[torch.unique(labels, return_inverse=True)[1]] - 1
    positions = torch.arange(1, len(labels), dtype=torch.float64)
    found: dict[str, list[Tensor]] = {}
    chunk = max(1, max_bytes // (32 * len(labels)))
    for start in range(0, len(labels), chunk):
        query = slice(start, start + chunk)
        distances = torch.addmm(squares, points[query], points.T, alpha=-2).add_(squares[query, None])
        ratio = distances.clamp_min_(0).sqrt_().add_(1).float()
        keys = ratio.view(torch.int32).sub_(_ONE).bitwise_right_shift_(_DROPPED)
        keys = keys.bitwise_left_shift_(1).add_((labels[query, None] == labels).int())
        keys.diagonal(offset=start).fill_(torch.iinfo(torch.int32).max)
        keys.numpy().sort(axis=1)
        hits = keys[:, :-1].bitwise_and_(1) == 1
        r = relevant[query]
        within = hits[:, : int(r.max())] & (positions[: int(r.max())] <= r[:, None])
        counted = within.cumsum(dim=1, dtype=torch.int32).mul_(within).double()
        scores = {f"hit@{k}": hits[:, :k].any(dim=1).double() for k in KS}
        scores |= {f"precision@{k}": hits[:, :k].sum(dim=1).double() / k for k in KS}
        scores["map@r"] = counted @ positions[: within.shape[1]].reciprocal() / r
        scores["r-precision"] = within.sum(dim=1).double() / r
        for name, rows in scores.items():
            found.setdefault(name, []).append(torch.where(r > 0, rows, torch.nan))
    return {name: torch.empty(len(labels)).double().index_copy_(0, order, torch.cat(f)) for name, f in found.items()}


def product(embeddings: Tensor, rows: int = 256, columns: int = 512) -> None:
    """Multiply all embeddings with all, in tiles of the given size, on as many threads as torch has."""
    out = torch.empty(rows, columns, dtype=embeddings.dtype)
    tiles = [embeddings[start : start + columns].T.contiguous() for start in range(0, len(embeddings), columns)]
    for own in embeddings.split(rows):
        for tile in tiles:
            torch.mm(
                own, tile, out=out[: len(own), : tile.shape[1]] if len(own) < rows or tile.shape[1] < columns else out
            )


def draw(images: int, values: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `(images, size)` embeddings and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, values, (images,), generator=generator)
    centres = 0.5 * torch.randn(values, size, generator=generator)
    return torch.randn(images, size, generator=generator) + centres[labels], labels


def one(way: str, images: int, chosen: argparse.Namespace) -> None:
    """Time one way, and write the result as JSON."""
    torch.set_num_threads(chosen.threads)
    load_plugins()
    drawn = [draw(images, chosen.values, chosen.size, seed) for seed in range(chosen.tasks)]
    shared = drawn[0][0]
    labels = torch.stack([own for _, own in drawn])
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: [plain(*task) for task in drawn],
        "now": lambda: [retrieval_scores(*task, normalise=True, ks=KS) for task in drawn],
        "together": lambda: scores_of_tasks(shared, labels, [None] * len(labels), normalise=True, ks=KS),
        "float64": lambda: [product(points.double()) for points, _ in drawn],
        "float32": lambda: [product(points) for points, _ in drawn],
    }
    retrieval_scores(*draw(200, 2, chosen.size, 0), normalise=True)  # costs that each process has only once
    clock, processors = time.perf_counter(), time.process_time()
    ways[way]()
    spent = [time.perf_counter() - clock, time.process_time() - processors]
    print(json.dumps([*spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))


def equal(chosen: argparse.Namespace) -> str:
    """Compare `plain` and `now` on 5,000 images, query by query."""
    points, labels = draw(5000, chosen.values, chosen.size, 7)
    before, now = plain(points, labels), retrieval_scores(points, labels, normalise=True, ks=KS)
    unlike = max(float(np.nanmax((before[name] - now[name]).abs().numpy())) for name in before)
    return f"largest difference of a query's score on 5,000 images: {unlike:.1e}"


def main() -> None:
    """Read the command line, measure, print."""
    what, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=what, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 20_000, 50_000])
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--values", type=int, default=2, help="label values of a task")
    parser.add_argument("--size", type=int, default=64, help="of an embedding")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=["plain", "now", "together", "float64", "float32"])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one, chosen.images[0], chosen)
        return
    load_plugins()
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    print(f"{device_name(torch.device('cpu'))}, {chosen.threads} threads{load}; torch {torch.__version__}")
    print(f"{chosen.tasks} tasks of {chosen.values} values, embeddings of {chosen.size}; {chosen.rounds} rounds")
    print(equal(chosen))
    rows = []
    for images in chosen.images:
        runs: dict[str, list[list[float]]] = {way: [] for way in chosen.ways}
        for _ in range(chosen.rounds):
            for way, kept in runs.items():
                command = [sys.executable, __file__, "--one", way, "--images", str(images)]
                for name in ("tasks", "values", "size", "threads"):
                    command += [f"--{name}", str(getattr(chosen, name))]
                kept.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
                clock, spent, peak = kept[-1]
                print(f"{images:,} {way}: {clock:.2f} s, {spent:.2f} processor s, {peak:.2f} GiB", file=sys.stderr)
        medians = {way: [statistics.median(column) for column in zip(*kept, strict=True)] for way, kept in runs.items()}
        base = medians[chosen.ways[0]]
        rows += [
            [f"{images:,}", way, f"{clock:.2f}", f"{spent:.2f}", f"{clock / base[0]:.2f}", f"{peak:.2f}"]
            for way, (clock, spent, peak) in medians.items()
        ]
    headings = ["images", "way", "s", "processor s", f"x {chosen.ways[0]}", "peak GiB"]
    print(tabulate(rows, headings, disable_numparse=True, colalign=("right", "left", *["right"] * 4)))


if __name__ == "__main__":
    main()
