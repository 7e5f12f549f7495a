"""The test images behind a run's embeddings: the data set is read again, and must be what the run was made with.

Records keep a fingerprint of their data and no path, so that they can be copied; this module finds the images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mtlbench.errors import UserError
from mtlbench.runs import Record, benchmark_of

if TYPE_CHECKING:  # reports without images do without PyTorch
    from mtlbench.data.pack import Progress


class NoImages(UserError):
    """A run's images are absent, or different from the run's."""


@dataclass(frozen=True)
class Originals:
    """The test images of a run, in the order of its embeddings.

    Attributes:
        root: the data set's folder.
        files: N image files.
        labels: (T, N) codes into `values`, -1 where an image is not labelled, by the run's tasks.
        values: the tasks' label values.
        query, gallery: (N,) bool, which images are asked and which are searched.
        members: by task (V, U) bool where labels are sets, which values are in each; else None.
        training: the image files of the training split.
    """

    root: Path
    files: tuple[Path, ...]
    labels: npt.NDArray[np.int64]
    values: tuple[tuple[str, ...], ...]
    query: npt.NDArray[np.bool_]
    gallery: npt.NDArray[np.bool_]
    members: tuple[npt.NDArray[np.bool_] | None, ...]
    training: tuple[Path, ...] = ()


def read_originals(
    record: Record,
    data_dir: Path | None = None,
    draw_absent: bool = True,
    drawing: Progress | None = None,
    packing: Progress | None = None,
) -> Originals:
    """Find the test images of a run, and see by their fingerprint that they are those.

    Args:
        record: of the run.
        data_dir: the data set's folder; by default the one where `mtlbench run` looks.
        draw_absent: draw a rendered data set again where it is absent, which takes seconds to a minute.
        drawing: progress of that; packing: of decoding images that were never packed on this machine.

    Raises:
        NoImages: they are absent, or other ones; a sentence on "its images" that says what to do.
        UserError: they can't be read.
    """
    import torch

    from mtlbench.data.dataset import prepare
    from mtlbench.data.reading import home_of, read_table, rendered_folder
    from mtlbench.datasets.contract import build_reader

    benchmark = benchmark_of(record)
    data = benchmark.data
    made_anew = data.rendered is not None
    if data_dir is not None:
        root = data_dir
    elif data.rendered is not None:
        root = rendered_folder(data.rendered)
    else:
        try:
            reader = build_reader(data)
        except UserError as error:
            raise NoImages(f"its images can't be found. {error}") from error
        root, made_anew = home_of(data, reader), bool(reader.fetches)  # what was fetched for a run is kept
        if not made_anew and reader.found(root) is None and not root.is_dir():  # a user's own: no usual place
            raise NoImages("records don't say where its images are; name their folder with --data-dir.")
    there = root.is_dir() and any(root.iterdir())
    if not there and (not made_anew or data_dir is not None or not draw_absent):
        raise NoImages(f"its images are not at {root}; name their folder with --data-dir.")
    others = NoImages(
        f"the images in {root} are not those that it was made with; name the right folder with --data-dir."
    )
    facts = record.receipt.get("data", {})
    expected = facts.get("images", 0) + facts.get("unreadable", 0)
    folder = root if there else None
    try:
        if expected and len(read_table(data, folder, drawing)) != expected:
            raise others  # known before so many other images are packed
        dataset, _ = prepare(benchmark, folder, record.setup["tasks"], torch.device("cpu"), drawing, packing)
    except UserError as error:
        raise NoImages(f"its images in {root} can't be used. {error}") from error
    if dataset.facts["fingerprint"] != record.setup["data"]:
        raise others
    test = dataset.members("test")
    files = tuple(dataset.root / dataset.paths[i] for i in test.tolist())
    everyone = torch.ones(len(test), dtype=torch.bool)
    query, gallery = dataset.roles(test) or (everyone, everyone)
    labels = dataset.labels[:, test].numpy()
    members = tuple(None if one is None else one.numpy() for one in dataset.sets)
    training = tuple(dataset.root / dataset.paths[i] for i in dataset.members("train").tolist())
    return Originals(dataset.root, files, labels, dataset.values, query.numpy(), gallery.numpy(), members, training)
