"""How the tasks' gradients agree: known angles, which parameters count, and that probes leave no trace in training."""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import TASKS, make_dataset, protocol
from torch import Tensor, nn

from mtlbench import Architecture, register_architecture
from mtlbench.agreement import cosines, gramians
from mtlbench.backbones import BackboneFactory
from mtlbench.data.dataset import Dataset
from mtlbench.devices import named_generator
from mtlbench.errors import UserError
from mtlbench.jobs.execute import execute
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.plan import plan
from mtlbench.plugins import load_plugins
from mtlbench.probes import ALL, pairs, rows
from mtlbench.runs import read_record
from mtlbench.specs import parse_methods
from mtlbench.training.loop import Trainer
from mtlbench.training.state import Interrupted

load_plugins()

PROBED = ("train.steps=12", "evaluation.every=6", "evaluation.agreement_every=3")


class Line(Architecture):
    """Two shared layers, vectors of three numbers each, and a vector of each task's own."""

    def __init__(self, tasks: tuple[str, ...]) -> None:
        nn.Module.__init__(self)
        self.tasks = tasks
        self.low, self.high = nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)
        self.own = nn.ParameterList(torch.zeros(3) for _ in tasks)

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def task_state(self, task: int) -> tuple[nn.Parameter, ...]:
        return (list(self.own.parameters())[task],)


def losses_with(net: Line, low: Tensor, high: Tensor | None = None, own: Tensor | None = None) -> Tensor:
    """Losses whose gradients on `low`, `high` and the tasks' own vectors are the rows given, (T, 3) each."""
    found = low @ net.low.weight[0]
    if high is not None:
        found = found + high @ net.high.weight[0]
    if own is not None:
        found = found + (own * torch.stack(list(net.own.parameters()))).sum(1)
    return found


def at_angles(*degrees: float, lengths: tuple[float, ...] | None = None) -> Tensor:
    """(n, 3) vectors in a plane, at these angles to the first axis."""
    turned = torch.tensor([math.radians(d) for d in degrees], dtype=torch.float64)
    sizes = torch.tensor(lengths or (1.0,) * len(degrees), dtype=torch.float64)
    return (torch.stack([turned.cos(), turned.sin(), 0 * turned], dim=1) * sizes[:, None]).float()


# --- the measure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("degrees", "cosine"), [(0, 1.0), (60, 0.5), (90, 0.0), (120, -0.5), (180, -1.0)])
def test_gradients_at_a_known_angle_have_its_cosine_whatever_their_lengths(degrees, cosine):
    for lengths in ((1.0, 1.0), (1e-9, 1e9)):
        net = Line(("a", "b"))
        (found,) = cosines(gramians(losses_with(net, at_angles(0, degrees, lengths=lengths)), net)[ALL])
        assert found == pytest.approx(cosine, abs=1e-6)


def test_cosines_stand_in_the_order_of_the_pairs():
    net, angles = Line(("a", "b", "c", "d")), (0, 60, 90, 180)
    found = cosines(gramians(losses_with(net, at_angles(*angles)), net)[ALL])
    expected = [math.cos(math.radians(y - x)) for x, y in combinations(angles, 2)]
    assert found == pytest.approx(expected, abs=1e-6)
    assert pairs(net.tasks) == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]


def test_the_sign_of_nearly_orthogonal_gradients_is_kept():
    rows_ = torch.tensor([[1.0, 0, 0], [1e-9, 1, 0], [-1e-9, 1, 0]])
    net = Line(("a", "b", "c"))
    near, opposed, _ = cosines(gramians(losses_with(net, rows_), net)[ALL])
    assert near == pytest.approx(1e-9)
    assert opposed == pytest.approx(-1e-9)


def test_what_a_single_task_owns_does_not_count():
    net, low = Line(("a", "b")), at_angles(0, 60)
    pulled = losses_with(net, low, own=torch.tensor([[5.0, 0, 0], [-5.0, 0, 0]]))
    assert cosines(gramians(pulled, net)[ALL]) == pytest.approx([0.5], abs=1e-6)


def test_parameters_that_are_not_trained_do_not_count():
    net = Line(("a", "b"))
    net.high.weight.requires_grad_(False)
    opposed = losses_with(net, at_angles(0, 60), high=at_angles(0, 180, lengths=(9, 9)))
    assert cosines(gramians(opposed, net)[ALL]) == pytest.approx([0.5], abs=1e-6)


