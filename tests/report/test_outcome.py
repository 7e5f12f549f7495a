"""How a method's runs ended, as data and in words."""

from __future__ import annotations

from typing import Any

import pytest

from mtlbench.report.outcome import Collapse, Outcome
from mtlbench.runs import Record
from mtlbench.runs.record import BROKEN

SETUP = {"method": {"name": "one"}, "tasks": ["colour", "heel"]}


def run(seed: int, **changes: Any) -> Record:
    made = Record("one", seed, "method", SETUP, receipt={"selected_step": 30})
    for key, value in changes.items():
        setattr(made, key, value)
    return made


FINE, FELL = run(0), run(1, collapsed=["colour"])
FAILED = run(2, status="failed", reason="out of memory")


@pytest.mark.parametrize(
    ("records", "status"),
    [([FINE], "done"), ([FAILED], "failed"), ([FINE, FAILED], "partial"), ([FINE, FELL], "collapsed"),
     ([FELL, FAILED], "collapsed")],
)  # fmt: skip
def test_a_status_says_the_worst_that_the_numbers_hide(records, status):
    assert Outcome.of(records).status == status


def test_reasons_and_tasks_are_kept_by_seed():
    outcome = Outcome.of([FAILED, FELL, FINE])
    assert outcome.seeds == (0, 1, 2)
    assert outcome.failed == {2: "out of memory"}
    assert outcome.collapsed == {1: Collapse(("colour",), all_tasks=False, step=30)}
    assert outcome.note() == (
        "seed 1 COLLAPSED (colour): all embeddings nearly equal; checkpoint of step 30 shown;"
        " seed 2 FAILED: out of memory"
    )


def test_of_one_run_the_seed_is_not_named_and_a_fine_one_needs_no_word():
    assert Outcome.of([FAILED]).note() == "FAILED: out of memory"
    assert Outcome.of([run(0, collapsed=["colour", "heel"])]).note().startswith("COLLAPSED (all tasks)")
    assert Outcome.of([run(0, reason="cost not measured: full")]).note() == "cost not measured: full"
    alike = [run(seed, reason="cost not measured: full") for seed in (0, 1, 2)]
    assert Outcome.of(alike).note() == "seeds 0, 1 and 2 cost not measured: full"
    assert Outcome.of([*alike[1:], run(4)]).note() == "seeds 1 and 2 cost not measured: full"
    assert not Outcome.of([FINE]).remarkable


def test_where_tasks_have_checkpoints_of_their_own_no_step_is_named():
    fell = run(0, collapsed=["colour"], receipt={"selected_steps": {"colour": 30, "heel": 60}})
    assert Outcome.of([fell]).note() == "COLLAPSED (colour): all embeddings nearly equal"


def test_words_in_a_reason_decide_nothing():
    assert Outcome.of([FINE, run(3, reason="cost not measured: COLLAPSED and FAILED")]).status == "done"


def test_a_method_that_changes_the_learning_rate_of_much_of_its_network_is_remarked_on():
    outcome = Outcome.of([run(0, receipt={"own_rates": {"share": 0.98, "most": 10.0}})])
    assert outcome.note() == "98 % of its parameters learn at another rate, up to 10 times the benchmark's"
    assert Outcome.of([run(0, receipt={"own_rates": {"share": 0.01, "most": 87.0}})]).note() == ""


@pytest.mark.parametrize(
    ("shares", "note"),
    [
        ({"even": 0.97, "single": 0.0}, "weights even, the plain mean, in 97 % of steps"),
        ({"even": 0.02, "single": 0.93}, "all weight on one task in 93 % of steps"),
        ({"even": 0.5, "single": 0.4}, ""),
        ({"even": 0.02, "single": 0.0, "constant": 0.95}, "weights constant in 95 % of steps"),
        ({"even": 0.5, "single": 0.0, "constant": 0.95, "farthest": 0.013}, "weights within 1.3 % of the plain mean's"),
        ({"even": 0.5, "single": 0.0, "constant": 0.5, "farthest": 0.06}, ""),
        ({"even": 0.97, "constant": 0.98, "farthest": 0.01}, "weights even, the plain mean, in 97 % of steps"),
    ],
)
def test_a_balancer_that_decided_nothing_is_remarked_on(shares, note):
    outcome = Outcome.of([run(0, receipt={"balancer_weights": shares})])
    assert outcome.note() == note
    assert outcome.remarkable == bool(note)
    assert outcome.status == "done"


def test_seeds_whose_remarks_differ_in_a_share_alone_are_named_together():
    weights = ({"even": 0.5, "farthest": 0.027}, {"even": 0.5, "farthest": 0.022}, {"even": 0.97})
    runs = [run(seed, receipt={"balancer_weights": shares}) for seed, shares in enumerate(weights)]
    outcome = Outcome.of(runs)
    assert outcome.note() == (
        "seeds 0 and 1 weights within 2.2 to 2.7 % of the plain mean's;"
        " seed 2 weights even, the plain mean, in 97 % of steps"
    )
    assert not outcome.wrong


@pytest.mark.parametrize(
    "records", [[FINE, FAILED], [FELL], [run(0, receipt={"checked": {"architecture": BROKEN}})]]
)  # fmt: skip
def test_a_failure_a_collapse_and_a_broken_contract_went_wrong(records):
    assert Outcome.of(records).wrong


def test_a_collapse_counts_under_the_tasks_that_are_shown():
    fell = run(0, collapsed=["colour"])
    assert Outcome.of([fell], ["heel"]).status == "done"
    assert Outcome.of([fell], ["colour"]).note() == Outcome.of([fell]).note()
