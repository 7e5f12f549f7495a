"""Limits the host's memory, so that only the method that asks for too much fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def guard_memory(share: int = 1) -> None:
    """On Linux, make an allocation fail if it exceeds the host's free memory.

    Without this limit, the system kills the whole process, including runs that would have fitted. Call this after the
    data set is loaded: memory that the process holds by then does not count.

    Args:
        share: how many processes share the free memory.
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
        return  # another system, or one without this information: run without the limit


@contextmanager
def unguarded_again() -> Iterator[None]:
    """At the end, undo the limit that `guard_memory` set within, since a notebook continues after a run."""
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
