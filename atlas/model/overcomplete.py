"""Overcomplete's autoencoders: a linear encoder with batch normalisation, which is folded into it, and a dictionary."""

from collections.abc import Mapping

import numpy as np

_EPSILON = 1e-5  # of torch's batch normalisation
_LINEAR, _NORM, _DICTIONARY = "encoder.final_block.0", "encoder.final_block.1", "dictionary._weights"
_RENAMED = {f"{_LINEAR}.weight": "encoder.weight", f"{_LINEAR}.bias": "encoder.bias", "thresholds": "log_threshold"}


def plain_tensors(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors by the names of other libraries, in evaluation mode; those of another library stay as they are."""
    if _DICTIONARY not in tensors:
        return dict(tensors)
    found = {_RENAMED.get(name, name): each for name, each in tensors.items()}
    found["W_dec"] = found.pop(_DICTIONARY) * np.exp(found.pop("dictionary.multiplier", 0.0))
    if f"{_NORM}.running_mean" not in found:
        return found
    mean, spread = (found.pop(f"{_NORM}.{part}") for part in ("running_mean", "running_var"))
    found.pop(f"{_NORM}.num_batches_tracked", None)
    scale = found.pop(f"{_NORM}.weight", 1.0) / np.sqrt(spread + _EPSILON)
    bias = found.get("encoder.bias", np.zeros_like(mean))
    found["encoder.weight"] = found["encoder.weight"] * scale[:, None]
    found["encoder.bias"] = (bias - mean) * scale + found.pop(f"{_NORM}.bias", 0.0)
    return found
