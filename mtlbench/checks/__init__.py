"""Checks that a method keeps the contracts, before anybody relies on its numbers: item by item, with reasons.

`mtlbench check` and the tests run the same items. They use made-up images and tiny networks on the CPU. They do not
judge how well a method learns.
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
    """One half of a method, its architecture or its balancer, and the items that are checked for it."""

    kind: str  # architecture or balancer
    method: Method

    @property
    def spec(self) -> str:
        """The name of what is checked; parts with the same name need only one check."""
        return self.method.spec_of(self.kind)

    @property
    def items(self) -> list[str]:
        """The names of the items, in order."""
        return [item.name for item in (ARCHITECTURE_ITEMS if self.kind == "architecture" else BALANCER_ITEMS)]

    def results(self) -> Iterator[Result]:
        """Check the items one by one.

        Raises:
            UserError: the method can't be built with these options.
        """
        if self.kind == "architecture":
            yield from run_items(ARCHITECTURE_ITEMS, Subject(self.method))
        else:
            yield from run_items(BALANCER_ITEMS, BalancerSubject(self.method))


def parts_of(method: Method) -> list[Part]:
    """Return the parts of a method to check: its architecture, and its balancer unless that is the plain mean."""
    parts = [Part("architecture", method)]
    return parts if method.balancer == PLAIN else [*parts, Part("balancer", method)]
