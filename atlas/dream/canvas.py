"""Canvas: the parametrisation of images that are optimised, and the random views of them that the model sees.

Images are Fourier coefficients of three decorrelated colours, scaled by wavelength, so that gradient steps change large
shapes as fast as fine texture (Olah, Mordvintsev and Schubert 2017, "Feature Visualization"). Optimisation goes from
coarse to fine: frequencies above the current level of detail are damped.

    z (n, 3, h, f, 2) coefficients    x (n, 3, h, w) colours, 0 to 1
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

_START_SPREAD = 0.01  # standard deviation of the first coefficients, too small to be visible
_FADE = 2.0  # how sharply frequencies above the level of detail are damped
_TURN, _NEAREST, _FARTHEST, _SHIFT = 15.0, 0.85, 1.18, 0.1  # degrees; widths and largest shift of a view, of its own
CANVAS_MARGIN = 7 / 6  # side of a canvas, relative to the side that the model reads; the rest fades to the ground
_LEVEL = 4.0  # by how much more the mean of an image changes than its waves do
_LEAST_COLOUR = 0.3  # least spread of a component of colour, relative to the largest: rare colours are within reach
_LEAST_ROOM = 0.15  # between ground and black or white, so that the gradient does not end just beside the ground


@dataclass(frozen=True)
class ImageStyle:
    """What images have in common, which canvases begin with: ground colour, spread of colours, spectrum.

    `colours`: square root of the covariance of colours, a column a component. `spectrum`: amplitudes of waves of
    `frequencies` (cycles a pixel, rising). The defaults are those of photographs: ImageNet's colours (Olah et al.
    2017), amplitudes that fall as 1/f.
    """

    ground: tuple[float, ...] = (0.5, 0.5, 0.5)
    colours: tuple[tuple[float, ...], ...] = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
    frequencies: tuple[float, ...] = (0.001, 1.0)
    spectrum: tuple[float, ...] = (1000.0, 1.0)


class Canvas:
    """`k` times `repeats` images of a style, for views of `side` pixels; `leaf` (z) is the tensor to optimise.

    Repeats differ in their start and in their random views. The k images of one repeat have the same start and the same
    views, so the result for a neuron does not depend on the neurons optimised together with it. Towards its edges an
    image fades to its ground colour, so that no edge is there to be sharpened.
    """

    def __init__(self, k: int, repeats: int, side: int, style: ImageStyle, device: torch.device, seed: int = 0):
        self.k, self.repeats, self.seen = k, repeats, side
        self.side = round(side * CANVAS_MARGIN)
        self._random = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers on every device
        frequency = torch.hypot(torch.fft.fftfreq(self.side)[:, None], torch.fft.rfftfreq(self.side)[None])
        amplitude = _interpolated(frequency.clamp(min=1 / self.side), style)
        amplitude = amplitude / amplitude.square().mean().sqrt()
        amplitude[0, 0] *= _LEVEL
        self._frequency, self._amplitude = frequency.to(device), amplitude.to(device)
        colours = torch.tensor(style.colours)
        norms = colours.norm(dim=0)
        wider = (norms / norms.max()).clamp(min=_LEAST_COLOUR) / norms
        self._colours = (colours * wider).to(device)
        self._ground = torch.tensor(style.ground, device=device).view(3, 1, 1)
        edge = (0.5 * (self.side - side) + 0.5) / 2
        ramp = ((torch.arange(self.side) + 0.5).minimum(self.side - torch.arange(self.side) - 0.5) / (2 * edge)).clamp(
            max=1
        )
        ramp = ramp.square() * (3 - 2 * ramp)
        self._window = (ramp[:, None] * ramp[None]).to(device)
        start = torch.randn(repeats, 3, *frequency.shape, 2, generator=self._random) * _START_SPREAD
        self.leaf: Tensor = start.repeat(k, 1, 1, 1, 1).to(device).requires_grad_()

    def draw(self, detail: float = 1.0) -> Float[Tensor, "n 3 h w"]:
        """The images, 0 to 1; frequencies above `detail`, a fraction of the highest one, are damped."""
        kept = torch.exp(-_FADE * (self._frequency / (0.5 * detail)) ** 2) if detail < 1 else 1.0
        waves = torch.view_as_complex(self.leaf) * (self._amplitude * kept)
        x = torch.fft.irfft2(waves, s=(self.side, self.side), norm="ortho") * self._window
        return _coloured(torch.einsum("dc,nchw->ndhw", self._colours, x), self._ground)

    def views(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 s s"]:
        """Random affine views (rotation, scale, shift), so that only robust features are optimised.

        On average a view shows the image at its own size. Outside of an image the view has the ground colour.
        """
        random = torch.rand(4, self.repeats, generator=self._random).repeat(1, self.k)
        return affine_views(x, self.seen, self._ground, random)


def _coloured(z: Float[Tensor, "n 3 h w"], ground: Float[Tensor, "3 1 1"]) -> Float[Tensor, "n 3 h w"]:
    """Colours from 0 to 1, the ground where z is 0; on a grey ground this is the sigmoid.

    Unlike the sigmoid about a logit, it leaves a white ground as readily as a grey one.
    """
    room = torch.where(z > 0, 1 - ground, ground)
    return ground + room * torch.tanh(z / (4 * room.clamp(min=_LEAST_ROOM)))


def affine_views(
    x: Float[Tensor, "n 3 h w"], side: int, ground: Float[Tensor, "3 1 1"], random: Float[Tensor, "4 n"]
) -> Float[Tensor, "n 3 s s"]:
    """Views of `side` pixels of images: rotated, scaled and shifted by `random` numbers from 0 to 1."""
    angle, width, *moved = random.to(x.device)
    angle = (2 * angle - 1) * math.radians(_TURN)
    width = side / x.shape[-1] * _NEAREST * (_FARTHEST / _NEAREST) ** width
    across, down = ((2 * each - 1) * _SHIFT for each in moved)
    cos, sin = width * angle.cos(), width * angle.sin()
    seen = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = affine_grid(seen, [len(x), 3, side, side], align_corners=False)
    return grid_sample(x - ground, grid, align_corners=False) + ground


def _interpolated(frequency: Float[Tensor, "h f"], style: ImageStyle) -> Float[Tensor, "h f"]:
    """Amplitudes of waves, between those of the style in logarithms."""
    known, levels = (np.log(np.asarray(each)) for each in (style.frequencies, style.spectrum))
    return torch.from_numpy(np.exp(np.interp(np.log(frequency.numpy()), known, levels))).float()
