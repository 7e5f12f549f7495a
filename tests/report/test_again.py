"""Rows that are the same run twice: a tuned one whose recipe is the default, beside the one by default."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from report_records import shown, unwrapped, written

from mtlbench.report.inference import threshold
from mtlbench.report.pairs import pairs_of
from mtlbench.report.summary import Choice, summarise
from mtlbench.report.tables import as_markup
from mtlbench.report.verdict import verdict
from mtlbench.runs import Record, run_folder

SHARES = {"best": 0.9, "second": 0.8, "third": 0.7}


def tuned(record: Record, results: Path, **recipe: object) -> Record:
    """The same run with a recipe, in a folder of its own."""
    folder = run_folder(results, "made-up", f"{record.method}@tuned", record.seed)
    shutil.copytree(run_folder(results, "made-up", record.method, record.seed), folder)
    method = record.setup["method"] | {"recipe": recipe}
    receipt = record.receipt | {"recipe": {"trials": 8, "split": "val", "seeds": [0], "command": "mtlbench tune"}}
    made = Record(record.method, record.seed, "method", record.setup | {"method": method}, folder=folder)
    made.metrics, made.costs, made.receipt = record.metrics, record.costs, receipt
    return made


@pytest.fixture
def plain(tmp_path) -> list[Record]:
    return [written(tmp_path, method, seed, share) for method, share in SHARES.items() for seed in (0, 1, 2)]


def test_a_tuned_row_whose_recipe_is_the_default_counts_once(tmp_path, plain):
    (alone,) = summarise(plain, Choice(), tmp_path)
    twice = [tuned(record, tmp_path) for record in plain if record.method != "third"]
    (both,) = summarise([*plain, *twice], Choice(), tmp_path)
    assert len(both.rows) == 5
    assert both.comparison.methods == 3
    before, after = ({row.method: row for row in summary.rows} for summary in (alone, both))
    for name, row in before.items():
        assert after[name].level == threshold(3)
        assert (after[name].standing, after[name].versus) == (row.standing, row.versus)
    # the row again stands as the row does, and is no further candidate
    assert after["second · tuned"].again == "second"
    assert after["second · tuned"].standing == before["second"].standing
    assert set(after["best · tuned"].standing.values()) == {"tied"}
    assert verdict(both).headline == verdict(alone).headline
    pairs = pairs_of(both.rows, both.comparison)
    assert pairs is not None
    assert pairs.methods == ("best", "second", "third")
    text = unwrapped(shown([*plain, *twice], results=tmp_path))
    table = as_markup(both, "md").split("\n- ")[0]
    assert "| best (default won)" in table  # one row of those two, and the counts above are of the rows
    assert "best · tuned" not in table
    assert "for all pairs of the suite's 3 methods" in text
    assert "best · tuned: the default won" in text
    assert "The same run twice, counted once: best · tuned and best; second · tuned and second." in text


def test_a_recipe_that_says_the_defaults_own_value_is_the_default(tmp_path, plain):
    same = [tuned(r, tmp_path, train={"lr": 0.001}) for r in plain if r.method == "best"]
    other = [tuned(r, tmp_path, train={"lr": 0.002}) for r in plain if r.method == "third"]
    (summary,) = summarise([*plain, *same, *other], Choice(), tmp_path)
    assert {row.method: row.again for row in summary.rows if row.again} == {"best · tuned": "best"}
    assert summary.comparison.methods == 4


def test_alone_it_is_a_row_like_any_other(tmp_path, plain):
    records = [tuned(record, tmp_path) if record.method == "best" else record for record in plain]
    (summary,) = summarise(records, Choice(), tmp_path)
    assert not any(row.again for row in summary.rows)
    assert verdict(summary).best == "best · tuned"
    # also where the one by default lies beside it and is not shown
    twice = [tuned(record, tmp_path) for record in plain if record.method == "second"]
    folders = frozenset(record.folder for record in twice if record.folder)
    (summary,) = summarise([*plain, *twice], Choice(folders=folders), tmp_path)
    assert [row.again for row in summary.rows] == [""]
    assert summary.comparison.methods == 3
