"""Runs on a table's data that are not in the table, but that its results folder holds or once held."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mtlbench.errors import UserError, counted
from mtlbench.names import joined
from mtlbench.report.receipt import Line
from mtlbench.report.suites import Suite
from mtlbench.runs import Json, Record, changes, decisive, read_record, record_folders
from mtlbench.runs.tried import read_tried

_NAMED = 6  # of a kind; the others are counted


@dataclass(frozen=True)
class _Run:
    """A run by what decides its result.

    Attributes:
        method: its name; recipe: all that was set of it, as text.
        protocol: the benchmark's settings, without its name; key: they as text.
    """

    method: str
    recipe: str
    seed: int | None
    tasks: tuple[str, ...]
    key: str
    rest: str
    protocol: Json

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for two runs that are the same."""
        return self.method, self.recipe, self.seed, self.tasks, self.key, self.rest


def tried_line(suite: Suite, shown: Sequence[Record], results: Path) -> Line | None:
    """Say what else was tried on the data of a table, from what the tool noted and from the records there.

    Args:
        suite: of the table.
        shown: its records that have a row.
        results: the folder of all records.

    Returns:
        None where the folder holds nothing else and was made before runs were noted, and no task was left out.
    """
    name = str(suite.receipt.get("data", {}).get("name"))
    noted = read_tried(results)
    read = _Reader()
    held = {
        run.identity: run
        for run in read.runs(
            r.setup
            for r in _records(results)
            if r.kind == "method" and str(r.receipt.get("data", {}).get("name")) == name
        )
    }
    began = {run.identity: run for run in read.runs(tried.setup for tried in noted or () if tried.dataset == name)}
    rows = list(read.runs(r.setup for r in shown if r.kind == "method"))
    in_table = {run.identity for run in rows}
    others = [run for identity, run in (held | began).items() if identity not in in_table]
    if not rows:
        return None
    own = suite.benchmark["data"].get("tasks") or []
    left_out = [task for task in own if task not in suite.tasks]
    said = [f"of the benchmark's own tasks, not in this table: {', '.join(left_out)}"] if left_out else []
    if others:
        said.append(f"on {name}, this results folder also has {'; '.join(_kinds(rows, others, suite, held))}")
    elif noted is not None:
        said.append(f"nothing else on {name} in this results folder")
    if not said:
        return None
    brief = f"Not in this table: {', '.join(left_out)}, of the benchmark's own tasks." if left_out else ""
    if others:
        brief += f"{' ' if brief else ''}Tried on the same data and not shown: {counted(len(others), 'run')}, which"
        brief += " --notes lists."
    return Line("tried", f"{'. '.join(s[0].upper() + s[1:] if i else s for i, s in enumerate(said))}.", brief)


def _records(results: Path) -> Iterable[Record]:
    """Yield all records of a folder; one that can't be read is no concern of a table that it is not in."""
    for folder in record_folders(results):
        with suppress(UserError):
            record = read_record(folder)
            if record is not None:
                yield record


def _kinds(rows: Sequence[_Run], others: Sequence[_Run], suite: Suite, held: Iterable[object]) -> list[str]:
    """Say what the runs are that are not in the table, kind by kind."""
    protocols, names = {run.key for run in rows}, {run.method for run in rows}
    alike = [run for run in others if run.key in protocols and run.tasks == suite.tasks]
    said = [f"{len(others):,} run{'s' * (len(others) > 1)} that the table leaves out"]
    methods = dict.fromkeys(run.method for run in alike if run.method not in names)
    if methods:
        said.append(f"methods not shown: {joined(list(methods), _NAMED)}")
    again = [run for run in alike if run.method in names]
    if again:
        who = joined(list(dict.fromkeys(run.method for run in again)), _NAMED)
        said.append(f"other seeds, recipes or sources of {who}: {len(again)}")
    tasks = dict.fromkeys(run.tasks for run in others if run.tasks != suite.tasks)
    if tasks:
        sizes = joined([str(size) for size in sorted({len(one) for one in tasks})], _NAMED)
        said.append(f"{counted(len(tasks), 'other set')} of tasks, of {sizes}")
    unlike = {run.key: run.protocol for run in others if run.key not in protocols}
    if unlike:
        keys = [
            change.key.removeprefix("benchmark.")
            for protocol in unlike.values()
            for change in changes({"benchmark": rows[0].protocol}, {"benchmark": protocol})
        ]
        many = f"{len(unlike)} other protocol{'s' * (len(unlike) > 1)}"
        said.append(f"{many}, which differ{'s' * (len(unlike) == 1)} in {joined(list(dict.fromkeys(keys)), _NAMED)}")
    kept = set(held)
    gone = sum(run.identity not in kept for run in others)
    if gone:
        said.append(f"{gone:,} of all these left no record: removed, replaced or not finished")
    return said


class _Reader:
    """Reads setups; those of one protocol, of which most are, are brought into today's words once."""

    def __init__(self) -> None:
        self.protocols: dict[str, Json] = {}

    def runs(self, setups: Iterable[Json]) -> Iterable[_Run]:
        """Yield the runs of setups."""
        for setup in setups:
            text = json.dumps(setup["benchmark"], sort_keys=True)
            if text not in self.protocols:
                settings = decisive({"benchmark": setup["benchmark"]})["benchmark"]
                self.protocols[text] = {key: value for key, value in settings.items() if key != "name"}
            protocol = self.protocols[text]
            rest = {key: setup.get(key) for key in ("code", "data", "precision")}
            yield _Run(
                str(setup["method"]["name"]),
                json.dumps({k: v for k, v in setup["method"].items() if v is not None}, sort_keys=True),
                setup.get("seed"),  # of older records
                tuple(setup["tasks"]),
                json.dumps(protocol, sort_keys=True),
                json.dumps(rest, sort_keys=True),
                protocol,
            )
