"""What is proved of a method before its numbers are believed: the contracts, item by item, with reasons.

`mtlbench check` and the tests run the same items. They use made-up images and tiny networks on the processor; how well
a method learns is no concern of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mtlbench.checks.architecture import ITEMS as ARCHITECTURE_ITEMS
from mtlbench.checks.architecture import Subject
from mtlbench.checks.balancer import ITEMS as BALANCER_ITEMS
from mtlbench.checks.balancer import BalancerSubject
from mtlbench.checks.items import Result, run_items
from mtlbench.specs import PLAIN, Method

__all__ = ["ARCHITECTURE_ITEMS", "BALANCER_ITEMS", "BalancerSubject", "Part", "Result", "Subject", "parts_of"]


@dataclass(frozen=True)
class Part:
    """One half of a method and the items that are checked of it."""

    kind: str  # architecture or balancer
    method: Method

    @property
    def spec(self) -> str:
        """What is checked, so that the same is checked once."""
        return self.method.architecture_spec if self.kind == "architecture" else self.method.name

    @property
    def items(self) -> list[str]:
        """The items' names, in order."""
        return [item.name for item in (ARCHITECTURE_ITEMS if self.kind == "architecture" else BALANCER_ITEMS)]

    def results(self) -> Iterator[Result]:
        """Check one item after the other.

        Raises:
            UserError: the method can't be built with these options.
        """
        if self.kind == "architecture":
            yield from run_items(ARCHITECTURE_ITEMS, Subject(self.method))
        else:
            yield from run_items(BALANCER_ITEMS, BalancerSubject(self.method))


def parts_of(method: Method) -> list[Part]:
    """Return what of a method is to be checked: its architecture, and its balancer unless that is the plain mean."""
    parts = [Part("architecture", method)]
    return parts if method.balancer == PLAIN else [*parts, Part("balancer", method)]
