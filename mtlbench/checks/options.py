"""Checks that users can set a method's options, and that `mtlbench tune` can vary those that `search` names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mtlbench.checks.items import Fault
from mtlbench.errors import FAULTS, counted, did_you_mean
from mtlbench.names import joined
from mtlbench.options import checked, show
from mtlbench.recipes import Range, Where
from mtlbench.registry import Entry

ITEM = "its options have types and defaults, and search fits them"


def options_fit(
    kind: str, entry: Entry[Any], given: Mapping[str, Any], build: Callable[[dict[str, Any]], object]
) -> str:
    """Check the options of a class, and build it with the values that tuning would try.

    Args:
        kind: what it is.
        entry: the class.
        given: options that the user has set, which tuning leaves alone.
        build: builds it with some options.

    Raises:
        Fault: an option without a type or default, or a search that it can't carry out.
    """
    try:
        signature = inspect.signature(entry.target, eval_str=True)
    except NameError as error:
        raise Fault(
            "types of options that Python can read", str(error), "import it there, not under `if TYPE_CHECKING:`"
        ) from error
    options = {p.name: p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    for name, option in options.items():
        for what, found in (("a type", option.annotation), ("a default", option.default)):
            if found is inspect.Parameter.empty:
                raise Fault(f"{what} for the option {name}", "none", f"write it as {name}: float = 0.5")
    for name, where in entry.target.search.items():
        if name not in options:
            raise Fault(
                "search to name options of the class", f"'{name}'.{did_you_mean(name, options)}",
                f"it has: {joined(list(options))}" if options else "it has none",
            )  # fmt: skip
        for value in _values(where) if name not in given else ():
            try:
                build(checked(kind, entry, {name: value}))
            except FAULTS as error:  # a method may fail in any way
                raise Fault(
                    f"to be built with {show({name: value})[1:-1]}, which its search holds", str(error),
                    "let search hold values that the option takes: Range(1, 8) is of whole numbers",
                )  from error  # fmt: skip
    return counted(len(options), "option")


def _values(where: Where) -> Iterator[Any]:
    """Yield what tuning may try: the ends of a range and a number between, or all values."""
    if isinstance(where, Range):
        yield from (where.low, where.high)
        if not where.whole:
            yield where.low + 0.37 * (where.high - where.low)
    else:
        yield from where
