"""The conclusions of a suite's tables, in words: which method to take, what it costs, and how sure that is.

Every number is one of `summary`'s, written as in the tables; a test supports every claim.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from mtlbench.names import joined
from mtlbench.report.leading import Span, leading, listed_with
from mtlbench.report.receipt import incomparable, triplet_count
from mtlbench.report.rows import Cell, Row
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
        tied: the best, and those that differ from it by less than a point, surely, best mean first; empty where
            nothing was compared.
        undecided: those that may be better or worse than it, for all that is known.
        smallest, fastest: of `best` and those tied with it, those that store least, and those that embed most images
            a second under all tasks: several where sizes are equal, or ranges of measured speeds overlap. Empty where
            that was not measured; those that collapsed or break the contract are left out.
        headline: which methods, and the cheapest of them.
        closing: the three lines that tables end with: which, what it costs, how sure that is.
        trouble: which methods failed, collapsed or break the contract, in sentences.
    """

    best: str
    tied: tuple[str, ...]
    undecided: tuple[str, ...]
    smallest: tuple[str, ...]
    fastest: tuple[str, ...]
    headline: str
    closing: tuple[str, ...]
    trouble: tuple[str, ...]
    answers: tuple[Answer, ...]


def verdict(summary: Summary) -> Verdict:
    """Return the conclusions of a suite's tables."""
    every = [row for row in summary.rows if row.kind == "method" and not row.again]
    rows = sorted(
        (row for row in every if row.accuracy["mean"].mean is not None),
        key=lambda row: -(row.accuracy["mean"].mean or 0),
    )
    if not rows:
        headline = "No method has finished: there is nothing to compare yet."
        none = (Answer("Which method?", "none", headline), _sureness(summary, [], every))
        return Verdict("", (), (), (), (), headline, (headline,), _trouble(every), none)
    best = next((row for row in rows if row.method == summary.comparison.best.get("mean")), rows[0])
    group = _Group(_Words(summary), best, rows)
    which = _which(group, rows)
    answers = (which, _cost(group, rows), _sureness(summary, rows, every))
    told = "mean" in summary.comparison.best  # else nothing was compared, and none is the smallest of those tied
    return Verdict(
        best.method,
        tuple(row.method for row in (best, *group.tied)) if told else (),
        tuple(row.method for row in group.undecided),
        tuple(row.method for row in group.smallest) if told else (),
        tuple(row.method for row in group.fastest) if told else (),
        f"{which.short}. {which.lead}",
        _closing(group, rows, every),
        _trouble(every),
        answers,
    )


def verdicts(summaries: Sequence[Summary]) -> str:
    """Return suites' verdicts as JSON: a list of objects, each with its suite's benchmark and subject."""
    said = [
        {"benchmark": summary.suite.benchmark["name"], "subject": summary.subject, **asdict(verdict(summary))}
        for summary in summaries
    ]
    return json.dumps(said, indent=1, ensure_ascii=False) + "\n"


def write_verdicts(file: Path, summaries: Sequence[Summary]) -> None:
    """Write suites' verdicts into a file; see `verdicts`."""
    file.write_text(verdicts(summaries), encoding="utf-8")


_SIZE, _SPEED = "file_bytes", "embed_rate_all_tasks"
NEAR = 0.03  # a smaller method is named if even the lower end of its interval is no further below the best


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


