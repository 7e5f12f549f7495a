"""Where the folders lie that come with mtlbench."""

from __future__ import annotations

from pathlib import Path


def bundled(folder: str) -> Path:
    """Return a folder that comes with mtlbench (`methods`, `benchmarks`).

    Installed, it is inside the package; in a checkout, beside it.
    """
    inside = Path(__file__).parent / folder
    return inside if inside.is_dir() else Path(__file__).parent.parent / folder
