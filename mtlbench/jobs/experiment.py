"""From a user's request to run records: read, plan, train.

`mtlbench run` and `mtlbench.run` share this module.
"""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mtlbench.benchmark import Benchmark
from mtlbench.blame import breach, culprit
from mtlbench.data.dataset import Dataset
from mtlbench.devices import allow_deterministic, choose_device, convolutions_as_before
from mtlbench.errors import FAULTS, UserError
from mtlbench.evaluation.selection import own_tensors
from mtlbench.jobs import memory
from mtlbench.jobs.data import forget, prepared
from mtlbench.jobs.executors.here import Here
from mtlbench.jobs.factors import Variant, variants
from mtlbench.jobs.failure import reason_of
from mtlbench.jobs.job import Job, Site, Watcher
from mtlbench.jobs.plan import plan
from mtlbench.jobs.recipes import (
    recipes_from_elsewhere,
    refuse_settings_of_recipes,
    with_recipe_of,
    with_recipes,
)
from mtlbench.jobs.tracking import Chosen, read_trackers, tracking
from mtlbench.names import joined, names_in
from mtlbench.networks import build
from mtlbench.options import options_of, read_spec
from mtlbench.registry import EXECUTORS
from mtlbench.runs import Json, read_record, remove_run, tidy
from mtlbench.runs.checked import unsure_of
from mtlbench.runs.lock import Busy, busy_with, working_on
from mtlbench.runs.provenance import interactive_parts
from mtlbench.runs.references import references
from mtlbench.soundness import sound_precision
from mtlbench.specs import Method, left_out_line, left_out_methods, parse_methods
from mtlbench.training.compiled import check_compiler
from mtlbench.training.protocol import check_protocol

if TYPE_CHECKING:
    from mtlbench.data.pack import Progress
    from mtlbench.jobs.executors.contract import Executor


class View:
    """What a user sees of an experiment; this base class shows nothing."""

    def say(self, words: str) -> None:
        """Show useful information."""

    def warn(self, words: str) -> None:
        """Warn of something that may change the meaning of the results."""

    def status(self, words: str) -> AbstractContextManager[None]:
        """Show what the program is waiting for."""
        return nullcontext()

    def bar(self, what: str) -> AbstractContextManager[Progress | None]:
        """Show a progress bar."""
        return nullcontext()

    def watch(self, runs: int) -> AbstractContextManager[Watcher]:
        """Show the progress of this many runs."""
        return nullcontext(Watcher())


@dataclass(frozen=True)
class Part:
    """The runs of one variant of the benchmark."""

    variant: Variant
    dataset: Dataset
    precision: str
    jobs: list[Job]


@dataclass(frozen=True)
class Experiment:
    """The user's request, read and checked.

    Attributes:
        versions: the benchmark, with every combination of the varied settings.
        results: the folder for records; overwrite: do finished runs again.
    """

    methods: Sequence[Method]
    versions: Sequence[Variant]
    seeds: Sequence[int]
    site: Site
    results: Path
    executor: Executor
    trackers: Chosen = field(default_factory=list)
    overwrite: bool = False


def read_experiment(
    view: View,
    *,
    dataset: str,
    methods: str,
    quick: bool,
    seeds: Sequence[int],
    settings: Sequence[str],
    vary: Sequence[str],
    tasks: str | None,
    site: Site,
    results: Path,
    jobs: int | None = None,
    on: str | None = None,
    track: Sequence[str] = (),
    overwrite: bool = False,
    plain: bool = False,
    recipes: Path | None = None,
) -> Experiment:
    """Read the request as the command line writes it; plug-ins must be loaded.

    `plain` ignores the benchmark's recipes; `recipes` is a file of other recipes.

    Raises:
        UserError: a name or value does not exist, or some do not go together.
    """
    chosen = parse_methods(methods)
    if waiting := left_out_methods(methods):
        view.warn(f"note: {left_out_line(waiting)}")
    executor, trackers = executor_of(jobs, on), read_trackers(track)
    wanted = names_in(tasks) if tasks is not None else None
    versions = with_recipes(variants(dataset, quick, settings, vary), plain, recipes)
    refuse_settings_of_recipes(chosen, versions, [*settings, *vary])
    if not isinstance(executor, Here):
        _refuse_cells(chosen, versions)
    return Experiment(
        chosen, versions, seeds,
        Site(site.data_dir, str(choose_device(site.device)), site.plugins, wanted), results, executor, trackers,
        overwrite,
    )  # fmt: skip


