"""Registries and the doors that plug-ins come through; nothing registered by a test outlives it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import run_command

import mtlbench
from mtlbench import Architecture, Balancer, UserError, register_architecture, register_balancer, register_method
from mtlbench.bundled import bundled
from mtlbench.plugins import load_plugins
from mtlbench.registry import ALIASES, ARCHITECTURES, BALANCERS, Registry
from mtlbench.runs.references import REFERENCES
from mtlbench.specs import parse_methods
from mtlbench.tuning.outcome import FOLDER

BUNDLED = ["cross-stitch", "independent", "modulation", "shared", "single"]


@pytest.fixture(autouse=True)
def _packages() -> Iterator[None]:
    """Forget the packages that a test puts on the path."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if "plug" in name:
            del sys.modules[name]
    sys.path[:] = path


def plugin(name: str, groups: str = "()") -> str:
    """The source of a file with one architecture; its decorator stands in line 4."""
    return f'''from mtlbench import Architecture, register_architecture


@register_architecture("{name}", groups={groups})
class Mine(Architecture):
    """A method of my own.

    And more about it.
    """

    def forward(self, images):
        return images
'''


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


class Whole(Architecture):
    def forward(self, images: Any) -> Any:
        return images


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_group_lists_its_members_in_order_of_registration() -> None:
    registry: Registry[int] = Registry("thing")
    registry.add("b", 1, groups=("few", "many"))
    registry.add("a", 2, groups=("many",))
    assert registry.groups() == {"few": ["b"], "many": ["b", "a"]}
    assert list(registry) == ["b", "a"]
    assert registry.get("a").target == 2
    assert "a" in registry
    assert "c" not in registry


@pytest.mark.parametrize("word", ["modulaton", "Modulation", "mod_ulation"])
def test_an_unknown_name_is_answered_with_the_nearest_and_all_there_are(word: str) -> None:
    with pytest.raises(UserError, match="Did you mean: modulation") as caught:
        ARCHITECTURES.get(word)
    assert str(caught.value).startswith(f"Unknown architecture '{word}'.")
    assert all(name in str(caught.value).split("Available: ")[1] for name in BUNDLED)


def test_nothing_is_suggested_for_a_name_near_to_none() -> None:
    with pytest.raises(UserError) as caught:
        ARCHITECTURES.get("zzz")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["Mine", "my method", "my,method", "a+b", "a[1]", "", "-a", "é"])
def test_a_name_that_a_spec_could_not_hold_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="can't name an architecture: use lower-case letters"):
        register_architecture(name)(Whole)
    with pytest.raises(UserError, match="can't name a group: use lower-case letters"):
        register_architecture("mine", groups=(name,))(Whole)


