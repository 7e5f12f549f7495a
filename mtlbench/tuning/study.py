"""The trials of all methods in one journal: created, claimed by a process, and finished.

No trial is lost if a process dies. Optuna keeps the trials: one study per method, in one journal beside the
benchmark's results. A trial belongs to the process that holds the lock of its folder. If a trial has begun and nobody
holds its lock, another process continues it.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from mtlbench.errors import UserError
from mtlbench.recipes import Range, Where
from mtlbench.runs.lock import Busy, busy_with, working_on
from mtlbench.runs.record import Json, run_folder
from mtlbench.tuning.halving import Rung, going_on

if TYPE_CHECKING:
    import optuna

RANDOM_TRIALS = 8  # the default and those spread over the space, before earlier results guide the choice
JOURNAL = "trials.journal"
Space = tuple[str, Json, dict[str, Where]]
"""A method's name, its defaults inside the search space, and the search space."""
State = Literal["done", "failed", "dropped", "begun"]


def need_optuna() -> None:
    """Raise an error if Optuna is missing.

    Raises:
        UserError: it is missing; the message says how to install it.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("mtlbench tune needs Optuna: pip install optuna, or pip install 'mtlbench[tune]'.") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Trial:
    """One trial of a method.

    Attributes:
        method: its name; number: from 0, which is the default.
        state: `done`, `failed`, `dropped` by halving, or `begun`.
        values: the tried values, by name; for the default, those inside the search space.
        score: the score on the validation split that trials are chosen by, a mean over seeds; higher is better.
        accuracy: mean triplet accuracy there.
        seconds: its duration; reason: why it failed or was dropped.
        steps: how many steps it was trained, noted at rungs and at its end.
    """

    method: str
    number: int
    state: State
    values: Json = field(default_factory=dict)
    score: float | None = None
    accuracy: float | None = None
    seconds: float = 0.0
    reason: str = ""
    steps: int = 0


class Studies:
    """The trials of some methods on a benchmark.

    Args:
        folder: the folder of the journal and the trials' folders; made if absent.
        ladder: the rungs of successive halving; none if every trial is trained to its end.

    Attributes:
        dropped: trials that this object has dropped and not yet reported.
    """

    def __init__(self, folder: Path, ladder: Sequence[Rung] = ()) -> None:
        need_optuna()
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ladder = folder, ladder
        self.dropped: list[Trial] = []
        lock: Any = _JournalLock(folder / JOURNAL)
        lock.acquire()  # cut off what a process wrote when it died, before anyone reads it
        lock.release()
        self._storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL), lock_obj=lock))
        self._lock = FileLock(folder / ".studies.lock")

    def open(self, method: str, about: Json) -> list[str]:
        """Open a method's study; return how its earlier setup differs, or nothing if it doesn't.

        Args:
            method: its name.
            about: everything that decides the outcome of a trial, as JSON.
        """
        from mtlbench.runs.setup import differences

        with self._lock:
            study = self._study(method)
            before = study.user_attrs.get("about")
            if before is None:
                study.set_user_attr("about", about)
                return []
        unlike = differences(before["setup"], about["setup"])
        return unlike + [f"{k}: {before.get(k)} there, {v} now" for k, v in about.items()
                         if k != "setup" and before.get(k) != v]  # fmt: skip

    def forget(self, method: str) -> None:
        """Remove a method's trials.

        Raises:
            UserError: a process works on one of them.
        """
        import shutil

        with self._lock:
            study = self._study(method)
            for trial in study.get_trials(deepcopy=False):
                place = self.place(method, trial.number)
                if not trial.state.is_finished() and (who := busy_with(place)):
                    raise UserError(f"{who} works on {place}: nothing is replaced. Stop it first, or wait for its end.")
            self._storage.delete_study(study._study_id)
            shutil.rmtree(self.place(method, 0).parent, ignore_errors=True)

    def place(self, method: str, number: int) -> Path:
        """Return the folder of a trial."""
        return run_folder(self.folder.parent, self.folder.name, method, 0).with_name(f"trial-{number:03d}")

    def trials(self, method: str) -> list[Trial]:
        """Return a method's trials so far, in order."""
        return [_read(method, trial) for trial in self._study(method).get_trials(deepcopy=False)]

    @contextmanager
    def claimed(self, methods: Sequence[Space], trials: int) -> Iterator[Claim | None]:
        """Hold the next trial that nobody works on, or None.

        Args:
            methods: for each its name, defaults inside the search space, and search space.
            trials: how many each method gets.
        """
        lock = None
        with self._lock:
            claim = None
            for (method, known, where), number, until in self._open(methods, trials):
                holding = working_on(self.place(method, number))
                try:
                    holding.__enter__()
                except Busy:
                    continue
                try:
                    if self._is_done(method, number, until):  # another process has done it meanwhile
                        holding.__exit__(None, None, None)
                        continue
                    claim = self._ask(method, number, known, where, until)
                except BaseException:
                    holding.__exit__(None, None, None)
                    raise
                lock = holding
                break
        try:
            yield claim
        finally:
            if lock is not None:
                lock.__exit__(None, None, None)

    def _is_done(self, method: str, number: int, until: int | None) -> bool:
        made = self._study(method).get_trials(deepcopy=False)
        return number < len(made) and (made[number].state.is_finished() or until in _reached(made[number]))

    def _open(self, methods: Sequence[Space], trials: int) -> Iterator[tuple[Space, int, int | None]]:
        """Yield the open work: a method, a trial's number, and the step to train it to, or None for the last step.

        Without rungs, the order is by number, so that methods advance together. With rungs, it is method by method,
        since a trial's checkpoint is kept until its rung is decided.
        """
        if self.ladder:
            for method in methods:
                for number, until in self._on_the_ladder(method[0]):
                    yield method, number, until
            return
        for number in range(trials):
            for method in methods:
                made = self._study(method[0]).get_trials(deepcopy=False)
                if number >= len(made) or not made[number].state.is_finished():
                    yield method, number, None

    def _on_the_ladder(self, method: str) -> Iterator[tuple[int, int | None]]:
        """Yield the trials that have not reached the lowest undecided rung; first decide the rungs that can be decided.

        Decisions depend on the journal alone, so every process makes the same ones.
        """
        alive = set(range(self.ladder[0].trials))
        for rung, above in zip(self.ladder, [*self.ladder[1:], None], strict=True):
            study = self._study(method)
            made = dict(enumerate(study.get_trials(deepcopy=False)))
            scores = {}
            missing = []
            for number in sorted(alive):
                reached = _reached(made[number]) if number in made else {}
                if rung.step in reached:
                    scores[number] = reached[rung.step]
                elif number not in made or not made[number].state.is_finished():
                    missing.append(number)
            if missing or above is None:
                yield from ((number, None if above is None else rung.step) for number in missing)
                return
            alive = going_on(scores, above.trials)
            for number in sorted(scores.keys() - alive):
                if not made[number].state.is_finished():
                    self._drop(study, made[number], method, rung.step)

    def _drop(self, study: optuna.Study, frozen: optuna.trial.FrozenTrial, method: str, step: int) -> None:
        import shutil

        import optuna

        trial = _taken_up(study, frozen)
        trial.set_user_attr("reason", f"dropped at step {step:,}")
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        shutil.rmtree(self.place(method, frozen.number), ignore_errors=True)
        self.dropped.append(self.trials(method)[frozen.number])

    def taken_note(self) -> list[Trial]:
        """Return the trials dropped since the last call."""
        found, self.dropped = self.dropped, []
        return found

    def finished(self, methods: Sequence[str], trials: int) -> bool:
        """Return whether every method has had its trials."""
        return all(sum(t.state != "begun" for t in self.trials(method)) >= trials for method in methods)

    def fail(self, method: str, number: int, reason: str) -> bool:
        """End a begun trial whose process died, and remove what it kept; return False if it needed no ending."""
        import shutil

        with self._lock:
            study = self._study(method)
            made = study.get_trials(deepcopy=False)
            if number >= len(made) or made[number].state.is_finished() or busy_with(self.place(method, number)):
                return False
            place = self.place(method, number)
            Claim(study, _taken_up(study, made[number]), method, place, {}).fail(reason)
            shutil.rmtree(place, ignore_errors=True)
            return True

    @property
    def _spread(self) -> int:
        """How many trials do without earlier results; with rungs all, since all begin before any has a result."""
        return max(RANDOM_TRIALS, self.ladder[0].trials if self.ladder else 0)

    def _study(self, method: str, seed: int | None = None) -> optuna.Study:
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # the seed depends on the trial's number: all methods and processes draw the same for the same number
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._spread, constant_liar=True)
        try:  # load first: trying to create a study adds a line to the journal even if the study exists
            return optuna.load_study(study_name=method, storage=self._storage, sampler=sampler)
        except KeyError:
            return optuna.create_study(
                storage=self._storage, sampler=sampler, study_name=method, direction="maximize", load_if_exists=True
            )

    def _ask(self, method: str, number: int, known: Json, where: dict[str, Where], until: int | None) -> Claim:
        """Begin a trial, or continue one that was begun; a trial keeps the values that were drawn for it."""
        import optuna

        study = self._study(method, number)
        made = study.get_trials(deepcopy=False)
        if len(made) <= number < self._spread:
            others = self._spread - 1
            study.enqueue_trial(
                known if number == 0 else {n: spread(n, w, number - 1, others) for n, w in where.items()}
            )
            made = study.get_trials(deepcopy=False)
        fresh = number >= len(made) or made[number].state == optuna.trial.TrialState.WAITING
        trial = study.ask() if fresh else _taken_up(study, made[number])
        assert trial.number == number
        names = known if number == 0 else where  # the default's values are given, and some may be outside the space
        values = {name: _value(trial, name, where[name]) for name in names}
        return Claim(study, trial, method, self.place(method, number), {} if number == 0 else values, until)


