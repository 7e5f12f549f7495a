"""Planning runs: what is skipped, continued, redone, started anew and refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import TASKS, protocol
from support_jobs import do, jobs_for, states
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.jobs.job import Job, Watcher
from mtlbench.runs import Record, find_records, partial_folder, write_record
from mtlbench.training.events import Event
from mtlbench.training.state import Interrupted


def test_done_runs_are_skipped_redone_and_refused_under_other_settings(tmp_path):
    (job,) = jobs_for(tmp_path, "modulation[after=3:4]")
    assert job.state == "new"
    do(job)
    assert states(jobs_for(tmp_path, "modulation[after=3:4]")) == ["done"]
    assert states(jobs_for(tmp_path, "modulation[after=3:4]", overwrite=True)) == ["new"]
    assert states(jobs_for(tmp_path, "modulation[after=3:4],shared", (0, 1))) == ["done", "new", "new", "new"]
    with pytest.raises(UserError, match=r"benchmark.train.steps: 6 there, 9 now.*--results.*--overwrite"):
        jobs_for(tmp_path, "modulation[after=3:4]", benchmark=protocol("train.steps=9"))


def test_an_interrupted_run_is_continued_to_the_same_result(tmp_path):
    (whole,) = jobs_for(tmp_path / "a", "cross-stitch")
    expected = do(whole)
    (job,) = jobs_for(tmp_path / "b", "cross-stitch")
    asked: Iterator[bool] = iter([False, False, False, True, True, True])
    with pytest.raises(Interrupted):
        do(job, stop=lambda: next(asked))
    assert not job.folder.exists()
    assert partial_folder(job.folder).exists()
    assert find_records(tmp_path / "b") == []
    (again,) = jobs_for(tmp_path / "b", "cross-stitch")
    assert again.state == "interrupted"
    assert 0 < again.steps_done < 6
    seen: list[int] = []

    class Seen(Watcher):
        def happened(self, job: Job, event: Event) -> None:
            seen.append(event.step)

    record = do(again, Seen())
    assert seen[0] == again.steps_done
    assert record.metrics == expected.metrics
    one, two = (load_file(j.folder / "weights.safetensors") for j in (whole, again))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not partial_folder(job.folder).exists()


def begun(tmp_path: Path) -> Job:
    (job,) = jobs_for(tmp_path)
    with pytest.raises(Interrupted):
        do(job, stop=lambda: True)
    return job


def kept(job: Job) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in partial_folder(job.folder).iterdir()}


def test_an_interrupted_run_of_other_settings_is_kept_until_it_is_given_up(tmp_path):
    job = begun(tmp_path)
    before = kept(job)
    with pytest.raises(UserError) as refused:
        jobs_for(tmp_path, benchmark=protocol("train.lr=0.1"))
    assert str(refused.value) == (
        f"{job.folder} is an interrupted run that was begun with other settings (benchmark.train.lr: 0.003 there, 0.1"
        " now). Continue it as it was begun, choose another folder with --results, or begin anew with --overwrite, or"
        f" after mtlbench runs rm {job.folder}."
    )
    assert states(jobs_for(tmp_path, benchmark=protocol("train.lr=0.1"), overwrite=True)) == ["new"]
    assert kept(job) == before
    assert states(jobs_for(tmp_path)) == ["interrupted"]


def test_an_interrupted_run_of_another_device_is_kept(tmp_path):
    job = begun(tmp_path)
    facts = partial_folder(job.folder) / "state.json"
    facts.write_text(facts.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    with pytest.raises(UserError, match=r"begun with other settings \(device: cuda there, cpu now\)"):
        jobs_for(tmp_path)
    assert states(jobs_for(tmp_path, overwrite=True)) == ["new"]


def test_an_interrupted_run_of_a_newer_mtlbench_is_kept(tmp_path):
    job = begun(tmp_path)
    facts = partial_folder(job.folder) / "state.json"
    facts.write_text(facts.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(UserError, match="schema: 2 there, 1 now"):
        jobs_for(tmp_path)


def test_an_interrupted_run_of_an_edited_method_is_kept_unless_its_own_error_has_ended_it(tmp_path, monkeypatch):
    job = begun(tmp_path)
    monkeypatch.setattr(
        "mtlbench.runs.provenance.sources_of", lambda method: {"architecture": "edited", "balancer": ""}
    )
    said = r"begun with another version of its source \(code.architecture: \w+ there, edited now"
    with pytest.raises(UserError, match=said):
        jobs_for(tmp_path)
    write_record(job.folder, Record("shared", 0, "method", job.setup, "failed", "its task died 3 times"))
    with pytest.raises(UserError, match=said):
        jobs_for(tmp_path)
    error = {"traceback": "…"}
    write_record(job.folder, Record("shared", 0, "method", job.setup, "failed", "NaN", receipt=error))
    assert states(jobs_for(tmp_path)) == ["failed"]
    later = (job.folder / "run.json").stat().st_mtime + 60  # it was tried again, and interrupted
    os.utime(partial_folder(job.folder) / "state.json", (later, later))
    with pytest.raises(UserError, match=said):
        jobs_for(tmp_path)


def test_memory_that_lacks_for_a_moment_is_no_damage_to_what_was_kept(tmp_path, monkeypatch):
    job = begun(tmp_path)
    before = kept(job)

    def full(*rest: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    (again,) = jobs_for(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("mtlbench.training.loop.Trainer.restore", full)
        assert do(again).status == "failed"
    assert kept(job) == before
    assert states(jobs_for(tmp_path)) == ["interrupted"]


def test_a_checkpoint_for_each_task_is_kept_through_a_kill_and_said_in_the_record(tmp_path, monkeypatch):
    """Planted: shape is at its best before the run is killed, colour after it went on."""
    benchmark = protocol("train.sampling=per-task", "evaluation.select=per-task")
    answers = torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]], dtype=torch.bool)
    given: Iterator[Tensor] = iter([answers[0], answers[1], answers[0], answers[1]])
    judge = HeldOutTriplets.hits
    monkeypatch.setattr(
        HeldOutTriplets,
        "hits",
        lambda self, embeddings, normalise: (
            next(given) if len(self.images) == 18 else judge(self, embeddings, normalise)
        ),
    )
    monkeypatch.setattr("mtlbench.jobs.execute.scores_of", lambda *rest: ({t: {} for t in TASKS}, answers[0], {}))
    (whole,) = jobs_for(tmp_path / "a", "independent", benchmark=benchmark)
    expected = do(whole, benchmark=benchmark)
    (job,) = jobs_for(tmp_path / "b", "independent", benchmark=benchmark)
    asked: Iterator[bool] = iter([False, False, False, True])
    with pytest.raises(Interrupted):
        do(job, benchmark=benchmark, stop=lambda: next(asked))
    (again,) = jobs_for(tmp_path / "b", "independent", benchmark=benchmark)
    assert (again.state, again.steps_done) == ("interrupted", 4)
    record = do(again, benchmark=benchmark)
    for made in (expected, record):
        assert made.receipt["selected_steps"] == {"colour": 6, "shape": 3}
        assert made.receipt["selection"].startswith("each task's highest triplet accuracy")
        assert made.receipt["validation_accuracy"] == 0.75
        assert made.receipt["normalised"] == [12]
    one, two = (load_file(j.folder / "weights.safetensors") for j in (whole, again))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_an_edited_method_is_another_method(tmp_path, monkeypatch):
    (job,) = jobs_for(tmp_path)
    do(job)
    monkeypatch.setattr(
        "mtlbench.runs.provenance.sources_of", lambda method: {"architecture": "edited", "balancer": ""}
    )
    with pytest.raises(UserError, match=r"code.architecture: \w+ there, edited now"):
        jobs_for(tmp_path)


def test_wording_and_spelling_of_settings_decide_nothing(tmp_path):
    (job,) = jobs_for(tmp_path)
    do(job)
    reworded = protocol(
        "title='New words'", "train.precision='auto'", "data.fallback_tasks=['x']", "train.protocols_tried=7"
    )
    assert states(jobs_for(tmp_path, benchmark=reworded)) == ["done"]


def test_a_damaged_interrupted_run_starts_anew(tmp_path):
    job = begun(tmp_path)
    facts = partial_folder(job.folder) / "state.json"
    words = facts.read_text()
    facts.write_text("{")
    assert states(jobs_for(tmp_path)) == ["new"]
    facts.write_text(words)
    (tensors,) = partial_folder(job.folder).glob("*.safetensors")
    tensors.write_bytes(b"nonsense")
    (again,) = jobs_for(tmp_path)
    assert do(again).status == "done"
