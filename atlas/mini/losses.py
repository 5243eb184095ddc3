"""What the embedded CLIP is trained to do: losses of embeddings, activations and logits."""

import torch
from torch import Tensor
from torch.nn import functional


def soft_cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy against all of a row's positives alike: logits and positive (n, m); rows without one count not."""
    total = positive.sum(1, keepdim=True)
    loss = -(positive / total.clamp(min=1) * functional.log_softmax(logits, 1)).sum(1)
    return loss.sum() / (total > 0).sum().clamp(min=1)


def both_ways(logits: Tensor, positive: Tensor) -> Tensor:
    """CLIP's loss: rows against columns and columns against rows, alike; logits and positive (n, m)."""
    return (soft_cross_entropy(logits, positive) + soft_cross_entropy(logits.T, positive.T)) / 2


def centred(rows: Tensor) -> Tensor:
    """Rows (n, d) less their mean."""
    return rows - rows.mean(0)


def between(features: Tensor, same: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss of features (n, d): positives `same` (n, n), a row never its own (Khosla 2020)."""
    unit = functional.normalize(features, dim=1)
    own = torch.eye(len(unit), dtype=torch.bool)
    return soft_cross_entropy((unit @ unit.T / temperature).masked_fill(own, -1e4), same.masked_fill(own, 0))


def relational(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of who is near whom: student (n, d) and teacher (n, e), both normalised, a row never its own."""
    own = torch.eye(len(student), dtype=torch.bool)
    wanted = (teacher @ teacher.T / temperature).masked_fill(own, -1e4).softmax(1)
    given = functional.log_softmax((student @ student.T / temperature).masked_fill(own, -1e4), 1)
    return (wanted * (wanted.clamp(min=1e-9).log() - given)).sum(1).mean()


def bag_of_words(logits: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy against each of a picture's words alike; pictures without a known word count not."""
    said = words >= 0
    likely = functional.log_softmax(logits, 1).gather(1, words.clamp(min=0))
    return -(likely * said).sum(1).div(said.sum(1).clamp(min=1)).sum() / said.any(1).sum().clamp(min=1)
