"""Agreement of the factors of words with known families of these words, such as those of the feeling wheel.

Agreement is measured as for a clustering (NMI, AMI and ARI of each word's strongest factor, with a permutation p), and
as a reader would judge: a factor is *named* by a family if most of its words are of that family, significantly so.

    F (t, k) factors of the words, 0 to 1
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

from atlas.analysis.significance import enrichment_p_values, p_values, q_values
from atlas.formatting import Record, format_p
from decompose.defaults import FALSE_RATE

_PERMUTATIONS = 999
FAINT = 1e-3  # a word whose loadings are all smaller belongs to no factor
_SIGNIFICANT = 0.05  # p up to which an agreement is called significant
_STRENGTHS = ((0.5, "clearly"), (0.2, "partly"), (-1.0, "weakly"))  # AMI from which groups are said to agree so
_MAJORITY = 0.5  # share of a factor's words


def family_agreement(F: Float[np.ndarray, "t k"], families: Sequence[str], rng: np.random.Generator) -> Record:
    """Agreement of the words' strongest factors with their families: words, nmi, ami, ari, p, factors, named.

    AMI is NMI corrected for chance, which matters for few words. p is the share of shuffled families whose NMI is as
    large. `named` are the families that name a factor (`factor_names`). Words without a family ("") or a factor are
    left out.
    """
    truth = np.array(families)
    counted = (F.max(1) > FAINT) & (truth != "")
    if not counted.any():
        return {"words": 0, "nmi": 0.0, "ami": 0.0, "ari": 0.0, "p": 1.0, "factors": F.shape[1], "named": []}
    truth, found = truth[counted], F[counted].argmax(1)
    nmi = normalized_mutual_info_score(truth, found)
    null = np.array([normalized_mutual_info_score(truth, rng.permutation(found)) for _ in range(_PERMUTATIONS)])
    return {
        "words": len(truth),
        "nmi": float(nmi),
        "ami": float(adjusted_mutual_info_score(truth, found)),
        "ari": float(adjusted_rand_score(truth, found)),
        "p": float(p_values(np.array([nmi]), null)[0]),
        "factors": F.shape[1],
        "named": [name for name in factor_names(truth, found, F.shape[1]) if name],
    }


def factor_names(truth: np.ndarray, found: Int[np.ndarray, " t"], factors: int) -> list[str]:
    """For each factor the family that names it, or "".

    That family holds at least half of the factor's words, and more than by chance: the hypergeometric p, corrected for
    the number of families, is significant at a false discovery rate of 5 % over the factors.
    """
    known, codes = np.unique(truth, return_inverse=True)
    totals = np.bincount(codes)
    carried = np.array([np.bincount(codes[found == factor], minlength=len(known)) for factor in range(factors)])
    p = np.stack([enrichment_p_values(row, totals, len(truth), int(row.sum())) for row in carried])
    best = p.argmin(1)
    sure = q_values(np.minimum(p.min(1) * len(known), 1)) <= FALSE_RATE
    most = carried[np.arange(factors), best] >= _MAJORITY * carried.sum(1)
    return [str(known[family]) if keep else "" for family, keep in zip(best, sure & most, strict=True)]


def verdict(agreements: Sequence[Record]) -> str:
    """A short sentence without figures: do the neurons group the words by family, how well, and do controls too?"""
    own, *controls = agreements
    if not own["words"]:
        return verdict_in_figures(agreements)
    grouped = "The neurons group these words by family"
    if own["p"] > _SIGNIFICANT:
        return f"{grouped} no better than chance."
    how = next(word for least, word in _STRENGTHS if own["ami"] >= least)
    equal = [row for row in controls if row["high"] >= own["ami"]]
    if any(row["p"] <= _SIGNIFICANT for row in equal):
        return f"{grouped} {how}, and the text tower alone does no less."
    link = "but" if how == _STRENGTHS[-1][1] else "and"
    beside = f", though the {' and the '.join(row['method'] for row in equal)} may do so too" if equal else ""
    return f"{grouped} {how}, {link} more than chance{beside}."


def verdict_in_figures(agreements: Sequence[Record]) -> str:
    """A sentence: do the factors of neurons agree with the families beyond chance, and do those of controls too?"""
    own, *controls = agreements
    if not own["words"]:
        return "None of these words has a known family and a factor, so the factors were not compared with families."
    if own["p"] > _SIGNIFICANT:
        return f"The factors of the neurons agree with the families no better than chance ({_figures(own)})."
    beyond = f"The factors of the neurons agree with the families beyond chance ({_figures(own)})"
    equal = [row for row in controls if row["high"] >= own["ami"]]
    if sure := [row for row in equal if row["p"] <= _SIGNIFICANT]:
        return f"{beyond}, and those of the {_listed(sure)} no less: the structure is the text tower's, not theirs."
    if equal:
        near = f"those of the {_listed(equal)} come as near, but not beyond chance"
        return f"{beyond}; {near}: neither is shown to be better."
    single = [row["method"] for row in controls if row["draws"] == 1]
    untested = f"; the difference from the {' and the '.join(single)} was not tested" if single else ""
    return f"{beyond}, and more than those of the {_listed(controls)}{untested}."


def _figures(row: Record) -> str:
    draws = f", {row['low']:.2f} to {row['high']:.2f} in {row['draws']} draws" if row["draws"] > 1 else ""
    return f"AMI {row['ami']:.2f}{draws}, p {format_p(row['p'])}"


def _listed(rows: Sequence[Record]) -> str:
    return " and the ".join(f"{row['method']} ({_figures(row)})" for row in rows)
