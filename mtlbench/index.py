"""Indexes: the embeddings of a folder of images, saved, so that searches need not embed it again.

An index is one safetensors file: `embeddings` (T, n, D) float32, and as JSON in its metadata the network, the tasks,
and each image's name, size, time and content, by which a change of the folder is noticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from mtlbench.data.files import digest_of, files_in
from mtlbench.errors import UserError
from mtlbench.names import joined, listed
from mtlbench.runs.disk import save_tensors
from mtlbench.search import Embeds, embed_files

ENDING = ".safetensors"
_KEY = "mtlbench-index"
_NAMED = 3  # changed files
_DAMAGED = (OSError, KeyError, ValueError, ValidationError, SafetensorError)  # what reading another file raises


@dataclass(frozen=True)
class Stamp:
    """By what an image's change is noticed: its content where size or time have changed."""

    size: int
    time: int
    content: str

    @classmethod
    def of(cls, file: Path) -> Stamp:
        """Take it from a file."""
        about = file.stat()
        return cls(about.st_size, about.st_mtime_ns, digest_of(file))

    def still_of(self, file: Path) -> bool:
        """Tell whether a file is as it was; its content is read only where it may have changed."""
        about = file.stat()
        if about.st_size != self.size:
            return False
        return about.st_mtime_ns == self.time or digest_of(file) == self.content


@dataclass(frozen=True)
class _Head:
    """What an index says of itself."""

    method: str
    digest: str
    tasks: tuple[str, ...]
    folder: str  # relative to the index
    images: dict[str, Stamp]  # by name, in the order of the embeddings
    left_out: dict[str, Stamp]  # that can't be read


