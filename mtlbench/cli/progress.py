"""What a user sees while mtlbench works: bars and a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console


def say(console: Console, words: str, style: str = "") -> None:
    """Print one line as it is, however long."""
    console.print(words, style=style or None, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a length of time in words: 45 s, 12 minutes, 3 days."""
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"


@contextmanager
def status(console: Console, words: str) -> Iterator[None]:
    """Show on a terminal what is being waited for."""
    if console.is_terminal:
        with console.status(words):
            yield
    else:
        yield


@contextmanager
def bar(console: Console, what: str) -> Iterator[Any]:
    """Yield a callback (done, of) that shows a bar on a terminal, and one line as it begins elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not console.is_terminal:
        seen = 0

        def line(done: int, total: int) -> None:
            nonlocal seen
            if not seen:
                console.print(f"{what}: {total:,}", highlight=False)
            seen = done

        yield line
        return
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    number = shown.add_task(what, total=None, visible=False)

    def update(done: int, total: int) -> None:
        if not shown.live.is_started:
            shown.start()
        shown.update(number, completed=done, total=total, visible=True)
        if done >= total:
            shown.stop()

    try:
        yield update
    finally:
        shown.stop()


@contextmanager
def watcher(console: Console, runs: int) -> Iterator[Any]:
    """Yield what shows the runs: a live view on a terminal, plain lines elsewhere."""
    from statistics import mean

    from rich.console import Group
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from mtlbench.jobs.job import Watcher
    from mtlbench.training.events import Event, Started, StepWindow, Validation

    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal and runs else None
    number = 0

    def name(job: Any) -> str:
        return f"[{number}/{runs}] {job.method.name}, seed {job.seed}"

    def validation(accuracy: dict[str, float]) -> str:
        if not accuracy:
            return "no validation yet"
        tasks = ", ".join(f"{task} {100 * a:.1f}" for task, a in accuracy.items())
        return f"validation mean {100 * mean(accuracy.values()):.1f} ({tasks})"

    class Shown(Watcher):
        def __init__(self) -> None:
            self.begun: Started | None = None
            self.speed = ""  # of the latest steps, in words
            self.accuracy: dict[str, float] = {}  # of the latest validation

        def started(self, job: Any) -> None:
            nonlocal number
            number += 1
            self.begun, self.speed, self.accuracy = None, "", {}
            if live:
                live.update(Text(name(job)))

        def happened(self, job: Any, event: Event) -> None:
            if isinstance(event, Started):
                self.begun = event
            elif isinstance(event, StepWindow) and self.begun:
                taken = event.seconds - self.begun.seconds  # of this session alone: an earlier one had other speeds
                rate = (event.step - self.begun.step) / taken if taken else 0
                left = duration((event.steps - event.step) / rate) if rate else "?"
                self.speed = f"loss {event.loss:.4f}, {event.images_per_second:,.0f} images/s, {left} left"
            elif isinstance(event, Validation):
                self.accuracy = event.accuracy
                if not live:
                    where = f"step {event.step:,}/{event.steps:,}"
                    say(console, f"{name(job)}: {where}, {self.speed}; {validation(self.accuracy)}")
            if live:
                top = Table.grid(padding=(0, 1))
                bar = ProgressBar(event.steps, event.step, width=30)
                top.add_row(Text(name(job), "bold"), bar, f"{event.step:,}/{event.steps:,}", self.speed)
                live.update(Group(top, Text(validation(self.accuracy), "dim")))

        def doing(self, job: Any, what: str) -> None:
            if live:
                live.update(Text(f"{name(job)}: {what} …"))

        def ended(self, job: Any, record: Any) -> None:
            if record.status == "failed":
                line, style = f"FAILED: {record.reason}", "bold red"
            else:
                hits = [metrics["triplet"] for metrics in record.metrics.values()]
                fallen = f"; COLLAPSED under {', '.join(record.collapsed)}" if record.collapsed else ""
                time = duration(record.receipt["training_seconds"])
                line = f"triplet accuracy {100 * mean(hits):.1f}, trained for {time}{fallen}"
                style = "red" if fallen else "green"
            console.print(Text(f"{name(job)}: {line}", style=style), soft_wrap=True)

    if live is None:
        yield Shown()
    else:
        with live:
            yield Shown()
