"""Near-copies: an image saved again or resized is found across splits, one of another colour or scene is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import run_command

from mtlbench.data.decoding import FILE, read_image
from mtlbench.data.near_copies import ALIKE, SIDE, NearCopy, near_copies, standardised


def _scene(seed: int, size: int = 96) -> Image.Image:
    """A smooth picture in colour: a few blurred patches."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def _thumbnails(*files: Path) -> np.ndarray:
    return np.stack([read_image(f, (SIDE, SIDE), "squash", np.zeros(1, FILE)[0]).reshape(-1) for f in files])


@pytest.fixture
def pictures(tmp_path) -> list[Path]:
    """0 to 2: training images; 3: the first saved again at half the size; 4: the second with its colours exchanged;
    5: the third mirrored; 6: another scene."""
    first, second, third, other = map(_scene, range(4))
    images = [first, second, third, first.resize((48, 48)), Image.merge("RGB", second.split()[::-1]),
              third.transpose(Image.Transpose.FLIP_LEFT_RIGHT), other]  # fmt: skip
    files = [tmp_path / f"{n}.jpg" for n in range(len(images))]
    for n, (image, file) in enumerate(zip(images, files, strict=True)):
        image.save(file, quality=75 if n == 3 else 92)
    return files


def test_only_what_was_saved_anew_is_found(pictures):
    (found,) = near_copies(_thumbnails(*pictures), np.array([0, 0, 0, 2, 2, 2, 1]))
    assert (found.image, found.other) == (3, 0)
    assert ALIKE <= found.likeness <= 1


def test_copies_on_one_side_are_no_leak(pictures):
    assert near_copies(_thumbnails(*pictures), np.array([0, 0, 0, 0, 2, 2, 1])) == []
    assert near_copies(_thumbnails(*pictures), np.array([2, 1, 2, 2, 2, 2, 1])) == []  # nothing to train on


def test_likeness_is_the_correlation_of_thumbnails():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, SIDE * SIDE * 3), dtype=np.uint8)
    one, other = standardised(pixels)
    assert float(one @ other) == pytest.approx(np.corrcoef(pixels.astype(float))[0, 1], abs=1e-6)
    flat = np.full((2, SIDE * SIDE * 3), 255, np.uint8)
    assert near_copies(flat, np.array([0, 2])) == []


def test_blocks_change_nothing(monkeypatch):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (40, SIDE * SIDE * 3), dtype=np.uint8)
    pixels[30:] = pixels[:10]
    pixels[30] ^= 1
    split = np.array([0] * 25 + [2] * 15)
    whole = near_copies(pixels, split)
    monkeypatch.setattr("mtlbench.data.near_copies._QUERIES", 4)
    monkeypatch.setattr("mtlbench.data.near_copies._BLOCK", 7)
    told: list[tuple[int, int]] = []
    parts = near_copies(pixels, split, lambda done, of: told.append((done, of)))
    assert [(one.image, one.other) for one in sorted(parts, key=lambda one: one.image)] == [
        (30 + n, n) for n in range(10)
    ]
    assert [one.likeness for one in parts] == pytest.approx([one.likeness for one in whole], abs=1e-6)
    assert told == [(4, 15), (8, 15), (12, 15), (15, 15)]
    assert parts[-1] == NearCopy(30, 0, parts[-1].likeness)  # the least alike comes last
    assert parts[-1].likeness < 1


def test_data_check_names_them(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    lines = ["path,kind,split"]
    for n in range(30):
        _scene(n).save(photos / f"{n}.jpg", quality=90)
        lines.append(f"{n}.jpg,{'ab'[n % 2]},{'train' if n < 16 else 'val' if n < 23 else 'test'}")
    _scene(0).resize((64, 64)).save(photos / "29.jpg", quality=60)
    (photos / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "own.toml").write_text(
        f'name = "own"\ntitle = "Own"\n[data]\nreader = "csv"\ncsv = {{ file = "labels.csv" }}\nimage_size = 32\n'
        f'folder = "{photos}"\n[train]\nsteps = 10\n'
    )
    ended = run_command("data", "check", tmp_path / "own.toml", "--near-copies")
    assert "0 of 7 val images (0.0%), 1 of 7 test images (14.3%)" in ended.out, ended
    assert "alike: 29.jpg and 0.jpg (train)" in ended.out
    assert "look like" not in run_command("data", "check", tmp_path / "own.toml").out
