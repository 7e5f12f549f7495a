"""A worker process as its parent sees it.

The parent starts it with an order, reads its lines of JSON, asks it to stop, and handles its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import torch

LOOK = 0.1  # seconds between checks whether to stop


def environment(threads: int, device: str, slot: int) -> dict[str, str]:
    """Return the environment of a process with this many threads; its slot selects the GPU, in turn."""
    number = str(threads or torch.get_num_threads())
    found = os.environ | {"OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number}
    if device == "cuda" and torch.cuda.device_count() > 1:
        numbers = ",".join(map(str, range(torch.cuda.device_count())))
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", numbers).split(",")
        found["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return found


class Worker:
    """A process at work.

    Args:
        module: what it runs, as `python -m module order`.
        order: a file that says what to do.
        errors: a file for its stderr.
        slot: its number among the processes at work.
        threads, device: see `environment`.
    """

    def __init__(self, module: str, order: Path, errors: Path, slot: int, threads: int, device: str) -> None:
        self.slot, self._errors, self._told = slot, errors, False
        with errors.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(order)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
                env=environment(threads, device, slot),
                process_group=0 if os.name == "posix" else None,  # Ctrl-C would kill a process that still imports
            )  # fmt: skip

    def report_to(self, events: queue.Queue[tuple[Self, dict[str, Any] | None]]) -> None:
        """Put its messages into a queue as they arrive, and None when it has ended."""
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    def _read(self, events: queue.Queue[tuple[Self, dict[str, Any] | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # an unfinished line
                events.put((self, json.loads(line)))
        self.process.wait()
        events.put((self, None))

    def stop(self) -> None:
        """Ask it to save its state and end."""
        if not self._told and self.process.stdin:
            self._told = True
            with contextlib.suppress(OSError):  # it has just ended
                self.process.stdin.write("stop\n")
                self.process.stdin.flush()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def close(self) -> int:
        """Close its pipes after it has ended; return its exit code."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        return self.process.returncode

    def why_it_died(self) -> str:
        """Return how it ended, with its last line on stderr if no signal ended it."""
        code = self.process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return f"the process died ({how})" + (f": {lines[-1]}" if code > 0 and lines else "")
