"""Jobs and watchers.

A job is one method with one seed, as data that any process can work from. A watcher receives the progress of jobs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlbench.benchmark import Benchmark
from mtlbench.runs.record import Json, Record
from mtlbench.specs import Method, parse_method
from mtlbench.training.events import Event


@dataclass(frozen=True)
class Site:
    """Where a job finds what it needs: the data set's folder (None: the default one), the device, plug-ins.

    `tasks` are the user's choice, or None for the benchmark's own.
    """

    data_dir: Path | None = None
    device: str = "cpu"
    plugins: tuple[Path, ...] = ()
    tasks: tuple[str, ...] | None = None

    def to_json(self) -> Json:
        """Return the site as JSON, with absolute paths."""
        return {
            "data_dir": str(self.data_dir.resolve()) if self.data_dir else None,
            "device": self.device,
            "plugins": [str(p.expanduser().resolve()) for p in self.plugins],
            "tasks": list(self.tasks) if self.tasks is not None else None,
        }

    @classmethod
    def from_json(cls, content: Json) -> Site:
        """Read what `to_json` wrote."""
        tasks = content["tasks"]
        return cls(
            Path(content["data_dir"]) if content["data_dir"] else None,
            content["device"],
            tuple(Path(p) for p in content["plugins"]),
            tuple(tasks) if tasks is not None else None,
        )


@dataclass(frozen=True)
class Job:
    """One method with one seed, and how much of its run exists already.

    Attributes:
        method: what to train; seed: the seed.
        folder: the folder of its record; setup: everything that decides its result.
        state: `new`, `done`, `interrupted` or `failed` (earlier; it is tried again).
        steps_done: the steps that an interrupted run has done.
        threads: how many threads it computes with on a CPU; 0 leaves the number unchanged.
        costs_due: everything is done except measuring its costs.
        benchmark: the protocol, resolved; precision: `bf16` or `fp32`.
        varied: the settings in which its benchmark differs from the requested one, by `--vary`.
        checked: what `mtlbench check` found of the method's own parts; see `checked_parts`.
        site: where it finds data, device and plug-ins.
    """

    method: Method
    seed: int
    folder: Path
    setup: Json
    state: str
    steps_done: int = 0
    threads: int = 0
    costs_due: bool = False
    benchmark: Benchmark | None = None
    precision: str = "fp32"
    varied: Json = field(default_factory=dict)
    checked: dict[str, str] = field(default_factory=dict)
    site: Site = field(default_factory=Site)

    @property
    def protocol(self) -> Benchmark:
        """The benchmark of a planned job."""
        if self.benchmark is None:
            raise ValueError("this job was not planned: it has no benchmark")
        return self.benchmark

    @property
    def label(self) -> str:
        """The name that a user sees: method, variant, seed."""
        settings = "".join(f", {key}={value}" for key, value in sorted(self.varied.items()))
        return f"{self.method.label}{settings}, seed {self.seed}"

    def to_json(self) -> Json:
        """Return the job as JSON, the input of `python -m mtlbench.jobs.work`."""
        return {
            "method": self.method.name,
            "recipe": self.method.recipe,
            "seed": self.seed,
            "folder": str(self.folder.resolve()),
            "setup": self.setup,
            "state": self.state,
            "steps_done": self.steps_done,
            "threads": self.threads,
            "costs_due": self.costs_due,
            "benchmark": self.protocol.model_dump(mode="json"),
            "precision": self.precision,
            "varied": self.varied,
            "checked": self.checked,
            "site": self.site.to_json(),
        }

    @classmethod
    def from_json(cls, content: Json) -> Job:
        """Read what `to_json` wrote; the plug-ins that it names must be loaded.

        Raises:
            UserError: this process knows no such method.
        """
        content = dict(content)
        recipe, method = content.pop("recipe", None), parse_method(content["method"])
        read: dict[str, Any] = {
            "method": method if recipe is None else method.with_recipe(recipe),
            "folder": Path(content["folder"]),
            "benchmark": Benchmark.model_validate(content["benchmark"]),
            "site": Site.from_json(content["site"]),
        }
        return cls(**(content | read))


class Watcher:
    """Receives the progress of runs, several at once; this base class ignores it."""

    def started(self, job: Job) -> None:
        """A run begins or continues."""

    def happened(self, job: Job, event: Event) -> None:
        """An event of a run's training."""

    def doing(self, job: Job, what: str) -> None:
        """A run has finished training and now does `what`."""

    def ended(self, job: Job, record: Record) -> None:
        """A run has its record, done or failed."""

    def busy(self, job: Job, who: str) -> None:
        """Another process works on a run, so other runs come first."""