def _refuse_cells(methods: Sequence[Method], versions: Sequence[Variant]) -> None:
    """Refuse what was defined in a notebook's cell where other processes would need it.

    Raises:
        UserError: with what, and the remedy.
    """
    parts = [part for version in versions for one in methods for part in interactive_parts(one, version.benchmark)]
    if parts:
        raise UserError(
            f"Other processes don't have {joined(list(dict.fromkeys(parts)))}, defined in a notebook or at a prompt:"
            " run without jobs and on, or put the definition into a file and name it in plugins."
        )


def executor_of(jobs: int | None, on: str | None) -> Executor:
    """Return the executor of the runs: `on`, with at most `jobs` at a time; without both, the one in this process.

    Raises:
        UserError: there is no such executor, it takes no `jobs`, or a package that it needs is missing.
    """
    entry, options = read_spec(EXECUTORS, on or ("processes" if jobs and jobs > 1 else "here"))
    if missing := entry.left_out():
        raise UserError(f"The executor {missing}.")
    if jobs is not None and (on is not None or jobs > 1):
        if "jobs" not in options_of(entry.target):
            raise UserError(
                f"--jobs {jobs}: the executor {entry.name} does not divide its jobs; leave out one of the two."
            )
        if options.get("jobs", jobs) != jobs:
            raise UserError(f"--jobs {jobs} and --on {on}: give the number once.")
        options = options | {"jobs": jobs}
    made: Executor = entry.target(**options)
    return made


@contextmanager
def resources_of(experiment: Experiment) -> Iterator[None]:
    """Compute with the threads that the runs will have, also while steps are timed.

    At the end, drop the data and undo limits.
    """
    with resources():
        torch.set_num_threads(_threads(experiment.executor, torch.get_num_threads()))
        yield


def _threads(executor: Executor, available: int) -> int:
    return _number(executor, executor.threads, available)


def at_once(executor: Executor) -> int:
    """Return how many jobs an executor does at a time.

    Raises:
        ContractError: the executor did not return a number.
    """
    return _number(executor, executor.at_once)


def _number(executor: Executor, asked: Callable[..., int], *given: int) -> int:
    number: object = asked(*given)
    if not isinstance(number, int) or number < 1:
        cls = type(executor)
        own = getattr(cls, asked.__name__)
        raise breach(EXECUTORS, cls, f"return a whole number above 0 from {asked.__name__}", number, own)
    return number


@contextmanager
def resources() -> Iterator[None]:
    """At the end, drop the prepared data, and restore limits, the number of threads and what float32 is on a GPU."""
    before = torch.get_num_threads()
    forget()
    with memory.unguarded_again(), convolutions_as_before():
        try:
            yield
        finally:
            forget()
            torch.set_num_threads(before)


def plan_experiment(experiment: Experiment, view: View) -> list[Part]:
    """Prepare the data of every variant and plan its runs; anything that can't work is reported before training.

    Raises:
        UserError: settings do not go together, data is missing, or a method refuses an option.
    """
    site = experiment.site
    device, parts, told = torch.device(site.device), [], set[str]()
    for version in experiment.versions:
        check_protocol(version.benchmark)
        check_compiler(version.benchmark, device)
        if version.benchmark.train.deterministic:
            allow_deterministic(device)  # before this process runs anything, of any variant
    for version in experiment.versions:
        with view.bar("drawing images") as drawing, view.bar("packing images") as packing:
            data, notes = prepared(
                version.benchmark, site.data_dir, site.tasks, device, drawing, packing, view.say
            )  # fmt: skip
        methods = [with_recipe_of(version.benchmark, method) for method in experiment.methods]
        precision, warning = sound_precision(version.benchmark, device, methods, data.tasks)
        elsewhere = recipes_from_elsewhere(version.benchmark, methods, data)
        for note in dict.fromkeys(filter(None, [*notes, warning, *elsewhere])):
            if note not in told:
                view.warn(f"note: {note}")
                told.add(note)
        check_builds(methods, version.benchmark, data.tasks, view, told)
        jobs = plan(
            methods, experiment.seeds, version.benchmark, data, precision, experiment.results,
            experiment.overwrite, site=site, varied=version.varied, reference_varied=version.reference_varied,
        )  # fmt: skip
        parts.append(Part(version, data, precision, jobs))
    memory.guard_memory()
    return parts


