"""Write the tables of README.md and results/README.md that come from the published records.

    python tools/tables.py            # all of them, in Markdown
    python tools/tables.py --write    # put each in its place, from `<!-- tools/tables.py NAME -->` to `<!-- end -->`

A difference of two methods is that of their mean test triplet accuracy, in points, with the 95 % interval of that pair
alone, which allows for other seeds and other test images (`mtlbench.Results.compare`). A claim holds where the whole
interval is above 0, fails where it is below 0, is `level` where it lies within ±1 point, and is undecided otherwise.
Counts, such as bytes, are exact.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import mtlbench
from mtlbench.errors import counted
from mtlbench.report.agreement import agreement
from mtlbench.report.comparison import compare_rows
from mtlbench.report.inference import LEVEL as ALPHA
from mtlbench.report.inference import PRIORS, Comparison, threshold
from mtlbench.report.pairs import in_points
from mtlbench.report.rows import Cell, Row, rows
from mtlbench.report.suites import Suite, suites
from mtlbench.runs import Record, find_records
from mtlbench.tuning.outcome import FOLDER, read_trials

ROOT = Path(__file__).parents[1] / "results"
PAGES = (ROOT.parent / "README.md", ROOT / "README.md")
BLOCK = re.compile(r"(?<=<!-- tools/tables\.py )(\S+)( -->\n)(.*?)(?=<!-- end -->\n)", re.DOTALL)
FACES, SHOES, ZAPPOS = "tuned/celeba-quick", "tuned/shoes-quick", "claims/zappos-8k-3-quick"
DRAWN = "tuned/faces-quick"
WIDTHS, MORE, PASSES, RATE, LONGER, FORTY = (
    f"claims/celeba-{name}-quick" for name in ("7-width", "7-more", "7-passes", "7-rate", "1200", "40")
)
AGREEMENT, TWENTY = "claims/celeba-4-agreement-quick", "claims/celeba-20-core-quick"
FORTY_CORE = "claims/celeba-40-core-quick"
COMPARED = {  # suites with modulation and other methods, each with its recipe, and what is special there
    **{f"claims/celeba-{name}-quick": "" for name in ("2-own", "4-own")},
    **{f"claims/celeba-{name}-quick": ", recipes of seven tasks" for name in ("2", "4")},
    FACES: "",
    LONGER: " after 1,200 steps",
    "claims/celeba-20-own-quick": "",
    "claims/celeba-20-tuned-quick": ", three triplets a task",
    TWENTY: ", three triplets a task, recipes of seven tasks",
    FORTY: "",
    FORTY_CORE: ", one triplet a task, recipes of seven tasks",
    ZAPPOS: " on shoes",
    SHOES: " on rendered shoes",
    DRAWN: " on rendered faces",
}
FOUR, WHOLE = "claims/celeba-4-width-quick", " · model.backbone=small"
COSTS = ("stored, MB", "one more task adds, kB", "MFLOPs, all tasks")
TUNED = " · tuned"
LEVEL = 1.0  # points


class Claim(NamedTuple):
    """One row: what is claimed, of how many tasks, what was measured, the verdict, and the results that say it.

    Attributes:
        pair: the difference with its interval, where it is one; plain: the same with each row's own variance between
            seeds, without the prior.
    """

    what: str
    tasks: int
    measured: str
    verdict: str
    where: str
    pair: Comparison | None = None
    plain: Comparison | None = None


def verdict(low: float, high: float) -> str:
    """Judge an interval of a difference, in points, that is claimed to be above 0."""
    if low > 0:
        return "holds"
    if high < 0:
        return "does not hold"
    return "level" if low > -LEVEL and high < LEVEL else "undecided"


def compared(what: str, where: str, first: str, second: str) -> Claim:
    """Compare two rows of a suite, `FOLDER/NAME`."""
    return judged(what, where, suite_of(where, ["model.backbone"] if "model.backbone" in first else []), first, second)


def judged(what: str, where: str, suite: Suite, first: str, second: str, names: tuple[str, str] | None = None) -> Claim:
    """Compare two rows of a suite; `names`: the rows as the table calls them."""
    pair, plain = (compare_rows(suite, first, second, "", ROOT, "triplet", priors) for priors in (PRIORS, None))
    return told(what, where, suite, pair, names or (first, second), plain)


def told(
    what: str, where: str, suite: Suite, pair: Comparison, names: tuple[str, str], plain: Comparison | None = None
) -> Claim:
    """Write a difference of two rows with its interval, and judge it."""
    said = f"{' - '.join(names)}: {in_points(pair, ALPHA)}"
    return Claim(what, len(suite.tasks), said, _verdict_on(pair), where, pair, plain)


def _verdict_on(pair: Comparison) -> str:
    low, high = (100 * end for end in pair.interval())
    return verdict(low, high)


def suite_of(where: str, across: Sequence[str] = ()) -> Suite:
    """Return the one suite of `FOLDER/NAME`."""
    folder, name = where.split("/")
    return mtlbench.results(ROOT / folder, name, across=across).one


def stored(what: str, where: str, first: str, second: str) -> Claim:
    """Count what one more task adds to two rows, and what both take in all."""
    suite = suite_of(where)
    shown = {row.method: row for row in rows(suite)}
    total, adds = ({row: _bytes(shown[row], key) for row in (first, second)} for key in ("file_bytes", "bytes_added"))
    said = "; ".join(f"{row} {total[row] / 1e6:.2f} MB, {adds[row] / 1e3:,.2f} kB more a task" for row in total)
    return Claim(what, len(suite.tasks), said, "holds" if adds[first] < adds[second] else "does not hold", where)


def agreed(what: str, where: str, first: str, second: str) -> Claim:
    """Compare how often two rows' gradients agree: Welch's interval over seeds, in points."""
    suite = suite_of(where)
    found = {row.method: row for row in agreement(suite, ROOT)}
    means, parts, freedoms = [], [], []
    for row in (found[first], found[second]):
        assert row.whole is not None
        assert row.whole.ratio.mean is not None
        assert row.whole.ratio.deviation is not None
        means.append(row.whole.ratio.mean)
        parts.append(row.whole.ratio.deviation**2 / len(row.seeds))
        freedoms.append(len(row.seeds) - 1)
    freedom = sum(parts) ** 2 / sum(part**2 / own for part, own in zip(parts, freedoms, strict=True))
    return told(what, where, suite, Comparison(means[0] - means[1], sum(parts), freedom, 0.0, 0.0), (first, second))


def claims() -> Iterator[Claim]:
    """Yield the claims in the order of the table."""
    modulation, shared = (f"{method}{TUNED}" for method in ("modulation", "shared"))
    above = "(a) modulation is more accurate than"
    found = {where: suite_of(where) for where in COMPARED}
    for other in ("shared", "gradnorm", "cross-stitch", "independent"):
        for where, suite in found.items():
            if row := row_of(suite, other):
                yield judged(f"{above} `{other}`{COMPARED[where]}", where, suite, modulation, row)
    yield compared(f"{above} `independent`", FOUR, f"{modulation}{WHOLE}", f"independent{TUNED}{WHOLE}")
    yield stored("(b) a further task adds less than an embedding layer", FACES, modulation, shared)
    yield stored("(b) a further task adds less than a network", FACES, modulation, "independent")
    yield stored("(b) a further task adds less than an embedding layer", FORTY, modulation, shared)
    half = f"{WHOLE}[width=0.5]"
    equal = "(c) modulation is more accurate than a net of half the width for each task, at equal storage"
    yield compared(equal, FOUR, f"{modulation}{WHOLE}", f"independent{TUNED}{half}")
    yield compared("(c) half the width costs modulation accuracy", FOUR, f"{modulation}{WHOLE}", f"{modulation}{half}")
    yield from at_equal_storage()
    for other in ("single", "shared"):
        what = f"(d) gradients agree more often than in `{other}`, all with the same learning rate"
        yield agreed(what, AGREEMENT, "modulation[rate=87.26]", other)
    every, some = "modulation[after=3:4:5,rate=87.26]", "modulation[after={},rate=87.26]"
    for after, what in (("3:4", "the embedding too"), ("4", "stage 3 and the embedding too"), ("5", "both stages too")):
        yield compared(
            f"(e) modulating {what} adds accuracy", "claims/celeba-4-layers-quick", every, some.format(after)
        )
    yield from transferred()
    for where in (FACES, ZAPPOS, SHOES, DRAWN):
        yield compared("(g) tuning makes modulation more accurate", where, modulation, "modulation")


def row_of(suite: Suite, method: str) -> str:
    """Return the name of a method's row with its recipe, which may be the default; empty if there is none."""
    there = {record.method for record in suite.done if record.kind == "method"}
    return next((name for name in (f"{method}{TUNED}", method) if name in there), "")


