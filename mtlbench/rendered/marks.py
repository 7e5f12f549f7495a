"""Tells rendered sets from photographs, by `rendered.json` and by identities and brands that no real set has.

The module imports nothing that draws: readers use it for every data set.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from mtlbench.data.table import Table

FACTS = "rendered.json"
DRAWING = 1  # raised when the same settings begin to give other pictures
# the path of a picture below the set's folder, even if someone has sorted the pictures; other photos have other names
_PICTURE = re.compile(r"(img_align_celeba|ut-zap50k-images)/(.+/)?\d{6,}(\.\d+)?\.\w+")
FIRST_IDENTITY = 900001  # of rendered faces; CelebA's own end at 10177
BRANDS = ("Rendered A", "Rendered B", "Rendered C%2E", "Rendered D & Sons", "Rendered E's")  # of rendered shoes


def rendered_facts(table: Table) -> dict[str, str | int | float]:
    """Return how a table's images were drawn: `what`, `images`, `seed`, `conflict`, `drawing`; or {}.

    The file with these facts is beside the folder of images. It counts for these images only, whatever reader made the
    table, and not for other images below its folder.
    """
    first = table.root / table.paths[0] if table.paths else table.root
    for folder in first.parents:
        if not _PICTURE.fullmatch(first.relative_to(folder).as_posix()):
            continue
        try:
            facts = json.loads((folder / FACTS).read_text())
        except (OSError, ValueError):
            continue
        return facts if isinstance(facts, dict) else {}
    return {}


def as_rendered(table: Table) -> Table:
    """Return the table; if this project drew its images, mark it as rendered, with the conflict in its name."""
    facts = rendered_facts(table)
    if not facts:
        return table
    name = table.name if "rendered" in table.name else f"rendered {facts.get('what', table.name)}"
    if facts.get("conflict"):
        name += f", conflict {facts['conflict']:g}"
    return replace(table, name=name, rendered=True)
