"""Writes a rendered set to disk, in parallel, completely or not at all."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from mtlbench.errors import UserError
from mtlbench.rendered.marks import DRAWING, FACTS

_CHUNK = 100
_PARTIAL = ".partial"  # ending of the folder of a set that is being drawn
_WORTH_A_POOL = 1000  # below this, starting the processes takes longer than drawing


def write_set(
    root: Path,
    count: int,
    images: Callable[[Path, range], int],
    labels: Callable[[Path], None],
    facts: dict[str, str | int | float],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a set of `count` images to `root`, completely or not at all.

    Args:
        root: a folder that is empty or does not exist.
        count: number of images.
        images: writes the images of some indices under a folder and returns how many; other processes get it pickled.
        labels: writes the label files under a folder.
        facts: how the set was drawn; readers find them in the folder's file `FACTS`.
        progress: called with the number of images newly written.

    Raises:
        UserError: `root` holds something already.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is not empty: name another folder for the rendered images, or remove this one first.")
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=_PARTIAL, dir=root.parent))
    try:
        chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
        here = (images(partial, chunk) for chunk in chunks)
        for done in _in_parallel(images, partial, chunks) if count >= _WORTH_A_POOL else here:
            if progress is not None:
                progress(done)
        labels(partial)
        (partial / FACTS).write_text(json.dumps({"drawing": DRAWING, "images": count, **facts}) + "\n")
        partial.chmod(0o755)  # mkdtemp makes it private; give the set the permissions of a normal folder
        try:
            if root.exists():
                root.rmdir()
            partial.rename(root)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise UserError(f"{root} was written to while its images were drawn: name another folder.") from error
            raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def drawn_meanwhile(root: Path, wanted: dict[str, str | int | float]) -> bool:
    """Return whether another process drew the wanted set meanwhile; False if there is no set.

    Raises:
        UserError: it drew a different set there.
    """
    try:
        facts = json.loads((root / FACTS).read_text())
    except (OSError, ValueError):
        return False
    if not isinstance(facts, dict):
        return False
    for key, value in {"drawing": DRAWING, **wanted}.items():
        if facts.get(key) != value:
            raise UserError(
                f"Another process has meanwhile drawn a set into {root}, with {key} {facts.get(key)} instead of"
                f" {value}: name another folder."
            )
    return True


def clear_away(root: Path) -> None:
    """Remove what a killed process left of a set for `root`; the caller holds the lock on the set."""
    for folder in root.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(root.name)}\.[a-z0-9_]+{re.escape(_PARTIAL)}", folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _begin() -> None:
    """Leave Ctrl-C to the parent, and end when the parent ends: otherwise this process would wait for it forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_parallel(work: Callable[[Path, range], int], folder: Path, chunks: Sequence[range]) -> Iterator[int]:
    # spawned, because the caller may have loaded torch, whose threads do not survive a fork
    pool = ProcessPoolExecutor(
        os.cpu_count(),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
    )
    try:
        yield from (future.result() for future in as_completed([pool.submit(work, folder, chunk) for chunk in chunks]))
    finally:
        pool.shutdown(cancel_futures=True)
