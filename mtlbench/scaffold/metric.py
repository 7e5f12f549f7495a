"""My-method: the reciprocal rank of the first relevant image.

<Authors: Title, Venue Year (arXiv number).>

<Say here what is measured and in which range, and write down the formula. This file runs unchanged: a
query whose first relevant image comes at place r scores 1/r; the metric is the mean over queries.
Images at the same distance count in the worst order, for every metric alike.>
"""

import torch
from torch import Tensor

from mtlbench import Ranked, register_metric


# The name is what the list `evaluation.metrics` of a benchmark and the columns of tables say.
@register_metric("my-method", depth="depth")
def my_method(ranked: Ranked, *, depth: int = 100) -> Tensor:
    """Return 1 / the place of the first relevant image, 0 where none of the first `depth` is.

    <The line above is what `mtlbench list metrics` shows.>

    Args:
        ranked: some queries with their galleries in order of distance; one exact ranking serves all metrics.
        depth: how many of the nearest images are looked at.

    Returns:
        (queries,) one score each, the higher the better; a table shows the mean over queries.
    """
    hits = ranked.hits[:, :depth]  # (queries, gallery) bool, the nearest image first
    place = hits.int().argmax(dim=1) + 1
    return torch.where(hits.any(dim=1), 1 / place.double(), 0.0)
