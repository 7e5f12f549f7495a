"""The data of a benchmark as validated settings: which images, labels and splits, and the pixels that networks see."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Pixels = Annotated[int, Field(gt=0, le=10_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Anchors = Literal["positive", "balanced"]


class Section(BaseModel):
    """A table of a benchmark's TOML: closed, frozen, with the names that keys had before."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    renamed: ClassVar[dict[str, str]] = {}  # keys of mtlbench 0.1 -> those of today

    @model_validator(mode="before")
    @classmethod
    def _in_todays_words(cls, given: Any) -> Any:
        if isinstance(given, dict) and cls.renamed.keys() & given.keys():
            kept = {key: value for key, value in given.items() if key not in cls.renamed}
            given = kept | {cls.renamed[key]: given[key] for key in given if key in cls.renamed}
        return given


class Rendered(Section):
    """Images that mtlbench draws itself, when the data set's folder is not there."""

    what: Literal["shoes", "faces"] = Field(description="What is drawn.")
    images: Annotated[int, Field(gt=0, le=10_000_000)] = Field(description="How many images are drawn.")
    seed: Seed = Field(default=0, description="The seed of the drawing.")
    conflict: Share = Field(default=0.0, description="How much the tasks' evidence competes, from 0 to 1.")


class Csv(Section):
    """Columns of the table of one's own images; each other column is a task."""

    file: str = Field(default="labels.csv", description="The table, in the data set's folder.")
    files: dict[str, str] = Field(
        default={}, description="A table for each split instead, such as { train = 'train.csv', test = 'test.csv' }."
    )
    path: str = Field(default="path", description="The column of image paths, relative to that folder.")
    split: str = Field(default="split", description="The column of train, val, test, if there is one.")
    group: str = Field(
        default="",
        description="A column whose equal cells stay on one side of a random split, such as a product's name.",
    )


class Data(Section):
    """Which images, which tasks, and the pixels that networks see."""

    renamed = {"spare_tasks": "fallback_tasks"}

    reader: str = Field(description="The reader of the data set's layout: see mtlbench list readers.")
    options: dict[str, Any] = Field(default={}, description="Options of the reader: see mtlbench list readers.")
    folder: str = Field(
        default="",
        description="The data set's folder, relative to this file, if not the usual one; see --data-dir.",
    )
    rendered: Rendered | None = Field(default=None, description="Images that mtlbench draws itself.")
    csv: Csv | None = Field(default=None, description="csv: which columns of the table mean what.")
    levels: list[str] = Field(default=[], description="folders: the task of each level of folders.")
    tasks: list[str] = Field(default=[], description="The tasks; by default all that have labels.")
    fallback_tasks: list[str] = Field(
        default=[], description="Tasks used when fewer than two of data.tasks have labels."
    )
    image_size: Pixels | tuple[Pixels, Pixels] = Field(
        default=64, description="Pixels that networks see: one number, or height and width."
    )
    fit: Literal["squash", "crop"] = Field(
        default="squash", description="How an image of another shape is made to fit."
    )
    pixels: Literal["unit", "imagenet", "bgr"] = Field(
        default="unit",
        description="How pixels are normalised: to -1 … 1, by ImageNet's statistics, or as in the modulation paper.",
    )
    limit: Count = Field(default=0, description="At most this many images, drawn at random; 0 takes all.")
    split: Literal["default", "identity", "image", "product", "csn"] = Field(
        default="default",
        description="How images are split: the official split, or else at random by image; at random by identity"
        " (CelebA) or product (UT-Zappos50K); by CSN's lists.",
    )
    split_seed: Seed = Field(default=0, description="The seed of a random split.")
    multi_valued: Literal["value", "first", "unlabelled", "set"] = Field(
        default="value",
        description="What a cell with several values, such as a;b, means: a value of its own, a, no label, or a set:"
        " images whose sets share a value are alike.",
    )
    missing: list[str] = Field(
        default=[], description='Words that mean no label, such as ["NaN", "n/a"]; empty cells always do.'
    )
    camera: str = Field(
        default="",
        description="The column that says by which camera an image was taken: images of a query's own group by its own"
        " camera are left out of its gallery, as in re-identification. The reader must know groups, as by"
        " options.group.",
    )
    separator: str = Field(default=";", min_length=1, description="The mark between several values in a cell.")
    min_images: Count = Field(default=0, description="Label values with fewer images than this count as unlabelled.")
    ordered: dict[str, list[str]] = Field(
        default={}, description="csv, hub: tasks whose values have an order, each with its values from low to high."
    )
    subset: bool = Field(
        default=False,
        description="celeba: leave out listed images that are not there.",
    )
    skip_unreadable: bool = Field(
        default=False, description="Leave out images that are missing or broken, and count them."
    )

    @model_validator(mode="after")
    def _fits_its_reader(self) -> Data:
        of = (("csv", ["csv"]), ("ordered", ["csv", "hub"]), ("levels", ["folders"]), ("subset", ["celeba"]))
        for key, readers in of:
            if getattr(self, key) and self.reader not in readers:
                known = " or ".join(repr(name) for name in readers)
                raise ValueError(f"data.{key} is for data.reader = {known}, not '{self.reader}'")
        if self.reader == "folders" and not self.levels:
            raise ValueError("data.reader = 'folders' needs data.levels, such as levels = [\"kind\"]")
        readers_of = {"identity": "celeba", "image": "zappos", "product": "zappos", "csn": "zappos"}
        if self.split != "default" and self.reader != readers_of[self.split]:
            raise ValueError(f"data.split = '{self.split}' is not for data.reader = '{self.reader}'")
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size
