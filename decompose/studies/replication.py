"""The scorecard of Goh et al. 2021: every published table beside what a model gives by the same procedure.

A row is compared in one of five ways: with the paper's own network; with a file of weights of that architecture, which
may be the paper's; with another network, so that the figures need not agree; with no network, where the published
figures are rebuilt from other published ones; or not at all, and says why.

    A (n, u) responses to n rendered words    W (u, e) basis
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.sources.vocabulary import english_words
from atlas.store.store import Store
from atlas.vectors import scaled_rows
from decompose.attribution import attribute
from decompose.emotions import SPARSITY_LEVELS, codes_at_levels, factor_codes
from decompose.families import FAINT, family_agreement
from decompose.prompting import prompts
from decompose.studies.gazetteer import place_words, world_map
from decompose.studies.image_words import word_activations
from decompose.studies.places import TOP_WORDS, map_responses, place_shares, rank_correlations, render_names
from decompose.studies.published import PAPER_NETWORKS, PAPER_WEIGHTS, PublishedTables, paper_network
from decompose.studies.replicated_pictures import picture_rows
from decompose.studies.scores import ANOTHER_NETWORK, NO_NETWORK, SAME_NAME, SAME_NETWORK, not_compared, score_row
from decompose.studies.stroop import STROOP_FONTS, study_stroop

SCANNED_WORDS = 2000  # frequent English words that neurons are scanned with; the paper took 10,000
_FONT = "open-sans"
_FOUND_WITHIN = 10  # a labelled neuron is found if it is among so many
_FACTORED, _PRINTED = "30", "40"  # levels of the published emotion equations: factored, and printed
_COSINE = ("terrorist", "muslims", 0.52)  # centred on the mean over words, as the article's text says
_PLACES_SHARE = "2.5 % (64 of 2,560)"  # as the article's text says


def replication_rows(
    clip: Clip, tables: PublishedTables, store: Store | None = None, words: int = SCANNED_WORDS, seed: int = 0
) -> list[Record]:
    """The scorecard. `store`: pictures by their classes, for the attacks and the sparse probe."""
    known = paper_network(clip)
    network = SAME_NETWORK if known else ANOTHER_NETWORK
    rows = [
        *word_rows(clip, tables, known, network, words),
        *map_rows(clip, tables, known),
        *label_rows(clip, tables, known),
        *emotion_rows(clip, tables, known, network, seed),
        *stroop_rows(clip, tables, network, seed),
        *neighbour_rows(clip, tables, network, words, seed),
        *picture_rows(clip, tables, store, known, network, seed),
        not_compared(
            "P(category | activation), four neurons", "counts by hand", "the labelled pictures are not published"
        ),
        not_compared("activation given a person, eleven persons", "medians", "the photographs are not published"),
    ]
    unsure = known is not None and clip.pretrained != PAPER_WEIGHTS
    return [row | {"compared": SAME_NAME} if unsure and row["compared"] == SAME_NETWORK else row for row in rows]


def _foreign(clip: Clip, tables: PublishedTables) -> str:
    """Why the numbers of neurons in the tables mean nothing here."""
    networks = ", ".join(sorted({network.removeprefix("contrastive_") for network, _ in tables.units})) or "4x"
    other = "has other weights" if clip.name.removesuffix("-quickgelu") in PAPER_NETWORKS else "is another network"
    how = "has random weights" if not clip.pretrained and clip.name != "mini" else other
    return f"the neurons are those of the article's networks ({networks}); {clip.name} {how}"


# -- words -------------------------------------------------------------------------------------------------------------


def word_rows(
    clip: Clip, tables: PublishedTables, known: tuple[str, str] | None, network: str, words: int
) -> Iterator[Record]:
    """The strongest rendered words of the published region neurons, and how many neurons have five places of five."""
    title, published = "top words of region neurons", f"20 words each of {len(tables.words)} neurons"
    here = [i for i, (name, unit) in enumerate(tables.units) if known and name == known[0] and unit < clip.neurons]
    given = [word.lower() for i in here for word in tables.words[i] if word] if tables.words else []
    every = list(dict.fromkeys([*english_words(words), *given]))
    A = render_names(clip, every, fonts=(_FONT,)).means(len(every))
    if not tables.words:
        yield not_compared(title, "", "the clone has no regional/top_words.json")
    elif not here:
        yield not_compared(title, published, _foreign(clip, tables))
    else:
        place, lists = {word: i for i, word in enumerate(every)}, [tables.words[i] for i in here]
        own = [np.array([place[word.lower()] for word in each if word]) for each in lists]
        yield _word_score(np.nan_to_num(A), [tables.units[i][1] for i in here], own, title, published)
    title = "neurons with five places among their five top words"
    try:
        known_places = place_words()
    except Refused as refused:
        yield not_compared(title, _PLACES_SHARE, str(refused))
        return
    place_mask = np.array([word in known_places for word in every])
    five, on = place_shares(np.nan_to_num(A), place_mask)[0], f"{len(every):,} rendered words, {TOP_WORDS} a neuron"
    measured = f"{100 * five['neurons'] / clip.neurons:.1f} % ({five['neurons']} of {clip.neurons:,})"
    yield score_row(title, _PLACES_SHARE, measured, f"{100 * five['shuffled'] / clip.neurons:.1f} %", network, on)


def _word_score(
    A: Float[np.ndarray, "n u"], units: Sequence[int], own: Sequence[Int[np.ndarray, " k"]], title: str, published: str
) -> Record:
    """How well the published words of each neuron are told from the others by its response."""
    ranks, scaled = rankdata(A[:, list(units)], axis=0), (A - A.mean(0)) / np.maximum(A.std(0), 1e-9)

    def area(unit: int, words: np.ndarray) -> float:
        k = len(words)
        return float((ranks[words, unit].sum() - k * (k + 1) / 2) / (k * (len(A) - k)))

    pairs = [(i, j) for i in range(len(units)) for j in range(len(units))]
    areas = {pair: area(pair[0], own[pair[1]]) for pair in pairs}
    right = float(np.mean([areas[i, i] for i in range(len(units))]))
    wrong = [areas[i, j] for i, j in pairs if i != j]
    first = sum(int(scaled[words].mean(0).argmax()) == unit for unit, words in zip(units, own, strict=True))
    measured = f"area {right:.2f}; the neuron itself is first of {A.shape[1]:,} for {first} of {len(units)}"
    chance = f"area {np.mean(wrong):.2f} with another neuron's words" if wrong else "area 0.50"
    return score_row(title, published, measured, chance, SAME_NETWORK, f"{len(units)} neurons, {len(A):,} words")


# -- maps --------------------------------------------------------------------------------------------------------------


def map_rows(clip: Clip, tables: PublishedTables, known: tuple[str, str] | None) -> Iterator[Record]:
    """Rank correlation of published and measured responses to names of countries and cities, and to the map."""
    here = [i for i, (name, unit) in enumerate(tables.units) if known and name == known[0] and unit < clip.neurons]
    kinds = (("countries", tables.country, tables.countries), ("cities", tables.city, tables.cities))
    for name, table, places in kinds:
        title, published = f"region maps: names of {name}", f"{len(tables.units)} maps of {len(places)} {name}"
        if table is None or not places:
            yield not_compared(title, "", f"the clone has no table of {name} (regional/*.npy and geo.json)")
        elif not here:
            yield not_compared(title, published, _foreign(clip, tables))
        else:
            A = render_names(clip, places).means(len(places))[:, [tables.units[i][1] for i in here]]
            shown = np.isfinite(A).all(1)
            yield _map_score(table[here].T[shown], A[shown], title, published, f"{int(shown.sum())} rendered names")
    title, published = "region maps: a world map without text", f"{len(tables.units)} maps of 40 x 80 cells"
    if tables.spatial is None:
        yield not_compared(title, "", "the clone has no regional/spatial.npy")
    elif not here:
        yield not_compared(title, published, _foreign(clip, tables))
    else:
        try:
            grid = map_responses(clip, world_map(1440))[..., [tables.units[i][1] for i in here]]
        except Refused as refused:
            yield not_compared(title, published, str(refused))
            return
        flat = tables.spatial[here].reshape(len(here), -1).T
        if flat.shape[0] != grid.shape[0] * grid.shape[1]:
            yield not_compared(title, published, f"the published maps have {flat.shape[0]:,} cells each")
            return
        yield _map_score(flat, grid.reshape(-1, len(here)), title, published, "another map than the article's")


def _map_score(published: np.ndarray, measured: Float[np.ndarray, "c n"], title: str, what: str, on: str) -> Record:
    own = rank_correlations(published.astype(np.float32), measured)
    n = measured.shape[1]
    shifted = [rank_correlations(published.astype(np.float32), np.roll(measured, s, axis=1)) for s in range(1, n)]
    low, high = float(own.min()), float(own.max())
    text = f"rank correlation {np.median(own):.2f} (median of {n}; {low:.2f} to {high:.2f})"
    chance = f"{np.median(shifted):.2f} with another neuron's map" if shifted else "0.00"
    return score_row(title, what, text, chance, SAME_NETWORK, on)


# -- labels ------------------------------------------------------------------------------------------------------------


def label_rows(clip: Clip, tables: PublishedTables, known: tuple[str, str] | None) -> Iterator[Record]:
    """Neurons that the authors labelled by hand, looked up by the text of their label."""
    title, published = "hand-labelled neurons", f"{len(tables.labelled)} labels"
    here = [each for each in tables.labelled if known and each.network in known and each.unit < clip.neurons]
    if not tables.labelled:
        yield not_compared(title, "", "the clone has no NeuronFamilies.svelte")
    elif not here:
        yield not_compared(title, published, _foreign(clip, tables))
    else:
        X = attribute(clip, [each.label.replace("?", "").strip() or each.label for each in here])
        rank = (X[np.arange(len(here)), [each.unit for each in here]][:, None] < X).sum(1)
        other = (X[np.arange(len(here)), np.roll([each.unit for each in here], 1)][:, None] < X).sum(1)
        few = f"of {clip.neurons:,} neurons by their basis"
        yield score_row(
            title, published, f"{int((rank < _FOUND_WITHIN).sum())} of {len(here)} among the first {_FOUND_WITHIN}",
            f"{int((other < _FOUND_WITHIN).sum())} of {len(here)} with another's label", SAME_NETWORK, few,
        )  # fmt: skip


# -- emotions ----------------------------------------------------------------------------------------------------------


def emotion_rows(
    clip: Clip, tables: PublishedTables, known: tuple[str, str] | None, network: str, seed: int
) -> Iterator[Record]:
    """The emotion equations, and the atlas of 121 words and seven factors."""
    equations, factors = tables.emotions.get(_PRINTED), tables.emotions.get(_FACTORED)
    title = "emotion atlas, rebuilt from the published equations"
    if factors and tables.emotion_atlas:
        yield _rebuilt(factors, tables, title, seed)
    else:
        yield not_compared(title, "", "the clone has no emotions/semantic/allSparse.js or emotions/atlas/data.js")
    if not equations:
        yield not_compared("emotion equations", "", "the clone has no emotions/semantic/allSparse.js")
        return
    words = list(equations)
    rows = prompts(words, "feeling")
    X = clip.encode_texts([each for row in rows for each in row]) @ clip.basis().T
    labels = [word for word, row in zip(words, rows, strict=True) for _ in row]
    middle, dense = codes_at_levels(X, labels, SPARSITY_LEVELS[2:])
    title, published = "emotion equations", f"{len(words)} words, {SPARSITY_LEVELS[3]} neurons each"
    if known and known[0] == PAPER_NETWORKS["RN50x4"][0]:
        yield _equations(dense, words, equations, title, published, seed)
    else:
        yield not_compared(title, published, _foreign(clip, PublishedTables()))
    title = "seven factors of emotion words"
    published = f"{len(tables.emotion_atlas)} words x 7" if tables.emotion_atlas else ""
    shown = [i for i, word in enumerate(words) if word in tables.emotion_atlas]
    if len(shown) < 8:
        yield not_compared(title, published, "the clone has no emotions/atlas/data.js")
        return
    P = np.array([tables.emotion_atlas[words[i]] for i in shown])
    family = [str(int(row.argmax())) if row.max() > FAINT else "" for row in P]
    found = family_agreement(factor_codes(middle[shown], 7).words, family, np.random.default_rng(seed))
    measured = f"mutual information {found['ami']:.2f} of 1, corrected for chance (p {found['p']:.3f})"
    yield score_row(title, published, measured, "0.00", network, f"strongest factors of {found['words']} words")


def _rebuilt(factors: dict[str, dict[int, float]], tables: PublishedTables, title: str, seed: int) -> Record:
    """The published factors beside those of the published equations, by the project's own factorisation."""
    words = [word for word in tables.emotion_atlas if word in factors]
    units = sorted({unit for word in words for unit in factors[word]} - tables.text_units)
    codes, place = np.zeros((len(words), len(units))), {unit: i for i, unit in enumerate(units)}
    for row, word in zip(codes, words, strict=True):
        for unit, weight in factors[word].items():
            if unit in place:
                row[place[unit]] = weight
    P = np.array([tables.emotion_atlas[word] for word in words])
    found = factor_codes(codes, P.shape[1]).words
    order = np.random.default_rng(seed).permutation(len(words))
    (difference, least), (shuffled, _) = (_matched(found, each) for each in (P, P[order]))
    return score_row(
        title, f"{len(words)} words x {P.shape[1]}",
        f"largest difference {difference:.4f}; least correlation of a factor {least:.6f}",
        f"largest difference {shuffled:.2f} with words shuffled", NO_NETWORK, f"{len(units)} neurons of the equations",
    )  # fmt: skip


