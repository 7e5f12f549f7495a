"""Measures how far the first step of the CelebA protocol moves the paper's network and its modulation vectors.

    python tools/first_step.py [--images 400]

The tool uses the same images, triplets and gradients with He's initial values and with the released code's truncated
normal, and with Adagrad's accumulator at 0 as in torch and at 0.1 as in TensorFlow. The images are rendered faces
at 150 px: a first step needs CelebA's protocol, but not its labels.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from mtlbench.benchmark import load_benchmark
from mtlbench.data.dataset import prepare
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_method
from mtlbench.training.loop import Trainer

STARTS = {"he": "paper[start=he]", "truncated": "paper[start=truncated]"}
ACCUMULATORS = (0.0, 0.1)


def moved(before: Tensor, gradient: Tensor, accumulator: float, rate: float) -> Tensor:
    """Return how far each weight moves in Adagrad's first step, as a share of itself."""
    weight = torch.nn.Parameter(before.clone())
    weight.grad = gradient.clone()
    torch.optim.Adagrad([weight], lr=rate, initial_accumulator_value=accumulator).step()
    return ((weight.detach() - before) / before).abs().flatten()


def main() -> None:
    """Print one line for each start and accumulator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400, help="rendered faces to draw triplets from")
    images = parser.parse_args().images
    load_plugins()
    drawn = f"data.rendered={{what='faces', images={images}}}"
    print(
        "start      accumulator  median |gradient|  weights move by  vectors by  vectors by, with 1/T of the gradient"
    )
    with tempfile.TemporaryDirectory() as folder:
        for start, backbone in STARTS.items():
            settings = [drawn, f"model.backbone={backbone}", "evaluation.triplets=1"]
            benchmark = load_benchmark("celeba", settings=settings)
            dataset, _ = prepare(benchmark, Path(folder), None, torch.device("cpu"))
            trainer = Trainer(parse_method("modulation"), benchmark, dataset, 0, "fp32")
            parameters = dict(trainer.architecture.named_parameters())
            before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
            trainer.step()
            gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
            own = {id(p) for t in range(len(dataset.tasks)) for p in trainer.architecture.task_parameters(t)}
            vectors = [name for name in gradients if id(parameters[name]) in own]
            weights = [name for name in gradients if name not in vectors and parameters[name].dim() > 1]
            size = statistics.median(float(gradients[name].abs().median()) for name in weights)
            for accumulator in ACCUMULATORS:
                rate = benchmark.train.lr
                shares = []
                for names, scale in ((weights, 1.0), (vectors, 1.0), (vectors, 1 / len(dataset.tasks))):
                    by = torch.cat([moved(before[n], scale * gradients[n], accumulator, rate) for n in names])
                    shares.append(f"{100 * float(by.median()):.3g} %")
                print(
                    f"{start:10} {accumulator:<12g} {size:<18.1e} {shares[0]:<16} {shares[1]:<11} {shares[2]}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
