"""Tasks for a network that is trained already: what each way of sharing makes of it, and what a task adds.

    python examples/trained_network.py

takes about two minutes on two CPU cores. `QUICKLY=1 python examples/trained_network.py` shows in seconds that it runs.
The trained network here is one that the first lines train, on two tasks. Yours is a file: the state dict of a network
of torchvision or timm (`torch.save(network.state_dict(), "mine.pth")`), with its name as `model.backbone`.
"""

import os
from pathlib import Path

import mtlbench as mb

TINY = {"data.rendered.images": 300, "train.steps": 6, "evaluation.every": 3, "evaluation.triplets": 200}
SETTINGS = TINY if os.environ.get("QUICKLY") else {}

if __name__ == "__main__":
    first = SETTINGS | {"data.tasks": ["category", "gender"]}
    mb.run("single", "shoes", quick=True, settings=first, results="results-first", show=False)
    (trained,) = Path("results-first/shoes-quick").glob("single*/seed-0/weights.safetensors")

    more = SETTINGS | {
        "data.tasks": ["closure", "heel"],
        "model.pretrained": str(trained),
        "model.freeze": 2,  # the first two stages stay as they are, batch norm included
        "model.pretrained_rate": 0.1,  # the others move slowly
    }
    found = mb.run("shared,modulation", "shoes", quick=True, settings=more, results="results-more")
    print(found)

    (run,) = Path("results-more/shoes-quick").glob("modulation*/seed-0")
    net = mb.load(run)
    row = next(name for name in found.methods if name.startswith("modulation"))
    print(f"{net} a task adds {found.table().loc[row, 'cost/bytes_added']:,.0f} bytes")
