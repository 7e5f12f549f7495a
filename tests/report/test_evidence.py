"""What runs left beside their records: answers that are theirs, and what validation measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtlbench.report.evidence import accuracy_within, read_hits, read_triplets, read_validations
from mtlbench.runs import Record, write_record


def record(hits: torch.Tensor) -> Record:
    setup = {"tasks": ["a", "b"], "method": {"name": "one"}, "benchmark": {"name": "made-up"}}
    metrics = {task: {"triplet": row.float().mean().item()} for task, row in zip("ab", hits, strict=True)}
    return Record("one", 0, "method", setup, metrics=metrics)


def test_hits_come_back_only_if_they_are_those_of_the_record(tmp_path: Path):
    hits = (torch.rand(2, 40, generator=torch.Generator().manual_seed(0)) < 0.7).to(torch.uint8)
    made, folder = record(hits), tmp_path / "seed-0"
    assert read_hits(folder, made) is None
    write_record(folder, made, test={"hits": hits, "embeddings": torch.zeros(2, 3, 4, dtype=torch.float16)})
    found = read_hits(folder, made)
    assert found is not None
    assert np.array_equal(found, hits.numpy())
    assert read_hits(folder, record(1 - hits)) is None
    made.setup["tasks"] = ["a", "b", "c"]
    assert read_hits(folder, made) is None
    (folder / "test.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 cut short")
    assert read_hits(folder, record(hits)) is None
    write_record(folder, made, test={"labels": hits})
    assert read_hits(folder, record(hits)) is None


def test_triplets_come_back_as_they_are_and_older_records_have_none(tmp_path: Path):
    hits, places = torch.ones(2, 4, dtype=torch.uint8), torch.arange(24, dtype=torch.int16).reshape(2, 4, 3)
    folder = tmp_path / "seed-0"
    write_record(folder, record(hits), test={"hits": hits})
    assert read_triplets(folder) is None
    write_record(folder, record(hits), test={"hits": hits, "triplets": places})
    found = read_triplets(folder)
    assert found is not None
    assert np.array_equal(found, places.numpy())


def test_validations_are_read_from_the_curve(tmp_path: Path):
    made, folder = record(torch.ones(2, 4)), tmp_path / "seed-0"
    write_record(folder, made)
    assert read_validations(folder) is None
    points = [(1.0, 0.2, 0.4), (2.0, 0.9, 0.5), (3.0, 0.6, 0.6)]
    curve = [{"step": 1.0, "seconds": 0.5, "loss/a": 0.1}]
    curve += [{"seconds": s, "accuracy/a": a, "accuracy/b": b, "accuracy": (a + b) / 2} for s, a, b in points]
    write_record(folder, made, curve=curve)
    found = read_validations(folder)
    assert found is not None
    assert list(found["seconds"]) == [1, 2, 3]
    assert accuracy_within(found, 0.9, ["a", "b"]) is None
    assert accuracy_within(found, 1.9, ["a", "b"]) == pytest.approx(0.3)
    assert accuracy_within(found, 3.0, ["a", "b"]) == pytest.approx(0.7)
    assert accuracy_within(found, 3.0, ["b"]) == pytest.approx(0.5)
    # as evaluation.select says: by the worst task, each task's own best; curves hold no retrieval metric
    assert accuracy_within(found, 3.0, ["a"], "worst") == pytest.approx(0.6)
    assert accuracy_within(found, 3.0, ["a", "b"], "per-task") == pytest.approx((0.9 + 0.6) / 2)
    assert accuracy_within(found, 3.0, ["a", "b"], "macro/map@r") is None
