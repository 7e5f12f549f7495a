"""Measures how well near-copies are told from other images, the basis of `mtlbench.data.near_copies.ALIKE`.

    python tools/near_copies.py DATA_SET [--images 1500]

The tool prints two shares: images that are recognised after they were saved again, resized or cropped; and images that
resemble another image of the same data set as much.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from mtlbench.data.check import open_images, read_source
from mtlbench.data.decoding import FILE, read_image
from mtlbench.data.near_copies import ALIKE, SIDE, Thumbnails, standardised

Change = Callable[[Image.Image], Image.Image]


def resized(factor: float) -> Change:
    """Return a function that changes an image's size."""
    return lambda image: image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.LANCZOS
    )


def cropped(pixels: int) -> Change:
    """Return a function that crops an image's edges."""
    return lambda image: image.crop((pixels, pixels, image.width - pixels, image.height - pixels))


CHANGES: dict[str, tuple[Change, int]] = {  # with the JPEG quality to save with
    "JPEG quality 90": (resized(1), 90),
    "JPEG quality 50": (resized(1), 50),
    "JPEG quality 20": (resized(1), 20),
    "0.7 of the size, quality 75": (resized(0.7), 75),
    "half the size, quality 75": (resized(0.5), 75),
    "twice the size, quality 90": (resized(2), 90),
    "two pixels cut off each side, quality 90": (cropped(2), 90),
}


def thumbnail(file: Path) -> Thumbnails:
    """Return a file's thumbnail, as `data check` makes it: (1, n)."""
    return read_image(file, (SIDE, SIDE), "squash", np.zeros(1, FILE)[0]).reshape(1, -1)


def main() -> None:
    """Measure a data set's images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a data set's folder, or a benchmark's .toml")
    parser.add_argument("--images", type=int, default=1500, help="how many are changed")
    chosen = parser.parse_args()
    table = read_source(chosen.source).table
    seen = open_images(table, thumbnails=True)
    assert seen.thumbnails is not None
    all_images = standardised(seen.thumbnails)
    rows = np.random.default_rng(0).permutation(len(table))[: chosen.images]
    likeness = all_images[rows] @ all_images.T
    likeness[np.arange(len(rows)), rows] = -1
    print(f"{len(rows):,} of {len(table):,} images of {table.name}, likeness of at least {ALIKE}")
    print(f"  to another image: {(likeness.max(axis=1) >= ALIKE).mean():.1%}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "copy.jpg"
        for name, (change, quality) in CHANGES.items():
            copies = []
            for row in rows:
                with Image.open(table.root / table.paths[row]) as image:
                    change(image.convert("RGB")).save(file, quality=quality)
                copies.append(thumbnail(file))
            like = (standardised(np.concatenate(copies)) * all_images[rows]).sum(axis=1)
            print(f"  to itself after {name}: {(like >= ALIKE).mean():.1%}")


if __name__ == "__main__":
    main()
