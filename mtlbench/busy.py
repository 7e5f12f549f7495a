"""Whether others use the processor: then speeds that are measured are too low. Nothing here needs torch."""

from __future__ import annotations

import hashlib
import threading
import time

STARVED = 0.8  # of the processor time that is asked for: with less, speeds are a busy machine's


def share_of_cores(threads: int, seconds: float = 0.1) -> float:
    """Return which share of the processor time that so many threads ask for they get: 1 on an idle machine.

    Each does work of a known kind for `seconds`; what it waited for, others had.
    """
    spent: list[float] = []
    block = bytes(1 << 20)  # hashing it lets go of Python's lock

    def work() -> None:
        begun = time.thread_time()
        while time.perf_counter() < end:
            hashlib.sha256(block)
        spent.append(time.thread_time() - begun)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    start = time.perf_counter()
    end = start + seconds
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return min(1.0, sum(spent) / (threads * (time.perf_counter() - start)))
