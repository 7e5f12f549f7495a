"""Modulation's vectors under CelebA's protocol: their first steps, and what 1/T of the gradient makes of them."""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import make_dataset
from torch import Tensor, nn

from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.optimisers import find_optimiser
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

load_plugins()
SEVEN = tuple(load_benchmark("celeba").data.tasks)


class Same(nn.Module):
    """Features that are the same for every image."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.tensor([1.0, 2.0, 0.0, -1.0, 1.0, 1.0, 1.0, 1.0]).to(features).expand(len(features), 8)


@pytest.mark.parametrize(
    ("accumulator", "whole", "theirs"),
    [
        # 0.01 g / sqrt(0.1 + g^2), then / sqrt(0.1 + 2 g^2), with g = 0.004 and with g = 0.004 / 7
        (0.1, (1.26481e-4, 1.26471e-4), (1.80701e-5, 1.80701e-5)),
        # 0.01, then 0.01 / sqrt(2), whatever g is
        (0.0, (0.01, 0.00707107), (0.01, 0.00707107)),
    ],
)
def test_two_steps_of_a_vector_worked_by_hand(accumulator, whole, theirs):
    """Seven tasks with losses of 0.004 times their scaled features: each vector's gradient is 0.004 times the features.

    The mean loss over a batch of all tasks, as in the authors' code, has a seventh of it.
    """
    train = load_benchmark("celeba").train
    train = train.model_copy(update={"optimiser_options": {"initial_accumulator_value": accumulator}})
    for scale, steps in ((None, whole), (1 / 7, theirs)):
        net, balancer = parse_method("modulation[after=embedding]").build(BackboneFactory("small", 24, 8), SEVEN)
        net.double().net.head = Same()  # a step of 2e-5 from 1 is rounded in float32
        vectors = list(net.scales["5"].parameters())
        optimiser = find_optimiser("adagrad")([{"params": vectors}], train)
        for step in range(2):
            before = [vector.detach().clone() for vector in vectors]
            optimiser.zero_grad()
            losses = 0.004 * net(torch.zeros(7, 3, 3, 24, 24, dtype=torch.float64)).mean(1).sum(1)
            if scale is None:
                balancer.backward(losses, net)
                assert vectors[6].grad.tolist() == pytest.approx(
                    [0.004, 0.008, 0, -0.004, 0.004, 0.004, 0.004, 0.004], rel=1e-6
                )
            else:
                losses.mean().backward()
            optimiser.step()
            for vector, old in zip(vectors, before, strict=True):
                assert (old - vector.detach())[[0, 2, 3]].tolist() == pytest.approx(
                    [steps[step], 0, -steps[step]], rel=1e-5, abs=1e-12
                )


def faces() -> tuple[Benchmark, Dataset]:
    """CelebA's protocol in small, two triplets a task, and seven tasks with their own labels on one set of images."""
    settings = ("data.image_size=48", "model.embedding=16", "train.triplets=2", "evaluation.triplets=16")
    made = make_dataset(("colour",))
    images = nn.functional.interpolate(made.images.permute(0, 3, 1, 2).float(), 48).to(torch.uint8).permute(0, 2, 3, 1)
    labels = torch.randint(0, 2, (7, len(images)), generator=torch.Generator().manual_seed(0))
    dataset = replace(
        made, images=images, labels=labels, tasks=SEVEN, values=(("no", "yes"),) * 7, ordered=(False,) * 7, pixels="bgr"
    )
    return load_benchmark("celeba", settings=settings), dataset


