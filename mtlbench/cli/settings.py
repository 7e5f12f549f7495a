"""The table of `mtlbench list settings`."""

from __future__ import annotations

from collections.abc import Sequence

_MUST_BE_SET = "(must be set)"


def settings_lines() -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return the headings, and a line for each setting."""
    from mtlbench.settings import settings

    lines: list[Sequence[str]] = [(s.key, s.default or _MUST_BE_SET, s.valid, s.meaning) for s in settings()]
    return ("setting", "default", "valid values", "what it is"), lines
