"""Trackers: what they are told, what TensorBoard's file holds, and that no fault of theirs stops a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import TASKS, make_dataset, protocol
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtlbench.errors import UserError
from mtlbench.jobs.execute import execute
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.plan import plan
from mtlbench.jobs.tracking import read_trackers, tracking
from mtlbench.plugins import load_plugins
from mtlbench.runs import Record, find_records
from mtlbench.specs import parse_methods
from mtlbench.trackers import Tracker, register_tracker
from mtlbench.training.events import CheckpointSaved, Ended, Event, Started, StepWindow, Validation
from mtlbench.training.state import Interrupted

load_plugins()


def job_in(results: Path) -> Job:
    (job,) = plan(parse_methods("shared"), [0], protocol(), make_dataset(), "fp32", results)
    return job


def do(job: Job, *specs: str, watcher: Watcher | None = None, stop_at: int = 0) -> list[str]:
    """Do a job with trackers; return what was warned of."""
    warnings: list[str] = []
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps == stop_at

    with tracking(read_trackers(specs), watcher or Watcher(), warnings.append) as seen:
        execute(job, protocol(), make_dataset(), "fp32", seen, stop)
    return warnings


def scalars(folder: Path) -> EventAccumulator:
    read = EventAccumulator(str(folder))
    read.Reload()
    return read


def test_tensorboards_file_holds_losses_speed_and_validation(tmp_path):
    assert do(job_in(tmp_path), "tensorboard") == []
    read = scalars(tmp_path / "shoes-quick" / "tensorboard" / "shared" / "seed-0")
    names = {"loss", "images_per_second", "criterion"}
    assert set(read.Tags()["scalars"]) == names | {f"{what}/{t}" for what in ("loss", "accuracy") for t in TASKS}
    assert [e.step for e in read.Scalars("accuracy/colour")] == [3, 6]
    losses = [e.value for e in read.Scalars("loss")]
    assert len(losses) == 2
    for n, loss in enumerate(losses):
        assert loss == pytest.approx(sum(read.Scalars(f"loss/{t}")[n].value for t in TASKS) / 2)
    curve = (tmp_path / "shoes-quick" / "shared" / "seed-0" / "curve.csv").read_text().splitlines()
    last = dict(zip(curve[0].split(","), curve[-1].split(","), strict=True))
    assert read.Scalars("loss/shape")[-1].value == pytest.approx(float(last["loss/shape"]), rel=1e-4)
    assert read.Scalars("accuracy/shape")[-1].value == pytest.approx(float(last["accuracy/shape"]), rel=1e-4)
    assert [r.method for r in find_records(tmp_path)] == ["shared"]  # its folder is not taken for runs


def test_tensorboards_folder_is_an_option(tmp_path):
    do(job_in(tmp_path / "results"), f"tensorboard[folder={tmp_path / 'logs'}]")
    assert scalars(tmp_path / "logs" / "shared" / "seed-0").Tags()["scalars"]


def test_an_interrupted_run_goes_on_in_the_same_curves(tmp_path):
    job = job_in(tmp_path)
    with pytest.raises(Interrupted):
        do(job, "tensorboard", stop_at=4)
    do(replace(job, state="interrupted"), "tensorboard")
    read = scalars(tmp_path / "shoes-quick" / "tensorboard" / "shared" / "seed-0")
    assert [e.step for e in read.Scalars("loss")] == [3, 4, 6]
    assert [e.step for e in read.Scalars("criterion")] == [3, 6]


def test_a_tracker_hears_every_event_in_order_and_is_closed_once(tmp_path):
    heard: list[str] = []

    @register_tracker("ear")
    class Ear(Tracker):
        def handle(self, event: Event) -> None:
            heard.append(type(event).__name__)

        def close(self) -> None:
            heard.append("closed")

    do(job_in(tmp_path / "whole"), "ear")
    half = [StepWindow, Validation, CheckpointSaved]
    assert heard == [c.__name__ for c in (Started, *half, *half, Ended)] + ["closed"]
    heard.clear()
    with pytest.raises(Interrupted):
        do(job_in(tmp_path / "half"), "ear", stop_at=4)
    assert heard == [c.__name__ for c in (Started, *half, StepWindow, CheckpointSaved)] + ["closed"]


@pytest.mark.parametrize("where", ["__init__", "handle", "close"])
def test_a_tracker_that_fails_is_told_once_and_stops_no_run(tmp_path, where):
    def fail(*_: object) -> None:
        raise RuntimeError("no connection")

    members = {"handle": lambda self, event: None} | {where: fail}
    register_tracker("broken")(type("Broken", (Tracker,), members))
    events: list[Event] = []

    class Seen(Watcher):
        def happened(self, job: Job, event: Event) -> None:
            events.append(event)

        def ended(self, job: Job, record: Record) -> None:
            assert record.status == "done"

    warnings = do(job_in(tmp_path), "broken", "tensorboard", watcher=Seen())
    (warning,) = warnings
    assert warning.startswith(
        "the tracker broken failed, the run continues: RuntimeError: no connection (test_trackers.py:"
    )
    assert isinstance(events[-1], Ended)  # the live view is told all the same
    assert scalars(tmp_path / "shoes-quick" / "tensorboard" / "shared" / "seed-0").Tags()["scalars"]


def test_a_tracker_or_option_that_there_is_not_is_told_with_the_nearest():
    with pytest.raises(UserError, match=r"Unknown tracker 'tensorbord'\. Did you mean: tensorboard\?"):
        read_trackers(["tensorbord"])
    with pytest.raises(UserError, match=r"'tensorboard' has no option 'foldr'\. Did you mean: folder\?"):
        read_trackers(["tensorboard[foldr=x]"])


def test_without_the_package_the_command_that_brings_it_is_told(monkeypatch):
    monkeypatch.setattr("mtlbench.registry.find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"The tracker tensorboard needs tensorboard: pip install tensorboard, or"):
        read_trackers(["tensorboard"])
