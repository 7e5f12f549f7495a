"""What a checkpoint is chosen by: the mean or the worst triplet accuracy, or a metric, on the validation split."""

from __future__ import annotations

import pytest
import torch
from support import make_dataset, protocol
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.evaluation.retrieval import retrieval_metrics
from mtlbench.evaluation.selection import check_selection, criterion, described
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer


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