class _Group:
    """The best method, and how the others stand to it in the mean."""

    def __init__(self, words: _Words, best: Row, rows: Sequence[Row]) -> None:
        self.words, self.best = words, best
        others = [row for row in rows if row is not best]
        self.tied, self.undecided, self.worse = (
            [row for row in others if row.standing.get("mean") == standing]
            for standing in ("tied", "undecided", "worse")
        )
        # a method that collapsed or breaks the contract is nothing to take
        self.candidates = [row for row in (best, *self.tied) if not (row.outcome.collapsed or row.outcome.broken)]

    def _leading(self, key: str) -> list[Row]:
        rows = {row.method: row for row in self.candidates if (row.costs.get(key) or Cell(None)).mean is not None}
        spans = {name: _span(row, key) for name, row in rows.items()}
        return [rows[name] for name in leading(spans, highest=key == _SPEED)]

    @cached_property
    def smallest(self) -> list[Row]:
        """The candidates that store least, by the highest mean first."""
        first = self._leading(_SIZE)
        as_shown = [row for row in self.candidates if first and _value(row, _SIZE) < float("inf")
                    and self.words.number(row, _SIZE) == self.words.number(first[0], _SIZE)]  # fmt: skip
        return as_shown or first

    @cached_property
    def fastest(self) -> list[Row]:
        """The candidates of which none was measured to embed clearly faster than the others.

        None, where speeds of some can't be compared.
        """
        unsure = incomparable(self.words.summary.suite.done) if len(self.candidates) > 1 else set()
        return [] if any(row.method in unsure for row in self.candidates) else self._leading(_SPEED)

    @property
    def cheapest(self) -> list[Row]:
        """The candidates that are among the smallest and among the fastest."""
        return [row for row in self.smallest if row in self.fastest]

    def cheapest_in_words(self) -> str:
        """Say which candidates are cheapest; empty where there is one alone or nothing was measured."""
        said = []
        for rows, key, word, unit, all_of_them in (
            (self.smallest, _SIZE, "Smallest", "MB", "None of them is smaller"),
            (self.fastest, _SPEED, "Fastest", "images/s under all tasks", "None of them is clearly faster"),
        ):
            if len(self.candidates) < 2 or not rows or not self.words.number(rows[0], key):
                continue
            texts = {row.method: self.words.number(row, key, unit) for row in rows}
            overlap = ", whose ranges overlap" * (len(set(texts.values())) > 1)
            one = f"{word} of them{overlap}: {listed_with([row.method for row in rows], texts)}"
            said.append(all_of_them if len(rows) == len(self.candidates) else one)
        return f"{'. '.join(said)}." if said else ""


def _span(row: Row, key: str) -> Span:
    """Return a cost with the range of its measurements; the value alone where it has none."""
    low, high = (row.costs.get(key + end, Cell(None)).mean for end in ("_slowest", "_fastest"))
    middle = _value(row, key)
    return Span.around(middle) if low is None or high is None else Span(low, middle, high)


def _which(group: _Group, rows: Sequence[Row]) -> Answer:
    words, best, summary = group.words, group.best, group.words.summary
    comparison = summary.comparison
    measure = "mean accuracy" if summary.metric == "triplet" else f"mean {summary.metric}"
    highest = f"The highest {measure}{' of enough seeds' * bool(comparison.above)} is {words.mean(best)}"
    short, more = best.method, []
    if len(rows) == 1:
        only = "that is shown" if comparison.methods > 1 else "that has finished"
        lead = f"The only method {only}, with a {measure} of {words.mean(best)}: nothing to compare it with."
    elif comparison.obstacle == "seeds":
        short = "undecided: one seed"
        lead = f"{highest}, of {best.method}; another seed might change the order."
    elif "mean" not in comparison.best:
        lead = f"{highest}; whether by chance was not tested."
        more += [text for text in (comparison.reason, comparison.lacking) if text]
    else:
        more += [comparison.higher] if comparison.above else []
        tied, undecided = ([row.method for row in some] for some in (group.tied, group.undecided))
        if tied:
            short = f"{joined([best.method, *tied], 4)} are tied"
        elif undecided:
            short = f"undecided: {best.method} leads"
        told = len(group.worse)
        parts = [f"{highest}{f', of {best.method}' if tied else ''}."]
        if undecided:
            parts.append(f"Undecided against {joined(undecided, 4)}: more seeds may decide.")
        if told:
            others = len(rows) - 1
            each = "the other one" if others == 1 else f"each of the other {others}"
            parts.append(f"Significantly better than {each if told == others else f'{told} of the other {others}'}.")
        lead = " ".join(filter(None, (*parts, group.cheapest_in_words())))
        if comparison.missing:
            more.append(f"Not tested: {joined(comparison.missing, 5)}.")
    delta, hurt = words.number(best, "delta_m", "%"), words.number(best, "hurt")
    if delta and not best.is_base:
        below = f"; significantly worse than it on {hurt} of {len(summary.tasks)} tasks" if hurt else ""
        of_same = f" of the same {', '.join(summary.suite.factors)}" if summary.suite.factors else ""
        more.append(f"Against {summary.suite.base}{of_same}, a network for each task: Δm {delta}{below}.")
    if best.outcome.collapsed:
        lead += f" {best.method} collapsed: under some task all its embeddings are nearly equal."
    return Answer("Which method?", short, lead, tuple(more))


