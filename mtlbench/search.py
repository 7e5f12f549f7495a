"""Searches with a user's own photos: a run's network embeds them, and the nearest images are found.

The gallery is the run's test images, whose embeddings it kept, or the images of a folder. Nothing is trained.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtlbench.architecture import Architecture
from mtlbench.benchmark import Benchmark
from mtlbench.data.decoding import BROKEN, FILE, Pixels, fitted, read_image, reason_of
from mtlbench.data.files import digest_of
from mtlbench.data.pixels import normalise
from mtlbench.devices import computing_in, convolutions_as_before
from mtlbench.errors import UserError, counted
from mtlbench.evaluation.retrieval import nearest
from mtlbench.names import find_task
from mtlbench.networks import build, deployed_state
from mtlbench.runs import Record, benchmark_of, partial_folder, read_record
from mtlbench.runs.provenance import sources_of
from mtlbench.runs.record import WEIGHTS
from mtlbench.runs.setup import method_of
from mtlbench.specs import TUNED

_BATCH = 256  # images that are decoded and embedded at once
LARGE = 50_000  # images of a gallery from which on faiss is asked first


@dataclass(frozen=True)
class Run:
    """A finished run whose network can embed images.

    Attributes:
        folder: where its record lies.
        architecture: the chosen checkpoint, on `device`.
        edited: the method's source is another than the one that the run was made with.
    """

    folder: Path
    record: Record
    benchmark: Benchmark
    architecture: Architecture
    device: torch.device
    edited: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """The run's tasks, in the order of its embeddings."""
        return tuple(self.record.setup["tasks"])

    def find_task(self, name: str) -> str:
        """Return a task in the run's spelling; case, hyphens and underscores don't matter.

        Raises:
            UserError: there is none.
        """
        return find_task(name, self.tasks, self.folder)

    @property
    def digest(self) -> str:
        """The SHA-256 of its weights, by which an index knows the network that made it."""
        return digest_of(self.folder / "weights.safetensors")

    @torch.no_grad()
    def embed(self, images: Pixels) -> Tensor:
        """Embed images (n, H, W, 3) of the benchmark's size under every task: (T, n, D) float32 on the CPU."""
        seen = normalise(torch.from_numpy(images).to(self.device), self.benchmark.data.pixels)
        with convolutions_as_before(), computing_in(self.record.setup["precision"], self.device):
            return self.architecture.embed(seen).float().cpu()


class Embeds(Protocol):
    """What embeds images: a `Run`, or an exported file (`mtlbench.export.served.Served`)."""

    @property
    def folder(self) -> Path:
        """The run's folder, or the file."""

    @property
    def record(self) -> Record:
        """What is known of the run."""

    @property
    def benchmark(self) -> Benchmark:
        """How images are prepared and embeddings compared."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Under which it embeds, in the order of its embeddings."""

    @property
    def digest(self) -> str:
        """The SHA-256 of what was trained."""

    def embed(self, images: Pixels) -> Tensor:
        """Embed images (n, H, W, 3) uint8 of the benchmark's size: (T, n, D) float32 on the CPU."""

    def find_task(self, name: str) -> str:
        """Return a task in its own spelling."""


@dataclass(frozen=True)
class Found:
    """What a query's search found under one task: places in the gallery and distances, the nearest first.

    Attributes:
        names: of the images that were found, where the gallery names its images.
    """

    task: str
    places: tuple[int, ...]
    distances: tuple[float, ...]
    names: tuple[str, ...] = ()


