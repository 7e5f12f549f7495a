"""The runs as they go: a live view of all that are under way on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from statistics import mean
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


def terminal(console: Console) -> View:
    """Return what shows an experiment on a console."""
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
            return watcher(console, runs)

    return Terminal()


@contextmanager
def watcher(console: Console, runs: int) -> Iterator[Watcher]:
    """Yield what shows the runs."""
    from rich.live import Live

    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal and runs else None
    if live is None:
        yield _lines(console, runs, None)
    else:
        with live:
            yield _lines(console, runs, live)


def _validation(accuracy: dict[str, float]) -> str:
    if not accuracy:
        return "no validation yet"
    tasks = ", ".join(f"{task} {100 * a:.1f}" for task, a in accuracy.items())
    return f"validation mean {100 * mean(accuracy.values()):.1f} ({tasks})"


@dataclass
class _Course:
    """How a run has gone in this session: an earlier one had other speeds."""

    step: int
    seconds: float
    speed: str = ""  # of the latest steps, in words
    accuracy: dict[str, float] = field(default_factory=dict)  # of the latest validation

    def note(self, window: StepWindow) -> None:
        taken = window.seconds - self.seconds
        rate = (window.step - self.step) / taken if taken else 0
        left = duration((window.steps - window.step) / rate) if rate else "?"
        self.speed = f"loss {window.loss:.4f}, {window.images_per_second:,.0f} images/s, {left} left"


def _result(record: Record) -> tuple[str, str]:
    """Return the last line of a run, and its style."""
    if record.status == "failed":
        return f"FAILED: {record.reason}", "bold red"
    hits = [metrics["triplet"] for metrics in record.metrics.values()]
    fallen = f"; COLLAPSED under {', '.join(record.collapsed)}" if record.collapsed else ""
    time = duration(record.receipt["training_seconds"])
    return f"triplet accuracy {100 * mean(hits):.1f}, trained for {time}{fallen}", "red" if fallen else "green"


def _lines(console: Console, runs: int, live: Any) -> Watcher:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from mtlbench.jobs.job import Watcher
    from mtlbench.training.events import Started, StepWindow, Validation

    class Shown(Watcher):
        def __init__(self) -> None:
            self.numbers: dict[Path, int] = {}
            self.courses: dict[Path, _Course] = {}
            self.under_way: dict[Path, Any] = {}  # what the live view shows of each run

        def name(self, job: Job) -> str:
            number = self.numbers.setdefault(job.folder, len(self.numbers) + 1)
            return f"[{number}/{runs}] {job.label}"

        def show(self, job: Job, what: Any) -> None:
            self.under_way[job.folder] = what
            if live:
                live.update(Group(*self.under_way.values()))

        def started(self, job: Job) -> None:
            self.show(job, Text(self.name(job)))

        def happened(self, job: Job, event: Event) -> None:
            course = self.courses.get(job.folder)
            if course is None or isinstance(event, Started):
                course = self.courses[job.folder] = _Course(event.step, event.seconds)
            if isinstance(event, StepWindow):
                course.note(event)
            elif isinstance(event, Validation):
                course.accuracy = event.accuracy
                if not live:
                    where = f"step {event.step:,}/{event.steps:,}"
                    say(console, f"{self.name(job)}: {where}, {course.speed}; {_validation(course.accuracy)}")
            if live:
                top = Table.grid(padding=(0, 1))
                bar = ProgressBar(event.steps, event.step, width=30)
                top.add_row(
                    Text(self.name(job), "bold"), bar, Text(f"{event.step:,}/{event.steps:,}"), Text(course.speed)
                )
                self.show(job, Group(top, Text(_validation(course.accuracy), "dim")))

        def doing(self, job: Job, what: str) -> None:
            self.show(job, Text(f"{self.name(job)}: {what} …"))

        def ended(self, job: Job, record: Record) -> None:
            line, style = _result(record)
            self.under_way.pop(job.folder, None)
            if live:
                live.update(Group(*self.under_way.values()))
            console.print(Text(printable(f"{self.name(job)}: {line}"), style=style), soft_wrap=True)

        def busy(self, job: Job, who: str) -> None:
            say(console, f"{self.name(job)}: {who} works on it; the other runs go first", "yellow")

    return Shown()
