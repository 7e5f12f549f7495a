"""The driver's loop: hand out work, read messages, settle results.

Work that dies with its node is handed out again and continues from the last kept state.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mtlbench.errors import UserError
from mtlbench.jobs.nodes import Died, Left, Nodes
from mtlbench.training.state import Interrupted

T = TypeVar("T")
TRIES = 3  # how often an order is started or continued if it keeps dying with its node
_LOOK = 0.2  # seconds between checks for messages from orders


@dataclass
class Task(Generic[T]):
    """One piece of work under way on a node.

    Attributes:
        what: the work; lock: held while it is under way.
        tries: how often it has been handed out.
    """

    what: T
    lock: ExitStack
    tries: int = 0


class Driver(ABC, Generic[T]):
    """Runs orders on nodes until all work is done.

    Args:
        nodes: carry out the orders; stop: returns whether the user wants to stop.

    Attributes:
        under_way: the tasks under way, by the number of their order.
        reason: why nothing more can be done; setting it stops everything.
        grace: seconds that orders have to send their state after they are asked to stop.
    """

    grace = 60.0

    def __init__(self, nodes: Nodes, stop: Callable[[], bool]) -> None:
        self.nodes, self.stop = nodes, stop
        self.under_way: dict[int, Task[T]] = {}
        self.reason = ""
        self._stopping = False

    @abstractmethod
    def left(self) -> bool:
        """Return whether any work still waits to be handed out."""

    @abstractmethod
    def start(self) -> None:
        """Hand out as much work as there is room for."""

    @abstractmethod
    def heard(self, what: T, event: str, facts: dict[str, Any]) -> None:
        """Handle a message from an order."""

    @abstractmethod
    def settle(self, task: Task[T], left: Left) -> bool:
        """Handle the result of an order that ended on its own; return whether its task continues and keeps its lock."""

    @abstractmethod
    def keep(self, what: T, left: Left) -> None:
        """Keep the files from an order's result that are needed to continue."""

    @abstractmethod
    def again(self, task: Task[T], died: bool) -> bool:
        """Prepare a task to be handed out again, after its order died or its node needed the place.

        Return whether it has been handed out already and keeps its lock.
        """

    @abstractmethod
    def died(self, task: Task[T], reason: str) -> None:
        """Handle a task that died on every try."""

    def drive(self) -> None:
        """Work until nothing is left to do.

        Raises:
            Interrupted: `stop` returned true; UserError: the work can't continue. The orders' state is kept.
        """
        until = float("inf")
        try:
            while self.under_way or self.left():
                if self.stop() or self.reason:
                    if not self._stopping:
                        self._stopping, until = True, time.monotonic() + self.grace
                        self.nodes.stop()
                    if not self.under_way or time.monotonic() > until:
                        break
                else:
                    self.start()
                ended = self.nodes.ended(_LOOK)
                self._hear()
                for number in ended:
                    self._ended(number, self.under_way.pop(number))
        finally:
            self._end()
        if self.reason:
            raise UserError(self.reason)
        if self.stop():
            raise Interrupted

    def _hear(self) -> None:
        for number, event, facts in self.nodes.hear():
            if number in self.under_way:
                self.heard(self.under_way[number].what, event, facts)

    def _ended(self, number: int, task: Task[T]) -> None:
        with ExitStack() as closing:
            closing.push(task.lock)
            if self._goes_on(number, task):
                closing.pop_all()

    def _goes_on(self, number: int, task: Task[T]) -> bool:
        try:
            left = self.nodes.result(number)
        except Died as death:
            if self._stopping:
                return False
            if task.tries < TRIES:
                return self.again(task, died=True)
            self.died(task, f"its task died {task.tries} times: {death}")
            return False
        self.keep(task.what, left)
        if left["how"] == "full":
            self.reason = self.reason or left["reason"]
            return False
        if left["how"] == "interrupted":
            task.tries -= 1  # it ended because its time was up or another job needed its place
            return not self._stopping and self.again(task, died=False)
        return self.settle(task, left)

    def _end(self) -> None:
        """Cancel everything still under way, after an exception such as a second Ctrl-C."""
        for number, task in self.under_way.items():
            with contextlib.suppress(Exception):  # the cluster may be gone
                self.nodes.cancel(number)
            task.lock.close()
        self.under_way.clear()
