"""The small print below tables: what was measured, on what and with what, and where runs of one table differ in it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mtlbench.busy import STARVED
from mtlbench.errors import counted
from mtlbench.names import joined
from mtlbench.recipes import conditions, in_which, in_words, unlike
from mtlbench.report.groups import BASE
from mtlbench.report.rows import LEARNED, Row
from mtlbench.report.suites import Suite, has_recipe
from mtlbench.runs import Record
from mtlbench.runs.record import UNCHECKED

STEADY = 0.2  # half the range of repeats, as a share of their median: speeds that vary more can't be compared


@dataclass(frozen=True)
class Line:
    """A line of the small print.

    Attributes:
        about: what it is about, as readers see it.
        text: what it says.
        brief: what of it stands below every table, without --notes: what a reader would miss there. Empty for nothing.
    """

    about: str
    text: str
    brief: str = ""

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"


@dataclass(frozen=True)
class Receipt:
    """What runs were made on and with."""

    data: Line
    protocol: Line
    speed: Line
    made_by: Line

    def lines(self, timed: bool = True) -> list[Line]:
        """Return its lines, with that of speed and memory or without."""
        return [self.data, self.protocol, *([self.speed] if timed else []), self.made_by]


def _who(records: Sequence[Record], every: Sequence[Record]) -> str:
    """Name runs by method, with their seeds where it has others too; those of some seeds of all methods by these."""
    seeds, names = sorted({r.seed for r in records}), []
    of_these = [r for r in every if r.seed in seeds]
    if len(records) == len(of_these) < len(every) and len({r.method for r in every}) > 1:
        return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} of all"
    for method in dict.fromkeys(r.method for r in records):
        seeds = sorted(r.seed for r in records if r.method == method)
        whole = len(seeds) == sum(r.method == method for r in every)
        names.append(method if whole else f"{method} seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}")
    return ", ".join(names)


def _values(records: Sequence[Record], pick: Callable[[Record], Any]) -> dict[str, list[Record]]:
    """Return the records by what they have, those that have most in common first; without those that have nothing."""
    found: dict[str, list[Record]] = {}
    for record in records:
        value = pick(record)
        if value not in (None, ""):
            found.setdefault(f"{value:,}" if isinstance(value, int) else str(value), []).append(record)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _listed(records: Sequence[Record], pick: Callable[[Record], Any]) -> str:
    """Write a value that runs have in common; where they don't, each value with the runs that have it."""
    found = _values(records, pick)
    if len(found) < 2:
        return next(iter(found), "")
    (first, most), *rest = found.items()
    others = _who(most, records) if len({r.method for r in most}) <= 3 else "the others"
    return "; ".join([*(f"{value} ({_who(some, records)})" for value, some in rest), f"{first} ({others})"])


_MADE_BY: dict[str, Callable[[Record], Any]] = {
    "commit": lambda r: r.receipt.get("commit"),
    "mtlbench": lambda r: r.receipt.get("mtlbench"),
    "torch": lambda r: r.receipt.get("torch"),
    "torchvision": lambda r: r.receipt.get("torchvision"),
    "Python": lambda r: r.receipt.get("python"),
    "system": lambda r: r.receipt.get("system"),
}


def _made_by(records: Sequence[Record]) -> dict[str, Callable[[Record], Any]]:
    """Return what runs were made with: `_MADE_BY`, and the packages that some of them needed beside mtlbench's own."""
    names = sorted({name for record in records for name in record.receipt.get("packages", {})})
    return _MADE_BY | {name: partial(_version, name) for name in names}


def _version(package: str, record: Record) -> Any:
    return record.receipt.get("packages", {}).get(package)


_CHOSEN: dict[str, Callable[[Record], Any]] = {
    "selection": lambda r: r.receipt.get("selection"),
    "tuned configurations": lambda r: r.receipt.get("protocols_tried", 1),
    "images seen": lambda r: r.receipt.get("images_seen"),
    "test triplets": lambda r: r.receipt.get("test_triplets"),
}


