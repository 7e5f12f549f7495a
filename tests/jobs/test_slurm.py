"""The executor slurm: what it asks of Slurm, by stand-ins for its commands; runs through submitit's local executor."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import make_dataset
from support_orders import means, waits
from support_remote import Seen, Shown, assert_same_bits, done_here, experiment, slow_plugin

from mtlbench.errors import UserError
from mtlbench.jobs.driver import TRIES
from mtlbench.jobs.executors import slurm
from mtlbench.jobs.executors.slurm import Slurm
from mtlbench.jobs.experiment import View, executor_of, plan_experiment, resources_of, train
from mtlbench.jobs.job import Site
from mtlbench.jobs.nodes import Died
from mtlbench.plugins import load_plugins
from mtlbench.runs import partial_folder, read_record
from mtlbench.training.state import Interrupted

load_plugins()
LOCAL = "slurm[cluster=local,time=60]"


@pytest.fixture
def cluster_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put Slurm's commands on the path, which note what they are asked; return what sets the state of jobs."""
    (tmp_path / "bin").mkdir()
    asked = tmp_path / "asked"
    scripts = {
        "srun": "exit 0",
        "sbatch": f'cat "$1" >> {asked}; echo "Submitted batch job 7"',
        "scancel": f'echo "scancel $@" >> {asked}',
        "sacct": f"cat {tmp_path}/states",
    }
    for name, script in scripts.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "_LATE", 0.0)
    monkeypatch.setattr(slurm, "_ASK", 0.0)

    def now(state: str) -> None:
        (tmp_path / "states").write_text(f"JobID|State|NodeList\n7|{state}|n1\n")

    now("PENDING")
    return now


def test_what_is_asked_of_slurm(tmp_path, cluster_commands):
    executor = executor_of(3, "slurm[partition=gpu,account=lab,time=90,memory=12,cpus=2,gpus=2,constraint=a100]")
    assert isinstance(executor, Slurm)
    assert executor.threads(64) == 2
    with executor.nodes(tmp_path / "results") as nodes:
        assert nodes.room() == 3
        nodes.send(means, {}, make_dataset(), Site(device="cuda"))
        asked = (tmp_path / "asked").read_text()
        wanted = (
            "partition=gpu", "account=lab", "time=90", "mem=12GB", "cpus-per-task=2", "gpus-per-node=2",
            "constraint=a100", "no-requeue", "signal=USR2@120", "job-name=mtlbench",
        )  # fmt: skip
        assert [f"--{option}" for option in wanted if f"#SBATCH --{option}\n" not in asked] == []
        assert "exclusive" not in asked
        nodes.send(means, {}, make_dataset(), Site(), alone=True)
        assert "#SBATCH --exclusive\n" in (tmp_path / "asked").read_text()
        assert "gpus" not in (tmp_path / "asked").read_text().partition("#SBATCH --exclusive")[2]
    assert not list((tmp_path / "results").iterdir())


def test_a_job_that_slurm_lost_has_died_and_one_that_waits_is_taken_back(tmp_path, cluster_commands):
    with Slurm().nodes(tmp_path) as nodes:
        number = nodes.send(means, {}, make_dataset(), Site())
        assert nodes.ended(0) == []
        cluster_commands("NODE_FAIL")
        assert nodes.ended(0) == [number]
        with pytest.raises(Died, match=r"Slurm's job 7 left no result \(NODE_FAIL\) and no log in .*--results"):
            nodes.result(number)
        cluster_commands("PENDING")
        waiting = nodes.send(means, {}, make_dataset(), Site())
        nodes.stop()
        assert (tmp_path / "asked").read_text().endswith("scancel 7\n")
        assert nodes.ended(0) == [waiting]
        with pytest.raises(Died, match="taken back"):
            nodes.result(waiting)


def test_no_slurm_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with Slurm().nodes(tmp_path) as nodes, pytest.raises(UserError, match=r'Slurm takes no jobs here: .*"srun"'):
        nodes.send(means, {}, make_dataset(), Site())


def test_options_are_checked():
    for wrong in ("slurm[time=1]", "slurm[jobs=0]", "slurm[partition=gpu,partion=x]", "slurm[cluster=pbs]"):
        with pytest.raises(UserError):
            executor_of(None, wrong)


