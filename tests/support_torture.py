"""Kills, races, full disks and damaged inputs, drawn by a seed: `make torture` runs many, the tests a few.

Children are forked, which costs no import: each does a real run, or packs with real decoder processes, on a small set.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from support import make_dataset, protocol, run_command
from support_pack import table_of, write_grey

from mtlbench import cost
from mtlbench.benchmark import load_benchmark
from mtlbench.data import pack as pack_module
from mtlbench.data.pack import open_pack
from mtlbench.errors import UserError
from mtlbench.jobs import attempt as attempt_module
from mtlbench.jobs.executors.here import Here
from mtlbench.jobs.job import Watcher
from mtlbench.jobs.plan import plan
from mtlbench.plugins import load_plugins
from mtlbench.runs import find_records, partial_folder, read_record, run_folder, tidy
from mtlbench.runs.disk import DiskFull, is_full
from mtlbench.specs import parse_methods

WAIT = 60.0  # seconds after which a child hangs
FULL = 28  # a child's exit code where the disk is full


def prepare() -> None:
    """Make runs short: little is timed, and all children have the same images in memory."""
    load_plugins()
    torch.set_num_threads(1)
    cost._REPEATS = 1
    cost.seconds_each.__defaults__ = (0.0,)
    dataset = make_dataset()
    attempt_module.dataset_of = lambda job: dataset


def train(results: Path) -> None:
    """Do a run, or what is left of it: train, test, measure costs."""
    benchmark = protocol("evaluation.every=1", "train.steps=8")
    jobs = plan(parse_methods("shared"), (0,), benchmark, make_dataset(), "fp32", results)
    for job in jobs:
        if job.state == "done":
            tidy(job.folder)
    Here().run([job for job in jobs if job.state != "done"], Watcher(), lambda: False)


def forked(work: Callable[[], object], limit: int | None = None) -> int:
    """Start a child that does some work and ends; return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        work()
        code = 0
    except UserError as error:
        code = FULL if isinstance(error, DiskFull) else 2
    except OSError as error:
        code = FULL if is_full(error) else 1
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Return a child's exit code, below 0 for a signal's; one that hangs is a fault."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"a child hangs after {WAIT} s")


def children_of(number: int) -> list[int]:
    """Return the processes that a process has started."""
    try:
        return [int(c) for c in Path(f"/proc/{number}/task/{number}/children").read_text().split()]
    except OSError:
        return []


def gone(numbers: list[int], seconds: float = 10.0) -> bool:
    """Wait for processes to end; those that only wait to be asked after count as ended."""

    def there(number: int) -> bool:
        try:
            return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    until = time.monotonic() + seconds
    while any(map(there, numbers)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(there, numbers))


def whole(results: Path) -> dict[str, Any]:
    """Return all that a finished run left which must be the same however often it was killed."""
    folder = run_folder(results, "shoes-quick", "shared", 0)
    record = read_record(folder)
    assert record is not None, folder
    assert record.status == "done", record.reason
    assert record.costs, record.reason
    assert not partial_folder(folder).exists()
    left = {p.name for p in folder.parent.iterdir()} - {"seed-0", ".seed-0.lock"}
    assert not left, left
    found: dict[str, Any] = {"metrics": record.metrics, "step": record.receipt["selected_step"]}
    for name in ("weights", "test"):
        for key, tensor in load_file(folder / f"{name}.safetensors").items():
            found[f"{name}/{key}"] = tensor.numpy().tobytes()
    with (folder / "curve.csv").open() as file:
        found["curve"] = [line.split(",")[2:] for line in file]  # step and seconds come first
    return found