def _normalised(record: Record) -> str:
    """Return over how many images a run's batch norms averaged, where every task had its own images."""
    found = record.receipt.get("normalised") or []
    return " to ".join(f"{number:,}" for number in sorted({*found[:1], *found[-1:]}))


def _weights_file(record: Record) -> str:
    """Return which file a run's network began from, where it was one."""
    file = record.receipt.get("pretrained") or {}
    return f" from {file['file']} (sha256 {file['sha256'][:16]})" if file else ""


def warnings_of(suite: Suite, records: Sequence[Record], default_won: Collection[str] = ()) -> list[str]:
    """Say in what the runs of one table differ beside method and seed, and which come from edited sources.

    Methods of which `default_won` in tuning are tuned, whatever their runs say.
    """
    done = [r for r in records if r.status == "done" and r.kind == "method"]
    unlike = [name for name, pick in (_CHOSEN | _made_by(done)).items() if len(_values(done, pick)) > 1]
    found = [f"these runs differ in {', '.join(unlike)}: see the small print."] if unlike else []
    seeds: dict[str, set[int]] = {}
    for record in done:
        seeds.setdefault(record.method, set()).add(record.seed)
    if len(set(map(frozenset, seeds.values()))) > 1:
        found.append("methods have different seeds: each mean is over the seeds that its method has.")
    tuned = {str(r.setup["method"]["name"]): r.receipt.get("recipe", {}).get("trials") for r in done if has_recipe(r)}
    plain = {str(r.setup["method"]["name"]) for r in done} - tuned.keys() - set(default_won)
    if tuned and plain:
        found.append(
            f"not tuned: {', '.join(sorted(plain))}. Methods with a tuned recipe had more trials: mtlbench tune gives"
            " them as many, --plain runs all without."
        )
    if len(set(tuned.values())) > 1:
        found.append("methods were tuned with different numbers of trials: see the small print.")
    if elsewhere := in_which({r.method: _unlike_its_recipe(r) for r in done}):
        found.append(f"recipes found under other conditions, perhaps wrong for these: {elsewhere}.")
    if lucky := _with_seeds_of_tuning(done):
        rows = ", ".join(lucky)
        found.append(f"recipes chosen with seeds that are measured here, so that means are a little too high: {rows}.")
    if unchecked := list(dict.fromkeys(r.method for r in done if UNCHECKED in r.receipt.get("checked", {}).values())):
        found.append(f"not checked against the contract (mtlbench check) when trained: {', '.join(unchecked)}.")
    if any(r.method in suite.sources for r in done):
        found.append("runs from different versions of a method's source have separate rows.")
    return found


def _unlike_its_recipe(record: Record) -> list[str]:
    """Return in what a run's conditions differ from those that its recipe was found under."""
    setup = record.setup
    if not has_recipe(record):  # that of a default that won is empty, and was found somewhere too
        return []
    here = conditions(setup["benchmark"], setup["tasks"], setup["data"])
    return unlike(record.receipt.get("recipe", {}), here | {"code": setup.get("code", {})})


def _with_seeds_of_tuning(done: Sequence[Record]) -> list[str]:
    """Return the rows of several seeds among which is one that their recipe was chosen with.

    The winning trial had a good recipe and good luck, and the run of its seed repeats both.
    """
    chosen: dict[str, set[int]] = {}
    for record in done:
        if record.setup["method"].get("recipe") and not _unlike_its_recipe(record):
            chosen[record.method] = set(record.receipt.get("recipe", {}).get("seeds", []))
    measured = {row: {r.seed for r in done if r.method == row} for row in chosen}
    return [row for row, seeds in chosen.items() if len(measured[row]) > 1 and seeds & measured[row]]


def triplet_count(suite: Suite, records: Sequence[Record]) -> str:
    """Return how many test triplets a task were answered, in words where runs differ in it."""
    done = [r for r in records if r.status == "done" and r.kind == "method"]
    return _listed(done, _CHOSEN["test triplets"]) or f"{suite.benchmark['evaluation']['triplets']:,}"


