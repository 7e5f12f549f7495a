"""What a user sees while mtlbench works: bars and a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mtlbench.names import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console


def say(console: Console, words: str, style: str = "") -> None:
    """Print a sentence: on a terminal wrapped between words with its indentation; elsewhere in one line."""
    from rich.padding import Padding
    from rich.text import Text

    from mtlbench.report.grids import Trimmed

    text = printable(words)
    if not console.is_terminal:
        console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)
        return
    bare = text.lstrip(" ")
    indented = len(text) - len(bare)
    # an indented line goes on further in
    lines = Text(bare).wrap(console, max(20, console.width - indented - (2 if indented else 0)))
    for number, line in enumerate(lines):
        left = indented + (2 if indented and number else 0)
        console.print(Trimmed(Padding(line, (0, 0, 0, left))), style=style or None)


def command(console: Console, what: str, line: str) -> None:
    """Print a command to be copied: beside its purpose, or below it where the line would be too long."""
    apart = console.is_terminal and len(what) + len(line) + 2 > console.width
    console.print(printable(f"{what}:{chr(10) if apart else ''} {line}"), markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a length of time in words: 45 s, 12 minutes, 3 days."""
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.0f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"


@contextmanager
def status(console: Console, words: str) -> Iterator[None]:
    """Show on a terminal what mtlbench waits for."""
    from rich.text import Text

    if console.is_terminal:
        with console.status(Text(printable(words))):
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
                console.print(f"{what}: {total:,}", markup=False, highlight=False)
            seen = done

        yield line
        return
    shown = Progress(
        TextColumn("{task.description}", markup=False),
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
