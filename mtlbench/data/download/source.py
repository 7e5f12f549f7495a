"""Where a data set is published: its files, their sizes and checksums, what archives unpack to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One file that a data set is published as.

    Attributes:
        name: as the host calls it, and as it is looked for in the data set's folder.
        url: where it is downloaded from.
        size: bytes, about.
        md5: official checksum, or "" where none was published.
        unpacks_to: the folder that an archive becomes; "" for what is no archive.
        proof: a file in that folder without which it is not whole; "" where any content will do.
        unpacked: bytes that the folder takes on disk, about.
        members: how many files and folders the archive may hold.
    """

    name: str
    url: str
    size: int
    md5: str = ""
    unpacks_to: str = ""
    proof: str = ""
    unpacked: int = 0
    members: int = 0


@dataclass(frozen=True)
class Source:
    """Where a data set is published: its title, terms in short, official page and files."""

    title: str
    licence: str
    page: str
    files: tuple[File, ...]
