"""A comparison as a folder of web pages that open from disk: words, leaderboard, figures, curves, galleries, downloads.

All numbers are `summary`'s, as the other tables write them, and all words `verdict`'s. `templates/` holds how pages
look and what they do in a browser; they can be read with scripts off.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError

from mtlbench.errors import UserError
from mtlbench.names import slug
from mtlbench.report import gallery
from mtlbench.report.columns import Column, glossary
from mtlbench.report.figures import Figure, draw_scene, write
from mtlbench.report.figures.accuracy import validations
from mtlbench.report.figures.ranks import mean_ranks
from mtlbench.report.figures.scene import Scene, looks_in
from mtlbench.report.gallery import Galleries, NoImages
from mtlbench.report.grids import MARKS, CellText, as_csv
from mtlbench.report.groups import groups_of
from mtlbench.report.pairs import in_points, pairs_of
from mtlbench.report.ranks import ranked
from mtlbench.report.rows import Row
from mtlbench.report.suites import apart, joining
from mtlbench.report.summary import Summary
from mtlbench.report.tables import as_frame, as_markup, cell_texts, runs_frame
from mtlbench.report.verdict import Verdict, verdict, write_verdicts

_TEMPLATES = Path(__file__).with_name("templates")
_ASSETS = ("page.css", "page.js")
_MADE_BY_US = '<meta name="generator" content="mtlbench'
_FORMATS = ("svg", "png")  # of few tasks; figures of many take long to draw, and are shown as SVG anyway
_FEW_TASKS = 8  # their columns are shown from the start
_GALLERY_METHODS = 8
_MANY_TASKS = 10  # of more, fewer queries each: every image of a gallery is a file
_DASHES = {"-": "", "--": "6 4", ":": "2 3", "-.": "8 3 2 3"}  # matplotlib's names of lines, as SVG's
_HEIGHT = 160  # pixels of a thumbnail: shown at up to 80, sharp on dense screens
_QUALITY = 82

# The costs that decide most stand beside the means; the others can be shown.
_MAIN_COSTS = ("file_bytes", "bytes_added", "embed_rate_all_tasks", "training_seconds")
_RETRIEVAL = ("macro map@r", "macro precision@1")


def write_page(
    summaries: Sequence[Summary],
    results: Path,
    folder: Path,
    data_dir: Path | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Path:
    """Write a page for every suite, and one that leads to them where there are several; return the one to open.

    Args:
        summaries: of the suites, as the tables show them.
        results: where the runs' folders lie.
        folder: where to, made if need be; an earlier page there is replaced.
        data_dir: where the images lie; by default where `mtlbench run` looks. A suite whose images or embeddings are
            not there has no galleries, and its page says so.
        say: is told what is being done, and why galleries are left out.

    Raises:
        UserError: the folder holds something else, or a file in a run's folder can't be read.
    """
    *names, ranks_at = _unique([*(slug(str(summary.suite.benchmark["name"])) for summary in summaries), "ranks"])
    _make_room(folder, [*names, ranks_at] if len(names) > 1 else names)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["parts"] = _parts
    for name in _ASSETS:
        shutil.copyfile(_TEMPLATES / name, folder / name)
    pages = ["index.html"] if len(names) == 1 else [f"{name}.html" for name in names]
    own = apart([summary.suite for summary in summaries])
    titles = [", ".join(filter(None, (summary.subject, one))) for summary, one in zip(summaries, own, strict=True)]
    links = list(zip(pages, titles, strict=True)) if len(names) > 1 else []
    words = [verdict(summary) for summary in summaries]
    for name, page, title, summary, said in zip(names, pages, titles, summaries, words, strict=True):
        content = _suite_page(name, title, summary, said, results, folder, data_dir, say)
        text = environment.get_template("suite.html").render(**content, links=links, page=page)
        (folder / page).write_text(text, encoding="utf-8")
    write_verdicts(folder / "verdict.json", summaries)
    if links:
        boards = _ranks(summaries, folder / ranks_at)
        entries = [
            {"page": page, "title": title, "verdict": said, "facts": _facts(summary), "warnings": summary.unequal}
            for page, title, said, summary in zip(pages, titles, words, summaries, strict=True)
        ]
        text = environment.get_template("index.html").render(
            entries=entries,
            joining=_joining(summaries),
            ranks=boards,
            name=ranks_at,
            links=links,
            page="index.html",
            **_common(),
        )
        (folder / "index.html").write_text(text, encoding="utf-8")
    return folder / "index.html"


def _make_room(folder: Path, names: Sequence[str]) -> None:
    """Make the folder; where it holds an earlier page, remove that.

    An index.html that claims the folders to come stands there from the start: a page can be made again where its making
    was interrupted.

    Args:
        folder: where the page goes.
        names: of the folders in it that will be written.

    Raises:
        UserError: it holds something else.
    """
    ours: list[Path] = []
    stale: list[str] = []
    if folder.is_dir() and any(folder.iterdir()):
        ours = [path for path in folder.glob("*.html") if _MADE_BY_US in path.read_text("utf-8", "replace")[:2000]]
        if folder / "index.html" not in ours:
            raise UserError(f"{folder} holds other files; name a new folder, or one with an earlier page, for --html.")
        stale = [
            n for path in ours for n in re.findall(r'data-folder="([a-z0-9+-]+)"', path.read_text("utf-8", "replace"))
        ]
    taken = [name for name in names if name not in stale and (folder / name).exists()]
    if taken:
        raise UserError(f"{folder / taken[0]} is not of an earlier page; move it, or name another folder for --html.")
    folder.mkdir(parents=True, exist_ok=True)
    claims = "".join(f'<i data-folder="{name}"></i>' for name in dict.fromkeys([*stale, *names]))
    (folder / "index.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8">{_MADE_BY_US}"><title>Unfinished – mtlbench</title>'
        f"<p>This page is being made, or making it was interrupted: then make it again.</p>{claims}</html>\n",
        encoding="utf-8",
    )
    for path in ours:
        if path != folder / "index.html":
            path.unlink()
    for name in stale:
        shutil.rmtree(folder / name, ignore_errors=True)


def _parts(name: str) -> list[str]:
    """Return the parts between which a method's name may break: after +, a bracket or a comma."""
    return re.findall(r"[^+\[,]*[+\[,]|[^+\[,]+", name)


