"""Where the time of a training step goes, and the limit: the network alone on images in memory."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from mtlbench.training.loop import Trainer

PARTS = ("data", "network forward", "loss", "backward", "balancer", "optimiser", "logging", "the rest")
"""What a step's time is told apart into. The rest is what lies between: checks, the gradient's norm, learning rates."""
_WARM_UP = 3


@dataclass(frozen=True)
class Profile:
    """What a step costs; seconds are medians over steps.

    Attributes:
        seconds: of one step, as training takes it.
        parts: seconds by the name of the part; on a GPU each is waited for, which a step is not.
        network: seconds of one pass forward and one backward of the same network, on the same images.
        images: that a step draws.
        waits: how often the host waits for the device in a step, and for how many seconds; None on a CPU.
    """

    seconds: float
    parts: dict[str, float]
    network: float
    images: int
    waits: tuple[float, float] | None = None

    @property
    def outside(self) -> float:
        """The share of a step, from 0 to 1, that the network alone would not take."""
        return max(0.0, 1 - self.network / self.seconds)


class _Clock:
    """Adds up the time of named parts; while a part within another runs, the outer one's time stands still."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.step: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Take the time of what is done inside."""
        self._pass(name)
        try:
            with torch.profiler.record_function(name):
                yield
        finally:
            self._pass(None)

    def _pass(self, name: str | None) -> None:
        now = self.now()
        if self._open:
            self.step[self._open[-1]] = self.step.get(self._open[-1], 0.0) + now - self._since
        if name is None:
            self._open.pop()
        else:
            self._open.append(name)
        self._since = now

    def timed(self, work: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return a function that does the same and takes the time of it."""

        @wraps(work)
        def run(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return work(*arguments, **options)

        return run


@contextmanager
def _told_apart(trainer: Trainer, clock: _Clock) -> Iterator[None]:
    """Take the time of a step's parts while this lasts."""
    places = [
        (trainer.sampler, "draw", "data"),
        (trainer.architecture, "forward", "network forward"),
        (trainer.architecture, "embed", "network forward"),
        (trainer.loss, "forward", "loss"),
        (trainer.balancer, "backward", "balancer"),
        (trainer.balancer, "judge", "balancer"),
        (trainer.optimiser, "step", "optimiser"),
        (trainer.optimiser, "zero_grad", "optimiser"),
        (trainer.curve, "log", "logging"),
        (torch.autograd, "backward", "backward"),
        (torch.autograd, "grad", "backward"),
    ]
    if trainer.compiled is not None:
        places.append((trainer.compiled, "embed", "network forward"))
    with ExitStack() as patches:
        for owner, attribute, name in places:
            patches.enter_context(mock.patch.object(owner, attribute, clock.timed(getattr(owner, attribute), name)))
        yield


def profile_steps(trainer: Trainer, steps: int, trace: Path | None = None) -> Profile:
    """Take training steps, and tell where their time goes. They are real ones: give it a run made for this.

    Whole steps, steps told apart and the network alone take turns, so that other work on the machine slows all alike.

    Args:
        trainer: whose steps.
        steps: so many of each, after a few to warm up.
        trace: where to write a trace of two steps, for ui.perfetto.dev or chrome://tracing.
    """
    device = trainer.dataset.device
    clock = _Clock(device)
    batch = trainer.sampler.draw(trainer.generators)
    alone = _network(trainer, batch.images, batch.joint)
    for _ in range(_WARM_UP):
        trainer.step()
        alone()
    whole, network, parts = [], [], []
    for _ in range(steps):
        whole.append(_seconds(trainer.step, clock))
        network.append(_seconds(alone, clock))
        with _told_apart(trainer, clock):
            clock.step = {}
            with clock.part("the rest"):
                trainer.step()
        parts.append(clock.step)
    medians = {name: statistics.median(step.get(name, 0.0) for step in parts) for name in PARTS}
    waits = _waits(trainer) if device.type == "cuda" else None
    if trace is not None:
        _write_trace(trainer, clock, trace)
    return Profile(statistics.median(whole), medians, statistics.median(network), trainer.images_per_step, waits)


def _seconds(work: Callable[[], object], clock: _Clock) -> float:
    begun = clock.now()
    work()
    return clock.now() - begun


def _network(trainer: Trainer, images: Tensor, joint: bool) -> Callable[[], None]:
    """Return what passes the network once forward and once backward, and changes none of its weights."""
    architecture = trainer.architecture
    direction: list[Tensor] = []

    def work() -> None:
        architecture.train()
        embeddings = trainer.embed(images, joint, compiled=trainer.state.compiled == "")
        if not direction:
            direction.append(torch.full_like(embeddings, 1e-3))
        trained = [p for p in architecture.parameters() if p.requires_grad]
        torch.autograd.grad(embeddings, trained, direction, allow_unused=True)
        architecture.forget()

    return work


def _profiler(device: torch.device) -> Any:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # without it the profiler writes to the terminal
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    return torch.profiler.profile(activities=kinds)


def _waits(trainer: Trainer) -> tuple[float, float]:
    """Count how often the host waits for the device in a step, and sum up the seconds."""
    steps = 3
    with _profiler(trainer.dataset.device) as profiler:
        for _ in range(steps):
            trainer.step()
    found: Counter[str] = Counter()
    seconds = 0.0
    for event in profiler.events():
        if event.name in ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"):
            found[event.name] += 1
            seconds += event.cpu_time_total / 1e6
    return found.total() / steps, seconds / steps


def _write_trace(trainer: Trainer, clock: _Clock, trace: Path) -> None:
    with _profiler(trainer.dataset.device) as profiler, _told_apart(trainer, clock):
        for _ in range(2):
            with clock.part("step"):
                trainer.step()
    profiler.export_chrome_trace(str(trace))
