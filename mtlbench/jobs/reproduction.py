"""Runs repeated from their records: which ones, how they are grouped, and with which settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mtlbench.backbones.weights import stated
from mtlbench.benchmark import Benchmark
from mtlbench.errors import UserError
from mtlbench.jobs.data import prepared
from mtlbench.jobs.experiment import Experiment, Part, View, check_builds
from mtlbench.jobs.factors import Variant
from mtlbench.jobs.job import Site
from mtlbench.jobs.plan import plan
from mtlbench.runs import Json, Record, read_record, record_folders
from mtlbench.runs.setup import benchmark_of, changes, method_of
from mtlbench.soundness import unsound_convolutions
from mtlbench.training.protocol import check_protocol

_MAY_DIFFER = ("code", "precision", "threads", "compiled", "deterministic")  # the comparison reports these


@dataclass(frozen=True)
class Group:
    """Runs that share everything but method and seed.

    Attributes:
        benchmark: the protocol; tasks: of its data.
        varied: the settings in which it differs from the requested benchmark.
        precision, threads: those of the runs; no threads on a GPU, or if the record doesn't state them.
        originals: the records.
    """

    benchmark: Benchmark
    tasks: tuple[str, ...]
    varied: Json
    precision: str
    threads: int | None
    originals: list[Record]


def finished_runs(folder: Path) -> list[Record]:
    """Return the finished runs of methods in the folder of a run, a method or a benchmark.

    Raises:
        UserError: there are none.
    """
    if (folder / "run.json").is_file():
        found = [read_record(folder)]
    elif inside := sorted(path.parent for path in folder.glob("seed-*/run.json") if path.parent.suffix == ""):
        found = [read_record(run) for run in inside]
    else:
        found = [read_record(run) for run in record_folders(folder.parent, folder.name)]
    records = [record for record in found if record is not None]
    done = [record for record in records if record.kind == "method" and record.status == "done"]
    if not done:
        several = sorted(path.name for path in folder.glob("*") if record_folders(folder, path.name))
        hint = f" Name one benchmark's folder in it: {', '.join(several)}." if several else ""
        raise UserError(f"{folder} has no finished runs.{hint}")
    return done


def grouped(records: Sequence[Record], weights: Path | None = None) -> list[Group]:
    """Return records in groups that share everything but method and seed, in the order of their first records.

    Args:
        records: of finished runs.
        weights: the file of weights that runs began from, where they did: records hold its digest alone.

    Raises:
        UserError: it is another file, or none was given.
    """
    groups: dict[str, Group] = {}
    for record in records:
        setup, varied = record.setup, record.receipt.get("varied", {})
        about = [setup["benchmark"], setup["tasks"], varied, setup["precision"], setup.get("threads")]
        key = json.dumps(about, sort_keys=True)
        if key not in groups:
            groups[key] = Group(
                _with_weights(benchmark_of(record), weights), tuple(setup["tasks"]), varied, setup["precision"],
                setup.get("threads"), [],
            )  # fmt: skip
        groups[key].originals.append(record)
    return list(groups.values())


def _with_weights(benchmark: Benchmark, weights: Path | None) -> Benchmark:
    """Put the path of a file of weights where a record states its digest."""
    said = benchmark.model.pretrained
    if weights is None or isinstance(said, bool):
        return benchmark
    file = str(weights.expanduser().resolve())
    if (here := stated(file)) != said:
        raise UserError(f"{weights} is not the file of weights that the runs began from: {said} there, {here} here.")
    return benchmark.model_copy(update={"model": benchmark.model.model_copy(update={"pretrained": file})})


def plan_again(groups: Sequence[Group], experiment: Experiment, view: View) -> list[Part]:
    """Prepare the data of every group and plan its runs, with the threads and precision of the originals.

    Raises:
        UserError: the images differ from those of the originals, this version lacks a setting or method, or the
            folder for results holds other runs.
    """
    site, parts = experiment.site, []
    device, available = torch.device(site.device), torch.get_num_threads()
    for group in groups:
        check_protocol(group.benchmark)
        with view.bar("drawing images") as drawing, view.bar("packing images") as packing:
            data, notes = prepared(
                group.benchmark, site.data_dir, group.tasks, device, drawing, packing, view.say
            )  # fmt: skip
        for note in notes:
            view.warn(f"note: {note}")
        for original in group.originals:
            if original.setup["data"] != data.facts["fingerprint"]:
                raise UserError(
                    f"The images or labels are not those of {original.method}, seed {original.seed}: fingerprint"
                    f" {original.setup['data']} there, {data.facts['fingerprint']} here. Name the folder of the same"
                    " data with --data-dir."
                )
        torch.set_num_threads(group.threads or available)
        own = Site(site.data_dir, site.device, site.plugins, group.tasks)
        methods = [method_of(record) for record in group.originals]
        check_builds(methods, group.benchmark, data.tasks, view)
        precision = group.precision
        if precision == "bf16" and device.type == "cpu" and unsound_convolutions(group.benchmark, methods, data.tasks):
            view.warn("note: in bfloat16 this processor's gradients are wrong at this size: runs are made in float32.")
            precision = "fp32"
        jobs = []
        for original, method in zip(group.originals, methods, strict=True):
            (job,) = plan(
                [method], [original.seed], group.benchmark, data, precision, experiment.results,
                experiment.overwrite, site=own, varied=group.varied,
            )  # fmt: skip
            unlike = [one.key for one in changes(original.setup, job.setup) if one.path[0] not in _MAY_DIFFER]
            if unlike:
                raise UserError(
                    f"{job.label} can't be reproduced: {', '.join(unlike[:4])} would differ in this version of"
                    " mtlbench; use the record's version."
                )
            jobs.append(job)
        parts.append(Part(Variant(group.benchmark, group.varied), data, precision, jobs))
    torch.set_num_threads(available)
    return parts
