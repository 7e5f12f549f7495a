"""What a suite's tables come to, in words: which method to take, what it costs, and how sure that is.

Every number is one of `summary`'s, written as the tables write it; nothing is said that its test does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtlbench.report.receipt import questions
from mtlbench.report.rows import BASE, Column, Row, find_column
from mtlbench.report.summary import Summary


@dataclass(frozen=True)
class Answer:
    """An answer: the question, its shortest answer, and what there is to be said of it."""

    question: str
    short: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """The answers about one suite.

    Attributes:
        best: the method of the highest mean; empty where none finished.
        alike: those that can't be told apart from it, best mean first.
        pick: the one of these that stores least.
        headline: all of it in one sentence.
    """

    best: str
    alike: tuple[str, ...]
    pick: str
    headline: str
    answers: tuple[Answer, ...]


def verdict(summary: Summary) -> Verdict:
    """Say what a suite's tables come to."""
    every = [row for row in summary.tables[0].rows if row.kind == "method"] if summary.tables else []
    rows = sorted(
        (row for row in every if row.accuracy["mean"].mean is not None), key=lambda row: -(row.accuracy["mean"].mean or 0)
    )
    if not rows:
        headline = "No method has finished: there is nothing to compare yet."
        return Verdict("", (), "", headline, (_sureness(summary, [], every),))
    best = next((row for row in rows if row.method == summary.compared.get("mean")), rows[0])
    alike = [row for row in rows if "mean" in row.alike]
    # a method whose embeddings fell to a point is nothing to take, whatever a test says
    candidates = [row for row in (best, *alike) if "COLLAPSED" not in row.note] or [best]
    pick = min(candidates, key=lambda row: (_value(row, "file_bytes"), -(row.accuracy["mean"].mean or 0)))
    words = _Words(summary)
    which, headline = _which(words, best, alike, pick, rows)
    answers = (which, _cost(words, best, candidates, pick, rows), _sureness(summary, rows, every))
    return Verdict(best.method, tuple(row.method for row in alike), pick.method, headline, answers)


def _value(row: Row, key: str) -> float:
    mean = row.costs[key].mean if key in row.costs else None
    return float("inf") if mean is None else mean


class _Words:
    """A suite's numbers as its tables write them."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self.columns = [column for table in summary.tables for column in table.columns]

    def column(self, key: str) -> Column | None:
        return find_column((c for c in self.columns if c.key == key), key)

    def number(self, row: Row, key: str, unit: str = "", spread: bool = True) -> str:
        """Return a cell's text; empty where there is no value."""
        column = self.column(key)
        text = column.number(row) if column else ""
        behind = column.spread(row) if column and spread else ""
        return f"{text}{behind and ' '}{behind}{unit and ' '}{unit}" if text else ""


def _is_triplet(summary: Summary) -> bool:
    return bool(summary.tables) and "triplet accuracy" in summary.tables[0].title


def _which(words: _Words, best: Row, alike: Sequence[Row], pick: Row, rows: Sequence[Row]) -> tuple[Answer, str]:
    def mean(row: Row) -> str:
        return words.number(row, "mean", "%")

    measure = "mean accuracy" if _is_triplet(words.summary) else "mean"
    lines = []
    if len(rows) == 1:
        headline = f"{best.method} alone has finished, with a {measure} of {mean(best)}: there is nothing to compare it with."
        lines.append(headline)
    elif "mean" not in words.summary.compared:
        headline = f"{best.method} has the highest {measure}, {mean(best)}; whether that is chance was not tested."
        lines.append(headline)
        lines += [line for line in words.summary.receipt if line.startswith("comparison with the best")]
        lacking = [line.partition(" Not compared")[2] for line in words.summary.receipt if " Not compared" in line]
        lines += [f"Not compared{line}" for line in lacking]
    elif not alike:
        headline = f"{best.method} has the highest {measure}, {mean(best)}, and the test tells it apart from every other."
        lines.append(f"The highest {measure}, {mean(best)}; the test tells it apart from each of the other {len(rows) - 1}.")
    else:
        others = [f"{row.method} ({mean(row)})" for row in alike]
        headline = f"{best.method} has the highest {measure}, {mean(best)}; {_some(others, 3)} can't be told apart from it."
        if pick is best:
            lines.append(f"The highest {measure}, {mean(best)}, and none of those that can't be told apart is smaller.")
        else:
            lines.append(
                f"The smallest of the {len(alike) + 1} methods that may be the best: {mean(pick)}, which can't be told"
                f" apart from the highest, {best.method} with {mean(best)}."
            )
        rest = [f"{row.method} ({mean(row)})" for row in alike if row is not pick]
        if rest:
            lines.append(f"{'Also can' if pick is not best else 'Can'}'t be told apart from the best: {_some(rest, 6)}.")
    delta, hurt = words.number(pick, "delta_m", "%"), words.number(pick, "hurt")
    if delta and hurt and pick.method != BASE:
        tasks = [c for c in words.summary.tables[0].columns if c.key.startswith("task/")]
        lines.append(f"Against separate networks ({BASE}): Δm {delta}; below them on {hurt} of {len(tasks)} tasks.")
    if "COLLAPSED" in pick.note:
        lines.append("Its embeddings fell to a point under some task: see its note.")
    return Answer("Which method?", pick.method, tuple(lines)), headline


