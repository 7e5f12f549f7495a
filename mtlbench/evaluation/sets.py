"""How much labels that are sets have in common."""

from __future__ import annotations

import torch
from torch import Tensor

_CELLS = 2**24  # of a table of sets and sets at once


class Sets:
    """V sets of U values.

    Args:
        members: (V, U) bool.

    Attributes:
        worth: (L,) float64, ascending from 0 to 1: every Jaccard index that two sets of such sizes can have.
    """

    def __init__(self, members: Tensor) -> None:
        self._members = members.double()
        self._sizes = self._members.sum(1)
        largest = int(self._sizes.max()) if len(members) else 0
        united = torch.arange(1, 2 * largest + 1, dtype=torch.float64)
        shared = torch.arange(0, largest + 1, dtype=torch.float64)
        # equal fractions are equal numbers: division rounds rightly
        found = (shared[:, None] / united)[shared[:, None] <= united]
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        self.worth = torch.unique(torch.cat([found, ends])).to(members.device)

    def gains(self, one: int) -> Tensor:
        """Return (V,) int32: the place in `worth` of each set's Jaccard index with one; 0 where no value is shared."""
        shared = self._members @ self._members[one]
        index = shared / (self._sizes + self._sizes[one] - shared)
        return torch.searchsorted(self.worth, index).int()

    def alike(self, counts: Tensor) -> Tensor:
        """Return (V,) how many images share a value with each set, where `counts` (V,) have each."""
        size = max(1, _CELLS // max(1, len(counts)))
        rows = [((part @ self._members.T > 0).long() * counts).sum(1) for part in self._members.split(size)]
        return torch.cat(rows) if rows else counts
