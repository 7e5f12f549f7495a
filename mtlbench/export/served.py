"""Exported files read again, to embed images with: what is needed stands in the file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mtlbench.benchmark import Benchmark
from mtlbench.data.decoding import Pixels
from mtlbench.data.files import digest_of
from mtlbench.devices import choose_device
from mtlbench.errors import UserError, first_line
from mtlbench.export.formats import ENDINGS, KEY, check_readable, opened
from mtlbench.names import find_task
from mtlbench.networks import build
from mtlbench.runs import Record, benchmark_of
from mtlbench.runs.setup import method_of
from mtlbench.search import Run, load_run


@dataclass(frozen=True)
class Served:
    """An exported file that embeds images.

    Attributes:
        folder: the file.
        record: the run's setup; no metrics and no receipt, which files don't carry.
        benchmark: how images are prepared and embeddings compared.
        tasks: under which it embeds.
        digest: the SHA-256 of the file.
        call: (n, H, W, 3) uint8 -> (T, n, D) float32, or (n, D) of a single task.
    """

    folder: Path
    record: Record
    benchmark: Benchmark
    tasks: tuple[str, ...]
    digest: str
    call: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def embed(self, images: Pixels) -> Tensor:
        """Embed images (n, H, W, 3) of the benchmark's size: (T, n, D) float32 on the CPU."""
        found = self.call(torch.from_numpy(images)).float()
        return found if found.dim() == 3 else found[None]

    def find_task(self, name: str) -> str:
        """Return a task in its own spelling.

        Raises:
            UserError: there is none.
        """
        return find_task(name, self.tasks, self.folder)


def is_exported(path: Path) -> bool:
    """Tell by its ending whether a path is an exported file."""
    return path.suffix in ENDINGS.values() and not path.is_dir()


def open_exported(file: Path) -> Served:
    """Open a file that `mtlbench export` wrote. Plug-ins must have been loaded before, for safetensors.

    Raises:
        UserError: there is no such file, it wasn't written by `mtlbench export`, or a library is missing.
    """
    if not file.is_file():
        raise UserError(f"There is no file {file}: name a run's folder, or what mtlbench export wrote.")
    format = next(name for name, ending in ENDINGS.items() if ending == file.suffix)
    check_readable(format)
    about = _about(format, file)
    setup, embeds = about["setup"], tuple(about["embeds"])
    record = Record(str(setup["method"]["name"]), int(setup["seed"]), "method", setup, folder=file)
    benchmark = benchmark_of(record)
    # all tasks are embedded unless one was asked for; of a run with one task both are the same
    whole = tuple(setup["tasks"])
    task = None if embeds == whole else whole.index(embeds[0])
    run = _network(file, record, benchmark, whole) if format == "safetensors" else None
    call = opened(format, file, run, task, about["precision"] == "fp16")
    return Served(file, record, benchmark, embeds, digest_of(file), call)


def open_network(path: Path, device: str = "auto") -> Run | Served:
    """Open what embeds images: a run's folder, or a file that `mtlbench export` wrote, which runs on the processor.

    Args:
        path: of either. Plug-ins must have been loaded before.
        device: of a run's network: `auto`, `cpu`, `cuda`, `cuda:1`.

    Raises:
        UserError: see `mtlbench.search.load_run` and `open_exported`.
    """
    return open_exported(path) if is_exported(path) else load_run(path, choose_device(device))


def _about(format: str, file: Path) -> dict[str, Any]:
    """Return the run's configuration that a file carries."""
    try:
        if format == "onnx":
            import onnxruntime

            words = onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map.get(KEY, "")
        elif format == "torch":
            with zipfile.ZipFile(file) as parts:
                words = next((parts.read(n).decode() for n in parts.namelist() if n.endswith(f"/{KEY}.json")), "")
        else:
            with safe_open(file, "pt") as tensors:
                words = (tensors.metadata() or {}).get(KEY, "")
        about: dict[str, Any] = json.loads(words)
        if {"setup", "embeds", "precision"} - about.keys():
            raise ValueError("no configuration")
        return about
    except (OSError, SafetensorError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is no file that mtlbench export wrote: it has no configuration in it.") from error
    except Exception as error:  # of a damaged ONNX file, onnxruntime's own
        raise UserError(f"{file} can't be read ({first_line(error)}): export it again.") from error


def _network(file: Path, record: Record, benchmark: Benchmark, tasks: tuple[str, ...]) -> Run:
    """Build the network whose weights a safetensors file holds; `opened` gives it these."""
    model = benchmark.model.model_copy(update={"pretrained": False})
    try:
        architecture, _ = build(method_of(record), benchmark.model_copy(update={"model": model}), tasks, record.seed)
    except UserError as error:
        raise UserError(
            f"{record.method} can't be built: {error} If it is a method of your own, name its file with --plugins."
        ) from error
    return Run(file, record, benchmark, architecture.eval(), torch.device("cpu"), False)