def _cost(words: _Words, best: Row, candidates: Sequence[Row], pick: Row, rows: Sequence[Row]) -> Answer:
    lines = []
    size = words.number(pick, "file_bytes", "MB")
    added = words.number(pick, "bytes_added", "kB")
    if size:
        lines.append(f"{pick.method} stores {size}{f'; one more task would add {added}' if added else ''}.")
    same = [row.method for row in candidates if row is not pick and _value(row, "file_bytes") == _value(pick, "file_bytes")]
    if same and size:
        lines.append(f"Of the same size: {_some(same, 4)}.")
    for row, what in ((best, "the most accurate"), (_named(rows, BASE), "a network for each task")):
        there = words.number(row, "file_bytes", "MB") if row else ""
        if row and row is not pick and there:
            more = words.number(row, "bytes_added", "kB")
            lines.append(f"{row.method}, {what}: {there}{f', {more} a further task' if more else ''}.")
    speed = "embed_rate_all_tasks"
    own = words.number(pick, speed, "images/s")
    measured = [row for row in candidates if words.number(row, speed)]
    if own:
        fastest = max(measured, key=lambda row: row.costs[speed].mean or 0)
        line = f"Embeds {own} under all tasks"
        if fastest is not pick:
            line += f"; of those that may be the best, {fastest.method} is fastest: {words.number(fastest, speed, 'images/s')}"
            if _reaches(pick, fastest, speed):
                line += ", within the measurements' range"
        lines.append(line + ".")
    trained = words.number(pick, "training_seconds", "s")
    if trained:
        device = words.summary.suite.receipt.get("device")
        lines.append(f"Trained for {trained}{f' on {device}' if device else ''}.")
    return Answer("What does it cost?", size or "not measured", tuple(lines))


def _reaches(slow: Row, fast: Row, key: str) -> bool:
    """Return whether the fastest measurement of one reaches the slowest of the other."""
    top, bottom = (row.costs[key + end].mean if key + end in row.costs else None
                   for row, end in ((slow, "_fastest"), (fast, "_slowest")))  # fmt: skip
    return top is not None and bottom is not None and top >= bottom


def _named(rows: Sequence[Row], name: str) -> Row | None:
    return next((row for row in rows if row.method == name), None)


def _sureness(summary: Summary, rows: Sequence[Row], every: Sequence[Row]) -> Answer:
    suite = summary.suite
    numbers = sorted({len(row.seeds) for row in rows})
    seeds = "no finished run" if not numbers else _seeds(numbers)
    shown = {row.method for row in every}
    lines = []
    if rows:
        columns = summary.tables[0].columns
        tasks = sum(column.key.startswith("task/") for column in columns)
        asked = questions(suite, [r for r in suite.records if r.method in shown])
        how = "the same for every method"
        lines.append(f"{asked} test questions a task, {tasks} task{'s' * (tasks != 1)}, {how}.")
    if "mean" in summary.compared:
        apart = len(rows) - 1 - sum("mean" in row.alike for row in rows)
        test = f"A paired test at 5 % tells the highest mean apart from {apart} of the other {len(rows) - 1}"
        if numbers == [1]:
            lines.append(f"{test}, for these very runs: with one seed nobody knows how much another would change.")
        else:
            lines.append(f"{test}, seeds and questions taken into account.")
            if numbers[-1] < 5:
                lines.append(f"{numbers[-1]} seeds are few: small differences can't show.")
    elif numbers == [1]:
        lines.append("One seed: nobody knows how much another would change.")
    if suite.receipt.get("data", {}).get("rendered"):
        lines.append("Rendered images: it says nothing about real ones.")
    if str(suite.benchmark["name"]).endswith("-quick"):
        lines.append("Quick protocol, a small network and a short training: a full one may order them otherwise.")
    failed = [row.method for row in every if not row.seeds or "FAILED" in row.note]
    collapsed = [row.method for row in every if "COLLAPSED" in row.note]
    if failed:
        lines.append(f"Failed: {_some(failed, 4)}.")
    if collapsed:
        lines.append(f"Collapsed: {_some(collapsed, 4)}.")
    if summary.warnings:
        lines.append("Not all is equal between these runs: see the remarks.")
    return Answer("How sure is that?", seeds, tuple(lines))


def _seeds(numbers: Sequence[int]) -> str:
    low, high = numbers[0], numbers[-1]
    return f"{high} seed{'s' * (high > 1)}" if low == high else f"{low} to {high} seeds"


def _some(names: Sequence[str], most: int) -> str:
    """Join names, saying how many were left out."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
