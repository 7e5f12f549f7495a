"""Records made up by hand, of which tables are made in tests."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mtlbench.report.summary import Choice
from mtlbench.report.tables import show
from mtlbench.runs import Record, run_folder, write_record


def record(method: str, seed: int = 0, hits: tuple[float, float] = (0.9, 0.7), **changes: Any) -> Record:
    settings = {
        "name": "made-up", "title": "Made up", "data": {"reader": "zappos", "image_size": [48, 64]},
        "model": {"backbone": "small", "embedding": 8},
        "train": {"sampling": "joint", "optimiser": "adamw", "lr": 0.001, "schedule": "cosine", "steps": 300},
        "evaluation": {"triplets": 2000},
    }  # fmt: skip
    setup = {"method": {"name": method}, "benchmark": settings, "tasks": ["colour", "heel_height"], "seed": seed}
    made = Record(method, seed, "method", setup | {"precision": "bf16", "data": "abc"})
    made.metrics = {
        task: {"triplet": hit, "macro/map@r": hit - 0.3, "macro/precision@1": hit - 0.1}
        for task, hit in zip(("colour", "heel_height"), hits, strict=True)
    }
    made.costs = {
        "parameters": 1_234_567, "file_bytes": 5_000_000, "bytes_shared": 4_000_000, "bytes_per_task": 2_048,
        "bytes_added": 2_048, "flops_one_task": 38_200_000, "flops_all_tasks": 70_000_000, "training_memory": 3e7,
        "train_rate": 1000.0, "train_rate_slowest": 900.0, "train_rate_fastest": 1100.0,
    }  # fmt: skip
    made.receipt = {
        "device": "a processor", "precision": "bf16", "images_seen": 50_400, "training_seconds": 12.3,
        "commit": "c0ffee",
        "data": {"name": "made up", "rendered": True, "train_images": 70, "fingerprint": "abc", "split": "at random"},
        "mtlbench": "0.1.0", "torch": "2.11", "python": "3.12", "date": "2026-01-02T03:04:05",
    }  # fmt: skip
    if method == "independent":
        made.receipt["groups"] = ["core", "base"]
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def shown(
    records: list[Record], width: int = 200, style: str = "table", results: Path | None = None, **choice: str
) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(records, style, console, Choice(**choice), results)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def cells(text: str, method: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [method])


def written(results: Path, method: str, seed: int, share: float, curve: Any = (), kept: bool = True) -> Record:
    """A record with its answers: the given share of 400 questions a task, drawn by seed, right."""
    generator = torch.Generator().manual_seed(1000 * seed + len(method))
    hits = (torch.rand(2, 400, generator=generator) < share).to(torch.uint8)
    made = record(method, seed, tuple(hits.float().mean(1).tolist()))
    folder = run_folder(results, "made-up", method, seed)
    write_record(folder, made, curve=curve, test={"hits": hits, "triplets": asked()} if kept else None)
    return made


def asked(images: int = 300, tasks: int = 2, number: int = 400) -> torch.Tensor:
    """(T, n, 3) test triplets of images drawn at random, the same whenever asked for."""
    return torch.randint(images, (tasks, number, 3), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


def order(text: str) -> list[str]:
    """The methods of the first table, from top to bottom."""
    lines = text.split("Cost")[0].splitlines()[1:]
    return [line.split()[0] for line in lines if len(line.split()) > 3 and re.match(r"[a-z0-9-]+ +\S*\d", line)]
