"""Shoes drawn by the project, in the official layout of UT-Zappos50K, so that a first run needs no download.

`render_shoes` writes a whole set and `shoe.picture` draws one shoe; the UT-Zappos50K reader reads the sets. Numbers
measured on these pictures say nothing about UT-Zappos50K.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtlbench.errors import UserError
from mtlbench.rendered.marks import BRANDS
from mtlbench.rendered.shoe.attributes import CATEGORIES, CLOSURES, GENDERS, HEELS, ShoeAttributes
from mtlbench.rendered.shoe.picture import draw_shoe
from mtlbench.rendered.writing import write_set

COLUMNS = ("CID", "Category", "SubCategory", "HeelHeight", "Insole", "Closure", "Gender", "Material", "ToeStyle")


@dataclass(frozen=True)
class _Item:
    """One image of a set without its pixels: everything that (seed, index) decides."""

    attributes: ShoeAttributes
    seed: int
    cid: str
    brand: str
    quality: int

    @property
    def path(self) -> Path:
        name = self.cid.replace("-", ".") + ".jpg"
        return Path("ut-zap50k-images", self.attributes.category, self.attributes.subcategory, self.brand, name)


def _item(seed: int, index: int) -> _Item:
    rng = np.random.default_rng((seed, index))
    return _Item(
        attributes=ShoeAttributes(*(v[rng.integers(len(v))] for v in (CATEGORIES, CLOSURES, GENDERS, HEELS))),
        seed=int(rng.integers(2**62)),
        cid=f"{900001 + index}-{rng.integers(1, 100)}",
        brand=BRANDS[rng.integers(len(BRANDS))],
        quality=int(rng.integers(70, 93)),
    )


def _write_images(seed: int, conflict: float, width: int, height: int, root: Path, indices: range) -> int:
    for index in indices:
        item = _item(seed, index)
        path = root / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_shoe(item.attributes, item.seed, width, height, conflict).save(path, quality=item.quality)
    return len(indices)


def _write_table(path: Path, items: Iterable[_Item]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for item in items:
            a = item.attributes
            writer.writerow([item.cid, a.category, a.subcategory, a.heel, "", a.closure, a.gender, "", ""])


def render_shoes(
    root: Path,
    count: int,
    seed: int = 0,
    width: int = 96,
    height: int = 72,
    progress: Callable[[int], None] | None = None,
    conflict: float = 0.0,
) -> None:
    """Write `count` shoes of `width` × `height` pixels under `root`, in the official layout of UT-Zappos50K.

    Image i depends on (`seed`, i) and the other arguments but not on `count`: a longer set begins with the images of a
    shorter one, pixel for pixel. Every value of a label is equally likely, independently of the other labels.
    SubCategory follows from the four labels; Insole, Material and ToeStyle are left empty.

    `conflict` sets how much the tasks' evidence competes; files and labels are the same at every conflict. It concerns
    hue and brightness of the upper, and hue and brightness of the background. At 0, all four are random and evenly
    spread. In general, category, gender, closure and heel, in this order, each decide one of the four with probability
    `conflict`, independently for every image: a label with k values picks one of k equal parts of the range, and the
    place in that part is random. At 0, every task does well to ignore these colours, and gradients agree on that. At 1,
    three tasks must ignore what one task must keep apart, in the same pixels. Over a set, the colours are spread as
    before, the evidence in the drawing is unchanged, and one label reveals nothing about another.

    `progress` is called with the number of images newly written. The set appears at `root` completely or not at all.
    Raises UserError if `root` holds something already or an argument is out of its range.
    """
    if count < 1 or seed < 0 or min(width, height) < 16 or not 0.0 <= conflict <= 1.0:
        raise UserError(
            f"{count} shoes of {width}x{height} pixels, seed {seed}, conflict {conflict} can't be rendered: ask for at"
            " least one image of at least 16x16 pixels, a seed from 0 and a conflict from 0 to 1."
        )

    def labels(folder: Path) -> None:
        _write_table(folder / "ut-zap50k-data" / "meta-data.csv", (_item(seed, i) for i in range(count)))

    facts: dict[str, str | int | float] = {"what": "shoes", "seed": seed, "conflict": conflict}
    facts |= {"width": width, "height": height}
    write_set(root, count, functools.partial(_write_images, seed, conflict, width, height), labels, facts, progress)
