"""A data set ready for the device: packed pixels, labels of the chosen tasks, splits. Made from a table and a pack."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import Tensor

from mtlbench.benchmark import Benchmark, Data, Rendered
from mtlbench.data import celeba, zappos
from mtlbench.data.celeba import read_celeba
from mtlbench.data.folder import read_csv, read_folders
from mtlbench.data.pack import Progress, open_pack
from mtlbench.data.rendered.faces import render_faces
from mtlbench.data.rendered.shoes import render_shoes
from mtlbench.data.rendered.writing import DRAWING, as_rendered, rendered_facts
from mtlbench.data.table import SPLITS, Table
from mtlbench.data.zappos import read_zappos
from mtlbench.errors import UserError

# (mean, standard deviation) of R, G, B on the scale 0 to 255, and whether channels are turned to B, G, R
PIXELS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], bool]] = {
    "unit": ((127.5,) * 3, (127.5,) * 3, False),  # to -1 ... 1
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False),  # torchvision's weights expect this
    "bgr": ((122.77, 115.95, 102.98), (1 / 0.0078125,) * 3, True),  # the modulation paper's code
}
READERS: dict[str, Callable[[Path, Data], Table]] = {
    "celeba": lambda root, data: read_celeba(root, data.split, data.split_seed),
    "zappos": lambda root, data: read_zappos(root, data.split_seed, data.split, data.multi_valued),
    "csv": read_csv,
    "folders": read_folders,
}
_FOUND = {"celeba": celeba.found, "zappos": zappos.found}
RENDERERS = {"shoes": render_shoes, "faces": render_faces}
_STAND_INS = {"celeba": "faces", "zappos": "shoes"}  # what can be drawn in the same layout


@dataclass(frozen=True)
class Dataset:
    """N images in memory with the labels of T tasks.

    Attributes:
        images: (N, H, W, 3) uint8 RGB, on the device when it fits there, else in the host's memory.
        labels: (T, N) int64 on the device, -1 where not labelled.
        split: (N,) int64 on the device: 0 train, 1 val, 2 test.
        tasks: the T names; values: their label values; ordered: whether those have an order.
        pixels: key of `PIXELS`.
        facts: what the receipt says of it.
        triplets: fixed ones that came with the data set, by split: for each task (n, 3) int64 indices of anchor,
            positive and negative on the device; empty where triplets are drawn from the labels.
        root: the folder that `paths` are relative to; paths: the N image files, for pictures of the originals.
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

    @property
    def device(self) -> torch.device:
        """Where labels are and networks run."""
        return self.labels.device

    def members(self, split: str) -> Tensor:
        """Return the (n,) indices of the images of `train`, `val` or `test`."""
        return torch.nonzero(self.split == SPLITS.index(split)).flatten()

    def batch(
        self, index: Tensor, generator: torch.Generator | None = None, flip: bool = False, shift: int = 0
    ) -> Tensor:
        """Return images as networks see them: (n,) indices -> (n, 3, H, W) float32, channels last in memory.

        With a generator, each image is mirrored with probability one half where `flip` is set and moved by up to
        `shift` pixels each way, its edge repeated.
        """
        where = index.to(self.images.device)
        height, width = self.images.shape[1:3]
        if generator is not None and shift:
            move = torch.randint(-shift, shift + 1, (2, len(index), 1), generator=generator, device=index.device)
            move = move.to(where.device)
            rows = (torch.arange(height, device=where.device) + move[0]).clamp(0, height - 1)
            columns = (torch.arange(width, device=where.device) + move[1]).clamp(0, width - 1)
            pixels = self.images.view(-1, 3)[
                (where[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
            ]
        else:
            pixels = self.images[where]
        pixels = pixels.to(self.device, non_blocking=True)
        if generator is not None and flip:
            mirrored = torch.rand(len(index), generator=generator, device=index.device) < 0.5
            pixels = torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)
        scale, offset = self._normalisation
        images = torch.addcmul(offset, pixels.float(), scale)
        bgr = PIXELS[self.pixels][2]
        return (images.flip(3) if bgr else images).permute(0, 3, 1, 2)

    @functools.cached_property
    def _normalisation(self) -> tuple[Tensor, Tensor]:
        """Scale and offset of the channels, on the device once and for all: `batch` is called at every step."""
        mean, deviation, _ = PIXELS[self.pixels]
        scale = torch.tensor([1 / d for d in deviation], device=self.device)
        return scale, torch.tensor([-m / d for m, d in zip(mean, deviation, strict=True)], device=self.device)


def default_folder(name: str) -> Path:
    """Return where a data set is looked for: under `$MTLBENCH_DATA`, else the platform's folder for user data."""
    return Path(os.environ.get("MTLBENCH_DATA") or platformdirs.user_data_dir("mtlbench")) / name


def rendered_folder(what: Rendered) -> Path:
    """Return where a rendered set is looked for, and drawn where it is absent."""
    conflict = f"-conflict{what.conflict:g}" if what.conflict else ""
    return default_folder(f"rendered-{what.what}-{what.images}-seed{what.seed}{conflict}")


def read_table(data: Data, root: Path | None, progress: Progress | None = None) -> Table:
    """Read the table of a benchmark's data set; a rendered one is drawn first where it is not there.

    Args:
        data: the benchmark's section.
        root: the data set's folder; by default `default_folder`.
        progress: called while images are drawn.

    Raises:
        UserError: the folder is not there or not what it should be.
    """
    if root is not None and not root.is_dir():
        raise UserError(f"--data-dir {root}: there is no such folder.")
    if data.rendered is not None:
        what = data.rendered
        root = root or rendered_folder(what)
        if not root.exists() or not any(root.iterdir()):
            done = 0

            def count(n: int) -> None:
                nonlocal done
                done += n
                if progress:
                    progress(done, what.images)

            RENDERERS[what.what](root, what.images, what.seed, progress=count, conflict=what.conflict)
    elif root is None:
        root = Path(data.folder) if data.folder else default_folder(data.reader)
        if data.reader in _STAND_INS and not _FOUND[data.reader](root):
            raise UserError(
                f"There is no {data.reader} data at {root}: fetch it with mtlbench data get {data.reader}, name its"
                f" folder with --data-dir, or try --dataset {_STAND_INS[data.reader]}, which draws its own images."
            )
        if not root.is_dir():
            raise UserError(f"{root}: there is no such folder. Correct data.folder, or name one with --data-dir.")
    table = READERS[data.reader](root, data)
    table = as_rendered(table)
    if data.rendered is not None:
        if not table.rendered:
            raise UserError(
                f"{root} holds real images; this benchmark draws its own. Name another folder with --data-dir."
            )
        facts = rendered_facts(table)
        if facts.get("drawing") != DRAWING:
            raise UserError(
                f"{root} was drawn by another version of mtlbench, whose pictures differ. Remove that folder, so that"
                " it is drawn anew."
            )
        for key, wanted in data.rendered.model_dump().items():
            if facts.get(key) != wanted:
                raise UserError(
                    f"{root} was drawn with {key} {facts.get(key)} and this benchmark has {wanted}. Name another folder"
                    f" with --data-dir, or --set data.rendered.{key}={facts.get(key)}."
                )
    return table.limited(data.limit).without_rare(data.min_images)


def _check_positives(table: Table, tasks: list[str], keys: list[str]) -> None:
    """Refuse tasks for which anchors can't come from label 1 alone: of many values, code 1 is just one of them."""
    remedy = f"Take other tasks, or {' '.join(f'--set {key}=balanced' for key in keys)}."
    said = " and ".join(f"{key} = 'positive'" for key in keys)
    for task in tasks:
        column = table.columns[task]
        if len(column.values) != 2:
            raise UserError(
                f"The task '{task}' has {len(column.values)} values, and {said} is for tasks with"
                f" two, such as no and yes. {remedy}"
            )
        for number, split in enumerate(SPLITS):
            if (column.codes[table.split == number] == 1).sum() < 2:
                raise UserError(
                    f"In {table.root} the task '{task}' has fewer than two {split} images with the label"
                    f" '{column.values[1]}', and {said} takes anchors from those. {remedy}"
                )


def prepare(
    benchmark: Benchmark,
    root: Path | None,
    tasks: list[str] | None,
    device: torch.device,
    drawing: Progress | None = None,
    packing: Progress | None = None,
) -> tuple[Dataset, list[str]]:
    """Read, pack and load a benchmark's data set.

    Args:
        benchmark: which data, tasks and pixels.
        root: the data set's folder, or None for the default one.
        tasks: the user's choice, or None for the benchmark's own tasks.
        device: where networks run.
        drawing: progress of drawing a rendered set; packing: of decoding images.

    Returns:
        the data set, and what the user should know: what the reader remarked, tasks left out or replaced for want of
        labels, images left out, files changed.

    Raises:
        UserError: see `read_table`, `Table.choose`, `open_pack`.
    """
    data = benchmark.data
    table = read_table(data, root, drawing)
    notes = list(table.remarks)
    if tasks is None:
        chosen, note = table.choose_default(data.tasks, data.spare_tasks)
        notes += [note] if note else []
    else:
        chosen = table.choose(tasks)
    pack = open_pack(table, data.size, data.fit, packing, data.skip_unreadable)
    if pack.changed:
        files = "file" if pack.changed == 1 else "files"
        notes.append(f"{pack.changed:,} {files} changed since the images were packed: packed anew.")
    if pack.unreadable:
        path, reason = pack.unreadable[0]
        images = "image" if len(pack.unreadable) == 1 else "images"
        notes.append(f"Left out {len(pack.unreadable):,} {images} that can't be read, such as {path}: {reason}.")
        table = table.subset(pack.kept)
        chosen = table.choose(chosen)
    anchors = {"train.anchors": benchmark.train.anchors, "evaluation.anchors": benchmark.evaluation.anchors}
    if positive := [key for key, value in anchors.items() if value == "positive"]:
        _check_positives(table, chosen, positive)
    columns = [table.columns[task] for task in chosen]
    labels = np.stack([column.codes for column in columns])
    digest = hashlib.sha256(pack.fingerprint.encode())
    for part in (np.array(chosen), np.array([c.values for c in columns], dtype=object), labels, table.split):
        digest.update(part.tobytes() if part.dtype != object else repr(part.tolist()).encode())
    for rows in (table.triplets[task][split] for task in chosen for split in SPLITS if table.triplets):
        digest.update(rows.tobytes())
    pixels = torch.from_numpy(pack.images)
    if device.type == "cuda" and pixels.nbytes < 0.5 * torch.cuda.mem_get_info(device)[0]:
        pixels = pixels.to(device)
    counts = {split: int((table.split == i).sum()) for i, split in enumerate(SPLITS)}
    facts: dict[str, str | int | bool] = {
        "name": table.name,
        "rendered": table.rendered,
        "fingerprint": digest.hexdigest()[:16],
        "images": len(table),
        **{f"{split}_images": n for split, n in counts.items()},
        "split": table.split_rule,
        **({"unreadable": len(pack.unreadable)} if pack.unreadable else {}),
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
    )
    return dataset, notes
