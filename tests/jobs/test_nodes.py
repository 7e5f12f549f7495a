"""What an order leaves on its node."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import make_dataset
from support_remote import Pretended, _Line

from mtlbench.jobs.job import Site
from mtlbench.jobs.memory import unguarded_again
from mtlbench.jobs.nodes import Errand, Left, Order, carry_out
from mtlbench.jobs.parcel import without_images
from mtlbench.runs.lock import writer


def look(errand: Errand) -> Left:
    return {"how": "done", "folder": str(errand.folder), "there": errand.folder.is_dir()}


def test_an_order_clears_away_what_dead_processes_left_on_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    host = writer().rpartition("-")[0]
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, living = (tmp_path / f"mtlbench-node-{host}-{owner}-abc" for owner in (gone.stdout.strip(), "1"))
    elsewhere = tmp_path / "mtlbench-node-another-machine-1-abc"
    for folder in (dead, living, elsewhere):
        (folder / "work").mkdir(parents=True)
    with unguarded_again():
        left = carry_out(Order(1, look, {}, Site(), [], 1), *without_images(make_dataset()), _Line(Pretended(), 1))
    assert left["there"]
    assert writer() in left["folder"]
    assert sorted(tmp_path.iterdir()) == sorted([living, elsewhere])
