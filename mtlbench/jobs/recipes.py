"""Gives methods their recipes, from the benchmark or from a file."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mtlbench.benchmark import Benchmark
from mtlbench.data.dataset import Dataset
from mtlbench.errors import UserError
from mtlbench.jobs.factors import Variant
from mtlbench.recipes import Recipe, conditions, flat, in_which, unlike
from mtlbench.runs.provenance import sources_of
from mtlbench.specs import Method


def with_recipes(versions: Sequence[Variant], plain: bool, file: Path | None) -> list[Variant]:
    """Return variants of a benchmark with the recipes to use.

    Args:
        versions: the variants, with the benchmark's recipes.
        plain: use no recipes.
        file: its recipes replace the benchmark's of the same methods; those of others stay, or a tuned method would be
            compared with plain ones. See `read_recipes`.

    Raises:
        UserError: both `plain` and `file` are given, or the file can't be read.
    """
    if plain and file is not None:
        raise UserError("--plain uses no recipes, --recipes those of a file: give one of the two.")
    if not plain and file is None:
        return list(versions)
    quick = versions[0].benchmark.protocol == "quick"
    recipes = {} if file is None else read_recipes(file, quick)
    for name, recipe in recipes.items():
        for version in versions:
            version.benchmark.changed(recipe.content(), f"{file}: recipes.{name}")
    kept = [{} if plain else version.benchmark.recipes for version in versions]
    return [
        replace(v, benchmark=v.benchmark.model_copy(update={"recipes": theirs | recipes}))
        for v, theirs in zip(versions, kept, strict=True)
    ]


def read_recipes(file: Path, quick: bool) -> dict[str, Recipe]:
    """Return the recipes in a file, written by `mtlbench tune --write` or part of a benchmark.

    Args:
        file: has tables `[recipes.METHOD]`, and `[quick.recipes.METHOD]` for the quick protocol.
        quick: read those of the quick protocol.

    Raises:
        UserError: there are none, or they can't be read.
    """
    try:
        content: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--recipes {file} can't be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid TOML: {error}.") from error
    where = "quick.recipes" if quick else "recipes"
    tables = content.get("quick", {}).get("recipes") if quick else content.get("recipes")
    if not isinstance(tables, dict) or not tables:
        protocol = "quick" if quick else "full"
        raise UserError(f"{file} has no recipes for the {protocol} protocol: tables [{where}.METHOD].")
    found = {}
    for name, table in tables.items():
        try:
            found[name] = Recipe.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, (where, name, *first["loc"])))
            raise UserError(f"{file}: {key}: {first['msg'][0].lower()}{first['msg'][1:]}.") from error
    return found


def with_recipe_of(benchmark: Benchmark, method: Method) -> Method:
    """Return a method with the benchmark's recipe for it, or unchanged if there is none.

    Raises:
        UserError: the recipe sets an option that the method doesn't have.
    """
    recipe = benchmark.recipes.get(method.name)
    return method if recipe is None else method.with_recipe(recipe.content())


def recipes_from_elsewhere(benchmark: Benchmark, methods: Sequence[Method], dataset: Dataset) -> list[str]:
    """Warn of recipes that were found under other conditions than they are used: they may be wrong for these.

    Args:
        benchmark: has the recipes; methods: to be run, with their recipes; dataset: what they train on.

    Returns:
        a sentence with the remedy; nothing if there is no such recipe.
    """
    here = conditions(benchmark.model_dump(mode="json"), dataset.tasks, dataset.facts["fingerprint"])
    used = [(m, benchmark.recipes[m.name]) for m in methods if m.recipe is not None and m.name in benchmark.recipes]
    said = in_which({m.name: unlike(recipe.found, here | {"code": sources_of(m)}) for m, recipe in used})
    if not said:
        return []
    return [
        f"these recipes were found under other conditions and may fail here: {said}. mtlbench tune finds recipes for"
        " these conditions; --plain runs without recipes."
    ]


def refuse_settings_of_recipes(methods: Sequence[Method], versions: Sequence[Variant], changes: Sequence[str]) -> None:
    """Refuse to change settings that a recipe of one of the methods sets too: it would be unclear which one counts.

    Args:
        methods: the methods to run; versions: of the benchmark.
        changes: as `--set` and `--vary` take them.

    Raises:
        UserError: a setting is in both; the message says what to do.
    """
    keys = {text.partition("=")[0].strip() for text in changes}
    for method in methods:
        recipe = versions[0].benchmark.recipes.get(method.name)
        for key in flat(recipe.content()) if recipe else ():
            if key in keys:
                raise UserError(
                    f"{key} is set, and the recipe of {method.name} has it too: add --plain to run without the recipe."
                )
