"""Terms in labels: the runs of words that may name a thing, and the labels that are variants of one thing.

An English noun phrase ends with its noun ("raised fist" is a fist); a variant has further words behind it ("fist
medium skin tone").
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_matrix

from atlas.analysis.significance import enrichment_p_values

TERM_WORDS = 4  # words in a term
SENTENCE_WORDS = 9  # a label with so many words is a sentence: only its single words are terms
HEAD_SHARE = 0.25  # a run names a thing if this share of the labels with it end in it
LONGER_SHARE = 0.9  # a longer term replaces one if this share of its rows carry it too
LEAST_VARIANTS, VARIED_SHARE = 10, 0.01  # a variation is found in so many labels, and this share of all
SAMPLED_LABELS = 50_000  # distinct labels that terms are taken from
MOST_TERMS = 20_000  # the most frequent terms are used
FALSE_NAMES = 0.5  # names of groups by enrichment that chance would give, at most
FEWEST_NAMED = 3  # members of a group with a term at least, for it to be a name
PREPOSITIONS = frozenset(
    {"at", "behind", "by", "for", "from", "in", "of", "on", "to", "with", "without"}
)  # a thing ends here
STOP_WORDS = PREPOSITIONS | {"a", "an", "and", "or", "the", "this"}
_WORD = re.compile(r"[^\W\d_]+(?:[-'’.][^\W\d_]+)*\.?")
_BREAK = re.compile(r"[^\w\s'’.&-]+")


def term_carriers(labels: Sequence[str], things: Collection[str] | None = None) -> tuple[csr_matrix, list[str]]:
    """Which rows carry which terms (n, t), and the terms, the most frequent first.

    A term is a run of words that may name a thing, because labels end in it. `things`: the labels that are names of
    things, where not all are. Of several terms of nearly the same rows, the longest is used: "nail polish", not
    "polish".
    """
    distinct, of, rows = np.unique(
        np.asarray(labels, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    step = -(-len(distinct) // SAMPLED_LABELS) or 1
    terms = find_terms(dict(zip(distinct[::step].tolist(), rows[::step].tolist(), strict=True)), things)
    code = {term: number for number, term in enumerate(terms)}
    codes, ends = [], [0]
    for label in distinct.tolist():
        codes += [code[run] for run in word_runs(label) if run in code]
        ends.append(len(codes))
    carried = csr_matrix((np.ones(len(codes), np.float32), codes, ends), (len(distinct), len(terms)))
    return csr_matrix(carried[of]), terms


def term_enrichment(
    codes: Int64[np.ndarray, " n"], carried: csr_matrix
) -> tuple[Int64[np.ndarray, "c t"], Float64[np.ndarray, "c t"]]:
    """How many rows of each group have each term, and the probability of as many by chance (hypergeometric).

    `codes`: the group of each row.
    """
    inside = csr_matrix((np.ones(len(codes)), (codes, np.arange(len(codes)))))
    there = csr_matrix(inside @ carried).toarray().astype(np.int64)
    size, whole = (np.asarray(each, np.int64) for each in (inside.sum(axis=1), carried.sum(axis=0)))
    return there, enrichment_p_values(there, whole, len(codes), size)


def find_terms(rows: Mapping[str, int], things: Collection[str] | None = None) -> list[str]:
    """The terms of labels, the most frequent first. `rows`: how many rows have each label."""
    named = head_runs(label for label in rows if things is None or label in things)
    counts: Counter[str] = Counter()
    for label, count in rows.items():
        for run in word_runs(label).keys() & named:
            counts[run] += count
    shorter = {
        part for term in counts for part in term_parts(term) if counts[term] >= LONGER_SHARE * counts.get(part, np.inf)
    }
    found = (term for term in counts.keys() - shorter if counts[term] > 1)
    return sorted(found, key=lambda term: (-counts[term], term))[:MOST_TERMS]


def head_runs(labels: Iterable[str]) -> set[str]:
    """The runs that name a thing: whole labels, and runs that labels often end in ("raised fist", not "raised")."""
    within, last, whole = Counter[str](), Counter[str](), set[str]()
    for label in labels:
        for run, ends in word_runs(label).items():
            within[run] += 1
            last[run] += ends
        whole.add(label.lower())
    return {run for run, count in within.items() if run in whole or last[run] >= HEAD_SHARE * count}


def word_runs(label: str) -> dict[str, bool]:
    """The runs of distinct words in a label, and whether a thing's name ends with each.

    No run begins or ends with one of STOP_WORDS. A name ends at the end of the label and before a preposition: in "pot
    of food", with "pot" and with "food". In a sentence, any word may be a name.
    """
    found = {label.lower(): True} if 0 < len(label.split()) <= TERM_WORDS else {}
    sentence = len(label.split()) >= SENTENCE_WORDS
    for part in _BREAK.split(label.lower()):
        words = part.split()
        sound = [bool(_WORD.fullmatch(word)) and word not in STOP_WORDS for word in words]
        for start, end in word_spans(len(words), 1 if sentence else TERM_WORDS):
            run = " ".join(words[start:end])
            if sound[start] and sound[end - 1] and len(run) > 2 and len(set(words[start:end])) == end - start:
                found[run] = found.get(run, sentence) or end == len(words) or words[end] in PREPOSITIONS
    return found


def word_spans(count: int, longest: int = TERM_WORDS) -> Iterator[tuple[int, int]]:
    """Start and end of every run of at most `longest` of `count` words."""
    return ((start, end) for start in range(count) for end in range(start + 1, min(start + longest, count) + 1))


def term_parts(term: str) -> list[str]:
    """The shorter runs of words inside a term."""
    words = term.split()
    return [" ".join(words[start:end]) for start, end in word_spans(len(words)) if end - start < len(words)]


def plain_names(labels: Sequence[str]) -> list[str]:
    """Labels without the words that only vary a thing: see `variations`."""
    distinct = dict.fromkeys(labels)
    found = variations({label.lower() for label in distinct})
    if not found:
        return list(labels)
    longest_first = "|".join(re.escape(tail) for tail in sorted(found, key=len, reverse=True))
    tail = re.compile(rf"(?<!\S)(?:{longest_first})(?!\S)", re.IGNORECASE)
    plain = {label: " ".join(tail.sub("", label).split()).rstrip(",:") or label for label in distinct}
    return [plain[label] for label in labels]


def variations(labels: Collection[str]) -> list[str]:
    """The last words of many labels, nearly all of which are labels without them too.

    "medium skin tone" is one, because "fist" and "hand" are labels without it; "face" is none, because most labels that
    end in it are no labels without it.
    """
    last, spare = Counter[str](), Counter[str]()
    for label in labels:
        words = label.split()
        for at in range(1, len(words)) if len(words) < SENTENCE_WORDS else ():
            tail, rest = " ".join(words[at:]), " ".join(words[:at])
            last[tail] += 1
            spare[tail] += rest in labels or rest.rstrip(",:") in labels
    return [
        tail
        for tail, count in spare.items()
        if count >= max(LEAST_VARIANTS, VARIED_SHARE * len(labels), LONGER_SHARE * last[tail])
    ]


def runs_of_labels(labels: Iterable[str]) -> Counter[str]:
    """How many labels have each run of words."""
    counts: Counter[str] = Counter()
    for label, count in Counter(labels).items():
        counts.update(dict.fromkeys(word_runs(label), count))
    return counts
