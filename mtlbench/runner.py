"""Plans and does runs: which are done, which go on, how long they will take; one failing leaves the others running.

It prints nothing: a `Watcher` is told what happens.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import gc
import hashlib
import inspect
import json
import platform
import subprocess
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import mtlbench
from mtlbench import cost
from mtlbench.backbones import BackboneFactory
from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.errors import UserError
from mtlbench.evaluation import retrieval_metrics
from mtlbench.probes import rows as probe_rows
from mtlbench.registry import ARCHITECTURES, BALANCERS
from mtlbench.runs import (
    Json,
    Record,
    differences,
    half,
    read_partial,
    read_record,
    run_folder,
    save_partial,
    without_training,
    write_record,
)
from mtlbench.specs import Method, groups_of
from mtlbench.training import (
    EMBEDDING_BATCH,
    VERSION,
    Interrupted,
    Progress,
    Questions,
    Row,
    Trainer,
    TrainingError,
    collapsed_tasks,
    computing_in,
    embed_images,
)

UNTRAINED, CHANCE = Method("untrained", "untrained"), Method("chance", "chance")
REFERENCES = (UNTRAINED, CHANCE)  # rows that nothing is trained for


@dataclass(frozen=True)
class Job:
    """One method with one seed, and what is there of it already.

    `state` is `new`, `done`, `interrupted` or `failed` (before; it is tried again).
    """

    method: Method
    seed: int
    folder: Path
    setup: Json
    state: str
    steps_done: int = 0


class Watcher:
    """Is told how the runs go; by default it says nothing."""

    def started(self, job: Job) -> None:
        """A run begins or goes on."""

    def progress(self, job: Job, progress: Progress) -> None:
        """A run has gone some steps further."""

    def doing(self, job: Job, what: str) -> None:
        """A run is past its training, at `what`."""

    def ended(self, job: Job, record: Record) -> None:
        """A run has its record, done or failed."""


def setup_of(method: Method, benchmark: Benchmark, dataset: Dataset, seed: int, precision: str) -> Json:
    """Return all that decides a run's result, as JSON holds it: runs with equal setups are the same run."""
    setup = {
        "method": asdict(method),
        "code": {"training": VERSION, **sources_of(method)},
        "benchmark": benchmark.model_dump(mode="json", exclude={"data": {"folder"}}),  # a path of this machine
        "tasks": list(dataset.tasks),
        "data": dataset.facts["fingerprint"],
        "precision": precision,
        "seed": seed,
    }
    restored: Json = json.loads(json.dumps(setup))
    return restored


def sources_of(method: Method) -> dict[str, str]:
    """Return a digest of each part's source file: a method that has been edited is another method."""
    found = {}
    for registry, name in ((ARCHITECTURES, method.architecture), (BALANCERS, method.balancer)):
        if name in registry:  # the reference rows have neither
            file = inspect.getsourcefile(registry.get(name).target)
            found[registry.kind] = hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12] if file else ""
    return found


def plan(
    methods: Sequence[Method],
    seeds: Sequence[int],
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    results: Path,
    overwrite: bool = False,
) -> list[Job]:
    """List the runs, seed by seed, and what is there of each.

    Raises:
        UserError: a record is there that was made with other settings, and `overwrite` is not set.
    """
    _commit()  # noted now: a commit made while runs go on is not what runs
    jobs = []
    for seed in seeds:
        for reference in REFERENCES:
            folder = run_folder(results, benchmark.name, reference.name, seed)
            setup = setup_of(reference, benchmark, dataset, seed, precision)
            record = None if overwrite else read_record(folder)
            if record and (unlike := differences(without_training(record.setup), without_training(setup))):
                raise UserError(_made_otherwise(folder, unlike))
        for method in methods:
            folder = run_folder(results, benchmark.name, method.name, seed)
            setup = setup_of(method, benchmark, dataset, seed, precision)
            record = None if overwrite else read_record(folder)
            if record and record.status == "done":
                if unlike := differences(record.setup, setup):
                    raise UserError(_made_otherwise(folder, unlike))
                jobs.append(Job(method, seed, folder, setup, "done"))
                continue
            partial = None if overwrite else read_partial(folder, setup, dataset.device.type)
            if partial:
                jobs.append(Job(method, seed, folder, setup, "interrupted", partial[0].step))
            else:
                jobs.append(Job(method, seed, folder, setup, "failed" if record else "new"))
    return jobs


def _made_otherwise(folder: Path, unlike: list[str]) -> str:
    more = "; …" if len(unlike) > 4 else ""
    return (
        f"{folder} was made with other settings ({'; '.join(unlike[:4])}{more}). Choose another folder with --results,"
        " or replace it with --overwrite."
    )


