"""Cores that are shared with other work."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch  # noqa: F401

from mtlbench.cli.cores import wait_asleep

PRINTED = """
import os, sys
import mtlbench.cli
sys.argv = ["mtlbench", "--version"]
try:
    mtlbench.cli.main()
except SystemExit:
    print(*(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")))
"""


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, "PASSIVE None None"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None None"),
        ({"GOMP_SPINCOUNT": "5000"}, "None 5000 None"),
        ({"KMP_BLOCKTIME": "1"}, "None None 1"),
    ],
)
def test_threads_wait_asleep_unless_the_user_says_how(own, said):
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    done = subprocess.run([sys.executable, "-c", PRINTED], env=clean | own, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == said


def test_nothing_is_set_once_torch_is_there(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    wait_asleep()
    assert "OMP_WAIT_POLICY" not in os.environ
