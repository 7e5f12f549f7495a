"""The table of `mtlbench list settings`."""

from __future__ import annotations

_MUST_BE_SET = "(must be set)"


def rows() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the headings, and a line for each setting."""
    from mtlbench.settings import settings

    lines = [(s.key, s.default or _MUST_BE_SET, s.valid, s.meaning) for s in settings()]
    return ("setting", "default", "valid values", "what it is"), list(lines)
