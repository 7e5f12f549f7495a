"""The comparison with the best method, and the one at equal seconds, from answers and curves made up by hand."""

from __future__ import annotations

import math

import pytest
from report_records import cells, order, shown, unwrapped, written

from mtlbench.errors import UserError
from mtlbench.report.summary import Choice, summarise
from mtlbench.runs import run_folder


def test_methods_that_cannot_be_told_apart_from_the_best_are_marked(tmp_path):
    shares = {"best": 0.9, "second": 0.895, "last": 0.6}
    records = [written(tmp_path, m, seed, share) for m, share in shares.items() for seed in (0, 1, 2)]
    (summary,) = summarise(records, Choice(), tmp_path)
    marks = {row.method: row.tied for row in summary.tables[0].rows}
    leader, follower = summary.tables[0].rows[0].method, summary.tables[0].rows[1].method
    assert {leader, follower} == {"best", "second"}
    assert "mean" in marks[follower]
    assert "mean" not in marks[leader]
    assert marks["last"] == frozenset()
    text = shown(records, results=tmp_path)
    assert "≈" in next(line for line in text.splitlines() if line.startswith(follower))
    assert "≈: can't be told apart from the best of the column" in text
    assert "seeds is not covered" not in text


def test_with_one_seed_the_comparison_says_what_it_does_not_cover(tmp_path):
    records = [written(tmp_path, m, 0, share) for m, share in (("one", 0.9), ("other", 0.5))]
    text = unwrapped(shown(records, results=tmp_path))
    assert "how results vary between seeds is not covered, for there is one" in text


def test_methods_without_answers_are_not_marked_and_named(tmp_path):
    records = [written(tmp_path, "one", 0, 0.9), written(tmp_path, "two", 0, 0.9), written(tmp_path, "bare", 0, 0.9)]
    (run_folder(tmp_path, "made-up", "bare", 0) / "test.safetensors").unlink()
    (summary,) = summarise(records, Choice(), tmp_path)
    assert {row.method: row.tied for row in summary.tables[0].rows}["bare"] == frozenset()
    assert any("not of the same run: bare" in line for line in summary.receipt)


def test_answers_of_another_run_are_not_believed(tmp_path):
    records = [written(tmp_path, "one", 0, 0.9), written(tmp_path, "two", 0, 0.9)]
    records[1].metrics["colour"]["triplet"] = 0.123
    (summary,) = summarise(records, Choice(), tmp_path)
    assert any("not of the same run: two" in line for line in summary.receipt)


def test_other_metrics_are_not_compared_and_it_says_why(tmp_path):
    records = [written(tmp_path, "one", 0, 0.9), written(tmp_path, "two", 0, 0.9)]
    (summary,) = summarise(records, Choice(metric="macro/map@r"), tmp_path)
    assert not any(row.tied for row in summary.tables[0].rows)
    assert any("for triplet accuracy alone" in line for line in summary.receipt)


def curve(*points: tuple[float, float, float]) -> list[dict[str, float]]:
    """Rows of a curve: seconds and the two tasks' validation accuracies, a row without validation after each."""
    rows_: list[dict[str, float]] = []
    for step, (seconds, a, b) in enumerate(points):
        accuracies = {"accuracy/colour": a, "accuracy/heel_height": b, "accuracy": (a + b) / 2}
        rows_ += [
            {"step": 2.0 * step + 1, "seconds": seconds, **accuracies},
            {"step": 2.0 * step + 2, "seconds": seconds + 0.1},
        ]
    return rows_


def test_at_equal_seconds_what_validation_had_measured_by_then_ranks(tmp_path):
    slow = written(tmp_path, "slow", 0, 0.9, curve((5, 0.5, 0.5), (10, 0.6, 0.6), (20, 0.9, 0.9)))
    fast = written(tmp_path, "fast", 0, 0.6, curve((2, 0.6, 0.5), (4, 0.7, 0.7), (9.9, 0.5, 0.6)))
    late = written(tmp_path, "late", 0, 0.8, curve((11, 0.8, 0.8)))
    text = shown([slow, fast, late], results=tmp_path, seconds="10")
    assert order(text) == ["fast", "slow", "late"]
    assert cells(text, "fast")[1] == "70.0"
    assert cells(text, "slow")[1] == "60.0"
    assert "on the validation split" in unwrapped(text)
    assert "ranked at 10 s" in text
    (summary,) = summarise([slow, fast, late], Choice(seconds="10"), tmp_path)
    assert {r.method: r.accuracy["within"].mean for r in summary.tables[0].rows}["late"] is None
    shortest = shown([slow, fast], results=tmp_path, seconds="shortest")
    assert "within 9.9 s of training steps, the time that fast took" in unwrapped(shortest)


def test_at_equal_seconds_tasks_are_read_from_the_checkpoint_that_all_tasks_chose(tmp_path):
    one = written(tmp_path, "one", 0, 0.9, curve((1, 0.9, 0.1), (2, 0.6, 0.6)))
    (summary,) = summarise([one], Choice(seconds="5", tasks="colour"), tmp_path)
    assert summary.tables[0].rows[0].accuracy["within"].mean == pytest.approx(0.6)


@pytest.mark.parametrize("kept", [(), [{"step": 1.0, "seconds": math.nan, "accuracy": 0.5}]])
def test_without_curves_that_have_seconds_there_is_no_shortest_run(tmp_path, kept):
    (summary,) = summarise([written(tmp_path, "one", 0, 0.9, kept)], Choice(seconds="shortest"), tmp_path)
    assert "equal seconds: none, no run here kept its curve with seconds." in summary.receipt
    assert not any("no column" in line for line in summary.receipt)


@pytest.mark.parametrize("seconds", ["soon", "0", "-3", "nan", "inf"])
def test_seconds_that_are_none_are_refused(tmp_path, seconds):
    with pytest.raises(UserError, match="give a number of seconds, or 'shortest'"):
        shown([written(tmp_path, "one", 0, 0.9)], results=tmp_path, seconds=seconds)