def _unique(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, candidate = 2, "suite-index" if name == "index" else name
        while candidate in found:
            number, candidate = number + 1, f"{name}-{number}"
        found.append(candidate)
    return found


def _common() -> dict[str, Any]:
    from mtlbench import __version__

    return {"version": __version__}


def _ranks(summaries: Sequence[Summary], place: Path) -> list[dict[str, Any]]:
    """Draw the mean ranks over several suites; return what the first page shows of them."""
    boards, look = [], looks_in([summary.suite for summary in summaries])
    for ranks in ranked(summaries):
        figure = write((mean_ranks(one, look) for one in [ranks]), place / "figures", _FORMATS)[0]
        rows = [
            {
                "method": method,
                "mean": f"{mean:.2f}",
                "cells": [{"number": f"{100 * a:.1f}", "rank": f"{rank:.3g}"} for a, rank in zip(*both, strict=True)],
            }
            for method, mean, *both in zip(ranks.methods, ranks.means, ranks.accuracy, ranks.ranks, strict=True)
        ]
        boards.append({"ranks": ranks, "rows": rows, "figure": _figure(figure, place)})
    return boards


def _joining(summaries: Sequence[Summary]) -> dict[str, str]:
    """Return, by benchmark, the option that puts its suites into one table, where there is one."""
    keys: dict[str, list[list[str]]] = {}
    for summary in summaries:
        if summary.separated:
            keys.setdefault(str(summary.suite.benchmark["name"]), []).append(joining(summary.separated))
    return {
        name: " ".join(f"--across {key}" for key in dict.fromkeys(key for one in found for key in one))
        for name, found in keys.items()
        if all(found)
    }


def _facts(summary: Summary) -> list[str]:
    """Count the finished methods, tasks and seeds that are shown."""
    done = [row for row in summary.rows if row.kind == "method" and row.seeds and not row.again]
    seeds = {seed for row in done for seed in row.seeds}
    parts = [(len(done), "method"), (len(summary.tasks), "task"), (len(seeds), "seed")]
    return [f"{number} {what}{'s' * (number != 1)}" for number, what in parts]


def _intro(summary: Summary) -> str:
    """Say to a stranger, in two sentences, what is compared and what its numbers are."""
    done = sum(row.kind == "method" and bool(row.seeds) and not row.again for row in summary.rows)
    tasks = [task.replace("_", " ") for task in summary.tasks]
    named = f": {', '.join(tasks)}" if 1 < len(tasks) <= _FEW_TASKS else ""
    methods = "1 method" if done == 1 else f"{done} methods"
    several = "1 notion" if len(tasks) == 1 else f"{len(tasks)} notions"
    said = f"{methods} of teaching a network {several} of similarity between images{named}."
    if summary.metric == "triplet":
        said += " Accuracy: how often a test image is closer to an image like it than to one unlike it; 50 % is chance."
    return said


def _suite_page(
    name: str,
    title: str,
    summary: Summary,
    said: Verdict,
    results: Path,
    folder: Path,
    data_dir: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write a suite's files; return what its template needs."""
    place = folder / name
    place.mkdir()
    # figures show triplet accuracy, whatever the tables were asked for
    standing = {row.method: row.standing["mean"] for row in summary.rows if "mean" in row.standing}
    scene = Scene.of(
        summary.suite,
        results,
        {row.method for table in summary.tables for row in table.rows},
        standing if summary.metric == "triplet" else None,
    )
    tasks = summary.tasks
    few = len(scene.tasks) <= _MANY_TASKS
    formats = _FORMATS if few else _FORMATS[:1]
    whole = len(tasks) == len(summary.suite.tasks)  # figures and curves know nothing of a choice of tasks
    figures: Sequence[Figure] = ()
    if whole:
        say(f"{title}: drawing figures …")
        figures = draw_scene(scene, place / "figures", formats, place / "figures.pdf" if few else None)
    return _common() | {
        "title": title,
        "name": name,
        "verdict": said,
        "summary": summary,
        "facts": _facts(summary),
        "intro": _intro(summary),
        "table": leaderboard(summary),
        "pairs": _matrix(summary),
        "downloads": _downloads(summary, place) + ([("figures.pdf", "PDF, all figures")] if figures and few else []),
        "figures": [_figure(figure, place) for figure in figures],
        "formats": formats,
        "curves": _curves(scene) if whole else [],
        "left_out": "" if whole else _without_figures(tasks, summary),
        "galleries": _galleries(scene, tasks, results, data_dir, place, say),
    }


def _matrix(summary: Summary) -> dict[str, Any] | None:
    """Return all differences between methods, each with the places that it can hold; None where none was compared."""
    pairs = pairs_of(summary.rows, summary.comparison)
    if pairs is None:
        return None

    def cell(method: str, other: str) -> dict[str, Any]:
        if method == other:
            return {"text": "", "interval": "", "told": False}
        text, interval = in_points(pairs.differences[method, other], pairs.level).split(" ", 1)
        return {"text": text, "interval": interval, "told": pairs.told_apart(method, other)}

    def place(method: str) -> str:
        best, worst = pairs.places(method)
        return str(best) if best == worst else f"{best}–{worst}"

    rows = [
        {"method": method, "place": place(method), "cells": [cell(method, other) for other in pairs.methods]}
        for method in pairs.methods
    ]
    return {"methods": pairs.methods, "rows": rows, "left_out": pairs.left_out}


def _without_figures(tasks: Sequence[str], summary: Summary) -> str:
    every = len(summary.suite.tasks)
    return (
        f"No figures and curves: they cover all {every} tasks, and this page covers {len(tasks)} of them."
        " A page made without --tasks has them."
    )


def _downloads(summary: Summary, place: Path) -> list[tuple[str, str]]:
    """Write the tables as files; return each with what it is."""
    (place / "table.csv").write_text(as_csv(as_frame([summary])), encoding="utf-8")
    (place / "runs.csv").write_text(as_csv(runs_frame([summary.suite])), encoding="utf-8")
    (place / "table.tex").write_text(as_markup(summary, "latex"), encoding="utf-8")
    (place / "table.md").write_text(as_markup(summary, "md"), encoding="utf-8")
    return [
        ("table.csv", "CSV, a row per method"),
        ("runs.csv", "CSV, a row per run"),
        ("table.tex", "LaTeX"),
        ("table.md", "Markdown"),
    ]


def _figure(figure: Figure, place: Path) -> dict[str, Any]:
    start = (place / "figures" / f"{figure.stem}.svg").read_text(encoding="utf-8")[:2000]
    sizes = {name: float(points) for name, points in re.findall(r'\b(width|height)="([\d.]+)pt"', start)}
    width, height = round(sizes["width"]), round(sizes["height"])
    return {
        "stem": figure.stem, "title": figure.heading, "where": figure.where, "says": figure.says, "alt": figure.alt,
        "width": width, "height": height, "tall": height > 1.7 * width,
        "head": round(100 * figure.head * sizes["height"] / sizes["width"], 2),  # per cent of the width
    }  # fmt: skip


# --- the leaderboard --------------------------------------------------------------------------------------------------


def leaderboard(summary: Summary) -> dict[str, Any]:
    """Return accuracy and cost in one table: its columns, its rows, and the groups that some of its methods are in."""
    texts: dict[tuple[str, str], CellText] = {}
    columns: dict[str, Column] = {}
    for table in summary.tables:
        texts |= cell_texts(table)
        columns |= {column.key: column for column in table.columns if column.key not in columns}
    shown = [one for one in summary.rows if not one.again]
    said = {"seeds"} if len({one.seeds for one in shown if one.kind == "method"}) == 1 else set()  # by the facts above
    given = {key for (_, key), text in texts.items() if text.number}
    keys = [key for key in _order(columns) if key in given - said]
    tasks = sum(columns[key].task is not None for key in keys)
    marked = {key for (_, key), text in texts.items() if text.standing}
    names = {record.method: str(record.setup["method"]["name"]) for record in summary.suite.records}
    groups = groups_of(summary.suite.records)

    def row(one: Row) -> dict[str, Any]:
        return {
            "method": one.method,
            "badge": _badge(one),
            "wrong": one.outcome.wrong,
            "default_won": one.default_won,
            "groups": list(groups[names[one.method]]),
            "cells": [_cell(columns[key], one, texts.get((one.method, key), _NOTHING), key in marked) for key in keys],
        }

    # where another order was asked for, the small print says which
    by = "" if summary.reordered else "within" if "within" in keys else "mean"
    rows = [row(one) for one in shown if one.kind == "method"]
    return {
        "columns": [_heading(columns[key], "descending" if key == by else "") for key in keys],
        "rows": rows,
        "references": [row(one) for one in shown if one.kind == "reference"],
        "groups": list(dict.fromkeys(group for one in rows for group in one["groups"])),
        "tasks": tasks,
        "few_tasks": tasks <= _FEW_TASKS,
        "more": any(_kind(columns[key]) == "more" for key in keys),
        "ranked": any(text.rank for text in texts.values()),
        "terms": _terms([columns[key] for key in keys], bool(summary.comparison.best)),
    }


def _badge(row: Row) -> str:
    """Return the word beside a method's name for what the notes say of it; empty where they say nothing."""
    if row.outcome.wrong and row.status == "done":
        return "breaks the contract"
    return {"partial": "partly failed", "done": "note" * row.outcome.remarkable}.get(row.status, row.status)


_NOTHING = CellText("")


def _order(columns: dict[str, Column]) -> list[str]:
    """Put what decides most first; the method's name is no cell."""
    late = {*_MAIN_COSTS, *_RETRIEVAL}
    kinds = {key: _kind(column) for key, column in columns.items()}
    first = [key for key, kind in kinds.items() if kind == "main" and key not in late and key != "method"]
    tasks = [key for key, kind in kinds.items() if kind == "task"]
    return [*first, *(key for key in (*_MAIN_COSTS, *_RETRIEVAL) if key in columns), *tasks,
            *(key for key, kind in kinds.items() if kind == "more")]  # fmt: skip


def _kind(column: Column) -> str:
    """Return which columns one shows and hides together: the main ones, single tasks, more costs."""
    if column.task is not None:
        return "task"
    main = ("method", "seeds", "within", "mean", "versus", "worst", "delta_m", "hurt", *_MAIN_COSTS, *_RETRIEVAL)
    return "main" if column.key in main else "more"


def _heading(column: Column, order: str) -> dict[str, Any]:
    return {
        "text": column.heading,
        "kind": _kind(column),
        "better": column.better,
        "meaning": column.meaning,
        "order": order,
    }


def _cell(column: Column, row: Row, text: CellText, marked: bool) -> dict[str, Any]:
    value = column.value(row) if text.number else None
    number, _, interval = text.number.partition(" [")
    return {
        "number": number,
        "spread": text.spread or f"[{interval}" * bool(interval),
        "mark": MARKS.get(text.standing, ""),
        "standing": text.standing,
        "marked": marked,  # numbers of a column stand below each other, with or without the mark
        "rank": text.rank,
        "value": "" if value is None else repr(float(value)) if not isinstance(value, str) else value,
        "kind": _kind(column),
    }


def _terms(columns: Sequence[Column], compared: bool) -> list[tuple[str, str]]:
    marks = (
        "How a method stands to the best (*) of the mean or of a task: tied (≈), undecided (?), or, without a mark,"
        " significantly worse, unless the small print says that it was not compared."
    )
    last = (
        "untrained, chance",
        "The network before training, and random embeddings: a method that is no better has learned nothing.",
    )
    return [*([("*, ≈, ?", marks)] if compared else []), *glossary(columns), last]


# --- curves -----------------------------------------------------------------------------------------------------------


def _curves(scene: Scene) -> list[dict[str, Any]]:
    """Return the learning curves' points, those of the figure of that name; None for seconds that were not kept."""
    found = []
    prominent = scene.prominent(scene.methods)
    for method in scene.methods:
        points = validations(scene, method)
        if len(points):
            look = scene.looks[method.name]
            numbers = {
                name: [None if math.isnan(v) else round(float(v), 4) for v in points[name]]
                for name in ("step", "seconds", "mean", "low", "high")
            }
            kept = points["step"].tolist()
            runs = [run.dropna(subset="accuracy").set_index("step")["accuracy"] for run in scene.curves(method)]
            seeds = [[round(100 * float(run[step]), 4) for step in kept] for run in runs if len(run)]
            shown = {"colour": look.colour, "dash": _DASHES[look.line], "prominent": method in prominent}
            found.append({"method": method.name} | shown | numbers | {"seeds": seeds if len(seeds) > 1 else []})
    return found


# --- galleries --------------------------------------------------------------------------------------------------------


def _galleries(
    scene: Scene, tasks: Sequence[str], results: Path, data_dir: Path | None, place: Path, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Write the thumbnails of a suite's galleries, each once; return what a browser shows of them, None without."""
    many = len(tasks) > _MANY_TASKS
    shown = [method.name for method in scene.prominent(scene.methods, _GALLERY_METHODS)]
    say("choosing queries for galleries …")
    try:
        found = gallery.galleries(
            scene.suite, results, data_dir, queries_per_task=3 if many else 6, neighbours=6 if many else 8,
            methods=shown, tasks=tasks, draw_absent=False,
        )  # fmt: skip
    except NoImages as why:
        say(str(why))
        return None
    except ValidationError:
        say(f"No galleries of {scene.suite.benchmark['name']}: another version of mtlbench wrote its settings.")
        return None
    near = [neighbour for query in found.queries for row in query.neighbours.values() for neighbour in row]
    images = sorted({query.image for query in found.queries} | {neighbour.image for neighbour in near})
    folder = place / "images"
    folder.mkdir()
    sizes = {}
    say(f"writing {len(images):,} thumbnails …")
    for image in images:
        small = gallery.thumbnail(found.files[image], _HEIGHT).convert("RGB")
        small.save(folder / f"{image}.jpg", quality=_QUALITY, optimize=True)
        sizes[image] = small.size
    return gallery_data(found, f"{place.name}/images/", sizes) | {"left_out": len(scene.methods) - len(found.methods)}


def gallery_data(found: Galleries, base: str, sizes: dict[int, tuple[int, int]]) -> dict[str, Any]:
    """Return galleries as a browser wants them; a neighbour is twice its image's number, plus 1 where it is right."""
    queries = []
    for query in found.queries:
        t = found.tasks.index(query.task)
        near = [[2 * n.image + n.right for n in query.neighbours[method]] for method in found.methods]
        queries.append({"task": t, "image": query.image, "why": query.why, "near": near})
    labels: list[dict[int, str]] = [{} for _ in found.tasks]
    for query in found.queries:
        shown = [query.image, *(n.image for row in query.neighbours.values() for n in row)]
        labels[found.tasks.index(query.task)] |= {image: found.label(image, query.task) for image in shown}
    return {
        "base": base,
        "seed": found.seed,
        "files": {image: found.files[image].name for image in sizes},
        "precision": [[found.precision(method, task) for method in found.methods] for task in found.tasks],
        "chance": [[found.at_chance(method, task) for method in found.methods] for task in found.tasks],
        "methods": list(found.methods),
        "tasks": [task.replace("_", " ") for task in found.tasks],
        "labels": labels,
        "sizes": sizes,
        "queries": queries,
    }
