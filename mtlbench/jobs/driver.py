"""The driver's loop: hand out, hear, settle. What dies with its node is handed out again, from where it was kept."""

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
TRIES = 3  # how often what died with its node is begun or taken up
_LOOK = 0.2  # seconds between looks at what orders say


@dataclass
class Task(Generic[T]):
    """Something under way on a node.

    Attributes:
        what: is done; lock: held while it is.
        tries: how often it has been handed out.
    """

    what: T
    lock: ExitStack
    tries: int = 0


class Driver(ABC, Generic[T]):
    """Drives orders to their end.

    Args:
        nodes: do them; stop: asked whether the user wants to stop.

    Attributes:
        under_way: by the number of the order.
        reason: why nothing more can be done; set, it stops everything.
        grace: seconds in which orders may send what they have, once asked to stop.
    """

    grace = 60.0

    def __init__(self, nodes: Nodes, stop: Callable[[], bool]) -> None:
        self.nodes, self.stop = nodes, stop
        self.under_way: dict[int, Task[T]] = {}
        self.reason = ""
        self._stopping = False

    @abstractmethod
    def left(self) -> bool:
        """Return whether something is to be handed out yet, beside what is under way."""

    @abstractmethod
    def start(self) -> None:
        """Hand out what there is room for."""

    @abstractmethod
    def heard(self, what: T, event: str, facts: dict[str, Any]) -> None:
        """Take what an order says."""

    @abstractmethod
    def settle(self, task: Task[T], left: Left) -> bool:
        """Take what an order left that was not interrupted; tell whether the task goes on, its lock held."""

    @abstractmethod
    def keep(self, what: T, left: Left) -> None:
        """Keep what continuing needs, where an order left it."""

    @abstractmethod
    def again(self, task: Task[T], died: bool) -> bool:
        """See to it that a task is handed out again, as its order died or its node took its place back.

        Tell whether it has been already, its lock held.
        """

    @abstractmethod
    def died(self, task: Task[T], reason: str) -> None:
        """Take that all tries at something died."""

    def drive(self) -> None:
        """Work until nothing is left.

        Raises:
            Interrupted: `stop` said so; UserError: nothing can go on. What orders had is kept.
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
            task.tries -= 1  # by the end of its time, or another's wish for its place
            return not self._stopping and self.again(task, died=False)
        return self.settle(task, left)

    def _end(self) -> None:
        """End what is still under way, after an exception such as a second Ctrl-C."""
        for number, task in self.under_way.items():
            with contextlib.suppress(Exception):  # the cluster may have gone
                self.nodes.cancel(number)
            task.lock.close()
        self.under_way.clear()
