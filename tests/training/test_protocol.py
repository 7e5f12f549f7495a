"""What a benchmark names, checked before anything is trained."""

from __future__ import annotations

import pytest
from support import protocol

from mtlbench.errors import UserError
from mtlbench.training.protocol import check_protocol


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.optimiser=adamx", "Unknown optimiser 'adamx'. Did you mean: adam"),
        ("train.optimiser=LBFGS", "evaluates a step several times"),
        ("train.sampling=jiont", "Unknown sampler 'jiont'. Did you mean: joint?"),
        (
            "train.sampling='m-per-class[image=3]'",
            "'m-per-class' has no option 'image'. Did you mean: images?",
        ),
        ("train.augment=['colour-jiter']", "Unknown augmentation 'colour-jiter'. Did you mean: colour-jitter?"),
        ("train.augment=['colour-jitter[strength=2]']", "The augmentation 'colour-jitter' can't take strength=2"),
        ("loss.name=tripplet", "Unknown loss 'tripplet'. Did you mean: triplet?"),
        ("loss.zzz=1", "The loss 'triplet' has no option 'zzz'. It has: margin, soft_margin, mining."),
        ("loss.margin=-1", "The loss 'triplet' can't take margin = -1: input should be greater than 0."),
        ("loss.mining=hardest", "The loss 'triplet' can't take mining = 'hardest'"),
        ("loss.name=pml:SupConLos", "Unknown loss 'pml:SupConLos'. Did you mean: SupConLoss, PNPLoss?"),
        ("evaluation.select=map", "evaluation.select = 'map': there is no such measure."),
    ],
)
def test_a_name_that_there_is_not_is_told_with_the_nearest(setting: str, said: str) -> None:
    with pytest.raises(UserError) as told:
        check_protocol(protocol(setting))
    assert said in str(told.value)


@pytest.mark.parametrize(
    "setting", ["train.optimiser=RMSprop", "train.sampling=m-per-class", "loss.mining=hard", "evaluation.select=map@r"]
)
def test_what_there_is_passes(setting: str) -> None:
    assert check_protocol(protocol(setting)) is None


def test_another_loss_does_not_inherit_the_options_of_the_benchmarks_loss() -> None:
    assert protocol().loss.options == {"margin": 0.2}
    other = protocol("loss.temperature=0.3", "loss.name='pml:SupConLoss'")  # in any order
    assert other.loss.options == {"temperature": 0.3}
    assert protocol("loss.name=triplet", "loss.mining=hard").loss.options == {"margin": 0.2, "mining": "hard"}
    with pytest.raises(UserError, match=r"'pml:SupConLoss' has no option 'margin'"):
        check_protocol(protocol("loss.name='pml:SupConLoss'", "loss.margin=0.3"))
