"""The kinds of rendered sets.

The code that draws a kind is loaded only when a set is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Renderer(Protocol):
    """Writes a set of `count` images to an empty folder; see `render_shoes`, `render_faces`."""

    def __call__(
        self,
        root: Path,
        count: int,
        seed: int = 0,
        width: int = ...,
        height: int = ...,
        progress: Callable[[int], None] | None = None,
        conflict: float = 0.0,
    ) -> None:
        """Write the set."""


@dataclass(frozen=True)
class Kind:
    """One kind of rendered set; a benchmark of the same name draws it.

    Attributes:
        renderer: loads the function that draws a set.
        example: a task that is worth a look.
    """

    renderer: Callable[[], Renderer]
    example: str


def _shoes() -> Renderer:
    from mtlbench.rendered import shoes

    return shoes.render_shoes


def _faces() -> Renderer:
    from mtlbench.rendered import faces

    return faces.render_faces


KINDS = {"shoes": Kind(_shoes, "closure"), "faces": Kind(_faces, "Smiling")}
