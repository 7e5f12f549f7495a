"""Measures how fast images are packed, beside decoding on one thread and beside a plain PyTorch DataLoader over Pillow.

    python tools/speed/packing.py DIR --sizes 48 150

The tool searches DIR and its subfolders for images. In each round, it runs each way once on the same images, in turn,
so that other work on the machine slows all of them; it prints medians over the rounds. It reads the files once
beforehand, so that all ways find them in the system's cache. Packing includes checksums and writing the pack to disk,
in `--scratch`.

    one thread   decodes and resizes image after image
    DataLoader   Pillow in as many worker processes as cores, batches of 64: what an epoch costs without a pack
    packing      decodes, resizes and writes, on all cores: what the first run costs, once
    pack         batches of 64 drawn at random from the finished pack, on one thread: what an epoch costs with it

CPU seconds of all processes, for 2,560 JPEG files of 178 x 218 px to 48 px, on two cores: packing 2.38, the DataLoader
1.94. Of the 2.38, starting the two processes takes 0.32, once (mostly imports, above all of NumPy). The remaining time
is 1.06 times the DataLoader's: it includes a SHA-256 of each file, a check of the file's end, writing, and a checksum.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from tabulate import tabulate
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mtlbench.data.pack import available_cores, decode, open_pack
from mtlbench.data.table import Table
from mtlbench.devices import device_name

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
BATCH = 64


class Images(Dataset[Tensor]):
    """Images as a plain training script reads them."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            resized = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized))


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(table: Table, size: int, fit: str, rounds: int, scratch: Path | None) -> list[list[str]]:
    """Return a row for each way: its name, images/s, and how many times as fast as one thread and as the DataLoader."""
    paths = [table.root / path for path in table.paths]
    times: dict[str, list[float]] = {"one thread": [], "DataLoader": [], "packing": [], "pack": []}
    openings = []
    loader = DataLoader(Images(paths, size), batch_size=BATCH, num_workers=available_cores(), shuffle=True)

    def pack() -> object:
        return open_pack(table, (size, size), fit, skip_unreadable=True)

    def draw() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # several threads would wait for each other on a busy machine
        images = torch.from_numpy(open_pack(table, (size, size), fit, skip_unreadable=True).images)
        for index in torch.randperm(len(images)).split(BATCH):
            images[index]
        torch.set_num_threads(threads)

    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=scratch) as cache:
            os.environ["MTLBENCH_CACHE"] = cache
            times["one thread"].append(seconds(lambda: [decode(path, (size, size), fit) for path in paths]))
            times["DataLoader"].append(seconds(lambda: [None for _ in loader]))
            times["packing"].append(seconds(pack))
            openings.append(seconds(pack))
            times["pack"].append(seconds(draw))
    speeds = {way: len(paths) / statistics.median(t) for way, t in times.items()}
    rows = [
        [str(size), way, f"{speed:,.0f}", *(f"{speed / speeds[base]:.2f}" for base in ("one thread", "DataLoader"))]
        for way, speed in speeds.items()
    ]
    return [*rows, [str(size), "opening the pack", f"{statistics.median(openings):.3f} s", "", ""]]


def main() -> None:
    """Read the command line, measure, print."""
    what, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=what, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a folder of images")
    parser.add_argument("--sizes", type=int, nargs="+", default=[48, 112, 150], help="pixels a side")
    parser.add_argument("--fit", choices=["squash", "crop"], default="squash")
    parser.add_argument("--images", type=int, default=0, help="so many at most, evenly spread; 0 takes all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scratch", type=Path, help="where packs are written, the system's temporary folder by default"
    )
    chosen = parser.parse_args()
    found = sorted(p.relative_to(chosen.folder) for p in chosen.folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if not found:
        parser.error(f"there are no images in {chosen.folder}")
    if 0 < chosen.images < len(found):
        found = [found[i * len(found) // chosen.images] for i in range(chosen.images)]
    table = Table("speed", chosen.folder, tuple(map(str, found)), {}, np.zeros(len(found), dtype=np.int64), "none")
    shapes = []
    for path in found:
        (chosen.folder / path).read_bytes()
    for path in found[:: max(1, len(found) // 100)]:
        with Image.open(chosen.folder / path) as image:
            shapes.append(image.size)
    typical = statistics.median_low(shapes)
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    print(f"{device_name(torch.device('cpu'))}, {available_cores()} cores{load}; Pillow {PIL.__version__}")
    print(f"{len(found):,} images, typically {typical[0]} x {typical[1]}; medians of {chosen.rounds} rounds")
    rows = []
    for size in chosen.sizes:
        rows += measure(table, size, chosen.fit, chosen.rounds, chosen.scratch)
    headings = ["size", "way", "images/s", "x one thread", "x DataLoader"]
    print(tabulate(rows, headings, disable_numparse=True, colalign=("right", "left", "right", "right", "right")))


if __name__ == "__main__":
    main()
