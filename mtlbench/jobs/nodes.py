"""Other machines as the driver sees them: orders go out; messages and results come back.

The driver is the process of the command. It holds the locks of runs and writes all files that stay. Any node can carry
out an order. A node gets the data set, the sources of plug-ins and the kept state, and works in its own folder.
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mtlbench
from mtlbench.data.dataset import Dataset
from mtlbench.errors import UserError
from mtlbench.jobs.job import Site
from mtlbench.jobs.memory import guard_memory
from mtlbench.jobs.parcel import Sources, packed_plugins, unpacked_plugins, with_images, without_images
from mtlbench.jobs.scratch import scratch
from mtlbench.plugins import load_plugins

Left = dict[str, Any]
"""The result of an order. `how` it ended: `done`, `interrupted`, or `full` with the `reason` why any other order
would fail too; the `node` that did it; the other entries depend on the work."""
Word = tuple[int, str, dict[str, Any]]
"""A message from an order: the order's number, the event, and its facts."""


class Died(Exception):
    """An order ended without a result, because its process or node died."""


class Line(ABC):
    """A node's connection to the driver.

    Attributes:
        node: the node's name.
    """

    node: str = ""

    @abstractmethod
    def tell(self, event: str, **facts: Any) -> None:
        """Send a message to the driver: facts as JSON, except `files`, which holds bytes by file name."""

    @abstractmethod
    def stopping(self) -> bool:
        """Return whether to save the state needed to continue and end; called after every step."""


@dataclass(frozen=True)
class Errand:
    """The input of a work function on a node.

    Attributes:
        facts: its arguments; dataset: the data set, on the node's device.
        site: the paths and device on this node; folder: an empty folder for this work alone.
        line: the connection to the driver.
    """

    facts: Mapping[str, Any]
    dataset: Dataset
    site: Site
    folder: Path
    line: Line


Work = Callable[[Errand], Left]


@dataclass(frozen=True)
class Order:
    """A piece of work for a node, as it is sent there.

    Attributes:
        number: the order's number; work: the function that does it, given `facts`.
        site: the driver's site; plugins: the sources of plug-ins.
        cpus: the number of cores that it takes.
        alone: no other order may run on its node meanwhile; place: the node's name, if it matters.
    """

    number: int
    work: Work
    facts: Mapping[str, Any]
    site: Site
    plugins: list[Sources]
    cpus: int
    alone: bool = False
    place: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.site.device.startswith("cuda")


def carry_out(order: Order, rest: Dataset, images: NDArray[np.uint8], line: Line) -> Left:
    """Carry out an order in this process, on any node; `rest` and `images` are the two parts of a data set."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with scratch(Path(tempfile.gettempdir()), "mtlbench-node-") as place:
        plugins = unpacked_plugins(order.plugins, place)
        load_plugins(plugins)
        device = "cuda" if order.on_gpu else order.site.device  # a node shows an order only its own GPUs
        site = replace(order.site, data_dir=None, plugins=tuple(plugins), device=device)
        dataset = with_images(rest, images, torch.device(device))
        guard_memory(max(1, (os.cpu_count() or 1) // order.cpus))
        folder = place / "work"
        folder.mkdir()
        try:
            found = order.work(Errand(order.facts, dataset, site, folder, line))
        except UserError as error:  # full disk, or sources unlike the driver's: others would fail too
            where = f"on node {os.uname().nodename}, mtlbench {mtlbench.__version__}"
            found = {"how": "full", "reason": f"{error} ({where})"}
    return {"node": line.node, **found}


class Nodes(ABC):
    """Machines that carry out orders; each data set and plug-in is sent once.

    Args:
        cpus: the number of cores that each order takes.
    """

    def __init__(self, cpus: int) -> None:
        self.cpus, self._numbers = cpus, 0
        self._data: dict[int, tuple[Dataset, Any]] = {}  # by the data set's id, which must stay in use
        self._plugins: dict[tuple[Path, ...], list[Sources]] = {}

    def send(
        self, work: Work, facts: Mapping[str, Any], dataset: Dataset, site: Site, alone: bool = False, place: str = ""
    ) -> int:
        """Hand an order over and return its number. See `Order`."""
        if id(dataset) not in self._data:
            self._data[id(dataset)] = dataset, self.put(*without_images(dataset))
        if site.plugins not in self._plugins:
            self._plugins[site.plugins] = packed_plugins(site.plugins)
        self._numbers += 1
        order = Order(self._numbers, work, facts, site, self._plugins[site.plugins], self.cpus, alone, place)
        self.submit(order, self._data[id(dataset)][1])
        return self._numbers

    @abstractmethod
    def room(self, alone: bool = False) -> int:
        """Return how many orders may be out at a time; with `alone`, how many of the orders that need a node alone."""

    @abstractmethod
    def places(self, done_on: str | None) -> list[str]:
        """Return the nodes where an order may run alone: the given node, or for None all nodes to try.

        An empty name stands for any node; an empty list means that the given node is gone.
        """

    @abstractmethod
    def put(self, rest: Dataset, images: NDArray[np.uint8]) -> Any:
        """Put a data set where nodes find it; return its place."""

    @abstractmethod
    def submit(self, order: Order, data: Any) -> None:
        """Submit an order; `data` is what `put` returned.

        Raises:
            UserError: the order is refused.
        """

    @abstractmethod
    def hear(self) -> list[Word]:
        """Return the messages from orders since the last call."""

    @abstractmethod
    def ended(self, seconds: float) -> list[int]:
        """Return the orders that have ended since the last call; wait at most about this many seconds for one."""

    @abstractmethod
    def result(self, number: int) -> Left:
        """Return the result of an order that has ended; call it once per order.

        Raises:
            Died: there is no result.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask all orders to save their state and end; cancel orders that have not begun."""

    @abstractmethod
    def cancel(self, number: int) -> None:
        """End an order at once."""
