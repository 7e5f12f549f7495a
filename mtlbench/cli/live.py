"""The runs as they go: a live view of all that are under way on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import mean
from typing import TYPE_CHECKING, Any

from mtlbench.cli.progress import duration, say

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from mtlbench.jobs.job import Job, Watcher
    from mtlbench.runs import Record
    from mtlbench.training.state import Progress


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


def _validation(progress: Progress) -> str:
    if not progress.accuracy:
        return "no validation yet"
    tasks = ", ".join(f"{task} {100 * a:.1f}" for task, a in progress.accuracy.items())
    return f"validation mean {100 * mean(progress.accuracy.values()):.1f} ({tasks})"


def _speed(progress: Progress) -> str:
    if not progress.images_per_second:
        return ""
    rate = progress.step / progress.seconds if progress.seconds else 0
    left = duration((progress.steps - progress.step) / rate) if rate else "?"
    return f"loss {progress.loss:.4f}, {progress.images_per_second:,.0f} images/s, {left} left"


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

    class Shown(Watcher):
        def __init__(self) -> None:
            self.numbers: dict[Path, int] = {}
            self.validated: dict[Path, dict[str, float]] = {}  # the latest lines' accuracies
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

        def progress(self, job: Job, progress: Progress) -> None:
            speed = _speed(progress)
            if live:
                top = Table.grid(padding=(0, 1))
                bar = ProgressBar(progress.steps, progress.step, width=30)
                top.add_row(Text(self.name(job), "bold"), bar, f"{progress.step:,}/{progress.steps:,}", speed)
                self.show(job, Group(top, Text(_validation(progress), "dim")))
            elif speed and progress.accuracy and progress.accuracy != self.validated.get(job.folder):
                self.validated[job.folder] = progress.accuracy
                where = f"step {progress.step:,}/{progress.steps:,}"
                say(console, f"{self.name(job)}: {where}, {speed}; {_validation(progress)}")

        def doing(self, job: Job, what: str) -> None:
            self.show(job, Text(f"{self.name(job)}: {what} …"))

        def ended(self, job: Job, record: Record) -> None:
            line, style = _result(record)
            self.under_way.pop(job.folder, None)
            if live:
                live.update(Group(*self.under_way.values()))
            console.print(Text(f"{self.name(job)}: {line}", style=style), soft_wrap=True)

        def busy(self, job: Job, who: str) -> None:
            say(console, f"{self.name(job)}: {who} works on it; the other runs go first", "yellow")

    return Shown()
