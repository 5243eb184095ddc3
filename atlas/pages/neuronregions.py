"""Named regions of the map of neurons, at three scales: each is named by labels that are enriched among its neurons.

    Y (u, 2) layout of neurons

A term is a label or a word in a label. Its p-value in a region is hypergeometric: the probability that as many of the
region's neurons have it by chance. A region is named by terms with small p-values, or has no name. Regions are the
clusters of k-means, because the map of neurons has few gaps.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int64
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans

from atlas.analysis.phrases import FALSE_NAMES, FEWEST_NAMED, term_carriers, term_enrichment
from atlas.pages.regions import Region, central_member

REGIONS_A_LEVEL = (8, 24, 80)  # regions at each level, coarse to fine
REGION_NEURONS = 6  # neurons in a region at least, on average
NAME_TERMS = 2  # terms in a name, at most


def name_neuron_regions(
    layout: Float[np.ndarray, "u 2"], labels: Sequence[Sequence[str]], seed: int = 0
) -> list[Region]:
    """Regions of a map of neurons at three levels, the largest first, from the `labels` of every neuron.

    The members of a region are the neurons that have its name, which is drawn amid them.
    """
    carried, terms = terms_of_neurons(labels)
    found = []
    for level, count in enumerate(REGIONS_A_LEVEL):
        count = min(count, len(layout) // REGION_NEURONS)
        if count < 2 or not terms:
            break
        means = KMeans(count, n_init=4, random_state=seed)  # pyright: ignore[reportArgumentType]
        codes = means.fit_predict(np.asarray(layout, np.float64)).astype(np.int64)
        for c, chosen in enumerate(region_terms(codes, carried, terms)):
            carry = np.asarray(carried[:, chosen].sum(axis=1)).ravel() > 0
            members = np.flatnonzero((codes == c) & carry)
            if chosen:
                text = ", ".join(terms[t] for t in chosen)
                found.append(Region(text, central_member(layout, members), level, members))
    return sorted(found, key=lambda label: -label.count)


def outline(squares: Float[np.ndarray, "n 2"], members: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "s 4"]:
    """Sides (x, y to x, y) of the squares of some members, in squares of the grid, beyond which none of them lies.

    >>> len(outline(np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]]), np.array([0, 1])))
    6
    """
    own = {(int(x), int(y)) for x, y in squares[members]}
    sides = []
    for x, y in sorted(own):
        for right, up in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            if (x + right, y + up) not in own:
                ends = ((right - up) / 2, (up - right) / 2), ((right + up) / 2, (up + right) / 2)
                sides.append([x + ends[0][0], y + ends[0][1], x + ends[1][0], y + ends[1][1]])
    return np.array(sides, np.float32).reshape(-1, 4)


def terms_of_neurons(labels: Sequence[Sequence[str]]) -> tuple[csr_matrix, list[str]]:
    """Which neurons have which terms (u, t), and the terms; those of too few neurons are left out."""
    flat = [label for of in labels for label in of]
    owner = [neuron for neuron, of in enumerate(labels) for _ in of]
    carried, terms = term_carriers(flat)
    owns = csr_matrix((np.ones(len(flat), np.float32), (owner, np.arange(len(flat)))), (len(labels), len(flat)))
    found = csr_matrix(csr_matrix(owns @ carried).minimum(1))
    enough = np.flatnonzero(np.asarray(found.sum(axis=0)).ravel() >= FEWEST_NAMED)
    return found[:, enough], [terms[t] for t in enough]


def region_terms(codes: Int64[np.ndarray, " u"], carried: csr_matrix, terms: list[str]) -> list[list[int]]:
    """The terms that name every region of a level, none where none is significant; no two regions share a word."""
    there, p = term_enrichment(codes, carried)
    own = (p * p.size < FALSE_NAMES) & (there >= FEWEST_NAMED)
    found: list[list[int]] = [[] for _ in p]
    taken: set[str] = set()
    for c, t in sorted(zip(*np.nonzero(own), strict=True), key=lambda at: (p[at], terms[at[1]])):
        if len(found[c]) < NAME_TERMS and not set(terms[t].split()) & taken:
            found[c].append(int(t))
            taken |= set(terms[t].split())
    return found
