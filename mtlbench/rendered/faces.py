"""Faces drawn by the project, in the official layout of CelebA, so that a first run needs no download.

`render_faces` writes a whole set and `face.picture` draws one face; the CelebA reader reads the sets. The faces depict
nobody, and numbers measured on these pictures say nothing about CelebA.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UserError
from mtlbench.rendered.face.attributes import (
    ATTRIBUTES,
    CARRIERS,
    FACIAL_HAIR,
    HAIR_COLOURS,
    HAIRSTYLES,
    TEXTURES,
    FaceAttributes,
    Surroundings,
)
from mtlbench.rendered.face.picture import draw_face
from mtlbench.rendered.face.sitter import surroundings_by_chance
from mtlbench.rendered.marks import FIRST_IDENTITY
from mtlbench.rendered.writing import write_set

_PEOPLE, _BLOCK = 10, 150  # people per block, and their pictures, which are in random order
_SPLITS = (0, 0, 2, 0, 1, 0, 0, 2, 0, 0)  # of a block's people: 0 train, 1 val, 2 test
_QUARTERS = {  # of any four people on the same side of the split, how many have a permanent trait
    "oval_face": 2,
    "bald": 1,
    "arched_eyebrows": 2,
    "big_lips": 2,
    "big_nose": 2,
    "receding_hairline": 1,
    "sideburns": 1,
    "pale_skin": 1,
    "chubby": 1,
    "double_chin": 1,
    "pointy_nose": 2,
    "bushy_eyebrows": 1,
    "narrow_eyes": 1,
    "bags_under_eyes": 1,
    "high_cheekbones": 1,
}
_OFTEN = {  # shares of the pictures that show a changeable attribute
    "smiling": 0.5,
    "mouth_open": 0.4,
    "eyeglasses": 0.3,
    "hat": 0.25,
    "rosy_cheeks": 0.2,
    "earrings": 0.2,
    "necktie": 0.15,
    "necklace": 0.2,
    "blurry": 0.06,
}


@dataclass(frozen=True)
class _Item:
    """One image of a set: everything that (seed, index, conflict) decides."""

    attributes: FaceAttributes
    seed: int
    surroundings: Surroundings
    identity: int
    split: int
    quality: int


@functools.lru_cache(maxsize=4)
def _block(seed: int, block: int) -> NDArray[np.int64]:
    """Return which of the block's people each picture shows; each person is in 10 to 20 pictures."""
    rng = np.random.default_rng((seed, block, 1))
    change = rng.integers(0, 6, _PEOPLE // 2)
    counts = _BLOCK // _PEOPLE + np.concatenate([change, -change])[rng.permutation(_PEOPLE)]
    return rng.permutation(np.repeat(np.arange(_PEOPLE), counts))


@functools.lru_cache(maxsize=2 * _PEOPLE)
def _person(seed: int, identity: int) -> FaceAttributes:
    """Return the permanent traits of a person, by number from 0.

    Traits are dealt out evenly, so that even among few people some have and some lack each of them.
    """
    block, place = divmod(identity, _PEOPLE)
    side = _SPLITS[place]
    number = block * _SPLITS.count(side) + _SPLITS[:place].count(side)
    traits: dict[str, Any] = {}
    for index, (name, share) in enumerate(_QUARTERS.items()):
        dealt = np.random.default_rng((seed, number // 4, side, index, 2)).permutation(4)
        traits[name] = bool(dealt[number % 4] < share)
    colours = np.random.default_rng((seed, number // 4, side, len(_QUARTERS), 2)).permutation(4)
    rng = np.random.default_rng((seed, identity, 3))
    return FaceAttributes(
        person=int(rng.integers(2**62)),
        hair=HAIR_COLOURS[4 if rng.random() < 0.12 else int(colours[number % 4])],
        texture=TEXTURES[rng.choice(3, p=(0.42, 0.33, 0.25))],
        hairstyle=HAIRSTYLES[rng.integers(len(HAIRSTYLES))],
        bangs=bool(rng.random() < 0.25),
        **traits,
    )


def _item(seed: int, index: int, conflict: float) -> _Item:
    block, place = divmod(index, _BLOCK)
    identity = block * _PEOPLE + int(_block(seed, block)[place])
    person = _person(seed, identity)
    rng = np.random.default_rng((seed, index, 4))
    shows: dict[str, Any] = {
        name: bool(draw < share) for draw, (name, share) in zip(rng.random(len(_OFTEN)), _OFTEN.items(), strict=True)
    }
    hair = FACIAL_HAIR[rng.choice(5, p=(0.38, 0.40, 0.07, 0.07, 0.08))]
    painted = rng.random(2) < (0.20, 0.35)
    bare = hair == "None"
    attributes = replace(
        person, facial_hair=hair, makeup=bool(painted[0]) and bare, lipstick=bool(painted[1]) and bare, **shows
    )
    labels = attributes.labels()
    own = int(rng.integers(2**62))
    by_chance, tied = surroundings_by_chance(own), rng.random(len(CARRIERS)) < conflict
    surroundings = {
        carrier: labels[task] if tie else getattr(by_chance, carrier)
        for tie, (carrier, task) in zip(tied, CARRIERS.items(), strict=True)
    }
    return _Item(
        attributes=attributes,
        seed=own,
        surroundings=Surroundings(**surroundings),
        identity=FIRST_IDENTITY + identity,
        split=_SPLITS[identity % _PEOPLE],
        quality=int(rng.integers(70, 93)),
    )


def _name(index: int) -> str:
    return f"{index + 1:06d}.jpg"


def _write_images(seed: int, conflict: float, width: int, height: int, root: Path, indices: range) -> int:
    folder = root / "img_align_celeba"
    folder.mkdir(exist_ok=True)
    for index in indices:
        item = _item(seed, index, conflict)
        picture = draw_face(item.attributes, item.seed, width, height, item.surroundings)
        picture.save(folder / _name(index), quality=item.quality)
    return len(indices)


def _write_tables(root: Path, items: Sequence[_Item]) -> None:
    attributes, identities, partition = [str(len(items)), " ".join(ATTRIBUTES) + " "], [], []
    for index, item in enumerate(items):
        cells = " ".join(f"{1 if shown else -1:2d}" for shown in item.attributes.labels().values())
        attributes.append(f"{_name(index)} {cells}")
        identities.append(f"{_name(index)} {item.identity}")
        partition.append(f"{_name(index)} {item.split}")
    for name, lines in (
        ("list_attr_celeba.txt", attributes),
        ("identity_CelebA.txt", identities),
        ("list_eval_partition.txt", partition),
    ):
        (root / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def render_faces(
    root: Path,
    count: int,
    seed: int = 0,
    width: int = 76,
    height: int = 93,
    progress: Callable[[int], None] | None = None,
    conflict: float = 0.0,
) -> None:
    """Write `count` faces of `width` × `height` pixels under `root`, in the official layout of CelebA.

    Image i depends on (`seed`, i) and the other arguments but not on `count`: a longer set begins with the images of a
    shorter one, pixel for pixel. Ten people share 150 consecutive pictures, 10 to 20 each, and are numbered from
    `FIRST_IDENTITY`; seven of the ten are in train, one in val, two in test. The shape of the face, baldness and hair
    belong to the person; expression, facial hair, accessories, pose, light and backdrop belong to the picture. The
    seven attributes of the modulation paper are independent of each other, and each is on 25 to 50 % of the images. Of
    CelebA's 40 attributes, only Attractive, Male and Young are not drawn: they are -1 throughout.

    `conflict` changes the surroundings alone, never labels or faces. The surroundings are hue and brightness of
    backdrop and of clothes, stripes on clothes, the tint of the light, and the exposure. At 0, all seven are random. In
    general, each of the seven has an attribute of its own, whose label decides it with that probability, independently
    of the others. Evidence for one task is then the strongest distraction from the six others.

    `progress` is called with the number of images newly written. The set appears at `root` completely or not at all.
    Raises UserError if `root` holds something already or an argument is out of its range.
    """
    if not 0 < count < 10**6 or seed < 0 or min(width, height) < 16 or not 0.0 <= conflict <= 1.0:
        raise UserError(
            f"{count} faces of {width}x{height} pixels, seed {seed}, conflict {conflict} can't be rendered: ask for one"
            " to 999,999 images of at least 16x16 pixels, a seed from 0 and a conflict from 0 to 1."
        )

    def labels(folder: Path) -> None:
        _write_tables(folder, [_item(seed, i, conflict) for i in range(count)])

    facts: dict[str, str | int | float] = {"what": "faces", "seed": seed, "conflict": conflict}
    facts |= {"width": width, "height": height}
    write_set(root, count, functools.partial(_write_images, seed, conflict, width, height), labels, facts, progress)
