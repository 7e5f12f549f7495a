"""A bound on the host's memory, so that a method that asks for too much fails by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def guard_memory(share: int = 1) -> None:
    """On Linux, make a method that asks for more of the host's memory than there is fail by itself.

    Otherwise the system ends the whole process, and with it the runs that would have fitted. Call it when the data set
    is loaded: what the process holds by then is not counted.

    Args:
        share: how many processes divide the free memory between them.
    """
    try:
        import resource  # Unix only

        def kilobytes(path: str, name: str) -> int:
            lines = Path(path).read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

        free = 1024 * kilobytes("/proc/meminfo", "MemAvailable")
        group = Path("/sys/fs/cgroup/memory.max")
        if group.exists() and group.read_text().strip().isdigit():
            free = min(free, int(group.read_text()) - int(group.with_name("memory.current").read_text()))
        held = 1024 * kilobytes("/proc/self/status", "VmData")
        resource.setrlimit(resource.RLIMIT_DATA, (held + int(0.95 * free / share), resource.RLIM_INFINITY))
    except (ImportError, OSError, ValueError, StopIteration):
        return  # another system, or one that won't tell: nothing is lost but the guard


@contextmanager
def unguarded_again() -> Iterator[None]:
    """Take back in the end the bound that `guard_memory` sets within: a notebook goes on after a run."""
    try:
        import resource
    except ImportError:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
