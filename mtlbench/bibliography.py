"""BibTeX: the bundled methods' references, looked up by key, and an entry's short form for tables."""

from __future__ import annotations

import re
from functools import cache
from itertools import accumulate

from mtlbench.bundled import bundled
from mtlbench.errors import UserError, did_you_mean

_HEAD = re.compile(r"@\w+\s*\{\s*([^,\s{}]+)\s*,")
_ENTRY = re.compile(r"^@\w+\{([^,\s]+),.*?^\}", re.MULTILINE | re.DOTALL)


def read_entries(text: str) -> dict[str, str]:
    """Return the entries of a BibTeX file by key, as they stand; each ends with a line that is `}` alone."""
    return {match[1]: match[0] for match in _ENTRY.finditer(text)}


@cache
def references() -> dict[str, str]:
    """Return the entries of methods/references.bib by key."""
    return read_entries((bundled("methods") / "references.bib").read_text(encoding="utf-8"))


def is_entry(text: str) -> bool:
    """Return whether a text is one BibTeX entry: a type, a key, and braces that close at its end and not before."""
    if _HEAD.match(text) is None or not text.endswith("}"):
        return False
    depths = list(accumulate((letter == "{") - (letter == "}") for letter in text))
    return depths[-1] == 0 and all(depths[text.index("{") : -1])


def key_of(entry: str) -> str:
    """Return the key of a BibTeX entry."""
    head = _HEAD.match(entry)
    return head[1] if head else ""


def bibtex(cite: str) -> str:
    """Return the BibTeX of a source: `cite` itself, which begins with @, or the bundled entry of that key.

    Raises:
        UserError: there is no such key, or the text is not one whole entry.
    """
    cite = cite.strip()
    if cite.startswith("@") and not is_entry(cite):
        raise UserError(
            f"its source is not one BibTeX entry, @type{{key, field = {{…}}, …}} with as many }} as {{: it begins with"
            f" {cite.splitlines()[0][:60]}"
        )
    if not cite or cite.startswith("@"):
        return cite
    known = references()
    if cite not in known:
        raise UserError(
            f"methods/references.bib has no '{cite}'.{did_you_mean(cite, known)} Give one of its keys, or the BibTeX"
            " entry itself, which begins with @."
        )
    return known[cite]


def paper(entry: str) -> str:
    """Return a BibTeX entry's first author and year: Zhao et al. 2018; nothing where it has no author."""
    authors = re.search(r"author\s*=\s*\{(.+?)\}\s*,?\s*$", entry, re.MULTILINE | re.DOTALL)
    year = re.search(r"year\s*=\s*\{?(\d{4})", entry)
    if authors is None:
        return ""
    people = re.split(r"\s+and\s+", authors[1].strip())
    last = [p.split(",")[0] if "," in p else p.split()[-1] for p in people]
    named = last[0] if len(last) == 1 else f"{last[0]} and {last[1]}" if len(last) == 2 else f"{last[0]} et al."
    return f"{named} {year[1]}" if year else named
