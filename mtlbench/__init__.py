"""mtlbench: many ways of sharing one image network between several tasks, compared fairly.

What a method, a plug-in or a notebook may import. Names load on first use, so that `mtlbench --help` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mtlbench.api.embedder import Embedder as Embedder
    from mtlbench.api.embedder import load as load
    from mtlbench.api.results import Results as Results
    from mtlbench.api.results import results as results
    from mtlbench.api.run import run as run
    from mtlbench.architecture import Architecture as Architecture
    from mtlbench.architecture import register_architecture as register_architecture
    from mtlbench.backbones.contract import Backbone as Backbone
    from mtlbench.backbones.contract import BackboneFactory as BackboneFactory
    from mtlbench.backbones.contract import BackboneKind as BackboneKind
    from mtlbench.backbones.contract import register_backbone as register_backbone
    from mtlbench.balancer import Balancer as Balancer
    from mtlbench.balancer import register_balancer as register_balancer
    from mtlbench.conditioned import Conditioned as Conditioned
    from mtlbench.errors import UserError as UserError
    from mtlbench.learned import Learned as Learned
    from mtlbench.modulated import Modulated as Modulated
    from mtlbench.modulated import modulate as modulate
    from mtlbench.recipes import Range as Range
    from mtlbench.specs import register_method as register_method

_HOME = {
    "Architecture": "mtlbench.architecture",
    "Backbone": "mtlbench.backbones.contract",
    "BackboneFactory": "mtlbench.backbones.contract",
    "BackboneKind": "mtlbench.backbones.contract",
    "Balancer": "mtlbench.balancer",
    "Conditioned": "mtlbench.conditioned",
    "Embedder": "mtlbench.api.embedder",
    "Learned": "mtlbench.learned",
    "Modulated": "mtlbench.modulated",
    "Range": "mtlbench.recipes",
    "Results": "mtlbench.api.results",
    "UserError": "mtlbench.errors",
    "load": "mtlbench.api.embedder",
    "modulate": "mtlbench.modulated",
    "register_architecture": "mtlbench.architecture",
    "register_backbone": "mtlbench.backbones.contract",
    "register_balancer": "mtlbench.balancer",
    "register_method": "mtlbench.specs",
    "results": "mtlbench.api.results",
    "run": "mtlbench.api.run",
}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mtlbench' has no attribute {name!r}")