def at_equal_storage() -> Iterator[Claim]:
    """Compare modulation of each width with the smallest networks of other methods that store as much or more."""
    suite, shown = of_widths()
    stored = {key: _bytes(row, "file_bytes") for key, row in shown.items()}
    for method in ("independent", "shared"):
        for ours in sorted((key for key in shown if key[0] == "modulation"), key=stored.__getitem__):
            theirs = min(
                (key for key in shown if key[0] == method and stored[key] >= stored[ours]), key=stored.__getitem__
            )
            names = [f"{key[0]} of width {key[1]} ({stored[key] / 1e6:.2f} MB)" for key in (ours, theirs)]
            yield judged(
                f"(c) modulation is more accurate than the smallest `{method}` that stores as much",
                WIDTHS, suite, shown[ours].method, shown[theirs].method, (names[0], names[1]),
            )  # fmt: skip


def transferred() -> Iterator[Claim]:
    """Compare ways to add tasks to a trained network; their benchmarks differ in how a network begins."""
    claimed = ROOT / "claims"
    names = sorted(path.name for path in claimed.glob("celeba-new-*") if path.is_dir())
    records = [record for name in names for record in find_records(claimed, name)]
    (suite,) = suites(records, across=("name", "model.pretrained", "model.freeze", "train.lr", "train.weight_decay"))
    row: dict[str, dict[str, str]] = {}
    for record in suite.done:
        made = row.setdefault(str(record.setup["benchmark"]["name"]), {})
        made[str(record.setup["method"]["name"])] = record.method
    scales = row["celeba-new-frozen-quick"]["frozen-network[rate=87.26]"]
    for what, name, method, called in (
        ("new embedding layers on a frozen trunk", "celeba-new-head-quick", "shared", "frozen trunk, new layers"),
        ("a new `shared` network", "celeba-new-quick", "shared", "shared"),
        ("new nets", "celeba-new-quick", "independent", "independent"),
    ):
        yield judged(
            f"(f) new scales alone, for new tasks on a frozen modulated network, are more accurate than {what}",
            "claims/celeba-new-quick", suite, scales, row[name][method], ("frozen network, new scales", called),
        )  # fmt: skip