@dataclass(frozen=True)
class Index:
    """The embeddings of a folder of images.

    Attributes:
        file: where it is saved.
        tasks: under which the images are embedded.
        names: of the images, relative to `folder`.
        folder: where they lie.
        embeddings: (T, n, D) float32.
    """

    file: Path
    head: _Head
    embeddings: Tensor

    @property
    def tasks(self) -> tuple[str, ...]:
        """Under which the images are embedded."""
        return self.head.tasks

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images, relative to `folder`."""
        return tuple(self.head.images)

    @property
    def folder(self) -> Path:
        """Where the images lie."""
        return Path(os.path.normpath(self.file.parent / self.head.folder))

    def check(self, model: Embeds, tasks: Sequence[str]) -> None:
        """Refuse a search that would compare what can't be compared.

        Raises:
            UserError: another network made the index, it lacks a task, or the folder's images have changed.
        """
        again = f"make the index again: mtlbench index {self.folder} --model {model.folder} --output {self.file}"
        if model.digest != self.head.digest:
            raise UserError(
                f"{self.file} was made with another network ({self.head.method}, sha256 {self.head.digest[:16]}) than"
                f" {model.folder} (sha256 {model.digest[:16]}), and their embeddings can't be compared; {again}"
                " --overwrite."
            )
        if lacking := [task for task in tasks if task not in self.tasks]:
            raise UserError(
                f"{self.file} has no embeddings under {listed(lacking)}, but under {listed(self.tasks)}: name one"
                f" of these with --tasks, or {again} --overwrite."
            )
        if changed := self.changed():
            raise UserError(
                f"The images in {self.folder} are no longer those of {self.file} ({joined(changed, _NAMED)});"
                f" {again} --overwrite."
            )

    def changed(self) -> list[str]:
        """Return what has changed in the folder since, as `new: a.jpg`; nothing where the folder is not at hand."""
        if not self.folder.is_dir():
            return []
        known = self.head.images | self.head.left_out
        now = set(image_names(self.folder))
        found = [f"new: {name}" for name in sorted(now - known.keys())]
        found += [f"gone: {name}" for name in known if name not in now]
        found += [f"changed: {n}" for n, stamp in known.items() if n in now and not stamp.still_of(self.folder / n)]
        return found


@dataclass(frozen=True)
class Gallery:
    """Images that are searched.

    Attributes:
        names: of the images: relative to their folder, or paths as they were given.
        tasks: of the first axis of the embeddings.
        embeddings: (T, n, D) float32.
        files: where the images lie; empty where they are not at hand.
        left_out: images that can't be read, with the reason.
    """

    names: tuple[str, ...]
    tasks: tuple[str, ...]
    embeddings: Tensor
    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...] = ()


def indexed(model: Embeds, index: Index, tasks: Sequence[str]) -> Gallery:
    """Return the images of an index, to be searched with the network that made it.

    Raises:
        UserError: see `Index.check`.
    """
    index.check(model, tasks)
    files = tuple(index.folder / name for name in index.names) if index.folder.is_dir() else ()
    return Gallery(index.names, index.tasks, index.embeddings, files)


def embedded(
    model: Embeds, images: Path | Sequence[Path], progress: Callable[[int, int], None] | None = None
) -> Gallery:
    """Embed the images of a folder and of the folders in it, by name, or files, to be searched.

    Args:
        model: embeds them.
        images: a folder, or files.
        progress: told how many images are embedded, of how many.

    Raises:
        UserError: there is no such folder, it holds no images, or none that can be read.
    """
    if not isinstance(images, Path):
        embeddings, read, left = embed_files(model, images, progress)
        return Gallery(tuple(map(str, read)), model.tasks, embeddings, tuple(read), tuple(left))
    if not images.is_dir():
        raise UserError(f"{images}: there is no such folder.")
    found = image_names(images)
    if not found:
        raise UserError(f"{images} holds no images.")
    embeddings, read, left = embed_files(model, [images / name for name in found], progress)
    if not read:
        raise UserError(f"{images}: none of its images can be read; {left[0][0]}, for one, is {left[0][1]}.")
    names = tuple(str(file.relative_to(images)) for file in read)
    return Gallery(names, model.tasks, embeddings, tuple(read), tuple(left))


def image_names(folder: Path) -> list[str]:
    """Return the images of a folder, those of its folders too, by name, relative to it."""
    from PIL import Image

    endings = {ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN}
    return sorted(name for name in files_in(folder) if Path(name).suffix.lower() in endings)


def make_index(
    model: Embeds,
    folder: Path,
    tasks: Sequence[str],
    output: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Index, list[tuple[Path, str]]]:
    """Embed a folder of images and save it as an index.

    Args:
        model: embeds them.
        folder: of the images; those in folders within it too.
        tasks: under which.
        output: the index's file; one that is there is replaced.
        progress: told how many images are embedded, of how many.

    Returns:
        the index, and the images that can't be read with the reason.

    Raises:
        UserError: the folder holds no images, or none that can be read.
        DiskFull: there is no space for it; what was there is kept.
    """
    names = image_names(folder)
    if not names:
        raise UserError(f"{folder} holds no images.")
    stamps = {name: Stamp.of(folder / name) for name in names}  # before they are read: a later change is then noticed
    embeddings, read, left = embed_files(model, [folder / name for name in names], progress)
    if not read:
        raise UserError(f"{folder}: none of its images can be read; {left[0][0]}, for one, is {left[0][1]}.")
    unread = {path for path, _ in left}
    head = _Head(
        model.record.method,
        model.digest,
        tuple(tasks),
        os.path.relpath(folder.resolve(), output.parent.resolve()),
        {name: stamp for name, stamp in stamps.items() if folder / name not in unread},
        {name: stamp for name, stamp in stamps.items() if folder / name in unread},
    )
    chosen = embeddings[[model.tasks.index(task) for task in tasks]].contiguous()
    new = output.with_name(f".{output.name}.new-{os.getpid()}")
    try:
        save_tensors({"embeddings": chosen}, new, {_KEY: json.dumps(asdict(head))})
        new.replace(output)
    finally:
        new.unlink(missing_ok=True)
    return Index(output, head, chosen), left


def read_index(file: Path) -> Index:
    """Read an index.

    Raises:
        UserError: there is none, or it can't be read.
    """
    if not file.is_file():
        raise UserError(f"There is no index {file}: make one with mtlbench index FOLDER --model RUN.")
    try:
        return Index(file, _head_of(file), load_file(file)["embeddings"])
    except _DAMAGED as error:
        raise UserError(f"{file} is no index that mtlbench index wrote, or it is damaged: make it again.") from error


def is_index(file: Path) -> bool:
    """Tell whether a file is an index, from its beginning: embeddings may be gigabytes."""
    try:
        _head_of(file)
    except _DAMAGED:
        return False
    return True


def _head_of(file: Path) -> _Head:
    """Read what an index says of itself, and that it holds as many embeddings as it says."""
    with safe_open(file, "pt") as tensors:
        head: _Head = TypeAdapter(_Head).validate_python(json.loads((tensors.metadata() or {}).get(_KEY, "")))
        if tuple(tensors.get_slice("embeddings").get_shape()[:2]) != (len(head.tasks), len(head.images)):
            raise ValueError("other embeddings than it says")
    return head