@dataclass
class Claim:
    """A trial that this process works on.

    Attributes:
        folder: for the files that it keeps while it trains.
        values: the values to try; empty for the default.
        until: the step to train it to for now; None for the last.
    """

    study: optuna.Study
    trial: optuna.Trial
    method: str
    folder: Path
    values: Json
    until: int | None = None

    @property
    def number(self) -> int:
        """The trial's number, 0 for the default."""
        return int(self.trial.number)

    def seeds(self) -> dict[str, Json]:
        """Return the outcomes of the seeds that have been trained as far as they need."""
        return dict(self.trial.user_attrs.get(self._kept, {}))

    def note(self, seed: int, outcome: Json) -> None:
        """Record the outcome of a seed."""
        self.trial.set_user_attr(self._kept, self.seeds() | {str(seed): outcome})

    @property
    def _kept(self) -> str:
        return "seeds" if self.until is None else f"seeds to {self.until}"

    def done(self) -> None:
        """End the trial with the mean over its seeds; a trial that was trained to a rung waits there."""
        scores = [one["score"] for one in self.seeds().values()]
        mean = sum(scores) / len(scores)
        if self.until is None:
            self.study.tell(self.trial, mean)
        else:
            self.trial.report(mean, self.until)

    def fail(self, reason: str) -> None:
        """End the trial with the reason of its failure."""
        import optuna

        self.trial.set_user_attr("reason", reason)
        self.study.tell(self.trial, state=optuna.trial.TrialState.FAIL)