def test_first_steps_under_the_protocol_are_of_whole_gradients_and_several_times_those_of_the_mean_loss():
    benchmark, dataset = faces()
    trainer = Trainer(parse_method("modulation"), benchmark, dataset, 0, "fp32")
    assert benchmark.train.optimiser_options == {"initial_accumulator_value": 0.1}
    draw, batches = trainer.sampler.draw, []
    trainer.sampler.draw = lambda generators: batches.append(draw(generators)) or batches[-1]
    names = [name for name, _ in trainer.architecture.named_parameters() if name.startswith("scales.")]
    assert len(names) == 3 * 7
    squares = {(name, scale): torch.tensor(0.1) for name in names for scale in (1, 7)}
    for _ in range(3):
        before = {name: trainer.architecture.get_parameter(name).detach().double().clone() for name in names}
        reference = copy.copy(trainer)
        reference.architecture = copy.deepcopy(trainer.architecture)
        trainer.step()
        assert not batches[-1].joint
        losses = reference.losses(batches[-1])
        own = [reference.architecture.get_parameter(name) for name in names]
        gradients = {1: torch.autograd.grad(losses.sum(), own, retain_graph=True)}
        gradients[7] = torch.autograd.grad(losses.mean(), own)
        ratios = []
        for place, name in enumerate(names):
            steps = {}
            for scale in (1, 7):
                gradient = gradients[scale][place].double()
                squares[name, scale] = squares[name, scale] + gradient**2
                steps[scale] = 0.01 * gradient / squares[name, scale].sqrt()
            found = before[name] - trainer.architecture.get_parameter(name).detach().double()
            torch.testing.assert_close(found, steps[1], rtol=1e-2, atol=2e-7)  # a number near 1 is rounded to 6e-8
            ratios.append((found / steps[7])[steps[1].abs() > 1e-5])
        ratio = torch.cat(ratios)
        assert len(ratio) > 100
        # the accumulator outweighs the gradients, so that a seventh of one is nearly a seventh of a step
        assert 5 < float(ratio.median()) < 7.05


def test_with_the_accumulator_at_0_a_seventh_of_every_gradient_makes_the_same_steps():
    """So that Adagrad as in torch hides it: from the first step on, not in the first alone."""
    train = load_benchmark("celeba", settings=["train.optimiser_options={initial_accumulator_value=0.0}"]).train
    moved = []
    for scale in (1.0, 1 / 7):
        vector = nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimiser = find_optimiser("adagrad")([{"params": [vector]}], train)
        for gradient in ([0.03, -0.001, 0.2], [0.02, 0.004, -0.1], [-0.01, 0.001, 0.1]):
            vector.grad = scale * torch.tensor(gradient, dtype=torch.float64)
            optimiser.step()
        moved.append(vector.detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=1e-8)


def figures() -> tuple[float, ...]:
    """What methods/modulation.py's docstring says of the first step, in shares: the median weight's move, the median
    scale's, that with 1/T of the gradient, and with the accumulator at 0 the weight's and either scale's.
    """
    module = inspect.getmodule(ARCHITECTURES.get("modulation").target)
    found = re.search(
        r"with seven tasks and its own start, the first step moves the median weight by ([\d.]+) % of itself, the"
        r" median scale by ([\d.]+) % here and by ([\d.]+) % with 1/T of the gradient \(with the accumulator at 0:"
        r" (\d+) % and twice (\d+) %;",
        " ".join(module.__doc__.split()),
    )
    assert found is not None
    return tuple(float(number) / 100 for number in found.groups())


def test_the_figures_of_the_docstring_follow_from_each_other_and_the_benchmark_refers_to_them():
    """A scale of 1 that moves by s has the gradient sqrt(0.1) s / sqrt(0.01^2 - s^2)."""
    _, scale, theirs, _, at_0 = figures()
    gradient = 0.1**0.5 * scale / (0.01**2 - scale**2) ** 0.5
    assert 0.01 * gradient / 7 / (0.1 + (gradient / 7) ** 2) ** 0.5 == pytest.approx(theirs, rel=0.04)  # two digits
    assert at_0 == 0.01
    text = (Path(__file__).parents[2] / "benchmarks" / "celeba.toml").read_text()
    header = " ".join(line.removeprefix("# ") for line in text.splitlines())
    assert "a task's own parameters get their whole gradient (theirs: 1/T of it, see methods/modulation.py)" in header
