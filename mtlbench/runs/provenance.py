"""Where a run comes from: its setup, the sources of its method, and its receipt."""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import mtlbench
from mtlbench.backbones.weights import digest, stated
from mtlbench.benchmark import Benchmark
from mtlbench.bundled import bundled
from mtlbench.data.dataset import Dataset
from mtlbench.devices import cuda_settings, device_name
from mtlbench.losses.contract import resolved
from mtlbench.plugins import sources_of_plugin
from mtlbench.registry import (
    ARCHITECTURES,
    AUGMENTATIONS,
    BACKBONES,
    BALANCERS,
    LOSSES,
    METRICS,
    SAMPLERS,
    Entry,
    Family,
    Registry,
    interactive,
)
from mtlbench.runs.interactive import code_of, source_file
from mtlbench.runs.record import Json
from mtlbench.specs import Method
from mtlbench.training.compiled import compiles
from mtlbench.training.loop import VERSION


def setup_of(method: Method, benchmark: Benchmark, dataset: Dataset, seed: int, precision: str) -> Json:
    """Return all that decides a run's result, as JSON holds it: runs with equal setups are the same run.

    On a processor that is the number of threads too, which torch has now: sums are taken in another order with another
    number. To the last bit, runs of one setup are equal; runs that differ in threads alone may still share a folder.
    `compiled` and, on a GPU, `deterministic` are there where they are so: without, the setup is that of older versions.
    """
    benchmark = benchmark.model_copy(update={"loss": resolved(benchmark.loss)})
    setup: Json = {
        "method": {key: value for key, value in asdict(method).items() if key != "recipe" or value is not None},
        "code": {"training": VERSION, **sources_of(method), **plugin_sources(method.protocol(benchmark))},
        # the plain one, whatever the recipe; a folder is a path of this machine
        "benchmark": benchmark.model_dump(mode="json", exclude={"data": {"folder"}, "recipes": True, "search": True}),
        "tasks": list(dataset.tasks),
        "data": dataset.facts["fingerprint"],
        "precision": precision,
        "seed": seed,
    }
    if dataset.device.type == "cpu":
        setup["threads"] = torch.get_num_threads()
    if compiles(method.protocol(benchmark), dataset.device):
        setup["compiled"] = True
    if benchmark.train.deterministic and dataset.device.type == "cuda":
        setup["deterministic"] = True
    setup["benchmark"]["model"]["pretrained"] = stated(benchmark.model.pretrained)
    restored: Json = json.loads(json.dumps(setup))
    return restored


def weights_of(benchmark: Benchmark) -> Json:
    """Return what a receipt says of the file of weights that networks begin from; empty where there is none."""
    file = benchmark.model.pretrained
    if isinstance(file, bool):
        return {}
    return {"pretrained": {"file": Path(file).name, "sha256": digest(Path(file))}}


def sources_of(method: Method) -> dict[str, str]:
    """Return a digest of each part's source file: a method that has been edited is another method."""
    return {kind: _digest(entry) for kind, entry in _parts(method).items()}


def own_sources(method: Method) -> dict[str, str]:
    """Return the digests of the parts of a method that don't come with mtlbench, as `sources_of` has them."""
    return {kind: _digest(entry) for kind, entry in own_parts(method).items()}


def own_parts(method: Method) -> dict[str, Entry[Any]]:
    """Return the parts of a method that don't come with mtlbench, by kind: `architecture`, `balancer`."""
    ours = bundled("methods").resolve()
    return {
        kind: entry for kind, entry in _parts(method).items()
        if not entry.bundled and not Path(entry.loaded_from).is_relative_to(ours)
    }  # fmt: skip


def _parts(method: Method) -> dict[str, Entry[Any]]:
    """Return a method's architecture and balancer, by kind; the reference rows have neither."""
    named: tuple[tuple[Registry[Any], str], ...] = (ARCHITECTURES, method.architecture), (BALANCERS, method.balancer)
    return {registry.kind: registry.get(name) for registry, name in named if name in registry}