def accuracy_line(suite: Suite, tasks: Sequence[str], records: Sequence[Record], metric: str = "triplet") -> Line:
    """Say what the accuracy columns hold."""
    done = [r for r in records if r.status == "done" and r.kind == "method"]
    what = (
        f"{triplet_count(suite, records)} test triplets a task"
        if metric == "triplet"
        else f"{metric} on the test images"
    )
    seeds = {r.seed for r in done}
    over = f", mean ± sample standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else ""
    some = ""
    if len(tasks) < len(suite.tasks):
        some = f" All columns are over {', '.join(tasks)}; trained and chosen on all {len(suite.tasks)} tasks."
    rare = suite.benchmark["evaluation"].get("min_images")
    if rare and metric == "triplet" and suite.benchmark["data"].get("split") != "csn":
        what += f", fewer in proportion from label values with fewer than {counted(rare, 'image')}"
    spread = f"±: sample standard deviation over {len(seeds)} seeds." if over else ""
    return Line(
        "accuracy",
        f"{what}, the same for all methods{over}; mAP@R, P@1: macro means over label values, mean over tasks.{some}",
        " ".join(filter(None, (spread, some.strip()))),
    )


def factors_line(suite: Suite) -> Line | None:
    """Say by which settings rows are named."""
    if not suite.factors:
        return None
    named = f"named by {', '.join(suite.factors)}, the only difference between their runs besides method and seed."
    return Line("rows", named, f"rows: {named}")


def recipes_line(records: Sequence[Record], again: Mapping[str, str], default_won: Collection[str]) -> Line | None:
    """Say what each tuned row has of its own, and where that came from; of `again`, that it is another row again.

    Args:
        records: of the rows.
        again: rows that are the same runs as another, with that row.
        default_won: rows whose runs are by default and tuned ones too.
    """
    tuned = {r.method: r for r in records if has_recipe(r)}
    if not tuned:
        return None
    origins: dict[str, list[str]] = {}
    for row, record in tuned.items():
        recipe = record.setup["method"]["recipe"]
        content = in_words(recipe) if recipe else "the default won"
        origins.setdefault(_origin(record.receipt.get("recipe", {})), []).append(f"{row}: {content}")
    said = [f"{origin}: {'; '.join(rows)}" for origin, rows in origins.items()]
    own = [row for row, record in tuned.items() if record.setup["method"]["recipe"]]
    default = [row for row in dict.fromkeys(r.method for r in records) if row in default_won and row not in again]
    kept = [row for row in default if row not in tuned and row not in again.values()]
    brief = [
        f"Rows with their own recipe (shown by --notes): {', '.join(own)}." if own else "",
        f"Tuned, but the default won: {', '.join(default)}." if default else "",
    ]
    same = f" The same run twice, counted once: {'; '.join(f'{row} and {first}' for row, first in again.items())}."
    return Line(
        "recipes",
        f"{'. '.join(said)}.{f' The default won: {joined(kept)}.' if kept else ''}"
        f" All other settings are the protocol's.{same if again else ''}",
        " ".join(filter(None, brief)),
    )


def _origin(found: dict[str, Any]) -> str:
    """Say where a recipe came from, from what its table says."""
    if not found.get("trials"):
        return "of unknown origin"
    seeds = found.get("seeds", [])
    of_seeds = f", seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}" if seeds else ""
    by = f", by {found['command']}" if found.get("command") else ""
    halved = f" by successive halving ({found['halving']})" if found.get("halving") else ""
    trials = counted(found["trials"], "trial")
    return f"tuned, {trials} a method{halved} on the {found.get('split', 'val')} split{of_seeds}{by}"


