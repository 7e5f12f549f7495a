"""What a suite's tables come to, in words: which method to take, what it costs, and how sure that is.

Every number is one of `summary`'s, written as the tables write it; nothing is said that its test does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtlbench.report.receipt import questions
from mtlbench.report.rows import BASE, Row
from mtlbench.report.summary import Summary


@dataclass(frozen=True)
class Answer:
    """An answer: the question, its shortest answer, a sentence, and what else there is to be said."""

    question: str
    short: str
    lead: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The answers about one suite.

    Attributes:
        best: the method of the highest mean; empty where none finished.
        tied: those that can't be told apart from it, best mean first.
        smallest: of `best` and `tied`, the one that stores least, collapsed ones left out.
        headline: which method, in one sentence.
    """

    best: str
    tied: tuple[str, ...]
    smallest: str
    headline: str
    answers: tuple[Answer, ...]


def verdict(summary: Summary) -> Verdict:
    """Say what a suite's tables come to."""
    every = [row for row in summary.rows if row.kind == "method"]
    rows = sorted(
        (row for row in every if row.accuracy["mean"].mean is not None),
        key=lambda row: -(row.accuracy["mean"].mean or 0),
    )
    if not rows:
        headline = "No method has finished: there is nothing to compare yet."
        return Verdict("", (), "", headline, (Answer("Which method?", "none", headline), _sureness(summary, [], every)))
    best = next((row for row in rows if row.method == summary.comparison.best.get("mean")), rows[0])
    tied = [row for row in rows if "mean" in row.tied]
    # a method whose embeddings fell to a point, or that has too few seeds in common for a test, is nothing to take
    untestable = _too_few_shared_seeds(summary, best, rows)
    candidates = [best, *(row for row in tied if not row.outcome.collapsed and row.method not in untestable)]
    smallest = min(candidates, key=lambda row: (_value(row, "file_bytes"), -(row.accuracy["mean"].mean or 0)))
    words = _Words(summary)
    which = _which(words, best, tied, rows)
    answers = (which, _cost(words, best, candidates, smallest, rows), _sureness(summary, rows, every))
    headline = f"{best.method}: {which.lead[0].lower()}{which.lead[1:]}"
    return Verdict(best.method, tuple(row.method for row in tied), smallest.method, headline, answers)


def _value(row: Row, key: str) -> float:
    mean = row.costs[key].mean if key in row.costs else None
    return float("inf") if mean is None else mean


class _Words:
    """A suite's numbers as its tables write them."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self.columns = {column.key: column for table in summary.tables for column in table.columns}

    def number(self, row: Row, key: str, unit: str = "") -> str:
        """Return a cell's text with its unit; empty where there is no value."""
        column = self.columns.get(key)
        text = column.number(row) if column else ""
        spread = column.spread(row) if column else ""
        return " ".join(filter(None, (text, spread, unit))) if text else ""

    def mean(self, row: Row) -> str:
        return self.number(row, "mean", "%")


def _which(words: _Words, best: Row, tied: Sequence[Row], rows: Sequence[Row]) -> Answer:
    summary, others = words.summary, len(rows) - 1
    comparison = summary.comparison
    tested, which = _tested(summary, best, rows)
    measure = "mean accuracy" if summary.metric == "triplet" else f"mean {summary.metric}"
    more = []
    if not others:
        lead = f"The only method that has finished, with a {measure} of {words.mean(best)}: nothing to compare it with."
    elif "mean" not in comparison.best:
        lead = f"The highest {measure}, {words.mean(best)}; whether by chance was not tested."
        if comparison.reason:
            more.append(str(comparison.line()))
        if comparison.lacking:
            more.append(comparison.lacking)
    elif not tied:
        single = "with this one seed, " if all(len(row.seeds) == 1 for row in rows) else ""
        lead = f"The highest {measure}, {words.mean(best)}; {single}a test tells it apart from {_all(tested)}{which}."
    else:
        lead = (
            f"The highest {measure}, {words.mean(best)}, but {_part(len(tied), tested)}{which}"
            " can't be told apart from it."
        )
        more.append(f"Not told apart: {_some([f'{row.method} ({words.mean(row)})' for row in tied], 5)}.")
    if "mean" in comparison.best and comparison.missing:
        more.append(f"Not tested: {_some(comparison.missing, 5)}.")
    delta, hurt = words.number(best, "delta_m", "%"), words.number(best, "hurt")
    if delta and hurt and not best.is_base:
        tasks = len(summary.tasks)
        more.append(f"Against {BASE}, a network for each task: Δm {delta}; below it on {hurt} of {tasks} tasks.")
    if best.outcome.collapsed:
        more.append("Under some task its embeddings fell to a point: see what went wrong.")
    return Answer("Which method?", best.method, lead, tuple(more))


def _tested(summary: Summary, best: Row, rows: Sequence[Row]) -> tuple[int, str]:
    """Return how many methods were tested against the best one, and a word for them where they aren't all others."""
    tested = sum(row is not best and row.method not in summary.comparison.missing for row in rows)
    return tested, " tested" if tested < len(rows) - 1 else ""


def _too_few_shared_seeds(summary: Summary, best: Row, rows: Sequence[Row]) -> list[str]:
    """Return which methods aren't told apart from the best for lack of two seeds in common, where some have several."""
    if all(len(row.seeds) == 1 for row in rows if row.method not in summary.comparison.missing):
        return []
    return [row.method for row in rows if "mean" in row.tied and len(set(row.seeds) & set(best.seeds)) < 2]


