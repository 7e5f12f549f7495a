"""Everything that continuing a run needs, as tensors by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mtlbench.networks import load_state, state_of


class Checkpoint:
    """Takes and restores the state of what a run trains.

    Args:
        modules: by the beginning of their tensors' names: `architecture`, `balancer`, `loss`.
        optimiser: of their parameters.
        generators: random streams by task.
        device: where the run goes on.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimiser: torch.optim.Optimizer,
        generators: Mapping[str, torch.Generator],
        device: torch.device,
    ) -> None:
        self.modules, self.optimiser, self.generators, self.device = modules, optimiser, generators, device

    def _parameters(self) -> Iterable[tuple[str, Tensor]]:
        for prefix, module in self.modules.items():
            for name, parameter in module.named_parameters():
                yield f"{prefix}.{name}", parameter

    def tensors(self, best: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every tensor by name, and the weights `best`, on the CPU; none shares memory with another."""
        held: dict[str, Tensor] = {}
        for prefix, module in self.modules.items():
            held |= {f"{prefix}/{k}": v for k, v in state_of(module).items()}
        held |= {f"best/{k}": v for k, v in best.items()}
        for name, parameter in self._parameters():
            values = self.optimiser.state.get(parameter, {})
            held |= {f"optimiser/{name}/{k}": v for k, v in values.items() if isinstance(v, Tensor)}
        held |= {f"random/{name}": g.get_state() for name, g in self.generators.items()}
        held["random"] = torch.get_rng_state()
        if self.device.type == "cuda":
            held["random-cuda"] = torch.cuda.get_rng_state(self.device)
        return {k: v.detach().cpu().contiguous() for k, v in held.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put back what `tensors` returned, and return the best weights.

        Raises:
            KeyError, ValueError, RuntimeError: it is not of these modules and this kind of device.
        """

        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        for prefix, module in self.modules.items():
            load_state(module, under(f"{prefix}/"))
        for name, parameter in self._parameters():
            held = self.optimiser.state.get(parameter, {})
            for key, value in under(f"optimiser/{name}/").items():
                self.optimiser.state[parameter][key] = self._placed(key, value, parameter, held.get(key))
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"random/{name}"])
        torch.set_rng_state(tensors["random"])
        if "random-cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random-cuda"], self.device)
        return {k: v.to(self.device) for k, v in under("best/").items()}

    def _placed(self, key: str, value: Tensor, parameter: Tensor, held: object) -> Tensor:
        """Return an optimiser's tensor where the optimiser itself keeps it."""
        if value.shape == parameter.shape:  # fused optimisers take it for granted that the strides agree
            return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        if key != "step":  # Adafactor's means of rows and columns; only counters may stay on the CPU, as in torch
            return value.to(parameter.device)
        if isinstance(held, Tensor):  # Adagrad counts its steps on the CPU, and would wait for a device at every one
            return value.to(held.device)
        fused = any(group.get("fused") or group.get("capturable") for group in self.optimiser.param_groups)
        return value.to(self.device) if fused else value
