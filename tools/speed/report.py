"""Times `mtlbench report` at its largest: 40 methods × 40 tasks × 5 seeds of made-up records.

    python tools/speed/report.py
    python tools/speed/report.py --methods 5 --tasks 4 --seeds 3 --keep DIR   # records and page stay in DIR

The numbers in these records are drawn at random, in the shape of real ones: hits on 2,000 test triplets per task,
curves of 350 steps, cosines between gradients of every two tasks, and the scales and units that two of the methods
learn. The tool writes the records to a temporary folder; every table calls them synthetic. It times three things as a
user waits for them, each in its own process: the tables in the terminal, the page, and, if there is a Chromium, opening
the page in it, from its start to the end of its load event. CPU seconds are of all threads and child processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tabulate import tabulate

from mtlbench.benchmark import load_benchmark
from mtlbench.report.figures.style import CORE
from mtlbench.runs import Record, run_folder

QUESTIONS, STEPS, EVERY, PROBES, IMAGES, SIZE = 2000, 350, 70, 25, 60, 16
OTHERS = ("mtan", "mmoe", "cgc", "ple", "film", "csn", "single", "branched", "pcgrad", "cagrad", "mgda", "uw", "famo")


def names(number: int) -> list[str]:
    """Return names of this many methods: the core ones, others of the bundle, then some with options."""
    more = (f"modulation[after={a}:{b}]" for a, b in itertools.combinations(range(1, 20), 2))
    return list(itertools.islice(itertools.chain(CORE, OTHERS, more), number))


def write_records(results: Path, methods: int, tasks: int, seeds: int) -> None:
    """Write made-up records of one suite, with all files that real runs write."""
    shown = [f"Attribute_{n:02d}" for n in range(tasks)]
    benchmark = load_benchmark("shoes", quick=True).model_dump(mode="json")
    benchmark |= {"name": "synthetic-quick", "title": "Synthetic records"}
    benchmark["evaluation"] |= {"triplets": QUESTIONS, "every": EVERY, "agreement_every": PROBES}
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, (tasks, IMAGES))
    easy, ease = random.random((tasks, QUESTIONS)), random.uniform(0.6, 0.9, tasks)
    for place, method in enumerate(names(methods)):
        for seed in range(seeds):
            chance = ease + 0.1 * np.cos(place) * random.random(tasks)
            hits = (easy + random.normal(0, 0.1, easy.shape) < chance[:, None]).astype(np.uint8)
            record = _record(method, place, seed, benchmark, shown, hits, random)
            folder = run_folder(results, benchmark["name"], method, seed)
            folder.mkdir(parents=True)
            (folder / "run.json").write_text(json.dumps(asdict(record), indent=1))
            embeddings = random.normal(0, 1, (tasks, IMAGES, SIZE)).astype(np.float16)
            save_file({"hits": hits, "labels": labels, "embeddings": embeddings}, folder / "test.safetensors")
            weights = {"net.weight": random.normal(0, 1, (64, 64)).astype(np.float32)}
            if method.startswith("modulation"):
                weights |= {f"scales.{n}.{t}": random.normal(1, 0.1, 128) for n in (3, 4) for t in range(tasks)}
            if method == "cross-stitch":
                weights |= {f"units.{n}": np.eye(tasks) + random.normal(0, 0.05, (tasks, tasks)) for n in range(4)}
            save_file(weights, folder / "weights.safetensors")
            _curve(folder / "curve.csv", shown, hits.mean(1), place, random)
            _probes(folder / "agreement.csv", shown, random)


def _record(
    method: str, place: int, seed: int, benchmark: Any, tasks: list[str], hits: Any, random: np.random.Generator
) -> Record:
    setup = {
        "method": {"name": method, "architecture": method.partition("[")[0], "balancer": "mean"},
        "benchmark": benchmark, "tasks": tasks, "seed": seed, "data": "synthetic", "precision": "fp32",
    }  # fmt: skip
    record = Record(method, seed, "method", setup)
    for task, answers in zip(tasks, hits, strict=True):
        accuracy = float(answers.mean())
        kinds = ("hit@1", "precision@1", "precision@10", "map@r", "macro/precision@1", "macro/map@r")
        record.metrics[task] = {"triplet": accuracy} | {kind: accuracy * float(random.random()) for kind in kinds}
    size = 10**6 * (2 + place) if method != "independent" else 10**6 * 2 * len(tasks)
    record.costs = {
        "parameters": size // 4, "file_bytes": size, "bytes_shared": size // 2, "bytes_per_task": size // 100,
        "bytes_added": size // 100, "flops_one_task": 10**8, "flops_all_tasks": 10**9, "training_memory": 10**8,
    }  # fmt: skip
    for rate in ("train_rate", "embed_rate_one_task", "embed_rate_all_tasks"):
        middle = 1e3 * (1 + place % 7) * random.uniform(0.95, 1.05)
        record.costs |= {rate: middle, f"{rate}_slowest": 0.9 * middle, f"{rate}_fastest": 1.1 * middle}
    data = {"name": "synthetic numbers", "rendered": True, "fingerprint": "synthetic", "split": "none"}
    record.receipt = {
        "groups": [], "data": data, "device": "no device", "precision": "fp32", "mtlbench": "0", "date": "2000-01-01",
        "training_seconds": 60.0 + place, "test_triplets": QUESTIONS, "steps": STEPS, "selected_step": STEPS,
    }  # fmt: skip
    return record


def _curve(path: Path, tasks: list[str], final: Any, place: int, random: np.random.Generator) -> None:
    columns = [
        "step",
        "seconds",
        *(f"{kind}/{t}" for kind in ("loss", "weight", "accuracy") for t in tasks),
        "accuracy",
    ]
    lines = [",".join(columns)]
    for step in range(1, STEPS + 1):
        numbers = [
            step,
            step * (1 + place / 40) / 5,
            *(0.2 / step * random.random(len(tasks))),
            *random.random(len(tasks)),
        ]
        reached = 0.5 + (final - 0.5) * (1 - np.exp(-4 * step / STEPS))
        validated = step % EVERY == 0
        tail = [f"{a:.6g}" for a in (*reached, reached.mean())] if validated else [""] * (len(tasks) + 1)
        lines.append(",".join([*(f"{n:.6g}" for n in numbers), *tail]))
    path.write_text("\n".join(lines) + "\n")


def _probes(path: Path, tasks: list[str], random: np.random.Generator) -> None:
    lines = ["step,layer,task_a,task_b,cosine"]
    for step in range(0, STEPS, PROBES):
        lines += [f"{step},all,{a},{b},{random.normal(0.1, 0.2):.6g}" for a, b in itertools.combinations(tasks, 2)]
    path.write_text("\n".join(lines) + "\n")


def timed(*command: str) -> tuple[float, float]:
    """Run mtlbench with these arguments; return wall-clock and CPU seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "mtlbench", *command], check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def opened(page: Path, rounds: int) -> float | None:
    """Return the fastest load of a page from disk, in seconds to the end of its load event; None without a Chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        return None
    measure = "data:text/html,"  # loaded first: the browser's start does not count
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    driver_path = shutil.which("chromedriver")
    if driver_path is None:
        return None
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for argument in (
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}",
        ):  # fmt: skip
            options.add_argument(argument)
        driver = webdriver.Chrome(options=options, service=Service(driver_path))
        try:
            times = []
            for _ in range(rounds):
                driver.get(measure)
                driver.get(page.resolve().as_uri())
                times.append(driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
            return min(times) / 1000
        finally:
            driver.quit()


def main() -> None:
    """Make records, time the reports on them, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest opening is printed")
    parser.add_argument("--keep", type=Path, help="a folder for the records and the page, which stay there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch)
        results, page = place / "results", place / "page"
        if not results.exists():
            write_records(results, given.methods, given.tasks, given.seeds)
        table = [["tables in the terminal", *timed("report", "--results", str(results))]]
        table.append(["page", *timed("report", "--results", str(results), "--html", str(page))])
        seconds = opened(page / "index.html", given.rounds)
        if seconds is None:
            print("No Chromium with chromedriver here: the page's opening is not timed.")
        else:
            table.append(["page opened in Chromium", seconds, None])
        weight = sum(path.stat().st_size for path in page.rglob("*") if path.is_file())
        print(f"{given.methods} methods × {given.tasks} tasks × {given.seeds} seeds of synthetic records;", end=" ")
        print(f"index.html {(page / 'index.html').stat().st_size / 1e6:.2f} MB, folder {weight / 1e6:.1f} MB,", end=" ")
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(tabulate(table, ["", "wall-clock s", "CPU s"], floatfmt=".2f"))


if __name__ == "__main__":
    main()
