"""Sampling: what a training step sees. What is named here is what a sampler of your own needs."""

from mtlbench.sampling.contract import Batch as Batch
from mtlbench.sampling.contract import Generators as Generators
from mtlbench.sampling.contract import Sampler as Sampler
from mtlbench.sampling.contract import Source as Source
from mtlbench.sampling.contract import register_sampler as register_sampler