def _matched(found: np.ndarray, published: np.ndarray) -> tuple[float, float]:
    """Largest difference and least correlation, with columns in the order in which they agree best."""
    R = np.corrcoef(found.T, published.T)[: found.shape[1], found.shape[1] :]
    one, other = linear_sum_assignment(-R)
    return float(np.abs(found[:, one] - published[:, other]).max()), float(R[one, other].min())


def _equations(
    codes: Float[np.ndarray, "t u"],
    words: list[str],
    published: dict[str, dict[int, float]],
    title: str,
    what: str,
    seed: int,
) -> Record:
    """The share of published neurons that are in the measured equation of the same word, with the same sign."""
    signs = [{(unit, weight > 0) for unit, weight in published[word].items()} for word in words]
    own = [{(int(u), bool(row[u] > 0)) for u in np.flatnonzero(row)} for row in codes]

    def shared(order: Sequence[int]) -> float:
        return sum(len(signs[i] & own[j]) for i, j in enumerate(order)) / max(sum(map(len, signs)), 1)

    right, order = shared(range(len(words))), np.random.default_rng(seed).permutation(len(words)).tolist()
    measured = f"{100 * right:.0f} % of the published neurons are in the same word's equation, with the same sign"
    chance, on = f"{100 * shared(order):.0f} % with words shuffled", "the published words in the paper's three prompts"
    return score_row(title, what, measured, chance, SAME_NETWORK, on)


