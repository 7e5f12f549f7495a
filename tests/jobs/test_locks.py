"""One process at a time works on a run; what dead ones left is removed; a full disk is nobody's failure."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from report_records import record as made_up
from safetensors import SafetensorError
from support import make_dataset, protocol

from mtlbench.errors import UserError
from mtlbench.jobs.attempt import attempt
from mtlbench.jobs.execute import execute
from mtlbench.jobs.executors.here import Here
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.plan import plan
from mtlbench.plugins import load_plugins
from mtlbench.runs import Record, partial_folder, read_record, write_record
from mtlbench.runs.disk import DiskFull
from mtlbench.runs.lock import Busy, busy_with, working_on
from mtlbench.specs import parse_methods
from mtlbench.training.state import Interrupted

load_plugins()


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlbench.jobs.attempt.dataset_of", lambda job: make_dataset())


def jobs_for(results: Path, methods: str = "shared") -> list[Job]:
    return plan(parse_methods(methods), (0,), protocol(), make_dataset(), "fp32", results)


class Notes(Watcher):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def started(self, job: Job) -> None:
        self.lines.append(("started", job.method.name))

    def busy(self, job: Job, who: str) -> None:
        self.lines.append((who, job.method.name))

    def ended(self, job: Job, record: Record) -> None:
        self.lines.append((record.status, job.method.name))


def test_the_second_of_two_learns_who_works_on_a_run(tmp_path):
    folder = tmp_path / "b" / "m" / "seed-0"
    with working_on(folder):
        import os
        import socket

        assert busy_with(folder) == f"process {os.getpid()}@{socket.gethostname()}"
        with pytest.raises(Busy), working_on(folder):
            pass
    assert busy_with(folder) == ""
    assert [p.name for p in folder.parent.iterdir()] == [".seed-0.lock"]  # empty, held by nobody


def test_the_lock_of_a_killed_process_blocks_nobody(tmp_path):
    folder = tmp_path / "seed-0"
    code = (
        "import sys, time; from pathlib import Path; from mtlbench.runs.lock import working_on\n"
        "with working_on(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert busy_with(folder).startswith(f"process {process.pid}@")
    process.kill()
    process.communicate()
    assert busy_with(folder) == ""


def test_what_dead_processes_left_is_removed_and_a_record_between_two_renames_comes_back(tmp_path):
    folder = tmp_path / "m" / "seed-0"
    write_record(folder, made_up("m"))
    folder.rename(folder.with_name("seed-0.old-host-1"))
    (folder.with_name("seed-0.new-host-1")).mkdir()
    partial_folder(folder).mkdir()
    (partial_folder(folder) / "state.json.host-1.new").touch()
    with working_on(folder):
        pass
    assert read_record(folder) is not None
    assert sorted(p.name for p in folder.parent.iterdir()) == [".seed-0.lock", "seed-0", "seed-0.partial"]
    assert list(partial_folder(folder).iterdir()) == []


def test_a_run_that_another_process_works_on_comes_last_and_is_found_done(tmp_path):
    jobs = jobs_for(tmp_path, "shared,single")
    notes = Notes()
    held = working_on(jobs[0].folder)
    held.__enter__()

    class Released(Notes):
        def ended(self, job: Job, record: Record) -> None:
            super().ended(job, record)
            metrics = {task: {"triplet": 0.5} for task in job.setup["tasks"]}
            if job.method.name == "single":  # meanwhile the other process ends the first
                write_record(jobs[0].folder, Record("shared", 0, "method", jobs[0].setup, metrics=metrics))
                held.__exit__(None, None, None)

    notes = Released()
    Here().run(jobs, notes, lambda: False)
    assert notes.lines[0][0].startswith("process ")
    assert notes.lines[1:] == [("started", "single"), ("done", "single"), ("done", "shared")]


def test_done_is_never_replaced_by_failed(tmp_path):
    folder = tmp_path / "seed-0"
    write_record(folder, made_up("m"))
    write_record(folder, made_up("m", status="failed", reason="late"))
    record = read_record(folder)
    assert record is not None
    assert record.status == "done"


def full(*rest: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_stops_everything_and_is_no_methods_failure(tmp_path, monkeypatch):
    jobs = jobs_for(tmp_path, "shared,single")
    notes = Notes()
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(DiskFull, match=r"No space left on device.*It takes .* MB; .* free") as error:
            Here().run(jobs, notes, lambda: False)
    assert isinstance(error.value, UserError)  # exit code 2
    assert notes.lines == [("started", "shared")]
    assert all(read_record(job.folder) is None for job in jobs)
    Here().run(jobs, notes, lambda: False)
    assert all(job.state == "done" for job in jobs_for(tmp_path, "shared,single"))


def test_a_full_disk_keeps_the_last_partial_save(tmp_path, monkeypatch):
    (job,) = jobs_for(tmp_path)
    asked = iter([False, False, False, True])
    with pytest.raises(Interrupted):
        attempt(job, Watcher(), lambda: next(asked))
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        with pytest.raises(DiskFull):
            attempt(job, Watcher(), lambda: False)
    (again,) = jobs_for(tmp_path)
    assert (again.state, again.steps_done) == ("interrupted", 4)
    assert not list(partial_folder(job.folder).glob("*.new"))


def test_the_error_of_safetensors_counts_as_a_full_disk_where_there_is_no_space(tmp_path, monkeypatch):
    def refuse(*rest: object) -> None:
        raise SafetensorError("I/O error")

    monkeypatch.setattr("safetensors.torch.save_file", refuse)
    record = made_up("m")
    with pytest.raises(SafetensorError):
        write_record(tmp_path / "a", record, weights={"w": torch.ones(2)})
    monkeypatch.setattr("mtlbench.runs.disk._try_to_write", full)
    with pytest.raises(DiskFull):
        write_record(tmp_path / "a", record, weights={"w": torch.ones(2)})


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_threads_that_it_began_with(tmp_path):
    (job,) = jobs_for(tmp_path)
    with pytest.raises(Interrupted):
        execute(job, protocol(), make_dataset(), "fp32", Watcher(), lambda: True)
    facts = partial_folder(job.folder) / "state.json"
    content = json.loads(facts.read_text())
    assert content["threads"] == 1
    facts.write_text(json.dumps(content | {"threads": 2}))
    (again,) = jobs_for(tmp_path)
    assert (again.state, again.threads) == ("interrupted", 2)
    # without its costs: two threads on a busy machine wait for each other
    assert attempt(again, Watcher(), lambda: False, costs=False).receipt["device"].endswith("2 threads")
    assert torch.get_num_threads() == 1


def test_costs_that_were_not_measured_beside_other_runs_are_added_later(tmp_path):
    (job,) = jobs_for(tmp_path)
    record = attempt(job, Watcher(), lambda: False, costs=False)
    assert (record.costs, record.receipt["costs_due"]) == ({}, True)
    (due,) = jobs_for(tmp_path)
    assert (due.state, due.costs_due) == ("done", True)
    Here().run([due], Watcher(), lambda: False)
    (done,) = jobs_for(tmp_path)
    assert (done.state, done.costs_due) == ("done", False)
    whole = read_record(job.folder)
    assert whole is not None
    assert whole.costs["train_rate"] > 0
    assert whole.metrics == record.metrics
    assert (job.folder / "weights.safetensors").exists()