def load_run(folder: Path, device: torch.device) -> Run:
    """Load a run's network from its record and its weights. Plug-ins must have been loaded before.

    Raises:
        UserError: no run, an unfinished or failed one, weights that are missing, don't fit or are not those that the
            run wrote, an unknown method.
    """
    if folder.name == "run.json":
        folder = folder.parent
    record = read_record(folder)
    if record is None:
        if (partial_folder(folder) / "state.json").exists():
            raise UserError(f"The run {folder} is not finished: the same mtlbench run command continues it.")
        inside = sorted(str(p.parent) for p in folder.glob("seed-*/run.json"))
        tuned = folder.with_name(f"{folder.name}@{TUNED}")  # a method's folder, where the benchmark has a recipe for it
        for other in (tuned, folder.parent.with_name(f"{folder.parent.name}@{TUNED}") / folder.name):
            inside += [str(p.parent) for p in sorted([*other.glob("run.json"), *other.glob("seed-*/run.json")])]
        name = f" Did you mean: {inside[0]}?" if inside else ""
        raise UserError(f"{folder} is not a run: name a run's folder, such as results/shoes-quick/shared/seed-0.{name}")
    if record.kind != "method":
        raise UserError(f"{folder} is a reference row, which keeps no network: name the run of a method.")
    if record.status != "done":
        raise UserError(f"The run {folder} has failed ({record.reason}): run it again with mtlbench run.")
    file = folder / "weights.safetensors"
    if not file.exists():
        raise UserError(f"There is no {file}: copy the weights along with run.json, or run the method again.")
    benchmark = benchmark_of(record)
    method = method_of(record)
    # the weights come from the run: nothing is to be fetched
    model = benchmark.model.model_copy(update={"pretrained": False})
    try:
        architecture, _ = build(
            method, benchmark.model_copy(update={"model": model}), tuple(record.setup["tasks"]), record.seed
        )
    except UserError as error:
        raise UserError(
            f"{record.method} can't be built: {error} If it is a method of your own, name its file with --plugins."
        ) from error
    edited = sources_of(method).get("architecture") != record.setup.get("code", {}).get("architecture")
    _load(architecture, file, edited)
    if record.receipt.get(WEIGHTS) not in (None, digest_of(file)):
        raise UserError(
            f"{file} is not the file that the run wrote: its SHA-256 is another than in run.json. Copy it again, or run"
            " the method again."
        )
    architecture = architecture.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Run(folder, record, benchmark, architecture, device, edited)


def _load(architecture: Architecture, file: Path, edited: bool) -> None:
    """Load the weights that `cost.weights_of` left."""
    why = (
        "its source has changed since the run; use the version that the run was made with"
        if edited
        else "copy the file again"
    )
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} can't be read ({error}): copy it again.") from error
    wanted = deployed_state(architecture)
    unlike = sorted(wanted.keys() ^ weights.keys())
    unlike += sorted(name for name in wanted.keys() & weights.keys() if wanted[name].shape != weights[name].shape)
    if unlike:
        raise UserError(f"The weights in {file} don't fit the method ({', '.join(unlike[:3])}): {why}.")
    architecture.load_state_dict(weights, strict=False)


def read_stored(run: Embeds) -> tuple[Tensor, Tensor]:
    """Return the embeddings (T, N, D) float32 of a run's test images, and their labels (T, N).

    Raises:
        UserError: they are missing or can't be read, or it is an exported file, which has none.
    """
    if not isinstance(run, Run):
        raise UserError(
            f"{run.folder} carries no test images: name what to search, a folder of images with --gallery or an index"
            " with --index; from Python with gallery= or index=."
        )
    file = run.folder / "test.safetensors"
    if not file.exists():
        raise UserError(
            f"There is no {file}, so the test images can't be searched: copy it along with run.json, or search a folder"
            " of your own with --gallery."
        )
    try:
        stored = load_file(file)
        if "embeddings" not in stored:
            raise UserError(
                f"{file} holds no embeddings: published records leave them out. Take the original run, or search a"
                " folder of your own with --gallery."
            )
        return stored["embeddings"].float(), stored["labels"]
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{file} can't be read ({error}): copy it again.") from error


