"""Where a data set is published: its files, their sizes and checksums, and what its archives unpack to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One published file of a data set.

    Attributes:
        name: the host's name for it, also used in the data set's folder.
        url: the address to download it from.
        size: approximate size in bytes.
        md5: official checksum, or "" if none was published.
        unpacks_to: the folder that an archive becomes; "" for other files.
        proof: a file that must be in that folder for it to be complete; "" if any content will do.
        unpacked: approximate bytes that the folder takes on disk.
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
