"""Losses: a batch and its embeddings -> a loss per task. What is named here is what a loss of your own needs."""

from mtlbench.losses.contract import Loss as Loss
from mtlbench.losses.contract import LossContext as LossContext
from mtlbench.losses.contract import register_loss as register_loss
