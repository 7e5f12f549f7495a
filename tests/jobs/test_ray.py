"""The executor ray, on a real cluster of two nodes on 127.0.0.1: no disk is shared, stopping and death lose minutes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import make_dataset, run_command

from mtlbench.errors import UserError
from mtlbench.jobs.experiment import (
    Experiment,
    View,
    executor_of,
    plan_experiment,
    read_experiment,
    resources_of,
    train,
)
from mtlbench.jobs.job import Job, Site, Watcher
from mtlbench.jobs.parcel import (
    packed,
    packed_plugins,
    unpack,
    unpacked_plugins,
    with_images,
    without_images,
)
from mtlbench.plugins import load_plugins
from mtlbench.runs import Record, partial_folder, read_record
from mtlbench.training.events import CheckpointSaved, Event
from mtlbench.training.state import Interrupted

load_plugins()
SHORT = [
    "train.steps=8", "train.triplets=2", "train.joint_triplets=8", "evaluation.every=2", "evaluation.triplets=50",
    "model.embedding=8", "data.image_size=24", "train.precision=fp32",
]  # fmt: skip
SLOW = '''
import time

from helper import PAUSE
from mtlbench import register_architecture
from mtlbench.methods.shared import Shared


@register_architecture("slow-shared", groups=())
class SlowShared(Shared):
    """As shared, with a pause at every step."""

    def embed(self, images):
        if self.training:
            time.sleep(PAUSE)
        return super().embed(images)
'''


def test_a_data_set_survives_the_way(tmp_path):
    data = make_dataset()
    rest, images = without_images(data)
    images.setflags(write=False)  # as what comes from Ray's object store
    back = with_images(rest, images, torch.device("cpu"))
    assert torch.equal(back.images, data.images)
    assert back.images.data_ptr() == images.ctypes.data  # not copied
    for name in ("labels", "split"):
        assert torch.equal(getattr(back, name), getattr(data, name))
    assert (back.tasks, back.values, back.facts) == (data.tasks, data.values, data.facts)
    assert np.shares_memory(back.images.numpy(), images)


def test_files_and_plugins_survive_the_way(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.bin").write_bytes(b"\0\1")
    unpack(packed(tmp_path / "run"), tmp_path / "there" / "run")
    assert packed(tmp_path / "there" / "run") == {"a.bin": b"\0\1"}
    unpack({"b": b""}, tmp_path / "there" / "run")
    assert [path.name for path in (tmp_path / "there" / "run").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["run"]
    assert packed(tmp_path / "absent") == {}
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "plugin.py").write_text("import helper")
    (tmp_path / "own" / "helper.py").write_text("")
    given = [tmp_path / "own" / "plugin.py"]
    (plugin,) = unpacked_plugins(packed_plugins(given), tmp_path / "scratch")
    assert plugin.read_text() == "import helper"
    assert plugin.with_name("helper.py").exists()


def test_jobs_are_counted_once(tmp_path):
    assert executor_of(3, "processes").jobs == 3  # type: ignore[attr-defined]
    assert executor_of(3, "processes[jobs=3]").jobs == 3  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="give the number once"):
        executor_of(3, "processes[jobs=2]")
    with pytest.raises(UserError, match="does not divide its jobs"):
        executor_of(2, "here")


def test_what_a_missing_package_needs_is_said(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("mtlbench.registry.find_spec", lambda name: None if name == "ray" else found(name))
    error = run_command("run", "--dataset", "shoes", "--quick", "--on", "ray").error
    assert "The executor ray needs ray: pip install ray, or pip install 'mtlbench[ray]'" in error


class Seen(Watcher):
    """Notes what happens, and does something at the first checkpoint."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.at_checkpoint: Any = lambda: None

    def happened(self, job: Job, event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            self.words.append(f"{job.method.name} kept {event.step}")
            self.at_checkpoint()

    def doing(self, job: Job, what: str) -> None:
        self.words.append(f"{job.method.name}: {what}")

    def ended(self, job: Job, record: Record) -> None:
        self.words.append(f"{job.method.name}: {record.status} {record.reason}")


class Shown(View):
    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def watch(self, runs: int) -> Any:
        from contextlib import nullcontext

        return nullcontext(self.seen)


@pytest.fixture
def cluster(monkeypatch) -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.other = made.add_node(num_cpus=1)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_a_cluster_without_a_shared_disk_leaves_the_same_bits(cluster, zappos_folder, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    plugin = tmp_path / "own" / "slow.py"
    plugin.write_text(SLOW)
    (tmp_path / "own" / "helper.py").write_text("PAUSE = 0.4\n")
    load_plugins([plugin])

    def experiment(where: str, on: str, methods: str = "single,slow-shared") -> Experiment:
        return read_experiment(
            View(), dataset="zappos", methods=methods, quick=True, seeds=[0], settings=SHORT, vary=[], tasks=None,
            site=Site(zappos_folder, "cpu", (plugin,)), results=tmp_path / where, on=on,
        )  # fmt: skip

    monkeypatch.setattr("helper.PAUSE", 0.0, raising=False)
    here = experiment("here", "here")
    with resources_of(here):
        torch.set_num_threads(1)
        assert not train(here, plan_experiment(here, View()), View(), lambda: False)

    there, seen = experiment("there", "ray"), Seen()
    folders = {name: tmp_path / "there" / "zappos-quick" / name / "seed-0" for name in ("single", "slow-shared")}
    with resources_of(there):
        parts = plan_experiment(there, View())
        # nothing of this machine's disk is there for a node
        shutil.move(zappos_folder, tmp_path / "gone")
        shutil.move(os.environ["MTLBENCH_CACHE"], tmp_path / "cache-gone")
        stopped: list[bool] = []
        seen.at_checkpoint = lambda: stopped.append(True)
        with pytest.raises(Interrupted):
            train(there, parts, Shown(seen), lambda: bool(stopped))
        kept = [partial_folder(folder) / "state.json" for folder in folders.values()]
        assert any(path.exists() for path in kept), seen.words
        (tmp_path / "gone").rename(zappos_folder)
        again = plan_experiment(there, View())
        assert "interrupted" in {job.state for part in again for job in part.jobs}
        killed: list[bool] = []

        def kill() -> None:
            if not killed and not folders["slow-shared"].exists():
                killed.append(True)
                cluster.remove_node(cluster.other, allow_graceful=False)

        seen.at_checkpoint = kill
        assert not train(there, again, Shown(seen), lambda: False), seen.words
    assert killed
    for name, folder in folders.items():
        one, two = read_record(tmp_path / "here" / folder.relative_to(tmp_path / "there")), read_record(folder)
        assert one is not None
        assert two is not None
        assert two.status == "done", seen.words
        assert one.metrics == two.metrics
        assert one.setup == two.setup
        assert two.costs or two.receipt["costs_due"], name
        first, second = (
            load_file(f / "weights.safetensors")
            for f in (tmp_path / "here" / folder.relative_to(tmp_path / "there"), folder)
        )
        assert all(torch.equal(first[key], second[key]) for key in first)
        assert not partial_folder(folder).exists()
    assert any(record.costs for record in map(read_record, folders.values()) if record)
    noted = [json.loads(line) for line in (tmp_path / "there" / "tried.jsonl").read_text().splitlines()]
    assert {one["setup"]["method"]["name"] for one in noted} == {"single", "slow-shared"}
