"""A finished run's network, embedding images from Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mtlbench.errors import UserError, counted

if TYPE_CHECKING:
    from torch import Tensor

    from mtlbench.search import Found, Run

    Images = Sequence[str | Path] | npt.NDArray[np.uint8] | Tensor


def load(run: str | Path, *, device: str = "auto", plugins: Iterable[str | Path] = ()) -> Embedder:
    """Load the network of a finished run.

    Args:
        run: the run's folder, such as `results/shoes-quick/modulation@tuned/seed-0`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        plugins: files or folders with methods of your own that the run used.

    Raises:
        UserError: no run, an unfinished or failed one, weights that are missing or don't fit.

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
    from mtlbench.devices import choose_device
    from mtlbench.plugins import load_plugins
    from mtlbench.search import load_run

    for broken in load_plugins([Path(plugin) for plugin in plugins]):
        raise UserError(str(broken))
    return Embedder(load_run(Path(run), choose_device(device)))


class Embedder:
    """Embeds images under each task as a run's network does. `mtlbench.load` makes it.

    Attributes:
        tasks: the run's tasks.
        size: numbers an embedding has, D.
        edited: the method's source has changed since the run; the weights fit, but it may embed otherwise.

    Example:
        >>> from mtlbench import Embedder, load
        >>> def alike(net: Embedder, first: str, second: str, task: str) -> float:
        ...     a, b = net.embed([first, second], task)
        ...     return float(a @ b)
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.tasks = run.tasks
        self.size: int = run.benchmark.model.embedding
        self.edited = run.edited

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
            UserError: no such task, an image that can't be read, or pixels of another shape or type.
        """
        row = self.tasks.index(self._run.find_task(task))
        found = self._all_tasks(images)[row]
        if self._run.benchmark.embedding.normalise:
            found = found / found.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return found.numpy()

    def search(
        self, queries: Sequence[str | Path], task: str, gallery: Sequence[str | Path] | None = None, k: int = 10
    ) -> list[Found]:
        """Find each query's nearest images under a task.

        Args:
            queries: paths of images.
            task: its name.
            gallery: paths of the images to search; None for the run's test images, by their places.
            k: how many neighbours.

        Returns:
            for each query `places` in the gallery and `distances`, the nearest first.

        Raises:
            UserError: see `embed`; or the run keeps no embeddings of its test images.
        """
        from mtlbench.search import read_stored, search

        name = self._run.find_task(task)
        stored = read_stored(self._run)[0] if gallery is None else self._all_tasks(gallery)
        return [found[0] for found in search(self._run, self._all_tasks(queries), stored, [name], k)]

    def _all_tasks(self, images: Images) -> Tensor:
        """Return (T, N, D) float32 on the CPU."""
        import torch

        from mtlbench.search import embed_files, embed_pixels

        if isinstance(images, np.ndarray | torch.Tensor):
            return embed_pixels(self._run, _pixels(images))
        if isinstance(images, str | Path):
            raise UserError(f"Give a list of paths, such as [{str(images)!r}].")
        embeddings, _, unreadable = embed_files(self._run, [Path(image) for image in images])
        if unreadable:
            path, reason = unreadable[0]
            raise UserError(f"{path} can't be read: {reason}.")
        return embeddings

    def __repr__(self) -> str:
        size = f"{counted(self.size, 'number')} an embedding"
        return f"Embedder({str(self._run.folder)!r}): {', '.join(self.tasks)}; {size}"


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
