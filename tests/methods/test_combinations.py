"""Every architecture with every balancer: it trains, or is refused with a reason; and each names its source."""

from __future__ import annotations

import re

import pytest
import torch

from mtlbench import Architecture
from mtlbench.backbones import BackboneFactory
from mtlbench.errors import UserError
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS
from mtlbench.specs import parse_method

TASKS = ("colour", "shape")
SHARING_NOTHING = ("independent", "nddr")
OPTIONS = {"static": "[weights=1:2]"}


# Every pair would cost 17 x 25 networks. A balancer meets an architecture through few questions alone: which parameters
# are shared, the last shared layer, the shared representation, a penalty, whether tasks mix. So the first architecture
# of each set of answers goes with every balancer, and so does one that shares nothing, for the refusals. Another one
# with the same answers goes with the first balancer of each base class, which is what asks the questions.


def answers(net: Architecture, images: torch.Tensor) -> tuple[bool, ...]:
    """What a balancer can learn of an architecture that steers it."""
    net.embed(images)
    return (
        bool(net.shared_parameters()),
        bool(net.last_shared_layer()),
        bool(net.task_parameters(0)),
        net.representation is not None,
        net.regulariser() is not None,
        net.mixes_tasks,
    )


def balancers_for(method: str, images: torch.Tensor) -> list[str]:
    """Return those that `method` is tried with."""
    backbones = BackboneFactory("small", 24, 8, seed=3)
    alike = answers(parse_method(method).build(backbones, TASKS)[0], images)
    earlier = (name for name in sorted(ARCHITECTURES) if name < method)
    if method in SHARING_NOTHING or all(
        answers(parse_method(name).build(backbones, TASKS)[0], images) != alike for name in earlier
    ):
        return list(BALANCERS)
    first: dict[type, str] = {}
    for name in BALANCERS:
        first.setdefault(BALANCERS.get(name).target.__mro__[1], name)
    return list(first.values())


@pytest.mark.slow
def test_it_goes_with_every_balancer_or_says_why_not(method: str, images: torch.Tensor) -> None:
    refused = set()
    for balancer in balancers_for(method, images[0, :2]):
        torch.manual_seed(0)
        backbones = BackboneFactory("small", 24, 8, seed=3)
        try:
            net, balance = parse_method(f"{method}+{balancer}{OPTIONS.get(balancer, '')}").build(backbones, TASKS)
        except UserError as error:
            reason = str(error)
        else:
            reason = ""
        if reason:
            assert re.search("shares none|would act on|has none|pip install", reason), reason
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
