"""Measures how well the rungs of `tune --halving` predict which trials end best, and what another kind of rung would.

    python tools/rungs.py train OUT.json --dataset celeba --data-dir DIR --methods shared,modulation --seeds 1000,1001
    python tools/rungs.py show OUT.json

Each method's trials are those that `tune` begins with: the default, and values spread over its space. Each is trained
to its end, and its best validation score up to a rung is noted: what halving decides by. Each is also trained anew in
as many steps as the rung has, so that the learning rate rises and falls within them. All is done with several seeds.
`show` prints, for both kinds of rung, the rank correlation with the final scores of the other seeds, and how far the
trial that halving would choose lies below the best one by those scores. `train` goes on where it stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from mtlbench.benchmark import Benchmark, load_benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.devices import choose_device
from mtlbench.jobs.data import prepared
from mtlbench.plugins import load_plugins
from mtlbench.recipes import nested
from mtlbench.specs import Method, parse_methods
from mtlbench.training.loop import Trainer
from mtlbench.tuning.halving import Rung, budget, going_on, rungs
from mtlbench.tuning.space import space_of
from mtlbench.tuning.study import spread
from mtlbench.tuning.trial import without_test

Curve = dict[str, float]  # validation scores by step


def values_of(method: Method, benchmark: Benchmark, number: int, trials: int) -> dict[str, object]:
    """Return the values of one of `tune`'s first trials; none for the default."""
    where = space_of(method, benchmark).where
    return {name: spread(name, place, number - 1, trials - 1) for name, place in where.items()} if number else {}


def curve_of(
    method: Method, benchmark: Benchmark, dataset: Dataset, seed: int, steps: int, values: Mapping[str, object]
) -> Curve:
    """Train in a number of steps; return the validation scores by step."""
    changed = benchmark.changed({"train": {"steps": steps}}, "tools/rungs.py")
    trainer = Trainer(method.with_recipe(nested(dict(values))) if values else method, changed, dataset, seed, "bf16")
    trainer.run()
    return {str(int(row["step"])): row["accuracy"] for row in trainer.state.curve if "accuracy" in row}


def train(out: Path, dataset: str, data_dir: Path | None, methods: str, seeds: Sequence[int], trials: int) -> None:
    """Train what is not in the file yet, and write it after each training."""
    load_plugins()
    torch.set_num_threads(1)
    benchmark = load_benchmark(dataset, quick=True)
    data = without_test(prepared(benchmark, data_dir, None, choose_device("cpu"))[0])
    ladder = rungs(trials, benchmark.train.steps, benchmark.evaluation.every)
    curves: dict[str, Curve] = json.loads(out.read_text())["curves"] if out.exists() else {}
    about = {"dataset": dataset, "trials": trials, "rungs": [[rung.step, rung.trials] for rung in ladder]}
    for seed, method in itertools.product(seeds, parse_methods(methods)):
        for number, rung in itertools.product(range(trials), reversed(ladder)):
            key = f"{method.name}/{number}/{seed}/{rung.step}"
            if key not in curves:
                values = values_of(method, benchmark, number, trials)
                curves[key] = curve_of(method, benchmark, data, seed, rung.step, values)
                out.write_text(json.dumps({"about": about, "curves": curves}, indent=1) + "\n")
                print(f"{key}: {max(curves[key].values()):.3f}", flush=True)


@dataclass(frozen=True)
class Kind:
    """A kind of rung: its name, and the score of a trial at one of them."""

    name: str
    score: Callable[[str, int, int, int], float]  # method, trial, seed, step


def show(file: Path) -> None:
    """Print what each kind of rung predicts."""
    content = json.loads(file.read_text())
    curves: dict[str, Curve] = content["curves"]
    ladder = tuple(Rung(step, trials) for step, trials in content["about"]["rungs"])
    end, trials = ladder[-1].step, int(content["about"]["trials"])

    def score(method: str, trial: int, seed: int, steps: int, until: int) -> float:
        return 100 * max(one for step, one in curves[f"{method}/{trial}/{seed}/{steps}"].items() if int(step) <= until)

    kinds = (
        Kind("of the whole training", lambda method, trial, seed, step: score(method, trial, seed, end, step)),
        Kind("of a training of its own", lambda method, trial, seed, step: score(method, trial, seed, step, step)),
        Kind("no rung", lambda method, trial, seed, step: score(method, trial, seed, end, end)),
    )
    by_method: dict[str, list[int]] = {}
    for key in curves:
        method, _, seed, _ = key.split("/")
        whole = all(f"{method}/{n}/{seed}/{rung.step}" in curves for n in range(trials) for rung in ladder)
        if whole and int(seed) not in by_method.setdefault(method, []):
            by_method[method].append(int(seed))
    steps = [budget(ladder), sum(rung.step * rung.trials for rung in ladder), end * trials]
    for kind, cost in zip(kinds, steps, strict=True):
        said = []
        for method, seeds in by_method.items():
            if len(seeds) < 2:
                continue
            found = [_of_seed(kind, method, seed, seeds, ladder, trials, kinds[2]) for seed in seeds]
            ranks, behind = np.mean([one[0] for one in found], 0), np.mean([one[1] for one in found])
            rising = ", ".join(f"{rank:.2f} at {rung.step}" for rank, rung in zip(ranks, ladder, strict=True))
            said.append(f"  {method}, {len(seeds)} seeds: rank correlation {rising}; chosen trial {behind:.1f} below")
        print(f"{kind.name}, {cost:,} steps:", *said, sep="\n")


def _of_seed(
    kind: Kind, method: str, seed: int, seeds: Sequence[int], ladder: Sequence[Rung], trials: int, whole: Kind
) -> tuple[list[float], float]:
    """Return the rank correlation at each rung, and how far the chosen trial is below the best, by other seeds."""
    end = ladder[-1].step
    truth = [np.mean([whole.score(method, n, other, end) for other in seeds if other != seed]) for n in range(trials)]
    ranks = []
    alive = set(range(trials))
    for rung, above in zip(ladder, [*ladder[1:], None], strict=True):
        scores = {n: kind.score(method, n, seed, rung.step) for n in range(trials)}
        ranks.append(float(spearmanr([scores[n] for n in range(trials)], truth).statistic))
        if above is None or kind is whole:
            continue
        alive = going_on({n: scores[n] for n in alive}, above.trials)
    final = {n: whole.score(method, n, seed, end) for n in alive}
    return ranks, float(max(truth) - truth[max(final, key=final.__getitem__)])


def main() -> None:
    """Read the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("train", "show"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--dataset", default="shoes")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--methods", default="shared,modulation")
    parser.add_argument("--seeds", default="1000,1001")
    parser.add_argument("--trials", type=int, default=8)
    given = parser.parse_args()
    if given.what == "show":
        show(given.file)
    else:
        seeds = [int(seed) for seed in given.seeds.split(",")]
        train(given.file, given.dataset, given.data_dir, given.methods, seeds, given.trials)


if __name__ == "__main__":
    main()
