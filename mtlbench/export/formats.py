"""The files that networks are exported to: how each is written, and how it is run to be checked."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mtlbench.cost import tensors_of
from mtlbench.errors import UserError, first_line
from mtlbench.export.network import Deployed, trace
from mtlbench.networks import deployed_state
from mtlbench.runs.disk import save_tensors
from mtlbench.search import Run

KEY = "mtlbench"  # under which each format keeps the run's configuration, as JSON
ENDINGS = {"onnx": ".onnx", "torch": ".pt2", "safetensors": ".safetensors"}
_NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime")}

Embed = Callable[[Tensor], Tensor]  # (N, H, W, 3) uint8 -> (T, N, D) or (N, D) float32


def check_installed(format: str) -> None:
    """Refuse a format whose libraries are not installed.

    Raises:
        UserError: it says how to install them.
    """
    missing = [name for name in _NEEDED.get(format, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"--format {format} needs {', '.join(missing)}, which {'are' if len(missing) > 1 else 'is'} not installed:"
            " pip install 'mtlbench[export]'."
        )


def check_readable(format: str) -> None:
    """Refuse to run a file whose library is not installed.

    Raises:
        UserError: it says how to install it.
    """
    if format == "onnx" and importlib.util.find_spec("onnxruntime") is None:
        raise UserError("An ONNX file is run by onnxruntime, which is not installed: pip install 'mtlbench[export]'.")


def write(format: str, run: Run, task: int | None, half: bool, about: dict[str, Any], file: Path) -> None:
    """Write a run's network to a file.

    Args:
        format: a key of `ENDINGS`.
        run: on the CPU.
        task: the task's index, or None for all.
        half: weights and computation in float16.
        about: the run's configuration, which the file carries.
        file: where to.

    Raises:
        UserError: the method can't be traced or converted.
    """
    words = json.dumps(about, ensure_ascii=False)
    if format == "safetensors":
        save_tensors(_weights(run, task, half), file, {KEY: words})
        return
    with _without_torchs_own_warnings():
        program = trace(run, task, half)
        if format == "torch":
            torch.export.save(program, file, extra_files={f"{KEY}.json": words})
        else:
            _write_onnx(program, run, words, file, task)


@contextmanager
def _without_torchs_own_warnings() -> Iterator[None]:
    """Leave out what torch's exporter warns of in its own code: users can do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # a class that torch 2.11 itself has deprecated
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")  # all are on the CPU here
        yield


def _write_onnx(program: Any, run: Run, words: str, file: Path, task: int | None) -> None:
    import onnx

    try:
        converted = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["images"],
            output_names=["embeddings"],
            external_data=False,
            verbose=False,
        )
        assert converted is not None
        model = converted.model_proto
    except Exception as error:  # of many kinds, from several libraries
        raise UserError(
            f"{run.record.method} can't be converted to ONNX ({first_line(error)}). Export it with --format torch."
        ) from error
    for node in [*model.graph.node, *(node for function in model.functions for node in function.node)]:
        del node.metadata_props[:]  # stack traces, which name files of this machine
        node.doc_string = ""
    model.metadata_props.add(key=KEY, value=words)
    onnx.save(model, str(file))


def _weights(run: Run, task: int | None, half: bool) -> dict[str, Tensor]:
    """Return a run's weights by name; for one task, without what other tasks own and it does not need."""
    architecture = run.architecture
    left: set[int] = set()
    if task is not None and not architecture.mixes_tasks:
        for other in range(len(run.tasks)):
            if other != task:
                left |= {id(t) for t in tensors_of(architecture.task_state(other))}
        left -= {id(t) for t in tensors_of(architecture.task_state(task))}
    kept = {}
    for name, tensor in deployed_state(architecture).items():
        if id(tensor) not in left:
            value = tensor.detach().cpu().contiguous().clone()
            kept[name] = value.half() if half and value.is_floating_point() else value
    return kept


def opened(format: str, file: Path, run: Run | None, task: int | None, half: bool) -> Embed:
    """Return a function that embeds images with an exported file, as someone would who has only that.

    Args:
        format: a key of `ENDINGS`.
        file: it.
        run: whose network takes the weights of a safetensors file; the other formats need none.
        task: the task's index, or None for all.
        half: weights and computation in float16.
    """
    if format == "onnx":
        session = _session(file)
        return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    if format == "torch":
        with tempfile.TemporaryDirectory() as folder:  # torch looks at the ending
            copied = shutil.copy(file, Path(folder) / "network.pt2")
            with _without_torchs_own_warnings():
                module = torch.export.load(copied).module()
        return lambda images: module(images)
    assert run is not None
    network = Deployed(run, task, half)
    kept = load_file(file)
    with torch.no_grad():
        for name, tensor in deployed_state(network.architecture).items():
            if name in kept:
                tensor.copy_(kept[name])
            elif tensor.is_floating_point():
                tensor.fill_(torch.nan)  # whatever needs what was left out shows it
    return lambda images: network(images)


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
