"""Write the table of results/README.md that holds the modulation paper's claims against the published records.

    python tools/claims.py            # the table in Markdown
    python tools/claims.py --write    # put it into results/README.md

A difference of two methods is that of their mean test triplet accuracy, in points, with the 95 % interval of that pair
alone, which allows for other seeds and other test images (`mtlbench.Results.compare`). A claim holds where the whole
interval is above 0, fails where it is below 0, is `level` where it lies within ±1 point, and can't be told otherwise.
Counts, such as bytes, are exact.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mtlbench
from mtlbench.report.agreement import agreement
from mtlbench.report.comparison import compare_rows
from mtlbench.report.inference import Comparison
from mtlbench.report.rows import rows
from mtlbench.report.suites import Suite, suites
from mtlbench.runs import find_records

ROOT = Path(__file__).parents[1] / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- tools/claims.py -->\n", "<!-- end -->\n"
TUNED = " · tuned"
LEVEL = 1.0  # points


class Claim(NamedTuple):
    """One row: what is claimed, of how many tasks, what was measured, the verdict, and the results that say it."""

    what: str
    tasks: str
    measured: str
    verdict: str
    where: str


def verdict(low: float, high: float) -> str:
    """Judge an interval of a difference, in points, that is claimed to be above 0."""
    if low > 0:
        return "holds"
    if high < 0:
        return "does not hold"
    return "level" if low > -LEVEL and high < LEVEL else "can't be told"


def compared(what: str, where: str, first: str, second: str) -> Claim:
    """Compare two rows of a suite, `FOLDER/NAME`."""
    folder, name = where.split("/")
    across = ["model.backbone"] if "model.backbone" in first else []
    return judged(what, where, mtlbench.results(ROOT / folder, name, across=across).one, first, second)


def judged(what: str, where: str, suite: Suite, first: str, second: str, names: tuple[str, str] | None = None) -> Claim:
    """Compare two rows of a suite; `names`: the rows as the table calls them."""
    pair = compare_rows(suite, first, second, "", ROOT / where.split("/")[0], "triplet")
    return told(what, where, suite, pair, names or (first, second))


def told(what: str, where: str, suite: Suite, pair: Comparison, names: tuple[str, str]) -> Claim:
    """Write a difference of two rows with its interval, and judge it."""
    low, high = (100 * end for end in pair.interval())
    said = f"{' - '.join(names)}: {100 * pair.difference:+.1f} [{low:+.1f}, {high:+.1f}]"
    return Claim(what, str(len(suite.tasks)), said, verdict(low, high), where)


def stored(what: str, where: str, first: str, second: str) -> Claim:
    """Count what one more task adds to two rows, and what both take in all."""
    folder, name = where.split("/")
    suite = mtlbench.results(ROOT / folder, name).one
    costs = {row.method: row.costs for row in rows(suite)}
    total, adds = (
        {row: float(costs[row][key].mean or 0) for row in (first, second)} for key in ("file_bytes", "bytes_added")
    )
    said = "; ".join(f"{row} {total[row] / 1e6:.2f} MB, {adds[row] / 1e3:,.2f} kB more a task" for row in total)
    return Claim(what, str(len(suite.tasks)), said, "holds" if adds[first] < adds[second] else "does not hold", where)


def agreed(what: str, where: str, first: str, second: str) -> Claim:
    """Compare how often two rows' gradients agree: Welch's interval over seeds, in points."""
    folder, name = where.split("/")
    suite = mtlbench.results(ROOT / folder, name).one
    found = {row.method: row for row in agreement(suite, ROOT / folder)}
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
    modulation, shared, gradnorm = (f"{method}{TUNED}" for method in ("modulation", "shared", "gradnorm"))
    faces, shoes = "tuned/celeba-quick", "tuned/shoes-quick"
    two, four = "claims/celeba-2-own-quick", "claims/celeba-4-own-quick"
    above = "(a) modulation is more accurate than"
    for where in (two, four, faces, shoes):
        yield compared(f"{above} `shared`", where, modulation, shared)
    for where in (two, four, faces, shoes):
        yield compared(f"{above} `gradnorm`", where, modulation, gradnorm)
    for where in (faces, shoes):
        yield compared(f"{above} `cross-stitch`", where, modulation, f"cross-stitch{TUNED}")
    for where in (faces, shoes):
        yield compared(f"{above} `independent`", where, modulation, "independent")
    yield stored("(b) a further task adds less than an embedding layer", faces, modulation, shared)
    yield stored("(b) a further task adds less than a network", faces, modulation, "independent")
    whole, half = (f" · model.backbone=small{width}" for width in ("", "[width=0.5]"))
    widths = "claims/celeba-4-width-quick"
    equal = "(c) modulation is more accurate than a net of half the width for each task, at equal storage"
    yield compared(equal, widths, f"{modulation}{whole}", f"independent{TUNED}{half}")
    yield compared(
        "(c) half the width costs modulation accuracy", widths, f"{modulation}{whole}", f"{modulation}{half}"
    )
    for other in ("single", "shared"):
        yield agreed(
            f"(d) gradients agree more often than in `{other}`", "claims/celeba-4-quick", modulation, f"{other}{TUNED}"
        )
    every, some = "modulation[after=3:4:5,rate=87.26]", "modulation[after={},rate=87.26]"
    for after, what in (("3:4", "the embedding too"), ("4", "stage 3 and the embedding too"), ("5", "both stages too")):
        yield compared(
            f"(e) modulating {what} adds accuracy", "claims/celeba-4-layers-quick", every, some.format(after)
        )
    yield from transferred()
    for where in (faces, shoes):
        yield compared("(g) tuning makes modulation more accurate", where, modulation, "modulation")


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


def table() -> str:
    """Return the claims as a table in Markdown."""
    lines = ["| claim | tasks | measured | verdict | records |", "|---|---|---|---|---|"]
    lines += [f"| {c.what} | {c.tasks} | {c.measured} | {c.verdict} | {c.where} |" for c in claims()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put it into results/README.md")
    if not parser.parse_args().write:
        print(table())
        return
    before, rest = README.read_text().split(BEGIN)
    README.write_text(before + BEGIN + table() + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
