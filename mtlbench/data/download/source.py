"""Where a data set is published: its files, their sizes and checksums, what archives unpack to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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


def _celeba() -> Source:
    # torchvision keeps the official ids and checksums; it imports torch
    from torchvision.datasets import CelebA

    official = {name: (number, md5) for number, md5, name in CelebA.file_list}

    def file(name: str, size: int, **archive: Any) -> File:
        number, md5 = official[name]
        # confirm=t: without it Google answers with a page about viruses in place of a large file
        url = f"https://drive.usercontent.google.com/download?id={number}&export=download&confirm=t"
        return File(name, url, size, md5, **archive)

    return Source(
        title="CelebA",
        licence=(
            "CelebA: Ziwei Liu, Ping Luo, Xiaogang Wang, Xiaoou Tang (Multimedia Laboratory, The Chinese University of"
            " Hong Kong), Deep Learning Face Attributes in the Wild, ICCV 2015; cite this paper.\n"
            "For non-commercial research purposes only. The images come from the internet and are not property of the"
            " laboratory. No part of the set or of data derived from it may be sold or used commercially, and no part"
            " of the set may be copied further, published or distributed, except for internal use at a single site of"
            " one organisation. Access can be ended at any time. The whole agreement is on the set's page:\n"
            "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        ),
        page="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        files=(
            file("list_attr_celeba.txt", 26_721_026),
            file("identity_CelebA.txt", 3_424_458),
            file("list_eval_partition.txt", 2_836_386),
            file(
                "img_align_celeba.zip",
                1_443_490_838,
                unpacks_to="img_align_celeba",
                unpacked=1_900_000_000,
                members=300_000,
            ),
        ),
    )


def _zappos() -> Source:
    page = "https://vision.cs.utexas.edu/projects/finegrained/utzap50k/"
    return Source(
        title="UT-Zappos50K",
        licence=(
            "UT-Zappos50K: Aron Yu, Kristen Grauman (The University of Texas at Austin), Fine-Grained Visual"
            " Comparisons with Local Learning, CVPR 2014; cite this paper.\n"
            "For academic, non-commercial use only. The images are catalogue images collected from Zappos.com. The"
            f" set's page:\n{page}"
        ),
        page=page,
        files=(
            File(
                "ut-zap50k-data.zip",
                f"{page}ut-zap50k-data.zip",
                5_000_000,
                unpacks_to="ut-zap50k-data",
                proof="meta-data.csv",
                unpacked=50_000_000,
                members=1_000,
            ),
            File(
                "ut-zap50k-images.zip",
                f"{page}ut-zap50k-images.zip",
                300_000_000,
                unpacks_to="ut-zap50k-images",
                unpacked=450_000_000,
                members=100_000,
            ),
        ),
    )


CATALOGUE: dict[str, Callable[[], Source]] = {"celeba": _celeba, "zappos": _zappos}
