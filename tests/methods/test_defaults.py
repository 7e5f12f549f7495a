"""The defaults of methods' options: they decide the rows of a table, and a changed one makes another method."""

from __future__ import annotations

import inspect

import pytest
from torch import nn

from mtlbench.plugins import load_plugins
from mtlbench.registry import ARCHITECTURES, BALANCERS, LOSSES
from mtlbench.specs import parse_method

load_plugins()
BALANCER_OPTIONS = {
    "gradnorm": {"alpha": 1.5, "lr": 0.025, "optimiser": "sgd"},
    "static": {"weights": ()},
    "aligned-mtl": {"length": "min"},
    "cagrad": {"c": 0.5},
    "cr-mogm": {"base": "mgda", "alpha": 0.9},
    "dwa": {"temperature": 2.0, "every": 20},
    "excess-mtl": {"step": 0.1, "warmup": 1},
    "fairgrad": {"alpha": 1.0},
    "famo": {"lr": 0.025, "decay": 0.001},
    "gradvac": {"beta": 0.5},
    "imtl-g": {"at": "auto"},
    "mgda": {"at": "auto"},
    "modo": {"gamma": 0.1, "rho": 0.1},
    "nash-mtl": {"max_norm": 1.0, "every": 1},
    "sdmgrad": {"pull": 0.3, "lr": 0.01, "momentum": 0.5, "iterations": 20},
    "stch": {"mu": 0.01},
    **{name: {} for name in ("config", "dualproj", "graddrop", "imtl-l", "pcgrad", "upgrad", "uw")},
}
ARCHITECTURE_OPTIONS = {
    "branched": {"at": None, "embedding": "wide"},
    "cross-stitch": {"same": 0.9, "rate": None},
    "csn": {"masks": "learned", "norms": True, "embedding_norm": 0.005, "mask_norm": 0.0005},
    "dselect-k": {"experts": 4, "k": 2, "gamma": 1.0, "entropy": 0.01, "per_example": False},
    "mmoe": {"experts": 4},
    "modulation": {"place": "output", "relu": True, "initial": 1.0},
    "nddr": {"same": 0.9, "rate": None},
    "cgc": {"own": 1, "shared": 1},
    "ple": {"own": 1, "shared": 1},
    "task-se": {"reduction": 16},
    **{name: {} for name in ("channel-mixing", "embedding-mask", "film", "mtan")},
}
USUAL = {"rate": 1.0, "after": None, "at": "shared"}


@pytest.mark.parametrize(
    ("registry", "expected"), [(BALANCERS, BALANCER_OPTIONS), (ARCHITECTURES, ARCHITECTURE_OPTIONS)]
)
def test_defaults_are_those_that_docstrings_and_records_are_about(registry, expected):
    for name, own in expected.items():
        options = inspect.signature(registry.get(name).target.__init__).parameters.values()
        found = {option.name: option.default for option in options if option.kind is option.KEYWORD_ONLY}
        assert found == {key: value for key, value in USUAL.items() if key in found} | own, name


def test_the_triplet_losses_margin_is_02():
    assert inspect.signature(LOSSES.get("triplet").target.__init__).parameters["margin"].default == 0.2


def test_nddrs_batch_norms_keep_095_of_their_averages(backbones):
    net, _ = parse_method("nddr").build(backbones, ("a", "b"))
    momenta = {m.momentum for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) and m.eps == 1e-3}
    assert momenta == {0.05}
