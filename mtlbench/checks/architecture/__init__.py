"""The items that are checked for an architecture, on tiny networks and made-up images.

Each item states a part of the contract in `mtlbench.architecture`, or something that the engine relies on. There is
one file per theme. Each file imports the one whose items come before its own, which fixes the order: when an early
item fails, later ones mean nothing, and they say so.
"""

from mtlbench.checks.architecture.devices import unregistered
from mtlbench.checks.architecture.speed import ITEMS
from mtlbench.checks.architecture.subject import BATCH, EMBEDDING, SIDE, Subject, noise

__all__ = ["BATCH", "EMBEDDING", "ITEMS", "SIDE", "Subject", "noise", "unregistered"]
