"""Galleries: chosen test images and their nearest neighbours under each task, the methods side by side.

Made from the embeddings beside run records and from the data set's own image files, whose fingerprint is checked.
`evaluation` has the distances.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from mtlbench.data import canvas
from mtlbench.data.table import alike_counts
from mtlbench.errors import UserError, counted
from mtlbench.report.originals import NoImages as NoImages
from mtlbench.report.originals import read_originals
from mtlbench.report.rows import at_chance, rows
from mtlbench.report.sheet import Block, Cell, Strip, lay_out
from mtlbench.report.suites import Suite
from mtlbench.runs import Record, benchmark_of, folder_of

if TYPE_CHECKING:  # reports without galleries do without PyTorch
    from mtlbench.data.pack import Progress

HARDEST, DISAGREE, TYPICAL = "hardest", "methods disagree most", "typical"
KINDS = (HARDEST, DISAGREE, TYPICAL)
MOST_METHODS = 12  # rows of a query in a picture
_PAIRS = 100_000_000  # of query, image, task and method that are compared to choose the queries: a few seconds
_LEAST_SEARCHED = 64  # images of a task that queries are chosen from, whatever that takes
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Neighbour:
    """A neighbour of a query.

    Attributes:
        image: which test image, an index into `Galleries.files`.
        right: whether it carries the query's label under the task.
    """

    image: int
    right: bool


@dataclass(frozen=True)
class Query:
    """A query and its neighbours.

    Attributes:
        image: which test image, an index into `Galleries.files`.
        task: under which.
        why: it was chosen, in words: one of `KINDS`.
        neighbours: by method, in the order of `Galleries.methods`, the nearest first.
    """

    image: int
    task: str
    why: str
    neighbours: dict[str, tuple[Neighbour, ...]]

    def right(self, method: str) -> int:
        """Return how many of a method's neighbours carry the query's label."""
        return sum(neighbour.right for neighbour in self.neighbours[method])


@dataclass(frozen=True)
class Galleries:
    """The galleries of a suite, for one seed.

    Attributes:
        suite: whose.
        seed: of the runs shown.
        methods: best mean accuracy first; those that have finished with that seed.
        tasks: those shown.
        files: the N test images' own files, in the order of the stored embeddings.
        labels: (T, N) codes into `values`, -1 where an image is not labelled; values: the tasks' label values.
        queries: task by task; none twice under one task.
        searched: how many of a task's images the hardest and most disputed ones were looked for among, by task.
        askable: how many of a task's images can be queries, by task.
    """

    suite: Suite
    seed: int
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    files: tuple[Path, ...]
    labels: Codes
    values: tuple[tuple[str, ...], ...]
    queries: tuple[Query, ...]
    searched: dict[str, int]
    askable: dict[str, int]

    def label(self, image: int, task: str) -> str:
        """Return an image's label under a task, in words."""
        t = self.tasks.index(task)
        code = int(self.labels[t, image])
        return self.values[t][code] if code >= 0 else "not labelled"

    def precision(self, method: str, task: str) -> float | None:
        """Return P@1 of a method's run under a task, over all test images, as its record has it."""
        return self._record(method).metrics[task].get("precision@1")

    def at_chance(self, method: str, task: str) -> bool:
        """Return whether a method's run is near chance on a task; see `rows.at_chance`."""
        return at_chance(self._record(method), task)

    def _record(self, method: str) -> Record:
        (record,) = (r for r in self.suite.done if r.method == method and r.seed == self.seed)
        return record


