"""Figures of a suite, from run records alone: PNG, SVG and PDF, readable at a column's width.

Nothing here trains or loads an image. A figure whose data no run has is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlbench.report.figures import accuracy, learned, sharing, storage, tuning
from mtlbench.report.figures.scene import Scene
from mtlbench.report.figures.style import Drawing, head_share, settle, styled
from mtlbench.report.suites import Suite

FORMATS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Figure:
    """One figure that was written: the stem of its files' names, its heading, of what it is, and what it shows.

    Attributes:
        says: one sentence that says what it shows of these data.
        head: which share of its height, from the top, its title takes.
    """

    stem: str
    heading: str
    where: str
    alt: str
    says: str = ""
    head: float = 0.0

    @property
    def title(self) -> str:
        """Its heading, and of what it is."""
        return f"{self.heading}. {self.where}"


def draw_all(suite: Suite, results: Path, folder: Path, formats: Sequence[str] = FORMATS) -> list[Figure]:
    """Write every figure that a suite has the data for; return them in the order in which to show them.

    Files' names don't say which suite they are of: give each suite a folder of its own.

    Args:
        suite: whose methods are compared.
        results: where its runs' folders lie.
        folder: where files go, made if need be; those of the same names are replaced.
        formats: endings, such as those of `FORMATS`.

    Raises:
        UserError: a file in a run's folder can't be read.
    """
    return draw_scene(Scene.of(suite, results), folder, formats)


def draw_scene(
    scene: Scene, folder: Path, formats: Sequence[str] = FORMATS, booklet: Path | None = None
) -> list[Figure]:
    """Do what `draw_all` does for a suite that is set up already.

    Args:
        scene, folder, formats: see `draw_all`.
        booklet: a PDF of all figures, a page each. It takes a fraction of the time of a PDF each, most of which goes
            into embedding the fonts.
    """
    return write(_drawings(scene), folder, formats, booklet)


def write(
    drawings: Iterable[Drawing], folder: Path, formats: Sequence[str] = FORMATS, booklet: Path | None = None
) -> list[Figure]:
    """Write drawings as `draw_scene` does. They are made within: their looks are set for as long."""
    from matplotlib.backends.backend_pdf import PdfPages

    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Figure] = {}
    undated_pdf = {"CreationDate": None}
    with styled(), PdfPages(booklet, metadata=undated_pdf) if booklet else nullcontext() as pages:
        for drawing in drawings:
            stem, number = drawing.stem, 2
            while stem in written:  # methods whose names differ in signs alone
                stem, number = f"{drawing.stem}-{number}", number + 1
            settle(drawing.figure)
            for ending in formats:
                undated = {"svg": {"Date": None}, "pdf": undated_pdf}.get(ending, {})
                how: dict[str, Any] = {"pil_kwargs": {"compress_level": 4}} if ending == "png" else {}  # half the time
                drawing.figure.savefig(folder / f"{stem}.{ending}", metadata=undated, **how)
            if pages is not None:
                pages.savefig(drawing.figure)
            written[stem] = Figure(
                stem, drawing.heading, drawing.where, drawing.alt, drawing.says or drawing.alt,
                head_share(drawing.figure),
            )  # fmt: skip
    return list(written.values())


def _drawings(scene: Scene) -> Iterator[Drawing]:
    for cost in (accuracy.STORAGE, accuracy.EMBEDDING, accuracy.TRAINING):
        yield from _if_any(accuracy.accuracy_against(scene, cost))
    yield from _if_any(storage.storage_by_tasks(scene))
    yield from _if_any(accuracy.heat_map(scene))
    yield from _if_any(accuracy.learning_curves(scene))
    yield from sharing.agreement(scene)
    yield from learned.channels(scene)
    yield from learned.channels_similarity(scene)
    yield from learned.mixes(scene)
    yield from _if_any(sharing.weights(scene))
    yield from tuning.of_scene(scene)


def _if_any(drawing: Drawing | None) -> list[Drawing]:
    return [drawing] if drawing else []
