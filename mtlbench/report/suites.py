"""Which runs may share a table: suites of records that differ in method, seed and named factors alone.

Runs that differ in protocol, tasks, data, precision or device go into suites of their own, unless what they differ in
is named as a factor: then each row is named by its values. Runs of one method that ran from different versions of its
source get names of their own, so that nobody averages them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from mtlbench.errors import UserError, did_you_mean
from mtlbench.names import joined
from mtlbench.report.groups import bases_of
from mtlbench.runs import Change, Json, Record, changes, decisive, in_todays_words, without_training

# Settings that say how to compute, and where a setup holds what came of them on the run's device.
_COMPUTING = {"train.precision": "precision", "train.compile": "compiled", "train.deterministic": "deterministic"}
_APART = ("method", "code", "seed", "benchmark", "threads")  # of a setup; the device's name has its threads
_LOSS = "loss.name"
_FACTOR_KINDS = {  # which plug-ins a setting names
    _LOSS: "loss",
    "model.backbone": "backbone",
    "train.sampling": "sampler",
    "train.augment": "augmentation",
    "evaluation.metrics": "metric",
}
Values = tuple[tuple[str, Any], ...]  # a row's factors with their values
RECIPE = ("recipe", "tuned")  # of a row whose runs have a recipe, as if that were a factor


@dataclass(frozen=True)
class Suite:
    """Records that may share a table: they differ in method, seed and `factors` alone.

    Attributes:
        benchmark: the settings, in today's words; of the first record where they differ in factors.
        records: each called by the name of its row: `modulation · loss.margin=0.2`.
        factors: the settings that differ between its runs, as `loss.margin`.
        values: of the factors, by row; nothing for rows that no factor concerns.
        sources: rows that hold one version of a method's source, where its runs came from several.
    """

    benchmark: Json
    tasks: tuple[str, ...]
    records: tuple[Record, ...]
    factors: tuple[str, ...] = ()
    values: dict[str, Values] = field(default_factory=dict)
    sources: frozenset[str] = frozenset()

    @property
    def receipt(self) -> Json:
        """The receipt of its first finished run, or of its first."""
        return (self.done or list(self.records))[0].receipt

    @property
    def done(self) -> list[Record]:
        """Its finished runs, reference rows left out."""
        return [r for r in self.records if r.status == "done" and r.kind == "method"]

    @property
    def title(self) -> str:
        """What its tables, captions and headings call it: the benchmark's title, and its own name."""
        title, name = str(self.benchmark["title"]), str(self.benchmark["name"])
        drawn = " (rendered images, not real ones)" if self.rendered else ""
        own = "" if title == name.removesuffix("-quick") else f" ({name})"
        return f"{title}{drawn}{', quick protocol' if self.quick else ''}{own}"

    @property
    def quick(self) -> bool:
        """Whether its runs were made under the quick protocol."""
        return bool(self.benchmark["protocol"] == "quick")

    @property
    def rendered(self) -> bool:
        """Whether its images are drawn, not real."""
        return bool(self.receipt.get("data", {}).get("rendered"))

    @cached_property
    def bases(self) -> tuple[str, ...]:
        """The methods that Δm may be relative to, finished or not; see `bases_of`."""
        return bases_of(self.records)

    @cached_property
    def configurations(self) -> dict[str, str]:
        """What each row with a finished run was trained as, seeds aside; equal of rows that are the same run twice."""
        found: dict[str, str] = {}
        for record in self.done:
            if record.method not in found:
                factors = [value for value in self.values.get(record.method, ()) if value != RECIPE]
                found[record.method] = json.dumps([_trained_as(record), factors], sort_keys=True)
        return found

    def again(self, rows: Sequence[str]) -> dict[str, str]:
        """Return the rows of some that are another one of them again, each with that one.

        Such is a tuned row whose recipe is the default, beside the row by default: `shared · tuned` and `shared`. The
        one with more finished runs stands for both; of equals, the one without a recipe.
        """
        seeds = [record.method for record in self.done]
        order = sorted(
            (row for row in rows if row in self.configurations),
            key=lambda row: (-seeds.count(row), RECIPE in self.values.get(row, ())),
        )
        first: dict[str, str] = {}
        for row in order:
            first.setdefault(self.configurations[row], row)
        return {row: first[self.configurations[row]] for row in order if first[self.configurations[row]] != row}

    @property
    def base(self) -> str:
        """The method that Δm is relative to; empty where there is none, or no telling which."""
        return self.bases[0] if len(self.bases) == 1 else ""

    def row_of(self, method: str, row: str) -> str:
        """Return the row of a method that has the values which another row has.

        Where only one of the two has a recipe, it is the one that there is.
        """
        values = self.values.get(row, ())
        rest = tuple(value for value in values if value != RECIPE)
        names = [row_name(method, found) for found in (values, rest, (RECIPE, *rest))]
        there = {record.method for record in self.records}
        return next((name for name in names if name in there), names[0])


