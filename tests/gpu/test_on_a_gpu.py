"""What only a GPU can show: its numbers beside the processor's, interrupted runs, and that the host never waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support import make_dataset, protocol

from mtlbench.data.dataset import Dataset
from mtlbench.devices import choose_precision
from mtlbench.evaluation.retrieval import retrieval_scores
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES, BALANCERS
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

pytestmark = pytest.mark.gpu
load_plugins()
OPTIONS = {"static": "[weights=1:1]"}
METHODS = [*sorted(ARCHITECTURES), *(f"shared+{name}{OPTIONS.get(name, '')}" for name in sorted(BALANCERS))]


def dataset_on(device: str) -> Dataset:
    made = make_dataset()
    return replace(made, **{name: getattr(made, name).to(device) for name in ("images", "labels", "split")})


@pytest.fixture
def make() -> Callable[..., Trainer]:
    def trainer(method: str, device: str = "cuda", precision: str = "fp32", *settings: str) -> Trainer:
        return Trainer(parse_method(method), protocol(*settings), dataset_on(device), 0, precision)

    return trainer


def losses_of(trainer: Trainer, steps: int) -> torch.Tensor:
    for _ in range(steps):
        trainer.step()
    trainer.curve.flush(trainer.state, 1.0, close=True)
    tasks = trainer.dataset.tasks
    return torch.tensor([[row[f"loss/{task}"] for task in tasks] for row in trainer.state.curve])


@pytest.mark.parametrize("method", METHODS)
def test_first_steps_are_those_of_the_processor(make, method):
    here, there = (losses_of(make(method, device), 2) for device in ("cpu", "cuda"))
    torch.testing.assert_close(there, here, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("method", ["shared", "modulation", "gradnorm", "pcgrad", "cross-stitch"])
def test_an_interrupted_run_goes_on_as_it_would_have(make, method):
    straight, stopped, again = make(method), make(method), make(method)
    losses_of(straight, 6)
    losses_of(stopped, 3)
    again.restore(stopped.tensors(), stopped.state)
    losses_of(again, 3)
    for name, wanted in straight.architecture.state_dict().items():
        torch.testing.assert_close(again.architecture.state_dict()[name], wanted, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("sampling", ["joint", "per-task"])
@pytest.mark.parametrize("method", ["shared", "modulation", "gradnorm", "independent", "cross-stitch"])
def test_the_host_does_not_wait_within_a_step(make, method, sampling):
    trainer = make(method, "cuda", "fp32", f"train.sampling={sampling}")
    losses_of(trainer, 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step()
        trainer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_bfloat16_trains_where_the_device_is_made_for_it(make):
    if choose_precision("auto", torch.device("cuda")) != "bf16":
        pytest.skip("this GPU has no bfloat16")
    assert losses_of(make("shared", "cuda", "bf16"), 4).isfinite().all()


def test_float32_is_float32(make):
    make("shared")
    random = torch.Generator().manual_seed(0)
    images, kernel = torch.randn(2, 64, 16, 16, generator=random), torch.randn(64, 64, 3, 3, generator=random)
    wanted = torch.nn.functional.conv2d(images.double(), kernel.double())
    found = torch.nn.functional.conv2d(images.cuda(), kernel.cuda()).cpu().double()
    assert (found - wanted).abs().max() < 1e-3  # with TF32 it is about 2e-2


def test_retrieval_scores_are_those_of_the_processor():
    random = torch.Generator().manual_seed(0)
    points, labels = torch.randn(300, 16, generator=random), torch.randint(0, 3, (300,), generator=random)
    here = retrieval_scores(points, labels, normalise=True)
    there = retrieval_scores(points.cuda(), labels.cuda(), normalise=True)
    for name, wanted in here.items():
        torch.testing.assert_close(there[name].cpu(), wanted, equal_nan=True, msg=name)
