"""`mtlbench new`: writes the file of a new method, which runs as it stands and says what to change."""

from __future__ import annotations

import builtins
import importlib.util
import keyword
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from mtlbench.cli.progress import say

LONGEST_NAME = 30


def new(
    name: Annotated[str, typer.Argument(help="What users will call it: my-method.", show_default=False)],
    balancer: Annotated[bool, typer.Option("--balancer", help="A balancer instead of an architecture.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the file goes.")] = Path(),
) -> None:
    """Write a commented file with a new method that runs as it stands."""
    from rich.console import Console

    from mtlbench.errors import UserError
    from mtlbench.plugins import load_plugins
    from mtlbench.registry import bundled

    console = Console()
    module = _checked(name)
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
    _refuse_taken(name)
    with path.open("x", encoding="utf-8") as file:
        file.write(_text("balancer" if balancer else "architecture", name, module))

    inside = path.parent.resolve() == bundled("methods").resolve()
    plugins = "" if inside else f" --plugins {shlex.quote(str(path))}"
    say(console, f"{path} is written. It runs as it stands; its comments say what to change.")
    say(console, f"  mtlbench check {name}{plugins}")
    say(console, f"  mtlbench run --dataset shoes --quick --methods shared,{name}{plugins}")
    checkout = bundled("methods").parent
    if not inside and (checkout / "pyproject.toml").is_file() and Path.cwd().resolve().is_relative_to(checkout):
        say(
            console, f"This is a checkout of mtlbench: bundled methods live in {bundled('methods')}, which may be given"
        )
        say(console, "as --folder; there they are found without --plugins.")


def _checked(name: str) -> str:
    """Return the module's name of a method's name.

    Raises:
        UserError: the name is malformed.
    """
    from mtlbench.errors import UserError

    if not re.fullmatch(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"'{name}' can't name a method: use lower-case letters and digits, beginning with a letter, single hyphens"
            f" between words, and at most {LONGEST_NAME} characters, as in my-method."
        )
    return re.sub(r"[.-]", "_", name)


def _refuse_taken(name: str) -> None:
    from mtlbench.errors import UserError
    from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS
    from mtlbench.specs import method_groups

    for registry in (ARCHITECTURES, BALANCERS, ALIASES):
        if name in registry:
            raise UserError(
                f"'{name}' is taken, by the {registry.kind} of {registry.get(name).origin}; choose another."
            )
    if name in method_groups():
        raise UserError(f"'{name}' is taken, by a group of methods; choose another.")


def _text(kind: str, name: str, module: str) -> str:
    """Return the scaffold's text under a name."""
    title = "".join(word.capitalize() for word in module.split("_"))
    if title in (*keyword.kwlist, *dir(builtins), "Architecture", "Balancer", "Sequence", "Iterable", "Tensor"):
        title = f"My{title}"
    text = (Path(__file__).parent.parent / "scaffold" / f"{kind}.py").read_text()
    for old, new_ in (("my-method", name), ("My-method", name[0].upper() + name[1:]), ("MyMethod", title)):
        text = text.replace(old, new_)
    return text