def row_name(method: str, values: Values) -> str:
    """Name a row by its method, and by its factors where there are any: `modulation · loss.margin=0.2`."""
    return " · ".join([method, *(v if (k, v) == RECIPE else f"{k}={_shown(v)}" for k, v in values)])


def has_recipe(record: Record) -> bool:
    """Return whether a run was made with a recipe of its method's own."""
    return record.kind == "method" and record.setup["method"].get("recipe") is not None


def _trained_as(record: Record) -> Json:
    """Return what decides a run beside its seed and what all runs of a suite have in common, its recipe dissolved."""
    method = {key: value for key, value in record.setup["method"].items() if key != "recipe"}
    code = record.setup.get("code", {})
    recipe = record.setup["method"].get("recipe") or {}
    changed = {section: recipe[section] for section in ("train", "loss") if recipe.get(section)}
    if changed:
        settings = in_todays_words(record.setup["benchmark"])
        changed = {
            section: {key: value for key, value in values.items() if settings.get(section, {}).get(key) != value}
            for section, values in changed.items()
        }
    return {
        "method": method,
        "code": {part: code.get(part) for part in ("architecture", "balancer")},
        "changed": {section: values for section, values in changed.items() if values},
    }


def by_recipe(records: Sequence[Record], which: str) -> list[Record]:
    """Return the records of `plain` runs, of `tuned` ones, or of `both`.

    With `tuned`, a method that has no run with a recipe has its plain ones.
    """
    if which == "both":
        return list(records)
    names = {str(r.setup["method"]["name"]) for r in records if has_recipe(r)} if which == "tuned" else set()
    return [r for r in records if r.kind != "method" or has_recipe(r) == (r.setup["method"]["name"] in names)]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def suites(records: Sequence[Record], across: Sequence[str] = ()) -> list[Suite]:
    """Sort records into suites; reference rows join every suite that differs from theirs in training alone.

    Args:
        records: of any benchmarks.
        across: settings in which the runs of a suite may differ, such as `loss.margin`.

    Raises:
        UserError: a suite would hold two different runs of one method with one seed, or no run has such a setting.
    """
    records = [_with_device(record) for record in records]
    settings: dict[str, Json] = {}  # validating a benchmark takes a while, and most records have the same

    computing = [key for key in across if key in _COMPUTING]

    def decisive_settings(record: Record) -> Json:
        came = {key.removeprefix("train."): record.setup.get(_COMPUTING[key], False) for key in computing}
        if "compile" in came:
            came["compile"] = "on" if came["compile"] else "off"
        text = json.dumps([record.setup["benchmark"], came], sort_keys=True)
        if text not in settings:
            found = decisive({"benchmark": record.setup["benchmark"]})["benchmark"]
            settings[text] = {**found, "train": {**found.get("train", {}), **came}} if came else found
        return settings[text]

    methods = [record for record in records if record.kind == "method"]
    ambiguous = _several_options([decisive_settings(record) for record in methods]) if _LOSS in across else frozenset()
    found: dict[str, list[Record]] = {}
    for record in methods:
        setup = {k: v for k, v in record.setup.items() if k not in (*_APART, *(_COMPUTING[key] for key in computing))}
        shared = _without(decisive_settings(record), across)
        if _LOSS in across and _value(decisive_settings(record), _LOSS) not in ambiguous:
            shared = {k: v for k, v in shared.items() if k != "loss"}  # its options come with it
        key = [setup, shared, _shared_code(record, across), record.receipt.get("device")]
        found.setdefault(json.dumps(key, sort_keys=True), []).append(record)
    _check_known(across, list(settings.values()))
    references = [(_reference_setup(r, across), r) for r in records if r.kind == "reference"]
    made = []
    for members in found.values():
        first = members[0].setup
        wanted = _reference_setup(members[0], across)
        joining = [record for setup, record in references if setup == wanted]
        split = not _agree(joining)  # else they join once, whatever the factors
        factors = tuple(key for key in across if len({_shown(_value(decisive_settings(r), key)) for r in members}) > 1)
        named, sources = _by_source([*members, *joining])
        values: dict[str, Values] = {}
        rows = []
        for record in named:
            if record.kind == "method":
                own = tuple((key, _value(decisive_settings(record), key)) for key in factors)
                own = (RECIPE, *own) if has_recipe(record) else own
            else:
                judged = without_training(record.setup)["benchmark"]
                own = tuple((key, _value(judged, key)) for key in factors if split and _has(judged, key))
            name = row_name(record.method, own)
            if own:
                values[name] = own
            if record.method in sources:
                sources = sources | {name}
            rows.append(replace(record, method=name))
        tasks, benchmark = tuple(first["tasks"]), in_todays_words(first["benchmark"])
        made.append(Suite(benchmark, tasks, tuple(_one_each(rows)), factors, values, sources))
    return made


