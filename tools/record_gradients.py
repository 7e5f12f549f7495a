"""Records the tasks' gradients while `shared` trains, so that tests of balancers have realistic gradients.

python tools/record_gradients.py > tests/methods/torchjd/gradients.json

Most balancers use only the Gramian of a step. The tool therefore writes the T gradients (T, P) as the rows of its root
(T, T), which have the same lengths and angles. It needs no data set: shoes and faces are rendered.
"""

from __future__ import annotations

import json
import sys

import torch

from mtlbench.benchmark import load_benchmark
from mtlbench.jobs.data import prepared
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

STEPS = {"shoes": (1, 40, 300), "faces": (1, 40)}


def rows_of(losses: torch.Tensor, places: list[torch.Tensor]) -> torch.Tensor:
    """Return the root (T, T) of the Gramian of the tasks' gradients at some places, and keep the graph."""
    found = [torch.autograd.grad(loss, places, retain_graph=True, materialize_grads=True) for loss in losses]
    gradients = torch.stack([torch.cat([one.flatten() for one in of_task]) for of_task in found]).double()
    values, vectors = torch.linalg.eigh(gradients @ gradients.T)
    return vectors * values.clamp_min(0).sqrt()


def main() -> None:
    """Train on both rendered sets and print the recorded gradients."""
    load_plugins()
    found = []
    for name, steps in STEPS.items():
        benchmark = load_benchmark(name, quick=True, settings=["train.precision=fp32"])
        dataset, _ = prepared(benchmark, None, None, torch.device("cpu"))
        trainer = Trainer(parse_method("shared"), benchmark, dataset, 0, "fp32")
        for step in range(1, steps[-1] + 1):
            if step in steps:
                losses = trainer.losses(trainer.sampler.draw(trainer.generators))
                features = trainer.architecture.representation
                for place, where in (
                    ("shared", [p for p in trainer.architecture.shared_parameters() if p.requires_grad]),
                    ("representation", [features]),
                ):
                    rows = rows_of(losses, where)
                    about = {"benchmark": benchmark.name, "step": step, "place": place}
                    found.append(about | {"losses": losses.tolist(), "rows": rows.tolist()})
                print(name, step, rows.norm(dim=1).tolist(), file=sys.stderr)
            if step < steps[-1]:
                trainer.step()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