def base_line(found: Sequence[Row], suite: Suite, metric: str) -> Line | None:
    """Say what Δm is, or why there is none."""
    method = suite.base
    bases = {suite.row_of(method, row.method) for row in found if row.kind == "method"}
    base = [r for r in suite.done if r.method in bases]
    if not base:
        if any(r.setup["method"]["name"] == method for r in suite.done):
            why = f"{method} has runs from several versions of its source"
        elif len(suite.bases) > 1:
            why = f"{' and '.join(suite.bases)} are each a base to measure against"
        else:
            why = f"no finished run of {method or f'a base, a method of the group {BASE!r}'}"
        return _no_base(f"{why} in this suite")
    others = [row for row in found if row.kind == "method" and not row.is_base]
    if not others:
        return None
    left_out = [task.replace("_", " ") for task in dict.fromkeys(t for row in others for t in row.unlearned)]
    if not any("delta_m" in row.accuracy for row in others):
        shared = any(row.seeds and set(row.seeds) & {r.seed for r in base} for row in others)
        why = f"no seed is shared with {method}"
        if shared:
            why = f"{method} learned no task, or {metric} or its chance level is missing"
        return _no_base(why)
    seeds: dict[str, set[int]] = {}
    for record in base:
        seeds.setdefault(record.method, set()).add(record.seed)
    base_of = {row.method: suite.row_of(method, row.method) for row in others}
    unpaired = {row.method: sorted(set(row.seeds) - seeds.get(base_of[row.method], set())) for row in others}
    without = [f"{row} {', '.join(map(str, left))}" for row, left in unpaired.items() if left]
    collapsed = sorted({task for r in base for task in r.collapsed if f"task/{task}" in others[0].accuracy})
    chosen = "validation scores"
    if any(row.by_test for row in others):
        chosen = "test scores for lack of validation scores, so Δm is a little too low"
    same = f" of the same {', '.join(suite.factors)}" if suite.factors else ""
    doubts = [
        f"Δm is relative to {method}{same}." if same else "",
        f"Δm leaves out {', '.join(left_out)}, which {method} did not learn." if left_out else "",
        f"{method} collapsed on {', '.join(collapsed)}: Δm says little." if collapsed else "",
        f"Δm leaves out seeds that {method} lacks: {'; '.join(without)}." if without else "",
    ]
    return Line(
        "Δm",
        f"difference to {method}{same} in % of what {method} has above chance, at least {100 * LEARNED:g} points; mean"
        f" over the tasks that it learned (with every seed more than that above chance, by {chosen}), seed by seed;"
        f" tasks hurt: those whose interval of the difference to {method} lies below 0, at 95 % for all tasks together,"
        " unknown with one seed."
        + (f" Left out, because {method} did not learn them: {', '.join(left_out)}." if left_out else "")
        + (f" Left out, because {method} lacks these seeds: {'; '.join(without)}." if without else "")
        + (f" {method} collapsed on {', '.join(collapsed)}: Δm says little." if collapsed else ""),
        " ".join(filter(None, doubts)),
    )


def _no_base(why: str) -> Line:
    return Line("Δm, tasks hurt", f"absent, {why}.", f"No Δm and no tasks hurt: {why}.")