def _taken_up(study: optuna.Study, frozen: optuna.trial.FrozenTrial) -> optuna.Trial:
    import optuna

    return optuna.Trial(study, frozen._trial_id)


def _reached(frozen: optuna.trial.FrozenTrial) -> dict[int, float]:
    """Return a trial's scores at the rungs that it has reached, by step."""
    return dict(frozen.intermediate_values)


def _value(trial: optuna.Trial, name: str, where: Where) -> Any:
    """Draw a value, or return the one drawn before."""
    if not isinstance(where, Range):
        return trial.suggest_categorical(name, list(where))
    if where.whole:
        return trial.suggest_int(name, int(where.low), int(where.high))
    return _rounded(trial.suggest_float(name, float(where.low), float(where.high), log=where.log))


def spread(name: str, where: Where, number: int, trials: int) -> Any:
    """Return a trial's value of one parameter in a Latin hypercube: of n trials, one lies in each n-th of its range.

    McKay, Beckman, Conover, Technometrics 1979. The order depends on the parameter's name, so that methods try the same
    values of what they have in common in the same trials.
    """
    chance = random.Random(name)
    places = chance.sample(range(trials), trials)
    within = [chance.random() for _ in range(trials)]
    share = (places[number] + within[number]) / trials
    if not isinstance(where, Range):
        return list(where)[int(share * len(where))]
    low, high = where.low, where.high
    if where.whole:
        return int(low) + int(share * (int(high) - int(low) + 1))
    return float(low * (high / low) ** share if where.log else low + (high - low) * share)


def _rounded(value: Any) -> Any:
    """Return a drawn number, rounded as trials use it and recipes store it."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _read(method: str, frozen: optuna.trial.FrozenTrial) -> Trial:
    states: dict[str, State] = {"COMPLETE": "done", "FAIL": "failed", "PRUNED": "dropped"}
    kept = [frozen.user_attrs[f"seeds to {step}"] for step in sorted(frozen.intermediate_values)]
    seeds = frozen.user_attrs.get("seeds") or (kept[-1] if kept else {})
    state = states.get(frozen.state.name, "begun")
    accuracy = sum(s["accuracy"] for s in seeds.values()) / len(seeds) if seeds else None
    return Trial(
        method,
        frozen.number,
        state,
        {name: _rounded(value) for name, value in frozen.params.items()},
        frozen.value if state == "done" else None,  # at a rung, the value belongs to a shorter training
        accuracy,
        sum(s["seconds"] for s in seeds.values()),
        str(frozen.user_attrs.get("reason", "")),
        max((s.get("trained", 0) for s in seeds.values()), default=0),
    )


class _JournalLock:
    """A lock in the form that Optuna's journals need; it ends with its process, and removes a torn last line."""

    def __init__(self, journal: Path) -> None:
        self.journal, self.lock = journal, FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        self.lock.acquire()
        if self.journal.exists():
            _cut_torn_line(self.journal)
        return True

    def release(self) -> None:
        self.lock.release()


def _cut_torn_line(journal: Path) -> None:
    """Cut off a last line without an end: its writer died, and nobody has read it."""
    with journal.open("rb+") as file:
        size = file.seek(0, 2)
        kept = size
        while kept:
            step = min(kept, 4096)
            file.seek(kept - step)
            block = file.read(step)
            if (place := block.rfind(b"\n")) >= 0:
                kept = kept - step + place + 1
                break
            kept -= step
        if kept < size:
            file.truncate(kept)
