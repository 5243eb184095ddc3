"""Canvases: pictures made to be optimised, and the changing views of them that a model is shown.

A canvas is kept as Fourier coefficients of three uncorrelated colours, large waves first in size, so that a step along
the gradient changes its shapes as readily as its grain (Olah, Mordvintsev and Schubert 2017, "Feature Visualization").
It is drawn from coarse to fine: waves shorter than its detail are faded out.

    z (n, 3, h, f, 2) coefficients    x (n, 3, h, w) colours, 0 to 1
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

# Colours of natural pictures as three uncorrelated ones, lightness first: the square root of the colours' covariance
# over ImageNet, as Olah et al. 2017 published it.
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
_START_SPREAD = 0.01  # spread of the first coefficients: nothing to be seen
_FADE = 2.0  # how sharply waves beyond the detail are faded
_TURN, _NEAREST, _FARTHEST, _SHIFT = (
    15.0,
    0.8,
    1.6,
    0.2,
)  # degrees; widths of what a view shows, of the canvas; half-widths


class Canvas:
    """`k` times `repeats` pictures of `side` pixels about a colour; `leaf` is what an optimiser changes, z.

    The repeats differ in their start and in the views taken of them; what is drawn k times is begun and seen alike, so
    that a picture does not depend on what is drawn beside it.
    """

    def __init__(self, k: int, repeats: int, side: int, about: tuple[float, ...], device: torch.device, seed: int = 0):
        self.k, self.repeats, self.side = k, repeats, side
        self._random = torch.Generator().manual_seed(seed)  # the CPU's, so that it is the same on every device
        frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])
        amplitude = 1 / frequency.clamp(min=1 / side)  # as natural pictures have it
        self._frequency = frequency.to(device)
        self._amplitude = (amplitude / amplitude.square().mean().sqrt()).to(device)
        colours = torch.tensor(_COLOURS)
        self._colours = (colours / colours.norm(dim=0).max()).to(device)
        self._about = torch.tensor(about, device=device).view(3, 1, 1)
        start = torch.randn(repeats, 3, *frequency.shape, 2, generator=self._random) * _START_SPREAD
        self.leaf: Tensor = start.repeat(k, 1, 1, 1, 1).to(device).requires_grad_()

    def draw(self, detail: float = 1.0) -> Float[Tensor, "n 3 h w"]:
        """The pictures, 0 to 1; `detail`, a share of the finest wave, fades what is finer."""
        kept = torch.exp(-_FADE * (self._frequency / (0.5 * detail)) ** 2) if detail < 1 else 1.0
        waves = torch.view_as_complex(self.leaf) * (self._amplitude * kept)
        x = torch.fft.irfft2(waves, s=(self.side, self.side), norm="ortho")
        return torch.sigmoid(torch.einsum("dc,nchw->ndhw", self._colours, x) + torch.logit(self._about))

    def views(self, x: Float[Tensor, "n 3 h w"], size: int) -> Float[Tensor, "n 3 s s"]:
        """Each picture turned, moved and seen from nearer or farther, by chance: what holds for one view alone is lost.

        Beyond its edges a picture is of the colour that it is about.
        """
        angle, width, *moved = torch.rand(4, self.repeats, generator=self._random).repeat(1, self.k).to(x.device)
        angle = (2 * angle - 1) * math.radians(_TURN)
        width = _NEAREST * (_FARTHEST / _NEAREST) ** width
        across, down = ((2 * each - 1) * _SHIFT for each in moved)
        cos, sin = width * angle.cos(), width * angle.sin()
        seen = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
        grid = affine_grid(seen, [len(x), 3, size, size], align_corners=False)
        return grid_sample(x - self._about, grid, align_corners=False) + self._about
