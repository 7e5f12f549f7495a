"""Backbones: the networks that methods share, a file each; `contract` says what a backbone is and builds it by name."""

from mtlbench.backbones.contract import Backbone as Backbone
from mtlbench.backbones.contract import BackboneFactory as BackboneFactory