def _cost(group: _Group, rows: Sequence[Row]) -> Answer:
    words, best = group.words, group.best
    size = words.number(best, _SIZE, "MB")
    if not size:
        return Answer("What does it cost?", "not measured", f"The costs of {best.method} were not measured.")
    added = _added(words, best)
    lead = f"{best.method} stores this much" + (f"; one more task would add {added}." if added else ".")
    more = []
    if group.smallest and best not in group.smallest:
        names = [row.method for row in group.smallest]
        texts = {
            row.method: f"{words.number(row, _SIZE, 'MB')}, one more task {_added(words, row) or 'unknown'}; its mean"
            f" is {words.mean(row)}"
            for row in group.smallest
        }
        more.append(f"Smallest of the tied: {listed_with(names, texts)}.")
    elif group.tied and group.smallest:
        more.append("No tied method is smaller.")
    least = min(_value(row, _SIZE) for row in (best, *group.candidates))
    compared = [row for row in (*group.undecided, *group.worse) if "mean" in row.versus and not row.outcome.collapsed]
    smaller = [row for row in compared if _value(row, _SIZE) < least]
    near = [row for row in smaller if row.versus["mean"].interval(row.level)[0] >= -NEAR]
    if near:
        small = min(near, key=lambda row: _value(row, _SIZE))
        more.append(
            f"Smallest that is surely within {100 * NEAR:g} points of the best: {small.method},"
            f" {words.number(small, _SIZE, 'MB')}; {words.number(small, 'versus')} points."
        )
    elif smaller:
        more.append(f"No smaller method is surely within {100 * NEAR:g} points of it.")
    base = _base_of(words.summary, rows, best)
    if base and base is not best and words.number(base, _SIZE):
        more.append(f"{base.method}: {words.number(base, _SIZE, 'MB')}.")
    own = words.number(best, _SPEED, "images/s")
    if own and group.fastest:
        line = f"Embeds {own} under all tasks"
        if best not in group.fastest:
            texts = {row.method: words.number(row, _SPEED, "images/s") for row in group.fastest}
            are = "is fastest" if len(texts) == 1 else "are fastest, their ranges overlapping"
            line += f"; of the tied, {joined(list(texts))} {are}: {'; '.join(dict.fromkeys(texts.values()))}"
        elif group.tied:
            line += "; no tied method is clearly faster"
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


def _sureness(summary: Summary, rows: Sequence[Row], every: Sequence[Row]) -> Answer:
    suite = summary.suite
    numbers = sorted({len(row.seeds) for row in rows})
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
            asked = f"{triplet_count(suite, [r for r in suite.records if r.method in shown])} test triplets"
        what = "rendered images, which say nothing about real ones" if suite.rendered else "real images"
        lead = f"{asked} on each of {tasks} task{'s' * (tasks != 1)}, the same for every method; {what}."
        comparison = summary.comparison
        if numbers[-1] == 1:
            more.append("With one seed, the variation between seeds is unknown.")
        elif "mean" in comparison.best:
            stands = [row.standing.get("mean") for row in rows]
            counts = (
                f"{stands.count('tied')} tied, {stands.count('worse')} worse, {stands.count('undecided')} undecided"
            )
            more.append(f"Against the highest mean: {counts}, at 5 % for all pairs of {comparison.methods} methods.")
            if comparison.single:
                more.append(
                    f"One seed, so undecided, however far below: {joined(comparison.single, 4)}."
                    " Run the same seeds for all."
                )
            if comparison.images:
                more.append(
                    f"The weakest column rests on as much evidence as {comparison.images:,.0f} independent test images."
                )
    if suite.quick:
        more.append("Quick protocol, a short training of a small network: a full one may rank them differently.")
    more += _trouble(every)
    if summary.unequal:
        more.append("These runs differ in more than the method: see the remarks above the leaderboard.")
    return Answer("How sure is that?", short, lead, tuple(more))


def _trouble(every: Sequence[Row]) -> tuple[str, ...]:
    """Say which methods failed, collapsed or break the contract."""
    why = {"breaks the contract": ", so its numbers may be wrong"}
    return tuple(
        f"{what.capitalize()}{why.get(what, '')}: {joined(names, 4)}." for what, names in _troubled(every).items()
    )


def _troubled(every: Sequence[Row]) -> dict[str, list[str]]:
    """Return the methods with which something went wrong, by what did."""
    found = {
        "failed": [row.method for row in every if row.outcome.failed],
        "collapsed": [row.method for row in every if row.outcome.collapsed],
        "breaks the contract": [row.method for row in every if row.outcome.broken],
    }
    return {what: names for what, names in found.items() if names}


def _base_of(summary: Summary, rows: Sequence[Row], best: Row) -> Row | None:
    """Return the row that Δm of the best is relative to, where it is among some rows."""
    base = summary.suite.row_of(summary.suite.base, best.method)
    base = next((row.again for row in summary.rows if row.method == base and row.again), base)
    return next((row for row in rows if row.method == base), None)


# --- the three lines below tables -----------------------------------------------------------------------------------


