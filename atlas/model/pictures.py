"""Pictures as users give them to a `Clip`: paths, PIL images or arrays; and the numbers of a preprocessing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from atlas.errors import Refused
from atlas.sources import decoding

Picture = str | Path | Image.Image
Pictures = Sequence[Picture] | Picture | np.ndarray


def listed_pictures(images: Pictures, side: int) -> Sequence[Picture] | np.ndarray:
    """Images as a sequence; an array stays an array if its images already have the model's side.

    Raises `Refused` for arrays that are not uint8 (n, h, w, 3).
    """
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise Refused(f"an array of images is uint8 (n, h, w, 3), got {images.dtype} {images.shape}")
        if images.shape[1:3] != (side, side):
            return [Image.fromarray(image) for image in images]
        return images
    return [images] if isinstance(images, str | Path | Image.Image) else list(images)


def open_picture(picture: Picture) -> Image.Image:
    """Open a picture; raises `Refused` for a file that cannot be read."""
    if isinstance(picture, Image.Image):
        return picture
    try:
        return decoding.decode(Path(picture))
    except decoding.Unreadable as error:
        raise Refused(f"cannot read {picture}: {error}") from error


def colour_triple(value: float | Sequence[float]) -> tuple[float, ...]:
    """Mean or standard deviation of the three colours; a configuration may give one number for all."""
    return tuple(value) if isinstance(value, Sequence) else (value,) * 3


def model_side(size: int | Sequence[int]) -> int:
    """Side of the square images that a model reads; raises `Refused` if they are not square."""
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise Refused(f"the model reads images of {height} x {width} pixels; only square ones are handled")
    return int(height)
