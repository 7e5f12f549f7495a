"""What the tests of executors on other machines share: tiny runs, a slow network, and who watches."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mtlbench.jobs.experiment import Experiment, View, plan_experiment, read_experiment, resources_of, train
from mtlbench.jobs.job import Job, Site, Watcher
from mtlbench.jobs.memory import unguarded_again
from mtlbench.jobs.nodes import Died, Left, Line, Nodes, Order, Word, carry_out
from mtlbench.jobs.sweep import Remote
from mtlbench.plugins import load_plugins
from mtlbench.runs import Record, partial_folder, read_record
from mtlbench.training.events import CheckpointSaved, Event

SHORT = [
    "train.steps=8", "train.triplets=2", "train.joint_triplets=8", "evaluation.every=2", "evaluation.triplets=50",
    "model.embedding=8", "data.image_size=24", "train.precision=fp32",
]  # fmt: skip
SLOW = '''
import time

from helper import PAUSE
from mtlbench import register_architecture
from mtlbench.methods.shared import Shared


@register_architecture("slow-shared", groups=())
class SlowShared(Shared):
    """As shared, with a pause at every step."""

    def embed(self, images):
        if self.training:
            time.sleep(PAUSE)
        return super().embed(images)
'''


class Seen(Watcher):
    """Notes what happens, and does something at each checkpoint."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.at_checkpoint: Any = lambda: None

    def happened(self, job: Job, event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            self.words.append(f"{job.method.name} kept {event.step}")
            self.at_checkpoint()

    def doing(self, job: Job, what: str) -> None:
        self.words.append(f"{job.method.name}: {what}")

    def ended(self, job: Job, record: Record) -> None:
        self.words.append(f"{job.method.name}: {record.status} {record.reason}")


class Shown(View):
    """A view whose watcher is given."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def watch(self, runs: int) -> Any:
        return nullcontext(self.seen)


def slow_plugin(folder: Path) -> Path:
    """Write `slow-shared`, which takes 0.4 s a step, with the helper that it imports; load it."""
    folder.mkdir()
    plugin = folder / "slow.py"
    plugin.write_text(SLOW)
    (folder / "helper.py").write_text("PAUSE = 0.4\n")
    load_plugins([plugin])
    return plugin


def experiment(results: Path, on: str, data: Path, plugin: Path, methods: str = "single,slow-shared") -> Experiment:
    """Plan a run of eight steps for each method."""
    return read_experiment(
        View(), dataset="zappos", methods=methods, quick=True, seeds=[0], settings=SHORT, vary=[], tasks=None,
        site=Site(data, "cpu", (plugin,)), results=results, on=on,
    )  # fmt: skip


def done_here(results: Path, data: Path, plugin: Path) -> None:
    """Do the same in this process, with one thread."""
    here = experiment(results, "here", data, plugin)
    with resources_of(here):
        torch.set_num_threads(1)
        assert not train(here, plan_experiment(here, View()), View(), lambda: False)


def assert_same_bits(one: Path, two: Path) -> None:
    """Compare two finished runs: scores, settings, every weight."""
    first, second = read_record(one), read_record(two)
    assert first is not None
    assert second is not None
    assert second.status == "done", second.reason
    assert first.metrics == second.metrics
    assert first.setup == second.setup
    weights, others = (load_file(folder / "weights.safetensors") for folder in (one, two))
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    assert not partial_folder(two).exists()


class Killed(BaseException):
    """What ends an order on a `Pretended` node: no work can catch it as a fault of its own."""


class _Line(Line):
    def __init__(self, nodes: Pretended, number: int) -> None:
        self.nodes, self.number, self.node = nodes, number, "pretended"

    def tell(self, event: str, **facts: Any) -> None:
        self.nodes.words.append((self.number, event, json.loads(json.dumps(facts)) if event != "kept" else facts))
        if event == "kept":
            self.nodes.kept += 1
            if self.nodes.kept in self.nodes.deaths:
                raise Killed

    def stopping(self) -> bool:
        return self.nodes.asked


class Pretended(Nodes):
    """Nodes within this process, one order at a time; some die right after they have sent what continuing needs.

    Args:
        deaths: at which such sendings, of all, from 1.
    """

    def __init__(self, deaths: Sequence[int] = ()) -> None:
        super().__init__(cpus=1)
        self.deaths, self.kept, self.asked, self.most = deaths, 0, False, 0
        self.words: list[Word] = []
        self.queue: dict[int, tuple[bytes, Any]] = {}
        self.results: dict[int, Left | None] = {}

    def room(self, alone: bool = False) -> int:
        return 3

    def places(self, done_on: str | None) -> list[str]:
        return [""]

    def put(self, rest: Any, images: Any) -> Any:
        return pickle.dumps(rest), images

    def submit(self, order: Order, data: Any) -> None:
        self.queue[order.number] = pickle.dumps(order), data
        self.most = max(self.most, len(self.queue))

    def hear(self) -> list[Word]:
        said, self.words = self.words, []
        return said

    def ended(self, seconds: float) -> list[int]:
        if not self.queue:
            return []
        number = next(iter(self.queue))
        order, (rest, images) = self.queue.pop(number)
        self.results[number] = None
        with unguarded_again(), suppress(Killed):
            self.results[number] = carry_out(pickle.loads(order), pickle.loads(rest), images, _Line(self, number))
        return [number]

    def result(self, number: int) -> Left:
        left = self.results.pop(number)
        if left is None:
            raise Died("killed")
        return left

    def stop(self) -> None:
        self.asked = True

    def cancel(self, number: int) -> None:
        self.queue.pop(number, None)


class OnPretended(Remote):
    """An executor of `Pretended` nodes."""

    def __init__(self, nodes: Pretended) -> None:
        self.pretended = nodes

    def nodes(self, results: Path) -> Any:
        return nullcontext(self.pretended)
