"""Non-negative contrast between drawings and writings, in the activations of the last block.

NCL (Wang et al., ICLR 2024): features that cannot be negative, contrasted by cosine, become sparse, because two of them
are orthogonal only where no neuron is active in both. A feature here is how far a neuron's mean activation exceeds what
it usually is among drawings, or among writings, in standard deviations above NEURON_MARGIN, and zero below. Pictures
that share a concept are positives of one another. No neuron is tied to a concept.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atlas.mini.losses import between

TEMPERATURE, NEURON_MARGIN = 0.1, 1.0
STEADY = 0.95  # momentum of the mean and variance of every neuron


class NeuronContrast:
    """Usual activations of `number` neurons, among drawings and among writings, and the contrast of excesses."""

    def __init__(self, number: int):
        self.usual, self.variance = torch.zeros(2, number), torch.zeros(2, number)

    def loss(self, activations: Tensor, same: Tensor, written: Tensor) -> Tensor:
        """Contrast of mean activations (n, neurons); positives `same` (n, n); `written` (n) says which are writings."""
        self._observe(activations, written)
        return between(self.features(activations, written), same, TEMPERATURE)

    def features(self, activations: Tensor, written: Tensor) -> Tensor:
        """How far each neuron exceeds its usual activation, in standard deviations above NEURON_MARGIN."""
        kind = written.long()
        return functional.relu((activations - self.usual[kind]) / (self.variance[kind] + 1e-12).sqrt() - NEURON_MARGIN)

    @torch.no_grad()
    def _observe(self, activations: Tensor, written: Tensor) -> None:
        for kind in (0, 1):
            rows = activations[written == bool(kind)]
            if len(rows) > 1:
                steady = STEADY if self.variance[kind].any() else 0.0
                self.usual[kind].lerp_(rows.mean(0), 1 - steady)
                self.variance[kind].lerp_(rows.var(0), 1 - steady)


def shared(keys: np.ndarray) -> Tensor:
    """Which pictures share a concept, by their one or two keys (n, 2): float (n, n)."""
    first, second = keys[:, :1], keys[:, 1:]
    same = (first == first.T) | (first == second.T) | (second == first.T) | ((second == second.T) & (second != ""))
    return torch.from_numpy(same).float()


def carried(keys: np.ndarray, concepts: np.ndarray) -> Tensor:
    """Which of the concepts (m) each picture carries, by its one or two keys (n, 2): float (n, m)."""
    return torch.from_numpy((keys[:, :1] == concepts) | (keys[:, 1:] == concepts)).float()
