"""What no checkpoint holds is seen, wherever a part of a run keeps it, and a continued run says that it lacks it."""

from __future__ import annotations

import collections
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import make_dataset, protocol
from support_jobs import do, jobs_for

from mtlbench.jobs.job import Job
from mtlbench.plugins import load_plugins
from mtlbench.report.outcome import Outcome
from mtlbench.runs import Record
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer
from mtlbench.training.state import Interrupted
from mtlbench.tuning.trial import train_seed
from mtlbench.unsaved import print_of

OWN = """
import torch
from mtlbench import Balancer, Loss, Sampler, register_balancer, register_loss, register_method, register_sampler

@register_balancer("own-warm")
class Warm(Balancer):
    '''The plain mean, and after three steps the worst task first.'''

    step = 0

    def backward(self, losses, architecture):
        self.step += 1
        weights = torch.ones(len(losses))
        if self.step > 3:
            weights = len(losses) * torch.softmax(9 * losses.detach(), 0)
        self.weighted_backward(losses, weights, architecture)
        return weights

@register_loss("own-bank")
class Bank(Loss):
    '''Draws embeddings to earlier ones.'''

    def __init__(self, context):
        super().__init__(context)
        self.past = []

    def forward(self, embeddings, batch):
        points = self.points(embeddings)
        self.past = [*self.past, points.detach().mean(1, keepdim=True)][-3:]
        return sum((points - one).square().mean((1, 2)) for one in self.past)

@register_sampler("own-epochs")
class Epochs(Sampler):
    '''All images in a shuffled order, then in another.'''

    def __init__(self, source):
        super().__init__(source)
        self.register_buffer("order", source.images)
        self.register_buffer("at", torch.tensor(len(source.images)))

    def draw(self, generators):
        number = self.images_per_step
        if self.at + number > len(self.order):
            generator = generators[self.source.tasks[0]]
            self.order = self.source.images[torch.randperm(len(self.order), generator=generator)]
            self.at = torch.zeros_like(self.at)
        index = self.order[self.at : self.at + number]
        self.at = self.at + number
        return self.source.batch(index, generators)
"""


class _Slotted:
    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def count(self) -> None:
        self.number += 1


def _closed() -> Callable[[], None]:
    number = 0

    def count() -> None:
        nonlocal number
        number += 1

    return count


def _stream() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


MEMORIES: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
    (lambda: [1, 2.0, "a"], lambda one: one.append(3)),
    (lambda: {"a": torch.zeros(3)}, lambda one: one["a"].data.add_(1)),
    (lambda: torch.tensor(1.0, dtype=torch.bfloat16), lambda one: one.add_(1)),
    (lambda: np.zeros(3), lambda one: one.fill(1)),
    (lambda: collections.deque([torch.zeros(2)]), lambda one: one.append(2)),
    (lambda: torch.Generator().manual_seed(1), lambda one: torch.rand(1, generator=one)),
    (lambda: np.random.default_rng(1), lambda one: one.random()),
    (lambda: random.Random(1), lambda one: one.random()),
    (itertools.count, next),
    (_stream, next),
    (_closed, lambda one: one()),
    (_Slotted, lambda one: one.count()),
]


@pytest.mark.parametrize(("make", "change"), MEMORIES)
def test_prints_of_equal_values_are_equal_and_change_with_them(make: Any, change: Any) -> None:
    one = make()
    before = print_of(one)
    assert before == print_of(make())
    change(one)
    assert print_of(one) != before


def in_two_parts(folder: Path, method: str = "shared", *settings: str) -> tuple[Record, Record, Job]:
    """Return the records of a whole run, and of one that was interrupted after its fourth step of six."""
    (folder / "own.py").write_text(OWN)
    assert load_plugins([folder / "own.py"]) == []
    benchmark = protocol(*settings)
    (whole,) = jobs_for(folder / "a", method, benchmark=benchmark)
    expected = do(whole, benchmark=benchmark, costs=False)
    assert expected.status == "done", expected.reason
    (job,) = jobs_for(folder / "b", method, benchmark=benchmark)
    asked = iter([False, False, False, True])
    with pytest.raises(Interrupted):
        do(job, stop=lambda: next(asked), benchmark=benchmark, costs=False)
    (job,) = jobs_for(folder / "b", method, benchmark=benchmark)
    assert job.state == "interrupted"
    return expected, do(job, benchmark=benchmark, costs=False), job


@pytest.mark.parametrize(
    ("method", "settings", "name"),
    [("shared+own-warm", (), "balancer.step"), ("shared", ("loss={name='own-bank'}",), "loss.past")],
)
def test_a_continued_run_says_what_it_lacks(tmp_path: Path, method: str, settings: tuple[str, ...], name: str) -> None:
    whole, continued, _ = in_two_parts(tmp_path, method, *settings)
    assert "forgot" not in whole.receipt
    assert continued.receipt["forgot"] == [name]
    assert f"continued without {name}, which no checkpoint holds: run it again with --overwrite" in (
        Outcome.of([continued]).note()
    )


@pytest.mark.parametrize("probing", [(), ("evaluation.agreement_every=2",)])
def test_a_sampler_remembers_by_buffers(tmp_path: Path, probing: tuple[str, ...]) -> None:
    whole, continued, job = in_two_parts(tmp_path, "shared", "train.sampling='own-epochs'", *probing)
    assert "forgot" not in continued.receipt
    assert whole.metrics == continued.metrics
    one, two = (load_file(tmp_path / x / job.folder.relative_to(tmp_path / "b") / "weights.safetensors") for x in "ab")
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_probe_leaves_a_samplers_memory_alone(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    assert load_plugins([tmp_path / "own.py"]) == []
    benchmark = protocol("train.sampling='own-epochs'", "evaluation.agreement_every=2")
    trainer = Trainer(parse_method("shared"), benchmark, make_dataset(), 0, "fp32")
    trainer.step()
    before = {name: buffer.clone() for name, buffer in trainer.sampler.named_buffers()}
    trainer.probe()
    assert all(torch.equal(buffer, before[name]) for name, buffer in trainer.sampler.named_buffers())


def test_a_trial_that_would_continue_without_its_memory_begins_again(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    assert load_plugins([tmp_path / "own.py"]) == []

    def begun_at(method: str, until: int | None) -> int:
        steps: list[int] = []
        train_seed(
            tmp_path / method, until, parse_method(method), {}, protocol(), make_dataset(), 0, "fp32",
            lambda event: steps.append(event.step), lambda: False,
        )  # fmt: skip
        return steps[0]

    assert [begun_at("shared", until) for until in (3, None)] == [0, 3]
    assert [begun_at("shared+own-warm", until) for until in (3, None)] == [0, 0]