def plugin_sources(benchmark: Benchmark) -> dict[str, str]:
    """Return a digest of the source of each plug-in that a benchmark names: edited, it makes other runs.

    What comes with mtlbench has none: `VERSION` stands for it.
    """
    digests = {}
    for registry, text in _named(benchmark):
        name = text.partition("[")[0]
        entry = _registered(registry, name)
        if entry is not None and not entry.bundled:
            digests[f"{registry.kind} {name}"] = _digest(entry)
    return digests


def interactive_parts(method: Method, benchmark: Benchmark) -> list[str]:
    """Return the parts of a run that only this process has, since they were defined in a notebook or at a prompt."""
    named = [(ARCHITECTURES, method.architecture), (BALANCERS, method.balancer)]
    named += [(registry, text.partition("[")[0]) for registry, text in _named(method.protocol(benchmark))]
    entries = [(registry, _registered(registry, name)) for registry, name in named]
    return [
        f"the {registry.kind} '{entry.name}'" for registry, entry in entries
        if isinstance(entry, Entry) and only_here(entry)
    ]  # fmt: skip


def only_here(entry: Entry[Any]) -> bool:
    """Return whether a thing was defined in a notebook or at a prompt, so that no file brings it elsewhere."""
    return not entry.bundled and not entry.loaded_from and interactive(entry.origin)


def _named(benchmark: Benchmark) -> list[tuple[Registry[Any], str]]:
    """Return what a benchmark names of every kind, as it is written there."""
    train = benchmark.train
    named = [(BACKBONES, benchmark.model.backbone), (LOSSES, benchmark.loss.name), (SAMPLERS, train.sampling)]
    named += [(AUGMENTATIONS, text) for text in train.augment] + [(METRICS, t) for t in benchmark.evaluation.metrics]
    return named


def _registered(registry: Registry[Any], name: str) -> Entry[Any] | Family[Any] | None:
    """Return what a name stands for, a metric's without its depth, a member's family."""
    return (
        registry.entries.get(name)
        or registry.entries.get(name.partition("@")[0])
        or registry.families.get(name.partition(":")[0])
    )


def packages_of(method: Method, benchmark: Benchmark) -> dict[str, str]:
    """Return the versions of the packages beside mtlbench's own that a run's parts are made with, by name."""
    named = [(ARCHITECTURES, method.architecture), (BALANCERS, method.balancer)]
    named += [(registry, text.partition("[")[0]) for registry, text in _named(method.protocol(benchmark))]
    used = [_registered(registry, name) for registry, name in named]
    needed = sorted({package for one in used if one is not None for package in one.needs})
    versions = {}
    for package in needed:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _digest(entry: Entry[Any] | Family[Any]) -> str:
    """Return what tells one version of a thing's source from another, as it runs in this process."""
    thing = entry.target if isinstance(entry, Entry) else entry.member
    plugin, file = entry.loaded_from if isinstance(entry, Entry) else "", source_file(thing)
    sources = sources_of_plugin(Path(plugin)) if plugin else {}
    if file is not None and file not in sources:  # of a library, the file alone
        installed = any(file.is_relative_to(sysconfig.get_path(which)) for which in ("purelib", "platlib"))
        sources |= {file: file.read_bytes()} if installed else sources_of_plugin(file)
    return hashlib.sha256(b"".join(sources.values()) if sources else code_of(thing)).hexdigest()[:12]


def receipt(
    dataset: Dataset, precision: str, packages: Mapping[str, str] | None = None, deterministic: bool = False
) -> Json:
    """Return where, when and with what a run is made.

    Args:
        dataset: its data; precision: of its networks.
        packages: see `packages_of`.
        deterministic: whether it trained with the GPU's deterministic kernels alone.
    """
    import torchvision

    return {
        "data": dataset.facts,
        "precision": precision,
        "device": device_name(dataset.device),
        **({"cuda": cuda_settings(deterministic)} if dataset.device.type == "cuda" else {}),
        "mtlbench": mtlbench.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **({"packages": dict(packages)} if packages else {}),
    }


@functools.cache
def commit() -> str:
    """Return the commit of the checkout that runs, with `+changes` where files differ from it; empty if installed."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        try:
            answer = subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        return answer.stdout.strip()

    if not git("ls-files", "--error-unmatch", Path(__file__).name):  # installed within a checkout of something else
        return ""
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
