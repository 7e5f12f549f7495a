"""Executors: several processes leave what one after the other leaves; signals and death lose nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import make_dataset, protocol, run_command
from typer.testing import CliRunner

from mtlbench.cli import app
from mtlbench.errors import UserError
from mtlbench.jobs.executors.contract import Executor
from mtlbench.jobs.executors.processes import Processes
from mtlbench.jobs.job import Job, Site
from mtlbench.jobs.plan import plan
from mtlbench.options import read_spec
from mtlbench.plugins import load_plugins
from mtlbench.registry import EXECUTORS
from mtlbench.runs import Record, find_records, partial_folder, read_record
from mtlbench.specs import parse_methods

load_plugins()
SHORT = (
    "train.steps=4", "train.triplets=2", "train.joint_triplets=8", "evaluation.every=2", "evaluation.triplets=50",
    "model.embedding=8", "data.image_size=24", "train.precision=fp32",
)  # fmt: skip


def command(folder: Path, results: Path, *more: str, settings: tuple[str, ...] = ()) -> list[str]:
    found = [sys.executable, "-m", "mtlbench", "run", "--dataset", "zappos", "--quick", "--data-dir", str(folder)]
    found += ["--results", str(results), *more]
    for setting in (*SHORT, *settings):
        found += ["--set", setting]
    return found


def start(words: list[str]) -> subprocess.Popen[str]:
    surroundings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=surroundings)


def output(process: subprocess.Popen[str]) -> str:
    try:
        said, _ = process.communicate(timeout=1200)
    finally:
        process.kill()
    return said


def read_until(process: subprocess.Popen[str], *wanted: str) -> str:
    assert process.stdout is not None
    seen = ""
    while not all(word in seen for word in wanted):
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(c) for c in children if b"mtlbench.jobs.work" in Path(f"/proc/{c}/cmdline").read_bytes()]


def test_a_job_survives_json(tmp_path):
    site = Site(tmp_path, "cpu", (tmp_path / "plugin.py",), ("colour",))
    (job,) = plan(
        parse_methods("modulation[after=3:4]"), (3,), protocol(), make_dataset(), "fp32", tmp_path, site=site,
        varied={"train.lr": 0.003},
    )  # fmt: skip
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    assert job.folder.parent.name == "modulation[after=3-4]@train.lr=0.003"


def test_executors_are_a_kind():
    entry, options = read_spec(EXECUTORS, "processes[jobs=3]")
    assert entry.target(**options).threads(8) == 2
    assert issubclass(EXECUTORS.get("here").target, Executor)
    with pytest.raises(UserError, match="Did you mean: processes"):
        read_spec(EXECUTORS, "procesess")
    with pytest.raises(UserError, match="can't take jobs=0"):
        read_spec(EXECUTORS, "processes[jobs=0]")


def test_each_process_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    from mtlbench.jobs.worker import environment

    assert [environment(1, "cuda", slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert environment(1, "cuda", 1)["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.slow
def test_processes_leave_the_same_bits_as_one_after_the_other(zappos_folder, tmp_path, monkeypatch):
    more = ("--methods", "single,shared", "--seeds", "0,1")
    alone = CliRunner().invoke(app, command(zappos_folder, tmp_path / "one", *more)[3:], catch_exceptions=False)
    assert alone.exit_code == 0, alone.output
    said = output(start(command(zappos_folder, tmp_path / "two", *more, "--jobs", "2")))
    assert "Records:" in said, said
    one, two = (find_records(tmp_path / where) for where in ("one", "two"))
    assert [(r.method, r.seed) for r in one] == [(r.method, r.seed) for r in two]
    for a, b in zip(one, two, strict=True):
        assert a.metrics == b.metrics
        assert set(a.costs) == set(b.costs)
        assert a.receipt["device"] == b.receipt["device"]
        assert "costs_due" not in b.receipt
    for path in (tmp_path / "one").rglob("*.safetensors"):
        other = load_file(tmp_path / "two" / path.relative_to(tmp_path / "one"))
        for name, tensor in load_file(path).items():  # a query without a relevant image has the score NaN
            assert torch.equal(tensor.nan_to_num(-1), other[name].nan_to_num(-1))


@pytest.mark.slow
def test_two_commands_at_once_do_each_run_once(zappos_folder, tmp_path):
    words = command(zappos_folder, tmp_path / "r", "--methods", "single,shared", settings=("train.steps=40",))
    both = [start(words), start(words)]
    said = [output(process) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert any("works on it" in words for words in said), said
    records = [r for r in find_records(tmp_path / "r") if r.kind == "method"]
    assert sorted((r.method, r.status) for r in records) == [("shared", "done"), ("single", "done")]
    assert all(r.costs for r in records)
    left = {p.name for p in (tmp_path / "r" / "zappos-quick").glob("*/*")}
    assert left <= {"seed-0", ".seed-0.lock"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it finds the workers under /proc")
def test_ctrl_c_keeps_every_run_and_a_killed_worker_is_told_and_goes_on(zappos_folder, tmp_path):
    settings = ("train.steps=2000", "evaluation.every=10")
    words = command(zappos_folder, tmp_path / "r", "--methods", "single,shared", "--jobs", "2", settings=settings)
    folders = [tmp_path / "r" / "zappos-quick" / m / "seed-0" for m in ("single", "shared")]
    process = start(words)
    seen = read_until(process, "single, seed 0: step 10/", "shared, seed 0: step 10/")
    victim, other = workers_of(process)
    orders = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[3].decode() for pid in (victim, other)}
    method = json.loads(Path(orders[victim]).read_text())["job"]["method"]
    os.kill(victim, signal.SIGKILL)
    seen += read_until(process, f"{method}, seed 0: FAILED: the process died (signal 9)")
    os.kill(process.pid, signal.SIGINT)
    seen += output(process)
    assert process.returncode == 130, seen
    assert "The same command continues from here." in seen
    assert all((partial_folder(folder) / "state.json").exists() for folder in folders)
    found = {folder.parent.name: read_record(folder) for folder in folders}
    dead = found.pop(method)
    assert isinstance(dead, Record)
    assert (dead.status, dead.reason) == ("failed", "the process died (signal 9)")
    assert list(found.values()) == [None]
    plan = output(start([*words, "--dry-run"]))
    assert plan.count("continues from step") == 2, plan


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it finds the workers under /proc")
def test_workers_end_with_their_parent(zappos_folder, tmp_path):
    settings = ("train.steps=2000", "evaluation.every=10")
    words = command(zappos_folder, tmp_path / "r", "--methods", "single,shared", "--jobs", "2", settings=settings)
    process = start(words)
    read_until(process, "single, seed 0: step 10/", "shared, seed 0: step 10/")
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    until = time.monotonic() + 120  # a guard against hanging, not a speed
    while any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_threads_are_divided():
    assert [Processes(jobs=n).threads(8) for n in (1, 3, 16)] == [8, 2, 1]
    assert [Processes(jobs=n).at_once() for n in (1, 3, 16)] == [1, 3, 16]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it finds the workers under /proc")
@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGHUP,)], ids=["Ctrl-C twice", "hang-up"])
def test_a_signal_while_four_runs_are_under_way_keeps_every_one(zappos_folder, tmp_path, signals):
    settings = ("train.steps=100000", "evaluation.every=10")
    more = ("--methods", "single", "--seeds", "0-3")
    words = command(zappos_folder, tmp_path / "r", *more, "--jobs", "4", settings=settings)
    process = start(words)
    said = read_until(process, *(f"single, seed {seed}: step 10/" for seed in range(4)))
    workers = workers_of(process)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    said += output(process)
    assert process.returncode == 130, said
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert all(record.kind == "reference" for record in find_records(tmp_path / "r")), said
    kept = [partial_folder(tmp_path / "r" / "zappos-quick" / "single" / f"seed-{seed}") for seed in range(4)]
    steps = [json.loads((place / "state.json").read_text())["state"]["step"] for place in kept if place.exists()]
    assert len(steps) == 4, said
    assert min(steps) >= 10
    again = output(start([*command(zappos_folder, tmp_path / "r", *more, settings=settings), "--dry-run"]))
    assert again.count("continues from step") == 4, again


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_what_a_missing_package_needs_is_said(name, package, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("mtlbench.registry.find_spec", lambda one: None if one == package else found(one))
    error = run_command("run", "--dataset", "shoes", "--quick", "--on", name).error
    assert f"The executor {name} needs {package}: pip install {package}, or pip install 'mtlbench[{name}]'" in error
