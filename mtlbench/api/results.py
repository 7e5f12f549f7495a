"""Run records as a notebook reads them: numbers in pandas, the comparison as a table, figures on matplotlib axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.api.given import several, task_words, with_commas
from mtlbench.api.plots import Plots
from mtlbench.errors import UserError, counted
from mtlbench.report.evidence import read_curve
from mtlbench.report.suites import Suite, differing_settings, in_words, suites
from mtlbench.report.summary import Choice, Summary, check_metric, chosen_records, records_in, summarise
from mtlbench.runs import Record, folder_of

if TYPE_CHECKING:
    import pandas as pd

    from mtlbench.report.inference import Comparison


def results(
    folder: str | Path = "results",
    benchmark: str | None = None,
    *,
    methods: str | Iterable[str] = "",
    across: str | Iterable[str] = (),
) -> Results:
    """Read the run records in a folder.

    Args:
        folder: where records lie, as `mtlbench run --results` names it.
        benchmark: whose runs, by the folder's name, such as `shoes-quick`; None for all there are.
        methods: methods, groups or patterns, such as `core,single*` or `["core", "single*"]`; empty for all.
        across: the setting or settings in which the runs of one table may differ, such as `loss.name`; rows are named
            by them.

    Raises:
        UserError: there is no record.

    Example:
        >>> from mtlbench import results
        >>> found = results("results/published", "shoes-quick")
        >>> found.tasks
        ('category', 'closure', 'gender', 'heel')
        >>> round(float(found.table().loc["chance", "mean"]), 1)  # a share
        0.5
    """
    folder = Path(folder)
    records = records_in(folder, benchmark)
    if chosen := with_commas(methods):
        records = chosen_records(records, chosen)
    return Results(folder, records, tuple(several(across)), benchmark)


class Results:
    """Runs of methods, as a notebook compares them. `mtlbench.results` and `mtlbench.run` make it.

    In a notebook it shows the comparison tables with their small print.

    Attributes:
        folder: where the records lie.
        records: they themselves, as `run.json` holds them.
        plot: figures on matplotlib axes: `plot.pareto()`, `plot.heatmap()`, `plot.curves()`.

    Example:
        >>> from mtlbench import results
        >>> found = results("results/published", "shoes-quick")
        >>> found.benchmarks, found.tasks
        (('shoes-quick',), ('category', 'closure', 'gender', 'heel'))
        >>> sorted(found.runs().query("method == 'modulation'")["seed"])
        [0, 1, 2]
        >>> difference = found.compare("shared", "modulation")
        >>> difference.difference > 0
        True
    """

    def __init__(
        self,
        folder: Path,
        records: Sequence[Record],
        across: tuple[str, ...] = (),
        benchmark: str | None = None,
        folders: frozenset[Path] = frozenset(),
    ) -> None:
        self.folder = folder
        self.records = tuple(records)
        self.across = across
        self.plot = Plots(self)
        self._named = benchmark
        self._choice = Choice(across=across, folders=folders)

    @cached_property
    def suites(self) -> tuple[Suite, ...]:
        """The records sorted into what may share a table; those of methods that were not asked for are left out."""
        found = suites(self.records, self.across)
        kept = [replace(suite, records=tuple(filter(self._choice.has, suite.records))) for suite in found]
        return tuple(suite for suite in kept if any(record.kind == "method" for record in suite.records))

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks' names."""
        return tuple(dict.fromkeys(str(suite.benchmark["name"]) for suite in self.suites))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods with a finished run, rows as tables name them."""
        return tuple(dict.fromkeys(record.method for suite in self.suites for record in suite.done))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks of the one suite that there is."""
        return self.one.tasks

    @property
    def one(self) -> Suite:
        """The suite, where there is one.

        Raises:
            UserError: there are several, of which nothing can be said at once.
        """
        if len(self.suites) == 1:
            return self.suites[0]
        if len(self.benchmarks) > 1:
            raise UserError(
                f"These are results of {len(self.benchmarks)} benchmarks: {', '.join(self.benchmarks)}. Name one:"
                f" results({str(self.folder)!r}, {self.benchmarks[0]!r})."
            )
        differ = in_words(differing_settings(*self.suites[:2]))
        raise UserError(
            f"{self.benchmarks[0]} holds runs that can't share a table: {differ}. Name the setting as a factor,"
            " results(..., across=[...]), or choose one of .split()."
        )

    def split(self) -> tuple[Results, ...]:
        """Return what may share a table, each as results of its own.

        Example:
            >>> from mtlbench import results
            >>> parts = results("results/published").split()
            >>> "shoes-quick" in [part.benchmarks[0] for part in parts]
            True
        """
        made = []
        for suite in self.suites:
            folders = {record.folder for record in suite.records}
            kept = [record for record in self.records if record.folder in folders]
            made.append(Results(self.folder, kept, self.across, self._named, self._choice.folders))
        return tuple(made)

    def _summaries(self, metric: str = "triplet", tasks: str = "", methods: str = "") -> list[Summary]:
        choice = replace(self._choice, metric=metric, tasks=tasks, methods=methods)
        return summarise(self.records, choice, self.folder)

    def table(
        self, metric: str = "triplet", *, tasks: str | Iterable[str] = "", methods: str | Iterable[str] = ""
    ) -> pd.DataFrame:
        """Return the comparison as numbers: a row per method, by its name, unrounded.

        The columns are those of `mtlbench report --format csv`, without `receipt/…`: accuracies, differences and
        `delta_m` are shares, costs are in the units of `run.json`; `<column>/sd` is the standard deviation over seeds,
        `<column>/standing` how the method stands to the column's best.

        Args:
            metric: what the accuracy columns hold: `triplet`, `map@r`, …
            tasks, methods: names, as `heel,closure` or `["heel", "closure"]`; empty for all.

        Raises:
            UserError: there is no such metric, task or method.

        Example:
            >>> from mtlbench import results
            >>> table = results("results/published", "shoes-quick").table("map@r", tasks="heel", methods="core")
            >>> sorted(table.index)
            ['cross-stitch', 'gradnorm', 'independent', 'modulation', 'shared']
            >>> bool(table["task/heel"].between(0, 1).all())  # shares
            True
        """
        from mtlbench.report.tables import as_frame

        check_metric(metric, self.records)
        frame = as_frame(self._summaries(metric, task_words(tasks), with_commas(methods)))
        kept = [name for name in frame.columns if not name.startswith("receipt/")]
        return frame[kept].set_index("method")

    def runs(self) -> pd.DataFrame:
        """Return a row per run with every metric, cost and receipt entry, unrounded.

        Example:
            >>> from mtlbench import results
            >>> runs = results("results/published", "shoes-quick").runs()
            >>> sorted(runs[runs["method"] == "shared"]["seed"])
            [0, 1, 2]
        """
        from mtlbench.report.tables import runs_frame

        return runs_frame(self.suites)

    def curves(self) -> pd.DataFrame:
        """Return the runs' curves: a row per logged step, with benchmark, method and seed.

        The columns are those of `curve.csv`: `step`, `seconds` of training, losses, weights, `accuracy` on validation
        and `accuracy/<task>`; empty where a step logged none.

        Example:
            >>> from mtlbench import results
            >>> curves = results("results/published", "shoes-quick", methods="shared,modulation").curves()
            >>> curves.columns[:4].tolist()
            ['benchmark', 'method', 'seed', 'step']
            >>> best = curves.groupby(["method", "seed"])["accuracy"].max()  # on validation
            >>> len(best)
            6
        """
        import pandas as pd

        parts = []
        for suite in self.suites:
            for record in suite.done:
                curve = read_curve(folder_of(record, self.folder))
                if curve is None:
                    continue
                about = {"benchmark": suite.benchmark["name"], "method": record.method, "seed": record.seed}
                parts.append(curve.assign(**about)[[*about, *curve.columns]])
        return (
            pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"benchmark": [], "method": [], "seed": []})
        )

    def compare(self, first: str, second: str, task: str = "", metric: str = "triplet") -> Comparison:
        """Compare two methods on the test triplets that both answered, or by the scores of the same queries.

        Args:
            first, second: rows as tables name them.
            task: on which task; empty for the mean over tasks.
            metric: `triplet`, or the macro mean of a retrieval metric, such as `macro/map@r`.

        Returns:
            `difference` is first minus second, a share; `interval()` is its 95 % confidence interval, `p` its p-value.
            Both allow for other seeds and for other test images, which triplets and queries share; neither for how many
            pairs are looked at.

        Raises:
            UserError: no such row or task, one seed alone, a metric that can't be compared, or runs whose answers are
                missing.

        Example:
            >>> from mtlbench import results
            >>> pair = results("results/published", "shoes-quick").compare("shared", "modulation", task="heel")
            >>> low, high = pair.interval()
            >>> low < pair.difference < high
            True
        """
        from mtlbench.report.comparison import compare_rows

        return compare_rows(self.one, first, second, task, self.folder, metric)

    def __repr__(self) -> str:
        named = f", {self._named!r}" if self._named else ""
        runs = sum(record.kind == "method" for suite in self.suites for record in suite.records)
        return f"Results({str(self.folder)!r}{named}): {counted(len(self.methods), 'method')}, {counted(runs, 'run')}"

    def __str__(self) -> str:
        """Write the tables as a terminal shows them."""
        import io

        from rich.console import Console

        from mtlbench.report.tables import show

        console = Console(file=io.StringIO(), width=120)
        show(self.records, "table", console, self._choice, self.folder)
        text: str = console.file.getvalue()  # type: ignore[attr-defined]
        return text

    def _repr_html_(self) -> str:
        from mtlbench.report.tables import as_markup

        return "\n".join(as_markup(summary, "html") for summary in self._summaries())