def receipt_of(suite: Suite, records: Sequence[Record]) -> Receipt:
    """Return what some of a suite's runs were made on and with, and how their checkpoints were chosen."""
    receipt = suite.receipt
    data, data_settings = receipt.get("data", {}), suite.benchmark["data"]
    size = data_settings["image_size"]
    height, width = (size, size) if isinstance(size, int) else size
    runs = [r for r in records if r.kind == "method"]
    done = [r for r in runs if r.status == "done"]
    seen = _listed(done, _CHOSEN["images seen"])
    tried = _values(done, _CHOSEN["tuned configurations"])
    chosen = ""
    if len(tried) > 1:
        chosen = f"; configurations tuned: {_listed(done, _CHOSEN['tuned configurations'])}"
    elif not set(tried) <= {"1"}:
        chosen = f"; protocol chosen among {next(iter(tried))}, the same for all methods"
    selection = _listed(done, _CHOSEN["selection"]) or "highest mean triplet accuracy on the validation split"
    named = "rendered, not real" if data.get("rendered") else "real images"
    cells = {
        "value": "",
        "first": ", the first of several values in a cell",
        "unlabelled": ", cells with several values unlabelled",
        "set": ", cells with several values are sets, alike where they share a value",
    }
    several = data_settings.get("multi_valued", "value")  # a later version may know another rule
    rules = cells.get(several, f", cells with several values by the rule {several}")
    if data_settings.get("min_images"):
        rules += f", values with fewer than {counted(data_settings['min_images'], 'image')} unlabelled"
    lost = ""
    if data.get("unreadable"):
        lost = f"{data['unreadable']:,} unreadable image{'s' * (data['unreadable'] > 1)} left out"
        rules += f", {lost}"
    if data.get("in_two_splits"):
        rules += f", {counted(data['in_two_splits'], 'image')} the same as one of another split"
    sets = ""
    if data.get("test_queries"):
        sets = f" ({data['test_queries']:,} queries against {data['test_gallery']:,} gallery images)"
    if data.get("camera"):
        sets += f", images of a query's own group by its own {data['camera']} left out of its gallery in retrieval"
    shown = done or runs or records
    made = {name: _listed(shown, pick) for name, pick in _made_by(shown).items()}
    timed = any("train_rate" in r.costs for r in done)
    rates = "no speeds in these records"
    if timed:
        rates = f"median ± half the range; rates count images, not images × tasks{_batches(done)}"
    shaken = unsteady(done)
    precision = _listed(shown, lambda r: r.receipt.get("precision"))
    numbers = f"{receipt.get('device')}, {precision}{_how_computed(done)}"
    commit = f", commit {made['commit']}" if made["commit"] else ""
    dates = sorted({str(r.receipt.get("date"))[:10] for r in shown})
    versions = [f"{name} {text}" for name, text in made.items() if text and name not in ("commit", "mtlbench")]
    said = _Said(suite)
    backbone, size_of = said("model.backbone", "{} backbone"), said("model.embedding", "{}-d")
    if suite.benchmark["model"].get("pretrained") or "model.pretrained" in suite.factors:
        from_file = _listed(done, _weights_file).replace("{", "{{").replace("}", "}}")
        backbone += f", {said('model.pretrained', f'pretrained{from_file}')}"
    if suite.benchmark["model"].get("freeze") or "model.freeze" in suite.factors:
        all_of_them = suite.benchmark["model"].get("freeze") is True
        backbone += f", {said('model.freeze', 'all stages frozen' if all_of_them else 'first stages frozen: {}')}"
    if suite.benchmark["model"].get("pretrained_rate", 1) != 1 or "model.pretrained_rate" in suite.factors:
        backbone += f", {said('model.pretrained_rate', 'pretrained stages at {:g} of the lr')}"
    averaged = _listed(done, _normalised) if len(_values(done, _normalised)) > 1 else ""
    norms = f"; images that batch norm averages over at a time: {averaged}" if averaged else ""
    seeds = sorted({r.seed for r in runs or records})
    return Receipt(
        Line(
            "data",
            f"{data.get('name')} ({named}), {data.get('train_images', 0):,} / {data.get('val_images', 0):,} /"
            f" {data.get('test_images', 0):,} train / val / test images{sets} {height}×{width} px,"
            f" split {_split(suite)}{rules}, fingerprint {data.get('fingerprint')}.",
            f"{lost}." if lost else "",
        ),
        Line(
            "protocol",
            f"{backbone}, {size_of}, {said('train.sampling', '{} triplets')},"
            f" {said('train.optimiser', '{}')} {said('train.lr', 'lr {:g}')} {said('train.schedule', '{}')},"
            f" {said('train.steps', '{:,} steps')}{f', {seen} images seen' if seen else ''}; checkpoint of {selection}"
            f"{norms}{chosen}; seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}.",
        ),
        Line(
            "speed, memory",
            " ".join(filter(None, (f"{numbers}; {rates}.", shaken))),
            shaken,
        ),
        Line(
            "made by",
            f"mtlbench {made['mtlbench']}{commit}, {', '.join(versions)},"
            f" {' to '.join(dict.fromkeys((dates[0], dates[-1])))}.",
        ),
    )


