"""The executor for Ray clusters.

Ray's object store sends the data to each node once, so no shared disk is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mtlbench.data.dataset import Dataset
from mtlbench.errors import UserError, first_line
from mtlbench.jobs.executors.contract import register_executor
from mtlbench.jobs.nodes import Died, Left, Line, Nodes, Order, Word, carry_out
from mtlbench.jobs.sweep import Remote

_LOOK = 0.2  # seconds between a task's checks whether to stop


@register_executor("ray", needs=("ray",), extra="ray")
class Ray(Remote):
    """On a Ray cluster, or on this machine's cores through Ray.

    Args:
        address: of the cluster, such as `auto` or `10.0.0.1:6379`; by default RAY_ADDRESS, else this machine alone.
        jobs: the most jobs at a time; 0: as many as the cluster has room for.
        cpus: threads of each job, and cores that it takes.
        gpus: GPUs that each job takes if it runs on a GPU; less than 1 shares one.
    """

    def __init__(
        self,
        *,
        address: str = "",
        jobs: Annotated[int, Field(ge=0)] = 0,
        cpus: Annotated[int, Field(ge=1)] = 1,
        gpus: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        self.address, self.jobs, self.cpus, self.gpus = address, jobs, cpus, gpus

    def threads(self, available: int) -> int:
        """Return the threads of each job, on any node."""
        return self.cpus

    def at_once(self) -> int:
        """Return the most jobs that were asked for; 1 where the cluster decides."""
        return max(1, self.jobs)

    @contextmanager
    def nodes(self, results: Path) -> Iterator[Nodes]:
        """Connect to the cluster, or start one on this machine."""
        with _cluster(self.address):
            yield _RayNodes(self)


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine; use an existing connection, and leave it open.

    Raises:
        UserError: there is no cluster at the address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    there = address or os.environ.get("RAY_ADDRESS", "")
    options: dict[str, Any] = {"address": there} if there else {"include_dashboard": False}
    ours = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, configure_logging=False, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f" at {there}" if there else ""
        raise UserError(f"No Ray cluster can be reached{where}: {first_line(error)}") from error
    finally:
        if ours:  # Ray's own handler ends the process at once; ours lets runs save their state
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


class _Desk:
    """An actor on the driver's node: collects messages from tasks, and tells them when to stop."""

    def __init__(self) -> None:
        self.said: list[Word] = []
        self.asked = False

    def tell(self, number: int, event: str, facts: dict[str, Any]) -> None:
        self.said.append((number, event, facts))

    def take(self) -> list[Word]:
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        self.asked = True

    def stopping(self) -> bool:
        return self.asked


class _RayNodes(Nodes):
    """The nodes of a Ray cluster; each order is a Ray task."""

    def __init__(self, executor: Ray) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        super().__init__(executor.cpus)
        self.ray: Any = ray
        self.on, self.executor = On, executor
        here = ray.get_runtime_context().get_node_id()
        self.desk = self.ray.remote(_Desk).options(num_cpus=0, scheduling_strategy=On(here, soft=False)).remote()
        self.results: dict[Any, int] = {}  # numbers of orders, by their pending results
        self.come: dict[int, Any] = {}

    def room(self, alone: bool = False) -> int:
        """Return how many orders the cores allow, plus one that waits.

        Orders that need a node alone wait for it in Ray.
        """
        cores = int(self.ray.cluster_resources().get("CPU", 1))
        return cores if alone else self.executor.jobs or cores // self.cpus + 1

    def places(self, done_on: str | None) -> list[str]:
        """Return the given node if it is still there, or all nodes for None."""
        there = list(self._cores())
        return there if done_on is None else [done_on] * (done_on in there)

    def _cores(self) -> dict[str, float]:
        return {node["NodeID"]: node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"]}

    def put(self, rest: Dataset, images: NDArray[np.uint8]) -> Any:
        """Put the data set into the object store; each node fetches it from there once."""
        return [self.ray.put(rest), self.ray.put(images)]

    def submit(self, order: Order, data: Any) -> None:
        """Submit the order as a Ray task."""
        options: dict[str, Any] = {"num_cpus": order.cpus}
        if order.alone:
            options = {
                "num_cpus": self._cores().get(order.place, order.cpus),
                "scheduling_strategy": self.on(order.place, soft=False),
            }
        if order.on_gpu:
            options["num_gpus"] = self.executor.gpus
        task = self.ray.remote(max_retries=0, max_calls=1)(_do).options(**options)
        self.results[task.remote(order, data, self.desk)] = order.number

    def hear(self) -> list[Word]:
        """Take all messages from the desk."""
        said: list[Word] = self.ray.get(self.desk.take.remote())
        return said

    def ended(self, seconds: float) -> list[int]:
        """Wait with Ray's own `wait`."""
        if not self.results:
            time.sleep(seconds)
            return []
        ready, _ = self.ray.wait(list(self.results), timeout=seconds)
        found = {self.results.pop(result): result for result in ready}
        self.come.update(found)
        return list(found)

    def result(self, number: int) -> Left:
        """Fetch the order's result."""
        try:
            left: Left = self.ray.get(self.come.pop(number))
        except Exception as error:  # the task died, for whatever reason
            words = str(error).strip().splitlines()
            raise Died(f"{type(error).__name__}{f': {words[0]}' if words else ''}") from error
        return left

    def stop(self) -> None:
        """Leave the request to stop at the desk."""
        self.desk.stop.remote()

    def cancel(self, number: int) -> None:
        """End the order's process."""
        for result in [result for result, of in self.results.items() if of == number]:
            del self.results[result]
            self.ray.cancel(result, force=True)


class _Line(Line):
    """A task's connection to the desk."""

    def __init__(self, number: int, desk: Any) -> None:
        import ray

        self.node = ray.get_runtime_context().get_node_id()
        self.ray: Any = ray
        self.number, self.desk = number, desk
        self.answer, self.asked, self.last = desk.stopping.remote(), False, time.monotonic()

    def tell(self, event: str, **facts: Any) -> None:
        """Send the message to the desk."""
        self.desk.tell.remote(self.number, event, facts)

    def stopping(self) -> bool:
        """Return the desk's latest answer without waiting for the next.

        Ray takes a task's cores away while the task waits.
        """
        if not self.asked and time.monotonic() - self.last > _LOOK:
            self.last = time.monotonic()
            with contextlib.suppress(Exception):  # the driver's node is gone, and this task ends soon
                if self.ray.wait([self.answer], timeout=0)[0]:
                    self.asked = bool(self.ray.get(self.answer))
                    self.answer = self.desk.stopping.remote()
        return self.asked


def _do(order: Order, data: Sequence[Any], desk: Any) -> Left:
    """Carry out an order in a Ray task, in its own process on any node."""
    import ray

    rest, images = ray.get(list(data))
    return carry_out(order, rest, images, _Line(order.number, desk))
