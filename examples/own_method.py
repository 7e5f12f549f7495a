"""A method of your own, trained beside `shared` and compared with it.

    python examples/own_method.py

takes about two minutes on two CPU cores. `QUICKLY=1 python examples/own_method.py` shows in seconds that it runs.
"""

import os

import torch
from torch import nn

import mtlbench as mb


@mb.register_architecture("own-bias")
class OwnBias(mb.Architecture):
    """One network; each task shifts the embedding by a vector of its own."""

    def __init__(self, backbones, tasks):
        super().__init__(backbones, tasks)
        self.net = backbones.backbone()
        self.shifts = nn.ParameterList([torch.zeros(backbones.embedding_size) for _ in tasks])

    def forward(self, images):  # (T, B, 3, H, W): group t is judged under task t -> (T, B, D)
        groups = self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2])  # all groups in one pass: fast
        return groups + torch.stack(list(self.shifts))[:, None]

    def embed(self, images):  # (B, 3, H, W): every image under every task -> (T, B, D)
        return self.net(images) + torch.stack(list(self.shifts))[:, None]

    def task_state(self, task):  # what this task alone needs; all else counts as shared
        return [self.shifts[task]]


TINY = {"data.rendered.images": 300, "train.steps": 6, "evaluation.every": 3, "evaluation.triplets": 200}

if __name__ == "__main__":
    settings = TINY if os.environ.get("QUICKLY") else {}
    found = mb.run("shared,own-bias", "shoes", quick=True, settings=settings, results="results-own-method")
    print(found)
    print(found.table()[["mean", "cost/file_bytes", "cost/parameters_per_task"]])
