"""Canvas: the parametrisation of images that are optimised, and the random views of them that the model sees.

Images are Fourier coefficients of three decorrelated colours, scaled by wavelength, so that gradient steps change large
shapes as fast as fine texture (Olah, Mordvintsev and Schubert 2017, "Feature Visualization"). Optimisation goes from
coarse to fine: frequencies above the current level of detail are damped.

    z (n, 3, h, f, 2) coefficients    x (n, 3, h, w) colours, 0 to 1
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

# Square root of the covariance of ImageNet's colours, which decorrelates them, lightness first (Olah et al. 2017).
_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
_START_SPREAD = 0.01  # standard deviation of the first coefficients, too small to be visible
_FADE = 2.0  # how sharply frequencies above the level of detail are damped
_TURN, _NEAREST, _FARTHEST, _SHIFT = (
    15.0,
    0.8,
    1.6,
    0.2,
)  # degrees; widths of what a view shows, of the canvas; half-widths


class Canvas:
    """`k` times `repeats` images of `side` pixels around a mean colour; `leaf` (z) is the tensor to optimise.

    Repeats differ in their start and in their random views. The k images of one repeat have the same start and the same
    views, so the result for a neuron does not depend on the neurons optimised together with it.
    """

    def __init__(self, k: int, repeats: int, side: int, about: tuple[float, ...], device: torch.device, seed: int = 0):
        self.k, self.repeats, self.side = k, repeats, side
        self._random = torch.Generator().manual_seed(
            seed
        )  # on the CPU, so that the numbers are the same on every device
        frequency = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])
        amplitude = 1 / frequency.clamp(min=1 / side)  # as in natural images
        self._frequency = frequency.to(device)
        self._amplitude = (amplitude / amplitude.square().mean().sqrt()).to(device)
        colours = torch.tensor(_COLOURS)
        self._colours = (colours / colours.norm(dim=0).max()).to(device)
        self._about = torch.tensor(about, device=device).view(3, 1, 1)
        start = torch.randn(repeats, 3, *frequency.shape, 2, generator=self._random) * _START_SPREAD
        self.leaf: Tensor = start.repeat(k, 1, 1, 1, 1).to(device).requires_grad_()

    def draw(self, detail: float = 1.0) -> Float[Tensor, "n 3 h w"]:
        """The images, 0 to 1; frequencies above `detail`, a fraction of the highest one, are damped."""
        kept = torch.exp(-_FADE * (self._frequency / (0.5 * detail)) ** 2) if detail < 1 else 1.0
        waves = torch.view_as_complex(self.leaf) * (self._amplitude * kept)
        x = torch.fft.irfft2(waves, s=(self.side, self.side), norm="ortho")
        return torch.sigmoid(torch.einsum("dc,nchw->ndhw", self._colours, x) + torch.logit(self._about))

    def views(self, x: Float[Tensor, "n 3 h w"], size: int) -> Float[Tensor, "n 3 s s"]:
        """Random affine views (rotation, scale, shift), so that only robust features are optimised.

        Outside of an image the view has its mean colour.
        """
        angle, width, *moved = torch.rand(4, self.repeats, generator=self._random).repeat(1, self.k).to(x.device)
        angle = (2 * angle - 1) * math.radians(_TURN)
        width = _NEAREST * (_FARTHEST / _NEAREST) ** width
        across, down = ((2 * each - 1) * _SHIFT for each in moved)
        cos, sin = width * angle.cos(), width * angle.sin()
        seen = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
        grid = affine_grid(seen, [len(x), 3, size, size], align_corners=False)
        return grid_sample(x - self._about, grid, align_corners=False) + self._about
