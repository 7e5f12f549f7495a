"""What a terminal shows while mtlbench works: whole words, the time left of all runs, a question before days."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer
from rich.console import Console

from mtlbench import busy
from mtlbench.cli import planned
from mtlbench.cli.live import Suite, _lines
from mtlbench.cli.progress import command, say
from mtlbench.jobs import plan
from mtlbench.training.events import Started, StepWindow, Validation

LONG = "  cross-stitch, seed 0: continues from step 1,250 with the 2 threads that it began with, about 45 minutes"


def on_a_terminal(width: int = 40, terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)


def text_of(console: Console) -> str:
    found: str = console.file.getvalue()  # type: ignore[attr-defined]
    return found


def test_a_sentence_is_broken_between_words_on_a_terminal_and_not_at_all_elsewhere() -> None:
    console = on_a_terminal()
    say(console, LONG)
    lines = text_of(console).splitlines()
    assert max(map(len, lines)) <= 40
    assert " ".join(text_of(console).split()) == " ".join(LONG.split())
    assert lines[0].startswith("  cross-stitch")
    assert all(line.startswith("    ") for line in lines[1:])
    assert [line for line in lines if line != line.rstrip()] == []
    pipe = on_a_terminal(terminal=False)
    say(pipe, LONG)
    assert text_of(pipe) == f"{LONG}\n"


def test_a_command_stands_whole_to_be_copied() -> None:
    line = "mtlbench report shoes-quick --results /somewhere/far/away --html page"
    for terminal in (True, False):
        console = on_a_terminal(terminal=terminal)
        command(console, "Next", line)
        assert line in text_of(console)


def test_the_time_left_of_all_runs_is_told_at_the_pace_of_this_session() -> None:
    now = [100.0]
    folders = [Path(name) for name in "abc"]
    suite = Suite(3, dict(zip(folders, (10.0, 10.0, 20.0), strict=True)), clock=lambda: now[0])
    suite.note(folders[0], 0.0)
    assert str(suite) == "0 of 3 runs done"  # nothing is known yet
    now[0] = 130.0
    suite.note(folders[0], 1.0)  # 10 of 40 planned seconds took 30
    assert suite.seconds_left() == pytest.approx(90)
    suite.note(folders[1], 0.0)
    now[0] = 145.0
    suite.note(folders[1], 0.5)
    assert suite.seconds_left() == pytest.approx(15 + 60)
    assert str(suite) == "1 of 3 runs done, about 75 s left in all"
    for folder in folders:
        suite.note(folder, 1.0)
    assert str(suite) == "3 of 3 runs done"


def test_a_plan_that_was_far_off_for_one_run_does_not_shorten_the_time_left_of_the_others() -> None:
    now = [0.0]
    resumed, under_way, to_come = (Path(name) for name in "abc")
    suite = Suite(3, {resumed: 480.0, under_way: 60.0, to_come: 60.0}, clock=lambda: now[0])
    suite.note(resumed, 0.0)
    now[0] = 12.0
    suite.note(resumed, 1.0)  # planned on a busy machine: forty times too long
    suite.note(under_way, 0.0)
    now[0] = 42.0
    suite.note(under_way, 0.2)
    left = suite.seconds_left()
    assert left is not None
    assert left >= 120  # what the run under way has left at its own pace


def test_runs_side_by_side_share_the_time_that_is_left() -> None:
    now = [0.0]
    folders = [Path(name) for name in "abcd"]
    suite = Suite(4, dict.fromkeys(folders, 10.0), clock=lambda: now[0])
    for folder in folders[:2]:
        suite.note(folder, 0.0)
    now[0] = 10.0
    for folder in folders[:2]:
        suite.note(folder, 1.0)
    assert suite.seconds_left() == pytest.approx(10)


def test_without_a_plan_only_runs_are_counted() -> None:
    suite = Suite(2, {})
    suite.note(Path("a"), 1.0)
    assert str(suite) == "1 of 2 runs done"


def test_days_of_work_begin_only_when_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(typer, "confirm", lambda words: bool(asked.append(words)))
    monkeypatch.setattr(planned.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    days = [2 * 86_400.0, 86_400.0]
    assert not planned.agreed(on_a_terminal(), days, yes=False)
    assert asked == ["This takes about 3 days. Begin?"]
    assert not planned.agreed(on_a_terminal(), days, yes=False, at_once=2)
    assert asked.pop() == "This takes about 2 days. Begin?"
    assert planned.agreed(on_a_terminal(), days, yes=True)
    assert planned.agreed(on_a_terminal(), [3600.0], yes=False)
    assert planned.agreed(on_a_terminal(terminal=False), days, yes=False)  # as in a script
    monkeypatch.setattr(planned.sys, "stdin", SimpleNamespace(isatty=lambda: False))
    assert planned.agreed(on_a_terminal(), days, yes=False)
    assert len(asked) == 1


def test_a_dry_run_says_on_a_terminal_which_method_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    @contextmanager
    def heard(console: Console, words: str) -> Iterator[None]:
        told.append(words)
        yield

    monkeypatch.setattr(planned, "status", heard)
    monkeypatch.setattr(plan, "seconds_needed", lambda *known: (40.0, ""))
    jobs = [
        SimpleNamespace(method=SimpleNamespace(name=name), state="new", costs_due=False, threads=0, steps_done=0,
                        seed=seed, folder=Path(f"{name}-{seed}"), label=f"{name}, seed {seed}")
        for name in ("one", "two") for seed in (0, 1)
    ]  # fmt: skip
    part = SimpleNamespace(
        jobs=jobs, precision="fp32", dataset=SimpleNamespace(device=SimpleNamespace(type="cpu")),
        variant=SimpleNamespace(benchmark=SimpleNamespace(train=SimpleNamespace(steps=100))),
    )  # fmt: skip
    console = on_a_terminal(terminal=False)
    left = planned._show_jobs(console, part)  # type: ignore[arg-type]
    assert told == [f"timing a few steps of {name}, {n} of 2 methods …" for n, name in enumerate(("one", "two"), 1)]
    assert sum(left.values()) == 160.0
    assert "two, seed 1: to do, about 40 s" in text_of(console)


def test_the_plan_fits_80_columns_with_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "seconds_needed", lambda *known: (4000.0, ""))
    monkeypatch.setattr(busy, "share_of_cores", lambda threads: 0.4)
    monkeypatch.setattr(planned, "status", lambda *words: nullcontext())  # its line is gone when the plan is there
    names = ("shared", "modulation[after=3,kernel=1]+gradnorm[alpha=0.12]")
    jobs = [
        SimpleNamespace(method=SimpleNamespace(name=name), state=state, costs_due=False, threads=64, steps_done=1250,
                        seed=0, folder=Path(f"{name}-{state}"), label=f"{name}, train.lr=0.001, seed 0")
        for name in names for state in ("new", "interrupted", "failed", "done")
    ]  # fmt: skip
    tasks = [f"a_task_with_a_long_name_{n}" for n in range(7)]
    facts = {"name": "rendered shoes", "rendered": True} | dict.fromkeys(("train_images", "val_images"), 10_000)
    dataset = SimpleNamespace(tasks=tasks, device=torch.device("cpu"), facts=facts | {"test_images": 2000})
    known = {"title": "Made up", "name": "made-up", "protocol": "full", "train": SimpleNamespace(steps=361_700)}
    variant = SimpleNamespace(varied={"train.lr": "0.001"}, benchmark=SimpleNamespace(**known))
    part = SimpleNamespace(jobs=jobs, precision="fp32", dataset=dataset, variant=variant)
    shown = {}
    for terminal in (True, False):
        console = on_a_terminal(80, terminal)
        planned.show_plan(console, [part])  # type: ignore[list-item]
        shown[terminal] = text_of(console)
    lines = shown[True].splitlines()
    assert max(map(len, lines)) <= 80 < max(map(len, shown[False].splitlines()))
    assert [line for line in lines if line != line.rstrip()] == []
    assert shown[True].split() == shown[False].split()  # no word is broken
    assert "In all about 7 hours." in lines
    console = on_a_terminal(80)
    planned.show_plan(console, [part], at_once=3)  # type: ignore[list-item]
    assert "In all about 2 hours, 3 at a time." in text_of(console).splitlines()


@pytest.mark.parametrize(
    ("seconds", "runs", "at_once", "threads", "device", "said"),
    [
        (4000.0, 2, 1, 2, "cpu", True),
        (4.0, 2, 1, 2, "cpu", False),
        (4000.0, 1, 1, 2, "cpu", False),
        (4000.0, 2, 2, 2, "cpu", False),
        (4000.0, 2, 1, 1, "cpu", False),
        (4000.0, 2, 1, 2, "cuda", False),
    ],
)
def test_the_plan_names_jobs_where_they_help(monkeypatch, seconds, runs, at_once, threads, device, said) -> None:
    monkeypatch.setattr(planned, "_show_head", lambda *known: None)
    monkeypatch.setattr(planned, "tell_busy", lambda *known: None)
    monkeypatch.setattr(planned, "_show_jobs", lambda *known: {Path(str(run)): seconds for run in range(runs)})
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    part = SimpleNamespace(
        jobs=[],
        dataset=SimpleNamespace(device=SimpleNamespace(type=device)),
        variant=SimpleNamespace(varied={}, benchmark=SimpleNamespace(protocol="quick")),
    )
    console = on_a_terminal(terminal=False)
    planned.show_plan(console, [part], at_once)  # type: ignore[list-item]
    assert ("--jobs 2 does two runs at a time" in text_of(console)) == said


@pytest.mark.parametrize(("share", "device", "said"), [(0.4, "cpu", True), (0.95, "cpu", False), (0.4, "cuda", False)])
def test_a_busy_machine_is_named_where_times_are_told(monkeypatch, share, device, said) -> None:
    monkeypatch.setattr("mtlbench.busy.share_of_cores", lambda threads: share)
    console = on_a_terminal(terminal=False)
    planned.tell_busy(console, "On an idle machine these times are shorter", device)
    words = "gets 40 % of the processor time that it asks for. On an idle machine these times are shorter."
    assert (words in " ".join(text_of(console).split())) == said


def test_runs_side_by_side_share_the_time() -> None:
    assert planned.in_all([], 2) == 0
    assert planned.in_all([3.0, 4.0, 5.0], 1) == 12
    starts = planned._STARTS
    assert planned.in_all([3.0, 4.0, 5.0], 2) == 8 + 2 * starts  # the third begins when the first ends
    assert planned.in_all([3.0, 4.0, 5.0], 16) == 5 + starts


def test_the_plan_says_so_where_others_use_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planned, "_show_head", lambda *known: None)
    monkeypatch.setattr(planned, "_show_jobs", lambda *known: {})
    part = SimpleNamespace(
        jobs=[SimpleNamespace(state="new")], dataset=SimpleNamespace(device=SimpleNamespace(type="cpu"))
    )
    for share, said in ((0.4, True), (0.95, False)):
        monkeypatch.setattr(busy, "share_of_cores", lambda threads, share=share: share)
        console = on_a_terminal(terminal=False)
        planned.show_plan(console, [part])  # type: ignore[list-item]
        assert ("busy: mtlbench gets 40 % of the processor time" in text_of(console)) is said
        assert ("and speeds measured now are too low." in text_of(console)) is said
    part.jobs[0].state = "done"
    monkeypatch.setattr(busy, "share_of_cores", lambda threads: 0.1)
    console = on_a_terminal()
    planned.show_plan(console, [part])  # type: ignore[list-item]
    assert text_of(console) == ""


def test_threads_get_no_more_than_all_of_the_processor_and_less_than_they_ask_for_where_there_are_too_many() -> None:
    assert 0 < busy.share_of_cores(1, 0.02) <= 1
    many = 8 * (os.cpu_count() or 1)
    assert busy.share_of_cores(many, 0.05) < 0.7


def test_a_resumed_run_is_told_by_this_sessions_speed_and_validation_alone() -> None:
    console = on_a_terminal(terminal=False)
    job: Any = SimpleNamespace(folder=Path("a"), label="shared, seed 0")
    watcher: Any = _lines(console, Suite(1, {}), None)
    watcher.started(job)
    watcher.happened(job, Validation(400, 1000, 1400.0, {"a": 0.9}))  # of an earlier session
    watcher.happened(job, Started(500, 1000, 1440.0))  # which took 1,440 s on a slow machine
    window = StepWindow(600, 1000, 1450.0, {"a": 0.5}, 960.0)
    watcher.happened(job, window)
    shown: list[Any] = []
    live: Any = _lines(on_a_terminal(), Suite(1, {}), SimpleNamespace(update=shown.append))
    for event in (Started(500, 1000, 1440.0), window):
        live.happened(job, event)
    kept = on_a_terminal(80)
    kept.print(shown[-1])
    assert "no validation yet" in text_of(kept)
    watcher.happened(job, Validation(600, 1000, 1450.0, {"a": 0.7}))
    last = text_of(console).splitlines()[-1]
    assert "step 600/1,000, loss 0.5000, 960 images/s, 40 s left; validation mean 70.0 (a 70.0)" in last


def test_the_live_view_of_many_runs_fits_the_terminal_and_keeps_its_last_line() -> None:
    console = Console(file=io.StringIO(), width=80, height=14, force_terminal=True, color_system=None)
    jobs: list[Any] = [SimpleNamespace(folder=Path(str(n)), label=f"single, seed {n}") for n in range(20)]
    shown: list[list[str]] = []

    class Caught:
        def update(self, group: Any) -> None:
            kept = Console(file=io.StringIO(), width=80, color_system=None)
            kept.print(group)
            shown.append(text_of(kept).splitlines())

    watcher: Any = _lines(console, Suite(20, {}), Caught())
    for job in jobs[:4]:
        watcher.started(job)
        watcher.happened(job, Started(0, 100, 0.0))
        watcher.happened(job, StepWindow(50, 100, 1.0, {"a": 0.5}, 10.0))
    assert len(shown[-1]) == 4 * 3 + 1  # three lines of each, and all
    for job in jobs[4:]:
        watcher.doing(job, "waits for a node")
    assert len(shown[-1]) == 13
    assert [words.split("]")[0] for words in shown[-1][:4]] == [f"[{n}/20" for n in (1, 2, 3, 4)]
    assert "waits for a node" in shown[-1][4]
    every = [line for lines in shown for line in lines]
    assert max(map(len, every)) <= 80
    assert [line for line in every if line != line.rstrip()] == []
    assert [words.strip() for words in shown[-1][-2:]] == ["… and 9 more", "0 of 20 runs done"]
