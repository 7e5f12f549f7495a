"""Trials on other machines: the same trials as here, whatever dies; the journal stays with the driver."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import protocol, run_command
from support_remote import OnPretended, Pretended
from tuning_support import begin, command, trials_in, tuned, tuning_of

from mtlbench.errors import UserError
from mtlbench.jobs.driver import TRIES
from mtlbench.jobs.executors.ray import Ray
from mtlbench.plugins import load_plugins
from mtlbench.runs.disk import DiskFull
from mtlbench.training.events import CheckpointSaved, Event
from mtlbench.training.state import Interrupted
from mtlbench.tuning.afar import do_trials
from mtlbench.tuning.study import Trial
from mtlbench.tuning.tune import Told, Tuning, open_studies

load_plugins()


def asked(folder: Path, **more: Any) -> Tuning:
    """Ask for four trials of each of two methods, by halving, judged by two seeds."""
    benchmark = protocol("train.steps=8", "evaluation.every=2")
    tuning = tuning_of(folder, trials=4, seeds=(0, 1), benchmark=benchmark)
    return replace(tuning, halving=True, **more)


def outcomes(trials: dict[str, list[Trial]]) -> dict[str, list[Any]]:
    return {name: [(t.number, t.state, t.values, t.score, t.steps) for t in of] for name, of in trials.items()}


def done_on(tuning: Tuning, told: Told | None = None) -> dict[str, list[Trial]]:
    studies = open_studies(tuning, overwrite=False)
    do_trials(tuning, studies, told or Told(), lambda: False)
    return {name: studies.trials(name) for name in tuning.names}


@contextmanager
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("halving", [True, False])
def test_nodes_that_die_leave_the_same_trials(tmp_path, halving):
    with one_thread():
        whole = tuned(replace(asked(tmp_path / "here"), halving=halving))
    nodes = Pretended(deaths=(1, 5, 6, 20))
    there = done_on(replace(asked(tmp_path / "there", executor=OnPretended(nodes)), halving=halving))
    assert outcomes(there) == outcomes(whole)
    assert nodes.kept > 20
    assert nodes.most == 3
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
def test_stopped_they_go_on_here(tmp_path):
    with one_thread():
        whole = tuned(asked(tmp_path / "here"))
        stop: list[bool] = []

        class Stops(Told):
            def happened(self, method: str, number: int, event: Event) -> None:
                if number == 1 and isinstance(event, CheckpointSaved):
                    stop.append(True)

        tuning = asked(tmp_path / "there", executor=OnPretended(Pretended()))
        with pytest.raises(Interrupted):
            do_trials(tuning, open_studies(tuning, overwrite=False), Stops(), lambda: bool(stop))
        assert "begun" in {trial.state for trial in trials_in(tmp_path / "there", "shared")}
        assert outcomes(tuned(asked(tmp_path / "there"))) == outcomes(whole)


def test_a_trial_whose_nodes_always_die_has_failed_and_the_others_go_on(tmp_path):
    tuning = tuning_of(tmp_path, "shared,modulation", trials=1, benchmark=protocol("evaluation.every=2"))
    nodes = Pretended(deaths=range(1, TRIES + 1))
    nodes.room = lambda alone=False: 1  # type: ignore[method-assign]
    found = done_on(replace(tuning, executor=OnPretended(nodes)))
    assert [(t.state, t.reason) for t in found["shared"]] == [("failed", f"its task died {TRIES} times: killed")]
    assert [t.state for t in found["modulation"]] == ["done"]


def test_a_recipe_that_breaks_on_a_node_says_why(tmp_path):
    tuning = tuning_of(tmp_path, "shared", trials=2, benchmark=protocol("train.steps=4"))
    space = tuning.spaces["shared"]
    broken = replace(space, where={**space.where, "train.lr": (-1.0,)})
    found = done_on(replace(tuning, spaces={"shared": broken}, executor=OnPretended(Pretended())))["shared"]
    assert [trial.state for trial in found] == ["done", "failed"]
    assert "train.lr" in found[1].reason


@pytest.mark.parametrize("full", [OSError(errno.EFBIG, "File too large", "big.bin"), DiskFull("Raise the limit.")])
def test_a_full_disk_of_a_node_is_told_in_its_own_words(tmp_path, monkeypatch, full):
    def limited(*rest: object) -> None:
        raise full

    monkeypatch.setattr("mtlbench.tuning.afar.train_seed", limited)
    with pytest.raises(UserError, match="Raise the limit"):
        done_on(replace(tuning_of(tmp_path, "shared", trials=1), executor=OnPretended(Pretended())))


def test_an_executor_of_runs_alone_is_refused(tmp_path):
    plugin = tmp_path / "backwards.py"
    plugin.write_text(
        "from mtlbench import Executor, register_executor\n\n\n@register_executor('backwards')\n"
        "class Backwards(Executor):\n    '''Last first.'''\n\n    def run(self, jobs, watcher, stop):\n        pass\n"
    )
    words = ["tune", "--dataset", "shoes", "--quick", "--on", "backwards", "--plugins", str(plugin)]
    error = run_command(*words, "--results", str(tmp_path)).error
    assert "--on backwards: this executor can't train trials; tune takes here, processes, ray and slurm." in error
    assert "does not divide its jobs" in run_command(*words[:4], "--on", "here", "--jobs", "2").error


@pytest.mark.slow
def test_a_cluster_whose_node_dies_leaves_the_same_trials(cluster, tmp_path):
    with one_thread():
        whole = tuned(asked(tmp_path / "here"))
    killed: list[tuple[str, int]] = []

    class Kills(Told):
        def happened(self, method: str, number: int, event: Event) -> None:
            if not killed and isinstance(event, CheckpointSaved):
                killed.append((method, number))
                cluster.remove_node(cluster.other, allow_graceful=False)

    there = done_on(asked(tmp_path / "there", executor=Ray()), Kills())
    assert killed
    assert outcomes(there) == outcomes(whole)


@pytest.mark.slow
def test_slurm_tunes_as_one_process_does(tmp_path):
    folders = []
    for where, on in (("here", "here"), ("there", "slurm[cluster=local,jobs=2]")):
        process = begin(command(tmp_path / where, "--on", on))
        said, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, said
        folders.append(tmp_path / where / "shoes-quick" / "tuning")
    one, two = ({name: trials_in(folder, name) for name in ("single", "shared")} for folder in folders)
    assert outcomes(one) == outcomes(two)
    assert not list((tmp_path / "there").glob(".mtlbench-slurm-*"))
