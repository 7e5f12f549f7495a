"""Other machines as the driver sees them: orders go out, words and results come back. An order is done on any node.

The driver is the process of the command. It holds the locks of runs and writes all that stays. A node gets the data
set, the sources of plug-ins and what was kept, and works in a folder of its own.
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
from mtlbench.plugins import load_plugins

Left = dict[str, Any]
"""What an order leaves. `how` it ended: `done`, `interrupted`, or `full` with the `reason` why no other would do
better; the `node` that did it; the rest is the work's own."""
Word = tuple[int, str, dict[str, Any]]
"""What an order says: its number, the event, and its facts."""


class Died(Exception):
    """An order ended without a result: its process or node died."""


class Line(ABC):
    """A node's line to the driver.

    Attributes:
        node: the node's name.
    """

    node: str = ""

    @abstractmethod
    def tell(self, event: str, **facts: Any) -> None:
        """Tell the driver something: facts as JSON, but for `files`, bytes by name."""

    @abstractmethod
    def stopping(self) -> bool:
        """Return whether to keep what continuing needs, and end; it is asked after every step."""


@dataclass(frozen=True)
class Errand:
    """What a work gets on a node.

    Attributes:
        facts: what it is told; dataset: on its device.
        site: where things lie on this node; folder: its own, empty.
        line: to the driver.
    """

    facts: Mapping[str, Any]
    dataset: Dataset
    site: Site
    folder: Path
    line: Line


Work = Callable[[Errand], Left]


@dataclass(frozen=True)
class Order:
    """Something to do on a node, as it travels.

    Attributes:
        number: of the order; work: a function of a module, which does it with `facts`.
        site: of the driver; plugins: their sources.
        cpus: that it takes.
        alone: it wants a node on which nothing else is done meanwhile; place: which one, where that matters.
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
    """Do an order in this process, on any node; `rest` and `images` are a data set taken apart."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory(prefix="mtlbench-node-") as scratch:
        plugins = unpacked_plugins(order.plugins, Path(scratch))
        load_plugins(plugins)
        device = "cuda" if order.on_gpu else order.site.device  # a node shows an order its own GPUs alone
        site = replace(order.site, data_dir=None, plugins=tuple(plugins), device=device)
        dataset = with_images(rest, images, torch.device(device))
        guard_memory(max(1, (os.cpu_count() or 1) // order.cpus))
        folder = Path(scratch, "work")
        folder.mkdir()
        try:
            found = order.work(Errand(order.facts, dataset, site, folder, line))
        except UserError as error:  # a full disk, other sources than the driver's: no other order would do better
            where = f"on node {os.uname().nodename}, mtlbench {mtlbench.__version__}"
            found = {"how": "full", "reason": f"{error} ({where})"}
    return {"node": line.node, **found}


class Nodes(ABC):
    """Machines that do orders; each data set and plug-in is shipped once.

    Args:
        cpus: that each order takes.
    """

    def __init__(self, cpus: int) -> None:
        self.cpus, self._numbers = cpus, 0
        self._data: dict[int, tuple[Dataset, Any]] = {}  # where each lies, by its identity here, which must not end
        self._plugins: dict[tuple[Path, ...], list[Sources]] = {}

    def send(
        self, work: Work, facts: Mapping[str, Any], dataset: Dataset, site: Site, alone: bool = False, place: str = ""
    ) -> int:
        """Hand an order over; return its number. See `Order`."""
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
        """Return how many orders may be out at a time; `alone`: of those that want a node of their own."""

    @abstractmethod
    def places(self, done_on: str | None) -> list[str]:
        """Return where an order may be done alone: where something was done, or, for None, all places to be tried.

        An empty name is any node; an empty list says that the node is gone.
        """

    @abstractmethod
    def put(self, rest: Dataset, images: NDArray[np.uint8]) -> Any:
        """Put a data set where nodes find it; return where that is."""

    @abstractmethod
    def submit(self, order: Order, data: Any) -> None:
        """Have an order done; `data` is what `put` returned.

        Raises:
            UserError: it is refused.
        """

    @abstractmethod
    def hear(self) -> list[Word]:
        """Return what orders have said since the last call."""

    @abstractmethod
    def ended(self, seconds: float) -> list[int]:
        """Return which orders have ended since the last call; wait for one, about so many seconds at most."""

    @abstractmethod
    def result(self, number: int) -> Left:
        """Return what an order that has ended left, once.

        Raises:
            Died: it left nothing.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ask all orders to keep what they have and end; those that have not begun are taken back."""

    @abstractmethod
    def cancel(self, number: int) -> None:
        """End an order now."""
