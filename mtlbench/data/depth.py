"""Images of 16 bits per channel that use only 8 or 12: they turn black, or almost, when the top 8 bits are taken.

No image is brightened automatically. In a set of depth maps or scans, a dark image may be dark for good reason, and a
rule per image would make it as bright as the others. Instead, a remark says what was found and what to do.
"""

from __future__ import annotations

import numpy as np

from mtlbench.data.decoding import BROKEN, most_of_deep
from mtlbench.data.table import Table

DIM = 15  # of 255, the highest value of such an image as read: 12 bits of 16
_LOOKED_AT = 64


def dim_images(table: Table) -> tuple[dict[int, int], int]:
    """Look at some images of a table, evenly spaced; for most, the header is enough.

    Returns:
        the dim images, by index, with their highest values, and how many images were looked at.
    """
    found = {}
    chosen = np.unique(np.linspace(0, len(table) - 1, min(len(table), _LOOKED_AT)).astype(int)).tolist()
    for i in chosen:
        try:
            most = most_of_deep(table.root / table.paths[i])
        except BROKEN:  # packing reports it
            continue
        if most is not None and most <= DIM:
            found[i] = most
    return found, len(chosen)


def remark_on_dim(table: Table, dim: dict[int, int], looked_at: int) -> list[str]:
    """Return a remark on dim images and what to do about them; nothing if there are none.

    Args:
        dim: as `dim_images` returns them; looked_at: how many images were looked at.
    """
    if not dim:
        return []
    first, most = next(iter(dim.items()))
    of = f" of {looked_at:,} that were looked at" if looked_at < len(table) else ""
    have, use = ("images have", "use") if len(dim) > 1 else ("image has", "uses")
    return [
        f"{len(dim):,}{of} {have} 16 bits a channel and {use} 12 or fewer, such as {table.paths[first]}, whose"
        f" brightest pixel is read as {most} of 255: save such images with 8 bits, or spread their values over 0 to"
        " 65,535, else they are black or nearly so."
    ]
