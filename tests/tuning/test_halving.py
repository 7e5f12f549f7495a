"""Successive halving: the same budget for every method whatever happens, and the default goes to the end."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import protocol
from tuning_support import GoodAt50, begin, command, trials_in, tuned, tuning_of, wait_for_trials

from mtlbench import register_architecture
from mtlbench.errors import UserError
from mtlbench.report.figures.tuning import drawings
from mtlbench.report.receipt import _origin
from mtlbench.training.events import Event
from mtlbench.training.state import Interrupted
from mtlbench.tuning.halving import Rung, budget, going_on, in_words, rungs
from mtlbench.tuning.outcome import Outcome
from mtlbench.tuning.study import Studies, Trial
from mtlbench.tuning.tune import Told, Tuning, open_studies, steps_left, work

LADDER = (Rung(2, 6), Rung(4, 3), Rung(16, 2))


def halved(folder, methods="shared,modulation", trials=6, **more) -> Tuning:
    benchmark = protocol("train.steps=16", "evaluation.every=2")
    return replace(tuning_of(folder, methods, trials, benchmark=benchmark, **more), halving=True)


class Steps(Told):
    """Notes the steps that each trial was trained in all."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, int], int] = {}
        self.taken: dict[str, int] = {}

    def happened(self, method: str, number: int, event: Event) -> None:
        self.taken[method] = self.taken.get(method, 0) + event.step - self.last.get((method, number), 0)
        self.last[method, number] = event.step


@given(st.integers(1, 200), st.integers(1, 5000), st.integers(1, 500))
def test_rungs_rise_to_the_end_and_lie_at_validations(trials, steps, every):
    ladder = rungs(trials, steps, every)
    assert ladder[0].trials == trials
    assert ladder[-1].step == steps
    assert all(rung.step % every == 0 for rung in ladder[:-1])
    assert all(low.step < high.step and low.trials >= high.trials for low, high in pairwise(ladder))
    assert budget(ladder) <= trials * steps
    assert ladder[-1].trials >= min(trials, 2)


def test_the_budget_is_what_the_rungs_come_to():
    assert rungs(16, 400, 25) == (Rung(50, 16), Rung(100, 8), Rung(200, 4), Rung(400, 2))
    assert budget(rungs(16, 400, 25)) == 16 * 50 + 8 * 50 + 4 * 100 + 2 * 200
    assert in_words(LADDER) == "6 to step 2, 3 to 4, 2 to 16"


def test_the_default_goes_on_and_the_best_of_the_others():
    scores = {0: 0.1, 1: 0.5, 2: 0.9, 3: 0.5, 4: 0.2}
    assert going_on(scores, 3) == {0, 1, 2}
    assert going_on({1: 0.5, 2: 0.9}, 2) == {2}  # nobody takes the place of a default that failed


@pytest.mark.slow
def test_every_method_gets_the_same_steps_and_the_default_is_trained_to_its_end(tmp_path):
    tuning, told = halved(tmp_path, "shared,modulation,gradnorm"), Steps()
    assert tuning.ladder == LADDER
    found = tuned(tuning, told)
    assert set(told.taken.values()) == {budget(LADDER)} == {6 * 2 + 3 * 2 + 2 * 12}
    for trials in found.values():
        assert [t.number for t in trials] == list(range(6))
        assert (trials[0].state, trials[0].steps) == ("done", 16)
        assert sorted(t.steps for t in trials) == [2, 2, 2, 4, 16, 16]
        dropped = [t for t in trials if t.state == "dropped"]
        assert [t.score for t in dropped] == [None] * 4
        assert {t.reason for t in dropped} == {"dropped at step 2", "dropped at step 4"}
    lrs = [[trial.values["train.lr"] for trial in trials] for trials in found.values()]
    assert lrs[0] == lrs[1] == lrs[2]
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_plan_counts_the_steps_of_all_rungs_and_those_that_are_done(tmp_path):
    tuning = halved(tmp_path, "shared")
    studies = open_studies(tuning, overwrite=False)
    assert steps_left(tuning, studies, "shared") == budget(LADDER)
    told = Steps()
    with pytest.raises(Interrupted):
        work(tuning, studies, told, lambda: sum(told.taken.values()) >= 8)
    assert steps_left(tuning, studies, "shared") == budget(LADDER) - 8  # four of six trials are at their first rung
    work(tuning, studies, told, lambda: False)
    assert steps_left(tuning, studies, "shared") == 0


