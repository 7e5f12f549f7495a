"""A data set ready for the device: packed pixels, labels of the chosen tasks, splits.

It is made from a table and a pack.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.benchmark import Benchmark
from mtlbench.data.decoding import Pixels
from mtlbench.data.depth import dim_images, remark_on_dim
from mtlbench.data.making import Tell
from mtlbench.data.pack import Progress, open_pack
from mtlbench.data.pixels import gathered, moved, normalise
from mtlbench.data.reading import read_table
from mtlbench.data.splits import in_two_splits, remark_on_leaks
from mtlbench.data.table import SPLITS, Labels, Table, remarks_on_words
from mtlbench.devices import here, sent, uniforms, whole
from mtlbench.errors import UserError, counted

_OFFICIAL = ("celeba", "zappos")  # readers whose groups are those of the official files: records hold prints without


@dataclass(frozen=True)
class Dataset:
    """N images in memory with the labels of T tasks.

    Attributes:
        images: (N, H, W, 3) uint8 RGB, on the device if it has room, otherwise in the host's memory.
        labels: (T, N) int64 on the device, -1 for unlabelled images.
        split: (N,) int64 on the device: 0 train, 1 val, 2 test.
        tasks: the T names; values: their label values; ordered: whether those have an order.
        pixels: key of `pixels.PIXELS`.
        facts: the receipt's entries on the data.
        triplets: fixed triplets that came with the data set, by split: for each task (n, 3) int64 indices of anchor,
            positive and negative on the device; empty if triplets are drawn from the labels.
        root: the folder that `paths` are relative to; paths: the N image files, for pictures of the originals.
        set_members: by task (V, U) bool on the CPU if labels are sets, see `Column`; otherwise None, or empty.
        query, gallery: (N,) bool on the device: which held-out images are queries and which are searched; None if each
            image is both.
        apart: (N,) int64 on the device; images with the same code are left out of each other's galleries, see `Table`.
        kin: (N,) int64 on the device; images with the same code show the same person or product, and a negative one
            stands alone; None where that is not known.
    """

    images: Tensor
    labels: Tensor
    split: Tensor
    tasks: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    ordered: tuple[bool, ...]
    pixels: str
    facts: dict[str, str | int | bool]
    triplets: dict[str, list[Tensor]] = field(default_factory=dict)
    root: Path = Path()
    paths: tuple[str, ...] = ()
    set_members: tuple[Tensor | None, ...] = ()
    query: Tensor | None = None
    gallery: Tensor | None = None
    apart: Tensor | None = None
    kin: Tensor | None = None

    @property
    def sets(self) -> tuple[Tensor | None, ...]:
        """The T tasks' `set_members`."""
        return self.set_members or (None,) * len(self.tasks)

    @property
    def device(self) -> torch.device:
        """The device that holds the labels and runs networks."""
        return self.labels.device

    def members(self, split: str) -> Tensor:
        """Return the (n,) indices of the images of `train`, `val` or `test`."""
        return torch.nonzero(self.split == SPLITS.index(split)).flatten()

    def roles(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return which of some images are queries and which are in the gallery, (n,) bool each; None if all are both.

        Args:
            images: (n,) indices of a split's images.
        """
        if self.query is None or self.gallery is None:
            return None
        query, gallery = self.query[images], self.gallery[images]
        return (query, gallery) if bool((query | gallery).any()) else None

    def batch(
        self,
        index: Tensor,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        flip: bool = False,
        shift: int = 0,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> Tensor:
        """Return images as networks see them: (n,) indices -> (n, 3, H, W) float32, channels last in memory.

        With a generator, each image is mirrored with probability one half if `flip` is set, and moved by up to `shift`
        pixels each way with its edge repeated. Then `augment` changes (n, 3, H, W) uint8 images. With several
        generators, each one decides over an equal part of the images, in order, and `augment` draws from the first.
        """
        chance = [generator] if isinstance(generator, torch.Generator) else list(generator or ())
        down = right = mirrored = None
        if chance and (flip or shift):
            draws = uniforms(chance, 3, len(index) // len(chance)).movedim(0, 1).flatten(1)
            down, right = (whole(draws[:2], 2 * shift + 1) - shift) if shift else torch.zeros_like(draws[:2]).long()
            mirrored = (draws[2] < 0.5).long() if flip else torch.zeros_like(down)
        if down is None or right is None or mirrored is None:
            pixels = self.images[index.to(self.images.device)].to(self.device, non_blocking=True)
        elif self.images.device.type == "cpu":
            parts = [part.cpu() for part in (index, down, right, mirrored)]
            pixels = moved(self.images, *parts, pin=self.device.type == "cuda").to(self.device, non_blocking=True)
        else:
            pixels = gathered(self.images, *sent([index, down, right, mirrored], self.device))
        if chance and augment is not None:
            pixels = augment(pixels.permute(0, 3, 1, 2), here(chance[0], self.device)).permute(0, 2, 3, 1)
        return normalise(pixels, self.pixels)


def placed(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return packed images as a tensor.

    The tensor is on the GPU if that has room, otherwise in the host's memory without a copy.
    """
    with warnings.catch_warnings():  # nothing writes to them
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        pixels = torch.from_numpy(images)
    if device.type == "cuda" and pixels.nbytes < 0.5 * torch.cuda.mem_get_info(device)[0]:
        return pixels.to(device)
    return pixels


def _check_positives(table: Table, tasks: list[str], key: str) -> None:
    """Refuse tasks whose anchors can't come from label 1 alone: with many values, code 1 is just one of them."""
    remedy = f"Take other tasks, or --set {key}=balanced."
    for task in tasks:
        column = table.columns[task]
        if column.members is not None:
            raise UserError(f"The labels of '{task}' are sets, which have no label 1 for {key} = 'positive'. {remedy}")
        if len(column.values) != 2:
            raise UserError(
                f"The task '{task}' has {counted(len(column.values), 'value')}, and {key} = 'positive' is for tasks"
                f" with two, such as no and yes. {remedy}"
            )
        for number, split in enumerate(SPLITS):
            if (column.codes[table.split == number] == 1).sum() < 2:
                raise UserError(
                    f"In {table.root} the task '{task}' has fewer than two {split} images with the label"
                    f" '{column.values[1]}', and {key} = 'positive' takes anchors from those. {remedy}"
                )


def _leaks(digests: Pixels, split: Labels) -> list[list[int]]:
    """Return the groups of images with the same file that are in two splits.

    Args:
        digests: (n, 32) uint8, the SHA-256 of the files; split: (n,) of each.
    """
    _, which, times = np.unique(  # eight bytes find the candidates
        np.ascontiguousarray(digests[:, :8]).view(np.uint64).ravel(), return_inverse=True, return_counts=True
    )
    groups: dict[bytes, list[int]] = {}
    for i in np.flatnonzero(times[which] > 1).tolist():
        groups.setdefault(digests[i].tobytes(), []).append(i)
    return [group for group in groups.values() if in_two_splits(group, split)]


def prepare(
    benchmark: Benchmark,
    root: Path | None,
    tasks: list[str] | None,
    device: torch.device,
    drawing: Progress | None = None,
    packing: Progress | None = None,
    tell: Tell | None = None,
) -> tuple[Dataset, list[str]]:
    """Read, pack and load a benchmark's data set.

    Args:
        benchmark: which data, tasks and pixels.
        root: the data set's folder, or None for the default one.
        tasks: the user's choice, or None for the benchmark's own tasks.
        device: the device that networks run on.
        drawing: progress of drawing a rendered set; packing: of decoding images.
        tell: called with a sentence before waiting for another process that draws or packs them.

    Returns:
        the data set, and notes for the user: the reader's remarks, tasks left out or replaced because labels are
        missing, images left out, files changed.

    Raises:
        UserError: see `read_table`, `Table.choose`, `open_pack`.
    """
    data = benchmark.data
    table = read_table(data, root, drawing, tell)
    notes = list(table.remarks)
    if tasks is None:
        chosen, note = table.choose_default(data.tasks, data.fallback_tasks)
        notes += [note] if note else []
    else:
        chosen = table.choose(tasks)
    notes += remarks_on_words(table, chosen)
    pack = open_pack(table, data.size, data.fit, packing, data.skip_unreadable, tell)
    if pack.changed:
        files = "file" if pack.changed == 1 else "files"
        notes.append(f"{pack.changed:,} {files} changed since the images were packed: packed again.")
    if pack.unreadable:
        path, reason = pack.unreadable[0]
        images = "image" if len(pack.unreadable) == 1 else "images"
        notes.append(f"Left out {len(pack.unreadable):,} {images} that can't be read, such as {path}: {reason}.")
        table = table.subset(pack.kept)
        chosen = table.choose(chosen)
    leaks = 0
    if not table.rendered:
        twins = _leaks(pack.digests, table.split)
        leaks = sum(map(len, twins))
        pair = in_two_splits(twins[0], table.split) if twins else None
        notes += [remark_on_leaks(leaks, pair, table)] if pair else []
        notes += remark_on_dim(table, *dim_images(table))
    for section, anchors in (("train", benchmark.train.anchors), ("evaluation", benchmark.evaluation.anchors)):
        if anchors == "positive":
            _check_positives(table, chosen, f"{section}.anchors")
    columns = [table.columns[task] for task in chosen]
    labels = np.stack([column.codes for column in columns])
    digest = hashlib.sha256(pack.fingerprint.encode())
    for part in (np.array(chosen), np.array([c.values for c in columns], dtype=object), labels, table.split):
        digest.update(part.tobytes() if part.dtype != object else repr(part.tolist()).encode())
    for rows in (table.triplets[task][split] for task in chosen for split in SPLITS if table.triplets):
        digest.update(rows.tobytes())
    for column in columns:
        digest.update(b"" if column.members is None else column.members.tobytes())
    roles = table.roles
    for flags in (roles.query, roles.gallery) if roles else ():
        digest.update(flags.tobytes())
    if table.apart is not None:
        digest.update(table.apart.tobytes())
    if table.kin is not None and data.reader not in _OFFICIAL:
        digest.update(table.kin.in_order().tobytes())
    pixels = placed(pack.images, device)
    counts = {split: int((table.split == i).sum()) for i, split in enumerate(SPLITS)}
    tested = roles.of(table.split == SPLITS.index("test")) if roles else None
    facts: dict[str, str | int | bool] = {
        "name": table.name,
        "rendered": table.rendered,
        "fingerprint": digest.hexdigest()[:16],
        "images": len(table),
        **{f"{split}_images": n for split, n in counts.items()},
        "split": table.split_in_words,
        **({"unreadable": len(pack.unreadable)} if pack.unreadable else {}),
        **({"in_two_splits": leaks} if leaks else {}),
        **({"test_queries": int(tested.query.sum()), "test_gallery": int(tested.gallery.sum())} if tested else {}),
        **({"camera": data.camera} if data.camera else {}),
    }
    fixed = {
        split: [torch.from_numpy(table.triplets[task][split]).to(device) for task in chosen]
        for split in SPLITS
        if table.triplets
    }
    dataset = Dataset(
        images=pixels,
        labels=torch.from_numpy(labels).to(device),
        split=torch.from_numpy(table.split).to(device),
        tasks=tuple(chosen),
        values=tuple(c.values for c in columns),
        ordered=tuple(c.ordered for c in columns),
        pixels=data.pixels,
        facts=facts,
        triplets=fixed,
        root=table.root,
        paths=table.paths,
        set_members=tuple(None if c.members is None else torch.from_numpy(c.members) for c in columns),
        query=torch.from_numpy(roles.query).to(device) if roles else None,
        gallery=torch.from_numpy(roles.gallery).to(device) if roles else None,
        apart=None if table.apart is None else torch.from_numpy(table.apart).to(device),
        kin=None if table.kin is None else torch.from_numpy(table.kin.codes.astype(np.int64)).to(device),
    )
    return dataset, notes
