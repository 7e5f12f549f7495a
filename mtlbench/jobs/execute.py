"""Executes one job: trains, tests, measures costs and writes the record; if the run fails, the record says why."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Callable

import torch
from safetensors.torch import load_file
from torch import Tensor

from mtlbench import cost
from mtlbench.balancer import share_acted_on
from mtlbench.benchmark import Benchmark
from mtlbench.busy import share_of_cores
from mtlbench.data.dataset import Dataset
from mtlbench.errors import FAULTS
from mtlbench.evaluation.collapse import collapsed_tasks
from mtlbench.evaluation.scores import scores_of
from mtlbench.evaluation.selection import described
from mtlbench.evaluation.triplets import HeldOutTriplets
from mtlbench.jobs.failure import reason_of
from mtlbench.jobs.job import Job, Watcher
from mtlbench.jobs.measure import measure
from mtlbench.networks import EMBEDDING_BATCH, build, check_restored, embed_images
from mtlbench.optimisers import find_optimiser, scaled_share
from mtlbench.probes import rows as probe_rows
from mtlbench.returned import check_learned
from mtlbench.runs.disk import DiskFull, is_full, stopped_by
from mtlbench.runs.partial import continued, save_partial
from mtlbench.runs.provenance import packages_of, receipt, weights_of
from mtlbench.runs.record import COSTS_DUE, Json, Record, half, read_record, update_record, write_record
from mtlbench.runs.sizes import SIZES
from mtlbench.runs.tried import Tried, note_tried
from mtlbench.specs import groups_of
from mtlbench.training.curve import constant_share
from mtlbench.training.loop import Trainer, refuse_not_finite
from mtlbench.training.state import Interrupted, Row


def execute(
    job: Job,
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
    costs: bool = True,
) -> Record:
    """Do one run, or continue it, and write its record.

    A run that fails for any reason leaves a record that says why.

    Args:
        job: the run; benchmark, dataset, precision: the protocol, its data, and the precision of the networks.
        watcher: receives the run's progress.
        stop: called after every step; returns whether to stop.
        costs: measure the costs too. Speeds measured beside other runs are wrong; without costs, the record notes that
            they are due.

    Raises:
        DiskFull: the disk is full; the files kept so far stay.
        Interrupted: `stop` returned true; the run can be continued.
        KeyboardInterrupt: passed on.
    """
    watcher.started(job)
    note_tried(job.folder.parents[2], Tried(str(dataset.facts.get("name")), job.setup))
    try:
        record = _run(job, benchmark, dataset, precision, watcher, stop, costs)
    except (Interrupted, DiskFull):
        raise
    except FAULTS as error:  # the record says how it failed; other runs continue
        if is_full(error):  # not the method's fault
            raise stopped_by(error, job.folder) from error
        record = failure(job, dataset, precision, reason_of(error), traceback=traceback.format_exc())
        write_record(job.folder, record)
    finally:
        gc.collect()
        if dataset.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # some faults leave the device unresponsive
                torch.cuda.empty_cache()
    watcher.ended(job, record)
    return record


def _run(
    job: Job,
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    watcher: Watcher,
    stop: Callable[[], bool],
    costs: bool,
) -> Record:
    # the trainer is freed before costs are measured, since they need its memory
    record, leaves = _train_and_test(job, benchmark, dataset, precision, watcher, stop)
    if costs:
        _measure(record, job, benchmark, dataset, precision, watcher, lambda: leaves[1])
    else:
        record.receipt[COSTS_DUE] = True
    write_record(job.folder, record, *leaves)
    return record


def add_costs(job: Job, benchmark: Benchmark, dataset: Dataset, precision: str, watcher: Watcher) -> None:
    """Measure the costs that a finished run's record still lacks.

    Raises:
        DiskFull: the record can't be written; it stays as it was.
    """
    record = read_record(job.folder)
    if record is None or not record.receipt.pop(COSTS_DUE, False):
        return  # another process has measured them
    weights = job.folder / "weights.safetensors"
    exported = {name: cost for name, cost in record.costs.items() if name in SIZES}
    _measure(record, job, benchmark, dataset, precision, watcher, lambda: load_file(weights))
    record.costs |= exported
    update_record(job.folder, record)


def _measure(
    record: Record,
    job: Job,
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    watcher: Watcher,
    weights: Callable[[], dict[str, Tensor]],
) -> None:
    watcher.doing(job, "measuring cost")
    if dataset.device.type == "cpu":
        record.receipt["share_of_cores"] = round(share_of_cores(torch.get_num_threads()), 2)
    try:
        record.costs = measure(job.method, benchmark, dataset, precision, weights())
        record.receipt["embedding_batch"] = EMBEDDING_BATCH
    except FAULTS as error:  # a cost that can't be measured does not spoil the results
        record.reason = f"cost not measured: {reason_of(error)}"


def failure(job: Job, dataset: Dataset, precision: str, reason: str, **facts: str) -> Record:
    """Return the record of a run that failed for the given reason."""
    record = Record(job.method.name, job.seed, "method", job.setup, "failed", reason)
    packages = packages_of(job.method, job.protocol) if job.benchmark else {}
    deterministic = job.benchmark is not None and job.benchmark.train.deterministic
    made = receipt(dataset, precision, packages, deterministic)
    record.receipt = made | {"groups": groups_of(job.method.name)} | _beside(job) | facts
    return record


def _beside(job: Job) -> Json:
    """Return the record's entries on the run's context: varied settings, its recipe's origin, what `check` found."""
    said: Json = {"varied": job.varied} if job.varied else {}
    if job.checked:
        said["checked"] = job.checked
    if job.method.recipe is not None:
        recipe = job.protocol.recipes.get(job.method.name)
        said["recipe"] = dict(recipe.found) if recipe else {}
    return said