def _with_device(record: Record) -> Record:
    """Return a record with its device in today's words: early ones have "1 threads", which is no other device."""
    device = record.receipt.get("device")
    if not isinstance(device, str) or not device.endswith(", 1 threads"):
        return record
    return replace(record, receipt=record.receipt | {"device": device.removesuffix("s")})


def _several_options(settings: Sequence[Json]) -> frozenset[str]:
    """Return the losses that runs have used with more than one set of options."""
    options: dict[str, set[str]] = {}
    for one in settings:
        loss = one.get("loss", {})
        options.setdefault(str(loss.get("name")), set()).add(json.dumps(loss, sort_keys=True))
    return frozenset(name for name, sets in options.items() if len(sets) > 1)


def _shared_code(record: Record, across: Sequence[str]) -> Json:
    """Return the digests of plug-ins that the runs of a suite must have in common: not of what they may differ in."""
    kinds = {_FACTOR_KINDS[key] for key in across if key in _FACTOR_KINDS}
    code = record.setup.get("code", {})
    return {k: v for k, v in code.items() if k not in ("architecture", "balancer") and k.partition(" ")[0] not in kinds}


def _agree(references: Sequence[Record]) -> bool:
    """Return whether reference records of one name and seed all have the same metrics."""
    kept: dict[tuple[str, int], Any] = {}
    return all(kept.setdefault((r.method, r.seed), r.metrics) == r.metrics for r in references)


def _has(settings: Json, key: str) -> bool:
    section: Any = settings
    for part in key.split("."):
        if not isinstance(section, dict) or part not in section:
            return False
        section = section[part]
    return True


def _value(settings: Json, key: str) -> Any:
    """Return the value of a dotted key; None where there is none."""
    section: Any = settings
    for part in key.split("."):
        section = section.get(part) if isinstance(section, dict) else None
    return section


def _without(settings: Json, keys: Sequence[str]) -> Json:
    """Return settings without some, by their dotted keys."""
    kept = copy.deepcopy(settings) if keys else settings
    for key in keys:
        *above, last = key.split(".")
        section: Any = kept
        for part in above:
            section = section.get(part, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict):
            section.pop(last, None)
    return kept


