"""How threads wait for each other where other work wants the same cores."""

from __future__ import annotations

import os
import sys

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user has said how they are to wait.

    They spin by default. Where other processes want the same cores, a thread then spins away the time in which the one
    that it waits for could run. It acts on what is imported later: torch's runtime reads it once.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
