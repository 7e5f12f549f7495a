"""Losses of pytorch-metric-learning: against the library itself, on labelled images alone, and in a run."""

from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning import losses
from support import make_dataset, protocol

from mtlbench.benchmark import Loss as LossSection
from mtlbench.errors import UserError
from mtlbench.evaluation.collapse import collapsed_tasks
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.losses.contract import LossContext, build_loss, resolved
from mtlbench.plugins import load_plugins
from mtlbench.sampling.contract import Batch
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

PROXIES = ["ProxyAnchorLoss", "NormalizedSoftmaxLoss", "ArcFaceLoss"]
NAMES = ["MultiSimilarityLoss", "ContrastiveLoss", "SupConLoss", *PROXIES]
CONTEXT = LossContext(("a", "b"), (3, 4), embedding_size=8, seed=5)


@pytest.fixture(autouse=True)
def _methods() -> None:
    assert load_plugins() == []


def data() -> tuple[torch.Tensor, Batch]:
    random = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 30, 8, generator=random)
    labels = torch.stack([torch.arange(30) % 3, torch.arange(30) % 4])
    labels[0, :6] = -1
    return embeddings, Batch(torch.zeros(30, 3, 8, 8), labels)


@pytest.mark.parametrize("name", ["MultiSimilarityLoss", "ContrastiveLoss", "SupConLoss"])
def test_each_task_has_the_librarys_loss_on_its_labelled_images_at_unit_length(name):
    embeddings, batch = data()
    ours = build_loss(LossSection(name=f"pml:{name}"), CONTEXT)(embeddings, batch)
    unit = torch.nn.functional.normalize(embeddings, dim=2)
    for t in range(2):
        known = batch.labels[t] >= 0
        theirs = getattr(losses, name)()(unit[t, known], batch.labels[t, known])
        assert ours[t].item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize("name", PROXIES)
def test_proxies_fit_the_task_and_depend_on_seed_and_task_alone(name):
    one, again = (build_loss(LossSection(name=f"pml:{name}"), CONTEXT) for _ in range(2))
    first, second = (list(loss.parameters()) for loss in one.losses)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), again.parameters(), strict=True))
    assert {3, 8} == set(first[0].shape)
    assert {4, 8} == set(second[0].shape)
    alone = build_loss(LossSection(name=f"pml:{name}"), LossContext(("b",), (4,), embedding_size=8, seed=5))
    assert torch.equal(next(iter(alone.parameters())), second[0])


def test_a_task_without_a_label_in_the_batch_has_loss_0_with_a_graph():
    embeddings, batch = data()
    embeddings.requires_grad_()
    batch.labels[1] = -1
    loss = build_loss(LossSection(name="pml:ContrastiveLoss"), CONTEXT)(embeddings, batch)
    assert loss[1].item() == 0
    loss.sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad[1].abs().sum() == 0
    assert embeddings.grad[0].abs().sum() > 0


def test_options_are_the_librarys_and_checked():
    assert resolved(LossSection(name="pml:ContrastiveLoss", neg_margin=0.5)).options["neg_margin"] == 0.5
    with pytest.raises(UserError, match=r"'pml:ContrastiveLoss' has no option 'neg_margn'. Did you mean: neg_margin\?"):
        resolved(LossSection(name="pml:ContrastiveLoss", neg_margn=0.5))


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_trains_and_its_parameters_with_the_network(name):
    benchmark = protocol(f"loss={{name='pml:{name}'}}", "train.sampling=m-per-class")
    trainer = Trainer(parse_method("shared"), benchmark, make_dataset(), 0, "fp32")
    before = [p.detach().clone() for p in trainer.loss.parameters()]
    trainer.run()
    assert all(not torch.equal(p, q) for p, q in zip(trainer.loss.parameters(), before, strict=True))
    assert {f"loss/{task}" for task in trainer.dataset.tasks} <= set(trainer.state.curve[-1])


def test_a_resumed_run_has_the_proxies_that_it_had():
    benchmark = protocol("loss={name='pml:ProxyAnchorLoss'}")
    whole, begun, resumed = (Trainer(parse_method("shared"), benchmark, make_dataset(), 0, "fp32") for _ in range(3))
    for _ in range(4):
        whole.step()
    for _ in range(2):
        begun.step()
    resumed.restore(begun.tensors(), begun.state)
    for _ in range(2):
        resumed.step()
    for one, other in ((whole.loss, resumed.loss), (whole.architecture, resumed.architecture)):
        assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("name", "own"), [("CosFaceLoss", "scale"), ("SubCenterArcFaceLoss", "sub_centers")])
def test_a_loss_that_hands_its_arguments_on_gets_the_tasks_facts_and_its_own_options(name, own):
    loss = build_loss(LossSection(name=f"pml:{name}", **{own: 5}), CONTEXT)
    assert [8 in one.W.shape for one in loss.losses] == [True, True]
    assert [getattr(one, own) for one in loss.losses] == [5, 5]
    assert loss(*data()).shape == (2,)


def test_what_a_loss_gathers_goes_on_with_the_run_and_probes_leave_it_alone():
    settings = ("loss={name='pml:DynamicSoftMarginLoss'}", "train.sampling=m-per-class")
    plain, probed, resumed = (
        Trainer(parse_method("shared"), protocol(*settings), make_dataset(), 0, "fp32") for _ in range(3)
    )
    gathered = dict(plain.loss.named_buffers())
    for trainer in (plain, probed):
        trainer.step()
    probed.probe()
    assert probed.state.probes
    resumed.restore(plain.tensors(), plain.state)
    assert gathered.keys() == {"losses.0.hist_", "losses.1.hist_"}
    for name, buffer in plain.loss.named_buffers():
        assert buffer.any()
        for other in (probed, resumed):
            assert torch.equal(buffer, other.loss.get_buffer(name))


def test_a_collapse_is_one_whatever_the_loss():
    dataset = make_dataset()
    for name in ("triplet", "pml:ContrastiveLoss", "pml:ArcFaceLoss"):
        benchmark = protocol(f"loss={{name='{name}'}}")
        held_out = HeldOutTriplets.draw(dataset, benchmark, "test")
        point = torch.ones(2, 18, 8) + 1e-4 * torch.randn(2, 18, 8, generator=torch.Generator().manual_seed(0))
        assert collapsed_tasks(point, held_out, benchmark.embedding).all()
        far = 1000 * point
        unnormalised = benchmark.embedding.model_copy(update={"normalise": False})
        assert collapsed_tasks(far, held_out, unnormalised).all()
