"""Training and comparing methods from Python, as `mtlbench run` does."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlbench.api.given import several, task_words, with_commas
from mtlbench.api.results import Results
from mtlbench.errors import UserError


def run(
    methods: str | Sequence[str] = "core",
    dataset: str | Path = "shoes",
    *,
    quick: bool = False,
    seeds: Iterable[int] = (0,),
    tasks: str | Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    data_dir: str | Path | None = None,
    results: str | Path = "results",
    device: str = "auto",
    jobs: int | None = None,
    on: str | None = None,
    plugins: str | Path | Iterable[str | Path] = (),
    track: str | Iterable[str] = (),
    overwrite: bool = False,
    plain: bool = False,
    recipes: str | Path | None = None,
    show: bool = True,
) -> Results:
    """Train methods on a data set and judge them; runs that are done are skipped, interrupted ones go on.

    The arguments are those of `mtlbench run`, which does the same.

    Args:
        methods: groups and methods, as `core` or `["shared", "modulation[after=4]"]`.
        dataset: a benchmark's name or the path of a .toml.
        quick: the short protocol.
        seeds: of the runs, each from 0 to 2^32 - 1.
        tasks: by name, as `heel,closure` or `["heel", "closure"]`; None for the benchmark's own.
        settings: changes of the protocol, as `{"train.steps": 500}`.
        vary: settings with several values each: every method is trained under every combination.
        data_dir: the data set's folder.
        results: where records go.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        jobs: so many runs at a time, each in a process.
        on: another executor, as `mtlbench list executors` shows.
        plugins: files or folders with methods of your own; a class that is registered already is there without.
        track: trackers, as `["tensorboard"]`.
        overwrite: repeat runs that are done.
        plain: leave out the recipes that the benchmark has; recipes: a file whose recipes go before them.
        show: show progress as the command line does.

    Returns:
        the runs that were asked for with their reference rows; a run that failed is there with its reason.

    Raises:
        UserError: what the command line ends with exit code 2 for, in the same sentence.
        KeyboardInterrupt: stopped; what is done is kept, and the same call goes on.

    Example:
        >>> import tempfile
        >>> from mtlbench import run
        >>> short = {"train.steps": 2, "train.triplets": 2, "evaluation.triplets": 20, "data.rendered.images": 120,
        ...          "model.embedding": 8, "data.image_size": 24, "evaluation.every": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = run("single", "shoes", quick=True, plain=True, settings=short, results=folder, show=False)
        ...     found.methods, len(found.runs())
        (('single',), 3)
    """
    from rich.console import Console

    from mtlbench.cli.live import terminal
    from mtlbench.jobs.experiment import (
        View,
        asking,
        check_folder,
        plan_experiment,
        read_experiment,
        resources_of,
        train,
    )
    from mtlbench.jobs.job import Site
    from mtlbench.options import toml
    from mtlbench.plugins import load_given
    from mtlbench.report.summary import Choice, summarise
    from mtlbench.report.verdict import write_verdicts
    from mtlbench.runs import find_records
    from mtlbench.training.state import Interrupted

    if isinstance(seeds, int):
        raise UserError(f"seeds={seeds}: give several, such as range({seeds}), or [{seeds}] for that one.")
    view = terminal(Console()) if show else View()
    files, where = [Path(plugin) for plugin in several(plugins)], Path(results)
    for broken in load_given(files):
        if show:
            view.warn(f"warning: {broken}")
        else:
            warnings.warn(str(broken), stacklevel=2)
    experiment = read_experiment(
        view,
        dataset=str(dataset),
        methods=with_commas(methods),
        quick=quick,
        seeds=list(dict.fromkeys(seeds)),
        settings=[f"{key}={toml(value)}" for key, value in (settings or {}).items()],
        vary=[f"{key}={with_commas(map(toml, several(values)))}" for key, values in (vary or {}).items()],
        tasks=None if tasks is None else task_words(tasks),
        site=Site(Path(data_dir) if data_dir else None, device, tuple(files)),
        results=where,
        jobs=jobs,
        on=on,
        track=several(track),
        overwrite=overwrite,
        plain=plain,
        recipes=Path(recipes) if recipes is not None else None,
    )
    with resources_of(experiment):
        parts = plan_experiment(experiment, view)
        check_folder(where)
        try:
            with asking(lambda: view.warn("Stopping as soon as the runs under way can be kept.")) as asked:
                train(experiment, parts, view, asked)
        except Interrupted:
            raise KeyboardInterrupt("what is done is kept: the same call continues from there") from None
    name = experiment.versions[0].benchmark.name
    varied = tuple(dict.fromkeys(key for part in parts for key in part.variant.varied))
    folders = frozenset(job.folder for part in parts for job in part.jobs)
    records = find_records(where, name)
    verdicts = summarise(records, Choice(folders=folders, across=varied), where)
    write_verdicts(where / name / "verdict.json", verdicts)
    return Results(where, records, varied, name, folders)
