"""The progress of runs: a live view of all that are under way on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from math import nan
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from mtlbench.cli.progress import bar, duration, say, status
from mtlbench.names import printable

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from mtlbench.jobs.experiment import View
    from mtlbench.jobs.job import Job, Watcher
    from mtlbench.runs import Record
    from mtlbench.training.events import Event, StepWindow


_BAR = 30  # characters of a bar, where there is room
_SOME = 0.02  # of a run's work: the share from which on its pace says something


def terminal(console: Console, planned: Mapping[Path, float] | None = None) -> View:
    """Return what shows an experiment on a console.

    Args:
        console: where.
        planned: the seconds that runs were planned to take, by folder; filled once they are planned.
    """
    from mtlbench.jobs.experiment import View

    class Terminal(View):
        def say(self, words: str) -> None:
            say(console, words)

        def warn(self, words: str) -> None:
            say(console, words, "yellow")

        def status(self, words: str) -> AbstractContextManager[None]:
            return status(console, words)

        def bar(self, what: str) -> AbstractContextManager[Any]:
            return bar(console, what)

        def watch(self, runs: int) -> AbstractContextManager[Watcher]:
            return watcher(console, runs, planned)

    return Terminal()


@contextmanager
def watcher(console: Console, runs: int, planned: Mapping[Path, float] | None = None) -> Iterator[Watcher]:
    """Yield what shows the runs; with `planned`, how long all of them will take too."""
    from rich.live import Live

    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal and runs else None
    suite = Suite(runs, planned or {})
    if live is None:
        yield _lines(console, suite, None)
    else:
        with live:
            yield _lines(console, suite, live)


class Suite:
    """The progress of all runs, each at its own pace: a plan made on a busy machine may be far off.

    Args:
        runs: how many there are.
        planned: the seconds that each was planned to take from here, by folder.
        clock: seconds, which only grow.
    """

    def __init__(self, runs: int, planned: Mapping[Path, float], clock: Callable[[], float] = time.monotonic) -> None:
        self.runs, self.planned, self.clock = runs, planned, clock
        self.begun = clock()
        self.shares: dict[Path, float] = {}  # of each run's work in this session, what is done
        self.seen: dict[Path, tuple[float, float]] = {}  # when each began, and when it was last heard of

    def note(self, folder: Path, share: float) -> None:
        """Say how much of a run's work is done; 0 where it begins, 1 where it has ended."""
        self.shares[folder] = share
        self.seen[folder] = (self.seen.get(folder, (self.clock(), 0.0))[0], self.clock())

    @property
    def ended(self) -> int:
        """How many runs have ended."""
        return sum(share >= 1 for share in self.shares.values())

    def seconds_left(self) -> float | None:
        """Return how long the rest will take; None where that is unknown.

        A run under way continues at its own pace. Any other takes what it was planned to take, times the median of how
        much longer than planned the others take. Runs side by side share the time.
        """
        spent = {folder: last - first for folder, (first, last) in self.seen.items()}
        whole = {
            folder: spent[folder] / share
            for folder, share in self.shares.items()
            if share >= _SOME and spent[folder] > 0 and self.planned.get(folder)
        }
        if not whole:
            return None
        pace = median(seconds / self.planned[folder] for folder, seconds in whole.items())
        left = sum(
            whole.get(folder, seconds * pace) * (1 - self.shares.get(folder, 0.0))
            for folder, seconds in self.planned.items()
        )
        side_by_side = sum(spent.values()) / (self.clock() - self.begun)
        return left / max(side_by_side, 1.0)

    def __str__(self) -> str:
        left = self.seconds_left() if self.ended < self.runs else None
        return f"{self.ended} of {self.runs} runs done{f', about {duration(left)} left in all' if left else ''}"


def _validation(accuracy: dict[str, float]) -> str:
    if not accuracy:
        return "no validation yet"
    tasks = ", ".join(f"{task} {100 * a:.1f}" for task, a in accuracy.items())
    return f"validation mean {100 * mean(accuracy.values()):.1f} ({tasks})"