def check_builds(
    methods: Sequence[Method], benchmark: Benchmark, tasks: tuple[str, ...], view: View, told: set[str] | None = None
) -> None:
    """Before training, find options that a method refuses and settings that do not apply to it.

    A method that can't be built gives a warning, and one that was not checked a note; with `told`, each appears once.
    """
    told = set() if told is None else told
    for method in methods:
        if (words := unsure_of(method)) and words not in told:
            view.warn(words)
            told.add(words)
        try:
            with torch.device("meta"):
                architecture, _ = build(method, benchmark, tasks, 0)
            own_tensors(architecture, benchmark, method.name)
        except UserError:
            raise
        except FAULTS as error:  # a fault in a plug-in: its own runs will fail with it, and the others continue
            words = f"{method.name} can't be built: {reason_of(error)}"
            if words not in told:
                view.warn(f"warning: {words}")
            told.add(words)


def check_folder(results: Path) -> None:
    """Check that the results folder can be written to, before anything is timed.

    Raises:
        UserError: it can't be written to.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=results).close()
    except OSError as error:
        raise UserError(
            f"{results} can't be written to: {error.strerror}. Name another folder with --results."
        ) from error


def train(experiment: Experiment, parts: Sequence[Part], view: View, asked: Callable[[], bool]) -> bool:
    """Do the runs that are not done; return whether any failed.

    Args:
        experiment: the user's request; parts: its plan.
        view: shows the progress to the user.
        asked: returns whether the user has asked to stop.

    Raises:
        UserError: the executor failed, or another process works on a run that is to be replaced.
        Interrupted: the user asked to stop; finished work is kept.
    """
    from mtlbench.training.state import Interrupted

    jobs = [job for part in parts for job in part.jobs]
    if experiment.overwrite:
        _remove(jobs)
    with view.status("measuring the reference rows …"):
        _judge_references(experiment, parts, view)
    for job in jobs:
        if job.state == "done":
            tidy(job.folder)
    todo = [job for job in jobs if job.state != "done" or job.costs_due]
    try:
        with (
            view.watch(len(todo)) as shown,
            tracking(experiment.trackers, shown, lambda words: view.warn(f"warning: {words}")) as seen,
        ):
            experiment.executor.run(todo, seen, asked)
    except (UserError, OSError, Interrupted):
        raise
    except Exception as error:  # finished work is kept
        raise UserError(f"The executor failed: {reason_of(error)}. What is done is kept.") from error
    records = [read_record(job.folder) for job in todo]
    if left := [job.label for job, record in zip(todo, records, strict=True) if record is None]:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        cls = type(experiment.executor)
        fault = breach(EXECUTORS, cls, "leave a run record of every job", f"none of {left[0]}{more}", cls.run)
        view.warn(f"warning: {fault}")
    return any(record is None or record.status == "failed" for record in records)


@contextmanager
def asking(tell: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether the user asked to stop: by Ctrl-C, SIGTERM, or closing the terminal.

    A second request stops at once.

    Args:
        tell: called at the first request. Signals reach the main thread only, so other threads get no request.
    """
    asked = False

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        with suppress(OSError):  # the terminal is gone
            tell()

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asking_ones = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # sent when a terminal closes; nohup ignores it, and that stays so
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        asking_ones.append(hangup)
    before = {s: signal.signal(s, ask) for s in asking_ones}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _judge_references(experiment: Experiment, parts: Sequence[Part], view: View) -> None:
    judged: list[Json] = []
    for part in parts:
        varied = part.variant.reference_varied
        if varied in judged:
            continue
        judged.append(varied)
        try:
            references(
                experiment.seeds, part.variant.benchmark, part.dataset, part.precision, experiment.results,
                experiment.overwrite, varied,
            )  # fmt: skip
        except (UserError, OSError):
            raise
        except FAULTS as error:
            if culprit(error):  # a plug-in's backbone or metric, which every run needs
                raise UserError(f"Nothing is trained: {reason_of(error)}.") from error
            view.warn(f"warning: the reference rows can't be measured: {reason_of(error)}")


def _remove(jobs: Sequence[Job]) -> None:
    """Remove the runs that are to be done again."""
    for job in jobs:
        if who := busy_with(job.folder):
            raise UserError(f"{who} works on {job.folder}: nothing is replaced. Stop it first, or wait for its end.")
    for job in jobs:
        try:
            with working_on(job.folder):
                remove_run(job.folder)
        except Busy as busy:
            raise UserError(f"{busy.who} works on {job.folder}: stop it first, or wait for its end.") from busy