@pytest.mark.slow
def test_what_is_trained_to_its_end_scores_as_it_does_without_rungs(tmp_path):
    trials = tuned(halved(tmp_path / "halved", "shared"))["shared"]
    whole = tuned(replace(halved(tmp_path / "whole", "shared"), halving=False))["shared"]
    assert trials[0].score == whole[0].score
    last = next(t for t in trials if t.number and t.state == "done")
    assert whole[last.number].values == last.values
    assert whole[last.number].score == last.score


@pytest.mark.slow
def test_stopped_again_and_again_it_comes_to_the_same(tmp_path):
    whole = tuned(halved(tmp_path / "whole"))
    chance, stops = random.Random(1), 0
    tuning = halved(tmp_path / "cut")
    while True:
        left = chance.randint(1, 9)

        def soon() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        try:
            work(tuning, open_studies(tuning, overwrite=False), Told(), soon)
            break
        except Interrupted:
            stops += 1
    assert stops > 5
    for name, trials in whole.items():
        kept = trials_in(tmp_path / "cut", name)
        assert [(t.state, t.values, t.score, t.steps) for t in kept] == [
            (t.state, t.values, t.score, t.steps) for t in trials
        ]


@pytest.mark.slow
def test_a_failed_trial_counts_and_gives_its_place_to_nobody(tmp_path):
    tuning = halved(tmp_path, "shared")
    studies = open_studies(tuning, overwrite=False)

    class Breaks(Told):
        def happened(self, method: str, number: int, event: Event) -> None:
            if number == 2:
                raise RuntimeError("out of luck")

    work(tuning, studies, Breaks(), lambda: False)
    trials = studies.trials("shared")
    assert trials[2].state == "failed"
    assert "out of luck" in trials[2].reason
    assert sorted(t.state for t in trials) == ["done", "done", "dropped", "dropped", "dropped", "failed"]


@pytest.mark.slow
def test_a_rate_of_50_is_found_by_halving(tmp_path):
    register_architecture("good-at-50")(GoodAt50)
    trials = tuned(halved(tmp_path, "good-at-50", 24))["good-at-50"]
    best = Outcome("good-at-50", tuple(trials)).best
    assert best is not None
    assert best.number > 0
    rates = [t.values["options.rate"] for t in trials]
    assert abs(_decades_from_50(best.values["options.rate"])) == min(abs(_decades_from_50(rate)) for rate in rates)


def _decades_from_50(rate: float) -> float:
    import math

    return math.log10(rate / 50)


def test_trials_of_another_ladder_are_refused(tmp_path):
    tuned(halved(tmp_path, "shared", 4))
    for other in (halved(tmp_path, "shared", 6), replace(halved(tmp_path, "shared", 4), halving=False)):
        with pytest.raises(UserError, match=r"halving: 4 to step 2, 2 to 16 there|halving: 4 to step 2"):
            open_studies(other, overwrite=False)


def test_receipts_say_so_and_no_curve_of_fewer_trials_is_drawn():
    said = _origin({"trials": 6, "halving": in_words(LADDER), "seeds": [0]})
    assert said.startswith("tuned, 6 trials a method by successive halving (6 to step 2, 3 to 4, 2 to 16) on the")
    trials = [Trial("shared", 0, "done", {"train.lr": 0.1}, 0.6), Trial("shared", 1, "done", {"train.lr": 0.2}, 0.7)]
    dropped = Trial("shared", 2, "dropped", {"train.lr": 0.3}, reason="dropped at step 2")
    assert len(list(drawings([Outcome("shared", tuple(trials))], "made up"))) == 2
    (figure,) = drawings([Outcome("shared", (*trials, dropped))], "made up")
    assert figure.stem == "tuning-trials"


@pytest.mark.slow
def test_killed_at_any_moment_two_processes_go_on_to_the_same(tmp_path):
    folder = tmp_path / "shoes-quick" / "tuning"
    more = ("--halving", "--trials", "6")
    for jobs, begun in (("1", 3), ("2", 6)):
        process = begin(command(tmp_path, "--jobs", jobs, *more))
        wait_for_trials(folder, begun)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    both = [begin(command(tmp_path, *more)) for _ in range(2)]
    said = [process.communicate(timeout=1200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    whole = begin(command(tmp_path / "whole", *more))
    told, _ = whole.communicate(timeout=1200)
    assert whole.returncode == 0, told
    for name in ("single", "shared"):
        kept = Studies(folder).trials(name)
        wanted = Studies(tmp_path / "whole" / "shoes-quick" / "tuning").trials(name)
        assert [(t.state, t.values, t.score, t.steps) for t in kept] == [
            (t.state, t.values, t.score, t.steps) for t in wanted
        ]
        assert sum(t.state == "done" for t in kept) == 2
