"""The documentation site: `make docs`. Pages on columns, methods and kinds are made from the code at each build."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

project = "mtlbench"
author = "The mtlbench authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["build"]
html_theme = "furo"
html_title = "mtlbench"
default_role = "code"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
GENERATED = Path(__file__).parent / "generated"
# Pages that stand elsewhere in the repository: links name those files, as GitHub needs it; the site has its own.
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "results/README.md": "results.md", "CHANGELOG.md": "changelog.md"}


def columns_page() -> str:
    """Return what each column of the tables means, as the columns themselves say it."""
    from mtlbench.report.columns import all_columns, glossary

    terms = [f"**{term}**\n: {meaning}\n" for term, meaning in glossary(all_columns())]
    return "# What each column means\n\n" + "\n".join(terms).replace("**\n: ", "** — ")


def csv_page() -> str:
    """Return the schema of `--format csv`, as the code that writes it says it."""
    from mtlbench import paper
    from mtlbench.report import agreement
    from mtlbench.report.frames import SCHEMA, Field, runs_schema, schema

    def table(fields: list[Field]) -> str:
        lines = ["| column | unit | what it holds |", "|---|---|---|"]
        for field in fields:
            lines.append("| " + " | ".join((f"`{field.name}`", field.unit, field.meaning.replace("|", "\\|"))) + " |")
        return "\n".join(lines) + "\n"

    others = {
        "A row per run: `--format runs`": runs_schema(),
        "Agreement of gradients: `--agreement --format csv`": agreement.schema(),
        "The paper's tables: `mtlbench paper TABLE --format csv`": paper.schema(),
    }
    said = (
        f"The columns of `mtlbench report --format csv`, schema {SCHEMA}, in their order. They are the same whatever"
        " was measured; what is not known is empty. Numbers are unrounded, with `.` as the decimal mark and no mark"
        " between thousands. Accuracies, differences and Δm are shares: 0.5 is 50 %. `<task>` and `<metric>` stand for"
        " a benchmark's own, whose columns come last. Cells hold numbers, names and dates, no sentences: what went"
        " wrong and the small print are in the tables of `--notes`, `--format md` and the page. The version, which"
        " all files share, grows when a column is renamed, goes, or changes its unit."
    )
    parts = [f"## {title}\n\n{table(fields)}" for title, fields in others.items()]
    return "\n".join([f"# The CSV's columns\n\n{said}\n", table(schema()), *parts])


def methods_page() -> str:
    """Return every architecture and balancer with its own words: formula, paper, deviations, options."""
    from mtlbench.benchmark import load_benchmark
    from mtlbench.bibliography import paper
    from mtlbench.cli.listing import _law
    from mtlbench.cost import storage_law
    from mtlbench.options import described
    from mtlbench.plugins import load_plugins
    from mtlbench.registry import ARCHITECTURES, BALANCERS
    from mtlbench.specs import parse_method

    load_plugins()
    benchmark = load_benchmark("celeba")
    parts = [
        "# Methods\n",
        "Each section is the docstring of the method's file. Storage counts parameters on the modulation paper's"
        " network for T tasks.\n",
    ]
    for title, registry in (("Architectures", ARCHITECTURES), ("Balancers", BALANCERS)):
        parts.append(f"## {title}\n")
        for entry in sorted(registry.entries.values(), key=lambda e: e.name):
            facts = [f"*{entry.summary}*"]
            if cited := paper(entry.cite):
                facts.append(f"Paper: {cited}.")
            if registry is ARCHITECTURES:
                facts.append(f"Tasks share: {entry.shares}." if entry.shares else "")
                law = _law(storage_law(parse_method(entry.name), benchmark))
                facts.append(f"Parameters: {law}." if law else "")
            if options := described(entry.target):
                facts.append(f"Options: `{options}`.")
            parts.append(f"### {entry.name}\n\n" + "  \n".join(filter(None, facts)) + "\n")
            said = inspect.getdoc(sys.modules[entry.target.__module__]) or ""
            parts.append(docstring_in_markdown(said) + "\n")
    return "\n".join(parts)


def docstring_in_markdown(text: str) -> str:
    """Return a docstring's paragraphs, what is indented in them as formulas."""
    parts = []
    for block in text.split("\n\n"):
        if block.startswith("    "):
            parts.append(f"```text\n{inspect.cleandoc(block)}\n```")
        else:
            parts.append(re.sub(r"([\\*_<>\[\]|$#])", r"\\\1", block))
    return "\n\n".join(parts)


def kinds_page() -> str:
    """Return what there is of every other kind."""
    from mtlbench.cli.listing import load_home
    from mtlbench.options import described
    from mtlbench.registry import KINDS

    parts = [
        "# Everything that has a name\n",
        "What `mtlbench list KIND` shows. A benchmark's TOML file and the command line take these names; options are"
        " written `name[option=value]`.\n",
    ]
    for kind, registry in KINDS.items():
        if kind in ("methods", "architectures", "balancers"):
            continue
        load_home(registry)
        lines = ["| name | options | what it is |", "|---|---|---|"]
        for entry in sorted(registry.entries.values(), key=lambda e: e.name):
            cells = (f"`{entry.name}`", described(entry.target), entry.summary)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines += [f"| `{f.prefix}:<name>` | | {f.summary} |" for f in registry.families.values()]
        parts.append(f"## {kind.capitalize()}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def outside_page(path: str, title: str = "") -> str:
    """Return a page that stands elsewhere in the repository, its links to other files left as text."""
    text = (ROOT / path).read_text(encoding="utf-8")
    text = re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]+\)", r"\1", text)
    return f"# {title}\n\n{text.split(chr(10), 1)[1]}" if title else text


def _link_own_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links to files of `OUTSIDE` lead to the site's pages."""
    for path, page in OUTSIDE.items():
        source[0] = source[0].replace(f"](../{path}", f"](generated/{page}")


def _write_pages(app: Sphinx) -> None:
    GENERATED.mkdir(exist_ok=True)
    pages = {
        "columns.md": columns_page(),
        "csv.md": csv_page(),
        "methods.md": methods_page(),
        "kinds.md": kinds_page(),
        "contributing.md": outside_page("CONTRIBUTING.md", "Add a method, loss, reader or metric"),
        "results.md": outside_page("results/README.md", "Measured results"),
        "changelog.md": outside_page("CHANGELOG.md"),
    }
    for name, text in pages.items():
        page = GENERATED / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the generated pages before Sphinx looks for sources."""
    app.connect("builder-inited", _write_pages)
    app.connect("source-read", _link_own_pages)
    return {"parallel_read_safe": True}