def test_a_gradient_of_zero_agrees_with_nobody_and_opposes_nobody():
    net = Line(("a", "b", "c"))
    low = at_angles(0, 60, 0)
    low[1] = 0
    assert cosines(gramians(losses_with(net, low), net)[ALL]) == [None, pytest.approx(1), None]


def test_a_gradient_that_is_not_finite_has_no_cosine():
    net = Line(("a", "b"))
    low = at_angles(0, 60)
    low[1, 2] = float("inf")
    assert cosines(gramians(losses_with(net, low), net)[ALL]) == [None]


def test_layers_are_told_apart_and_add_up_to_all():
    net = Line(("a", "b"))
    losses = losses_with(net, at_angles(0, 0, lengths=(1, 1)), at_angles(0, 180, lengths=(2, 1)))
    found = gramians(losses, net, by_layer=True)
    assert list(found) == [ALL, "low", "high"]
    assert cosines(found["low"]) == pytest.approx([1])
    assert cosines(found["high"]) == pytest.approx([-1])
    assert cosines(found[ALL]) == pytest.approx([(1 - 2) / math.sqrt(5 * 2)])
    torch.testing.assert_close(found["low"] + found["high"], found[ALL])
    assert list(gramians(losses, net)) == [ALL]


def test_a_layer_that_a_task_does_not_reach_still_counts_in_its_length():
    net = Line(("a", "b"))
    losses = torch.stack([net.low.weight[0, 0], net.low.weight[0, 0] + net.high.weight[0, 0]])
    found = gramians(losses, net, by_layer=True)
    assert cosines(found["high"]) == [None]
    assert cosines(found[ALL]) == pytest.approx([1 / math.sqrt(2)])


def test_rows_name_step_layer_and_both_tasks_and_leave_no_cosine_empty():
    found = rows([{"step": 3, "layer": "all", "cosines": [0.5, None, -1.0]}], ("a", "b", "c"))
    assert [tuple(row.values()) for row in found] == [
        ("3", "all", "a", "b", "0.5"),
        ("3", "all", "a", "c", ""),
        ("3", "all", "b", "c", "-1"),
    ]


# --- probes in training -----------------------------------------------------------------------------------------------


@pytest.fixture
def dropout() -> str:
    """A shared network that draws from torch's own random state, and that counts its passes in a buffer it replaces."""

    @register_architecture("dropout")
    class Dropout(Architecture):
        """Drops half of the embedding."""

        passes: Tensor

        def __init__(self, backbones: BackboneFactory, tasks: tuple[str, ...]) -> None:
            super().__init__(backbones, tasks)
            self.net = backbones.backbone()
            self.drop = nn.Dropout(0.5)
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, images: Tensor) -> Tensor:
            self.passes = self.passes + self.training
            embeddings: Tensor = self.drop(self.net(images.flatten(0, 1))).unflatten(0, images.shape[:2])
            return embeddings

    return "dropout"


def trainer_of(method: str, *settings: str, seed: int = 0, dataset: Dataset | None = None) -> Trainer:
    (parsed,) = parse_methods(method)
    return Trainer(parsed, protocol(*settings), dataset or make_dataset(), seed, "fp32")


def traces(trainer: Trainer) -> dict[str, object]:
    """All that a run leaves but seconds and the probes themselves."""
    curve = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.state.curve]
    tensors = {k: (str(v.dtype), v.numpy().tobytes()) for k, v in trainer.tensors().items()}
    return {"curve": curve, "best": trainer.state.best_step, "at": trainer.state.accuracy, **tensors}


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["per-task", "joint"])
@pytest.mark.parametrize("method", ["modulation", "gradnorm", "cross-stitch", "csn", "dropout"])
def test_a_run_with_probes_is_bit_for_bit_the_run_without(dropout, method, sampling):
    plain = trainer_of(method, *PROBED[:2], f"train.sampling='{sampling}'")
    plain.run()
    probed = trainer_of(method, *PROBED, "evaluation.agreement_layers=true", f"train.sampling='{sampling}'")
    probed.run()
    assert traces(probed) == traces(plain)
    assert [p["step"] for p in probed.state.probes if p["layer"] == ALL] == [0, 3, 6, 9]
    assert plain.state.probes == []


def test_a_probe_leaves_mode_gradients_and_random_state_alone(dropout):
    trainer = trainer_of(dropout, *PROBED)
    trainer.step()
    trainer.architecture.eval()
    gradients = [p.grad.clone() for p in trainer.architecture.parameters() if p.grad is not None]
    passes, before = trainer.architecture.passes, traces(trainer)
    trainer.probe()
    assert not trainer.architecture.training
    assert trainer.architecture.passes is passes
    assert traces(trainer) == before
    after = [p.grad for p in trainer.architecture.parameters() if p.grad is not None]
    assert len(after) == len(gradients) > 0
    assert all(torch.equal(a, b) for a, b in zip(after, gradients, strict=True))