def test_a_name_taken_by_another_entry_is_refused_with_both_origins(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.py", plugin("mine")), write(tmp_path / "b.py", plugin("mine"))
    (broken,) = load_plugins([tmp_path])
    assert broken.where == f"{second}:4"
    assert broken.reason.startswith("the name 'mine' of this architecture is ")
    assert f"registered already, for the architecture of {first}:4" in broken.reason
    assert ARCHITECTURES.get("mine").origin == f"{first}:4"


@pytest.mark.parametrize("name", [*(row.name for row in REFERENCES), FOLDER, "verdict.json"])
def test_no_method_takes_the_name_of_what_lies_beside_its_runs(name: str) -> None:
    """A run of `untrained` ended the whole command in the middle."""
    with pytest.raises(UserError, match=f"'{name}' is .* beside the runs of methods; call the method something else"):
        register_method(name, architecture="shared", balancer="mean")
    with pytest.raises(UserError, match="call the architecture something else"):
        register_architecture(name)(Whole)
    assert name not in ARCHITECTURES
    assert name not in ALIASES


def test_an_architecture_and_a_named_method_cannot_share_a_name() -> None:
    origin = ALIASES.get("gradnorm").origin
    with pytest.raises(UserError, match=r"test_registry\.py:\d+: the name 'gradnorm' of this architecture") as caught:
        register_architecture("gradnorm")(Whole)
    assert f"for the method of {origin}" in str(caught.value)
    with pytest.raises(UserError, match=r"test_registry\.py:\d+: the name 'shared' of this method") as caught:
        register_method("shared", architecture="single", balancer="mean")
    assert f"for the architecture of {ARCHITECTURES.get('shared').origin}" in str(caught.value)


@pytest.mark.parametrize("name", ["core", "all", "own"])
def test_a_method_cannot_have_the_name_of_a_group(name: str) -> None:
    register_architecture("mine", groups=("own",))(Whole)
    with pytest.raises(UserError, match=f"'{name}' is the name of a group; call the architecture something else"):
        register_architecture(name)(Whole)
    with pytest.raises(UserError, match=f"'{name}' is the name of a group; call the method something else"):
        register_method(name, architecture="mine", balancer="gradnorm")


@pytest.mark.parametrize("group", ["modulation", "gradnorm"])
def test_a_group_cannot_have_the_name_of_a_method(group: str) -> None:
    with pytest.raises(UserError, match=rf"the group '{group}' of 'mine' has the name of the \w+ of .*{group}\.py:\d+"):
        register_architecture("mine", groups=(group,))(Whole)
    with pytest.raises(UserError, match=f"the group '{group}' of 'mine' has the name of the"):
        register_method("mine", architecture="single", balancer="mean", groups=(group,))


def test_a_method_cannot_be_in_a_group_of_its_own_name_or_in_all() -> None:
    with pytest.raises(UserError, match="'mine' is the name of a group"):
        register_architecture("mine", groups=("mine",))(Whole)
    with pytest.raises(UserError, match="'mine' is in the group 'all' anyway"):
        register_architecture("mine", groups=("all",))(Whole)


def test_groups_given_as_one_word_are_refused_instead_of_read_letter_by_letter() -> None:
    with pytest.raises(UserError, match=r"groups=\('core',\)"):
        register_architecture("mine", groups="core")(Whole)
    assert "mine" not in ARCHITECTURES


# --- what is registered -----------------------------------------------------------------------------------------------


def test_a_balancer_is_no_architecture() -> None:
    class Wrong(Balancer):
        def backward(self, losses: Any, architecture: Any) -> Any:
            return losses

    with pytest.raises(UserError, match=r"test_registry\.py:\d+: the architecture 'wrong' must be a subclass of mtl"):
        register_architecture("wrong")(Wrong)
    with pytest.raises(UserError, match=r"the balancer 'wrong' must be a subclass of mtlbench\.Balancer"):
        register_balancer("wrong")(Whole)
    with pytest.raises(UserError, match="must be a subclass"):
        register_architecture("wrong")(lambda backbones, tasks: None)  # type: ignore[arg-type]


def test_a_class_without_an_abstract_method_is_refused_and_told_which() -> None:
    class Half(Architecture):
        pass

    class HalfBalancer(Balancer):
        pass

    with pytest.raises(UserError, match=r"the architecture 'half' lacks forward\."):
        register_architecture("half")(Half)
    with pytest.raises(UserError, match=r"the balancer 'half' lacks backward\."):
        register_balancer("half")(HalfBalancer)
    assert "half" not in ARCHITECTURES
    assert "half" not in BALANCERS


def test_an_entry_knows_its_groups_its_docstrings_first_line_and_where_it_stands(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", plugin("mine", "('own', 'core')"))
    assert load_plugins([file]) == []
    entry = ARCHITECTURES.get("mine")
    assert entry.groups == ("own", "core")
    assert entry.summary == "A method of my own."
    assert entry.origin == f"{file}:4"
    assert entry.target.__name__ == "Mine"


def test_a_class_without_a_docstring_does_not_borrow_the_contracts() -> None:
    register_architecture("whole")(Whole)
    assert ARCHITECTURES.get("whole").summary == ""


def test_a_named_methods_origin_is_the_line_that_names_it(tmp_path: Path) -> None:
    text = "from mtlbench import register_method\n\nregister_method('pair', architecture='single', balancer='mean')\n"
    file = write(tmp_path / "pair.py", text)
    assert load_plugins([file]) == []
    assert ALIASES.get("pair").origin == f"{file}:3"


# --- doors ------------------------------------------------------------------------------------------------------------


def test_the_bundled_methods_are_found() -> None:
    assert set(BUNDLED) <= set(ARCHITECTURES)
    assert Path(ARCHITECTURES.get("shared").origin.rpartition(":")[0]).parent == bundled("methods")
    assert ARCHITECTURES.get("shared").target.__module__ == "mtlbench.methods.shared"
    assert {"mean", "gradnorm"} <= set(BALANCERS)


def test_a_folder_is_searched_for_files_that_do_not_begin_with_an_underscore(tmp_path: Path) -> None:
    write(tmp_path / "b.py", plugin("second"))
    write(tmp_path / "a.py", plugin("first"))
    write(tmp_path / "_hidden.py", plugin("hidden"))
    write(tmp_path / "notes.txt", plugin("notes"))
    assert load_plugins([tmp_path]) == []
    assert [n for n in ARCHITECTURES if n in ("first", "second", "hidden", "notes")] == ["first", "second"]


def test_files_of_one_name_in_folders_of_one_name_are_all_loaded_and_loaded_once(tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "methods", tmp_path / "b" / "methods"]
    for n, folder in enumerate(folders):
        folder.mkdir(parents=True)
        write(folder / "plug.py", plugin(f"mine-{n}"))
    for _ in range(2):
        assert load_plugins(folders) == []
    assert {"mine-0", "mine-1"} <= set(ARCHITECTURES)


def test_the_environment_names_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "one.py", plugin("one"))
    two = write(tmp_path / "two.py", plugin("two"))
    monkeypatch.setenv("MTLBENCH_PLUGINS", os.pathsep.join([str(tmp_path / "folder"), str(two)]))
    assert load_plugins() == []
    assert {"one", "two"} <= set(ARCHITECTURES)


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path) -> None:
    info = tmp_path / "mtlplug-1.0.dist-info"
    info.mkdir()
    write(info / "METADATA", "Metadata-Version: 2.1\nName: mtlplug\nVersion: 1.0\n")
    write(
        info / "entry_points.txt", "[mtlbench.plugins]\nmine = mtlplug_good\nother = mtlplug_bad\ngone = mtlplug_none\n"
    )
    good = write(tmp_path / "mtlplug_good.py", plugin("packaged"))
    bad = write(tmp_path / "mtlplug_bad.py", plugin("packaged"))
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    broken = {b.source: b for b in load_plugins()}
    assert ARCHITECTURES.get("packaged").origin == f"{good}:4"
    assert set(broken) == {"other (mtlplug_bad)", "gone (mtlplug_none)"}
    assert broken["other (mtlplug_bad)"].where == f"{bad}:4"
    assert broken["gone (mtlplug_none)"].where == "gone (mtlplug_none)"
    assert "No module named 'mtlplug_none'" in broken["gone (mtlplug_none)"].reason


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_path_that_is_not_there_is_the_users_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    missing = tmp_path / "missing.py"
    if by_environment:
        monkeypatch.setenv("MTLBENCH_PLUGINS", str(missing))
    said = "MTLBENCH_PLUGINS" if by_environment else "--plugins"
    with pytest.raises(UserError, match=f"^{said} {missing}: there is no such file or folder"):
        load_plugins([] if by_environment else [missing])


