"""Conditional Similarity Networks. Veit, Belongie, Karaletsos: Conditional Similarity Networks, CVPR 2017
(arXiv 1603.07810).

One network for all tasks; each task sees the embedding e through a mask of its own:

    e_t = e * ReLU(m_t),    m_t in R^D

so that different dimensions serve different notions of similarity. The masks start from N(0.9, 0.7) (0.7 is the
standard deviation, as in the authors' code) or from 1 on a block of D/T dimensions of the task's own and 0.1 elsewhere;
or they are that block alone, fixed and not trained. Two norms are added to the loss, the embedding's L2 and the masks'
L1. The authors' code, which we follow, takes them for a batch of B triplets as

    5e-3 ||E||_2 / sqrt(B) + 5e-4 ||ReLU(M)||_1 / B,    E, M: the B embeddings before their masks, the B masks,

each averaged over the three legs (anchor, near, far): the root mean square of the embeddings' lengths, and the mean
length of the masks. Their batch mixes the tasks; here task t has a group of its own. Its penalty is

    5e-3 rms_t + 5e-4 sum_d ReLU(m_t)_d

with rms_t the root mean square over the images of its group, or, where one batch serves all tasks (joint sampling),
over that batch and so the same for every task. The mean over tasks, by which the shared network learns, is their
penalty for triplets spread evenly over the tasks: exactly in the masks' term; in the embedding's, the mean of the
tasks' rms stands in for the rms of all images, which differs as far as the tasks' images do, and in joint sampling not
at all.

Deviations: rms_t is taken over all images of a group at once, not a leg at a time: an architecture is not told which
image is which leg. A mask's gradient is the whole of its task's, where theirs, a share of a mixed batch, is about 1/T
of that, norms included (see `Balancer`). Blocks go to the tasks in alphabetical order, so that the order in which tasks
are listed plays no part; as in their code, dimensions that D/T leaves over belong to none. The backbone, whether it is
pretrained, and whether embeddings are brought to unit length are the protocol's: the authors do not normalise. Where
the protocol does, lengths cancel in the loss and the norms hold nothing in check, but they remain in the method.

The authors train masks and network at one rate (Adam, 5e-5), and so does `rate=1`. In a short run masks then keep close
to where they start; see `modulation`.

`embedding-mask` is our baseline to it: masks that start at 1, without ReLU and without norms, e_t = e * m_t. It is
`modulation[after=embedding,relu=false]` by a name of its own, and as long as no scale is negative the same function as
`modulation[after=embedding]`. With the ReLU, a scale that has fallen below 0 gets no gradient and stays out for good;
without, it passes through 0 and counts again, since a distance sees m_t squared alone: the mask is a diagonal metric.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtlbench import Architecture, BackboneFactory, Learned, Range, UserError, register_architecture


class _Mask(nn.Module):
    """One task's mask, (D,): a parameter, or a buffer when it is fixed."""

    values: Tensor

    def __init__(self, values: Tensor, *, learned: bool) -> None:
        super().__init__()
        if learned:
            self.register_parameter("values", nn.Parameter(values))
        else:
            self.register_buffer("values", values)


@register_architecture(
    "embedding-mask",
    groups=("architectures",),
    cite="veit2017conditional",
    shares="everything but a mask on the embedding",
)
class EmbeddingMask(Architecture):
    """One network; each task scales the dimensions of the embedding by a learned mask of its own.

    Storage: one network and, per task, one number per dimension of the embedding.

    Args:
        rate: the masks' learning rate as a multiple of the network's.
    """

    search = {"rate": Range(0.3, 300, log=True)}

    def __init__(self, backbones: BackboneFactory, tasks: Sequence[str], *, rate: float = 1.0) -> None:
        super().__init__(backbones, tasks)
        self.rate = rate
        self.net = backbones.backbone()
        self.masks = nn.ModuleList(_Mask(torch.ones(backbones.embedding_size), learned=True) for _ in tasks)

    def _mask(self, task: int) -> Tensor:
        mask = self.masks[task]
        assert isinstance(mask, _Mask)
        return mask.values

    def _masked(self, embeddings: Tensor) -> Tensor:
        """Put every task's mask on the embeddings of its own group, (T, B, D), or on those of all, (B, D)."""
        masks = torch.stack([self._mask(t) for t in range(len(self.tasks))])
        return embeddings * masks.to(embeddings.dtype)[:, None]

    def forward(self, images: Tensor) -> Tensor:
        """(T, B, 3, H, W) -> (T, B, D)."""
        return self._masked(self.net(images.flatten(0, 1)).unflatten(0, images.shape[:2]))

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (T, B, D): the network runs once."""
        embeddings = self.net(images)
        self.representation = embeddings if self.training else None
        return self._masked(embeddings)

    def embed_task(self, images: Tensor, task: int) -> Tensor:
        """(B, 3, H, W) -> (B, D): the network and one mask."""
        embeddings: Tensor = self.net(images)
        return embeddings * self._mask(task).to(embeddings.dtype)

    def learned(self) -> Sequence[Learned]:
        """The masks, before their ReLU; fixed ones too."""
        names = tuple(f"masks.{t}.values" for t in range(len(self.tasks)))
        meaning = "mask, as stored (1: the dimension is passed on as it is)"
        return [Learned("masks", "embedding", names, ("task", "channel"), meaning, neutral=1)]

    def task_state(self, task: int) -> Iterable[nn.Module | nn.Parameter]:
        """Its mask."""
        return (self.masks[task],)

    def learning_rate_scales(self, *, adaptive: bool) -> Mapping[str, float]:
        """The masks' rate, where they are trained."""
        return {"masks.": self.rate} if any(True for _ in self.masks.parameters()) else {}

    def last_shared_layer(self) -> Sequence[nn.Parameter]:
        """The embedding head's parameters."""
        return tuple(self.net.head.parameters())


