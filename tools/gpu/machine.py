"""Prints facts about this machine, and mtlbench's dependencies that it lacks: `machine.py DEVICE CHECKOUT`."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path


def missing(checkout: Path) -> list[str]:
    """Return the dependencies of a checkout that are not installed here."""
    lacking = []
    for line in tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["dependencies"]:
        name = re.split(r"[<>=!~\[ ]", line)[0]
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(name)
    return lacking


def main() -> None:
    """Print the facts; the exit code is 1 if a dependency or the device is missing."""
    device, checkout = sys.argv[1], Path(sys.argv[2])
    print(f"Python {platform.python_version()}, {platform.system()}")
    lacking = missing(checkout)
    print(f"missing packages: {', '.join(lacking) or 'none'}")
    import torch

    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    for command in (
        ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,utilization.gpu", "--format=csv"],
        ["git", "-C", str(checkout), "log", "-1", "--format=commit %h, %cs"],
    ):
        try:
            print(subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip())
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{command[0]}: {type(error).__name__}")
    from mtlbench.devices import choose_device, choose_precision, device_name

    chosen = choose_device(device)
    print(f"{device_name(chosen)}: precision {choose_precision('auto', chosen)}, {torch.get_num_threads()} threads")
    if chosen.type == "cuda":
        print(
            f"compute capability {torch.cuda.get_device_capability(chosen)}, memory free/all in bytes:",
            *torch.cuda.mem_get_info(chosen),
        )
    sys.exit(bool(lacking))


if __name__ == "__main__":
    main()
