"""The losses of pytorch-metric-learning: its own numbers, in real runs, with proxies that are trained and kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as library
from support import make_dataset, protocol
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.jobs.measure import measure
from mtlbench.losses import LossContext
from mtlbench.losses.contract import build_loss
from mtlbench.plugins import load_plugins
from mtlbench.sampling import Batch
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer
from mtlbench.training.state import Interrupted

load_plugins()
NAMES = (
    "MultiSimilarityLoss", "ContrastiveLoss", "ProxyAnchorLoss", "NormalizedSoftmaxLoss", "SupConLoss", "ArcFaceLoss",
)  # fmt: skip
CONTEXT = LossContext(("a", "b"), (3, 2), 8)


def built(name: str, context: LossContext = CONTEXT, **options: object):
    settings = [f"loss.{key}={value}" for key, value in options.items()]
    return build_loss(protocol(f"loss.name='pml:{name}'", *settings).loss, context)


def trainer(*settings: str, seed: int = 0) -> Trainer:
    return Trainer(parse_method("shared"), protocol(*settings), make_dataset(), seed, "fp32")


def batch_of(labels: Tensor) -> Batch:
    return Batch(torch.zeros(labels.shape[1], 3, 1, 1), labels)


@pytest.mark.parametrize("name", NAMES)
def test_each_tasks_loss_is_the_librarys_on_its_labelled_images(name):
    torch.manual_seed(0)
    points = torch.randn(2, 12, 8)
    labels = torch.stack([torch.arange(12) % 3, torch.arange(12) % 2])
    labels[0, 5] = labels[1, :3] = -1
    loss = built(name)
    found = loss(points, batch_of(labels))
    for t in range(2):
        reference = type(loss.losses[t])(
            **({"num_classes": (3, 2)[t], "embedding_size": 8} if list(loss.losses[t].parameters()) else {})
        )
        reference.load_state_dict(loss.losses[t].state_dict())
        known = labels[t] >= 0
        expected = reference(F.normalize(points[t][known], dim=1), labels[t][known])
        torch.testing.assert_close(found[t], expected)
        assert isinstance(loss.losses[t], getattr(library, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_task_without_a_label_has_loss_0_with_its_graph(name):
    points = torch.randn(2, 6, 8, requires_grad=True)
    labels = torch.stack([torch.full((6,), -1), torch.arange(6) % 2])
    found = built(name)(points, batch_of(labels))
    assert found[0].item() == 0
    assert found[1].item() > 0
    found.sum().backward()
    assert points.grad[0].eq(0).all()
    assert points.grad.isfinite().all()


@pytest.mark.parametrize("name", ["MultiSimilarityLoss", "ContrastiveLoss", "SupConLoss"])
def test_a_task_without_a_pair_has_a_finite_loss_and_gradient(name):
    points = torch.randn(2, 1, 8, requires_grad=True)
    found = built(name)(points, batch_of(torch.zeros(2, 1, dtype=torch.int64)))
    assert found.tolist() == [0, 0]
    found.sum().backward()
    assert points.grad.isfinite().all()


def test_options_are_the_constructors():
    loss = built("ContrastiveLoss", pos_margin=0.1, neg_margin=0.7)
    assert [(one.distance is not None, one.pos_margin, one.neg_margin) for one in loss.losses] == [(True, 0.1, 0.7)] * 2
    with pytest.raises(UserError, match=r"has no option 'neg_magin'\. Did you mean: neg_margin\?"):
        built("ContrastiveLoss", neg_magin=0.7)


def test_proxies_are_each_tasks_own_whichever_other_tasks_there_are():
    both, alone = built("ProxyAnchorLoss"), built("ProxyAnchorLoss", replace(CONTEXT, tasks=("b",), values=(2,)))
    assert [p.shape for p in both.parameters()] == [(3, 8), (2, 8)]
    assert torch.equal(both.losses[1].proxies, alone.losses[0].proxies)
    other = built("ProxyAnchorLoss", replace(CONTEXT, seed=1))
    assert not torch.equal(both.losses[0].proxies, other.losses[0].proxies)


@pytest.mark.parametrize("sampling", ["joint", "per-task", "m-per-class"])
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_in_a_real_run(name, sampling):
    run = trainer(f"loss.name='pml:{name}'", f"train.sampling='{sampling}'")
    before = [p.detach().clone() for p in run.loss.parameters()]
    run.run()
    assert run.state.step == 6
    moved = [not torch.equal(a, b) for a, b in zip(before, run.loss.parameters(), strict=True)]
    assert moved == [True] * (2 if name in ("ProxyAnchorLoss", "NormalizedSoftmaxLoss", "ArcFaceLoss") else 0)


def test_proxies_are_trained_under_balancers_that_combine_gradients_too():
    """Such a balancer reaches the network alone; proxies that stayed random would pass for a bad balancer."""
    runs = {
        method: Trainer(parse_method(method), protocol("loss.name='pml:ProxyAnchorLoss'"), make_dataset(), 0, "fp32")
        for method in ("shared", "shared+pcgrad", "shared+mgda")
    }
    plain, *combined = ([p.grad for p in run.loss.parameters()] for run in runs.values() if run.step() is None)
    for gradients in combined:
        assert all(torch.equal(a, b) for a, b in zip(plain, gradients, strict=True))


def test_a_task_without_a_label_leaves_its_proxies_as_they_are():
    run = trainer("loss.name='pml:ProxyAnchorLoss'")
    draw = run.sampler.draw

    def without(generators: object) -> Batch:
        batch = draw(generators)
        return replace(batch, labels=torch.stack([batch.labels[0], torch.full_like(batch.labels[1], -1)]))

    run.sampler.draw = without
    run.step()
    assert [p.grad is None for p in run.loss.parameters()] == [False, True]


def test_proxies_have_no_weight_decay_and_are_not_part_of_the_network():
    run = trainer("loss.name='pml:ProxyAnchorLoss'", "train.weight_decay=0.3")
    own = {id(p) for p in run.loss.parameters()}
    (group,) = (g for g in run.optimiser.param_groups if own & {id(p) for p in g["params"]})
    assert {id(p) for p in group["params"]} == own
    assert (group["weight_decay"], group["scale"]) == (0, 1)
    assert not own & {id(p) for p in run.architecture.parameters()}


def test_proxies_count_as_parameters_of_training_alone():
    costs = {
        name: measure(parse_method("shared"), protocol(f"loss.name='{name}'"), make_dataset(), "fp32")
        for name in ("triplet", "pml:ProxyAnchorLoss")
    }
    assert costs["pml:ProxyAnchorLoss"]["training_parameters"] == (2 + 3) * 8
    assert "training_parameters" not in costs["triplet"]
    for what in ("parameters", "bytes", "file_bytes", "parameters_added"):
        assert costs["triplet"][what] == costs["pml:ProxyAnchorLoss"][what]


@pytest.mark.parametrize("optimiser", ["adamw", "adagrad", "sgd"])
def test_an_interrupted_run_goes_on_with_its_proxies_bit_for_bit(optimiser):
    settings = ("loss.name='pml:ProxyAnchorLoss'", f"train.optimiser='{optimiser}'", "train.sampling='m-per-class'")
    whole = trainer(*settings)
    whole.run()
    first, kept = trainer(*settings), {}

    def keep() -> None:
        state = replace(first.state, curve=[dict(row) for row in first.state.curve])
        kept.update(tensors=first.tensors(), state=state)

    with pytest.raises(Interrupted):
        first.run(save=keep, stop=lambda: first.state.step == 4)
    second = trainer(*settings, seed=0)
    with torch.no_grad():
        for parameter in second.loss.parameters():
            parameter.zero_()
    second.restore(kept["tensors"], kept["state"])
    second.run()
    for module in ("loss", "architecture"):
        mine, theirs = (getattr(t, module).state_dict() for t in (whole, second))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_without_the_library_the_command_that_brings_it_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytorch_metric_learning", None)
    with pytest.raises(UserError, match=r"pip install 'mtlbench\[losses\]'"):
        built("SupConLoss")