@register_architecture(
    "csn", groups=("architectures",), cite="veit2017conditional", shares="everything but a mask on the embedding"
)
class ConditionalSimilarityNetwork(EmbeddingMask):
    """One network; each task sees the embedding through a rectified mask of its own.

    Storage: one network and, per task, one number per dimension of the embedding (a buffer where masks are fixed).

    Args:
        masks: `learned` from N(0.9, 0.7); `blocks`, learned from 1 on the task's own block of D/T dimensions and 0.1
            elsewhere; or `fixed`, that block alone, not trained.
        norms: penalise the embedding's and the mask's norm.
        embedding_norm: weight of the embedding's norm.
        mask_norm: weight of the mask's norm.
        rate: the masks' learning rate as a multiple of the network's; fixed ones have none.
    """

    def __init__(
        self,
        backbones: BackboneFactory,
        tasks: Sequence[str],
        *,
        masks: str = "learned",
        norms: bool = True,
        embedding_norm: float = 5e-3,
        mask_norm: float = 5e-4,
        rate: float = 1.0,
    ) -> None:
        super().__init__(backbones, tasks, rate=rate)
        size = backbones.embedding_size
        if masks not in ("learned", "blocks", "fixed"):
            raise UserError(f"csn: masks={masks} must be learned, blocks or fixed.")
        if masks != "learned" and size < len(tasks):
            raise UserError(
                f"csn: masks={masks} needs at least one dimension of the embedding per task, {len(tasks)}, but the"
                f" embedding has {size}; make it larger or take masks=learned."
            )
        if not (0 <= embedding_norm < math.inf and 0 <= mask_norm < math.inf):
            raise UserError(f"csn: embedding_norm={embedding_norm} and mask_norm={mask_norm} must be 0 or above.")
        self.norm_weights = (embedding_norm, mask_norm) if norms else None
        self.penalty: Tensor | None = None
        self.masks = nn.ModuleList()
        for task in tasks:
            if masks == "learned":
                with backbones.seeded(task):
                    values = torch.empty(size).normal_(0.9, 0.7)
            else:
                values = torch.full((size,), 0.1 if masks == "blocks" else 0.0)
                block, number = size // len(tasks), sorted(tasks).index(task)
                values[block * number : block * (number + 1)] = 1.0
            self.masks.append(_Mask(values, learned=masks != "fixed"))

    def _mask(self, task: int) -> Tensor:
        return F.relu(super()._mask(task))

    def _masked(self, embeddings: Tensor) -> Tensor:
        self.penalty = None  # outside of training too: a penalty with its graph can't be copied with the network
        if self.training and self.norm_weights is not None:
            lengths = torch.linalg.vector_norm(embeddings.float(), dim=(-2, -1)) / math.sqrt(embeddings.shape[-2])
            masks = torch.stack([self._mask(t).sum() for t in range(len(self.tasks))])
            self.penalty = self.norm_weights[0] * lengths + self.norm_weights[1] * masks
        return super()._masked(embeddings)

    def forget(self) -> None:
        """Drop the penalty too."""
        super().forget()
        self.penalty = None

    def regulariser(self) -> Tensor | None:
        """Return the norms' penalty per task, (T,), of the latest `forward` or `embed` in training; else None."""
        return self.penalty
