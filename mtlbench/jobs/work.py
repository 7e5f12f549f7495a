"""One job done in its own process: `python -m mtlbench.jobs.work JOB.json`.

The file holds `{"job": Job.to_json(), "share": n, "costs": false, "waited": false}`. The process writes events to
standard output as JSON lines; what plug-ins print goes to standard error. A line `stop` on standard input asks the run
to save its state. When the input ends, the parent is gone, and the process ends too. Exit codes: 0 the run has its
record, 3 it was interrupted, 4 another process works on it, 5 no other job would succeed either: the disk is full, or
the data or a method's source have changed since the plan.
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
_GRACE = 5.0  # seconds that remain after the parent's end
Tell = Callable[..., None]


class Teller(Watcher):
    """Reports the events of a job to another process; see `retell`."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def started(self, job: Job) -> None:
        """Report that the run begins."""
        self.tell("started", steps_done=job.steps_done)

    def happened(self, job: Job, event: Event) -> None:
        """Report an event of its training."""
        self.tell("happened", kind=type(event).__name__, facts=asdict(event))

    def doing(self, job: Job, what: str) -> None:
        """Report what the run does after training."""
        self.tell("doing", what=what)

    def ended(self, job: Job, record: Record) -> None:
        """Report that the record is there."""
        self.tell("ended")


def retell(watcher: Watcher, job: Job, event: str, facts: dict[str, Any]) -> None:
    """Pass on to a watcher what a `Teller` in another process reported about a job."""
    match event:
        case "started":
            watcher.started(job)
        case "happened":
            watcher.happened(job, EVENTS[facts["kind"]](**facts["facts"]))
        case "doing":
            watcher.doing(job, facts["what"])


def main(path: Path) -> int:
    """Do the job in a file and return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the parent decides what to do
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
    except UserError as error:  # the disk is full, or data or sources have changed: any other job would fail too
        tell("full", reason=str(error))
        return FULL
    return 0


def pipe() -> Tell:
    """Reserve standard output for events; return the function that writes one."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(event: str, **facts: Any) -> None:
        with contextlib.suppress(OSError):  # the parent is gone: only the kept files matter now
            events.write(json.dumps({"event": event, **facts}) + "\n")

    return tell


def listen(asked: threading.Event) -> None:
    """Wait for the request to stop; if the parent ends, end too, after a few seconds to save what is possible.

    It reads the descriptor directly: a thread that waits in `sys.stdin` holds its lock while Python shuts down.
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
