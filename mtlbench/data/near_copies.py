"""Finds images that look like an image of another split: the same picture, saved with another quality or size.

Each image becomes a thumbnail of `SIDE` x `SIDE` pixels in colour, and two images are compared by the correlation of
their thumbnails. The search is exact: every held-out image is compared with every training image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlbench.data.pack import Progress
from mtlbench.data.table import SPLITS, Labels

SIDE = 16
# from tools/near_copies.py on samples of UT-Zappos50K and CelebA: at least 99.5 % of the images that are saved again,
# down to JPEG quality 20 or half the size, correlate this well with themselves, and 0.1 % with another image
ALIKE = 0.995
_QUERIES, _BLOCK = 1024, 8192
Thumbnails = NDArray[np.uint8]  # (N, SIDE * SIDE * 3)


@dataclass(frozen=True)
class NearCopy:
    """A held-out image, the training image that resembles it most, and the correlation of their thumbnails."""

    image: int
    other: int
    likeness: float


def near_copies(thumbnails: Thumbnails, split: Labels, progress: Progress | None = None) -> list[NearCopy]:
    """Return the validation and test images that resemble a training image, the most similar first.

    Args:
        thumbnails: of N images; a thumbnail of a single colour, or of an image that could not be read, matches nothing.
        split: (N,) 0 train, 1 val, 2 test.
        progress: called with how many images have been compared, and how many there are.
    """
    train = np.flatnonzero(split == SPLITS.index("train"))
    held_out = np.flatnonzero(split > SPLITS.index("train"))
    found = []
    for start in range(0, len(held_out), _QUERIES):
        rows = held_out[start : start + _QUERIES]
        queries = standardised(thumbnails[rows])
        best, nearest = np.full(len(rows), -1.0, np.float32), np.zeros(len(rows), np.int64)
        for first in range(0, len(train), _BLOCK):
            others = train[first : first + _BLOCK]
            likeness = queries @ standardised(thumbnails[others]).T
            place = likeness.argmax(axis=1)
            value = likeness[np.arange(len(rows)), place]
            better = value > best
            best[better], nearest[better] = value[better], others[place[better]]
        found += [
            NearCopy(int(rows[i]), int(nearest[i]), min(float(best[i]), 1.0)) for i in np.flatnonzero(best >= ALIKE)
        ]
        if progress:
            progress(min(start + _QUERIES, len(held_out)), len(held_out))
    return sorted(found, key=lambda one: -one.likeness)


def standardised(thumbnails: Thumbnails) -> NDArray[np.float32]:
    """Return thumbnails of mean 0 and length 1, so that their products are correlations; flat ones become 0."""
    centred = thumbnails.astype(np.float32)
    centred -= centred.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.where(length > 1, centred / np.maximum(length, 1), 0).astype(np.float32)
