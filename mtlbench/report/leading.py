"""The leaders of a column: the best method, and all whose intervals reach its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtlbench.names import joined


@dataclass(frozen=True)
class Span:
    """A value, and the ends of its interval, in any unit; they are the value itself where it is exact."""

    low: float
    middle: float
    high: float

    @staticmethod
    def around(middle: float, half: float = 0.0) -> Span:
        """Return an interval of equal halves; one that isn't known (nan) is none."""
        half = half if half > 0 else 0.0
        return Span(middle - half, middle, middle + half)


def leading(spans: Mapping[str, Span], highest: bool = True) -> list[str]:
    """Return the name of the highest value and all names whose interval reaches its own, the best first.

    With `highest=False`, of the lowest. Equal values are both named. Nothing of nothing.

    >>> leading({"a": Span.around(10, 2), "b": Span.around(13, 2), "c": Span.around(5)})
    ['b', 'a']
    >>> leading({"a": Span.around(10), "b": Span.around(10), "c": Span.around(11)}, highest=False)
    ['a', 'b']
    """
    sign = 1 if highest else -1
    order = sorted(spans, key=lambda name: -sign * spans[name].middle)
    if not order:
        return []
    first = spans[order[0]]
    return [n for n in order if (spans[n].high >= first.low if highest else spans[n].low <= first.high)]


def listed_with(names: Sequence[str], texts: Mapping[str, str]) -> str:
    """Join names, each followed by its text, or all by one text that they share; of many, the first four.

    >>> listed_with(["a", "b"], {"a": "2.83 MB", "b": "2.83 MB"}), listed_with(["a", "b"], {"a": "3 MB", "b": "4 MB"})
    ('a and b, 2.83 MB', 'a 3 MB and b 4 MB')
    """
    said = list(dict.fromkeys(texts[name] for name in names))
    if len(said) == 1:
        return f"{joined(names, 4)}, {said[0]}"
    return joined([f"{name} {texts[name]}" for name in names], 4)
