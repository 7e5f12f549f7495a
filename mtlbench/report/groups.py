"""Which groups of methods (`core`, …) a table's methods are in, from what their records say."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench.errors import UserError
from mtlbench.runs import Record


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
