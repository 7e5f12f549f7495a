"""The items that are checked of an architecture, on tiny networks and made-up images.

Each is a statement of the contract in `mtlbench.architecture`, or of what the engine does with an architecture. They
are in order, a file a theme, each after the one that it imports: what fails early makes later items meaningless, and
those say so.
"""

from mtlbench.checks.architecture.devices import unregistered
from mtlbench.checks.architecture.speed import ITEMS
from mtlbench.checks.architecture.subject import BATCH, EMBEDDING, SIDE, Subject, noise

__all__ = ["BATCH", "EMBEDDING", "ITEMS", "SIDE", "Subject", "noise", "unregistered"]