def _split(suite: Suite) -> str:
    """Say how images are split; early records of CelebA did not say that their partition is not its own."""
    data = suite.receipt.get("data", {})
    rule = str(data.get("split"))
    if suite.benchmark["data"].get("reader") != "celeba" or data.get("rendered") or data.get("unreadable"):
        return rule
    from mtlbench.datasets.celeba import told_apart

    return told_apart(rule, [data.get(f"{part}_images", 0) for part in ("train", "val", "test")])


def _how_computed(done: Sequence[Record]) -> str:
    """Say what decides the last bits of a suite's runs, where it differs from the default."""
    compiled = f"; networks compiled: {_listed(done, lambda r: r.receipt.get('compiled', 'no'))}"
    kept = [r for r in done if r.setup.get("deterministic")]
    some = f" ({_who(kept, done)})" if len(kept) < len(done) else ""
    kernels = f"; trained with deterministic kernels alone{some}"
    return "".join(
        said
        for said, key in ((compiled, "compiled"), (kernels, "deterministic"))
        if any(r.setup.get(key) for r in done)
    )


def _batches(done: Sequence[Record]) -> str:
    """Say how many images speeds and training memory were measured with at a time."""
    trained = _listed(done, lambda r: r.receipt.get("images_seen", 0) // (r.receipt.get("steps") or 1) or None)
    embedded = _listed(done, lambda r: r.receipt.get("embedding_batch"))
    said = [f"steps of {trained} images" if trained else "", f"embedding {embedded} at a time" if embedded else ""]
    return "".join(f"; {one}" for one in said if one)


def unsteady(done: Sequence[Record]) -> str:
    """Warn of speeds that can't be compared: they varied too much between repeats or seeds, or the machine was busy."""
    said = [
        f"{what}: {joined(names, 4)}"
        for what, who in zip(
            (f"varied by more than ±{100 * STEADY:.0f} %", "measured on a busy machine"), _unsure(done), strict=True
        )
        if (names := [name for name in dict.fromkeys(r.method for r in done) if name in who])
    ]
    return f"Speeds that can't be compared: {'; '.join(said)}." if said else ""


def incomparable(done: Sequence[Record]) -> set[str]:
    """Return the methods whose speeds `unsteady` warns of."""
    return set().union(*_unsure(done))


def _unsure(done: Sequence[Record]) -> tuple[set[str], set[str]]:
    """Return the methods whose speeds varied too much, and those that were measured on a busy machine."""
    of_method: dict[str, list[Record]] = {}
    for r in done:
        of_method.setdefault(r.method, []).append(r)
    shaky = {name for name, runs in of_method.items() if any(varied(runs, key) for run in runs for key in run.costs)}
    timed = [r for r in done if any("_rate" in key for key in r.costs)]
    return shaky, {r.method for r in timed if r.receipt.get("share_of_cores", 1) < STARVED}


def varied(runs: Sequence[Record], key: str) -> bool:
    """Return whether a speed of a method's runs varied too much between repeats and seeds to be compared."""
    slow, middle, fast = (
        [run.costs[key + end] for run in runs if run.costs.get(key + end)] for end in ("_slowest", "", "_fastest")
    )
    if not (slow and middle and fast):
        return False
    return bool(max(fast) - min(slow) > 2 * STEADY * statistics.fmean(middle))


class _Said:
    """Writes settings of a suite; one that its rows are named by is given by its name alone."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite

    def __call__(self, key: str, form: str) -> str:
        section, name = key.split(".")
        return f"{key} as named" if key in self.suite.factors else form.format(self.suite.benchmark[section][name])
