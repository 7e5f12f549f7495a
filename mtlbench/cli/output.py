"""Standard output and error: no text written to them ends a command, whatever their encoding."""

from __future__ import annotations

import codecs
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from mtlbench.errors import LeftOut
from mtlbench.names import printable

# what stands for signs that an encoding lacks; "?" would be a mark of its own, undecided
_PLAIN = {
    "≈": "~", "±": "+-", "Δ": "d", "·": "*", "×": "x", "–": "-", "—": "-", "−": "-", "…": "...", "²": "^2", "≥": ">=",
    "≤": "<=", "✓": "+", "✗": "x", "€": "EUR", "’": "'", "‘": "'", "“": '"', "”": '"', "•": "*", "°": "deg", "µ": "u",
    "→": "->", "█": "#", "━": "-", "╸": "-", "╺": "-", "─": "-", "│": "|", "�": "_",
}  # fmt: skip


def _in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_PLAIN.get(letter, "_") for letter in lost), error.end


def fit_streams() -> None:
    """Replace characters that standard output and error can't encode by plain ones: `≈` as `~` under cp1252, 高 as
    `_`."""
    codecs.register_error("mtlbench", _in_plain_signs)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="mtlbench")


@contextmanager
def telling_what_is_left_out() -> Iterator[None]:
    """Show each warning once, as a line on standard error: what is left out, and plug-ins' own warnings."""
    told: set[str] = set()
    with warnings.catch_warnings():

        def show(message: Warning | str, category: type[Warning], *rest: object, **more: object) -> None:
            words = " ".join(str(message).split())
            if not issubclass(category, LeftOut):
                words = f"{category.__name__}: {words} ({':'.join(map(str, rest[:2]))})"
            if words not in told:
                told.add(words)
                print(f"warning: {printable(words)}", file=sys.stderr)

        warnings.simplefilter("always", LeftOut)
        warnings.showwarning = show
        yield
