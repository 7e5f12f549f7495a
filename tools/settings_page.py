"""Writes docs/settings.md, the page of every setting, from the descriptions in the code.

python tools/settings_page.py
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from mtlbench.settings import Setting, section_meanings, settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
_HEAD = """# Settings

Every key that a benchmark's TOML file may set, and `--set key=value` on the command line. `mtlbench list settings`
prints the same. A key without a default must be set. Options of a reader, loss or other part that is chosen by name
stand with that part.

<!-- made by tools/settings_page.py; edit the descriptions in mtlbench/benchmark.py instead -->
"""


def page() -> str:
    """Return the page, with a table for each section."""
    meanings = section_meanings()
    parts = [_HEAD]
    for name, found in groupby(settings(), key=_section):
        title = f"[{name}]" if name else "The benchmark itself"
        lines = ["| key | what it is | default | valid values |", "|---|---|---|---|", *map(_row, found)]
        parts.append("\n".join([f"## {title}", "", meanings[name], "", *lines]) + "\n")
    return "\n".join(parts)


def _section(setting: Setting) -> str:
    return setting.key.split(".")[0] if "." in setting.key else ""


def _row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else ""
    cells = (f"`{setting.key}`", setting.meaning, default, setting.valid)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