# -- Stroop, words as images ------------------------------------------------------------------------------------------


def stroop_rows(clip: Clip, tables: PublishedTables, network: str, seed: int) -> Iterator[Record]:
    """How often the word wins over the ink."""
    if not tables.stroop:
        yield not_compared("Stroop", "", "the clone has no typographic/stroop_experiment.json")
        return
    kinds: dict[str, list[tuple[bool, bool]]] = {}
    for (ink, word), answer in tables.stroop.items():
        kind = (
            "congruent"
            if ink == word
            else "neutral"
            if word not in {ink for ink, _ in tables.stroop}
            else "incongruent"
        )
        kinds.setdefault(kind, []).append((answer == ink, answer == word))
    counts = {
        row["subset"]: row for row in study_stroop(clip, fonts=STROOP_FONTS[:2], seed=seed, carried=False).counts()
    }
    for kind in ("incongruent", "congruent", "neutral"):
        answers, row = kinds.get(kind, []), counts[kind]
        of_word = kind == "incongruent"
        rate, hits = (row["word"] if of_word else row["ink"]), sum(each[of_word] for each in answers)
        what = "the word wins" if of_word else "the ink is said"
        yield score_row(
            f"Stroop, {kind}: {what}", f"{hits} of {len(answers)}", f"{rate.hits} of {rate.of}", "1 in 8", network,
            "the same words, inks and prompt; two fonts of this package",
        )  # fmt: skip


