"""Names and texts that users chose, made fit for file names and terminals."""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterable, Sequence

from mtlbench.errors import UserError, did_you_mean, plain_name

LONGEST = 200  # bytes of a file's name; file systems allow 255
MEASURES = {  # what tables and `evaluation.select` call by these names
    "triplet": "triplet accuracy",
    "mean": "the mean over tasks",
    "worst": "the worst task",
    "per-task": "a checkpoint for each task",
}
NO_METHODS = {  # folders and files among those of methods
    "untrained": "a reference row",
    "chance": "a reference row",
    "tuning": "the folder of trials",
    "verdict.json": "the file of verdicts",
}
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # by Windows, whatever the ending
# all control characters but tab and newline: a terminal would obey them
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def file_name(name: str, kept: str = "a-zA-Z0-9+-", *, longest: int = LONGEST) -> str:
    """Return a name as one part of a path: it can lead nowhere else, is not empty, and is no device's.

    Every name that becomes a path goes through here, whether a user, a plug-in or a run record chose it.

    Args:
        name: any text.
        kept: the characters that stay, as in a regular expression's brackets; others become hyphens.
        longest: bytes; a longer name is cut, and ends in a checksum of the whole.

    >>> file_name("../a task [cm]"), file_name(".."), file_name("NUL")
    ('---a-task--cm-', 'unnamed', '-NUL')
    """
    made = re.sub(rf"[^{kept}]", "-", name)
    if not made.strip(".-"):
        made = "unnamed"
    if made.startswith("."):  # hidden, or the folder above
        made = f"-{made.lstrip('.')}"
    if _RESERVED.fullmatch(made):
        made = f"-{made}"
    if len(made.encode()) > longest:
        made = (
            f"{made.encode()[: longest - 9].decode(errors='ignore')}-{zlib.crc32(name.encode('utf-8', 'replace')):08x}"
        )
    return made


def slug(name: str) -> str:
    """Return a name for a report's file names and links: lower case, without blanks, short enough for
    three of them in one.

    >>> slug("Height [cm]"), slug("../escaped"), slug("高さ")
    ('height-cm', 'escaped', 'unnamed')
    """
    return file_name(re.sub(r"[^a-z0-9+-]+", "-", name.lower()).strip("-"), longest=72)


def printable(text: str) -> str:
    """Return text without characters that a terminal would obey or that UTF-8 can't hold; each becomes �."""
    return _CONTROL.sub("�", text)


def joined(names: Sequence[str], most: int = 99) -> str:
    """Join names, saying how many were left out: `a`, `a and b`, `a, b and 3 more`.

    >>> joined(["a", "b", "c"]), joined(["a", "b", "c"], 2)
    ('a, b and c', 'a, b and 1 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def names_in(text: str) -> tuple[str, ...]:
    """Return names that are joined by commas; one that holds a comma is in double quotes, as in CSV. See `listed`.

    >>> names_in('male, "big, lips", big "nose"')
    ('male', 'big, lips', 'big "nose"')
    """
    words = next(csv.reader([" ".join(text.splitlines())], skipinitialspace=True))
    return tuple(word.strip() for word in words if word.strip())


def listed(names: Iterable[str]) -> str:
    """Join names by commas, so that `names_in` reads them again.

    >>> print(listed(["male", "big, lips"]))
    male, "big, lips"
    """
    doubled = {name: name.replace('"', '""') for name in names}
    return ", ".join(f'"{each}"' if "," in name or name[:1] == '"' else name for name, each in doubled.items())


def find_task(name: str, tasks: Sequence[str], where: object) -> str:
    """Return a task in its own spelling; case, hyphens, underscores and blanks don't matter, nor quotes around it.

    Raises:
        UserError: there is none; it says whose tasks there are, those of `where`.
    """
    for said in (name, ",".join(names_in(name))):
        for plain in (str, plain_name, lambda text: plain_name(text).replace(" ", "")):
            spelt = {plain(task): task for task in tasks}
            if plain(said) in spelt:
                return spelt[plain(said)]
    quotes = " One with a comma is in double quotes." if any("," in task for task in tasks) else ""
    raise UserError(f"{where} has no task '{name}'.{did_you_mean(name, tasks)} Tasks: {listed(tasks)}.{quotes}")