def _reference_setup(record: Record, across: Sequence[str]) -> Json:
    setup = without_training(record.setup)
    code = {} if "model.backbone" in across else setup["code"]  # the rows of every backbone join then
    return setup | {"benchmark": _without(setup["benchmark"], across), "code": code}


def _check_known(across: Sequence[str], settings: Sequence[Json]) -> None:
    def keys(section: Json, above: str = "") -> list[str]:
        found = []
        for key, value in section.items():
            found += [above + key, *(keys(value, f"{above}{key}.") if isinstance(value, dict) else [])]
        return found

    known = list(dict.fromkeys(key for one in settings for key in keys(one)))
    for key in across:
        if settings and key not in known:
            raise UserError(f"No run has the setting '{key}'.{did_you_mean(key, known)}")


def _by_source(records: list[Record]) -> tuple[list[Record], frozenset[str]]:
    """Name the versions of a method's source, where its runs come from more than one: each is a row of its own.

    Returns:
        the records, and the names that tell versions apart.
    """
    digests: dict[str, dict[str, set[str]]] = {}  # by method and part

    def parts(record: Record) -> dict[str, str]:
        code = record.setup.get("code", {})
        return {part: str(code.get(part, "unknown"))[:7] for part in ("architecture", "balancer")}

    for record in records:
        for part, digest in parts(record).items():
            digests.setdefault(record.method, {}).setdefault(part, set()).add(digest)
    named, versions = [], set()
    for record in records:
        version = "+".join(d for part, d in parts(record).items() if len(digests[record.method][part]) > 1)
        if version and record.kind == "method":
            record = replace(record, method=f"{record.method} (source {version})")
            versions.add(record.method)
        named.append(record)
    return named, frozenset(versions)


def _one_each(records: list[Record]) -> list[Record]:
    kept: dict[tuple[str, int], Record] = {}
    for record in records:
        other = kept.setdefault((record.method, record.seed), record)
        if (other.status, other.metrics) != (record.status, record.metrics) and record.kind == "method":
            places = f", {other.folder} and {record.folder}" if other.folder and record.folder else ""
            raise UserError(
                f"There are two different runs of {record.method} with seed {record.seed} for the same benchmark"
                f"{places}: keep copies of records under another --results folder."
            )
    return list(kept.values())


def differing_settings(suite: Suite, other: Suite) -> list[Change]:
    """List the settings for which two suites may not share a table."""
    first, second = suite.records[0], other.records[0]
    factors = {*suite.factors, *other.factors}
    found = [
        change
        for change in changes(first.setup, second.setup)
        if change.path[0] not in ("method", "seed")
        and (change.path[0] != "code" or change.path[1:] == ("training",))
        and ".".join(change.path[1:]) not in factors
    ]
    devices = [record.receipt.get("device") for record in (first, second)]
    return found + ([Change(("device",), *devices)] if devices[0] != devices[1] else [])


def joining(found: Sequence[Change]) -> list[str]:
    """Return the factors with which suites that differ in these settings share a table; none where they never do."""
    own = all(change.path[0] == "benchmark" and len(change.path) > 2 for change in found)
    return [change.key.removeprefix("benchmark.") for change in found] if own else []


def apart(found: Sequence[Suite]) -> list[str]:
    """Return, for each suite, the settings in which others of its benchmark's name differ; empty where none do."""
    said = []
    for suite in found:
        alike = [other for other in found if other.benchmark["name"] == suite.benchmark["name"]]
        unlike = {change.key: change for other in alike for change in differing_settings(suite, other)}
        said.append(joined([f"{key.removeprefix('benchmark.')} {c.old}" for key, c in unlike.items()], 3))
    return said


def in_words(found: Sequence[Change]) -> str:
    """Write the settings in which two tables differ: `benchmark.train.steps: 300 above, 500 here`."""
    return "; ".join(f"{change.key}: {change.old} above, {change.new} here" for change in found)
