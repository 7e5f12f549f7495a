"""What the tests of pages start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_records import put

from mtlbench.report import page


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Three seeds: modulation as good as shared and smaller, independent far below and large."""
    folder = tmp_path / "results"
    for seed in range(3):
        off = 0.002 * seed
        put(folder, "shared", seed, (0.9 - off, 0.7), megabytes=4)
        put(folder, "modulation", seed, (0.893 - off, 0.706), megabytes=2.5)
        put(folder, "independent", seed, (0.6 - off, 0.5), megabytes=8)
    return folder


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds: figures."""
    monkeypatch.setattr(page, "draw_scene", lambda *given: [])


@pytest.fixture
def _a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one empty figure in place of the real ones."""

    def draw(scene: Any, folder: Path, *given: Any) -> list[Any]:
        folder.mkdir()
        (folder / "made.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="500pt" height="200pt"/>')
        (folder / "made.png").write_bytes(b"")
        (folder.parent / "figures.pdf").write_bytes(b"")
        return [page.Figure("made", "A figure", "Somewhere", "An alt text")]

    monkeypatch.setattr(page, "draw_scene", draw)