def kill_runs(number: int, place: Path, draw: random.Random) -> str:
    """Kill runs with -9 at any moment, cost measuring included, until `number` died; each ends with the same bits."""
    train(place / "reference")
    wanted, begun = whole(place / "reference"), time.monotonic()
    train(place / "timed")
    takes, killed, runs = time.monotonic() - begun, 0, 0
    while killed < number:
        runs += 1
        results = place / f"killed-{runs}"
        for _ in range(1000):
            child = forked(partial(train, results))
            time.sleep(draw.uniform(0, takes))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            code = ended(child)
            killed += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL), code
            if code == 0:
                break
            if draw.random() < 0.3 or killed >= number:
                assert ended(forked(partial(train, results))) == 0
                break
        train(results)  # the next start cleans what was left
        assert whole(results) == wanted, results
        shutil.rmtree(results)
    return f"{killed} kills in {runs} runs: every record bit-identical, nothing left"


def _table(place: Path) -> Any:
    place.mkdir()
    for n in range(40):
        write_grey(place / f"{n:02}.bmp", 6 * n + 1)
    pack_module._CHUNK_IMAGES, pack_module._MANY = 4, 8  # so that decoder processes are used
    return table_of(place, [f"{n:02}.bmp" for n in range(40)])


def kill_packs(number: int, place: Path, draw: random.Random) -> str:
    """Kill packing with its decoder processes at work; the pack is the same, and no process stays."""
    table = _table(place / "images")
    os.environ["MTLBENCH_CACHE"] = str(place / "reference")
    begun = time.monotonic()
    reference = open_pack(table, (4, 4), "squash")
    takes, killed = time.monotonic() - begun, 0
    while killed < number:
        os.environ["MTLBENCH_CACHE"] = str(place / f"cache-{killed}")
        child = forked(lambda: open_pack(table, (4, 4), "squash"))
        time.sleep(draw.uniform(0, 1.1 * takes))
        decoders = children_of(child)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        code = ended(child)
        assert code in (0, -signal.SIGKILL), code
        assert gone(decoders), "a decoder outlives its parent"
        killed += code == -signal.SIGKILL
        pack = open_pack(table, (4, 4), "squash")
        assert np.array_equal(pack.images, reference.images)
        assert pack.fingerprint == reference.fingerprint
        left = {p.name for p in Path(os.environ["MTLBENCH_CACHE"]).iterdir() if not p.name.startswith(".")}
        assert len(left) == 1, left
    return f"{killed} kills while packing with decoder processes: every pack the same, no process left"


def race(number: int, place: Path, draw: random.Random) -> str:
    """Start three processes on one run and on one pack at once; each ends well, and the work is done once."""
    train(place / "reference")
    wanted = whole(place / "reference")
    table = _table(place / "images")
    for round_ in range(number):
        results = place / f"race-{round_}"
        os.environ["MTLBENCH_CACHE"] = str(place / f"cache-{round_}")

        def work(wait: float, results: Path = results) -> None:
            time.sleep(wait)
            open_pack(table, (4, 4), "squash")
            train(results)

        children = [forked(partial(work, draw.uniform(0, 0.2))) for _ in range(3)]
        codes = [ended(child) for child in children]
        assert codes == [0, 0, 0], codes
        assert whole(results) == wanted
        assert len([p for p in (place / f"cache-{round_}").iterdir() if not p.name.startswith(".")]) == 1
    return f"{number} races of three processes: all went on, the same record and pack"