def test_a_folder_with_nothing_to_load_is_the_users_error(tmp_path: Path) -> None:
    write(tmp_path / "__init__.py", plugin("mine"))
    with pytest.raises(UserError, match=r"has no \.py file to load"):
        load_plugins([tmp_path])


def test_loading_again_changes_nothing(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", plugin("mine"))
    assert load_plugins([file, tmp_path, file]) == []
    before = dict(ARCHITECTURES.entries)
    assert load_plugins([tmp_path]) == []
    assert ARCHITECTURES.entries == before


def test_a_bundled_file_or_folder_may_be_named_as_a_plug_in() -> None:
    before = dict(ARCHITECTURES.entries)
    assert load_plugins([bundled("methods"), bundled("methods") / "shared.py"]) == []
    assert ARCHITECTURES.entries == before


# --- broken plug-ins --------------------------------------------------------------------------------------------------

BREAKS = {
    "syntax": ("def f(:\n", 1, "SyntaxError"),
    "indentation": ("if True:\nx = 1\n", 2, "IndentationError"),
    "import": (
        "\nimport there_is_no_such_module\n",
        2,
        "ModuleNotFoundError: No module named 'there_is_no_such_module'",
    ),
    "name": ("from mtlbench import Archtecture\n", 1, "ImportError: cannot import name 'Archtecture'"),
    "exception": (plugin("mine") + "\nraise ValueError('at import')\n", 14, "ValueError: at import"),
    "in a library": ("import json\n\njson.loads('{')\n", 3, "JSONDecodeError"),
    "text that is no code": ("x = 1\neval('1 +')\n", 2, "SyntaxError"),
    "exit": ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
    "duplicate": (plugin("mine").replace('"mine"', '"shared"'), 4, "registered already"),
    "two of one name": (plugin("mine") + plugin("mine"), 16, "registered already"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_plug_in_is_reported_by_file_and_line_and_the_rest_works(tmp_path: Path, kind: str) -> None:
    text, line, reason = BREAKS[kind]
    file = write(tmp_path / "broken.py", text)
    write(tmp_path / "working.py", plugin("working"))
    before = dict(ARCHITECTURES.entries)
    (broken,) = load_plugins([tmp_path])
    assert broken.source == str(file)
    assert broken.where == f"{file}:{line}"
    assert reason in broken.reason
    assert str(broken) == f"plug-in {file} left out: {broken.reason} ({file}:{line})"
    assert set(ARCHITECTURES) - set(before) == {"working"}
    assert [m.name for m in parse_methods("working,shared")] == ["working", "shared"]


def test_a_broken_plug_in_is_told_in_one_line_once(tmp_path: Path) -> None:
    long = write(
        tmp_path / "long.py", "import warnings\nwarnings.warn('old\\n  style')\nraise ValueError('a\\n b\\n\\tc')\n"
    )
    clash = write(tmp_path / "mine.py", plugin("shared"))
    listed = run_command("list", "methods", "--plugins", tmp_path)
    origin = ARCHITECTURES.get("shared").origin
    assert listed.err.splitlines() == [
        f"warning: UserWarning: old style ({long}:2)",
        f"warning: plug-in {long} left out: ValueError: a b c ({long}:3)",
        f"warning: plug-in {clash} left out: the name 'shared' of this architecture is registered already, for the"
        f" architecture of {origin}; rename one ({clash}:4)",
    ]


def test_a_named_file_that_cant_be_loaded_ends_the_command(tmp_path: Path) -> None:
    """Otherwise the bundled method of its name would be trained in its place."""
    clash = write(tmp_path / "mine.py", plugin("shared"))
    said = f"plug-in {clash} left out: the name 'shared' of this architecture is registered already, for the"
    for command in ("run", "tune"):
        ended = run_command(command, "--dataset", "shoes", "--quick", "--methods", "shared", "--plugins", clash,
                            "--results", tmp_path / "results")  # fmt: skip
        assert ended.error.startswith(said)
    assert not (tmp_path / "results").exists()
    with pytest.raises(UserError) as error:
        mtlbench.run("shared", "shoes", quick=True, plugins=[clash], show=False)
    assert str(error.value).startswith(said)


def test_what_a_broken_plug_in_had_registered_is_taken_back_from_every_registry(tmp_path: Path) -> None:
    text = plugin("mine") + (
        "\nfrom mtlbench import Balancer, register_balancer, register_method\n\n\n"
        "@register_balancer('own')\nclass Own(Balancer):\n    def backward(self, losses, architecture):\n"
        "        return losses\n\n\n"
        "register_method('pair', architecture='mine', balancer='own', groups=('core',))\nraise ValueError('late')\n"
    )
    file = write(tmp_path / "broken.py", text)
    before = [list(r) for r in (ARCHITECTURES, BALANCERS, ALIASES)]
    assert [b.source for b in load_plugins([file])] == [str(file)]
    assert [list(r) for r in (ARCHITECTURES, BALANCERS, ALIASES)] == before


def test_a_plug_in_mended_in_place_loads_the_next_time(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.py", plugin("mine") + "raise ValueError\n")
    assert len(load_plugins([file])) == 1
    write(file, plugin("mine"))
    assert load_plugins([file]) == []
    assert "mine" in ARCHITECTURES


def test_a_file_that_is_no_python_is_reported_by_its_name(tmp_path: Path) -> None:
    file = write(tmp_path / "notes.txt", "hello")
    (broken,) = load_plugins([file])
    assert broken.where == str(file)
    assert "is not a Python file" in broken.reason


def test_a_named_method_without_its_parts_is_left_out_so_that_groups_keep_working(tmp_path: Path) -> None:
    text = "from mtlbench import register_method\nregister_method({}, groups=('core',))\n"
    write(tmp_path / "a.py", text.format("'far', architecture='shard', balancer='mean'"))
    write(tmp_path / "b.py", text.format("'off', architecture='shared', balancer='nowhere'"))
    write(tmp_path / "c.py", text.format("'near', architecture='single', balancer='gradnorm'"))
    broken = load_plugins([tmp_path])
    assert [(b.source, b.where) for b in broken] == [
        ("far", f"{tmp_path / 'a.py'}:2"),
        ("off", f"{tmp_path / 'b.py'}:2"),
    ]
    assert broken[0].reason == "there is no architecture 'shard' for it. Did you mean: shared?"
    assert broken[1].reason == "there is no balancer 'nowhere' for it."
    names = [m.name for m in parse_methods("core")]
    assert "near" in names
    assert not {"far", "off"} & set(names)


def test_a_broken_bundled_file_does_not_take_the_plain_mean_with_it(tmp_path: Path) -> None:
    """In a process of its own: the balancer's file must not be imported before."""
    shutil.copy(bundled("methods") / "mean.py", tmp_path)
    write(tmp_path / "a.py", "from mtlbench import Balancer\nraise ValueError('broken')\n")
    write(tmp_path / "b.py", plugin("mine"))
    code = (
        "from pathlib import Path; from mtlbench import plugins, specs\n"
        f"plugins.bundled = lambda folder: Path({str(tmp_path)!r})\n"
        "print([b.reason for b in plugins.load_plugins()], [m.balancer for m in specs.parse_methods('mine')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['ValueError: broken'] ['mean']\n"
