"""From a user's request to finished trials: read, plan, work.

`mtlbench tune` shows the progress.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.devices import choose_device
from mtlbench.errors import UserError
from mtlbench.jobs.data import prepared
from mtlbench.jobs.executors.contract import Executor
from mtlbench.jobs.executors.here import Here
from mtlbench.jobs.executors.processes import Processes
from mtlbench.jobs.experiment import View, check_builds, executor_of
from mtlbench.jobs.job import Site
from mtlbench.jobs.memory import guard_memory
from mtlbench.jobs.sweep import Remote
from mtlbench.names import names_in
from mtlbench.runs.provenance import commit, setup_of
from mtlbench.runs.record import Json
from mtlbench.soundness import sound_precision
from mtlbench.specs import Method, left_out_line, left_out_methods, parse_methods
from mtlbench.training.events import Event
from mtlbench.training.protocol import check_protocol
from mtlbench.training.state import Interrupted
from mtlbench.tuning.halving import Rung, budget, in_words, rungs
from mtlbench.tuning.outcome import FOLDER
from mtlbench.tuning.space import MethodSpace, space_of
from mtlbench.tuning.study import JOURNAL, Studies, Trial, need_optuna
from mtlbench.tuning.trial import do_trial, without_test

_LOOK = 0.5  # seconds between checks of other processes' trials


class Told:
    """Receives the progress of trials, several at once; this base class ignores it."""

    def begun(self, method: str, number: int) -> None:
        """A trial begins or continues."""

    def happened(self, method: str, number: int, event: Event) -> None:
        """An event of a trial's training."""

    def ended(self, trial: Trial) -> None:
        """A trial has its outcome."""

    def rests(self, method: str, number: int, step: int) -> None:
        """A trial has been trained to a rung and waits there until it is decided whether it continues."""

    def waiting(self) -> None:
        """Other processes work on all remaining trials."""


@dataclass(frozen=True)
class Tuning:
    """The user's request, read and checked.

    Attributes:
        methods: plain; `spaces` has the search space of each, by name.
        benchmark: the protocol, without recipes; precision: `bf16` or `fp32`.
        seeds: a trial's score is the mean over these; trials: how many each method gets.
        site: where data and devices are; folder: of the trials.
        threads: how many each trial computes with; jobs: how many processes of this machine do them.
        dataset: without its test split.
        halving: use successive halving, see `ladder`.
        executor: does the trials.
    """

    methods: Sequence[Method]
    spaces: dict[str, MethodSpace]
    benchmark: Benchmark
    precision: str
    seeds: Sequence[int]
    trials: int
    site: Site
    folder: Path
    dataset: Dataset = field(repr=False)
    threads: int = 1
    jobs: int = 1
    halving: bool = False
    executor: Executor = field(default_factory=Here)

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """The rungs of successive halving, the same for every method; empty without halving."""
        benchmark = self.benchmark
        return rungs(self.trials, benchmark.train.steps, benchmark.evaluation.every) if self.halving else ()

    @property
    def names(self) -> list[str]:
        """The methods' names."""
        return [method.name for method in self.methods]


def read_tuning(
    view: View,
    *,
    dataset: str,
    methods: str,
    quick: bool,
    trials: int,
    seeds: Sequence[int],
    settings: Sequence[str],
    tasks: str | None,
    site: Site,
    results: Path,
    jobs: int | None = None,
    on: str | None = None,
    halving: bool = False,
) -> Tuning:
    """Read and check the request, and prepare the data; plug-ins must be loaded.

    Raises:
        UserError: a name or value does not exist, some do not go together, or Optuna is missing.
    """
    need_optuna()
    executor = executor_of(jobs, on)
    if not isinstance(executor, Here | Processes | Remote):
        raise UserError(f"--on {on}: this executor can't train trials; tune takes here, processes, ray and slurm.")
    commit()  # noted now: the trials do not use a commit made while they run
    chosen = parse_methods(methods)
    if waiting := left_out_methods(methods):
        view.warn(f"note: {left_out_line(waiting)}")
    benchmark = load_benchmark(dataset, quick=quick, settings=settings).model_copy(update={"recipes": {}})
    check_protocol(benchmark)
    spaces = {method.name: space_of(method, benchmark) for method in chosen}
    wanted = names_in(tasks) if tasks is not None else None
    device = choose_device(site.device)
    site = Site(site.data_dir, str(device), site.plugins, wanted)
    with view.bar("drawing images") as drawing, view.bar("packing images") as packing:
        data, notes = prepared(benchmark, site.data_dir, site.tasks, device, drawing, packing, view.say)
    precision, warning = sound_precision(benchmark, device, chosen, data.tasks)
    for note in dict.fromkeys(filter(None, [*notes, warning])):
        view.warn(f"note: {note}")
    check_builds(chosen, benchmark, data.tasks, view)
    at_once = executor.jobs if isinstance(executor, Processes) else 1
    if at_once == 1:  # a recipe that asks for too much memory fails alone; processes have their own limits
        guard_memory()
    threads = executor.threads(torch.get_num_threads())
    folder = results / benchmark.name / FOLDER
    return Tuning(
        chosen, spaces, benchmark, precision, seeds, trials, site, folder, without_test(data), threads,
        at_once, halving, executor,
    )  # fmt: skip


