"""`mtlbench new`: writes the file of a new method, loss, reader …, which runs unchanged and says what to edit."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.progress import say
from mtlbench.registry import KINDS

if TYPE_CHECKING:
    from rich.console import Console

LONGEST_NAME = 30
_WORDS = {registry.kind: word for word, registry in KINDS.items()}  # loss -> losses
_METHODS = ("architecture", "balancer")  # what `mtlbench check` and `--methods` take
_RUN = "run --dataset shoes --quick --methods shared"
_RUNS = {  # how a run takes it; a reader goes into a benchmark's file
    "backbone": f"{_RUN} --set model.backbone={{}}",
    "sampler": f"{_RUN} --set train.sampling={{}}",
    "loss": f"{_RUN} --set loss.name={{}}",
    "augmentation": f"{_RUN} --set 'train.augment=[\"{{}}\"]'",
    "metric": f"{_RUN} --set 'evaluation.metrics=[\"{{}}\"]'",
    "tracker": f"{_RUN} --track {{}}",
    "executor": f"{_RUN} --on {{}}",
}


def scaffolds() -> list[str]:
    """Return the kinds that there is a scaffold of."""
    return [kind for kind in _WORDS if _scaffold(kind).is_file()]


def _scaffold(kind: str) -> Path:
    return Path(__file__).parent.parent / "scaffold" / f"{kind}.py"


def new(
    first: Annotated[
        str | None,
        typer.Argument(
            metavar="KIND|NAME",
            help=f"A method's name: my-method; or a kind and a name: loss my-loss. Kinds: {', '.join(scaffolds())}.",
            show_default=False,
        ),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The name, after a kind.", show_default=False)
    ] = None,
    benchmark: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a benchmark for your own images in DIR instead.", show_default=False),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="The folder of the new file.", show_default="the current folder")
    ] = Path(),
) -> None:
    """Write a commented, working template of a new method, loss, reader, …"""
    from rich.console import Console

    from mtlbench.bundled import bundled
    from mtlbench.errors import UserError
    from mtlbench.plugins import load_plugins

    console = Console()
    if benchmark is not None:
        if first is not None:
            raise UserError("--benchmark takes its name from the folder of images: give no name beside it.")
        _write_benchmark(console, benchmark.expanduser(), folder.expanduser())
        return
    if first is None:
        raise UserError("Give a name, as in mtlbench new my-method, or a folder of images with --benchmark.")
    kind, name = _asked(first, second)
    module = _checked(name, kind)
    path = folder.expanduser() / f"{module}.py"
    if not folder.expanduser().is_dir():
        raise UserError(f"--folder {folder}: there is no such folder.")
    if path.exists():  # before it is looked for: run from its folder, Python finds it
        raise UserError(f"{path} exists already and is left as it is; choose another name or --folder.")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise UserError(
            f"'{name}' would make a file {module}.py that hides Python's or a package's own; choose another."
        )
    for broken in load_plugins():
        typer.echo(f"warning: {broken}", err=True)
    _refuse_taken(name, kind)
    with path.open("x", encoding="utf-8") as file:
        file.write(_text(kind, name, module))

    inside = kind in _METHODS and path.parent.resolve() == bundled("methods").resolve()
    plugins = "" if inside else f" --plugins {shlex.quote(str(path))}"
    say(console, f"{path} is written. It runs unchanged; its comments explain what to edit.")
    if kind not in _METHODS:
        say(console, f"  mtlbench list {_WORDS[kind]}{plugins}")
        if kind in _RUNS:
            say(console, f"  mtlbench {_RUNS[kind].format(name)}{plugins}")
        return
    say(console, f"  mtlbench check {name}{plugins}")
    say(console, f"  mtlbench {_RUN},{name}{plugins}")
    checkout = bundled("methods").parent
    if not inside and (checkout / "pyproject.toml").is_file() and Path.cwd().resolve().is_relative_to(checkout):
        say(
            console, f"This is a checkout of mtlbench: bundled methods live in {bundled('methods')}, which may be given"
        )
        say(console, "as --folder; there they are found without --plugins.")


def _write_benchmark(console: Console, images: Path, folder: Path) -> None:
    """Write the benchmark that `data check` suggests for a folder of images.

    Raises:
        UserError: there are no images of one's own, or the file exists or can't be written.
    """
    from mtlbench.data.check import suggested_benchmark
    from mtlbench.errors import UserError

    what, name, text = suggested_benchmark(images, folder)
    path = folder / f"{name}.toml"
    if not folder.is_dir():
        raise UserError(f"--folder {folder}: there is no such folder.")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(f"{path} exists already and is left as it is; choose another --folder.") from error
    except OSError as error:
        raise UserError(f"{path} can't be written: {error.strerror}.") from error
    say(console, f"{path} is written, for {what}.")
    say(console, f"  mtlbench data check {shlex.quote(str(path))}")


def _asked(first: str, second: str | None) -> tuple[str, str]:
    """Return the kind and the name that are asked for.

    Raises:
        UserError: the name is missing, or the kind has no scaffold.
    """
    from mtlbench.errors import UserError, did_you_mean

    kinds = scaffolds()
    if second is None:
        if first in kinds:
            raise UserError(f"mtlbench new {first}: give its name too, as in mtlbench new {first} my-{first}.")
        return "architecture", first
    if first not in kinds:
        raise UserError(
            f"There is no template of a '{first}'.{did_you_mean(first, kinds)} There is: {', '.join(kinds)}."
        )
    return first, second


def _called(kind: str) -> str:
    return "method" if kind in _METHODS else kind


def _checked(name: str, kind: str) -> str:
    """Return the module's name of a thing's name.

    Raises:
        UserError: the name is malformed.
    """
    from mtlbench.errors import UserError, a

    if not re.fullmatch(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"'{name}' can't name {a(_called(kind))}: use lower-case letters and digits, beginning with a letter,"
            f" single hyphens between words, and at most {LONGEST_NAME} characters, as in my-method."
        )
    return re.sub(r"[.-]", "_", name)


def _refuse_taken(name: str, kind: str) -> None:
    from mtlbench.cli.listing import load_home
    from mtlbench.errors import UserError
    from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS
    from mtlbench.specs import method_groups

    registries = (ARCHITECTURES, BALANCERS, ALIASES) if kind in _METHODS else (KINDS[_WORDS[kind]],)
    for registry in registries:
        load_home(registry)
        if name in registry.entries:
            raise UserError(
                f"'{name}' is taken, by the {registry.kind} of {registry.entries[name].origin}; choose another."
            )
    if kind == "metric":
        from mtlbench.names import MEASURES

        if name in MEASURES:
            raise UserError(f"'{name}' is taken: it stands for {MEASURES[name]}; choose another.")
    groups = {group for registry in KINDS.values() for group in registry.groups()}
    if name in groups.union(method_groups(), ["none"]):  # of any kind: a word is to mean one thing
        raise UserError(f"'{name}' is taken: it stands for a group, or for nothing; choose another.")


def _text(kind: str, name: str, module: str) -> str:
    """Return the scaffold's text under a name."""
    text = _scaffold(kind).read_text(encoding="utf-8")
    # a second meaning would hide the first; the scaffold's own names go
    used = {*keyword.kwlist, *dir(builtins), *re.findall(r"\w+", text)} - {"MyMethod", "my_method"}
    title = "".join(word.capitalize() for word in module.split("_"))
    title = f"My{title}" if title in used else title
    function = f"my_{module}" if module in used else module
    replaced = {
        "my-method": name,
        "My-method": name[0].upper() + name[1:],
        "MyMethod": title,
        "my_method.py": f"{module}.py",
        "my_method": function,
    }
    for old, new_ in replaced.items():
        text = text.replace(old, new_)
    return text
