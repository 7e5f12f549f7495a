"""Every architecture with every balancer: it trains, or is refused with a reason; and each names its source."""

from __future__ import annotations

import re

import torch

from mtlbench.backbones import BackboneFactory
from mtlbench.errors import UserError
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS
from mtlbench.specs import parse_method

TASKS = ("colour", "shape")
SHARING_NOTHING = ("independent", "nddr")
OPTIONS = {"static": "[weights=1:2]"}


def test_it_goes_with_every_balancer_or_says_why_not(method: str, images: torch.Tensor) -> None:
    refused = set()
    for balancer in BALANCERS:
        torch.manual_seed(0)
        backbones = BackboneFactory("small", 24, 8, seed=3)
        try:
            net, balance = parse_method(f"{method}+{balancer}{OPTIONS.get(balancer, '')}").build(backbones, TASKS)
        except UserError as error:
            reason = str(error)
        else:
            reason = ""
        if reason:
            assert re.search("shares none|has none|pip install", reason), reason
            refused.add(balancer)
            continue
        embeddings = net.embed(images[0, :2])
        losses = (embeddings - 1).square().mean(dim=(1, 2))
        penalty = net.regulariser()
        weights = balance.backward(losses if penalty is None else losses + penalty, net)
        assert weights.shape == (2,)
        assert not weights.requires_grad
        assert weights.isfinite().all()
        for name, parameter in net.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"{balancer}: {name}"
                assert parameter.grad.isfinite().all(), f"{balancer}: {name}"
    weighing = {"mean", "static", "uw", "imtl-l", "dwa", "rlw", "geometric-mean", "stch", "famo"}
    assert not refused & weighing  # losses can be weighed whatever is shared
    if method in SHARING_NOTHING:
        assert refused == set(BALANCERS) - weighing


def test_everything_names_its_source_and_what_is_shared() -> None:
    for registry in (ARCHITECTURES, BALANCERS):
        for entry in registry.entries.values():
            if entry.name in ("mean", "static"):
                continue
            assert re.match(r"@\w+\{[\w:-]+,", entry.cite), entry.name
            assert re.search(r"author\s*=\s*\{", entry.cite), entry.name
            assert re.search(r"title\s*=\s*\{", entry.cite), entry.name
            assert re.search(r"year\s*=\s*\{?\d{4}", entry.cite), entry.name
            assert entry.cite.count("{") == entry.cite.count("}"), entry.name
    assert all(entry.shares for entry in ARCHITECTURES.entries.values())
    keys = [re.match(r"@\w+\{([^,]+),", e.cite) for r in (ARCHITECTURES, BALANCERS) for e in r.entries.values()]
    by_key: dict[str, set[str]] = {}
    for match in keys:
        if match:
            by_key.setdefault(match[1], set()).add(match.string)
    assert {key for key, texts in by_key.items() if len(texts) > 1} == set()  # one key, one source


def test_every_method_is_in_a_group() -> None:
    assert all(entry.groups for registry in (ARCHITECTURES, ALIASES) for entry in registry.entries.values())