@dataclass
class _Course:
    """A run's progress in this session; an earlier session had other speeds."""

    step: int
    seconds: float
    speed: str = ""  # of the latest steps, in words
    accuracy: dict[str, float] = field(default_factory=dict)  # of the latest validation

    def share(self, step: int, steps: int) -> float:
        """Return the share of this session's work that is done."""
        return (step - self.step) / (steps - self.step) if steps > self.step else 1.0

    def note(self, window: StepWindow) -> None:
        taken = window.seconds - self.seconds
        rate = (window.step - self.step) / taken if taken else 0
        left = duration((window.steps - window.step) / rate) if rate else "?"
        self.speed = f"loss {window.loss:.4f}, {window.images_per_second:,.0f} images/s, {left} left"


def _result(record: Record) -> tuple[str, str]:
    """Return the last line of a run, and its style."""
    if record.status == "failed":
        return f"FAILED: {record.reason}", "bold red"
    fallen = f"; COLLAPSED under {', '.join(record.collapsed)}" if record.collapsed else ""
    time = duration(record.receipt["training_seconds"])
    share = nan if record.accuracy is None else record.accuracy
    return f"triplet accuracy {100 * share:.1f}, trained for {time}{fallen}", "red" if fallen else "green"


def _lines(console: Console, suite: Suite, live: Any) -> Watcher:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from mtlbench.jobs.job import Watcher
    from mtlbench.training.events import Started, StepWindow, Validation

    def line(words: str, style: str = "") -> Text:
        return Text(printable(words), style, no_wrap=True, overflow="ellipsis")  # a line is cut, no word broken

    class Shown(Watcher):
        def __init__(self) -> None:
            self.numbers: dict[Path, int] = {}
            self.courses: dict[Path, _Course] = {}
            self.under_way: dict[Path, list[Any]] = {}  # the lines that the live view shows of each run

        def name(self, job: Job) -> str:
            number = self.numbers.setdefault(job.folder, len(self.numbers) + 1)
            return f"[{number}/{suite.runs}] {job.label}"

        def show(self, job: Job, *lines: Any) -> None:
            self.under_way[job.folder] = list(lines)
            self.update()

        def update(self) -> None:
            if live:
                last = [line(str(suite), "dim")] if suite.runs > 1 else []
                live.update(Group(*self.fitting(console.height - len(last) - 1), *last))

        def fitting(self, room: int) -> list[Any]:
            """Return what fits: every line, else one of each run, those that train first, and how many are left out."""
            runs = list(self.under_way.values())
            if sum(map(len, runs)) <= room:
                return [one for lines in runs for one in lines]
            first = [lines[0] for lines in sorted(runs, key=lambda lines: len(lines) == 1)]
            more = len(first) - (room - 1)
            return first if len(first) <= room else [*first[: room - 1], line(f"… and {more} more", "dim")]

        def started(self, job: Job) -> None:
            suite.note(job.folder, 0.0)
            self.show(job, line(self.name(job)))

        def happened(self, job: Job, event: Event) -> None:
            course = self.courses.get(job.folder)
            if course is None or isinstance(event, Started):
                course = self.courses[job.folder] = _Course(event.step, event.seconds)
            suite.note(job.folder, min(course.share(event.step, event.steps), 0.99))
            if isinstance(event, StepWindow):
                course.note(event)
            elif isinstance(event, Validation):
                course.accuracy = event.accuracy
                if not live:
                    where = f"step {event.step:,}/{event.steps:,}"
                    say(console, f"{self.name(job)}: {where}, {course.speed}; {_validation(course.accuracy)}")
            if live:
                top, count = Table.grid(padding=(0, 1)), f"{event.step:,}/{event.steps:,}"
                cells: list[Any] = [line(self.name(job), "bold"), line(count)]
                room = console.width - len(self.name(job)) - len(count) - 3
                if room >= _BAR // 2:
                    cells.insert(1, ProgressBar(event.steps, event.step, width=min(_BAR, room)))
                top.add_row(*cells)
                below = [line(f"  {words}", "dim") for words in (course.speed, _validation(course.accuracy)) if words]
                self.show(job, top, *below)

        def doing(self, job: Job, what: str) -> None:
            self.show(job, line(f"{self.name(job)}: {what} …"))

        def ended(self, job: Job, record: Record) -> None:
            words, style = _result(record)
            self.under_way.pop(job.folder, None)
            suite.note(job.folder, 1.0)
            self.update()
            so_far = f"; {suite}" if not live and suite.ended < suite.runs else ""
            say(console, f"{self.name(job)}: {words}{so_far}", style)

        def busy(self, job: Job, who: str) -> None:
            say(console, f"{self.name(job)}: {who} works on it; the other runs go first", "yellow")

    return Shown()
