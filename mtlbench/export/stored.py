"""What an exported file stores: its size with all tasks, and what one more task adds to it."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtlbench.architecture import Architecture
from mtlbench.errors import FAULTS
from mtlbench.export.formats import ENDINGS, write
from mtlbench.export.int8 import quantise
from mtlbench.networks import build
from mtlbench.runs.setup import method_of
from mtlbench.runs.sizes import stored_as
from mtlbench.search import Run
from mtlbench.specs import PLAIN

_IMAGES = 4  # random ones, by which a made-up network is quantised: ranges don't change a file's size
_SLACK = 256  # bytes by which two files of the same network may differ, as numbers in it take one byte or two


def stored_sizes(
    run: Run, format: str, task: int | None, precision: str, about: dict[str, Any], size: int
) -> dict[str, int]:
    """Return what a run's record keeps of an exported file, in bytes by cost; nothing of a file of one task.

    What one more task adds is the difference of two files that are exported in the same way, of networks with made-up
    weights: of the run's tasks, and of these and one more. It is left out where the first is not as large as the run's
    own file, as where what was learned decides what is stored.

    Args:
        run: that was exported.
        format, precision, about: of the file, see `formats.write`.
        task: the task's index, or None for all.
        size: of the file, in bytes.
    """
    kind = stored_as(format, precision)
    if kind is None or task is not None:
        return {}
    try:
        now = _size_of(_made_up(run, run.tasks), format, precision, about)
        more = _size_of(_made_up(run, (*run.tasks, "one more task")), format, precision, about)
    except FAULTS:  # the file stands, whatever a method's code makes of one more task or of these weights
        return {kind.size: size}
    return {kind.size: size, kind.added: more - now} if abs(now - size) <= _SLACK else {kind.size: size}


def _made_up(run: Run, tasks: tuple[str, ...]) -> Run:
    """Return a run's network for some tasks, with weights of which no two are alike: equal ones are stored once."""
    method = replace(method_of(run.record), balancer=PLAIN, balancer_options={})  # it may fit one number of tasks only
    model = run.benchmark.model.model_copy(update={"pretrained": False})
    benchmark = run.benchmark.model_copy(update={"model": model})
    architecture, _ = build(method, benchmark, tasks, run.record.seed)
    _stir(architecture)
    architecture = architecture.to(memory_format=torch.channels_last).eval()
    record = replace(run.record, setup=run.record.setup | {"tasks": list(tasks)})
    return replace(run, record=record, architecture=architecture)


@torch.no_grad()
def _stir(architecture: Architecture) -> None:
    generator = torch.Generator().manual_seed(0)
    for tensor in [*architecture.parameters(), *architecture.buffers()]:
        if tensor.is_floating_point():
            tensor.add_(0.01 * torch.rand(tensor.shape, generator=generator).to(tensor.dtype))


def _size_of(run: Run, format: str, precision: str, about: dict[str, Any]) -> int:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / f"network{ENDINGS[format]}"
        write(format, run, None, precision == "fp16", about, file)
        if precision == "int8":
            images = np.random.default_rng(0).integers(0, 256, (_IMAGES, *run.benchmark.data.size, 3), dtype=np.uint8)
            quantise(file, images, run.record.method)
        return file.stat().st_size
