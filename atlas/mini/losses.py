"""Losses of the embedded CLIP's training, on embeddings, activations and logits."""

import torch
from torch import Tensor
from torch.nn import functional


def soft_cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy with equal weight on all positives of a row; logits and positive (n, m).

    Rows without a positive do not count.
    """
    total = positive.sum(1, keepdim=True)
    loss = -(positive / total.clamp(min=1) * functional.log_softmax(logits, 1)).sum(1)
    return loss.sum() / (total > 0).sum().clamp(min=1)


def both_ways(logits: Tensor, positive: Tensor) -> Tensor:
    """CLIP's symmetric loss: rows against columns and columns against rows; logits and positive (n, m)."""
    return (soft_cross_entropy(logits, positive) + soft_cross_entropy(logits.T, positive.T)) / 2


def between(features: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss (Khosla 2020) of features (n, d), positives `same` (n, n) off the diagonal."""
    unit = functional.normalize(features, dim=1)
    own = torch.eye(len(unit), dtype=torch.bool)
    return soft_cross_entropy((unit @ unit.T / temperature).masked_fill(own, -1e4), same.masked_fill(own, 0))


def relational(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """KL divergence between two similarity distributions of each row over the others (relational distillation).

    Student (n, d) and teacher (n, e) are normalised; a row is not compared with itself.
    """
    own = torch.eye(len(student), dtype=torch.bool)
    wanted = (teacher @ teacher.T / temperature).masked_fill(own, -1e4).softmax(1)
    given = functional.log_softmax((student @ student.T / temperature).masked_fill(own, -1e4), 1)
    return (wanted * (wanted.clamp(min=1e-9).log() - given)).sum(1).mean()


def bag_of_words(logits: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy with equal weight on all words of a picture; words (n, k) are columns of logits, -1 for none."""
    said = words >= 0
    likely = functional.log_softmax(logits, 1).gather(1, words.clamp(min=0))
    return -(likely * said).sum(1).div(said.sum(1).clamp(min=1)).sum() / said.any(1).sum().clamp(min=1)


def hoyer(features: Tensor) -> Tensor:
    """Mean ratio of the l1 to the l2 norm of non-negative rows (n, d): the root of how many entries are in use."""
    return (features.sum(1) / features.norm(dim=1).clamp(min=1e-6)).mean()