def fill_disk(number: int, place: Path, draw: random.Random) -> str:
    """Let files hit a limit on their size at any point of a run: no method's failure, and what is kept goes on."""
    train(place / "reference")
    wanted = whole(place / "reference")
    largest = max(p.stat().st_size for p in (place / "reference").rglob("*") if p.is_file())
    stopped = 0
    for round_ in range(number):
        results = place / f"full-{round_}"
        code = ended(forked(lambda results=results: train(results), draw.randrange(1, largest + largest // 2)))
        assert code in (0, FULL), code
        stopped += code == FULL
        assert all(record.status == "done" for record in find_records(results)), "a full disk is booked as a failure"
        train(results)
        assert whole(results) == wanted
    return f"{stopped} of {number} runs met a full disk: none failed for it, all went on to the same record"


# --- damaged inputs ---------------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "x", "../x", "[/b]", "$\\foo$", "\x1b[2J",
    "\ud800", [], [[[]]], {}, {"a": {}}, "9" * 400, ["a", 1], -0.0, "=1+1",
)  # fmt: skip


def _places(content: Any) -> list[tuple[Any, Any]]:
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [place for key, value in inner for place in ((content, key), *_places(value))]


def _damaged_json(text: str, draw: random.Random) -> str:
    content = json.loads(text)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        section, key = draw.choice(_places(content))
        if draw.random() < 0.25:
            del section[key]
        else:
            section[key] = draw.choice(_VALUES)
    return json.dumps(content)


def _damaged_bytes(data: bytes, draw: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(draw.choice((1, 3, 20))):
        at, what = draw.randrange(len(made) + 1), draw.random()
        if what < 0.5 and made:
            made[at % len(made)] = draw.randrange(256)
        elif what < 0.75:
            del made[at : at + draw.randrange(1, 200)]
        else:
            made[at:at] = draw.choice((b"[" * 3000, b'"', b"\0", b"9" * 400, b"\n", b"=", b"\xff", b"nan,"))
    return bytes(made)


def fuzz(number: int, place: Path, draw: random.Random) -> str:
    """Damage records, what lies beside them and benchmark files; every command ends with 0 or one sentence and 2."""
    from page_records import put

    counts = dict.fromkeys(("record", "beside", "toml"), 0)
    codes = {0: 0, 2: 0}
    toml = (Path(__file__).parents[1] / "benchmarks" / "shoes.toml").read_bytes()
    for method in ("shared", "single", "independent"):
        for seed in (0, 1):
            put(place / "whole", method, seed, tasks=("colour", "heel"))
    for _ in range(number):
        kind = draw.choice(("record", "record", "beside", "toml", "toml"))
        counts[kind] += 1
        if kind == "toml":
            file = place / "a.toml"
            file.write_bytes(_damaged_bytes(toml, draw))
            said = ""
            try:
                load_benchmark(str(file), quick=draw.random() < 0.5)
            except UserError as error:
                said = str(error)
            assert said.count("\n") <= 3, said
            codes[2 if said else 0] += 1
            continue
        results = place / "results"
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(place / "whole", results)
        names = ["run.json"] if kind == "record" else ["curve.csv", "test.safetensors"]
        file = draw.choice(sorted(p for name in names for p in results.rglob(name)))
        if kind == "record" and draw.random() < 0.8:
            file.write_text(_damaged_json(file.read_text(), draw))
        else:
            file.write_bytes(_damaged_bytes(file.read_bytes(), draw))
        words = draw.choice(
            ([], ["--notes"], ["--format", "csv"], ["--format", "latex"], ["--format", "runs"], ["--at-seconds", "15"])
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ended_ = run_command("report", "--results", results, *words)
        assert ended_.code in codes, (file, ended_)
        assert "Traceback" not in ended_.err, (file, ended_)
        codes[ended_.code] += 1
    kinds = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    return f"{number} damaged inputs ({kinds}): {codes[0]} gone on with, {codes[2]} refused in a sentence, no traceback"


DRIVERS: dict[str, Callable[[int, Path, random.Random], str]] = {
    "runs": kill_runs, "packs": kill_packs, "races": race, "disks": fill_disk, "inputs": fuzz,
}  # fmt: skip


def main() -> None:
    """Run every driver at the length that is asked for; say what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in {"runs": 150, "packs": 50, "races": 20, "disks": 30, "inputs": 2000}.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    prepare()
    for name, driver in DRIVERS.items():
        begun = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"torture-{name}-") as folder:
            said = driver(getattr(chosen, name), Path(folder), random.Random(chosen.seed))
        print(f"{said} ({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