def _all(others: int) -> str:
    return "the other" if others == 1 else f"each of the other {others}"


def _part(some: int, others: int) -> str:
    if some == others:
        return "the other one" if others == 1 else f"all {others} others"
    return f"{some} of the other {others}"


def _cost(words: _Words, best: Row, candidates: Sequence[Row], smallest: Row, rows: Sequence[Row]) -> Answer:
    size = words.number(best, "file_bytes", "MB")
    if not size:
        return Answer("What does it cost?", "not measured", f"The costs of {best.method} were not measured.")
    untestable = _too_few_shared_seeds(words.summary, best, rows)
    those = "those not told apart from it" + (" by a test of common seeds" if untestable else "")
    added = _added(words, best)
    lead = f"The file of {best.method}" + (f"; one more task would add {added}." if added else ".")
    more = []
    if smallest is not best:
        equal = [
            r.method
            for r in candidates
            if _value(r, "file_bytes") == _value(smallest, "file_bytes") and r is not smallest
        ]
        also = f" (as small: {_some(equal, 2)})" if equal else ""
        more.append(
            f"Smallest of {those}: {smallest.method}{also},"
            f" {words.number(smallest, 'file_bytes', 'MB')}, one more task {_added(words, smallest) or 'unknown'};"
            f" its mean is {words.mean(smallest)}."
        )
    elif len(candidates) > 1:
        more.append(f"None of {those} is smaller.")
    base = next((row for row in rows if row.method == words.summary.suite.row_of(BASE, best.method)), None)
    if base and base is not best and words.number(base, "file_bytes"):
        more.append(f"{base.method}: {words.number(base, 'file_bytes', 'MB')}.")
    speed = "embed_rate_all_tasks"
    own = words.number(best, speed, "images/s")
    if own:
        fastest = max(
            (row for row in candidates if words.number(row, speed)), key=lambda row: row.costs[speed].mean or 0
        )
        line = f"Embeds {own} under all tasks"
        if fastest is not best:
            best_rate = words.number(fastest, speed, "images/s")
            line += f"; of {those}, {fastest.method} is fastest: {best_rate}"
            line += ", within the range of its measurements" if _reaches(best, fastest, speed) else ""
        more.append(line + ".")
    trained = words.number(best, "training_seconds", "s")
    if trained:
        device = words.summary.suite.receipt.get("device")
        more.append(f"Trained for {trained}{f' on {device}' if device else ''}.")
    return Answer("What does it cost?", size, lead, tuple(more))


def _added(words: _Words, row: Row) -> str:
    if _value(row, "bytes_added") == 0:
        return "nothing"
    return words.number(row, "bytes_added", "kB")


def _reaches(slow: Row, fast: Row, key: str) -> bool:
    """Return whether the fastest measurement of one reaches the slowest of the other."""
    top, bottom = (row.costs[key + end].mean if key + end in row.costs else None
                   for row, end in ((slow, "_fastest"), (fast, "_slowest")))  # fmt: skip
    return top is not None and bottom is not None and top >= bottom


def _sureness(summary: Summary, rows: Sequence[Row], every: Sequence[Row]) -> Answer:
    suite = summary.suite
    numbers = sorted({len(row.seeds) for row in rows})
    failed = [row.method for row in every if row.outcome.failed]
    collapsed = [row.method for row in every if row.outcome.collapsed]
    more = []
    if not rows:
        short, lead = "no result", "Nothing has been measured."
    else:
        short = (
            f"{numbers[-1]} seed{'s' * (numbers[-1] > 1)}"
            if len(numbers) == 1
            else f"{numbers[0]} to {numbers[-1]} seeds"
        )
        tasks = len(summary.tasks)
        shown = {row.method for row in every}
        asked = "The test images"
        if summary.metric == "triplet":
            asked = f"{questions(suite, [r for r in suite.records if r.method in shown])} test questions"
        what = "rendered images, which say nothing about real ones" if suite.rendered else "real images"
        lead = f"{asked} on each of {tasks} task{'s' * (tasks != 1)}, the same for every method; {what}."
        if numbers[-1] == 1:
            more.append("One seed: how much another would change is not known.")
        elif "mean" in summary.comparison.best:
            best = next(row for row in rows if row.method == summary.comparison.best["mean"])
            untestable = _too_few_shared_seeds(summary, best, rows)
            if untestable:
                more.append(
                    f"Fewer than two seeds in common with {best.method}, so not told apart however far below:"
                    f" {_some(untestable, 4)}. Run the same seeds for all."
                )
        if "mean" in summary.comparison.best:
            best = next(row for row in rows if row.method == summary.comparison.best["mean"])
            tested, which = _tested(summary, best, rows)
            worse = tested - sum("mean" in row.tied for row in rows)
            over = "questions" if numbers[-1] == 1 else "seeds and questions"
            more.append(
                f"The paired test, over {over}, at 5 %, tells the highest mean apart from {worse} of {tested}{which}."
            )
    if suite.quick:
        more.append("Quick protocol, a short training of a small network: a full one may order them otherwise.")
    if failed:
        more.append(f"Failed: {_some(failed, 4)}.")
    if collapsed:
        more.append(f"Collapsed: {_some(collapsed, 4)}.")
    if summary.warnings:
        more.append("Not all is equal between these runs: see the remarks above the leaderboard.")
    return Answer("How sure is that?", short, lead, tuple(more))


def _some(names: Sequence[str], most: int) -> str:
    """Join names, saying how many were left out."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
