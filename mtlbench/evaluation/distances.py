"""Distances of embeddings, and steps of distance as large as the rounding of float32 embeddings, which settle ties."""

from __future__ import annotations

import torch
from torch import Tensor

# Distances d are compared through the bits of float32(1 + d / |query|) without the last four: steps of 2^-19 (about
# two millionths) of the query's norm, growing in proportion beyond it. Float32 embeddings of one and the same point
# scatter by about 1e-7 of their norm, so they share a step; and a step starts exactly at d = 0.
_DROPPED_BITS = 4
STEP = 1 << _DROPPED_BITS
_BITS_OF_ONE = 0x3F800000
# A zero vector has no norm to measure by; no query measures in less than this share of the largest norm.
_SMALLEST_UNIT = 2.0**-40
# The triangle inequality bounds d / |query| by 2^41, hence 1 + d / |query| by 2^42.
FARTHEST_STEP = 42 << (23 - _DROPPED_BITS)
FARTHEST = _BITS_OF_ONE + FARTHEST_STEP * STEP  # as bits


def check_embeddings(embeddings: Tensor) -> None:
    """Refuse what is not (N, D) floats.

    Raises:
        ValueError: with what was found.
    """
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise ValueError(f"embeddings must be (N, D) floats, found {tuple(embeddings.shape)} {embeddings.dtype}")


def points_of(embeddings: Tensor, normalise: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the embeddings `(N, D)` in float64, the unit `(N,)` each measures in as a query, and which are finite.

    Rows that are not finite become zero, so that they spoil no matrix product.
    """
    if embeddings.device.type == "mps":  # has no float64
        embeddings = embeddings.cpu()
    points = embeddings.double()
    norms = points.norm(dim=1)
    finite = norms.isfinite()
    points = torch.where(finite[:, None], points, 0.0)
    norms = torch.where(finite, norms, 0.0)
    if normalise:
        points /= torch.where(norms > 0, norms, 1.0)[:, None]
        norms = (norms > 0).double()
    largest = norms.max() if len(norms) else norms.sum()
    unit = norms.clamp_min(largest * _SMALLEST_UNIT)
    return points, torch.where(unit > 0, unit, 1.0), finite


def steps_of(distances: Tensor) -> Tensor:
    """Return the int32 step of each distance, which is in the query's unit; overwrites `distances`."""
    ratio = distances.add_(1).float()
    return ratio.view(torch.int32).sub_(_BITS_OF_ONE).bitwise_right_shift_(_DROPPED_BITS)


def euclidean(a: Tensor, b: Tensor, kind: str) -> Tensor:
    """Return the distance of (…, D) embeddings to others, (…,): Euclidean (`plain`) or its square (`squared`)."""
    squared = (a - b).square().sum(-1)
    # the root has no gradient at 0, where anchor and positive of a collapsed network lie
    return squared if kind == "squared" else squared.clamp_min(1e-12).sqrt()
