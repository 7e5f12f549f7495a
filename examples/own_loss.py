"""A loss of your own beside the triplet loss, under the same method, in one table.

    python examples/own_loss.py

takes about a minute on two CPU cores. `QUICKLY=1 python examples/own_loss.py` shows in seconds that it runs.
"""

import os

import torch
import torch.nn.functional as F

import mtlbench as mb


@mb.register_loss("own-contrastive")
class OwnContrastive(mb.Loss):
    """Pairs of one label attract, all others keep a margin (Hadsell, Chopra and LeCun, CVPR 2006).

    Args:
        margin: how far apart images of two labels should be.
    """

    def __init__(self, context, *, margin: float = 0.5):
        super().__init__(context)
        self.margin = margin

    def forward(self, embeddings, batch):  # (T, B, D) and a batch with labels (T, B) -> (T,), a loss a task
        return torch.stack([self.of_task(*task) for task in zip(self.points(embeddings), batch.labels, strict=True)])

    def of_task(self, points, labels):
        distances = (points[:, None] - points).square().sum(2).clamp_min(1e-12).sqrt()
        labelled = (labels >= 0)[:, None] & (labels >= 0)  # -1: without a label
        same = labels[:, None] == labels
        near = labelled & same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        far = labelled & ~same
        attract = (distances.square() * near).sum() / near.sum().clamp_min(1)
        repel = (F.relu(self.margin - distances).square() * far).sum() / far.sum().clamp_min(1)
        return attract + repel


TINY = {"data.rendered.images": 300, "train.steps": 6, "evaluation.every": 3, "evaluation.triplets": 200}

if __name__ == "__main__":
    found = mb.run(
        "shared",
        "shoes",
        quick=True,
        settings=TINY if os.environ.get("QUICKLY") else {},
        vary={"loss.name": ["triplet", "own-contrastive"]},
        results="results-own-loss",
    )
    print(found)
