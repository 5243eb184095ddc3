"""Non-negative contrast between drawings and writings, in the activations of the last block.

NCL (Wang et al., ICLR 2024): features that cannot be negative, contrasted by cosine, become sparse, because two of them
are orthogonal only where no neuron is active in both. A feature here is how far a neuron's mean activation exceeds what
it usually is among drawings, or among writings, in standard deviations above MARGIN, and zero below. Every concept has
two centres, the running mean of its drawings' features and that of its writings'. A picture is contrasted with all
centres, and both centres of its own concepts are its positives. No neuron is tied to a concept: centres are averages
of what the neurons do.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atlas.mini.losses import soft_cross_entropy

TEMPERATURE, MARGIN = 0.1, 1.0
MOMENTUM = 0.9  # of a concept's centres
STEADY = 0.95  # of the mean and variance of every neuron


class Centres:
    """Running mean features of `names` (m) as drawn and as written: (2, m, neurons), zero for what was not seen yet."""

    def __init__(self, names: list[str], neurons: int):
        self.names = np.array(names)
        self.mean = torch.zeros(2, len(names), neurons)
        self.usual, self.variance = torch.zeros(2, neurons), torch.zeros(2, neurons)

    def loss(self, activations: Tensor, keys: np.ndarray, written: Tensor) -> Tensor:
        """Contrast of mean activations (n, neurons) with all centres, which then move towards them.

        `keys` (n, 2) name each picture's concepts, `written` (n) says which pictures are writings.
        """
        own = carried(keys, self.names)
        self._observe(activations, own.any(1), written)
        features = self.features(activations, written)
        seen = (self.mean > 0).any(2)
        likeness = functional.normalize(features, dim=1) @ functional.normalize(self.mean[seen], dim=1).T
        loss = soft_cross_entropy(likeness / TEMPERATURE, own.repeat(1, 2)[:, seen.flatten()])
        self._move(features.detach(), own, written)
        return loss

    def features(self, activations: Tensor, written: Tensor) -> Tensor:
        """How far each neuron exceeds its usual activation, in standard deviations above MARGIN."""
        kind = written.long()
        return functional.relu((activations - self.usual[kind]) / (self.variance[kind] + 1e-12).sqrt() - MARGIN)

    @torch.no_grad()
    def _observe(self, activations: Tensor, named: Tensor, written: Tensor) -> None:
        for kind in (0, 1):
            rows = activations[named & (written == bool(kind))]
            if len(rows) > 1:
                steady = STEADY if self.variance[kind].any() else 0.0
                self.usual[kind].lerp_(rows.mean(0), 1 - steady)
                self.variance[kind].lerp_(rows.var(0), 1 - steady)

    @torch.no_grad()
    def _move(self, features: Tensor, own: Tensor, written: Tensor) -> None:
        unit = functional.normalize(features, dim=1)
        for kind in (0, 1):
            member = own * (written == bool(kind))[:, None]
            among = member.any(0)
            new = (member.T @ unit)[among] / member.sum(0)[among, None]
            old = self.mean[kind, among]
            share = torch.where((old > 0).any(1), MOMENTUM, 0.0)[:, None]
            self.mean[kind, among] = share * old + (1 - share) * new

    def state_dict(self) -> dict[str, Any]:
        """The centres and the neurons' statistics."""
        return {"mean": self.mean, "usual": self.usual, "variance": self.variance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.mean, self.usual, self.variance = (state[name].clone() for name in ("mean", "usual", "variance"))


def carried(keys: np.ndarray, concepts: np.ndarray) -> Tensor:
    """Which of the concepts (m) each picture carries, by its one or two keys (n, 2): float (n, m)."""
    return torch.from_numpy((keys[:, :1] == concepts) | (keys[:, 1:] == concepts)).float()
