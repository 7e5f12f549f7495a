"""Every test of a backbone leaves the global random state alone, and computes in one thread."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch


@pytest.fixture
def pretend_download(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in for the network: every download returns the state put under "state"."""
    from torchvision.models._api import WeightsEnum

    answer: dict[str, Any] = {"downloads": 0}

    def get_state_dict(weights: Any, *args: Any, **kwargs: Any) -> Any:
        answer["downloads"] += 1
        answer["url"] = weights.url
        return answer["state"]

    monkeypatch.setattr(WeightsEnum, "get_state_dict", get_state_dict)
    return answer


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """On maps this small, threads on a busy machine wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _global_random_state_is_left_alone() -> Iterator[None]:
    before = torch.get_rng_state()
    python = random.getstate()
    yield
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python
