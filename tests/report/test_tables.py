"""Tables from records made up by hand: what stands where, what is averaged, and what may not share a table."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from mtlbench.report.tables import as_frame, as_markup, rows, show, suites
from mtlbench.runs import Record


def record(method: str, seed: int = 0, hits: tuple[float, float] = (0.9, 0.7), **changes: Any) -> Record:
    settings = {
        "name": "made-up", "title": "Made up", "data": {"image_size": [48, 64]},
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
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def shown(records: list[Record], width: int = 200, style: str = "table") -> str:
    console = Console(file=io.StringIO(), width=width)
    show(records, style, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def cells(text: str, method: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [method])


def test_a_row_holds_mean_worst_and_tasks_in_per_cent():
    text = shown([record("one"), record("two", hits=(0.5, 0.4))])
    assert cells(text, "one")[1:] == ["80.0", "70.0", "90.0", "70.0", "50.0", "70.0"]
    assert text.index("\none ") < text.index("\ntwo ")


def test_seeds_are_averaged_with_their_sample_standard_deviation():
    text = shown([record("one", 0, (0.8, 0.6)), record("one", 1, (0.9, 0.7)), record("one", 2, (1.0, 0.8))])
    assert cells(text, "one")[1:6] == ["3", "80.0", "±10.0", "70.0", "±10.0"]
    assert "over 3 seeds" in text
    assert "seeds 0, 1, 2" in text


def test_costs_are_in_the_units_of_their_headings():
    (row,) = rows(suites([record("one")])[0])
    assert row.costs["bytes_added"].mean == 2048
    cost = shown([record("one")]).split("Cost")[1]
    assert cells(cost, "one")[1:] == [
        "1,234,567", "5.00", "4.00", "2.05", "2.05", "38.2", "70.0", "1,000", "±10%", "30.0", "12.3",
    ]  # fmt: skip


def test_what_was_not_measured_stays_empty():
    text = shown([record("one", costs={"parameters": 10, "training_memory": None})])
    assert cells(text.split("Cost")[1], "one") == ["one", "10", "12.3"]


def test_a_failed_run_shows_its_reason_and_no_number():
    failed = record("broken", metrics={}, costs={}, status="failed", reason="out of memory")
    text = shown([record("one"), failed])
    assert cells(text, "broken") == ["broken"]
    assert "broken: FAILED: out of memory" in text


def test_a_seed_that_failed_is_named_and_not_averaged_away():
    failed = record("one", 1, metrics={}, costs={}, status="failed", reason="the loss of colour became nan at step 3")
    text = shown([record("one"), failed, record("two", 0), record("two", 1)])
    assert cells(text, "one")[1:3] == ["1", "80.0"]
    assert "one: seed 1 FAILED: the loss of colour became nan at step 3" in text


def test_a_collapsed_run_is_called_so():
    text = shown([record("one", collapsed=["colour", "heel_height"]), record("two", collapsed=["colour"])])
    assert "one: COLLAPSED (all tasks)" in text
    assert "not measured" in shown([record("one", reason="cost not measured: out of memory", costs={})])
    assert "two: COLLAPSED (colour)" in text


def test_reference_rows_come_last_whatever_their_score():
    text = shown(
        [record("chance", hits=(0.99, 0.99), kind="reference", costs={}), record("one"), record("two", hits=(0.1, 0.1))]
    )
    assert text.index("\none ") < text.index("\ntwo ") < text.index("\nchance ")
    assert "chance" not in text.split("Cost")[1].split("accuracy:")[0]


def test_rendered_data_are_never_to_be_taken_for_real():
    text = shown([record("one")])
    assert "Made up (rendered images, not real ones)" in text
    assert "(rendered, not real)" in text
    real = record("one")
    real.receipt["data"]["rendered"] = False
    assert "rendered" not in shown([real])


@pytest.mark.parametrize("where", ["device", "precision", "data", "steps"])
def test_runs_that_differ_in_more_than_method_and_seed_get_tables_of_their_own(where):
    other = record("two")
    if where == "device":
        other.receipt["device"] = "another processor"
    elif where == "steps":
        other.setup["benchmark"]["train"]["steps"] = 600
    else:
        other.setup[where] = "different"
    assert [len(s.records) for s in suites([record("one"), other])] == [1, 1]
    assert [len(s.records) for s in suites([record("one"), record("two"), record("one", 1)])] == [3]


def test_reference_rows_join_every_suite_with_the_same_questions():
    reference = record("chance", kind="reference", costs={})
    reference.receipt["device"] = "another processor"
    longer = record("one")
    longer.setup["benchmark"]["train"]["steps"] = 600
    found = suites([record("one"), longer, reference])
    assert [[r.method for r in suite.records] for suite in found] == [["one", "chance"]] * 2
    other = record("one")
    other.setup["benchmark"]["evaluation"]["triplets"] = 5
    assert [[r.method for r in suite.records] for suite in suites([other, reference])] == [["one"]]
    assert suites([reference]) == []


def test_a_narrow_terminal_gets_the_table_in_blocks_and_loses_nothing():
    wide, narrow = (shown([record("one")], width) for width in (200, 40))
    assert max(map(len, narrow.split("accuracy:")[0].splitlines())) <= 40
    for cell in cells(wide, "one") + cells(wide.split("Cost")[1], "one"):
        assert cell in narrow


def test_markdown_and_latex_hold_the_same_numbers():
    failed = record("bad", metrics={}, costs={}, status="failed", reason="x")
    records = [record("one"), record("two", hits=(0.5, 0.4)), failed]
    markdown, latex = (as_markup(suites(records)[0], style) for style in ("md", "latex"))
    assert "| one" in markdown
    assert "|   80.0 |" in markdown
    assert "\\toprule" in latex
    assert "80.0 &" in latex
    assert "heel height" in latex
    for text in (markdown, latex):
        assert "bad: FAILED: x" in text
        assert "seeds 0" in text


def test_csv_holds_every_run_unrounded():
    records = [record("one", seed, (0.123456789, 0.5)) for seed in (0, 1)] + [record("chance", kind="reference")]
    frame = as_frame(suites(records))
    assert list(frame["method"]) == ["one", "one", "chance"]
    assert frame["triplet/colour"][0] == 0.123456789
    assert frame["triplet/worst"][0] == 0.123456789
    assert frame["cost/bytes_added"][1] == 2048
    assert frame["receipt/data_fingerprint"][0] == "abc"
    again = pd.read_csv(io.StringIO(shown(records, style="csv")))
    assert again["triplet/colour"][0] == 0.123456789
