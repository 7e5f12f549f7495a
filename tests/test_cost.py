"""Costs against counts by hand. Nothing is asserted about how fast anything is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import make_dataset, protocol
from torch import Tensor, nn

from mtlbench import cost
from mtlbench.architecture import Architecture
from mtlbench.jobs.measure import measure, memory_of
from mtlbench.networks import EMBEDDING_BATCH, build
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

load_plugins()


@pytest.fixture
def cheap_costs() -> None:
    """Times are repeated here as in a run."""


class TwoLayers(Architecture):
    """A shared 3x3 convolution with batch norm, and a linear layer a task on its mean."""

    def __init__(self, tasks: int = 2) -> None:
        nn.Module.__init__(self)
        self.tasks = tuple(f"task {t}" for t in range(tasks))
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.heads = nn.ModuleList([nn.Linear(4, 5) for _ in self.tasks])
        self.tied = self.conv  # the same tensor under a second name is stored, and counted, once

    def embed(self, images: Tensor) -> Tensor:
        features = self.norm(self.conv(images)).mean((2, 3))
        return torch.stack([head(features) for head in self.heads])

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self.embed(group)[t] for t, group in enumerate(images)])

    def task_state(self, task: int) -> tuple[nn.Module]:
        return (self.heads[task],)


def test_storage_by_hand():
    shared, own = 4 * 3 * 9 + 4 + 4, 4 * 5 + 5
    buffers = 4 + 4  # batch norm's mean and variance; its counter of steps is not deployed
    assert cost.storage(TwoLayers(3)) == {
        "parameters": shared + 3 * own,
        "parameters_shared": shared,
        "parameters_per_task": own,
        "bytes": 4 * (shared + buffers + 3 * own),
        "bytes_shared": 4 * (shared + buffers),
        "bytes_per_task": 4 * own,
    }


def test_operations_by_hand():
    counts = cost.operations(TwoLayers(2), torch.zeros(1, 3, 10, 10))
    convolution, head = 2 * 8 * 8 * 4 * 3 * 9, 2 * 4 * 5
    assert counts == {"flops_one_task": convolution + 2 * head, "flops_all_tasks": convolution + 2 * head}


def test_the_papers_storage_by_its_own_arithmetic():
    """2,953,664 parameters, and 512 numbers, 2 kB, for every further task."""
    benchmark = protocol("model.backbone='paper'", "model.embedding=256", "data.image_size=150")
    added = cost.added_by_one_task(parse_method("modulation"), benchmark, ("a", "b"))
    assert added == {"parameters_added": 512, "bytes_added": 2048}
    added = cost.added_by_one_task(parse_method("independent"), benchmark, ("a", "b"))
    assert added["parameters_added"] == 2_953_664
    assert cost.added_by_one_task(parse_method("single"), benchmark, ("a", "b"))["bytes_added"] == 0


def test_cross_stitch_pays_for_its_units_too():
    benchmark = protocol()
    net = parse_method("independent")
    alone = cost.added_by_one_task(net, benchmark, ("a", "b", "c"))["parameters_added"]
    stitched = cost.added_by_one_task(parse_method("cross-stitch"), benchmark, ("a", "b", "c"))["parameters_added"]
    assert stitched - alone == 3 * (4 * 4 - 3 * 3)  # three units of the four-stage network


def test_the_law_of_storage_holds_for_any_number_of_tasks():
    benchmark = protocol()
    for name, law in {"independent": (0, None, 0), "single": (None, 0, 0), "cross-stitch": (0, None, 3)}.items():
        found = cost.storage_law(parse_method(name), benchmark)
        assert all(wanted is None or part == wanted for part, wanted in zip(found, law, strict=True))
    a, b, c = cost.storage_law(parse_method("modulation"), benchmark)
    with torch.device("meta"):
        net = build(parse_method("modulation"), benchmark, tuple(f"task {t}" for t in range(11)), 0)[0]
    assert a + 11 * b + 121 * c == sum(p.numel() for p in net.parameters())


def test_times_are_repeated_after_a_warm_up_and_slow_work_less_often(monkeypatch):
    calls: list[int] = []
    times = cost.seconds_each(lambda: calls.append(1), torch.device("cpu"), enough=0)
    assert len(calls) == 6
    assert len(times) == 5
    clock = iter(range(100))
    monkeypatch.setattr("mtlbench.cost.time.perf_counter", lambda: 2.0 * next(clock))
    calls.clear()
    assert cost.seconds_each(lambda: calls.append(1), torch.device("cpu")) == [2.0, 2.0]
    assert len(calls) == 3
    clock = iter(range(100))
    monkeypatch.setattr("mtlbench.cost.time.perf_counter", lambda: 0.1 * next(clock))
    assert len(cost.seconds_each(lambda: None, torch.device("cpu"), enough=0.75)) == 8


def test_the_range_of_a_speed_does_not_grow_with_the_number_of_repeats():
    random = np.random.default_rng(0)
    for repeats in (20, 500):
        steady = np.exp(random.normal(0, 0.03, repeats))
        steady[2::200] *= 3  # the machine did something else
        rates = cost._rates("x", 100, steady.tolist())
        assert rates["x_fastest"] - rates["x_slowest"] < 0.1 * rates["x"]
        assert rates["x_slowest"] <= rates["x"] <= rates["x_fastest"]
    drifting = np.linspace(1, 2, 500).tolist()
    rates = cost._rates("x", 100, drifting)
    assert rates["x_fastest"] - rates["x_slowest"] > 0.4 * rates["x"]


def test_rates_are_the_median_with_slowest_and_fastest():
    assert cost._rates("x", 100, [1.0, 4.0, 2.0]) == {"x": 50, "x_slowest": 25, "x_fastest": 100}


def test_embedding_speeds_are_of_images_whatever_the_number_of_tasks(monkeypatch):
    ran: list[tuple[str, int, bool, bool]] = []

    class Noted(TwoLayers):
        def embed(self, images: Tensor) -> Tensor:
            ran.append(("all", len(images), self.training, torch.is_grad_enabled()))
            return super().embed(images)

        def embed_task(self, images: Tensor, task: int) -> Tensor:
            ran.append(("one", len(images), self.training, torch.is_grad_enabled()))
            return self.heads[task](self.norm(self.conv(images)).mean((2, 3)))

    monkeypatch.setattr(cost, "seconds_each", lambda work, device: [0.5] if work() is not None else [])
    rates = cost.embedding_rates(Noted(3).train(), torch.zeros(8, 3, 10, 10), "fp32")
    assert len(rates) == 6
    assert set(rates.values()) == {8 / 0.5}
    assert ran == [("one", 8, False, False), ("all", 8, False, False)]
    assert cost.training_rate(lambda: 0, 24, torch.device("cpu"))["train_rate"] == 48


def test_speeds_are_measured_with_a_steps_images_and_whole_batches(monkeypatch):
    asked: dict[str, int] = {}
    monkeypatch.setattr(cost, "training_rate", lambda step, images, device: asked.update(training=images) or {})
    monkeypatch.setattr(cost, "embedding_rates", lambda net, images, how: asked.update(embedding=len(images)) or {})
    for others in ("operations", "storage", "added_by_one_task"):
        monkeypatch.setattr(cost, others, lambda *_: {})
    for others in ("file_size", "training_memory"):
        monkeypatch.setattr(cost, others, lambda *_: None)
    benchmark, dataset = protocol(), make_dataset()
    assert len(dataset.members("val")) < EMBEDDING_BATCH
    measure(parse_method("shared"), benchmark, dataset, "fp32")
    assert asked == {"training": 24, "embedding": EMBEDDING_BATCH}


def test_training_memory_holds_the_network_its_gradients_and_what_the_optimiser_keeps():
    trainer = Trainer(parse_method("shared"), protocol("model.embedding=512"), make_dataset(), 0, "fp32")
    trainer.step()
    weights = sum(p.numel() * 4 for p in trainer.architecture.parameters())
    memory = memory_of(trainer)
    assert memory is not None
    # weights, two moments of AdamW and gradients, and then the activations of 24 images of 24 px: a few megabytes
    assert 4 * weights < memory < 4 * weights + 50e6
    small = Trainer(parse_method("shared"), protocol("model.embedding=8"), make_dataset(), 0, "fp32")
    small.step()
    fewer = weights - sum(p.numel() * 4 for p in small.architecture.parameters())
    assert memory - memory_of(small) == pytest.approx(4 * fewer, rel=0.3)


def test_training_memory_is_the_peak_of_a_step_beside_what_is_kept():
    kept = [torch.zeros(1000)]
    found = cost.training_memory(lambda: torch.ones(2_000_000).sum(), [*kept, *kept], torch.device("cpu"))
    assert 4 * 2_001_000 <= found < 4 * 2_010_000  # what is kept counts once, and what a step frees again counts


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("sdmgrad", 1),  # the latest batch's gradients, (T, P)
        ("excess-mtl", 1),  # the sums of their squares
        ("pcgrad", 0),
        ("nash-mtl", 0),
    ],
)
def test_training_memory_holds_what_the_balancer_keeps_between_steps(monkeypatch, name, rows):
    kept: dict[str, int] = {}
    monkeypatch.setattr(cost, "training_memory", lambda step, tensors, device: sum(t.nbytes for t in tensors))
    for method in ("shared", f"shared+{name}"):
        trainer = Trainer(parse_method(method), protocol(), make_dataset(), 0, "fp32")
        trainer.step()
        kept[method] = memory_of(trainer)
        shared = sum(p.nbytes for p in trainer.architecture.shared_parameters())
        number = len(trainer.dataset.tasks)
    more = kept[f"shared+{name}"] - kept["shared"]
    assert rows * number * shared <= more < rows * number * shared + 2000  # and some numbers for each task


def test_measuring_leaves_every_figure_that_the_table_shows():
    costs = measure(parse_method("modulation"), protocol(), make_dataset(), "fp32")
    assert costs["bytes"] < costs["file_bytes"] < costs["bytes"] * 1.1
    for rate in ("train_rate", "embed_rate_one_task", "embed_rate_all_tasks"):
        assert costs[f"{rate}_slowest"] <= costs[rate] <= costs[f"{rate}_fastest"]
    assert costs["flops_one_task"] < costs["flops_all_tasks"]


@pytest.mark.slow
def test_what_embedding_costs_is_counted_on_the_trained_network_and_training_on_the_one_that_starts():
    """All four experts of dselect-k run at the start, for its selectors are open; a trained one has chosen."""
    method, benchmark, dataset = parse_method("dselect-k[k=1]"), protocol(), make_dataset()
    trained, _ = build(method, benchmark, dataset.tasks, 0)
    started = cost.operations(trained, dataset.batch(torch.tensor([0])))
    with torch.no_grad():
        for gate in trained.gates:
            gate.z.fill_(10.0)  # the smooth-step's end: the last expert alone
    weights = cost.weights_of(trained)
    as_built, chosen = measure(method, benchmark, dataset, "fp32"), measure(method, benchmark, dataset, "fp32", weights)
    assert as_built["flops_one_task"] == started["flops_one_task"]
    assert chosen["flops_one_task"] < 0.7 * started["flops_one_task"]
    assert chosen["flops_all_tasks"] == as_built["flops_all_tasks"]


def test_operations_under_one_task_are_the_mean_over_tasks():
    """One task's selector has settled on one expert, the other's on two."""
    net, _ = build(parse_method("dselect-k[k=2]"), protocol(), ("a", "b"), 0)
    image, counts = torch.zeros(1, 3, *protocol().data.size), []
    net.eval()
    same, two = [10.0, 10.0, 10.0, 10.0], [10.0, 10.0, -10.0, -10.0]  # the bits of two selectors of four experts
    for settled in ((same, two), (two, same)):
        with torch.no_grad():
            for gate, bits in zip(net.gates, settled, strict=True):
                gate.z.copy_(torch.tensor(bits))
        assert [int((gate()[0] > 0).sum()) for gate in net.gates] == [1 if bits is same else 2 for bits in settled]
        counts.append(cost.operations(net, image)["flops_one_task"])
    assert counts[0] == counts[1]


def test_weights_of_another_method_are_refused_rather_than_measured():
    weights = cost.weights_of(build(parse_method("shared"), protocol(), make_dataset().tasks, 0)[0])
    with pytest.raises(KeyError, match="other names"):
        measure(parse_method("modulation"), protocol(), make_dataset(), "fp32", weights)


def test_a_step_whose_speed_is_measured_holds_the_second_pass_of_a_balancer_that_judges_by_the_same_batch(monkeypatch):
    """FAMO's weights want the losses after the step."""
    losses, passes, counted = Trainer.losses, [], []

    def rate(step, images, device):
        passes.clear()
        step()
        counted.append(len(passes))
        return {}

    monkeypatch.setattr(Trainer, "losses", lambda self, *given: passes.append(1) or losses(self, *given))
    monkeypatch.setattr(cost, "training_rate", rate)
    monkeypatch.setattr(cost, "embedding_rates", lambda *rest: {})
    for method in ("shared", "shared+famo"):
        measure(parse_method(method), protocol(), make_dataset(), "fp32")
    assert counted == [1, 2]
