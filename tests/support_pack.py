"""Images, tables and tricks for tests that pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mtlbench.data import decoding
from mtlbench.data.pack import Pack
from mtlbench.data.table import Table

RANDOM = np.random.default_rng(0)


SIZES = [(40, 30), (30, 40), (33, 33), (41, 97)]  # width, height


ORIENTATION = 0x0112


def table_of(root: Path, names: list[str], name: str = "Set") -> Table:
    return Table(name, root, tuple(names), {}, np.zeros(len(names), dtype=np.int64), "none")


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8))


def smooth(width: int, height: int) -> Image.Image:
    """A picture with edges and shades, as photographs have, whose four corners differ."""
    return noise(7, 5).resize((width, height), Image.Resampling.BICUBIC)


def write_grey(path: Path, grey: int) -> None:
    Image.new("L", (4, 4), grey).save(path)


def greys(pack: Pack) -> list[int]:
    """The value of each image of one grey; every pixel must have it."""
    assert (pack.images == pack.images[:, :1, :1, :1]).all()
    return [int(value) for value in pack.images[:, 0, 0, 0]]


GREYS = [6 * i + 1 for i in range(40)]


def by_pillow(path: Path, size: tuple[int, int]) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR))


def assert_near(pixels: np.ndarray, wanted: np.ndarray, most: int = 1) -> None:
    """Two ways to round make a grey level or two; a pixel that is taken from elsewhere makes many."""
    assert pixels.shape == wanted.shape
    assert np.abs(pixels.astype(int) - wanted).max() <= most


def decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which files are decoded from now on."""
    seen: list[str] = []
    read = decoding.read_image

    def recording(path: Path, *rest: Any) -> Any:
        seen.append(path.name)
        return read(path, *rest)

    monkeypatch.setattr(decoding, "read_image", recording)
    return seen


def everything(folder: Path) -> list[str]:
    """Every file and folder but the lock, which stays."""
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.suffix != ".lock")
    return sorted(found) if folder.exists() else []


def only_pack(cache: Path) -> Path:
    """The one folder in the cache: nothing half made or outdated beside it."""
    (folder,) = (p for p in cache.iterdir() if p.is_dir())
    assert not {".partial", ".old"} & {folder.suffix}
    return folder


def break_image(path: Path) -> None:
    path.write_bytes(b"<html>Sorry</html>")


class Killed(BaseException):
    """Stands for a process that ends at that very place."""


CHILD = """
import os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np
from mtlbench.data import pack
from mtlbench.data.table import Table
pack._CHUNK_IMAGES = 8
root, how, told = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
names = sorted(p.name for p in root.iterdir())
if "processes" in how:
    pack._MANY = 0
    start = subprocess.Popen
    def noting(*command, **more):
        process = start(*command, **more)
        with (told / "decoders").open("a") as file:
            print(process.pid, file=file)
        return process
    subprocess.Popen = noting

def progress(done, total):
    if "die" in how and done == 24:
        os.kill(os.getpid(), signal.SIGKILL)
    (told / "ready").touch()
    while "wait" in how and not (told / "go").exists():
        time.sleep(0.01)

table = Table("Set", root, tuple(names), {}, np.zeros(len(names), dtype=np.int64), "none")
print(pack.open_pack(table, (4, 4), "squash", progress).fingerprint)
"""
