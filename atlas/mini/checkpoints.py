"""Checkpoints of a training run: written whole or not at all, and read with a clear error."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from atlas.errors import Refused
from atlas.formatting import Record


def write_checkpoint(state: Record, path: Path) -> None:
    """Write to a temporary file, then rename it: an interrupted run keeps its last checkpoint."""
    aside = path.with_suffix(".partial")
    try:
        torch.save(state, aside)
        aside.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise Refused(f"cannot write {aside}: {str(error).splitlines()[0]}; the last {path.name} is whole") from None


@contextmanager
def checkpoint(path: Path) -> Iterator[Record]:
    """Contents of a checkpoint, to be loaded inside the block.

    Raises:
        Refused: the file is damaged, or does not fit this corpus or recipe.
    """
    try:
        yield torch.load(path, weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        raise Refused(
            f"{path} is damaged, or of another corpus or recipe ({type(error).__name__}): "
            "delete it to start again, or give another --run"
        ) from error