def _train_and_test(
    job: Job,
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    watcher: Watcher,
    stop: Callable[[], bool],
) -> tuple[Record, tuple[list[Row], dict[str, Tensor], dict[str, Tensor], list[dict[str, str]] | None]]:
    """Return a record without costs, and the files beside it: curve, weights, test results, gradient probes."""
    trainer = _trainer(job, benchmark, dataset, precision)
    # checked first: an error here would waste the training
    learned = [one.as_json() for one in check_learned(trainer.architecture)]
    trainer.run(
        listen=lambda event: watcher.happened(job, event),
        save=lambda: save_partial(job.folder, job.setup, trainer),
        stop=stop,
    )
    watcher.doing(job, "testing")
    state = trainer.state
    held_out = HeldOutTriplets.draw(dataset, benchmark, "test")
    size = benchmark.model.embedding
    embeddings = embed_images(trainer.architecture, dataset, held_out.images, precision, size)
    refuse_not_finite(embeddings, "test")
    stored = cost.weights_of(trainer.architecture)
    some = held_out.images[:EMBEDDING_BATCH]
    again = build(job.method, benchmark, dataset.tasks, job.seed)[0]
    again = again.to(dataset.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    check_restored(again, stored, embeddings[:, : len(some)], lambda net: embed_images(net, dataset, some, precision))
    del again
    metrics, hits, queries = scores_of(embeddings, held_out, benchmark, dataset)
    record = Record(job.method.name, job.seed, "method", job.setup, metrics=metrics)
    collapsed = collapsed_tasks(embeddings, held_out, benchmark.embedding).tolist()
    record.collapsed = [t for t, yes in zip(dataset.tasks, collapsed, strict=True) if yes or t in state.collapsed]
    record.learned = learned
    record.receipt = (
        receipt(dataset, precision, packages_of(job.method, benchmark), benchmark.train.deterministic)
        | _beside(job)
        | {
            "groups": groups_of(job.method.name),
            "steps": state.step,
            "images_seen": state.step * trainer.images_per_step,
            "training_seconds": state.seconds,
            "test_triplets": held_out.triplets.shape[1],
            "selection": described(benchmark),
            **({"selected_steps": state.task_steps} if state.task_steps else {"selected_step": state.best_step}),
            "validation_accuracy": state.best_accuracy,
            **({"forgot": state.forgot} if state.forgot else {}),
            **({"normalised": state.normalised} if state.normalised else {}),
            **({"compiled": f"no: {state.compiled}" if state.compiled else "yes"} if trainer.compiled else {}),
            **weights_of(benchmark),
            "protocols_tried": benchmark.train.protocols_tried,
        }
    )
    scales = trainer.architecture.learning_rate_scales(adaptive=find_optimiser(trainer.protocol.optimiser).adaptive)
    share, most = scaled_share(trainer.architecture, scales)
    if share:
        record.receipt["own_rates"] = {"share": round(share, 4), "most": most}
    if len(dataset.tasks) > 1 and not trainer.balancer.fixed:
        shares = {"even": state.even_steps / state.step, "single": state.single_steps / state.step}
        shares["constant"] = constant_share(state.curve, dataset.tasks)
        record.receipt["balancer_acts_on"] = round(share_acted_on(trainer.balancer, trainer.architecture), 4)
        weights = shares | {"farthest": state.farthest_weight}
        record.receipt["balancer_weights"] = {name: round(value, 4) for name, value in weights.items()}
    test = {
        "embeddings": half(embeddings),
        "labels": dataset.labels[:, held_out.images],
        "hits": hits.to(torch.uint8),
        "triplets": held_out.triplets.to(torch.int32),
        **{f"queries/{name}": scores for name, scores in queries.items()},
        **_clusters(dataset, held_out.images),
    }
    probed = probe_rows(state.probes, dataset.tasks) if benchmark.evaluation.agreement_every else None
    return record, (state.curve, stored, test, probed)


def _clusters(dataset: Dataset, images: Tensor) -> dict[str, Tensor]:
    """Return what comparisons must know of (n,) test images: which belong together, and which are in the gallery."""
    found = {}
    if dataset.kin is not None:
        codes = dataset.kin[images]  # any numbers
        found["groups"] = torch.where(codes < 0, -1, codes.unique(return_inverse=True)[1]).to(torch.int32)
    roles = dataset.roles(images)
    return found if roles is None else found | {"gallery": roles[1].to(torch.uint8)}


def _trainer(job: Job, benchmark: Benchmark, dataset: Dataset, precision: str) -> Trainer:
    """Return a trainer that continues the interrupted run if possible, and otherwise starts from the beginning."""

    def begin() -> Trainer:
        return Trainer(job.method, benchmark, dataset, job.seed, precision)

    return continued(job.folder, job.setup, begin) if job.state == "interrupted" else begin()
