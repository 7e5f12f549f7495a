"""mtlbench: many ways of sharing one image network between several tasks, compared fairly.

What a method, a plug-in or a notebook may import. Names load on first use, so that `mtlbench --help` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from mtlbench.api.embedder import Embedder as Embedder
    from mtlbench.api.embedder import load as load
    from mtlbench.api.results import Results as Results
    from mtlbench.api.results import results as results
    from mtlbench.api.run import run as run
    from mtlbench.architecture import Architecture as Architecture
    from mtlbench.architecture import register_architecture as register_architecture
    from mtlbench.augmentation import register_augmentation as register_augmentation
    from mtlbench.backbones.contract import Backbone as Backbone
    from mtlbench.backbones.contract import BackboneFactory as BackboneFactory
    from mtlbench.backbones.contract import BackboneKind as BackboneKind
    from mtlbench.backbones.contract import register_backbone as register_backbone
    from mtlbench.balancer import Balancer as Balancer
    from mtlbench.balancer import register_balancer as register_balancer
    from mtlbench.conditioned import Conditioned as Conditioned
    from mtlbench.data.roles import Roles as Roles
    from mtlbench.data.table import Column as Column
    from mtlbench.data.table import Kin as Kin
    from mtlbench.data.table import Table as Table
    from mtlbench.data.table import column_of as column_of
    from mtlbench.datasets.contract import Reader as Reader
    from mtlbench.datasets.contract import register_reader as register_reader
    from mtlbench.errors import UserError as UserError
    from mtlbench.evaluation.metrics import Ranked as Ranked
    from mtlbench.evaluation.metrics import register_metric as register_metric
    from mtlbench.jobs.executors.contract import Executor as Executor
    from mtlbench.jobs.executors.contract import register_executor as register_executor
    from mtlbench.learned import Learned as Learned
    from mtlbench.losses.contract import Loss as Loss
    from mtlbench.losses.contract import LossContext as LossContext
    from mtlbench.losses.contract import register_loss as register_loss
    from mtlbench.modulated import Modulated as Modulated
    from mtlbench.modulated import modulate as modulate
    from mtlbench.recipes import Range as Range
    from mtlbench.sampling.contract import Batch as Batch
    from mtlbench.sampling.contract import Sampler as Sampler
    from mtlbench.sampling.contract import Source as Source
    from mtlbench.sampling.contract import register_sampler as register_sampler
    from mtlbench.specs import register_method as register_method
    from mtlbench.trackers.contract import TrackedRun as TrackedRun
    from mtlbench.trackers.contract import Tracker as Tracker
    from mtlbench.trackers.contract import register_tracker as register_tracker

_HOME = {
    "Architecture": "mtlbench.architecture",
    "Backbone": "mtlbench.backbones.contract",
    "BackboneFactory": "mtlbench.backbones.contract",
    "BackboneKind": "mtlbench.backbones.contract",
    "Balancer": "mtlbench.balancer",
    "Batch": "mtlbench.sampling.contract",
    "Column": "mtlbench.data.table",
    "Conditioned": "mtlbench.conditioned",
    "Embedder": "mtlbench.api.embedder",
    "Executor": "mtlbench.jobs.executors.contract",
    "Kin": "mtlbench.data.table",
    "Learned": "mtlbench.learned",
    "Loss": "mtlbench.losses.contract",
    "LossContext": "mtlbench.losses.contract",
    "Modulated": "mtlbench.modulated",
    "Range": "mtlbench.recipes",
    "Ranked": "mtlbench.evaluation.metrics",
    "Reader": "mtlbench.datasets.contract",
    "Results": "mtlbench.api.results",
    "Roles": "mtlbench.data.roles",
    "Sampler": "mtlbench.sampling.contract",
    "Source": "mtlbench.sampling.contract",
    "Table": "mtlbench.data.table",
    "TrackedRun": "mtlbench.trackers.contract",
    "Tracker": "mtlbench.trackers.contract",
    "UserError": "mtlbench.errors",
    "column_of": "mtlbench.data.table",
    "load": "mtlbench.api.embedder",
    "modulate": "mtlbench.modulated",
    "register_architecture": "mtlbench.architecture",
    "register_augmentation": "mtlbench.augmentation",
    "register_backbone": "mtlbench.backbones.contract",
    "register_balancer": "mtlbench.balancer",
    "register_executor": "mtlbench.jobs.executors.contract",
    "register_loss": "mtlbench.losses.contract",
    "register_method": "mtlbench.specs",
    "register_metric": "mtlbench.evaluation.metrics",
    "register_reader": "mtlbench.datasets.contract",
    "register_sampler": "mtlbench.sampling.contract",
    "register_tracker": "mtlbench.trackers.contract",
    "results": "mtlbench.api.results",
    "run": "mtlbench.api.run",
}
__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mtlbench' has no attribute {name!r}")
