"""A worker process as its parent sees it: started on an order, heard by its lines of JSON, asked to stop, settled."""

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

LOOK = 0.1  # seconds between looks at whether to stop


def environment(threads: int, device: str, slot: int) -> dict[str, str]:
    """Return the environment of a process that computes with so many threads; GPUs go round by its slot."""
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
        module: what it runs, `python -m module order`.
        order: a file that says what to do.
        errors: a file that takes what it writes to stderr.
        slot: its place among those at work.
        threads, device: see `environment`.
    """

    def __init__(self, module: str, order: Path, errors: Path, slot: int, threads: int, device: str) -> None:
        self.slot, self._errors, self._told = slot, errors, False
        with errors.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(order)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
                env=environment(threads, device, slot),
                process_group=0 if os.name == "posix" else None,  # a terminal's Ctrl-C would end one that still imports
            )  # fmt: skip

    def report_to(self, events: queue.Queue[tuple[Self, dict[str, Any] | None]]) -> None:
        """Put what it says into a queue as it comes, and None when it has ended."""
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    def _read(self, events: queue.Queue[tuple[Self, dict[str, Any] | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # a line that the process did not finish
                events.put((self, json.loads(line)))
        self.process.wait()
        events.put((self, None))

    def stop(self) -> None:
        """Ask it to keep what it has and end."""
        if not self._told and self.process.stdin:
            self._told = True
            with contextlib.suppress(OSError):  # it has just ended
                self.process.stdin.write("stop\n")
                self.process.stdin.flush()

    def kill(self) -> None:
        """End it now."""
        self.process.kill()
        self.process.wait()

    def close(self) -> int:
        """Close its pipes, when it has ended; return its exit code."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        return self.process.returncode

    def why_it_died(self) -> str:
        """Say how it ended, with the last line that it wrote to stderr where it ended by itself."""
        code = self.process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return f"the process died ({how})" + (f": {lines[-1]}" if code > 0 and lines else "")
