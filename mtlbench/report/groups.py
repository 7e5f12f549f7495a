"""Which groups of methods (`core`, `base`, …) a table's methods are in, from what their records say.

The group `base` holds the method that others' gains are measured against: a network for each task.
"""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench.errors import UserError
from mtlbench.runs import Record

BASE, CORE = "base", "core"  # the groups that tables and figures ask for


def groups_of(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Return the groups of every method that has records, by its own name (tables may add to that).

    Records of mtlbench 0.1 don't say their groups: these are looked up among the methods of this machine, which takes
    some seconds. Where methods can't be loaded, there are none.
    """
    found: dict[str, tuple[str, ...]] = {}
    unsaid = []
    for record in records:
        name = str(record.setup["method"]["name"])
        if record.kind == "reference":
            found[name] = ()
        elif "groups" in record.receipt:
            found[name] = tuple(record.receipt["groups"])
        else:
            unsaid.append(name)
    missing = [name for name in dict.fromkeys(unsaid) if name not in found]
    return found | (_looked_up(missing) if missing else {})


def _looked_up(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    try:
        from mtlbench.plugins import load_plugins
        from mtlbench.specs import groups_of as registered_groups_of

        load_plugins()
        return {name: tuple(registered_groups_of(name)) for name in names}
    except (ImportError, UserError, OSError):  # records are read on machines that can't train
        return dict.fromkeys(names, ())


def recorded(record: Record, group: str) -> bool:
    """Return whether a run says that its method is in a group; only the plain method is, whatever its options."""
    name = str(record.setup["method"]["name"])
    return record.kind == "method" and group in record.receipt.get("groups", ()) and "[" not in name


def bases_of(records: Sequence[Record]) -> tuple[str, ...]:
    """Return the methods that Δm may be relative to: those of the group `base`, by their own names.

    Records of mtlbench 0.1 don't say their groups. Where none says that it is in `base`, it is the method that is seen
    to have a network for each task: it shares no parameter, and to embed under T tasks takes T times as much as under
    one.
    """
    said = {str(r.setup["method"]["name"]) for r in records if recorded(r, BASE)}
    return tuple(sorted(said or {str(r.setup["method"]["name"]) for r in records if _separate(r)}))


def _separate(record: Record) -> bool:
    name, costs = str(record.setup["method"]["name"]), record.costs
    if record.kind != "method" or set("[+") & set(name) or costs.get("parameters_shared") != 0:
        return False
    one = costs.get("flops_one_task") or 0.0
    return bool(one > 0 and costs.get("flops_all_tasks") == len(record.setup["tasks"]) * one)
