"""The command line, one file per command. `--help` imports neither torch nor pandas; commands import what they need."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mtlbench import __version__
from mtlbench.cli.check import check
from mtlbench.cli.cores import wait_asleep
from mtlbench.cli.data import data_app
from mtlbench.cli.export import export
from mtlbench.cli.index import index
from mtlbench.cli.list import list_
from mtlbench.cli.new import new
from mtlbench.cli.output import fit_streams, telling_what_is_left_out
from mtlbench.cli.paper import paper
from mtlbench.cli.profile import profile
from mtlbench.cli.report import report
from mtlbench.cli.reproduce import reproduce
from mtlbench.cli.run import run
from mtlbench.cli.runs import runs_app
from mtlbench.cli.search import search
from mtlbench.cli.tune import tune
from mtlbench.errors import UserError
from mtlbench.names import printable

app = typer.Typer(
    name="mtlbench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run)
app.command("report")(report)
app.command("tune")(tune)
app.command("reproduce")(reproduce)
app.command("index")(index)
app.command("search")(search)
app.command("export")(export)
app.command("list")(list_)
app.command("paper")(paper)
app.command("profile")(profile)
app.command("new")(new)
app.command("check")(check)
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"mtlbench {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Compare ways of sharing one image network between several tasks: accuracy, storage, speed."""
    if debug:
        os.environ["MTLBENCH_DEBUG"] = "1"


def _unwritable(error: Exception) -> str:
    """Say where something could not be written, and what to do."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}. Name another place for what is written; what is finished is kept"
    return f"{error}; what is finished is kept"


def main() -> None:
    """Run the command line; an error that a user can cause prints one sentence and gives exit code 2."""
    fit_streams()
    wait_asleep()
    try:
        with telling_what_is_left_out():
            app(prog_name="mtlbench")
    except UserError as error:
        if os.environ.get("MTLBENCH_DEBUG"):
            raise
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:  # typer makes Ctrl-C an exit of its own, without a word
        if not isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            raise
        print("\nStopped. What is finished is kept; the same command continues from there.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `mtlbench list methods | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        from mtlbench.blame import culprit, described

        plugin = bool(culprit(error))  # a fault in its code; else a full disk, a folder that can't be written to
        if os.environ.get("MTLBENCH_DEBUG") or not (plugin or isinstance(error, OSError)):
            raise
        words = described(error) if plugin else _unwritable(error)
        print(f"error: {printable(words)}.", file=sys.stderr)
        sys.exit(2)
