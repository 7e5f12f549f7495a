"""A folder for one process, removed when it ends; the next process removes the folders of killed ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtlbench.runs.lock import writer


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a folder for this process alone, and remove it at the end.

    First, remove the folders of processes that were killed on this machine.

    Args:
        parent: the folder to make it in; prefix: the start of its name, followed by its owner.
    """
    _clear_away(parent, prefix)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{writer()}-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _clear_away(parent: Path, prefix: str) -> None:
    host, _, _ = writer().rpartition("-")
    for folder in parent.glob(f"{prefix}{host}-*"):
        number = folder.name.removeprefix(f"{prefix}{host}-").partition("-")[0]
        with contextlib.suppress(OSError):
            if number.isdigit() and not _alive(int(number)):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(number: int) -> bool:
    if os.name != "posix":  # on other systems, a signal would end the process
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
