"""My-method: the contrastive loss over all pairs of a batch.

<Authors: Title, Venue Year (arXiv number).>

<Say here what the idea is, and write down the formula that the code follows. This file runs unchanged:
with d the Euclidean distance of two embeddings under one task, the loss of a pair is

    d^2                     where both carry the same label,
    max(0, margin - d)^2    where they don't,

and a task's loss is the mean over the first kind plus the mean over the second.>
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench import Batch, Loss, LossContext, UserError, register_loss


# The name is what a benchmark's `loss.name` says, or --set loss.name=my-method in a run.
@register_loss("my-method")
class MyMethod(Loss):
    """The contrastive loss: pairs of one label attract, all others keep a margin.

    <The line above is what `mtlbench list losses` shows.>

    Args:
        margin: above 0; how far apart images of two labels should be.
    """

    # Options are keyword-only arguments with a type and a default. `context` says what the loss is for:
    # the tasks, how many label values each has, the size of embeddings, whether they are normalised, a
    # seed. A loss may own nn.Parameters, such as proxies for each task: they are trained, saved and
    # restored with the network, and don't count as its storage. Memory lives in buffers
    # (self.register_buffer), which an interrupted run continues from.
    def __init__(self, context: LossContext, *, margin: float = 0.5) -> None:
        super().__init__(context)
        if margin <= 0:
            raise UserError(f"my-method: margin={margin} must be above 0.")
        self.margin = margin

    # The one required method. The leading axis is always the task.
    def forward(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """(T, B, D) embeddings and their batch -> (T,) losses, each of one task."""
        points = self.points(embeddings)  # float32, of unit length where the benchmark says so
        losses = [self._of_task(*task) for task in zip(points, batch.labels, strict=True)]
        return torch.stack(losses)  # 0 for a task without pairs in this batch

    def _of_task(self, points: Tensor, labels: Tensor) -> Tensor:
        """(B, D) and (B,) -> ()."""
        squared = (points[:, None] - points).square().sum(2)
        distances = squared.clamp_min(1e-12).sqrt()  # the root has no gradient at 0
        labelled = (labels >= 0)[:, None] & (labels >= 0)  # -1 is an image without a label
        same = labels[:, None] == labels
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        near = labelled & same & ~itself
        far = labelled & ~same
        apart = F.relu(self.margin - distances).square()
        return _mean(squared, near) + _mean(apart, far)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values, 0 where none is."""
    mean: Tensor = (values * chosen).sum() / chosen.sum().clamp_min(1)
    return mean
