"""Draws 240 pictures of coloured shapes with a CSV of labels: it stands for your own photos.

    python examples/own_images/make_photos.py        # into a folder photos beside shapes.toml
    mtlbench data check examples/own_images/shapes.toml
    mtlbench run --methods core --dataset examples/own_images/shapes.toml

Two notions of similarity, colour and shape, are the two tasks. The photos of one object share its name, and
`group = "object"` keeps them on one side of the split.
"""

import csv
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (200, 60, 50), "green": (70, 160, 80), "blue": (60, 90, 190)}
SHAPES = ("circle", "square", "triangle")


def picture(colour: str, shape: str, chance: random.Random) -> Image.Image:
    """Draw a shape somewhere on a grey ground, its colour a little off."""
    ground = chance.randint(150, 230)
    image = Image.new("RGB", (64, 64), (ground, ground, ground))
    pen = ImageDraw.Draw(image)
    size, x, y = chance.randint(20, 34), chance.randint(4, 26), chance.randint(4, 26)
    paint = tuple(min(255, max(0, c + chance.randint(-35, 35))) for c in COLOURS[colour])
    box = (x, y, x + size, y + size)
    if shape == "circle":
        pen.ellipse(box, fill=paint)
    elif shape == "square":
        pen.rectangle(box, fill=paint)
    else:
        pen.polygon([(x, y + size), (x + size, y + size), (x + size // 2, y)], fill=paint)
    return image


def main(folder: Path, photos: int = 240) -> None:
    """Write the pictures and `labels.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "object", "colour", "shape"])
        for number in range(photos):
            thing = number // 2  # two photos of each object
            colour, shape = list(COLOURS)[thing % 3], SHAPES[thing // 3 % 3]
            name = f"{number:03}.png"
            picture(colour, shape, chance).save(folder / name)
            table.writerow([name, f"object-{thing}", colour, shape])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "photos")
