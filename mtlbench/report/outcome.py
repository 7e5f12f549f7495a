"""How a method's runs ended: done, failed or collapsed, seed by seed. Tables and words are made from this."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mtlbench.names import joined
from mtlbench.runs import Record
from mtlbench.runs.record import BROKEN

_MOST = 0.9  # of a run's steps
_NEAR = 0.05  # of 1, the plain mean's weights
_SHARE = re.compile(r"[\d.]+(?= %)")
_MANY = 0.1  # of a network's parameters
Status = Literal["done", "partial", "collapsed", "failed"]


@dataclass(frozen=True)
class Collapse:
    """A run whose embeddings collapsed: nearly all of them are equal.

    Attributes:
        tasks: under which.
        all_tasks: whether under every task of the run.
        step: of the checkpoint that is shown; None where tasks have their own, or the record does not say.
    """

    tasks: tuple[str, ...]
    all_tasks: bool
    step: int | None


def _remark(record: Record) -> str:
    """Return what else a finished run's record says."""
    shares = record.receipt.get("balancer_weights", {})
    words = {
        "even": "weights even, the plain mean,",
        "single": "all weight on one task",
        "constant": "weights constant",
    }
    found = [f"{words[kind]} in {100 * shares[kind]:.0f} % of steps" for kind in words if shares.get(kind, 0) > _MOST]
    if shares.get("even", 0) <= _MOST and shares.get("farthest", 1) < _NEAR:
        found.insert(0, f"weights within {100 * shares['farthest']:.1f} % of the plain mean's")
    rates, own = record.receipt.get("own_rates", {}), ""
    if rates.get("share", 0) > _MANY:
        share = f"{100 * rates['share']:.0f} %"
        own = f"{share} of its parameters learn at another rate, up to {rates['most']:g} times the benchmark's"
    broken = "breaks the contract, as mtlbench check found" if _breaks(record) else ""
    forgot, lost = record.receipt.get("forgot", []), ""
    if forgot:
        lost = f"continued without {joined(forgot, 4)}, which no checkpoint holds: run it again with --overwrite"
    return "; ".join(filter(None, [record.reason, broken, lost, *found[:1], own]))


def _breaks(record: Record) -> bool:
    return BROKEN in record.receipt.get("checked", {}).values()


def _together(remarks: Sequence[str]) -> str:
    """Return remarks that differ in shares alone as one: `weights constant in 90 to 91 % of steps`."""
    ranges = iter(sorted(set(shares), key=float) for shares in zip(*map(_SHARE.findall, remarks), strict=True))

    def share(found: re.Match[str]) -> str:
        lowest, *more = next(ranges)
        return f"{lowest} to {more[-1]}" if more else lowest

    return _SHARE.sub(share, remarks[0])


@dataclass(frozen=True)
class Outcome:
    """How a method's runs ended.

    Attributes:
        seeds: of all its runs, failed ones too.
        failed: the reasons, by seed.
        collapsed: by seed.
        remarks: what else the record of a finished run says, by seed: why its costs were not measured, that a balancer
            decided nothing.
        broken: `mtlbench check` found that the method breaks the contract.
    """

    seeds: tuple[int, ...] = ()
    failed: dict[int, str] = field(default_factory=dict)
    collapsed: dict[int, Collapse] = field(default_factory=dict)
    remarks: dict[int, str] = field(default_factory=dict)
    broken: bool = False

    @staticmethod
    def of(records: Sequence[Record], tasks: Sequence[str] = ()) -> Outcome:
        """Sum up the records of one method; a collapse counts under some tasks, or without any under all."""
        ordered = sorted(records, key=lambda record: record.seed)
        done = [record for record in ordered if record.status == "done"]
        fallen = {r.seed: tuple(t for t in r.collapsed if not tasks or t in tasks) for r in done}
        return Outcome(
            tuple(record.seed for record in ordered),
            {record.seed: record.reason for record in ordered if record.status != "done"},
            {
                record.seed: Collapse(
                    fallen[record.seed],
                    len(fallen[record.seed]) == len(record.setup["tasks"]),
                    record.receipt.get("selected_step"),
                )
                for record in done
                if fallen[record.seed]
            },
            {record.seed: said for record in done if (said := _remark(record))},
            any(map(_breaks, done)),
        )

    @property
    def status(self) -> Status:
        """`failed`: no run finished; `collapsed`: some collapsed; `partial`: some failed; else `done`."""
        if self.failed and len(self.failed) == len(self.seeds):
            return "failed"
        return "collapsed" if self.collapsed else "partial" if self.failed else "done"

    @property
    def remarkable(self) -> bool:
        """Whether there is anything to be said beside the numbers."""
        return bool(self.failed or self.collapsed or self.remarks)

    @property
    def wrong(self) -> bool:
        """Whether something went wrong: a run failed or collapsed, or the method breaks the contract."""
        return self.status != "done" or self.broken

    def note(self) -> str:
        """Say what went wrong and what else there is to say; empty where there is nothing."""
        alike: dict[str, list[str]] = {}  # remarks that differ in a share alone
        for said_of in self.remarks.values():
            alike.setdefault(_SHARE.sub("", said_of), []).append(said_of)
        said: dict[str, list[int]] = {}  # what several seeds have in common is said once
        for seed in self.seeds:
            if seed in self.failed:
                said.setdefault(f"FAILED: {self.failed[seed]}", []).append(seed)
            if seed in self.collapsed:
                step = self.collapsed[seed].step
                shown = f"; checkpoint of step {step} shown" if step is not None else ""
                said.setdefault(f"{self.collapse(seed)}: all embeddings nearly equal{shown}", []).append(seed)
            if seed in self.remarks:
                said.setdefault(_together(alike[_SHARE.sub("", self.remarks[seed])]), []).append(seed)
        return "; ".join(f"{self.named(*seeds)}{what}" for what, seeds in said.items())

    def named(self, *seeds: int) -> str:
        """Return what a sentence about some runs begins with: their seeds, where there are several runs."""
        if len(self.seeds) == 1:
            return ""
        return f"seed{'s' * (len(seeds) > 1)} {joined([str(seed) for seed in seeds])} "

    def collapse(self, seed: int) -> str:
        """Return the word for a collapsed run, with its tasks."""
        collapse = self.collapsed[seed]
        return f"COLLAPSED ({'all tasks' if collapse.all_tasks else ', '.join(collapse.tasks)})"
