"""Orders that tests hand to other processes, which import this file alone."""

from __future__ import annotations

import os

from mtlbench.jobs.nodes import Errand, Left


def means(errand: Errand) -> Left:
    """Return what a node sees of an order."""
    errand.line.tell("seen", files={"a.bin": b"\0\1"})
    return {"how": "done", "mean": float(errand.dataset.images.float().mean()), "fact": errand.facts["fact"]}


def waits(errand: Errand) -> Left:
    """Wait for the word to stop."""
    errand.line.tell("started", pid=os.getpid())
    while not errand.line.stopping():
        pass
    return {"how": "interrupted"}
