"""The plan: which runs are done, which continue, and how long the others will take."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mtlbench import cost
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.devices import computing_in
from mtlbench.errors import FAULTS, UserError
from mtlbench.jobs.failure import reason_of
from mtlbench.jobs.job import Job, Site
from mtlbench.networks import EMBEDDING_BATCH
from mtlbench.runs.checked import checked_parts
from mtlbench.runs.partial import begun_otherwise, begun_with, has_broken, read_partial
from mtlbench.runs.provenance import commit, setup_of
from mtlbench.runs.record import COSTS_DUE, Json, read_record, run_folder, variant
from mtlbench.runs.references import REFERENCES
from mtlbench.runs.setup import differences, without_training
from mtlbench.specs import Method
from mtlbench.training.loop import Trainer

_FURTHER_STEPS = 3  # the work of `measure` beside what it times: memory, operations, file size


def plan(
    methods: Sequence[Method],
    seeds: Sequence[int],
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    results: Path,
    overwrite: bool = False,
    *,
    site: Site | None = None,
    varied: Json | None = None,
    reference_varied: Json | None = None,
) -> list[Job]:
    """List the runs, seed by seed, and how much of each exists already.

    Args:
        methods: what to train; seeds: the seeds.
        benchmark: the protocol; dataset: its data; precision: of the networks.
        results: the folder for records.
        overwrite: plan as if there were no records.
        site: what another process needs to do the same.
        varied: the settings in which this variant of the benchmark differs from the requested one.
        reference_varied: the same for the reference rows, which most settings don't change.

    Raises:
        UserError: there is a record made with other settings, or an interrupted run begun with others or on another
            kind of device, and `overwrite` is not set.
    """
    commit()  # noted now: the runs do not use a commit made while they run
    site, varied, jobs = site or Site(), varied or {}, []
    checked = {method.name: checked_parts(method) for method in methods}
    for seed in seeds:
        for reference in REFERENCES:
            folder = run_folder(results, benchmark.name, reference.name + variant(reference_varied or {}), seed)
            setup = setup_of(reference, benchmark, dataset, seed, precision)
            record = None if overwrite else read_record(folder)
            if record and (unlike := differences(without_training(record.setup), without_training(setup))):
                raise UserError(_made_otherwise(folder, unlike))
        for method in methods:
            folder = run_folder(results, benchmark.name, method.folder + variant(varied), seed)
            setup = setup_of(method, benchmark, dataset, seed, precision)
            job = Job(
                method, seed, folder, setup, "new",
                threads=torch.get_num_threads(), benchmark=benchmark, precision=precision, varied=varied,
                checked=checked[method.name], site=site,
            )  # fmt: skip
            jobs.append(job if overwrite else seen(job, dataset.device.type))
    return jobs


def seen(job: Job, device: str) -> Job:
    """Return a job updated with what exists of its run now.

    A run that is done or interrupted keeps its number of threads: it continues, and is timed, with that number.

    Raises:
        UserError: there is a record made with other settings, or an interrupted run begun with others or on another
            kind of device: training anew would remove what it kept.
    """
    record = read_record(job.folder)
    if record and record.status == "done":
        if unlike := differences(record.setup, job.setup):
            raise UserError(_made_otherwise(job.folder, unlike))
        found = replace(job, state="done", costs_due=bool(record.receipt.get(COSTS_DUE)))
        return _with_threads(found, record.setup.get("threads"))
    if partial := read_partial(job.folder, job.setup, device):
        return _with_threads(replace(job, state="interrupted", steps_done=partial[0].step), begun_with(job.folder))
    unlike = begun_otherwise(job.folder, job.setup, device)
    if unlike and not (record and has_broken(job.folder, record)):
        raise UserError(_begun_otherwise(job.folder, unlike))
    return replace(job, state="failed" if record else "new", steps_done=0)


def _with_threads(job: Job, threads: int | None) -> Job:
    """Return a job that computes with this many threads.

    None or 0, from records of mtlbench 0.1 that don't state the number, leaves the job as it is.
    """
    if not threads or "threads" not in job.setup:
        return job
    return replace(job, threads=threads, setup=job.setup | {"threads": threads})


def _made_otherwise(folder: Path, unlike: list[str]) -> str:
    return (
        f"{folder} was made with other settings ({_some(unlike)}). Choose another folder with --results, or replace it"
        " with --overwrite."
    )


def _begun_otherwise(folder: Path, unlike: list[str]) -> str:
    how = "another version of its source" if all(one.startswith("code.") for one in unlike) else "other settings"
    return (
        f"{folder} is an interrupted run that was begun with {how} ({_some(unlike)}). Continue it as it was begun,"
        " choose another folder with --results, or begin anew with --overwrite, or after mtlbench runs rm"
        f" {shlex.quote(str(folder))}."
    )


def _some(unlike: list[str]) -> str:
    return f"{'; '.join(unlike[:4])}{'; …' if len(unlike) > 4 else ''}"


def seconds_needed(
    method: Method, seed: int, benchmark: Benchmark, dataset: Dataset, precision: str, *, costs: bool = True
) -> tuple[float, str]:
    """Estimate the seconds of a whole run from a few timed steps.

    If that fails, return 0 and the reason.

    Args:
        method: with its recipe; seed: of the run; benchmark: the protocol, without the recipe.
        dataset: with or without a test split; precision: `bf16` or `fp32`.
        costs: whether costs are measured too, as in a run; a trial of `mtlbench tune` measures none.
    """
    probing = benchmark.evaluation.agreement_every
    try:
        train = benchmark.train.model_copy(update={"compile": "off"})  # compiling takes longer than the timing
        benchmark = benchmark.model_copy(update={"train": train})
        begun = time.perf_counter()
        trainer = Trainer(method, benchmark, dataset, seed, precision)
        building = time.perf_counter() - begun
        step = min(cost.seconds_each(trainer.step, dataset.device, enough=0))
        probe = min(cost.seconds_each(trainer.probe, dataset.device, enough=0)) if probing else 0.0
        images = dataset.batch(trainer.triplets.images.repeat(EMBEDDING_BATCH)[:EMBEDDING_BATCH])
        trainer.architecture.eval()
        with torch.no_grad(), computing_in(precision, dataset.device):
            embed = min(cost.seconds_each(lambda: trainer.architecture.embed(images), dataset.device, enough=0))
    except FAULTS as error:  # if the estimate fails, the run itself will report the error
        return 0.0, reason_of(error)
    validations = benchmark.train.steps / benchmark.evaluation.every
    images_embedded = validations * len(dataset.members("val")) + len(dataset.members("test"))
    probes = benchmark.train.steps / benchmark.evaluation.agreement_every * probe if probing else 0.0
    training = benchmark.train.steps * step + images_embedded / EMBEDDING_BATCH * embed + probes
    if not costs:
        return building + training, ""
    # `measure` builds the network again, times steps and both ways to embed, and takes a few more steps
    measuring = building + cost.seconds_for(step) + 2 * cost.seconds_for(embed) + _FURTHER_STEPS * step
    return building + training + measuring, ""
