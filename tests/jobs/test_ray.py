"""The executor ray, on a real cluster of two nodes on 127.0.0.1: no disk is shared, stopping and death lose minutes."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from support import make_dataset
from support_remote import Seen, Shown, assert_same_bits, done_here, experiment, slow_plugin

from mtlbench.errors import UserError
from mtlbench.jobs.experiment import View, executor_of, plan_experiment, resources_of, train
from mtlbench.jobs.parcel import (
    packed,
    packed_plugins,
    unpack,
    unpacked_plugins,
    with_images,
    without_images,
)
from mtlbench.plugins import load_plugins
from mtlbench.runs import partial_folder, read_record
from mtlbench.training.state import Interrupted

load_plugins()


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
    (tmp_path / "own" / "helper.py").write_text("import mylib.layers")
    (tmp_path / "own" / "mylib").mkdir()
    (tmp_path / "own" / "mylib" / "layers.py").write_text("WIDE = 3")
    (tmp_path / "own" / "images.jpg").write_text("no source")
    given = [tmp_path / "own" / "plugin.py"]
    (plugin,) = unpacked_plugins(packed_plugins(given), tmp_path / "scratch")
    assert plugin.read_text() == "import helper"
    assert plugin.with_name("helper.py").exists()
    assert plugin.with_name("mylib").joinpath("layers.py").read_text() == "WIDE = 3"
    assert not plugin.with_name("images.jpg").exists()
    unpack({"../../a": b"", "/b/c": b""}, tmp_path / "there" / "run")
    assert sorted(str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("?")) == [
        "run/a", "run/b", "run/b/c",
    ]  # fmt: skip


def test_jobs_are_counted_once(tmp_path):
    assert executor_of(3, "processes").jobs == 3  # type: ignore[attr-defined]
    assert executor_of(3, "processes[jobs=3]").jobs == 3  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="give the number once"):
        executor_of(3, "processes[jobs=2]")
    with pytest.raises(UserError, match="does not divide its jobs"):
        executor_of(2, "here")


@pytest.mark.slow
def test_a_cluster_without_a_shared_disk_leaves_the_same_bits(cluster, zappos_folder, tmp_path, monkeypatch):
    plugin = slow_plugin(tmp_path / "own")
    monkeypatch.setattr("helper.PAUSE", 0.0, raising=False)
    done_here(tmp_path / "here", zappos_folder, plugin)
    there, seen = experiment(tmp_path / "there", "ray", zappos_folder, plugin), Seen()
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
        assert_same_bits(tmp_path / "here" / folder.relative_to(tmp_path / "there"), folder)
        record = read_record(folder)
        assert record is not None
        assert record.costs or record.receipt["costs_due"], name
    assert any(record.costs for record in map(read_record, folders.values()) if record)
    noted = [json.loads(line) for line in (tmp_path / "there" / "tried.jsonl").read_text().splitlines()]
    assert {one["setup"]["method"]["name"] for one in noted} == {"single", "slow-shared"}
