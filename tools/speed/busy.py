"""Measures how training slows down when processes share cores, by the way OpenMP's threads wait for each other.

    python tools/speed/busy.py --threads 2 --seconds 5

The tool counts training steps of a small convolutional network in separate processes, one alone and several at once,
each with as many threads as there are cores, under several settings of OpenMP's runtime. It runs them in turn, round
by round. It prints medians over the rounds: steps/s of one process, alone and beside the others, and both relative to
torch's defaults. If they share fairly, each of N processes has 1/N of the steps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from tabulate import tabulate

SETTINGS: dict[str, dict[str, str]] = {
    "as it comes": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
}
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
STEPS = """
import sys, time, torch
from torch import nn
threads, seconds = int(sys.argv[1]), float(sys.argv[2])
torch.set_num_threads(threads)
torch.manual_seed(0)
layers, width = [], 3
for out in (32, 64, 128, 128):
    layers += [nn.Conv2d(width, out, 3, stride=2, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
    width = out
net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 64))
images = torch.randn(48, 3, 48, 48)
optimiser = torch.optim.AdamW(net.parameters())
def step():
    optimiser.zero_grad()
    net(images).square().mean().backward()
    optimiser.step()
step()
print("ready", flush=True)
sys.stdin.readline()
count, begun = 0, time.perf_counter()
while time.perf_counter() - begun < seconds:
    step()
    count += 1
print(count / (time.perf_counter() - begun))
"""


def rate(setting: dict[str, str], processes: int, threads: int, seconds: float) -> float:
    """Return the mean steps/s of a process beside the others."""
    environment = {k: v for k, v in os.environ.items() if k not in (*WAITING, "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    at_work = [
        subprocess.Popen(
            [sys.executable, "-c", STEPS, str(threads), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment | setting,
        )
        for _ in range(processes)
    ]  # fmt: skip
    for process in at_work:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in at_work:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return statistics.mean(float(process.communicate()[0]) for process in at_work)


def main() -> None:
    """Read the command line, measure, print."""
    what, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=what, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--processes", type=int, default=2, help="at once")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    print(f"{os.cpu_count()} cores{load}; {chosen.threads} threads a process, medians of {chosen.rounds} rounds")
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(chosen.rounds):
        for name, setting in SETTINGS.items():
            for processes in (1, chosen.processes):
                steps = rate(setting, processes, chosen.threads, chosen.seconds)
                found.setdefault((name, processes), []).append(steps)
                print(f"{name}, {processes} at once: {steps:.2f} steps/s", file=sys.stderr, flush=True)
    medians = {key: statistics.median(values) for key, values in found.items()}
    first = next(iter(SETTINGS))
    rows = []
    for name in SETTINGS:
        alone, beside = medians[name, 1], medians[name, chosen.processes]
        ratios = (alone / medians[first, 1], beside / medians[first, chosen.processes], beside / alone)
        rows.append([name, f"{alone:.2f}", f"{beside:.2f}", *(f"{ratio:.2f}" for ratio in ratios)])
    headings = ["waiting", "alone", f"1 of {chosen.processes}", "x alone", f"x 1 of {chosen.processes}", "beside/alone"]
    print(tabulate(rows, headings, disable_numparse=True, colalign=("left", *["right"] * 5)))


if __name__ == "__main__":
    main()