@pytest.mark.slow
def test_orders_go_out_and_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    data = make_dataset()
    with Slurm(cluster="local").nodes(tmp_path) as nodes:
        number, said = nodes.send(means, {"fact": 3}, data, Site()), []
        while not (ended := nodes.ended(0.1)):
            said += nodes.hear()
        said += nodes.hear()
        left = nodes.result(number)
        assert ended == [number]
        assert (left["how"], left["fact"]) == ("done", 3)
        assert left["mean"] == pytest.approx(float(data.images.float().mean()))
        assert [word[1:] for word in said] == [("begun", {}), ("seen", {"files": {"a.bin": b"\0\1"}})]
        # Slurm's warning before the end of a job's time
        number = nodes.send(waits, {}, data, Site())
        while not (begun := [facts for _, event, facts in nodes.hear() if event == "started"]):
            assert nodes.ended(0.1) == []
        os.kill(begun[0]["pid"], signal.SIGUSR2)
        while not nodes.ended(0.1):
            pass
        assert nodes.result(number)["how"] == "interrupted"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it finds jobs under /proc")
def test_killed_and_stopped_jobs_leave_the_same_bits(zappos_folder, tmp_path, monkeypatch):
    plugin = slow_plugin(tmp_path / "own")
    monkeypatch.setattr("helper.PAUSE", 0.0, raising=False)
    done_here(tmp_path / "here", zappos_folder, plugin)
    there, seen = experiment(tmp_path / "there", LOCAL, zappos_folder, plugin), Seen()
    folders = {name: tmp_path / "there" / "zappos-quick" / name / "seed-0" for name in ("single", "slow-shared")}
    with resources_of(there):
        assert torch.get_num_threads() == 1
        parts = plan_experiment(there, View())
        stopped: list[bool] = []
        seen.at_checkpoint = lambda: stopped.append(True)
        with pytest.raises(Interrupted):
            train(there, parts, Shown(seen), lambda: bool(stopped))
        kept = [partial_folder(folder) / "state.json" for folder in folders.values()]
        assert any(path.exists() for path in kept), seen.words
        again = plan_experiment(there, View())
        assert "interrupted" in {job.state for part in again for job in part.jobs}
        killed: list[int] = []

        def kill() -> None:
            if not killed:
                killed.append(_jobs_of_this_process()[0])
                os.kill(killed[0], signal.SIGKILL)

        seen.at_checkpoint = kill
        assert not train(there, again, Shown(seen), lambda: False), seen.words
    assert killed
    assert any("its task died with its node or process; continues elsewhere" in words for words in seen.words)
    for folder in folders.values():
        assert_same_bits(tmp_path / "here" / folder.relative_to(tmp_path / "there"), folder)
        record = read_record(folder)
        assert record is not None
        assert record.costs
    assert not list((tmp_path / "there").glob(".mtlbench-slurm-*"))
    noted = [json.loads(line) for line in (tmp_path / "there" / "tried.jsonl").read_text().splitlines()]
    assert {one["setup"]["method"]["name"] for one in noted} == {"single", "slow-shared"}


def _jobs_of_this_process() -> list[int]:
    """Return the processes of submitit's jobs, which are children of its controllers, which are ours."""
    parents = {int(p.name): _parent(p) for p in Path("/proc").iterdir() if p.name.isdigit()}
    grandchildren = [p for p, parent in parents.items() if parents.get(parent) == os.getpid()]
    return [p for p in grandchildren if b"submitit.core._submit" in Path(f"/proc/{p}/cmdline").read_bytes()]


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.slow
def test_a_job_that_dies_again_and_again_has_failed(zappos_folder, tmp_path):
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os\nfrom mtlbench import register_architecture\nfrom mtlbench.methods.shared import Shared\n\n\n"
        "@register_architecture('deadly', groups=())\nclass Deadly(Shared):\n"
        "    '''Ends its process as it trains.'''\n\n"
        "    def embed(self, images):\n        if self.training and os.environ.get('SUBMITIT_FOLDER'):\n"
        "            os._exit(9)\n        return super().embed(images)\n"
    )
    load_plugins([plugin])
    there, seen = experiment(tmp_path / "r", LOCAL, zappos_folder, plugin, "deadly"), Seen()
    with resources_of(there):
        assert train(there, plan_experiment(there, View()), Shown(seen), lambda: False)
    record = read_record(tmp_path / "r" / "zappos-quick" / "deadly" / "seed-0")
    assert record is not None
    assert record.status == "failed"
    assert f"its task died {TRIES} times: Slurm's job" in record.reason
    assert sum("continues elsewhere" in words for words in seen.words) == TRIES - 1