def open_studies(tuning: Tuning, overwrite: bool, at: Path | None = None) -> Studies:
    """Open the trials' journal.

    Args:
        tuning: the user's request.
        overwrite: forget existing trials.
        at: the folder of the journal, if it is not that of the request: see `rehearsed`.

    Raises:
        UserError: there are trials made with other settings, and `overwrite` is not set.
    """
    studies = Studies(at or tuning.folder, tuning.ladder)
    for method in tuning.methods:
        if overwrite:
            studies.forget(method.name)
        if unlike := studies.open(method.name, _about(tuning, method)):
            more = "; …" if len(unlike) > 4 else ""
            raise UserError(
                f"The trials of {method.name} in {tuning.folder} were made with other settings"
                f" ({'; '.join(unlike[:4])}{more}). Choose another folder with --results, or replace them with"
                " --overwrite."
            )
    return studies


@contextmanager
def rehearsed(tuning: Tuning, overwrite: bool) -> Iterator[Studies]:
    """Open a copy of the trials' journal, to look at without leaving a trace; see `open_studies`."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / tuning.folder.name
        copy.mkdir()
        if (tuning.folder / JOURNAL).exists():
            shutil.copy(tuning.folder / JOURNAL, copy)
        yield open_studies(tuning, overwrite, copy)


def steps_left(tuning: Tuning, studies: Studies, method: str) -> int:
    """Return the training steps of a method's trials that are still to be done, with one seed."""
    trials = studies.trials(method)[: tuning.trials]
    ended = [trial for trial in trials if trial.state != "begun"]
    if len(ended) == tuning.trials:
        return 0
    if tuning.halving:
        return max(0, budget(tuning.ladder) - sum(trial.steps for trial in trials))
    return (tuning.trials - len(ended)) * tuning.benchmark.train.steps


def _about(tuning: Tuning, method: Method) -> Json:
    """Return everything that decides the outcome of a trial, except its values."""
    setup = setup_of(method, tuning.benchmark, tuning.dataset, tuning.seeds[0], tuning.precision)
    about = {"setup": setup, "seeds": list(tuning.seeds), "space": tuning.spaces[method.name].as_json()}
    return about | {"halving": in_words(tuning.ladder) if tuning.halving else None}


def work(tuning: Tuning, studies: Studies, told: Told, stop: Callable[[], bool]) -> None:
    """Do trials that nobody works on, one after the other, until every method has all its trials.

    Args:
        tuning: the user's request; studies: its trials.
        told: receives the progress; stop: called after every step, returns whether to stop.

    Raises:
        Interrupted: `stop` returned true; begun trials can be continued.
        DiskFull: the disk is full.
    """
    by_name = {method.name: method for method in tuning.methods}
    spaces = [(name, tuning.spaces[name].known(), tuning.spaces[name].where) for name in tuning.names]
    waiting = False
    while True:
        if stop():
            raise Interrupted
        with studies.claimed(spaces, tuning.trials) as claim:
            for trial in studies.taken_note():
                told.ended(trial)
            if claim is not None:
                name, number, waiting = claim.method, claim.number, False
                told.begun(name, number)
                do_trial(
                    claim, by_name[name], tuning.benchmark, tuning.dataset, list(tuning.seeds), tuning.precision,
                    lambda event, name=name, number=number: told.happened(name, number, event),  # type: ignore[misc]
                    stop,
                )  # fmt: skip
                trial = studies.trials(name)[number]
                if trial.state == "begun":
                    told.rests(name, number, claim.until or 0)
                else:
                    told.ended(trial)
                continue
        if studies.finished(tuning.names, tuning.trials):
            return
        if not waiting:
            told.waiting()
            waiting = True
        time.sleep(_LOOK)
