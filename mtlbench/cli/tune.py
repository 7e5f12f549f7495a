"""`mtlbench tune`: the same number of trials for every method, judged on the validation split, and the recipes."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlbench.cli.live import terminal
from mtlbench.cli.options import (
    DataDirOption,
    DatasetOption,
    DeviceOption,
    MethodsOption,
    OnOption,
    PluginsOption,
    QuickOption,
    SettingsOption,
    TasksOption,
)
from mtlbench.cli.planned import agreed, tell_busy, tell_in_all
from mtlbench.cli.progress import duration, say, status
from mtlbench.cli.run import read_seeds
from mtlbench.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mtlbench.runs import Json
    from mtlbench.tuning.outcome import Outcome
    from mtlbench.tuning.study import Studies
    from mtlbench.tuning.tune import Tuning

SEED = "1000"  # the winner's luck is a part of its seed's score: `run` measures with others


def tune(
    dataset: DatasetOption,
    methods: MethodsOption = "core",
    quick: QuickOption = False,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each method; the first is its default.")] = 16,
    seeds: Annotated[
        str,
        typer.Option(
            help="Seeds; a trial's score is the mean over them: 0,1,2 or 0-4. Best others than those of `run`."
        ),
    ] = SEED,
    write: Annotated[
        Path | None,
        typer.Option(help="Put the recipes into this TOML file, a new one or a benchmark's.", show_default=False),
    ] = None,
    data_dir: DataDirOption = None,
    tasks: TasksOption = None,
    settings: SettingsOption = None,
    results: Annotated[Path, typer.Option(help="Where trials are kept.")] = Path("results"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Repeat trials that are already done.")] = False,
    device: DeviceOption = "auto",
    plugins: PluginsOption = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="How many trials at a time, each in its own process.", show_default="1")
    ] = None,
    on: OnOption = None,
    halving: Annotated[
        bool,
        typer.Option(
            "--halving", help="Drop the worse half of a method's trials at an eighth, a quarter and half of the steps."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin long work without being asked.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its time, then stop.")] = False,
) -> None:
    """Find recipes: the same number of trials for every method, judged on the validation split alone.

    Finished trials are kept, even after a kill: the same command continues, and several may work at once. Exit code 1
    if all trials of a method failed, 2 if nothing could be done.
    """
    from rich.console import Console

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    console = Console()
    with status(console, "loading torch …"):
        from mtlbench.jobs.experiment import asking, at_once, check_folder, resources
        from mtlbench.jobs.job import Site
        from mtlbench.plugins import load_given
        from mtlbench.training.state import Interrupted
        from mtlbench.tuning.afar import do_trials
        from mtlbench.tuning.outcome import Outcome, write_recipes, write_trials
        from mtlbench.tuning.tune import open_studies, read_tuning, rehearsed

    view = terminal(console)
    for broken in load_given(plugins or []):
        view.warn(f"warning: {broken}")
    with resources():
        tuning = read_tuning(
            view, dataset=dataset, methods=methods, quick=quick, trials=trials, seeds=read_seeds(seeds),
            settings=settings or [], tasks=tasks, site=Site(data_dir, device, tuple(plugins or ())), results=results,
            jobs=jobs, on=on, halving=halving,
        )  # fmt: skip
        if not dry_run:
            check_folder(results)
        with rehearsed(tuning, overwrite) as copy:
            planned = _show_plan(console, tuning, copy)
        if dry_run:
            return
        if not agreed(console, planned, yes, at_once(tuning.executor)):
            say(console, "Nothing was trained. --yes begins without being asked, --dry-run only shows the plan.")
            return
        studies = open_studies(tuning, overwrite)
        from mtlbench.cli.trials import shown

        try:
            with asking(lambda: _stopping(console)) as asked, shown(console, tuning, studies) as told:
                do_trials(tuning, studies, told, asked)
        except Interrupted:
            say(console, "Stopped; what is done is kept. The same command continues from here.")
            raise typer.Exit(130) from None
    outcomes = [Outcome(name, tuple(studies.trials(name)[:trials])) for name in tuning.names]
    command = _command(dataset, methods, quick, trials, seeds, tasks, settings or [], halving, plugins or [])
    found = {one.method: _found(tuning, one, command) for one in outcomes}
    write_trials(tuning.folder, outcomes, {"benchmark": tuning.benchmark.name, "seeds": list(tuning.seeds)})
    _show(console, outcomes)
    if write is not None:
        write_recipes(write, outcomes, found, quick)
        say(console, f"recipes: {write}; mtlbench run --recipes {write} uses them.")
    say(console, f"trials: {tuning.folder}{_figures(console, tuning, outcomes)}")
    if any(one.best is None for one in outcomes):
        raise typer.Exit(1)


def _figures(console: Console, tuning: Tuning, outcomes: Sequence[Outcome]) -> str:
    """Draw the trials beside them; return which figures, in words."""
    from mtlbench.report.figures import write
    from mtlbench.report.figures.tuning import drawings

    quick = ", quick protocol" if tuning.benchmark.protocol == "quick" else ""
    drawn = " (rendered images)" if tuning.dataset.facts["rendered"] else ""
    with status(console, "drawing …"):
        made = write(drawings(outcomes, f"{tuning.benchmark.title}{drawn}{quick}"), tuning.folder)
    return f", with the figures {' and '.join(figure.stem for figure in made)}" if made else ""


def _stopping(console: Console) -> None:
    say(console, "Stopping as soon as the trials under way can be kept; once more to stop at once.", "yellow")


def _show_plan(console: Console, tuning: Tuning, studies: Studies) -> list[float]:
    """Print what will be done and how long it will take; return the seconds that trials have still to take."""
    from mtlbench.devices import device_name
    from mtlbench.jobs.attempt import computing_with
    from mtlbench.jobs.experiment import at_once
    from mtlbench.jobs.plan import seconds_needed
    from mtlbench.tuning.halving import budget, in_words
    from mtlbench.tuning.tune import steps_left

    data, benchmark = tuning.dataset, tuning.benchmark
    drawn = f" on {data.facts['name']}, not real images" if data.facts["rendered"] else ""
    plural = "s" * (len(tuning.seeds) > 1)
    say(
        console,
        f"{benchmark.title} ({benchmark.name}){drawn}: {counted(len(tuning.methods), 'method')},"
        f" {counted(tuning.trials, 'trial')} each,"
        f" {counted(benchmark.train.steps, 'step')} with seed{plural} {', '.join(map(str, tuning.seeds))}, judged on"
        f" {data.facts['val_images']:,} validation images, on {device_name(data.device)}, {tuning.precision}",
    )
    if tuning.halving:
        instead = (
            f"{counted(budget(tuning.ladder), 'step')} a method instead of {tuning.trials * benchmark.train.steps:,}"
        )
        say(console, f"  halving: {in_words(tuning.ladder)}, the default to the end; {instead}")
    left = {name: steps_left(tuning, studies, name) for name in tuning.names}
    todo = [name for name in tuning.names if left[name]]
    if todo:
        tell_busy(console, "An idle machine would be faster than this plan says", data.device.type)
    seconds: list[float] = []
    for method in tuning.methods:
        name, words = method.name, "done already"
        if left[name]:
            told = status(console, f"timing a few steps of {name}, {todo.index(name) + 1} of {len(todo)} methods …")
            with told, computing_with(tuning.threads):
                whole, reason = seconds_needed(
                    method, tuning.seeds[0], benchmark, data, tuning.precision, costs=False
                )  # fmt: skip
            needed = whole * left[name] / benchmark.train.steps * len(tuning.seeds)
            trials = tuning.trials - sum(t.state != "begun" for t in studies.trials(name)[: tuning.trials])
            seconds += [needed / trials] * trials
            words = f"its first steps failed: {reason}" if reason else f"about {duration(needed)}"
        where = ", ".join(f"{key} {w}" for key, w in tuning.spaces[name].as_json().items())
        say(console, f"  {name}: {words}; {where}")
    if seconds:
        tell_in_all(console, seconds, at_once(tuning.executor), benchmark, data, "trials")
    return seconds


def _found(tuning: Tuning, outcome: Outcome, command: str) -> Json:
    """Return where a method's recipe came from, for its receipt."""
    import datetime

    import mtlbench
    from mtlbench.recipes import conditions
    from mtlbench.runs.provenance import commit, own_sources
    from mtlbench.tuning.halving import in_words

    best, default, data = outcome.best, outcome.default, tuning.dataset
    found: dict[str, Any] = {
        "trials": len(outcome.trials),
        "failed": sum(trial.state == "failed" for trial in outcome.trials),
        "best": best.number if best else None,
        "halving": in_words(tuning.ladder) if tuning.halving else None,
        "split": "val",
        "seeds": list(tuning.seeds),
        "score": round(best.score, 5) if best and best.score is not None else None,
        "default_score": round(default.score, 5) if default and default.score is not None else None,
        "space": tuning.spaces[outcome.method].as_json(),
        "command": command,
        "code": own_sources(next(one for one in tuning.methods if one.name == outcome.method)),
        **conditions(tuning.benchmark.model_dump(mode="json"), data.tasks, data.facts["fingerprint"]),
        "mtlbench": mtlbench.__version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return {key: value for key, value in found.items() if value not in (None, "", {})}


def _command(
    dataset: str, methods: str, quick: bool, trials: int, seeds: str, tasks: str | None, settings: Sequence[str],
    halving: bool, plugins: Sequence[Path],
) -> str:  # fmt: skip
    """Return the command that finds the same recipes, without folders of this machine."""
    words = ["mtlbench", "tune", "--dataset", Path(dataset).name, *["--quick"] * quick, "--methods", methods]
    words += ["--trials", str(trials), "--seeds", seeds, *(["--tasks", tasks] if tasks is not None else [])]
    words += ["--halving"] * halving
    words += [word for plugin in plugins for word in ("--plugins", plugin.name)]
    return shlex.join([*words, *(word for setting in settings for word in ("--set", setting))])


def _show(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print what tuning found, best first, and a conclusion."""
    from rich.table import Table

    from mtlbench.recipes import in_words
    from mtlbench.tuning.outcome import sentences

    table = Table(title="Score on the validation split in %, by trial", title_justify="left", box=None)
    for heading in ("method", "default", "best", "gain", "trial", "recipe"):
        table.add_column(heading, justify="left" if heading in ("method", "recipe") else "right")
    for one in sorted(outcomes, key=lambda one: -(one.best.score or 0.0) if one.best else 0.0):
        best, default = one.best, one.default
        table.add_row(
            one.method,
            f"{100 * (default.score or 0.0):.1f}" if default else "failed",
            f"{100 * (best.score or 0.0):.1f}" if best else "failed",
            f"{100 * one.gain:+.1f}" if one.gain is not None else "",
            str(best.number) if best else "",
            in_words(one.recipe) if one.recipe is not None else "",
        )
    console.print(table)
    for sentence in sentences(outcomes):
        say(console, sentence)
    say(console, "These are the winning trials' scores, so they are too high: mtlbench run measures on the test split.")