def claims_table() -> str:
    """Return what is claimed of modulation; bold: decided even if all differences of the table are tested at once."""
    found = list(claims())
    at_once = decided_at_once([one.pair.p for one in found if one.pair])
    lines = []
    for one in found:
        said, p = one.verdict, ""
        if one.pair:
            near = abs(one.pair.p - ALPHA) < 0.0005  # 0.050 would not tell on which side
            p = f"{one.pair.p:.{4 if near else 3}f}" if one.pair.p >= 0.001 else "<0.001"
            said = f"**{said}**" if one.pair.p <= at_once else said
        if one.plain and (other := _verdict_on(one.plain)) != one.verdict:
            said += f"; without the prior: {other}"
        lines.append((one.what, str(one.tasks), one.measured, p, said, one.where))
    return _markdown(("claim", "tasks", "measured", "p", "verdict", "records"), lines)


def decided_at_once(found: Sequence[float], level: float = ALPHA) -> float:
    """Return the highest p-value that Holm's procedure decides among several; -1 if none (Holm 1979)."""
    highest = -1.0
    for place, p in enumerate(sorted(found)):
        if p > level / (len(found) - place):
            break
        highest = p
    return highest


def against_table() -> str:
    """Return modulation against every other method on seven tasks of faces, in three ways."""
    whole = suite_of(FACES)
    (fresh,) = suites([record for record in _records(FACES) if record.seed])
    shown = {row.method: row for row in rows(whole) if row.kind == "method"}
    modulation = f"modulation{TUNED}"
    lines = []
    for method in sorted({_method(row) for row in shown.values()} - {"modulation"}):
        other = shown[row_of(whole, method)]
        pairs = [
            compare_rows(suite, modulation, other.method, "", ROOT, "triplet", priors)
            for suite, priors in ((whole, PRIORS), (fresh, PRIORS), (whole, None))
        ]
        lines.append((_mean(other), (other.method, *(in_points(pair, ALPHA) for pair in pairs))))
    lines.sort(key=lambda line: -line[0])
    heads = (f"{modulation} against", "five seeds", "the four that tuning did not use", "five, without the prior")
    return _markdown(heads, (line for _, line in lines))


