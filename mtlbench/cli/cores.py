"""How threads wait for each other while other work uses the same cores."""

from __future__ import annotations

import os
import sys

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user has set how they wait.

    They spin by default. Where other processes use the same cores, a spinning thread takes the time in which the
    thread that it waits for could run. This affects only later imports: torch's runtime reads it once.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
