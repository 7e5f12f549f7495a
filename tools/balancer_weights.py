"""Shows the weights that balancers give over a whole run: their range, and how often they single out one task.

    python tools/balancer_weights.py modo sdmgrad dwa famo excess-mtl --set train.triplets=4
    python tools/balancer_weights.py 'excess-mtl[step=0.001]' --dataset faces

The tool trains `shared` with each balancer on a rendered set, by its `--quick` protocol with 350 steps, and prints one
row each. A row has the lowest and highest weight of any task at any step, and the 5th and 95th percentile of all
weights. It has the shares of steps at the plain mean and with all of the weight on one task, as run records count them.
It also has the share of steps at a bound: at these, some task's weight equals the lowest of the run, which happens
often where weights pile up. The tool validates and writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch

from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.jobs.data import prepared
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

_NEAR = 0.01  # weights that differ by less count as equal


def weights_of(balancer: str, benchmark: Benchmark, dataset: Dataset, seed: int = 0) -> tuple[np.ndarray, float, float]:
    """Train `shared` with a balancer.

    Returns:
        (steps, T) weights, and the shares of steps at the plain mean and with one task alone, as records have them.
    """
    trainer = Trainer(parse_method(f"shared+{balancer}"), benchmark, dataset, seed, "fp32")
    rows = []
    steps = benchmark.train.steps
    for step in range(1, steps + 1):
        trainer.step()
        trainer.curve.flush(trainer.state, 0.0, close=True)
        latest = trainer.state.curve[-1]
        rows.append([latest[f"weight/{task}"] for task in dataset.tasks])
        if sys.stderr.isatty():
            print(f"\r{balancer}: step {step}/{steps}", end="" if step < steps else "\n", file=sys.stderr)
    return np.array(rows), trainer.state.even_steps / steps, trainer.state.single_steps / steps


def described(balancer: str, weights: np.ndarray, even: float, single: float) -> list[str]:
    """Return the cells of a balancer's row."""
    at_bound = (weights < weights.min() + _NEAR).any(axis=1).mean() * (even < 1)
    low, high = np.percentile(weights, [5, 95])
    shares = [f"{100 * share:.0f} %" for share in (even, single, at_bound)]
    last = " ".join(f"{weight:.2f}" for weight in weights[-max(1, len(weights) // 10) :].mean(axis=0))
    return [balancer, f"{weights.min():.2f} to {weights.max():.2f}", f"{low:.2f} to {high:.2f}", *shares, last]


def main(words: Sequence[str] | None = None) -> None:
    """Train with each balancer and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("balancers", nargs="+")
    parser.add_argument("--dataset", default="shoes")
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    chosen = parser.parse_args(words)
    load_plugins()
    settings = ["train.precision=fp32", f"train.steps={chosen.steps}", *chosen.settings]
    benchmark = load_benchmark(chosen.dataset, quick=True, settings=settings)
    dataset, _ = prepared(benchmark, None, None, torch.device("cpu"))
    heads = ("balancer", "weights", "5th to 95th percentile", "plain mean", "one task alone", "at a bound",
             "mean of the last tenth of steps")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    for balancer in chosen.balancers:
        row = described(balancer, *weights_of(balancer, benchmark, dataset, chosen.seed))
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