def tuning_table(where: str) -> str:
    """Return what tuning changed in a suite: every method by default and with its recipe, the best first."""
    folder, name = where.split("/")
    found = mtlbench.results(ROOT / folder, name)
    shown = {row.method: row for row in rows(found.one) if row.kind == "method"}
    kept = {one.method for one in read_trials(ROOT / folder / name / FOLDER) if one.recipe == {}}
    lines = []
    for method in dict.fromkeys(row.removesuffix(TUNED) for row in shown):
        tuned = shown.get(method + TUNED)
        default = shown.get(method)
        if default is None and tuned is not None and method not in kept:
            lines.append((_mean(tuned), (method, "not run", _mean_of(tuned), "")))
            continue
        default = default or tuned  # where the default won, runs with a recipe are runs by default
        assert default is not None
        if method in kept or tuned is None:
            what = "the default won" if method in kept else "not tuned"
            lines.append((_mean(default), (method, _mean_of(default), what, "")))
        else:
            pair = found.compare(tuned.method, method)
            lines.append((_mean(tuned), (method, _mean_of(default), _mean_of(tuned), in_points(pair, ALPHA))))
    lines.sort(key=lambda line: -line[0])
    return _markdown(("method", "default", "tuned", "difference"), (line for _, line in lines))


def longer_table() -> str:
    """Return what three times the training changes on seven tasks of faces; both have the same recipes."""
    (suite,) = suites(_records(FACES) + _records(LONGER), across=("name", "train.steps"))
    shown: dict[str, dict[int, Row]] = {}
    for row in rows(suite):
        method, _, rest = row.method.partition(TUNED)
        if row.kind == "method" and rest:
            shown.setdefault(method, {})[int(rest.rpartition("=")[2])] = row
    lines = []
    for method, lengths in shown.items():
        if len(lengths) == 2:
            short, long = (lengths[steps] for steps in sorted(lengths))
            pair = compare_rows(suite, long.method, short.method, "", ROOT, "triplet")
            lines.append((method, _mean_of(short), _mean_of(long), in_points(pair, ALPHA)))
    return _markdown(("method", "400 steps", "1,200 steps", "difference"), lines)


def more_table() -> str:
    """Return further methods on seven tasks of faces, the best first, by default and with recipes, against `shared`.

    Another row is `shared` with the learning rate of gradnorm's recipe.
    """
    more = _records(MORE) + _records(PASSES)
    (suite,) = suites(more + _records(FACES) + _records(RATE), across=("name", "train.lr", "train.weight_decay"))
    asked = {record.setup["method"]["name"] for record in more if record.kind == "method"} | {"gradnorm", "shared"}
    kept = {one.method for where in (MORE, FACES) for one in read_trials(ROOT / where / FOLDER) if one.recipe == {}}
    default: dict[str, Row] = {}
    tuned: dict[str, Row] = {}
    for row in rows(suite):
        method, *settings = row.method.split(" · ")
        if f"name={RATE.split('/')[1]}" in settings:
            tuned["shared, lr 0.0183"] = row
        elif method in asked:
            (tuned if "tuned" in settings else default)[method] = row

    def versus(shown: dict[str, Row], method: str) -> str:
        if method == "shared" or method not in shown:
            return ""
        return in_points(compare_rows(suite, shown[method].method, shown["shared"].method, "", ROOT, "triplet"), ALPHA)

    tuned |= {method: default[method] for method in kept & asked}
    lines = []
    for method in sorted(default | tuned, key=lambda method: -_mean((default | tuned)[method])):
        won = _mean_of(tuned[method]) if method in tuned else ""
        if method in kept:
            won = "the default won"
        plain = _mean_of(default[method]) if method in default else ""
        lines.append((method, plain, versus(default, method), won, versus(tuned, method)))
    return _markdown(("method", "default, %", "against shared", "tuned, %", "against tuned shared"), lines)