def _closing(group: _Group, rows: Sequence[Row], every: Sequence[Row]) -> tuple[str, ...]:
    priced_rows = group.cheapest[:2] or [*group.smallest[:1], *group.fastest[:1]] or [group.best]
    shown = dict.fromkeys(row.method for row in priced_rows)
    costs = [_costs_of(group.words, next(row for row in rows if row.method == name)) for name in shown]
    base = _base_of(group.words.summary, rows, group.best)
    if base and base.method not in shown and (size := group.words.number(base, _SIZE, "MB")):
        costs.append(f"{base.method} {size}")
    return (
        f"Which method? {_told(group, rows)}.",
        f"What does it cost? {'; '.join(costs)}.",
        f"How sure is that? {_trusted(group, rows, every)}.",
    )


def _told(group: _Group, rows: Sequence[Row]) -> str:
    """Say which methods are tied for best, and the cheapest of them."""
    best, comparison, mean = group.best, group.words.summary.comparison, group.words.mean(group.best)
    fallen = "; some of its embeddings COLLAPSED" if best.outcome.collapsed else ""
    if len(rows) == 1:
        only = "shown" if comparison.methods > 1 else "that has finished"
        return f"{best.method}, {mean}, is the only one {only}{fallen}"
    if comparison.obstacle == "seeds":
        return f"undecided: one seed. {best.method} has the highest mean, {mean}{fallen}"
    if "mean" not in comparison.best:
        return f"{best.method} has the highest mean, {mean}{fallen}; methods could not be compared"
    undecided = [row.method for row in group.undecided]
    said = f"{best.method}, {mean}"
    if group.tied:
        said = f"{joined([row.method for row in (best, *group.tied)], 4)} are tied at {mean}"
        said += _cheapest_told(group)
        said += f"; undecided: {joined(undecided, 3)}" if undecided else ""
    elif undecided:
        said = f"undecided: {best.method} leads with {mean}; {joined(undecided, 3)} may be as good"
    said += f"; {joined(comparison.above, 3)}, of too few seeds, higher" if comparison.above else ""
    compared = len(group.tied) + len(undecided) + len(group.worse) + 1
    if not group.tied and not undecided and group.worse:
        said += "; each of the others is worse" if compared == len(rows) else f"; {len(group.worse)} are worse"
    if compared < len(rows):
        said += f"; not compared: {len(rows) - compared}"
    return said + fallen


def _cheapest_told(group: _Group) -> str:
    """Name the cheapest of the tied, by bytes and by speed; several where sizes are equal or ranges overlap."""

    def told(word: str, rows: Sequence[Row]) -> str:
        names = [row.method for row in rows]
        return f"the {word} {'is' if len(names) == 1 else 'are'} {joined(names, 3)}"

    if group.cheapest:
        everyone = len(group.cheapest) == len(group.candidates) > 1
        return "; none of them is cheaper" if everyone else f"; {told('cheapest', group.cheapest)}"
    parts = [told(word, rows) for word, rows in (("smallest", group.smallest), ("fastest", group.fastest)) if rows]
    return f"; {', '.join(parts)}" if parts else ""


def _costs_of(words: _Words, row: Row) -> str:
    """Return a method's storage and speed: `shared 2.83 MB, +131 kB a task, 14,714 ±11% images/s`."""
    size, speed, added = words.number(row, _SIZE, "MB"), words.number(row, _SPEED, "images/s"), _added(words, row)
    said = [size, f"{added} more for the next task" if size and added else "", speed]
    return f"{row.method} {', '.join(filter(None, said)) or 'not measured'}"


def _trusted(group: _Group, rows: Sequence[Row], every: Sequence[Row]) -> str:
    """Say on what the comparison rests."""
    summary = group.words.summary
    suite, numbers = summary.suite, sorted({len(row.seeds) for row in rows})
    seeds = f"{numbers[0]} to {numbers[-1]} seeds" if len(numbers) > 1 else f"{numbers[0]} seeds"
    if numbers[-1] == 1:
        seeds = "one seed: not known, run --seeds 0-2"
    elif "mean" in summary.comparison.best:
        stands = [row.standing.get("mean") for row in rows]
        seeds += f": against the highest mean, {stands.count('tied')} tied"
        seeds += f", {stands.count('undecided')} undecided, {stands.count('worse')} worse"
    shown = {row.method for row in every}
    on = []
    if summary.metric == "triplet":
        on.append(f"{triplet_count(suite, [r for r in suite.records if r.method in shown])} test triplets a task")
    on += ["rendered images, not real ones" if suite.rendered else "real images", *(["quick protocol"] * suite.quick)]
    wrong = [f"{what}: {joined(names, 3)}" for what, names in _troubled(every).items()]
    return "; ".join([f"{seeds} ({', '.join(on)})", *wrong])
