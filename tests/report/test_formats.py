"""Tables as they are written: Markdown, LaTeX, the terminal and CSV."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest
from report_records import record, shown, written
from rich.console import Console

from mtlbench.report.summary import Choice, summarise
from mtlbench.report.tables import as_frame, as_markup, runs_frame, show, suites


def test_markdown_and_latex_hold_the_same_numbers_best_in_bold_second_underlined():
    failed = record("bad", metrics={}, costs={}, status="failed", reason="x")
    records = [record("one"), record("two", hits=(0.5, 0.4)), record("three", hits=(0.4, 0.3)), failed]
    markdown, latex = (as_markup(summarise(records)[0], style) for style in ("md", "latex"))
    assert re.search(r"\| one +\| +\*\*80.0\*\* \|", markdown)
    assert "<ins>45.0</ins>" in markdown
    assert r"one & \textbf{80.0} & \textbf{70.0} & \textbf{90.0}" in latex
    assert r"two & \underline{45.0} &" in latex
    assert "three & 35.0 & 30.0" in latex
    assert "heel height" in latex
    for text in (markdown, latex):
        assert "bad: FAILED: x" in text
        assert "seeds 0" in text
        assert "1,234,567" in text


def test_latex_is_escaped_and_balanced():
    name = "a_b&c%d#e$f~g^h"
    records = [record(name, seed, (0.8 + seed / 100, 0.6)) for seed in (0, 1)] + [record("independent", 0)]
    latex = as_markup(summarise(records)[0], "latex")
    assert r"a\_b\&c\%d\#e\$f\textasciitilde{}g\textasciicircum{}h & 2" in latex
    assert r"{\scriptsize $\pm$0.4}" in latex  # the deviation of the mean, smaller than it
    assert r"$-$" in latex
    bare = re.sub(r"\\[&%#$_{}]", "", latex)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[±×Δ≈]", bare)
    for block in re.findall(r"\\begin{tabular}{(l r*|l)(r*)}\n(.*?)\\end{tabular}", bare, re.DOTALL):
        lines = [line for line in block[2].splitlines() if line.endswith(r"\\")]
        assert len(lines) > 1
        assert {line.count("&") for line in lines} == {len(block[1])}


def test_the_terminal_marks_best_and_second_and_ties_share_a_place():
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system="standard")
    show([record("one"), record("two"), record("three", hits=(0.5, 0.4))], "table", console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("\x1b[1;32m80.0") == 2
    assert "\x1b[4m45.0" in text


def test_no_line_of_a_table_ends_in_spaces(tmp_path):
    records = [written(tmp_path, m, s, share) for m, share in (("one", 0.9), ("two", 0.5)) for s in (0, 1)]
    records.append(record("chance", kind="reference", costs={}))
    for width in (60, 80, 200):
        lines = shown(records, width, results=tmp_path).splitlines()
        assert [line for line in lines if line != line.rstrip()] == []


def test_csv_has_a_row_per_method_with_the_spread_the_base_and_the_receipt(tmp_path):
    records = [written(tmp_path, m, s, 0.8) for m in ("independent", "one") for s in (0, 1)]
    frame = as_frame(summarise(records, Choice(), tmp_path))
    assert sorted(frame["method"]) == ["independent", "one"]
    one = frame.set_index("method").loc["one"]
    assert (one["n"], one["seeds"]) == (2, "0 1")
    by_task = [[r.metrics[t]["triplet"] for r in records if r.method == "one"] for t in ("colour", "heel_height")]
    assert one["task/colour"] == pytest.approx(sum(by_task[0]) / 2)
    assert one["mean"] == pytest.approx((sum(by_task[0]) + sum(by_task[1])) / 4)
    assert {
        "mean/sd",
        "mean/standing",
        "mean/vs_best/low",
        "worst",
        "delta_m",
        "hurt",
        "cost/bytes_added",
        "cost/training_seconds",
    } <= set(frame)
    assert "fingerprint abc" in one["receipt/data"]
    assert "split at random" in one["receipt/data"]
    again = pd.read_csv(io.StringIO(shown(records, style="csv", results=tmp_path))).set_index("method")
    assert again.loc["one", "mean"] == one["mean"]


def test_rows_of_different_suites_are_told_apart_in_csv():
    other = record("one")
    other.receipt["device"] = "another processor"
    assert list(as_frame(summarise([record("one"), other]))["suite"]) == [1, 2]
    assert list(runs_frame(suites([record("one"), other]))["suite"]) == [1, 2]


def test_runs_holds_every_run_unrounded():
    records = [record("one", seed, (0.123456789, 0.5)) for seed in (0, 1)] + [record("chance", kind="reference")]
    frame = runs_frame(suites(records))
    assert list(frame["method"]) == ["one", "one", "chance"]
    assert frame["triplet/colour"][0] == 0.123456789
    assert frame["triplet/worst"][0] == 0.123456789
    assert frame["cost/bytes_added"][1] == 2048
    assert frame["receipt/data_fingerprint"][0] == "abc"
    again = pd.read_csv(io.StringIO(shown(records, style="runs")))
    assert again["triplet/colour"][0] == 0.123456789