def of_widths() -> tuple[Suite, dict[tuple[str, str], Row]]:
    """Return networks of several widths, by method and width; those of width 1 are all methods of `FACES`."""
    (suite,) = suites(_records(WIDTHS) + _records(FACES), across=("name", "model.backbone"))
    shown: dict[tuple[str, str], Row] = {}
    for row in rows(suite):
        if row.kind == "method":
            method, *settings = row.method.split(" · ")
            width = re.search(r"width=([\d.]*)", row.method)
            key = (method, width[1] if width else "1")
            if "tuned" in settings or key not in shown:
                shown[key] = row
    return suite, shown


def front_table() -> str:
    """Return storage and accuracy of networks of several widths, the smallest first, and which are on the front."""
    _, shown = of_widths()
    stored = {key: _bytes(row, "file_bytes") for key, row in shown.items()}
    lines, highest = [], 0.0
    for key in sorted(stored, key=lambda key: (stored[key], -_mean(shown[key]))):
        row = shown[key]
        front = "yes" if _mean(row) > highest else ""
        highest = max(highest, _mean(row))
        lines.append((*key, *_costs(row), _mean_of(row), front))
    return _markdown(("method", "width", *COSTS, "accuracy, %", "on the front"), lines)


def first_table() -> str:
    """Return the README's first table: the core methods and `single`, each with its recipe, the best first."""
    folder, name = FACES.split("/")
    found = mtlbench.results(ROOT / folder, name)
    shown = {row.method: row for row in rows(found.one) if row.kind == "method"}
    core = ("independent", "shared", "cross-stitch", "gradnorm", "modulation", "single")
    best = sorted((shown[row_of(found.one, method)] for method in core), key=lambda row: -_mean(row))
    lines = []
    for row in best:
        versus = ""
        if row is not best[0]:
            versus = in_points(found.compare(row.method, best[0].method), threshold(len(best)))
        lines.append((_method(row), _mean_of(row), versus, *_costs(row)))
    return _markdown(("method", "accuracy, %", f"difference to {_method(best[0])}", *COSTS), lines)


def _records(where: str) -> list[Record]:
    folder, name = where.split("/")
    return find_records(ROOT / folder, name)


def _bytes(row: Row, key: str) -> float:
    return float(row.costs[key].mean or 0)


def _costs(row: Row) -> tuple[str, ...]:
    """Write what `COSTS` says of a row."""
    stored, added, operations = (_bytes(row, key) for key in ("file_bytes", "bytes_added", "flops_all_tasks"))
    return f"{stored / 1e6:.2f}", f"{added / 1e3:,.2f}", f"{operations / 1e6:.0f}"


def _method(row: Row) -> str:
    return row.method.removesuffix(TUNED)


def _mean(row: Row) -> float:
    mean = row.accuracy["mean"].mean
    assert mean is not None
    return mean


def _mean_of(row: Row) -> str:
    """Write a row's mean with its deviation over seeds, and which seeds collapsed."""
    cell: Cell = row.accuracy["mean"]
    said = f"{100 * _mean(row):.1f} ±{100 * (cell.deviation or 0):.1f}"
    tasks = Counter(0 if one.all_tasks else len(one.tasks) for one in row.outcome.collapsed.values())
    for number, seeds in sorted(tasks.items()):
        where = f" on {counted(number, 'task')}" if number else ""
        said += f", {counted(seeds, 'seed')} collapsed{where}"
    return said


def _markdown(headings: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    headings = list(headings)
    written = [headings, ["---"] * len(headings), *lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in written).replace("| --- ", "|---").replace("--- |", "---|")


TABLES: dict[str, Callable[[], str]] = {
    "first": first_table,
    "claims": claims_table,
    "against": against_table,
    "longer": longer_table,
    "front": front_table,
    "more": more_table,
    FACES: lambda: tuning_table(FACES),
    SHOES: lambda: tuning_table(SHOES),
    DRAWN: lambda: tuning_table(DRAWN),
    ZAPPOS: lambda: tuning_table(ZAPPOS),
}


def with_tables(text: str) -> str:
    """Return a page with its tables as the records give them."""
    return BLOCK.sub(lambda block: f"{block[1]}{block[2]}{TABLES[block[1]]()}", text)


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put them into README.md and results/README.md")
    if not parser.parse_args().write:
        for name, table in TABLES.items():
            print(f"{name}\n\n{table()}")
        return
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))


if __name__ == "__main__":
    main()
