"""The optimiser: Muon for matrices and convolution kernels, AdamW for all other weights."""

import torch
from torch import Tensor, nn

from atlas.formatting import Record


class Matrices:
    """Muon for kernels and matrices, AdamW for all other weights.

    torch's Muon takes matrices only, so a kernel in channels-last memory is given to it as the matrix
    (out, height x width x in), which shares the kernel's storage.
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]], rate: float):
        self.kernels: list[tuple[nn.Parameter, nn.Parameter]] = []
        rest, flat = [], []
        for name, weight in named:
            if weight.ndim == 4 or (weight.ndim == 2 and "transformer" in name):
                matrix = nn.Parameter(
                    weight.detach().permute(0, 2, 3, 1).flatten(1) if weight.ndim == 4 else weight.detach()
                )
                _check_shared(matrix, weight)
                self.kernels.append((weight, matrix))
            else:
                (rest if weight.ndim >= 2 else flat).append(weight)
        muon = torch.optim.Muon(
            [matrix for _, matrix in self.kernels], lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        )
        groups = [{"params": rest, "weight_decay": 0.05}, {"params": flat, "weight_decay": 0.0}]
        self.optimisers: list[torch.optim.Optimizer] = [muon, torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]

    def step(self, rate: float) -> None:
        """Take one step at this learning rate, and clear the gradients."""
        for weight, matrix in self.kernels:
            if weight.grad is not None:
                matrix.grad = weight.grad.permute(0, 2, 3, 1).flatten(1) if weight.ndim == 4 else weight.grad
            weight.grad = None
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> list[Record]:
        """The state of both optimisers."""
        return [optimiser.state_dict() for optimiser in self.optimisers]

    def load_state_dict(self, states: list[Record]) -> None:
        """Load the output of `state_dict`."""
        for optimiser, state in zip(self.optimisers, states, strict=True):
            optimiser.load_state_dict(state)


def _check_shared(matrix: Tensor, weight: Tensor) -> None:
    """Raise an error if the matrix is a copy: it would be trained in place of the kernel."""
    if matrix.data_ptr() != weight.data_ptr():
        raise RuntimeError("a kernel is not in channels-last memory")
