"""A finished run's network, or an exported file, embedding images from Python."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from mtlbench.api.given import several
from mtlbench.errors import UserError, counted

if TYPE_CHECKING:
    from torch import Tensor

    from mtlbench.search import Embeds, Found

    Images = Sequence[str | Path] | npt.NDArray[np.uint8] | Tensor


def load(run: str | Path, *, device: str = "auto", plugins: str | Path | Iterable[str | Path] = ()) -> Embedder:
    """Load the network of a finished run, or a file that `mtlbench export` wrote of one.

    Args:
        run: the run's folder, such as `results/shoes-quick/modulation@tuned/seed-0`; or a file that ends in .onnx, .pt2
            or .safetensors, which needs no folder of a run beside it.
        device: `auto`, `cpu`, `cuda`, `cuda:1`; exported files run on the processor.
        plugins: files or folders with methods of your own that the run used.

    Raises:
        UserError: no run, an unfinished or failed one, weights that are missing, don't fit or were changed; a file that
            `mtlbench export` did not write, or whose library is not installed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from mtlbench import load, run
        >>> short = {"train.steps": 2, "train.triplets": 2, "evaluation.triplets": 20, "data.rendered.images": 120,
        ...          "model.embedding": 8, "data.image_size": 24, "evaluation.every": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     done = run("single", "shoes", quick=True, settings=short, results=folder, show=False)
        ...     net = load(f"{folder}/shoes-quick/single@tuned/seed-0")
        >>> net.tasks
        ('category', 'closure', 'gender', 'heel')
        >>> net.embed(np.zeros((3, 200, 300, 3), np.uint8), "heel").shape
        (3, 8)
    """
    from mtlbench.export.served import open_network
    from mtlbench.plugins import load_given

    for broken in load_given([Path(plugin) for plugin in several(plugins)]):
        warnings.warn(str(broken), stacklevel=2)
    return Embedder(open_network(Path(run), device))


class Embedder:
    """Embeds images under each task as a run's network does. `mtlbench.load` makes it.

    Attributes:
        tasks: the tasks that it embeds under: the run's, or the one that a file was exported for.
        size: numbers an embedding has, D.
        edited: the method's source has changed since the run; the weights fit, but it may embed otherwise. An exported
            ONNX file or program keeps what it computes, and has False.

    Example:
        >>> from mtlbench import Embedder, load
        >>> def alike(net: Embedder, first: str, second: str, task: str) -> float:
        ...     a, b = net.embed([first, second], task)
        ...     return float(a @ b)
    """

    def __init__(self, model: Embeds) -> None:
        self._model = model
        self.tasks = model.tasks
        self.size: int = model.benchmark.model.embedding
        self.edited: bool = getattr(model, "edited", False)

    def embed(
        self, images: Sequence[str | Path] | npt.NDArray[np.uint8] | Tensor, task: str
    ) -> npt.NDArray[np.float32]:
        """Embed images under a task.

        Args:
            images: paths, read and resized as the benchmark reads its own; or uint8 pixels in RGB of any size, (N, H,
                W, 3) as an array or (N, 3, H, W) as a tensor.
            task: its name.

        Returns:
            (N, D) float32; of unit length where the benchmark compares unit vectors.

        Raises:
            UserError: no such task, an image that can't be read, pixels of another shape or type, or a network that
                gives NaN.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from mtlbench import load, run
            >>> short = {"train.steps": 2, "train.triplets": 2, "evaluation.triplets": 20, "data.rendered.images": 120,
            ...          "model.embedding": 8, "data.image_size": 24, "evaluation.every": 2}
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     done = run("single", "shoes", quick=True, plain=True, settings=short, results=folder, show=False)
            ...     net = load(f"{folder}/shoes-quick/single/seed-0")
            >>> first, second = net.embed(np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8), "heel")
            >>> first.shape, round(float(first @ first), 3)  # of unit length
            ((8,), 1.0)
        """
        row = self.tasks.index(self._model.find_task(task))
        found = self._all_tasks(images)[row]
        if self._model.benchmark.embedding.normalise:
            found = found / found.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return found.numpy()

    def search(
        self,
        queries: Sequence[str | Path],
        task: str,
        gallery: str | Path | Sequence[str | Path] | None = None,
        k: int = 10,
        *,
        index: str | Path | None = None,
    ) -> list[Found]:
        """Find each query's nearest images under a task, as `mtlbench search` does.

        Args:
            queries: paths of images.
            task: its name.
            gallery: what to search: a folder of images, of which those that can't be read are left out, or paths of
                images; None for the run's test images, by their places.
            k: how many neighbours, at most those that there are.
            index: what to search instead: a file that `mtlbench index` saved, made with this same network.

        Returns:
            for each query `places` in the gallery and `distances`, the nearest first, and the images' `names`: paths,
            within the folder where one was given; no names of test images.

        Raises:
            UserError: see `embed`; nothing to search, as the run keeps no embeddings of its test images, or an exported
                file has none; an index of another network, or of a folder that has changed.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from mtlbench import load, run
            >>> from PIL import Image
            >>> short = {"train.steps": 2, "train.triplets": 2, "evaluation.triplets": 20, "data.rendered.images": 120,
            ...          "model.embedding": 8, "data.image_size": 24, "evaluation.every": 2}
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     done = run("single", "shoes", quick=True, plain=True, settings=short, results=folder, show=False)
            ...     net = load(f"{folder}/shoes-quick/single/seed-0")
            ...     for colour in ("red", "green", "blue"):
            ...         Image.new("RGB", (60, 40), colour).save(f"{folder}/{colour}.png")
            ...     [found] = net.search([f"{folder}/green.png"], "heel", gallery=folder, k=2)
            >>> found.names[0], found.places[0]
            ('green.png', 1)
            >>> len(found.distances)
            2
        """
        from mtlbench.index import embedded, indexed, read_index
        from mtlbench.search import read_stored, search

        name = self._model.find_task(task)
        if k < 1:
            raise UserError(f"k = {k}: ask for 1 neighbour or more.")
        if gallery is not None and index is not None:
            raise UserError("Give gallery= or index=, not both.")
        if index is not None:
            found = indexed(self._model, read_index(Path(index)), [name])
        elif isinstance(gallery, str | Path):
            found = embedded(self._model, Path(gallery))
        elif gallery is not None:
            found = embedded(self._model, [Path(image) for image in gallery])
            if found.left_out:
                _refuse(*found.left_out[0])
        else:
            stored, asked = read_stored(self._model)[0], self._all_tasks(queries)
            return [answers[0] for answers in search(self._model, asked, stored, [name], k)]
        asked = self._all_tasks(queries)
        every = search(self._model, asked, found.embeddings, [name], k, found.tasks, found.names)
        return [answers[0] for answers in every]

    def _all_tasks(self, images: Images) -> Tensor:
        """Return (T, N, D) float32 on the CPU."""
        import torch

        from mtlbench.search import embed_files, embed_pixels

        if isinstance(images, np.ndarray | torch.Tensor):
            return embed_pixels(self._model, _pixels(images))
        if isinstance(images, str | Path):
            raise UserError(f"Give a list of paths, such as [{str(images)!r}].")
        embeddings, _, unreadable = embed_files(self._model, [Path(image) for image in images])
        if unreadable:
            _refuse(*unreadable[0])
        return embeddings

    def __repr__(self) -> str:
        size = f"{counted(self.size, 'number')} an embedding"
        return f"Embedder({str(self._model.folder)!r}): {', '.join(self.tasks)}; {size}"


def _refuse(path: Path, reason: str) -> NoReturn:
    raise UserError(f"{path} can't be read: {reason}.")


def _pixels(images: npt.NDArray[np.uint8] | Tensor) -> npt.NDArray[np.uint8]:
    """Return pixels as (N, H, W, 3) uint8."""
    array = images
    if not isinstance(array, np.ndarray):
        array = array.cpu().movedim(1, -1).numpy() if array.ndim == 4 else array.cpu().numpy()
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
        raise UserError(
            "Give uint8 pixels in RGB, (N, H, W, 3) as an array or (N, 3, H, W) as a tensor; these are"
            f" {images.dtype} {tuple(images.shape)}."
        )
    return array
