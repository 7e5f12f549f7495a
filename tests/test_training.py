"""One run: losses by hand, the loop's promises (seeds, validation, interruption), and what it does with trouble."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import TripletMarginLoss
from support import TASKS, make_dataset, protocol, tool, triplet_losses
from torch import Tensor, nn

from mtlbench.benchmark import Embedding, Train
from mtlbench.cost import storage, weights_of
from mtlbench.data.dataset import Dataset
from mtlbench.devices import choose_device, choose_precision
from mtlbench.errors import UserError
from mtlbench.evaluation.collapse import collapsed_tasks
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.networks import embed_images
from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES
from mtlbench.specs import parse_method
from mtlbench.training.curve import Curve, constant_share
from mtlbench.training.loop import Trainer
from mtlbench.training.schedules import schedule_factor
from mtlbench.training.state import Interrupted, State, TrainingError

load_plugins()


@pytest.fixture
def make() -> Callable[..., Trainer]:
    def trainer(method: str = "shared", *settings: str, seed: int = 0, dataset: Dataset | None = None) -> Trainer:
        return Trainer(parse_method(method), protocol(*settings), dataset or make_dataset(), seed, "fp32")

    return trainer


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_a_triplet_loss_by_hand():
    points = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [6.0, 0.0]]])
    triplets = torch.tensor([[[0, 1, 2], [0, 2, 1]]])
    yes = torch.tensor([True])
    squared = triplet_losses(points, triplets, yes, margin=12, distance="squared", normalise=False)
    assert squared.item() == pytest.approx(((25 - 36 + 12) + (36 - 25 + 12)) / 2)
    plain = triplet_losses(points, triplets, yes, margin=0.5, distance="plain", normalise=False)
    assert plain.item() == pytest.approx((0 + (6 - 5 + 0.5)) / 2)
    unit = triplet_losses(points + 1, triplets[:, :1], yes, margin=5, distance="squared", normalise=True)
    a, p, n = F.normalize(points[0] + 1, dim=1)
    assert unit.item() == pytest.approx((a - p).square().sum().item() - (a - n).square().sum().item() + 5, rel=1e-5)
    assert triplet_losses(points, triplets, ~yes).item() == 0


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("distance", ["squared", "plain"])
def test_the_triplet_loss_is_that_of_pytorch_metric_learning(distance, normalise):
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.reducers import MeanReducer

    torch.manual_seed(0)
    points = torch.randn(3, 20, 5)
    triplets = torch.stack([torch.stack([torch.randperm(20)[:3] for _ in range(40)]) for _ in range(3)])
    power = 2 if distance == "squared" else 1
    reference = TripletMarginLoss(
        margin=0.2, distance=LpDistance(p=2, power=power, normalize_embeddings=normalise), reducer=MeanReducer()
    )
    found = triplet_losses(points, triplets, torch.ones(3, dtype=bool), distance=distance, normalise=normalise)
    for t in range(3):
        expected = reference(points[t], torch.zeros(20), indices_tuple=tuple(triplets[t].t()))
        torch.testing.assert_close(found[t], expected, rtol=1e-4, atol=1e-5)


def test_the_loss_of_a_collapsed_network_has_a_finite_gradient():
    for distance in ("squared", "plain"):
        points = torch.ones(1, 3, 4, requires_grad=True)
        loss = triplet_losses(points, torch.tensor([[[0, 1, 2]]]), torch.tensor([True]), distance=distance)
        loss.sum().backward()
        assert loss.item() == pytest.approx(0.2)
        assert points.grad.isfinite().all()


# --- schedules, precision, device -------------------------------------------------------------------------------------


def test_schedules_begin_and_end_where_they_say():
    def at(share: float, **settings: object) -> float:
        train = Train(
            sampling="joint", triplets=1, steps=1000, optimiser="adam", lr=1, **settings,  # type: ignore[arg-type]
        )  # fmt: skip
        return schedule_factor(train, round(share * 1000))

    assert at(0.7, schedule="constant") == 1
    steps = {"schedule": "step", "milestones": [0.4, 0.8], "decay": 0.1}
    assert [at(s, **steps) for s in (0, 0.399, 0.4, 0.799, 0.8)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [at(s, schedule="cosine") for s in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [at(s, schedule="one-cycle") for s in (0, 0.3, 0.65, 1)] == pytest.approx([0.04, 1, 0.5, 0])
    up, down = 0.5 * (1 - math.cos(math.pi / 4)), 0.5 * (1 + math.cos(math.pi / 4))  # a quarter of each way
    assert [at(s, schedule="one-cycle") for s in (0.075, 0.475)] == pytest.approx([0.04 + 0.96 * up, down])
    assert [at(s, schedule="exponential", decay=0.01) for s in (0, 0.5, 1)] == pytest.approx([1, 0.1, 0.01])


def test_the_learning_rate_follows_schedule_and_scale(make):
    trainer = make("cross-stitch[rate=100]", "train.schedule='cosine'", "train.lr=0.01")
    trainer.step()
    trainer.step()
    rates = {group["scale"]: group["lr"] for group in trainer.optimiser.param_groups}
    factor = 0.5 * (1 + math.cos(math.pi / 6))
    assert rates == pytest.approx({1.0: 0.01 * factor, 100.0: factor})
    (units,) = (g["params"] for g in trainer.optimiser.param_groups if g["scale"] == 100)
    assert [id(p) for p in units] == [id(p) for p in trainer.architecture.units]


def test_weight_decay_is_for_the_weights_of_layers_alone(make):
    """The modulation paper has no penalty on its vectors, nor has anyone on stitching units or batch norms."""
    for method in ("modulation", "cross-stitch"):
        trainer = make(method, "train.weight_decay=0.3")
        decayed = {id(p) for g in trainer.optimiser.param_groups if g["weight_decay"] for p in g["params"]}
        layers = [m for m in trainer.architecture.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert decayed == {id(layer.weight) for layer in layers}
        assert {g["weight_decay"] for g in trainer.optimiser.param_groups} == {0.0, 0.3}
        assert sum(len(g["params"]) for g in trainer.optimiser.param_groups) == len(
            list(trainer.architecture.parameters())
        )


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "adagrad"])
def test_stitching_units_stay_near_their_start_in_the_first_steps(make, optimiser):
    trainer = make("cross-stitch", f"train.optimiser='{optimiser}'", "train.lr=0.003", "train.schedule='constant'")
    for _ in range(3):
        trainer.step()
    for unit in trainer.architecture.units:
        moved = (unit - torch.tensor([[0.9, 0.1], [0.1, 0.9]])).abs().max()
        assert 0 < moved < 0.05


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "adagrad", "sgd"])
def test_every_optimiser_trains(make, optimiser):
    trainer = make("shared", f"train.optimiser='{optimiser}'", "train.steps=2", "evaluation.every=2")
    before = [p.clone() for p in trainer.architecture.parameters()]
    trainer.run()
    assert type(trainer.optimiser).__name__.lower() == optimiser
    assert not any(torch.equal(a, b) for a, b in zip(before, trainer.architecture.parameters(), strict=True))


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="--device nonsense"):
        choose_device("nonsense")
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"
    assert choose_precision("auto", torch.device("cpu")) in ("fp32", "bf16")


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", ["per-task", "joint"])
@pytest.mark.parametrize("method", ["shared", "modulation", "cross-stitch", "gradnorm"])
def test_the_same_seed_gives_the_same_run_and_another_seed_another(make, method, sampling):
    def run(seed: int) -> dict[str, Tensor]:
        trainer = make(method, f"train.sampling='{sampling}'", "train.steps=3", seed=seed)
        trainer.run()
        return {k: v.clone() for k, v in trainer.architecture.state_dict().items()}

    assert equal(run(0), run(0))
    assert not equal(run(0), run(1))


def test_nets_trained_together_are_bit_for_bit_the_nets_trained_alone(make):
    settings = ("train.sampling='per-task'", "train.steps=5", "evaluation.every=5")
    together = make("independent", *settings)
    alone = [make("independent", *settings, dataset=make_dataset((task,))) for task in TASKS]
    for trainer in (together, *alone):
        trainer.run()
    for t, trainer in enumerate(alone):
        mine = together.architecture.nets[t].state_dict()
        assert equal(mine, trainer.architecture.nets[0].state_dict())
        assert trainer.state.curve[-1][f"loss/{TASKS[t]}"] == together.state.curve[-1][f"loss/{TASKS[t]}"]


@pytest.mark.parametrize("sampling", ["per-task", "joint"])
@pytest.mark.parametrize("method", ["single", "shared", "modulation", "cross-stitch", "independent", "gradnorm"])
def test_the_tasks_order_does_not_change_what_is_learned(make, method, sampling):
    settings = (f"train.sampling='{sampling}'", "train.steps=3", "evaluation.every=3")
    one = make(method, *settings)
    other = make(method, *settings, dataset=make_dataset(TASKS[::-1]))
    for trainer in (one, other):
        trainer.run()
    index = one.triplets.images
    a = embed_images(one.architecture, one.dataset, index, "fp32")
    b = embed_images(other.architecture, other.dataset, index, "fp32")
    torch.testing.assert_close(a, b.flip(0), rtol=1e-2, atol=1e-2)


def test_training_learns_what_there_is_to_learn(make):
    trainer = make("shared", "train.steps=80", "evaluation.every=40", "train.lr=0.003")
    trainer.run()
    first, last = trainer.state.curve[0], trainer.state.curve[-1]
    assert trainer.state.best_accuracy > 0.7
    assert all(last[f"loss/{t}"] < 0.7 * first[f"loss/{t}"] for t in TASKS)


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(make):
    settings = ("train.steps=12", "evaluation.every=4", "train.sampling='joint'")
    for method in ("gradnorm", "cross-stitch"):
        whole = make(method, *settings)
        whole.run()

        kept: dict[str, object] = {}
        first = make(method, *settings)

        def keep(trainer: Trainer = first, kept: dict[str, object] = kept) -> None:
            state = trainer.state
            kept.update(tensors=trainer.tensors(), state=replace(state, curve=[dict(r) for r in state.curve]))

        with pytest.raises(Interrupted):
            first.run(save=keep, stop=lambda trainer=first: trainer.state.step == 6)
        assert isinstance(kept["state"], State)
        assert kept["state"].step == 6
        second = make(method, *settings)
        second.restore(kept["tensors"], kept["state"])
        second.run()
        assert equal(whole.architecture.state_dict(), second.architecture.state_dict())
        assert equal(whole.balancer.state_dict(), second.balancer.state_dict())
        assert second.state.accuracy == whole.state.accuracy
        assert [r["step"] for r in second.state.curve] == [r["step"] for r in whole.state.curve]


def test_the_best_checkpoint_by_validation_is_kept(make, monkeypatch):
    trainer = make("shared", "train.steps=12", "evaluation.every=3")
    scores = iter([0.6, 0.9, 0.7, 0.9])  # of equals the first
    seen: list[dict[str, Tensor]] = []

    def hits(self: HeldOutTriplets, embeddings: Tensor, normalise: bool) -> Tensor:
        seen.append({k: v.clone() for k, v in trainer.architecture.state_dict().items()})
        return (torch.arange(100) < 100 * next(scores)).expand(2, -1)

    monkeypatch.setattr(HeldOutTriplets, "hits", hits)
    trainer.run()
    assert len(seen) == 4
    assert trainer.state.best_step == 6
    assert trainer.state.best_accuracy == pytest.approx(0.9)
    assert equal(trainer.architecture.state_dict(), seen[1])


def test_training_never_sees_the_test_split(make):
    dataset = make_dataset()
    poisoned = dataset.images.clone()
    poisoned[dataset.split == 2] = 255 - poisoned[dataset.split == 2]
    labels = dataset.labels.clone()
    labels[:, dataset.split == 2] = 0

    def weights(data: Dataset) -> dict[str, Tensor]:
        trainer = make("shared", dataset=data)
        trainer.run()
        return trainer.architecture.state_dict()

    assert equal(weights(dataset), weights(replace(dataset, images=poisoned, labels=labels)))


def test_questions_belong_to_the_benchmark_not_to_the_run(make):
    dataset, benchmark = make_dataset(), protocol()
    assert torch.equal(make(seed=0).triplets.triplets, make(seed=5).triplets.triplets)
    other = HeldOutTriplets.draw(make_dataset(TASKS[::-1]), benchmark, "test")
    mine = HeldOutTriplets.draw(dataset, benchmark, "test")
    assert torch.equal(mine.triplets, other.triplets.flip(0))
    assert (dataset.split[mine.images] == 2).all()
    assert not torch.equal(mine.triplets, HeldOutTriplets.draw(dataset, protocol("evaluation.seed=1"), "test").triplets)


def test_every_step_is_logged_with_weights_and_their_sum(make):
    trainer = make("gradnorm")
    trainer.run()
    rows = trainer.state.curve
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert row["weight_sum"] == pytest.approx(2)
        assert row["weight/colour"] + row["weight/shape"] == pytest.approx(2)
        assert row["gradient_norm"] > 0
    assert rows[0]["weight/colour"] == 1
    assert rows[-1]["weight/colour"] != 1
    assert rows[0]["gradient_norm/colour"] > 0
    assert [row["step"] for row in rows if "accuracy" in row] == [3, 6]


def test_steps_in_which_a_balancer_decided_nothing_or_for_one_task_alone_are_counted():
    curve, state = Curve(TASKS, 6), State()
    for weights in ([1.0, 1.0], [1.005, 0.995], [1.02, 0.98], [0.0, 2.0], [0.015, 1.985], [0.03, 1.97]):
        curve.log(torch.ones(2), torch.tensor(weights), None, torch.ones(()))
        state.step += 1
        curve.flush(state, 0.1, close=state.step % 2 == 0)
    assert (state.even_steps, state.single_steps) == (2, 2)


def test_how_long_a_balancers_weights_stood_still_is_a_share_of_the_curve():
    rows = [{"weight/colour": w, "weight/shape": 2 - w} for w in (1.0, 1.2, 1.696, 1.704, 1.7)]
    assert constant_share(rows, ("colour", "shape")) == 0.6
    assert constant_share([], ("colour", "shape")) == 0


def test_how_far_a_balancers_weights_were_from_the_plain_means_is_that_of_steps_in_a_long_run_too():
    curve, state = Curve(TASKS, 4000), State()  # a row of the curve is the mean of four steps
    for weights in ([1.0, 1.0], [1.5, 0.5], [0.5, 1.5], [1.0, 0.75]):
        curve.log(torch.ones(2), torch.tensor(weights), None, torch.ones(()))
    state.step = 4
    curve.flush(state, 0.1, close=False)
    (row,) = state.curve
    assert [row[f"weight/{task}"] for task in TASKS] == [1.0, 0.9375]
    assert state.farthest_weight == 0.5
    curve.flush(state, 0.1, close=True)
    assert state.farthest_weight == 0.5


def test_a_balancer_may_hold_norms_from_its_first_step_on(make):
    trainer = make("shared+gradnorm")
    trainer.balancer.gradient_norms = None
    trainer.step()
    trainer.curve.flush(trainer.state, 0.1, close=True)
    assert trainer.state.curve[0]["gradient_norm/colour"] > 0


def test_norms_at_some_steps_alone_are_refused():
    curve = Curve(TASKS, 2)
    curve.log(torch.ones(2), torch.ones(2), None, torch.ones(()))
    with pytest.raises(TrainingError, match="gradient_norms after some steps and None after others"):
        curve.log(torch.ones(2), torch.ones(2), torch.ones(2), torch.ones(()))


def test_a_balancers_weights_over_a_run_are_those_of_its_steps_and_their_range():
    measure = tool("balancer_weights")
    settings = protocol("train.sampling='joint'", "train.steps=6")
    weights, even, single = measure.weights_of("dwa[every=2]", settings, make_dataset())
    assert weights.shape == (6, 2)
    assert weights[:4].tolist() == [[1, 1]] * 4
    assert (abs(weights[4:] - 1) > 1e-6).all()
    assert even >= 4 / 6
    assert single == 0
    piled = np.array([[0.0, 2.0], [0.0, 2.0], [0.5, 1.5], [0.005, 1.995]])
    assert measure.described("one", piled, 0.0, 0.75)[:6] == [
        "one", "0.00 to 2.00", "0.00 to 2.00", "0 %", "75 %", "75 %"
    ]  # fmt: skip


def test_a_long_runs_curve_is_thinned_to_means(make, monkeypatch):
    monkeypatch.setattr("mtlbench.training.curve.CURVE_ROWS", 3)
    trainer = make("shared")
    trainer.run()
    thin = trainer.state.curve
    monkeypatch.setattr("mtlbench.training.curve.CURVE_ROWS", 1000)
    trainer = make("shared")
    trainer.run()
    full = trainer.state.curve
    assert [row["step"] for row in thin] == [2, 3, 5, 6]
    assert thin[0]["loss/shape"] == pytest.approx((full[0]["loss/shape"] + full[1]["loss/shape"]) / 2)


@pytest.mark.parametrize("sampling", ["per-task", "joint"])
def test_a_step_draws_the_same_number_of_images_for_every_method(make, sampling):
    counts, batch = set(), Dataset.batch
    for method in ("single", "independent", "cross-stitch"):
        trainer = make(method, f"train.sampling='{sampling}'")
        trainer.step()  # the first batch is drawn twice, to be compared
        drawn: list[int] = []

        def count(self: Dataset, index: Tensor, *rest: object, seen: list[int] = drawn) -> Tensor:
            seen.append(len(index))
            return batch(self, index, *rest)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Dataset, "batch", count)
            trainer.step()
        counts.add(sum(drawn))
        assert sum(drawn) == trainer.images_per_step
    assert counts == {2 * 4 * 3}


def test_bfloat16_trains_too(make):
    trainer = Trainer(parse_method("modulation"), protocol("train.steps=2"), make_dataset(), 0, "bf16")
    trainer.run()
    assert all(p.dtype == torch.float32 for p in trainer.architecture.parameters())
    embeddings = embed_images(trainer.architecture, trainer.dataset, trainer.triplets.images, "bf16")
    assert embeddings.dtype == torch.float32
    assert embeddings.isfinite().all()


def test_a_tensor_with_two_names_is_kept_once_and_restored(make):
    class Aliased(type(make("single").architecture)):  # type: ignore[misc]
        def __init__(self, *parts: object) -> None:
            super().__init__(*parts)
            self.also_head = self.net.head

    ARCHITECTURES.add("aliased", Aliased)
    try:
        trainer = make("aliased", "train.steps=4", "evaluation.every=2")
        trainer.step()
        tensors = trainer.tensors()
        assert not any("also_head" in name for name in tensors)
        other = make("aliased", "train.steps=4", "evaluation.every=2", seed=1)
        trainer.validate()
        other.restore(trainer.tensors(), trainer.state)
        assert equal(other.architecture.state_dict(), trainer.architecture.state_dict())
        trainer.run()
        names = weights_of(trainer.architecture)
        assert storage(trainer.architecture)["bytes"] == sum(t.nbytes for t in names.values())
    finally:
        del ARCHITECTURES.entries["aliased"]


# --- when things go wrong ---------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_task_and_step(make):
    trainer = make("shared", "train.sampling='per-task'")
    trainer.step()
    with torch.no_grad():
        trainer.architecture.heads[1][-1].weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss of shape became nan at step 2"):
        trainer.run()


def test_a_collapse_in_training_is_remembered_though_an_earlier_checkpoint_is_chosen(make):
    trainer = make("shared", "train.steps=6", "evaluation.every=3")
    for _ in range(3):
        trainer.step()
    trainer.validate()
    assert trainer.state.collapsed == []
    with torch.no_grad():
        for parameter in trainer.architecture.heads[1].parameters():
            parameter.zero_()
        trainer.architecture.heads[1][-1].bias.fill_(1)
    trainer.validate()
    assert trainer.state.collapsed == ["shape"]
    assert trainer.state.best_step == 3


def test_collapse_is_seen_and_healthy_embeddings_are_not_called_collapsed():
    dataset, benchmark = make_dataset(), protocol()
    held_out = HeldOutTriplets.draw(dataset, benchmark, "test")
    torch.manual_seed(0)
    healthy = torch.randn(1, 18, 8)
    point = torch.randn(1, 1, 8)
    nearly = point + 1e-3 * healthy
    ball = torch.cat([nearly, healthy])
    for protocol_ in (Embedding(), Embedding(distance="plain")):
        assert collapsed_tasks(ball, held_out, protocol_).tolist() == [True, False]
    assert collapsed_tasks(0 * ball, held_out, Embedding(normalise=False)).tolist() == [True, True]
    assert collapsed_tasks(ball * float("nan"), held_out, Embedding()).tolist() == [True, True]
    # unnormalised: a tiny ball is collapsed by its size, not by its direction
    tiny = 1e-3 * torch.cat([healthy, healthy])
    assert collapsed_tasks(tiny, held_out, Embedding(normalise=False)).tolist() == [True, True]
    assert collapsed_tasks(tiny, held_out, Embedding()).tolist() == [False, False]
