"""Backbones: the networks that methods share, a file each; `contract` says what a backbone is and builds it by name."""

from mtlbench.backbones.contract import Backbone as Backbone
from mtlbench.backbones.contract import BackboneFactory as BackboneFactory
from mtlbench.backbones.contract import BackboneKind as BackboneKind
from mtlbench.backbones.contract import register_backbone as register_backbone
