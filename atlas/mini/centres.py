"""Non-negative contrast between drawings and writings, in the activations of the last block.

NCL (Wang et al., ICLR 2024): features that cannot be negative, contrasted by cosine, become sparse, because two of them
are orthogonal only where no neuron is active in both. Here every concept has two centres, the running mean of its
drawings' features and that of its writings'. A picture is contrasted with all centres, and both centres of its own
concepts are its positives. No neuron is tied to a concept: centres are averages of what the neurons do.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atlas.mini.losses import soft_cross_entropy

TEMPERATURE, MOMENTUM = 0.07, 0.9


class Centres:
    """Running mean features of `names` (m) as drawn and as written: (2, m, neurons), zero for what was not seen yet."""

    def __init__(self, names: list[str], neurons: int):
        self.names = np.array(names)
        self.mean = torch.zeros(2, len(names), neurons)

    def loss(self, features: Tensor, keys: np.ndarray) -> Tensor:
        """Contrast of non-negative features (n, neurons) with all centres; keys (n, 2) name each picture's concepts."""
        mean = self.mean.flatten(0, 1)
        seen = (mean > 0).any(1)
        logits = functional.normalize(features, dim=1) @ functional.normalize(mean[seen], dim=1).T / TEMPERATURE
        return soft_cross_entropy(logits, carried(keys, self.names).tile(1, 2)[:, seen])

    @torch.no_grad()
    def update(self, features: Tensor, keys: np.ndarray, written: Tensor) -> None:
        """Move the centres of the pictures' concepts towards their features; `written` (n) says which are writings."""
        unit, own = functional.normalize(features, dim=1), carried(keys, self.names)
        for kind in (0, 1):
            member = own * (written == kind)[:, None]
            count = member.sum(0)
            among = count > 0
            new = (member.T @ unit)[among] / count[among, None]
            old = self.mean[kind, among]
            share = torch.where((old > 0).any(1), MOMENTUM, 0.0)[:, None]
            self.mean[kind, among] = share * old + (1 - share) * new


def carried(keys: np.ndarray, concepts: np.ndarray) -> Tensor:
    """Which of the concepts (m) each picture carries, by its one or two keys (n, 2): float (n, m)."""
    return torch.from_numpy((keys[:, :1] == concepts) | (keys[:, 1:] == concepts)).float()
