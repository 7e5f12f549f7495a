"""My-method: reads images from one folder for each label.

<Authors: Title, Venue Year. Say where the data set is published, and how its folder is laid out. This
file runs unchanged: it reads

    FOLDER/boots/17.jpg, FOLDER/sandals/4.png, …

as the task "kind" with the labels boots, sandals, …>

A benchmark (a TOML file, such as those that come with mtlbench) names it:

    [data]
    reader = "my-method"
    options = { task = "kind" }
"""

from pathlib import Path

from mtlbench import Reader, Table, UserError, column_of, register_reader
from mtlbench.benchmark import Data
from mtlbench.data.splits import split_own

ENDINGS = (".jpg", ".jpeg", ".png")


# The name is what a benchmark's `data.reader` says.
@register_reader("my-method")
class MyMethod(Reader):
    """Images in folders that are named after their labels.

    <The line above is what `mtlbench list readers` shows.>

    Args:
        task: the name of the task whose labels the folders give.
    """

    # Options are keyword-only arguments with a type and a default; a benchmark sets them in
    # `[data.options]`. `data` holds what `[data]` sets for any data set, such as the split's seed.
    def __init__(self, *, task: str = "label") -> None:
        self.task = task

    # The one required method. It opens no image: packing does so, and says which are broken.
    def read(self, folder: Path, data: Data) -> Table:
        """Return the paths, labels and split of the data set in a folder."""
        found = sorted(file for file in folder.glob("*/*") if file.suffix.lower() in ENDINGS)
        if not found:
            # An error that a user can cause is one sentence that says what to do.
            raise UserError(
                f"{folder} holds no images in folders: put them into a folder for each label, as {ENDINGS}."
            )
        paths = [file.relative_to(folder).as_posix() for file in found]
        labels = [file.parent.name for file in found]
        # Images of one group, such as a person's, must stay on one side of the split: the first argument
        # names each image's group. Here each image is its own. Give a published split instead where
        # there is one: 0 train, 1 val, 2 test for each image.
        split, rule = split_own(paths, data.split_seed, "image", folder)
        return Table(
            name=folder.name,
            root=folder,
            paths=tuple(paths),
            # Each task's labels as text; an empty text is an image without a label. There may be many
            # tasks.
            columns={self.task: column_of(labels)},
            split=split,
            split_rule=rule,
        )