def guard_memory() -> None:
    """On Linux, make a method that asks for more of the host's memory than there is fail by itself.

    Otherwise the system ends the whole process, and with it the runs that would have fitted. Call it when the data set
    is loaded: what the process holds by then is not counted.
    """
    try:
        import resource  # Unix only

        def kilobytes(path: str, name: str) -> int:
            lines = Path(path).read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

        free = 1024 * kilobytes("/proc/meminfo", "MemAvailable")
        group = Path("/sys/fs/cgroup/memory.max")
        if group.exists() and group.read_text().strip().isdigit():
            free = min(free, int(group.read_text()) - int(group.with_name("memory.current").read_text()))
        held = 1024 * kilobytes("/proc/self/status", "VmData")
        resource.setrlimit(resource.RLIMIT_DATA, (held + int(0.95 * free), resource.RLIM_INFINITY))
    except (ImportError, OSError, ValueError, StopIteration):
        return  # another system, or one that won't tell: nothing is lost but the guard


def seconds_needed(job: Job, benchmark: Benchmark, dataset: Dataset, precision: str) -> tuple[float, str]:
    """Estimate the seconds of a whole run from a few timed steps; where that fails, return 0 and the reason."""
    probing = benchmark.evaluation.agreement_every
    try:
        trainer = Trainer(job.method, benchmark, dataset, job.seed, precision)
        step = min(cost.seconds_each(trainer.step, dataset.device, enough=0))
        probe = min(cost.seconds_each(trainer.probe, dataset.device, enough=0)) if probing else 0.0
        images = dataset.batch(trainer.questions.images.repeat(EMBEDDING_BATCH)[:EMBEDDING_BATCH])
        trainer.architecture.eval()
        with torch.no_grad(), computing_in(precision, dataset.device):
            embed = min(cost.seconds_each(lambda: trainer.architecture.embed(images), dataset.device, enough=0))
    except Exception as error:  # the estimate must not stop what the run itself will report
        return 0.0, _reason(error)
    validations = benchmark.train.steps / benchmark.evaluation.every
    images_embedded = validations * len(dataset.members("val")) + len(dataset.members("test"))
    probes = benchmark.train.steps / benchmark.evaluation.agreement_every * probe if probing else 0.0
    return benchmark.train.steps * step + images_embedded / EMBEDDING_BATCH * embed + probes, ""


