"""The progress of trials: on a terminal a live table of methods, elsewhere a line for each trial that ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mtlbench.cli.progress import duration, say

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.training.events import Event
    from mtlbench.tuning.study import Studies, Trial
    from mtlbench.tuning.tune import Told, Tuning


@contextmanager
def shown(console: Console, tuning: Tuning, studies: Studies) -> Iterator[Told]:
    """Yield what shows the trials."""
    from rich.live import Live

    if not console.is_terminal:
        yield _told(console, tuning, studies, None)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield _told(console, tuning, studies, live)


def _told(console: Console, tuning: Tuning, studies: Studies, live: Any) -> Told:
    from rich.table import Table

    from mtlbench.tuning.halving import budget
    from mtlbench.tuning.tune import Told

    class Shown(Told):
        def __init__(self) -> None:
            self.trials: dict[str, dict[int, Trial]] = {}
            for name in tuning.names:
                ended = [trial for trial in studies.trials(name)[: tuning.trials] if trial.state != "begun"]
                self.trials[name] = {trial.number: trial for trial in ended}
            self.begun_at, self.done_here, self.looked = time.monotonic(), 0.0, 0.0
            self.under_way: dict[tuple[str, int], float] = {}  # how much of each is done, from 0 to 1
            self.steps: dict[tuple[str, int], int] = {
                (name, trial.number): trial.steps for name in tuning.names for trial in studies.trials(name)
            }
            self.steps_here = 0
            already = self.count
            if already:
                say(console, f"{already} of {self.total} trials are done already.")
            self.show()

        @property
        def total(self) -> int:
            return tuning.trials * len(tuning.names)

        @property
        def count(self) -> int:
            return sum(map(len, self.trials.values()))

        def begun(self, method: str, number: int) -> None:
            self.under_way[method, number] = 0.0
            self.show()

        def happened(self, method: str, number: int, event: Event) -> None:
            self.under_way[method, number] = event.step / event.steps
            self.steps_here += max(0, event.step - self.steps.get((method, number), 0))
            self.steps[method, number] = event.step
            if live and time.monotonic() - self.looked > 0.25:
                self.show()

        def rests(self, method: str, number: int, step: int) -> None:
            self.under_way.pop((method, number), None)
            if live:
                self.show()
            else:
                say(console, f"{method}, trial {number}: waits at step {step:,}, {self.left()} left")

        def ended(self, trial: Trial) -> None:
            self.under_way.pop((trial.method, trial.number), None)
            self.trials[trial.method][trial.number] = trial
            self.done_here += 1
            if live:
                self.show()
            else:
                what = {"dropped": trial.reason, "failed": f"FAILED: {trial.reason}"}.get(trial.state, "")
                what = what or f"validation {100 * (trial.score or 0.0):.1f}"
                best = self.best(trial.method)
                so_far = f", best {100 * (best.score or 0):.1f} (trial {best.number})" if best else ""
                left = f", {self.left()} left" if self.count < self.total else ""
                where = f"[{self.count}/{self.total}] {trial.method}, trial {trial.number}"
                say(console, f"{where}: {what}{so_far}{left}")

        def waiting(self) -> None:
            say(console, "Other processes work on what is left; waiting for them.", "yellow")

        def best(self, method: str) -> Trial | None:
            done = [trial for trial in self.trials[method].values() if trial.score is not None]
            return max(done, key=lambda trial: (trial.score, -trial.number), default=None)

        def left(self) -> str:
            """Say how long the rest takes at the pace of this session."""
            if tuning.halving:
                if not self.steps_here:
                    return "?"
                steps = len(tuning.names) * budget(tuning.ladder) - sum(self.steps.values())
                pace = (time.monotonic() - self.begun_at) / self.steps_here
                return duration(pace * max(steps, 0) * len(tuning.seeds))
            done = self.done_here + sum(self.under_way.values())
            if not done:
                return "?"
            rest = self.total - self.count - sum(self.under_way.values())
            return duration((time.monotonic() - self.begun_at) / done * max(rest, 0.0))

        def show(self) -> None:
            if not live:
                return
            self.looked = time.monotonic()
            table = Table(title=f"{self.count} of {self.total} trials, {self.left()} left", box=None)
            for heading in ("method", "trials", "failed", "default", "best so far", "of trial", "now"):
                table.add_column(heading, justify="left" if heading == "method" else "right")
            for name in tuning.names:
                mine, best = self.trials[name], self.best(name)
                default = mine.get(0)
                now = [f"{number}: {100 * share:.0f} %" for (m, number), share in self.under_way.items() if m == name]
                table.add_row(
                    name,
                    f"{len(mine)}/{tuning.trials}",
                    str(sum(trial.state == "failed" for trial in mine.values()) or ""),
                    f"{100 * default.score:.1f}" if default and default.score is not None else "",
                    f"{100 * (best.score or 0.0):.1f}" if best else "",
                    str(best.number) if best else "",
                    ", ".join(now),
                )
            live.update(table)

    return Shown()
