"""The short version of `make torture`: a few kills, races, full disks and damaged inputs of every kind."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

DRIVERS = {"runs": 2, "packs": 1, "races": 1, "disks": 1, "inputs": 20}


@pytest.mark.skipif(not Path("/proc/self/stat").exists() or not hasattr(os, "fork"), reason="it forks, and reads /proc")
def test_a_few_of_each_kind() -> None:
    """In a process of its own: it forks, which other tests' threads would not survive."""
    words = [word for name, number in DRIVERS.items() for word in (f"--{name}", str(number))]
    seed = ["--seed", str(random.Random("torture").randrange(1000))]
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, str(tests / "support_torture.py"), *words, *seed], capture_output=True, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
    assert len(ended.stdout.splitlines()) == len(DRIVERS), ended.stdout
