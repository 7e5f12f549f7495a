"""A folder for one process, gone when it ends; what killed ones left is removed by the next."""

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
    """Yield a folder of this process alone, and remove it in the end.

    Folders that killed processes of this machine left go first.

    Args:
        parent: where it is made; prefix: how its name begins, then whose it is.
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
    if os.name != "posix":  # there a signal would end it
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
