"""Two tasks in one ResNet-18 of torchvision: each modulates its channels, and a third is added later.

    python examples/modulate_resnet.py

trains for about a minute on two CPU cores, on 300 shoes that mtlbench draws. `QUICKLY=1` shows in seconds that it runs.
The loop is a plain one, as you would write it in your own project.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image

import mtlbench as mb
from mtlbench.cli import app  # only to draw the shoes

STEPS = 3 if os.environ.get("QUICKLY") else 60


def shoes(folder: Path) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Draw shoes; return images (N, 3, 72, 96) and the labels of three tasks."""
    import csv

    app(["data", "render", "shoes", str(folder), "--images", "300"], standalone_mode=False)
    with (folder / "ut-zap50k-data" / "meta-data.csv").open() as file:
        rows = list(csv.DictReader(file))
    files = {path.stem: path for path in folder.rglob("*.jpg")}
    images = [np.asarray(Image.open(files[row["CID"].replace("-", ".")]).convert("RGB")) for row in rows]
    labels = {}
    for task, column in {"category": "Category", "gender": "Gender", "closure": "Closure"}.items():
        values = sorted({row[column] for row in rows})
        labels[task] = torch.tensor([values.index(row[column]) for row in rows])
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, labels


def triplet_loss(embeddings: torch.Tensor, labels: torch.Tensor, margin: float = 0.2) -> torch.Tensor:
    """The mean over anchors of the loss of the farthest positive and the nearest negative (batch-hard)."""
    points = F.normalize(embeddings)
    distances = (points[:, None] - points).square().sum(2)
    same = labels[:, None] == labels
    farthest = distances.masked_fill(~same, -1).amax(1)
    nearest = distances.masked_fill(same, torch.inf).amin(1)
    return F.relu(farthest - nearest + margin).mean()


def train(net: torch.nn.Module, parameters: list, images: torch.Tensor, labels: dict[str, torch.Tensor]) -> float:
    """Train some parameters on some tasks by turns; return the last loss."""
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        task = list(labels)[step % len(labels)]
        chosen = torch.randint(0, len(images), (48,), generator=generator)
        loss = triplet_loss(net(images[chosen], task), labels[task][chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.item()


def main() -> None:
    """Train two tasks, then add a third to the trained network."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        images, labels = shoes(Path(folder) / "shoes")
    resnet = torchvision.models.resnet18(num_classes=64)
    net = mb.modulate(resnet, tasks=("category", "gender"), after=["layer3", "layer4"])
    scales = {"params": list(net.scales.values()), "weight_decay": 0.0}  # as published, no penalty on the vectors
    two = {task: labels[task] for task in ("category", "gender")}
    loss = train(net, [{"params": list(resnet.parameters())}, scales], images, two)
    print(f"two tasks: loss {loss:.3f}; each stores {net.task_bytes('gender'):,} bytes of its own")

    before = net.eval()(images[:8], "gender").detach()
    net.add_task("closure")
    loss = train(net, list(net.task_parameters("closure").values()), images, {"closure": labels["closure"]})
    after = net(images[:8], "gender").detach()
    print(f"closure, added to the trained network: loss {loss:.3f}; gender is unchanged: {torch.equal(before, after)}")


if __name__ == "__main__":
    main()