def execute(
    job: Job,
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Do one run, or the rest of it, and leave its record.

    A run that fails, for whatever reason, leaves a record that says why.

    Raises:
        Interrupted: `stop` said so; the run can be continued.
        KeyboardInterrupt: as ever.
    """
    watcher.started(job)
    try:
        record = _run(job, benchmark, dataset, precision, watcher, stop)
    except Interrupted:
        raise
    except Exception as error:  # a method may fail in any way: its reason goes into its record, the others run on
        record = Record(job.method.name, job.seed, "method", job.setup, "failed", _reason(error))
        record.receipt = receipt(dataset, precision) | {
            "groups": groups_of(job.method.name),
            "traceback": traceback.format_exc(),
        }
        write_record(job.folder, record)
    finally:
        gc.collect()
        if dataset.device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # after some faults the device answers no more; the record says why
                torch.cuda.empty_cache()
    watcher.ended(job, record)
    return record


def _reason(error: Exception) -> str:
    full = "can't allocate memory" in str(error) or "not enough memory" in str(error)  # how torch says it on a CPU
    if full or isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"
    if isinstance(error, UserError | TrainingError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {words} ({Path(last.filename).name}:{last.lineno})"


def _run(
    job: Job,
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    watcher: Watcher,
    stop: Callable[[], bool],
) -> Record:
    # the trainer has gone when costs are measured: its memory is wanted there
    record, leaves = _train_and_test(job, benchmark, dataset, precision, watcher, stop)
    watcher.doing(job, "measuring cost")
    try:
        record.costs = cost.measure(job.method, benchmark, dataset, precision)
    except Exception as error:  # what was trained and tested stands, whatever can't be measured
        record.reason = f"cost not measured: {_reason(error)}"
    write_record(job.folder, record, *leaves)
    return record


def _train_and_test(
    job: Job,
    benchmark: Benchmark,
    dataset: Dataset,
    precision: str,
    watcher: Watcher,
    stop: Callable[[], bool],
) -> tuple[Record, tuple[list[Row], dict[str, Tensor], dict[str, Tensor], list[dict[str, str]] | None]]:
    """Return a record without costs, and what lies beside it: curve, weights, answers to the test, gradient probes."""
    trainer = _trainer(job, benchmark, dataset, precision)
    learned = [one.as_json() for one in trainer.architecture.learned()]  # now: an error in it would waste the training
    trainer.run(
        show=lambda progress: watcher.progress(job, progress),
        save=lambda: save_partial(job.folder, job.setup, trainer),
        stop=stop,
    )
    watcher.doing(job, "testing")
    state = trainer.state
    questions = Questions.draw(dataset, benchmark, "test")
    embeddings = embed_images(trainer.architecture, dataset, questions.images, precision)
    metrics, hits = judge(embeddings, questions, benchmark, dataset)
    record = Record(job.method.name, job.seed, "method", job.setup, metrics=metrics)
    fallen = collapsed_tasks(embeddings, questions, benchmark.loss).tolist()
    record.collapsed = [t for t, yes in zip(dataset.tasks, fallen, strict=True) if yes or t in state.collapsed]
    record.learned = learned
    record.receipt = receipt(dataset, precision) | {
        "groups": groups_of(job.method.name),
        "steps": state.step,
        "images_seen": state.step * trainer.images_per_step,
        "training_seconds": state.seconds,
        "test_triplets": questions.triplets.shape[1],
        "selection": "highest mean triplet accuracy on the validation split",
        "selected_step": state.best_step,
        "validation_accuracy": state.best_accuracy,
        "protocols_tried": benchmark.train.tried,
    }
    test = {
        "embeddings": half(embeddings),
        "labels": dataset.labels[:, questions.images],
        "hits": hits.to(torch.uint8),
    }
    probed = probe_rows(state.probes, dataset.tasks) if benchmark.evaluation.agreement_every else None
    return record, (state.curve, cost.weights_of(trainer.architecture), test, probed)


def _trainer(job: Job, benchmark: Benchmark, dataset: Dataset, precision: str) -> Trainer:
    """Return a trainer, where the interrupted run stood if there is one that can be continued."""
    trainer = Trainer(job.method, benchmark, dataset, job.seed, precision)
    partial = read_partial(job.folder, job.setup, dataset.device.type) if job.state == "interrupted" else None
    if partial:
        state, tensors = partial
        try:
            trainer.restore(load_file(tensors), state)
        except (OSError, KeyError, ValueError, RuntimeError, SafetensorError):  # a damaged file: from the beginning
            return Trainer(job.method, benchmark, dataset, job.seed, precision)
    return trainer


def judge(
    embeddings: Tensor, questions: Questions, benchmark: Benchmark, dataset: Dataset
) -> tuple[dict[str, dict[str, float]], Tensor]:
    """Return every task's metrics, and (T, n) which questions were answered rightly, from (T, N, D) embeddings."""
    normalise = benchmark.loss.normalise
    hits = questions.hits(embeddings, normalise)
    metrics = {}
    for t, task in enumerate(dataset.tasks):
        found = retrieval_metrics(
            embeddings[t],
            dataset.labels[t, questions.images],
            normalise=normalise,
            ordered_values=len(dataset.values[t]) if dataset.ordered[t] else None,
            ks=benchmark.evaluation.ks,
        )
        metrics[task] = {"triplet": hits[t].float().mean().item()} | found
    return metrics, hits


def references(
    seeds: Sequence[int], benchmark: Benchmark, dataset: Dataset, precision: str, results: Path, overwrite: bool = False
) -> None:
    """Leave the records of the reference rows: the backbone as it is initialised, and random embeddings."""
    questions = Questions.draw(dataset, benchmark, "test")
    model = benchmark.model
    for method in REFERENCES:
        for seed in seeds:
            setup = setup_of(method, benchmark, dataset, seed, precision)
            folder = run_folder(results, benchmark.name, method.name, seed)
            record = None if overwrite else read_record(folder)
            if record is not None and not differences(without_training(record.setup), without_training(setup)):
                continue
            if method is UNTRAINED:
                size, pretrained = benchmark.data.size, model.pretrained
                net = BackboneFactory(model.backbone, size, model.embedding, seed, pretrained).backbone()
                net = net.to(dataset.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
                with torch.no_grad(), computing_in(precision, dataset.device):
                    parts = [net(dataset.batch(part)).float() for part in questions.images.split(EMBEDDING_BATCH)]
                one = torch.cat(parts)
            else:
                generator = torch.Generator().manual_seed(seed)
                one = torch.randn(len(questions.images), model.embedding, generator=generator).to(dataset.device)
            metrics, hits = judge(one.expand(len(dataset.tasks), *one.shape), questions, benchmark, dataset)
            made = Record(method.name, seed, "reference", setup, metrics=metrics)
            made.receipt = receipt(dataset, precision)
            write_record(folder, made, test={"hits": hits.to(torch.uint8)})


def receipt(dataset: Dataset, precision: str) -> Json:
    """Return where, when and with what a run is made."""
    import torchvision

    return {
        "data": dataset.facts,
        "precision": precision,
        "device": cost.device_name(dataset.device),
        "mtlbench": mtlbench.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _commit() -> str:
    """Return the commit of the checkout that runs, with `+changes` where files differ from it; empty if installed."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        try:
            answer = subprocess.run(["git", "-C", here, *words], capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return ""
        return answer.stdout.strip()

    if git("ls-files", "--error-unmatch", "runner.py") == "":  # a checkout of something else, around an installation
        return ""
    return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
