"""Does one trial: trains a method with a recipe on the training split and judges it on the validation split."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.data.table import SPLITS
from mtlbench.errors import FAULTS, UserError
from mtlbench.jobs.failure import reason_of
from mtlbench.recipes import nested
from mtlbench.runs.disk import DiskFull, is_full, stopped_by
from mtlbench.runs.partial import begun_on, continued, save_partial
from mtlbench.runs.provenance import setup_of
from mtlbench.runs.record import Json, remove_run
from mtlbench.specs import Method
from mtlbench.training.events import Event
from mtlbench.training.loop import Trainer
from mtlbench.training.state import Interrupted
from mtlbench.tuning.study import Claim


def without_test(dataset: Dataset) -> Dataset:
    """Return the data set without its test split: the images of that split belong to no split and have no labels."""
    test = dataset.split == SPLITS.index("test")
    labels = torch.where(test, -1, dataset.labels)
    fixed = {split: rows for split, rows in dataset.triplets.items() if split != "test"}
    return replace(dataset, labels=labels, split=torch.where(test, -1, dataset.split), triplets=fixed)


def do_trial(
    claim: Claim,
    method: Method,
    benchmark: Benchmark,
    dataset: Dataset,
    seeds: Sequence[int],
    precision: str,
    listen: Callable[[Event], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Do a claimed trial, or continue it, and end it; a trial that fails for any reason records why.

    Args:
        claim: the trial.
        method: the plain method; this function applies the trial's recipe.
        benchmark: the protocol; dataset: see `without_test`; precision: `bf16` or `fp32`.
        seeds: of the runs; the trial's score is their mean.
        listen: receives the events; stop: called after every step, returns whether to stop.

    Raises:
        Interrupted: `stop` returned true; the trial can be continued.
        DiskFull: the disk is full; the files kept so far stay.
        UserError: see `check_device`.
    """
    check_device(claim, seeds, dataset.device.type)
    try:
        for seed in seeds:
            if str(seed) not in claim.seeds():
                folder, until = seed_folder(claim, seed), claim.until
                outcome = train_seed(
                    folder, until, method, claim.values, benchmark, dataset, seed, precision, listen, stop
                )  # fmt: skip
                claim.note(seed, outcome)
        claim.done()
        if claim.until is not None:  # keep its state until the rung is decided
            return
    except (Interrupted, DiskFull):
        raise
    except FAULTS as error:  # a recipe may break a method in any way: the reason becomes the trial's outcome
        if is_full(error):
            raise stopped_by(error, claim.folder) from error
        claim.fail(reason_of(error))
    finally:
        gc.collect()
    clear_away(claim, seeds)


def check_device(claim: Claim, seeds: Sequence[int], device: str) -> None:
    """Check that a trial can be continued on this kind of device; all else that decides it, `open_studies` compares.

    Raises:
        UserError: it was begun on another one.
    """
    for seed in seeds:
        begun = begun_on(seed_folder(claim, seed))
        if begun not in ("", device):
            raise UserError(
                f"Trial {claim.number} of {claim.method} in {claim.folder} was begun on {begun}, and can't be continued"
                f" on {device}: go on there, choose another folder with --results, or replace the trials with"
                " --overwrite."
            )


def seed_folder(claim: Claim, seed: int) -> Path:
    """Return the folder in which a trial keeps the state needed to continue its training with a seed."""
    return claim.folder / f"seed-{seed}"


def clear_away(claim: Claim, seeds: Sequence[int]) -> None:
    """Remove the files that a trial kept while it trained."""
    for seed in seeds:
        remove_run(seed_folder(claim, seed))
    with contextlib.suppress(OSError):  # something else is there
        claim.folder.rmdir()


def train_seed(
    folder: Path,
    until: int | None,
    method: Method,
    values: Json,
    benchmark: Benchmark,
    dataset: Dataset,
    seed: int,
    precision: str,
    listen: Callable[[Event], None],
    stop: Callable[[], bool],
) -> Json:
    """Train with one seed, from the kept state if there is any; return the results on the validation split.

    Args:
        folder: for the kept state, see `seed_folder`.
        until: the step to train to; None for the last.
        method: the plain method; values: of the trial, empty for the default.
        benchmark, dataset, seed, precision, listen, stop: see `do_trial`.

    Raises:
        Interrupted, DiskFull: see `do_trial`; also any error that a recipe causes in a method.
    """
    method = method.with_recipe(nested(values)) if values else method
    setup = setup_of(method, benchmark, dataset, seed, precision)
    trainer = continued(folder, setup, lambda: Trainer(method, benchmark, dataset, seed, precision))
    if trainer.state.forgot:  # that would be another training than one without a rung
        trainer = Trainer(method, benchmark, dataset, seed, precision)
    last = benchmark.train.steps if until is None else until
    if trainer.state.step < last or until is None:
        try:
            trainer.run(
                listen=listen,
                save=lambda: save_partial(folder, setup, trainer),
                stop=lambda: stop() or trainer.state.step >= last,
            )
        except Interrupted:
            if trainer.state.step < last:
                raise
    state = trainer.state
    return {
        "score": state.best_score,
        "accuracy": state.best_accuracy,
        "step": state.best_step,
        "trained": state.step,
        "seconds": state.seconds,
        "tasks": _at(state.curve, state.best_step, dataset.tasks),
    }


def _at(curve: list[dict[str, float]], step: int, tasks: tuple[str, ...]) -> dict[str, float]:
    """Return the tasks' validation accuracies at a step."""
    for row in reversed(curve):
        if row.get("step") == step and all(f"accuracy/{task}" in row for task in tasks):
            return {task: row[f"accuracy/{task}"] for task in tasks}
    return {}
