"""My-method: writes what happens in a run to a file, a line of JSON for each event.

<Say here where the numbers go. A tracker receives a run's typed events and can't change the run. This
file runs unchanged.>
"""

import json

from mtlbench import TrackedRun, Tracker, register_tracker
from mtlbench.training.events import Event


# The name is what users write: --track my-method.
@register_tracker("my-method")
class MyMethod(Tracker):
    """A line of JSON for each event, in one file for each run.

    <The line above is what `mtlbench list trackers` shows.>

    Args:
        file: its name; lines are added at its end.
    """

    # `run` says which run this is: method, seed, benchmark. Options are keyword-only arguments with a type
    # and a default; users set one by --track 'my-method[file=mine.jsonl]'.
    def __init__(self, run: TrackedRun, *, file: str = "events.jsonl") -> None:
        super().__init__(run)
        # beside the methods' folders: a run's own folder is replaced in the end
        folder = run.folder("my-method")
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / file

    # The one required method. Events are Started, StepWindow, Validation, CheckpointSaved and Ended of
    # mtlbench.training.events; take those that you want by `isinstance` or `match`, and ignore the
    # others. An exception here is reported and does not stop the run. `close` may be added: it is called
    # in the end.
    def handle(self, event: Event) -> None:
        """Take one event; called in the order in which they happen."""
        line = {"event": type(event).__name__, **vars(event)}
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=str) + "\n")
