"""One job done in a process of its own: `python -m mtlbench.jobs.work JOB.json`.

The file holds `{"job": Job.to_json(), "share": n, "costs": false, "waited": false}`. Events are JSON lines on standard
output; what plug-ins print goes to standard error. A line `stop` on standard input asks the run to keep what it has;
when the input ends, the parent has gone, and the process ends too. Exit codes: 0 the run has its record, 3 it was
interrupted, 4 another process works on it, 5 nothing more can be done:
the disk is full, or the data or a method's source have changed since the plan.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtlbench.errors import UserError
from mtlbench.jobs.attempt import attempt
from mtlbench.jobs.data import dataset_of
from mtlbench.jobs.job import Job, Site, Watcher
from mtlbench.jobs.memory import guard_memory
from mtlbench.plugins import load_plugins
from mtlbench.runs.lock import Busy
from mtlbench.runs.record import Record
from mtlbench.training.events import EVENTS, Event
from mtlbench.training.state import Interrupted

INTERRUPTED, BUSY, FULL = 3, 4, 5
_GRACE = 5.0  # seconds after its parent's end
Tell = Callable[..., None]


class Teller(Watcher):
    """Tells what happens in a job, for another process; see `retell`."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def started(self, job: Job) -> None:
        """Tell that the run begins."""
        self.tell("started", steps_done=job.steps_done)

    def happened(self, job: Job, event: Event) -> None:
        """Tell what happened while it trains."""
        self.tell("happened", kind=type(event).__name__, facts=asdict(event))

    def doing(self, job: Job, what: str) -> None:
        """Tell what it does after training."""
        self.tell("doing", what=what)

    def ended(self, job: Job, record: Record) -> None:
        """Tell that its record is there."""
        self.tell("ended")


def retell(watcher: Watcher, job: Job, event: str, facts: dict[str, Any]) -> None:
    """Tell a watcher what a `Teller` in another process has told of a job while it trained."""
    match event:
        case "started":
            watcher.started(job)
        case "happened":
            watcher.happened(job, EVENTS[facts["kind"]](**facts["facts"]))
        case "doing":
            watcher.doing(job, facts["what"])


def main(path: Path) -> int:
    """Do the job in a file; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says what to do
    tell, asked = pipe(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    threading.Thread(target=listen, args=(asked,), daemon=True).start()
    order: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    try:
        load_plugins(Site.from_json(order["job"]["site"]).plugins)
        job = Job.from_json(order["job"])
        dataset_of(job)
        guard_memory(order["share"])
        attempt(job, Teller(tell), asked.is_set, order["costs"], order["waited"])
    except Interrupted:
        return INTERRUPTED
    except Busy as busy:
        tell("busy", who=busy.who)
        return BUSY
    except UserError as error:  # a full disk, data or sources that have changed: no other job would do better
        tell("full", reason=str(error))
        return FULL
    return 0


def pipe() -> Tell:
    """Keep standard output for events; return what writes one."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(event: str, **facts: Any) -> None:
        with contextlib.suppress(OSError):  # the parent has gone: what is kept is what counts
            events.write(json.dumps({"event": event, **facts}) + "\n")

    return tell


def listen(asked: threading.Event) -> None:
    """Wait for the word to stop, and end with the parent: what can be kept within a few seconds is kept.

    It reads the descriptor itself: a thread that waits within `sys.stdin` holds its lock while Python ends.
    """
    while words := os.read(0, 100):
        if b"stop" in words:
            asked.set()
    asked.set()
    time.sleep(_GRACE)
    os._exit(1)


if __name__ == "__main__":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    sys.exit(main(Path(sys.argv[1])))
