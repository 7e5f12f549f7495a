"""What a checkpoint is chosen by: the mean or the worst triplet accuracy, or a metric, on the validation split."""

from __future__ import annotations

import pytest
import torch
from support import make_dataset, protocol
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.retrieval import retrieval_metrics
from mtlbench.evaluation.selection import check_selection, criterion, described, own_tensors
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.networks import build, state_of, tensors_by_task
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method, parse_methods
from mtlbench.training.events import Event, Validation
from mtlbench.training.loop import Trainer
from mtlbench.training.state import Interrupted


def chosen_by(select: str, embeddings: Tensor, hits: Tensor) -> float:
    dataset, benchmark = make_dataset(), protocol(f"evaluation.select={select}")
    held_out = HeldOutTriplets.draw(dataset, benchmark, "val")
    return criterion(hits.float().mean(1).tolist(), embeddings, held_out, benchmark, dataset)


EMBEDDINGS = torch.randn(2, 18, 8, generator=torch.Generator().manual_seed(0))
HITS = torch.tensor([[True, True, True, False], [True, False, False, False]])


def test_mean_and_worst_are_of_triplet_accuracy_over_tasks() -> None:
    assert chosen_by("mean", EMBEDDINGS, HITS) == 0.5
    assert chosen_by("worst", EMBEDDINGS, HITS) == 0.25
    assert protocol().evaluation.select == "mean"


@pytest.mark.parametrize("name", ["map@r", "macro/map@r", "precision@5"])
def test_a_metric_is_the_mean_over_tasks_on_the_validation_images(name: str) -> None:
    dataset = make_dataset()
    labels = dataset.labels[:, dataset.members("val")]
    of_tasks = [retrieval_metrics(e, row, normalise=True, ks=(5,))[name] for e, row in zip(EMBEDDINGS, labels)]  # noqa: B905
    assert chosen_by(name, EMBEDDINGS, HITS) == pytest.approx(sum(of_tasks) / 2)


def test_a_metric_that_no_task_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"evaluation\.select = 'ndcg': no task has this metric"):
        chosen_by("ndcg", EMBEDDINGS, HITS)


def test_receipts_say_what_chose_the_checkpoint() -> None:
    said = {
        select: described(protocol(f"evaluation.select={select}"))
        for select in ("mean", "worst", "map@r", "macro/hit@5")
    }
    assert said == {
        "mean": "highest mean triplet accuracy on the validation split",
        "worst": "highest triplet accuracy of the worst task on the validation split",
        "map@r": "highest mean map@r over tasks on the validation split",
        "macro/hit@5": "highest mean macro/hit@5 over tasks on the validation split",
    }
    by_task = described(protocol("evaluation.select=per-task"))
    assert by_task == "each task's highest triplet accuracy on the validation split, task by task"


def test_what_chooses_by_nothing_known_is_refused_before_training() -> None:
    load_plugins()
    benchmark, dataset = protocol("evaluation.select=wurst"), make_dataset()
    with pytest.raises(UserError, match=r"select = 'wurst': there is no such measure\. Did you mean: worst"):
        Trainer(parse_method("shared"), benchmark, dataset, 0, "fp32")
    check_selection(protocol("evaluation.select=worst"))
    with pytest.raises(UserError, match=r"select = 'macro/mean': there is no such measure"):
        check_selection(protocol("evaluation.select=macro/mean"))


def test_a_checkpoint_is_kept_however_low_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    load_plugins()
    monkeypatch.setattr("mtlbench.training.loop.criterion", lambda *_: -5.0)  # a metric of one's own may be below 0
    trainer = Trainer(parse_method("shared"), protocol(), make_dataset(), 0, "fp32")
    trainer.run()
    assert trainer.state.best_step == 3


def test_training_keeps_the_checkpoint_that_is_best_by_the_chosen_number(monkeypatch: pytest.MonkeyPatch) -> None:
    load_plugins()
    hits = iter(torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]], dtype=torch.bool))
    steps = {}
    answers = list(hits)
    for select in ("mean", "worst"):
        trainer = Trainer(parse_method("shared"), protocol(f"evaluation.select={select}"), make_dataset(), 0, "fp32")
        given = iter(answers)
        monkeypatch.setattr(HeldOutTriplets, "hits", lambda self, embeddings, normalise, given=given: next(given))
        trainer.run()
        steps[select] = (trainer.state.best_step, round(trainer.state.best_score, 3))
    assert steps == {"mean": (6, 0.625), "worst": (3, 0.5)}


PER_TASK = ("train.sampling=per-task", "evaluation.select=per-task")


