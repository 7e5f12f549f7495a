"""Balancers with one planted fault each; what each breaks is in test_check.py. Not loaded by anything but that test."""

import torch

from mtlbench import Balancer, Range, UserError, register_balancer


class Following(Balancer):
    """Weights that follow a moving mean of the losses, by a formula that faults are planted into."""

    def __init__(self, tasks):
        super().__init__(tasks)
        self.register_buffer("mean", torch.zeros(len(tasks)))

    def weights(self, losses):
        self.mean = 0.5 * self.mean + losses.detach().float()
        return len(losses) * torch.softmax(self.mean, 0)

    def backward(self, losses, architecture):
        weights = self.weights(losses)
        self.weighted_backward(losses, weights, architecture)
        return weights


@register_balancer("sound-weights")
class SoundWeights(Following):
    """Without a fault."""


@register_balancer("forgetful")
class Forgetful(Following):
    """Keeps its memory in a plain attribute: a checkpoint does not hold it."""

    def __init__(self, tasks):
        super().__init__(tasks)
        del self.mean
        self.mean = torch.zeros(len(tasks))


@register_balancer("warms-up")
class WarmsUp(Following):
    """Counts its steps where no checkpoint does, and acts on them long after any check ends."""

    past = ()

    def weights(self, losses):
        self.past = (*self.past, losses.detach())[-100:]
        return super().weights(losses if len(self.past) < 100 else self.past[0])


@register_balancer("sums-to-one")
class SumsToOne(Following):
    """Weights that sum to 1: a learning rate of 1/T is hidden in them."""

    def weights(self, losses):
        return super().weights(losses) / len(losses)


@register_balancer("later-scale")
class LaterScale(Following):
    """Begins with weights of 1; from the third step on they sum to 1."""

    def __init__(self, tasks):
        super().__init__(tasks)
        self.register_buffer("steps", torch.zeros(()))

    def weights(self, losses):
        weights = super().weights(losses)
        self.steps = self.steps + 1
        return torch.ones_like(weights) if self.steps <= 2 else weights / len(losses)


@register_balancer("three-or-none")
class ThreeOrNone(Following):
    """Refuses any number of tasks but three, without an option that would say so."""

    def __init__(self, tasks):
        super().__init__(tasks)
        if len(tasks) != 3:
            raise UserError("three-or-none: give three tasks.")


@register_balancer("plain-sum")
class PlainSum(Following):
    """Adds the weighted gradients up instead of taking their mean."""

    def backward(self, losses, architecture):
        weights = self.weights(losses)
        (losses * weights).sum().backward()
        return weights


@register_balancer("logarithmic")
class Logarithmic(Following):
    """Takes the logarithm of losses, which are 0 where all triplets are satisfied."""

    def weights(self, losses):
        logs = losses.detach().log()
        return len(losses) * torch.softmax(logs - logs.mean(), 0)


@register_balancer("keeps-the-graph")
class KeepsTheGraph(Following):
    """Returns weights that hold the step's graph, so that the log keeps all of them in memory."""

    def weights(self, losses):
        return len(losses) * torch.softmax(losses, 0)


@register_balancer("reuses-its-weights")
class ReusesItsWeights(Following):
    """Returns its own tensor and changes it in place at the next step."""

    def weights(self, losses):
        weights = super().weights(losses)
        self.latest = getattr(self, "latest", weights).copy_(weights)
        return self.latest


@register_balancer("prefers-the-first")
class PrefersTheFirst(Following):
    """Leans on the first task whatever its loss."""

    def weights(self, losses):
        weights = super().weights(losses).clone()
        weights[0] += 0.2
        return len(losses) * weights / weights.sum()


@register_balancer("made-for-three")
class MadeForThree(Following):
    """Works with three tasks alone, and does not say so."""

    def weights(self, losses):
        return super().weights(losses) * torch.ones(3)


@register_balancer("returns-only")
class ReturnsOnly(Following):
    """Leaves the gradients to the caller."""

    def backward(self, losses, architecture):
        return self.weights(losses)


@register_balancer("seeded-by-the-class")
class SeededByTheClass(Following):
    """Counts its steps on the class: a second run in the same process goes on where the first ended."""

    steps = 0

    def weights(self, losses):
        type(self).steps += 1
        return len(losses) * torch.softmax(losses.detach() * type(self).steps, 0)


@register_balancer("untyped-option")
class UntypedOption(Following):
    """Takes any word for its option."""

    def __init__(self, tasks, *, power=1.0):
        super().__init__(tasks)


@register_balancer("unread-type")
class UnreadType(Following):
    """Takes any word too: the type can't be read."""

    def __init__(self, tasks, *, kind: "Literal['a', 'b']" = "a"):  # noqa: F821
        super().__init__(tasks)


@register_balancer("search-misspelt")
class SearchMisspelt(Following):
    """Lets tuning vary what it has not."""

    search = {"pover": Range(0.5, 2.5)}

    def __init__(self, tasks, *, power: float = 1.0):
        super().__init__(tasks)


@register_balancer("search-between")
class SearchBetween(Following):
    """Lets tuning try numbers that are not whole where it takes whole ones."""

    search = {"steps": Range(1.0, 3.0)}

    def __init__(self, tasks, *, steps: int = 1):
        super().__init__(tasks)


@register_balancer("search-refused")
class SearchRefused(Following):
    """Lets tuning try a value that it refuses."""

    search = {"power": (1.0, 2.0)}

    def __init__(self, tasks, *, power: float = 1.0):
        super().__init__(tasks)
        if power > 1:
            raise UserError("power must be at most 1.")