def embed_files(
    run: Embeds, files: Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> tuple[Tensor, list[Path], list[tuple[Path, str]]]:
    """Embed image files as the benchmark prepares its images, under every task.

    Args:
        run: whose network.
        files: in any format that Pillow reads.
        progress: told how many are done, of how many.

    Returns:
        (T, n, D) float32 embeddings on the CPU, the n files that could be read, and the others with the reason.
    """
    data, read, unreadable = run.benchmark.data, list[Path](), list[tuple[Path, str]]()
    parts = []
    for start in range(0, len(files), _BATCH):
        pixels = []
        for file in files[start : start + _BATCH]:
            try:
                pixels.append(read_image(file, data.size, data.fit, np.zeros(1, FILE)[0]))
                read.append(file)
            except BROKEN as error:
                unreadable.append((file, reason_of(error)))
        if pixels:
            parts.append(finite(run, run.embed(np.stack(pixels))))
        if progress:
            progress(min(start + _BATCH, len(files)), len(files))
    empty = torch.empty(len(run.tasks), 0, run.benchmark.model.embedding)
    return torch.cat(parts, dim=1) if parts else empty, read, unreadable


def finite(run: Embeds, embeddings: Tensor) -> Tensor:
    """Return the embeddings (…, n, D) of n images if all are finite.

    Raises:
        UserError: some are NaN or infinite.
    """
    number = int((~embeddings.isfinite().all(-1)).reshape(-1, embeddings.shape[-2]).any(0).sum())
    if number:
        again = "copy them again, or run the method again" if isinstance(run, Run) else "export the run again, in fp32"
        raise UserError(
            f"The network of {run.folder} gives NaN or infinity for {number:,} of"
            f" {counted(embeddings.shape[-2], 'image')}, as with damaged weights: {again}."
        )
    return embeddings


def embed_pixels(run: Embeds, images: Pixels) -> Tensor:
    """Embed RGB images (n, H, W, 3) uint8 of any size, as files of them: (T, n, D) float32 on the CPU."""
    data, parts = run.benchmark.data, [torch.empty(len(run.tasks), 0, run.benchmark.model.embedding)]
    for start in range(0, len(images), _BATCH):
        batch = [fitted(image, data.size, data.fit) for image in images[start : start + _BATCH]]
        parts.append(finite(run, run.embed(np.stack(batch))))
    return torch.cat(parts, dim=1)


def search(
    run: Embeds,
    queries: Tensor,
    gallery: Tensor,
    tasks: Sequence[str],
    k: int,
    gallery_tasks: Sequence[str] | None = None,
    names: Sequence[str] = (),
) -> list[list[Found]]:
    """Find each query's k nearest images of a gallery, by query and task; exactly, whatever the gallery's size.

    Args:
        run: whose tasks, and whether its protocol measures between embeddings of unit length.
        queries: (T, q, D) embeddings.
        gallery: (T, n, D) embeddings.
        tasks: under which to search.
        k: how many, at most those that there are.
        gallery_tasks: of the gallery's first axis, where they aren't the run's.
        names: of the gallery's images.
    """
    unit, found = run.benchmark.embedding.normalise, list[list[Found]]()
    found += [[] for _ in range(queries.shape[1])]
    for task in tasks:
        points, asked = gallery[(gallery_tasks or run.tasks).index(task)], queries[run.tasks.index(task)]
        for i, (row, far) in enumerate(zip(*_nearest(points, asked, k, unit), strict=True)):
            found[i].append(Found(task, tuple(row), tuple(far), tuple(names[place] for place in row if names)))
    return found


def _nearest(points: Tensor, asked: Tensor, k: int, unit: bool) -> tuple[list[list[int]], list[list[float]]]:
    """Return the k nearest of (n, D) points for each of (q, D) queries: places and distances."""
    wanted = 4 * k + 64
    if len(points) < max(LARGE, 2 * wanted) or importlib.util.find_spec("faiss") is None:
        n = len(points)
        both = torch.cat([points, asked])
        rows, distances = nearest(both, torch.arange(n, len(both)), torch.arange(n), k, normalise=unit)
        return rows.tolist(), distances.tolist()
    faiss: Any = importlib.import_module("faiss")
    each = [torch.nn.functional.normalize(x.float(), dim=1) if unit else x.float() for x in (asked, points)]
    # faiss looks at every image in float32; which of these are the nearest is then found as in a small gallery
    some = torch.from_numpy(faiss.knn(*(x.contiguous().numpy() for x in each), wanted)[1]).sort(dim=1).values
    places, far = list[list[int]](), list[list[float]]()
    for query, its in zip(asked, some, strict=True):
        found, lengths = _nearest(points[its], query[None], k, unit)
        places.append(its[found[0]].tolist())
        far += lengths
    return places, far