def test_each_task_of_independent_nets_gets_the_checkpoint_of_its_own_best_step(monkeypatch):
    """Planted: colour is at its best at the last validation, shape at the first."""
    load_plugins()
    answers = iter(torch.tensor([[[1, 1, 0, 0], [1, 1, 0, 0]], [[1, 1, 1, 1], [1, 0, 0, 0]]], dtype=torch.bool))
    monkeypatch.setattr(HeldOutTriplets, "hits", lambda self, embeddings, normalise: next(answers))
    trainer = Trainer(parse_method("independent"), protocol(*PER_TASK), make_dataset(), 0, "fp32")
    at: dict[int, dict[str, Tensor]] = {}

    def note(event: Event) -> None:
        if isinstance(event, Validation):
            at[event.step] = {name: t.detach().clone() for name, t in state_of(trainer.architecture).items()}

    trainer.run(listen=note)
    assert trainer.state.task_steps == {"colour": 6, "shape": 3}
    assert trainer.state.task_bests == {"colour": 1.0, "shape": 0.5}
    assert (trainer.state.best_accuracy, trainer.state.best_score) == (0.75, 0.75)
    colour, shape = tensors_by_task(trainer.architecture)
    kept = state_of(trainer.architecture)
    assert set(colour) | set(shape) == set(kept)
    assert all(torch.equal(kept[name], at[6][name]) for name in colour)
    assert all(torch.equal(kept[name], at[3][name]) for name in shape)
    assert any(not torch.equal(at[3][name], at[6][name]) for name in shape)


def test_a_task_ends_with_the_net_that_it_would_end_with_alone():
    load_plugins()
    settings = ("train.sampling=per-task", "train.steps=12")
    together = Trainer(
        parse_method("independent"), protocol(*settings, "evaluation.select=per-task"), make_dataset(), 0, "fp32"
    )
    together.run()
    for t, task in enumerate(("colour", "shape")):
        alone = Trainer(parse_method("independent"), protocol(*settings), make_dataset((task,)), 0, "fp32")
        alone.run()
        assert together.state.task_steps[task] == alone.state.best_step
        one, other = state_of(alone.architecture.nets[0]), state_of(together.architecture.nets[t])
        assert all(torch.allclose(one[name].float(), other[name].float(), atol=1e-6) for name in one)


def test_only_methods_whose_tasks_share_nothing_have_a_checkpoint_for_each_task():
    load_plugins()
    tasks, able = ("colour", "shape"), []
    for name in [m.name for m in parse_methods("architectures")]:
        with torch.device("meta"):
            architecture = build(parse_method(name), protocol(), tasks, 0)[0]
        able += [name] if tensors_by_task(architecture) else []
    assert able == ["independent"]
    with pytest.raises(
        UserError, match=r"whose tasks share no parameter, and those of cross-stitch do: run cross-stit"
    ):
        Trainer(parse_method("cross-stitch"), protocol(*PER_TASK), make_dataset(), 0, "fp32")
    shared = build(parse_method("shared"), protocol(), tasks, 0)[0]
    assert own_tensors(shared, protocol(), "shared") is None


@pytest.mark.parametrize("select", ["mean", "per-task"])
def test_a_kept_checkpoint_goes_through_a_restart(select):
    """What an interrupted run keeps holds each task's best weights, and that they are the best yet."""
    load_plugins()
    made = [
        Trainer(
            parse_method("independent"), protocol(PER_TASK[0], f"evaluation.select={select}"), make_dataset(), 0, "fp32"
        )
        for _ in range(2)
    ]
    stops = iter([False, False, False, True])
    with pytest.raises(Interrupted):
        made[0].run(stop=lambda: next(stops))
    made[1].restore(made[0].tensors(), made[0].state)
    made[1].run()
    whole = Trainer(
        parse_method("independent"), protocol(PER_TASK[0], f"evaluation.select={select}"), make_dataset(), 0, "fp32"
    )
    whole.run()
    assert made[1].state.task_steps == whole.state.task_steps
    assert (made[1].state.best_score, made[1].state.best_step) == (whole.state.best_score, whole.state.best_step)
    one, other = state_of(made[1].architecture), state_of(whole.architecture)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_where_tasks_have_images_of_their_own_a_run_notes_over_how_many_batch_norm_averages():
    load_plugins()
    for method, images in (("independent", [12]), ("shared", [24])):
        trainer = Trainer(parse_method(method), protocol("train.sampling=per-task"), make_dataset(), 0, "fp32")
        trainer.run()
        assert trainer.state.normalised == images
    joint = Trainer(parse_method("shared"), protocol(), make_dataset(), 0, "fp32")
    joint.run()
    assert joint.state.normalised == []
