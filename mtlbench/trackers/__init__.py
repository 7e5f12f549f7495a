"""Trackers: who writes down elsewhere what happens while runs train."""

from mtlbench.trackers.contract import TrackedRun as TrackedRun
from mtlbench.trackers.contract import Tracker as Tracker
from mtlbench.trackers.contract import register_tracker as register_tracker
