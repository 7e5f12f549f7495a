"""Records made up by hand for the pages that tests write, and a reader of pages."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from mtlbench.report import gallery
from mtlbench.report.gallery import Galleries, Neighbour, Query
from mtlbench.report.summary import Choice, Summary, summarise
from mtlbench.runs import Record, find_records, run_folder, write_record

TASKS = ("colour", "heel_height")
GROUPS = {"core": ["independent", "modulation", "shared"], "balancers": ["pcgrad"], "base": ["independent"]}
QUESTIONS = 2000


def put(results: Path, method: str, seed: int = 0, hits: Sequence[float] = (0.9, 0.7), **changes: Any) -> None:
    """Write a run that answers the first share of each task's questions rightly."""
    tasks = changes.pop("tasks", TASKS)
    name = changes.pop("benchmark", "made-up-quick")
    rendered, fingerprint = changes.pop("rendered", True), changes.pop("fingerprint", "abc")
    timed, dataset = changes.pop("timed", True), changes.pop("dataset", "dots")
    megabytes = changes.pop("megabytes", 2.5)
    settings = {
        "name": name, "title": changes.pop("title", "Made up"), "data": {"reader": "zappos", "image_size": 48},
        "model": {"backbone": "small", "embedding": 8},
        "train": {"steps": 40, "sampling": "joint", "optimiser": "adamw", "lr": 0.01, "schedule": "none"},
        "evaluation": {"triplets": QUESTIONS},
    }  # fmt: skip
    setup = {"method": {"name": method}, "benchmark": settings, "tasks": list(tasks), "seed": seed, "data": "abc"}
    answers = np.array([np.arange(QUESTIONS) < round(QUESTIONS * hit) for hit in hits], dtype=np.uint8)
    made = Record(method, seed, "method", setup)
    made.metrics = {
        task: {"triplet": float(row.mean()), "macro/map@r": 0.25, "macro/precision@1": 0.5}
        for task, row in zip(tasks, answers, strict=True)
    }
    made.costs = {"parameters": 100, "file_bytes": 1e6 * megabytes, "bytes_added": 1280}
    plain = method.partition("[")[0] if "+" not in method else ""
    made.receipt = {
        "groups": [group for group, members in GROUPS.items() if plain in members],
        "device": "a processor", "precision": "fp32", "training_seconds": 12.5, "test_triplets": QUESTIONS,
        "data": {"name": dataset, "rendered": rendered, "split": "at random", "fingerprint": fingerprint},
        "mtlbench": "0", "date": "2026-01-01", "checked": changes.pop("checked", {}),
    }  # fmt: skip
    for key, value in changes.items():
        setattr(made, key, value)
    folder = run_folder(results, name, method, seed)
    if made.status == "failed":
        made.metrics, made.costs = {}, {}
    curve = [{"step": s, "seconds": s / 2, "accuracy": made_mean(hits) * s / 40} for s in (20, 40)]
    if not timed:
        curve = [point | {"seconds": math.nan} for point in curve]
    write_record(folder, made, curve if made.status == "done" else ())
    if made.status == "done":
        places = np.random.default_rng(0).integers(0, 3000, (len(answers), QUESTIONS, 3), dtype=np.int32)
        save_file({"hits": answers, "triplets": places}, folder / "test.safetensors")


def made_mean(hits: Sequence[float]) -> float:
    return float(np.mean(hits))


def found(results: Path, **choice: Any) -> list[Summary]:
    return summarise(find_records(results), Choice(**choice), results)


class Parsed(HTMLParser):
    """Links, pictures, headings, ids and visible text of a page, and the cells of its leaderboard, its first table."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.cells: list[list[str]] = []
        self._hidden = self._in_cell = False
        self.feed(path.read_text("utf-8"))
        self.cells = [[" ".join(cell.split()) for cell in row] for row in self.cells]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self._hidden = tag in ("script", "style")
        self.links += [value for name in ("href", "src") if (value := given.get(name))]
        if tag == "img":
            self.pictures.append(given)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "tr" and self.tags.count("table") == 1:
            self.cells.append([])
        if tag in ("td", "th") and self.tags.count("table") == 1:
            self.cells[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        if tag == "table":
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
            if self._in_cell and self.cells[-1]:
                self.cells[-1][-1] += data


def pictures(folder: Path) -> Galleries:
    """Two methods' neighbours of two queries among five images."""
    folder.mkdir()
    files = tuple(folder / f"picture {n}.png" for n in range(5))
    for n, file in enumerate(files):
        Image.new("RGB", (60 + 10 * n, 50), (40 * n, 90, 200)).save(file)
    near = {
        "shared": (Neighbour(1, True), Neighbour(2, False)),
        "modulation": (Neighbour(3, False), Neighbour(2, False)),
    }
    other = {"shared": (Neighbour(0, True),), "modulation": (Neighbour(1, True),)}
    queries = (Query(0, "colour", gallery.HARDEST, near), Query(3, "heel_height", gallery.TYPICAL, other))
    labels = np.array([[0, 0, 1, 1, 1], [0, 0, 1, 0, 0]])
    values = (("red", "<i>blue</i>"), ("flat", "high"))
    done = [Record(method, 0, "method", {}) for method in near]
    for record, colour in zip(done, (0.9, 0.51), strict=True):
        record.metrics = {"colour": {"triplet": colour, "precision@1": 0.625}, "heel_height": {"triplet": 0.8}}
    suite: Any = SimpleNamespace(done=done)
    return Galleries(suite, 0, ("shared", "modulation"), TASKS, files, labels, values, queries, {}, {})