def neighbour_rows(clip: Clip, tables: PublishedTables, network: str, words: int, seed: int) -> Iterator[Record]:
    """Nearest rendered words, and the cosine of two words, in image space centred on the mean."""
    given = [word.lower() for each in tables.neighbours for word in (each, *tables.neighbours[each])]
    every = list(dict.fromkeys([*english_words(words), *given, *_COSINE[:2]]))
    place = {word: i for i, word in enumerate(every)}
    A = word_activations(clip, [(word, _FONT) for word in every])
    X = scaled_rows(A - A[:words].mean(0))
    if not tables.neighbours:
        yield not_compared("neighbours of rendered words", "", "the clone has no ImageWordEmbeddingFootnote.svelte")
    for word, near in tables.neighbours.items():
        wanted = {place[each.lower()] for each in near} - {place[word.lower()]}
        C = X @ X[place[word.lower()]]
        C[place[word.lower()]] = -np.inf
        found = np.argsort(-C, kind="stable")[: len(wanted)].tolist()
        yield score_row(
            f"neighbours of the rendered word {word.lower()}", ", ".join(near),
            f"{len(wanted & set(found))} of {len(wanted)}: {', '.join(every[i] for i in found)}",
            f"{len(wanted) ** 2 / len(every):.2f} of {len(wanted)}", network, f"{len(every):,} rendered words",
        )  # fmt: skip
    one, other, published = _COSINE
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, len(every), (2, 2000))
    chance = float(np.percentile((X[pairs[0]] * X[pairs[1]]).sum(1), 95))
    measured, on = float(X[place[one]] @ X[place[other]]), f"centred on {words:,} words"
    title, below = f"cosine of the rendered words {one} and {other}", f"95 % of pairs are below {chance:.2f}"
    yield score_row(title, f"{published:.2f}, by the article's text", f"{measured:.2f}", below, network, on)
