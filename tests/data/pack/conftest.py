"""Tables of images on disk, and a process that packs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_pack import CHILD, SIZES, noise, table_of, write_grey

from mtlbench.data import pack as pack_module
from mtlbench.data.table import Table


@pytest.fixture
def images(tmp_path: Path) -> Table:
    """Four noisy JPEGs of different shapes."""
    (tmp_path / "set").mkdir()
    for i, size in enumerate(SIZES):
        noise(*size).save(tmp_path / "set" / f"{i}.jpg", quality=90)
    return table_of(tmp_path / "set", [f"{i}.jpg" for i in range(4)])


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """40 small images, each of its own grey, packed in chunks of 8."""
    monkeypatch.setattr(pack_module, "_CHUNK_IMAGES", 8)
    (tmp_path / "many").mkdir()
    for i in range(40):
        write_grey(tmp_path / "many" / f"{i:02}.bmp", 6 * i + 1)
    return table_of(tmp_path / "many", [f"{i:02}.bmp" for i in range(40)])


@pytest.fixture
def child(many: Table, tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Start a process that packs the forty images and dies by its own hand, or waits to be told to go on."""

    def start(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CHILD, str(many.root), how, str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start
