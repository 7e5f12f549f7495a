"""What a run under way has reached, and the ways in which it ends early."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mtlbench.probes import Probe

Row = dict[str, float]


class TrainingError(Exception):
    """A run that can't go on, with the reason for the table."""


class Interrupted(Exception):
    """A run was asked to stop, and has kept what continuing needs."""


@dataclass
class State:
    """What a run has reached; with the tensors of `Trainer.tensors` it is all that continuing needs."""

    step: int = 0
    seconds: float = 0.0  # of training steps alone
    best_accuracy: float = -1.0  # mean triplet accuracy of the best checkpoint
    best_score: float = -math.inf  # what it was chosen by; a metric may be below 0
    best_step: int = 0
    task_bests: dict[str, float] = field(default_factory=dict)  # each task's own, where it has a checkpoint of its own
    task_steps: dict[str, int] = field(default_factory=dict)  # the steps of those
    normalised: list[int] = field(default_factory=list)  # over how many images batch norms average, tasks' own images
    accuracy: dict[str, float] = field(default_factory=dict)
    collapsed: list[str] = field(default_factory=list)  # tasks that had fallen to a point at the latest validation
    curve: list[Row] = field(default_factory=list)
    even_steps: int = 0  # in which a balancer's weights were those of the plain mean
    single_steps: int = 0  # in which one task had all of the weight
    farthest_weight: float = 0.0  # of all steps and tasks, the largest distance from 1, the plain mean's
    compiled: str | None = None  # why the network is not, where that was asked for: empty where it is, None until known
    unsaved: list[str] = field(default_factory=list)  # attributes that changed in training, and are in no tensor
    forgot: list[str] = field(default_factory=list)  # such attributes, of states from which the run was continued
    probes: list[Probe] = field(default_factory=list)