def test_a_probe_that_fails_leaves_no_trace_either(monkeypatch):
    trainer = trainer_of("shared", *PROBED)
    trainer.step()
    before = traces(trainer)

    def refuse(*rest: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mtlbench.training.probe.gramians", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.probe()
    assert traces(trainer) == before


@pytest.mark.parametrize("stopped", [5, 6])
def test_probes_of_an_interrupted_run_are_those_of_a_whole_one(dropout, stopped):
    whole = trainer_of(dropout, *PROBED)
    whole.run()
    first, kept = trainer_of(dropout, *PROBED), {}

    def keep() -> None:
        state = first.state
        kept.update(
            tensors=first.tensors(),
            state=replace(state, curve=[dict(r) for r in state.curve], probes=list(state.probes)),
        )

    with pytest.raises(Interrupted):
        first.run(save=keep, stop=lambda: first.state.step == stopped)
    second = trainer_of(dropout, *PROBED)
    second.restore(kept["tensors"], kept["state"])
    second.run()
    assert second.state.probes == whole.state.probes
    assert traces(second) == traces(whole)


def test_a_probes_seconds_are_not_trainings(monkeypatch):
    clock, probes = [0.0], []

    def tick() -> float:
        clock[0] += 0.001
        return clock[0]

    def slowly(*rest: object) -> dict[str, Tensor]:
        clock[0] += 100.0
        probes.append(clock[0])
        return {}

    monkeypatch.setattr("mtlbench.training.probe.gramians", slowly)
    monkeypatch.setattr("mtlbench.training.loop.time", SimpleNamespace(perf_counter=tick))
    trainer = trainer_of("shared", *PROBED)
    trainer.run()
    assert len(probes) >= 4
    assert 0 < trainer.state.seconds < 100


@pytest.mark.parametrize("sampling", ["per-task", "joint"])
def test_a_probe_has_the_gradients_that_back_propagating_each_loss_has(sampling):
    trainer = trainer_of("shared", *PROBED, f"train.sampling='{sampling}'")
    for _ in range(3):
        trainer.step()
    trainer.probe()
    generators = {t: named_generator(torch.device("cpu"), 0, "conflict", "3", t) for t in TASKS}
    batch = trainer.sampler.draw(generators)
    flat = []
    for task in range(2):
        net = copy.deepcopy(trainer.architecture)
        kept, trainer.architecture = trainer.architecture, net
        net.zero_grad()
        trainer.losses(batch)[task].backward()
        trainer.architecture = kept
        flat.append(torch.cat([p.grad.flatten() for p in net.trunk.parameters()]))
    (probe,) = trainer.state.probes
    assert probe["step"] == 3
    assert probe["cosines"] == pytest.approx([torch.cosine_similarity(*flat, dim=0).item()], abs=1e-4)


def test_the_balancers_weights_and_the_regulariser_are_left_out():
    """CSN and the same net without its norms agree, as GradNorm and the plain mean do, as long as weights are equal."""

    def first(method: str) -> list[float | None]:
        trainer = trainer_of(method, *PROBED)
        trainer.probe()
        return trainer.state.probes[0]["cosines"]

    assert first("csn[embedding_norm=100]") == first("csn[norms=false]")
    trainer = trainer_of("gradnorm", *PROBED)
    trainer.balancer.weights = torch.tensor([1.9, 0.1])
    trainer.probe()
    assert trainer.state.probes[0]["cosines"] == first("shared")


@pytest.mark.parametrize("sampling", ["per-task", "joint"])
def test_before_the_first_step_modulation_is_the_single_network(sampling):
    """Scales of 1 change nothing, and every method is probed on the same images."""
    found = []
    for method in ("single", "embedding-mask", "modulation[after=all]"):
        trainer = trainer_of(method, *PROBED, f"train.sampling='{sampling}'")
        trainer.probe()
        (probe,) = trainer.state.probes
        found.append(probe["cosines"])
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[2] == pytest.approx(found[0], abs=1e-4)


def test_every_probe_has_a_batch_of_its_own_from_the_training_split(monkeypatch):
    drawn: list[Tensor] = []
    batch = Dataset.batch
    trainer = trainer_of("single", *PROBED)

    def note(self: Dataset, index: Tensor, *rest: object) -> Tensor:
        drawn.append(index)
        return batch(self, index, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Dataset, "batch", note)
    trainer.probe()
    trainer.state.step = 3
    trainer.probe()
    other = trainer_of("modulation", *PROBED)
    other.state.step = 3
    other.probe()
    seeded = trainer_of("single", *PROBED)
    seeded.seed, seeded.state.step = 1, 3
    seeded.probe()
    assert (trainer.dataset.split[torch.cat(drawn)] == 0).all()
    first, second, third, of_another_seed = drawn
    assert not torch.equal(first, second)
    assert torch.equal(second, third)
    assert not torch.equal(third, of_another_seed)


def test_what_a_network_draws_in_a_probe_depends_on_seed_and_step_alone(dropout):
    trainer = trainer_of(dropout, *PROBED)
    for step in (0, 0, 3):
        torch.rand(7)
        trainer.state.step = step
        trainer.probe()
    first, second, third = (probe["cosines"] for probe in trainer.state.probes)
    assert first == second != third


def test_a_probe_whose_losses_have_no_gradient_has_no_cosine():
    trainer = trainer_of("single", *PROBED, "train.sampling='per-task'")
    with torch.no_grad():  # all images get the same embedding, and a squared distance of 0 has no gradient
        trainer.architecture.net.head[-1].weight.zero_()
    trainer.probe()
    assert trainer.state.probes[0]["cosines"] == [None]


# --- records ----------------------------------------------------------------------------------------------------------


def job_for(results: Path, method: str, *settings: str) -> Job:
    (job,) = plan(parse_methods(method), (0,), protocol(*settings), make_dataset(), "fp32", results)
    return job


def csv_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "agreement.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_record_holds_its_probes_also_when_it_was_interrupted(tmp_path):
    benchmark = protocol(*PROBED, "evaluation.agreement_layers=true")
    layers = ("evaluation.agreement_layers=true",)
    whole = job_for(tmp_path / "a", "modulation", *PROBED, *layers)
    execute(whole, benchmark, make_dataset(), "fp32", Watcher())
    found = csv_of(whole.folder)
    assert list(found[0]) == ["step", "layer", "task_a", "task_b", "cosine"]
    assert [(r["step"], r["task_a"], r["task_b"]) for r in found if r["layer"] == ALL] == [
        (str(step), *TASKS) for step in (0, 3, 6, 9)
    ]
    assert all(-1 <= float(row["cosine"]) <= 1 for row in found)
    trainer = Trainer(whole.method, benchmark, make_dataset(), 0, "fp32")
    holding = {n.rpartition(".")[0] for n, _ in trainer.architecture.named_parameters() if not n.startswith("scales")}
    assert {row["layer"] for row in found} == {ALL, *holding}

    job = job_for(tmp_path / "b", "modulation", *PROBED, *layers)
    asked: Iterator[bool] = iter([False] * 6 + [True])
    with pytest.raises(Interrupted):
        execute(job, benchmark, make_dataset(), "fp32", Watcher(), stop=lambda: next(asked))
    again = job_for(tmp_path / "b", "modulation", *PROBED, *layers)
    assert again.state == "interrupted"
    execute(again, benchmark, make_dataset(), "fp32", Watcher())
    assert csv_of(again.folder) == found


def test_where_nothing_is_shared_the_record_says_so_with_a_table_of_no_rows(tmp_path):
    job = job_for(tmp_path, "independent", *PROBED)
    execute(job, protocol(*PROBED), make_dataset(), "fp32", Watcher())
    assert csv_of(job.folder) == []


def test_a_run_without_probes_is_not_taken_for_one_with(tmp_path):
    job = job_for(tmp_path, "shared")
    execute(job, protocol(), make_dataset(), "fp32", Watcher())
    assert not (job.folder / "agreement.csv").exists()
    old = job.folder / "run.json"
    old.write_text(old.read_text().replace('    "agreement_every": 0,\n', ""))
    record = read_record(job.folder)
    assert record is not None
    assert job_for(tmp_path, "shared").state == "done"
    with pytest.raises(UserError, match=r"agreement_every: 0 there, 3 now.*--results.*--overwrite"):
        job_for(tmp_path, "shared", "evaluation.agreement_every=3")


def test_layers_without_probes_are_refused():
    with pytest.raises(UserError, match=r"agreement_layers = true needs evaluation\.agreement_every"):
        protocol("evaluation.agreement_layers=true")


def test_the_settings_old_names_are_still_read():
    old = ("evaluation.conflict_every=3", "evaluation.conflict_layers=true")
    assert protocol(*old) == protocol("evaluation.agreement_every=3", "evaluation.agreement_layers=true")