def galleries(
    suite: Suite,
    results: Path,
    data_dir: Path | None = None,
    *,
    queries_per_task: int = 6,
    neighbours: int = 8,
    seed: int | None = None,
    methods: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    draw_absent: bool = True,
    drawing: Progress | None = None,
    packing: Progress | None = None,
) -> Galleries:
    """Choose queries and find their nearest neighbours under each task, method by method.

    Of a task's queries, every third is one of each kind:

    - hardest: with the smallest share of right neighbours over all methods,
    - methods disagree most: the largest difference between two methods' shares,
    - typical: drawn at random by the seed.

    The share of right neighbours is of those that there could be, so a rare label is no harder for being rare. Among
    equals the more common label goes first, then the order of the images. Within a kind no label value has its second
    turn before all others had their first. Images without another of their label are no queries. In a suite so large
    that comparing all would take minutes, the hardest and the most disputed are looked for among as many images as
    `searched` says, drawn at random by the seed.

    Args:
        suite: its records.
        results: where they lie.
        data_dir: the data set's folder; by default the one where `mtlbench run` looks.
        queries_per_task: how many.
        neighbours: of each query, in each method's row.
        seed: whose runs; by default the lowest of those that most methods have finished.
        methods: only these, by the names that tables show; tasks: only these.
        draw_absent: draw a rendered data set again where it is absent, which takes seconds to a minute.
        drawing: progress of that; packing: of decoding images that were never packed on this machine.

    Raises:
        NoImages: embeddings or images are absent, or are other ones; it says what to do.
    """
    name = str(suite.benchmark["name"])
    shown = tuple(task for task in suite.tasks if tasks is None or task in tasks)
    runs, seed = _runs(suite, results, seed, methods)
    stored = [_Stored(record, folder, name) for record, folder in runs]
    try:
        data = read_originals(runs[0][0], data_dir, draw_absent, drawing, packing)
    except UserError as error:
        raise NoImages(f"No galleries of {name}: {error}") from error
    for run in stored:
        if not np.array_equal(run.labels, data.labels):
            raise NoImages(f"No galleries of {name}: the labels in {data.root} are not those of {run.folder}.")
    places = [suite.tasks.index(task) for task in shown]
    budget = _PAIRS // max(1, len(stored) * len(shown) * len(data.files))
    queries, searched, askable = [], {}, {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # of small products, many at once take less time
        for task, t in zip(shown, places, strict=True):
            random = np.random.default_rng([seed, t])
            codes = data.labels[t]
            members = data.members[t]
            candidates = _askable(codes, data.query, data.gallery, members)
            askable[task] = len(candidates)
            if len(candidates) > max(budget, _LEAST_SEARCHED):
                candidates = np.sort(random.choice(candidates, max(budget, _LEAST_SEARCHED), replace=False))
            searched[task] = len(candidates)
            searched_codes = np.where(data.gallery, codes, -1)
            search = partial(_found, task=t, labels=codes, gallery=data.gallery, queries=candidates, k=neighbours)
            found = list(pool.map(search, stored))
            right = np.stack([_alike(codes[images], codes[candidates][:, None], members) for images in found])
            able = _others(codes, searched_codes, candidates, members)
            for place, why in _choose(candidates, right.sum(2), codes, able, neighbours, queries_per_task, random):
                lists = {
                    run.record.method: tuple(
                        Neighbour(int(image), bool(hit))
                        for image, hit in zip(found[m][place], right[m, place], strict=True)
                    )
                    for m, run in enumerate(stored)
                }
                queries.append(Query(int(candidates[place]), task, why, lists))
    return Galleries(
        suite, seed, tuple(run.record.method for run in stored), shown, data.files, data.labels[places],
        tuple(data.values[t] for t in places), tuple(queries), searched, askable,
    )  # fmt: skip


def _runs(
    suite: Suite, results: Path, seed: int | None, methods: Sequence[str] | None
) -> tuple[list[tuple[Record, Path]], int]:
    """Return the runs to show with their folders, best mean accuracy first, and their seed."""
    name = str(suite.benchmark["name"])
    done = [r for r in suite.done if methods is None or r.method in methods]
    placed = [(r, folder_of(r, results)) for r in done]
    there = [(r, folder) for r, folder in placed if (folder / "test.safetensors").exists()]
    if seed is None:
        seeds = [r.seed for r, _ in there]
        seed = max(sorted(set(seeds)), key=seeds.count, default=0)
    order = [row.method for row in rows(suite)]
    found = sorted((run for run in there if run[0].seed == seed), key=lambda run: order.index(run[0].method))
    if not found:
        if any(r.seed == seed for r in done):
            raise NoImages(
                f"No galleries of {name}: there are no embeddings in {results / name}; copy test.safetensors along with"
                " each run.json."
            )
        raise NoImages(f"No galleries of {name}: no method has finished{f' with seed {seed}' if done else ''}.")
    return found, seed


class _Stored:
    """What a run left of its answers to the test; embeddings are read task by task."""

    def __init__(self, record: Record, folder: Path, benchmark: str) -> None:
        from safetensors import SafetensorError, safe_open

        self.record, self.folder = record, folder
        try:
            self._file = safe_open(folder / "test.safetensors", framework="numpy")
            if not {"labels", "embeddings"} <= set(self._file.keys()):  # type: ignore[no-untyped-call]
                raise NoImages(
                    f"No galleries of {benchmark}: {folder} holds no embeddings; published records leave"
                    " them out. Use the original runs."
                )
            self.labels: Codes = self._file.get_tensor("labels")  # type: ignore[no-untyped-call]
            self._embeddings = self._file.get_slice("embeddings")  # type: ignore[no-untyped-call]
        except (OSError, SafetensorError) as error:
            raise NoImages(
                f"No galleries of {benchmark}: {folder / 'test.safetensors'} can't be read ({error}); copy it again."
            ) from error

    def embeddings(self, task: int) -> npt.NDArray[np.float32]:
        """Return the (N, D) embeddings under a task."""
        found: npt.NDArray[np.float32] = self._embeddings[task].astype(np.float32)
        return found


def _alike(labels: Codes, others: Codes, members: Flags | None) -> Flags:
    """Return whether labels are alike: the same, or, where they are sets, with a value in common."""
    if members is None:
        return np.asarray(labels == others)
    return np.asarray((members[labels] & members[others]).any(-1))


def _askable(labels: Codes, query: Flags, gallery: Flags, members: Flags | None = None) -> Codes:
    """Return the indices of the queries that have another image in the gallery that is like them."""
    counts = _others(labels, np.where(gallery, labels, -1), np.arange(len(labels)), members)
    return np.flatnonzero((labels >= 0) & query & (counts > 0))


def _others(labels: Codes, searched: Codes, images: Codes, members: Flags | None) -> Codes:
    """Return how many images that are like it each of some images has in the gallery beside itself.

    Args:
        labels: (N,) of all images; searched: (N,) the same, -1 where an image is not in the gallery.
        images: some of them; members: see `_alike`.
    """
    counts = np.bincount(searched[searched >= 0], minlength=1 + int(labels.max(initial=0)))
    counts = counts if members is None else alike_counts(members[: len(counts)], counts)
    found: Codes = counts[labels[images]] - (searched[images] >= 0)
    return found


def _found(run: _Stored, task: int, labels: Codes, gallery: Flags, queries: Codes, k: int) -> Codes:
    """Return the (q, k) nearest labelled gallery images of queries under a task, the nearest first."""
    import torch

    from mtlbench.evaluation.retrieval import nearest

    rows, _ = nearest(
        torch.from_numpy(run.embeddings(task)),
        torch.from_numpy(queries),
        torch.from_numpy(np.flatnonzero((labels >= 0) & gallery)),
        k,
        normalise=benchmark_of(run.record).embedding.normalise,  # runs may differ in it, where it is a factor
        labels=torch.from_numpy(labels),
    )
    found: Codes = rows.numpy()
    return found


def _choose(
    candidates: Codes,
    right: Codes,
    labels: Codes,
    able: Codes,
    k: int,
    number: int,
    random: np.random.Generator,
) -> list[tuple[int, str]]:
    """Choose a task's queries: places among the candidates, and why.

    Args:
        candidates: (q,) test images.
        right: (M, q) right neighbours of each, by method.
        labels: (N,) of all test images; able: (q,) how many right neighbours there could be.
        k: neighbours of each.
        number: how many to choose.
        random: draws the typical ones.
    """
    codes = labels[candidates]
    counts = np.bincount(labels[labels >= 0], minlength=1)[codes]
    share = right / np.minimum(k, able)
    places = np.arange(len(candidates))
    spread = share.max(0) - share.min(0) if len(share) else np.zeros(len(candidates))
    # the last key counts most
    disputed = np.lexsort((places, -counts, -share.std(0), -spread))
    orders = {
        HARDEST: np.lexsort((places, -counts, share.mean(0))),
        DISAGREE: disputed[spread[disputed] > 0],
        TYPICAL: random.permutation(places),
    }
    chosen: dict[int, str] = {}
    turns = {kind: dict.fromkeys(codes.tolist(), 0) for kind in KINDS}
    for n in range(min(number, len(candidates))):
        kind = KINDS[n % len(KINDS)]
        left = [p for p in orders[kind].tolist() if p not in chosen]
        if not left:  # one method alone disagrees with none
            kind = TYPICAL
            left = [p for p in orders[kind].tolist() if p not in chosen]
        fewest = min(turns[kind][codes[p]] for p in left)
        place = next(p for p in left if turns[kind][codes[p]] == fewest)
        turns[kind][codes[place]] += 1
        chosen[place] = kind
    return list(chosen.items())


def thumbnail(file: Path, height: int) -> Image.Image:
    """Return an image at so many pixels of height, its shape kept; at most twice as wide. See `canvas.thumbnail`."""
    return canvas.thumbnail(file, height)


def draw(found: Galleries, task: str, queries: Sequence[Query] | None = None) -> Image.Image:
    """Draw a task's sheet: its queries below each other, the methods' neighbours in rows.

    Of more than `MOST_METHODS` methods the best are drawn, by mean accuracy.

    Args:
        found: the galleries.
        task: whose.
        queries: only these of its; by default all.
    """
    shown = [q for q in (found.queries if queries is None else queries) if q.task == task]
    if not shown:
        raise NoImages(f"No gallery of {task}: no label has two test images.")
    methods = found.methods[:MOST_METHODS]
    blocks = []
    for query in shown:
        strips = [Strip(method, _said(found, query, method), _cells(found, query, method)) for method in methods]
        heading = f"{task.replace('_', ' ')}: {found.label(query.image, task)}"
        words = (why(query), found.files[query.image].name)
        blocks.append(Block(found.files[query.image], heading, words, tuple(strips)))
    return lay_out(
        f"{data_name(found.suite)}: nearest neighbours under {task.replace('_', ' ')}", caption(found, task), blocks
    )


def why(query: Query) -> str:
    """Say why a query was chosen and how its methods did, such as `hardest: 3 of 56 right`."""
    right = [query.right(method) for method in query.neighbours]
    of = [len(neighbours) for neighbours in query.neighbours.values()]
    if query.why == DISAGREE:
        return f"{query.why}: {min(right)} to {max(right)} of {of[0]} right"
    return f"{query.why}: {sum(right)} of {sum(of)} right, over all methods"


def _said(found: Galleries, query: Query, method: str) -> str:
    overall = found.precision(method, query.task)
    hits = f"{query.right(method)} of {len(query.neighbours[method])} right"
    said = hits if overall is None else f"{hits}; P@1 {100 * overall:.1f}"
    return f"{said}; task near chance" if found.at_chance(method, query.task) else said


def _cells(found: Galleries, query: Query, method: str) -> tuple[Cell, ...]:
    return tuple(
        Cell(found.files[n.image], found.label(n.image, query.task), n.right) for n in query.neighbours[method]
    )


def data_name(suite: Suite) -> str:
    """Return the name of a suite's data set; one that was drawn is called rendered."""
    data = suite.receipt.get("data", {})
    name = str(data.get("name") or suite.benchmark["name"])
    return f"{name} (rendered)" if data.get("rendered") and "rendered" not in name.lower() else name


def caption(found: Galleries, task: str) -> str:
    """Say what a task's galleries show, of which runs, and how the queries were chosen."""
    suite, model, train = found.suite, found.suite.benchmark["model"], found.suite.benchmark["train"]
    images = "rendered images, not real ones" if suite.receipt.get("data", {}).get("rendered") else "real images"
    askable, steps = found.askable[task], counted(train["steps"], "step")
    among = "all" if found.searched[task] == askable else f"{found.searched[task]:,}, drawn at random, of"
    more = len(found.methods) - MOST_METHODS
    left = f" The {MOST_METHODS} best methods of {len(found.methods)} are shown." if more > 0 else ""
    return (
        f"{suite.benchmark['title']} ({suite.benchmark['name']}), seed {found.seed}: {images},"
        f" {len(found.files):,} in the test split; each query's nearest come first. Network: {model['backbone']}"
        f" backbone, {model['embedding']}-d, {steps}. Methods in order of mean accuracy;"
        " P@1 is the share of all test images whose nearest neighbour has their label under this task, in %. Hardest:"
        " the smallest share of right neighbours over all methods; methods disagree most: the largest difference"
        f" between two methods' shares; both among {among} {askable:,} images whose label another image has"
        f" too, labels taking turns; typical: drawn at random.{left}"
    )
