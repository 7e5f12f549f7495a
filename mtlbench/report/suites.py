"""Which runs may share a table: suites of records that differ in method and seed alone.

Runs that differ in protocol, tasks, data, precision or device go into suites of their own, and runs of one method that
ran from different versions of its source get names of their own, so that nobody averages them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mtlbench.errors import UserError
from mtlbench.runs import Json, Record, differences, essential, in_todays_words, without_training


@dataclass(frozen=True)
class Suite:
    """Records that may stand in one table: they differ in method and seed alone."""

    benchmark: Json
    tasks: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def receipt(self) -> Json:
        """The receipt of its first finished run, or of its first."""
        return (self.done or list(self.records))[0].receipt

    @property
    def done(self) -> list[Record]:
        """Its finished runs, reference rows left out."""
        return [r for r in self.records if r.status == "done" and r.kind == "method"]


def suites(records: Sequence[Record]) -> list[Suite]:
    """Sort records into suites; reference rows join every suite that differs from theirs in training alone.

    Raises:
        UserError: a suite would hold two different runs of one method with one seed.
    """
    settings: dict[str, Json] = {}  # validating a benchmark takes a while, and most records have the same
    found: dict[str, list[Record]] = {}
    for record in records:
        if record.kind == "method":
            text = json.dumps(record.setup["benchmark"], sort_keys=True)
            if text not in settings:
                settings[text] = essential({"benchmark": record.setup["benchmark"]})["benchmark"]
            setup = {k: v for k, v in record.setup.items() if k not in ("method", "code", "seed", "benchmark")}
            code = record.setup.get("code", {}).get("training")
            key = [setup, settings[text], code, record.receipt.get("device")]
            found.setdefault(json.dumps(key, sort_keys=True), []).append(record)
    references = [(without_training(r.setup), r) for r in records if r.kind == "reference"]
    made = []
    for members in found.values():
        wanted = without_training(members[0].setup)
        members += [record for setup, record in references if setup == wanted]
        first = members[0].setup
        made.append(
            Suite(in_todays_words(first["benchmark"]), tuple(first["tasks"]), tuple(_one_each(_by_source(members))))
        )
    return made


def _by_source(records: list[Record]) -> list[Record]:
    """Name the versions of a method's source, where its runs come from more than one: each is a row of its own."""
    digests: dict[str, dict[str, set[str]]] = {}  # by method and part

    def parts(record: Record) -> dict[str, str]:
        code = record.setup.get("code", {})
        return {part: str(code.get(part, "unknown"))[:7] for part in ("architecture", "balancer")}

    for record in records:
        for part, digest in parts(record).items():
            digests.setdefault(record.method, {}).setdefault(part, set()).add(digest)
    named = []
    for record in records:
        version = "+".join(d for part, d in parts(record).items() if len(digests[record.method][part]) > 1)
        apart = version and record.kind == "method"
        named.append(replace(record, method=f"{record.method} (source {version})") if apart else record)
    return named


def _one_each(records: list[Record]) -> list[Record]:
    kept: dict[tuple[str, int], Record] = {}
    for record in records:
        other = kept.setdefault((record.method, record.seed), record)
        if (other.status, other.metrics) != (record.status, record.metrics) and record.kind == "method":
            raise UserError(
                f"There are two different runs of {record.method} with seed {record.seed} for the same benchmark; keep"
                " copies of records under another --results folder."
            )
    return list(kept.values())


def apart(suite: Suite, other: Suite) -> list[str]:
    """List why two suites may not share a table, as `benchmark.train.steps: 300 there, 500 now`."""
    first, second = suite.records[0], other.records[0]
    unlike = [
        line.replace(" there, ", " above, ").removesuffix(" now") + " here"
        for line in differences(first.setup, second.setup)
        if not re.match(r"(method|seed|code)\b(?!\.training)", line)
    ]
    devices = [record.receipt.get("device") for record in (first, second)]
    return unlike + ([f"device: {devices[0]} above, {devices[1]} here"] if devices[0] != devices[1] else [])
