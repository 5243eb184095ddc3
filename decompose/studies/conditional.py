"""P(category | activation): what a neuron's images are, from its lowest to its highest activation (Goh et al. 2021).

Stimuli are drawn evenly from uniform buckets between the extremes, so that rare activations count as much as common
ones. Activations are in standard deviations from zero, as the paper draws them: not centred.

    n stimuli    b buckets    c categories    counts (b, c)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from atlas.analysis import parts
from atlas.analysis.significance import p_values
from atlas.errors import Refused
from atlas.store.store import Store
from decompose.renderings import display_texts, without_tone
from decompose.studies.rates import wilson_intervals

_DRAWS = 999  # shuffles of the null
OTHER_CATEGORY = "other"


@dataclass(frozen=True)
class Conditional:
    """Counts of stimuli by bucket of activation and by category."""

    edges: Float[np.ndarray, " e"]  # of the buckets, in raw activation: one more than buckets
    deviation: float  # of the neuron's activation; edges over this are the plot's x
    categories: tuple[str, ...]
    counts: Int[np.ndarray, "b c"]
    p: float | None = None  # of no relation between category and bucket, by shuffles; None where only counts are known
    shuffled: float | None = None  # mean information with the categories shuffled
    untrained: tuple[float, float] | None = None  # information: median and 95th percentile of an untrained network's
    p_untrained: float | None = None  # rank of the information among an untrained network's neurons

    @property
    def totals(self) -> Int[np.ndarray, " b"]:
        """The number of stimuli in each bucket."""
        return self.counts.sum(1)

    @property
    def shares(self) -> Float[np.ndarray, "b c"]:
        """P(category | bucket): sums to one over the categories; NaN in a bucket without stimuli."""
        with np.errstate(invalid="ignore"):
            return self.counts / self.totals[:, None]

    @cached_property
    def intervals(self) -> tuple[Float[np.ndarray, "b c"], Float[np.ndarray, "b c"]]:
        """Ends of the 95 % Wilson interval of each share."""
        return wilson_intervals(self.counts, self.totals[:, None])

    @property
    def information(self) -> float:
        """Mutual information of bucket and category, in bits."""
        return mutual_information(self.counts) / np.log(2)

    @property
    def x(self) -> Float[np.ndarray, " e"]:
        """Edges of the buckets in standard deviations from zero."""
        return self.edges / self.deviation

    def rows(self) -> list[dict[str, float | int | str | None]]:
        """One row a bucket and category, for JSON."""
        low, high = self.intervals
        return [
            {
                "from": float(self.x[b]),
                "to": float(self.x[b + 1]),
                "category": name,
                "count": int(self.counts[b, c]),
                "of": int(self.totals[b]),
                "share": float(self.shares[b, c]) if self.totals[b] else None,
                "share_low": float(low[b, c]),
                "share_high": float(high[b, c]),
            }
            for b in range(len(self.counts))
            for c, name in enumerate(self.categories)
        ]


@dataclass(frozen=True)
class Stimuli:
    """The stimuli of one neuron: rows of a Store by bucket."""

    neuron: int
    rows: Int[np.ndarray, " n"]
    bucket: Int[np.ndarray, " n"]
    edges: Float[np.ndarray, " e"]
    deviation: float


def conditional_shares(
    bucket: Int[np.ndarray, " n"],
    category: Int[np.ndarray, " n"],
    edges: Float[np.ndarray, " e"],
    deviation: float,
    categories: Sequence[str],
    seed: int = 0,
) -> Conditional:
    """Counts and P(category | bucket) of stimuli, with p from shuffles of the categories over the stimuli.

    The statistic is the mutual information of bucket and category. p is too small where stimuli resemble one another:
    any neuron, an untrained one too, responds alike to images that are alike. A category of -1 (unlabelled) is left
    out. Raises Refused if nothing is left, and for a neuron that does not vary.
    """
    if not deviation > 0:
        raise Refused("this neuron has the same activation everywhere, so there are no buckets")
    b, c, kept = len(edges) - 1, len(categories), category >= 0
    if not kept.any():
        raise Refused("no stimulus has a category; label some")
    bucket, category = bucket[kept], category[kept]
    counts, rng = joint_counts(bucket, category, b, c), np.random.default_rng(seed)
    shuffles = (joint_counts(bucket, rng.permutation(category), b, c) for _ in range(_DRAWS))
    null = np.array([mutual_information(each) for each in shuffles])
    p = p_values(np.array([mutual_information(counts) - 1e-12]), null)
    return Conditional(edges, deviation, tuple(categories), counts, float(p[0]), float(null.mean() / np.log(2)))


def joint_counts(
    bucket: Int[np.ndarray, " n"], category: Int[np.ndarray, " n"], b: int, c: int
) -> Int[np.ndarray, "b c"]:
    """How many of n stimuli are in each bucket and category."""
    return np.bincount(bucket * c + category, minlength=b * c).reshape(b, c)


def mutual_information(counts: Int[np.ndarray, "b c"]) -> float:
    """Mutual information of bucket and category, in nats."""
    joint = counts / max(counts.sum(), 1)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())


# -- stimuli and their categories --------------------------------------------------------------------------------------


def neuron_stimuli(store: Store, neuron: int, kind: str = "image") -> Stimuli:
    """The stimuli of a neuron: the rows that `atlas stats` kept in each bucket between its extremes."""
    table = pq.read_table(
        store.derived(parts.STATS) / f"{kind}.parquet", columns=["min", "max", "std", "reservoir"]
    ).slice(neuron, 1)
    if neuron < 0 or not len(table):
        raise Refused(
            f"neuron {neuron} is out of range; {store.path} has {store.array('max', kind).shape[1]:,} neurons"
        )
    row = table.to_pylist()[0]
    per_bucket: list[list[int]] = row["reservoir"]
    bucket = np.repeat(np.arange(len(per_bucket)), [len(each) for each in per_bucket])
    rows = np.array([i for each in per_bucket for i in each], np.int64)
    edges = np.linspace(row["min"], row["max"], len(per_bucket) + 1)
    return Stimuli(neuron, rows, bucket, edges, float(row["std"]))


def stored_categories(
    store: Store, rows: Int[np.ndarray, " n"], by: str = "label", most: int = 8
) -> tuple[Int[np.ndarray, " n"], list[str]]:
    """The category of each row by its label or group, without skin tones: the `most` frequent ones, and "other"."""
    table = store.table(["label", "caption", "group"]).take(rows)
    names = display_texts(table) if by == "label" else [text or "" for text in table["group"].to_pylist()]
    return frequent_categories([without_tone(name) for name in names], most)


def frequent_categories(names: Sequence[str], most: int) -> tuple[Int[np.ndarray, " n"], list[str]]:
    """Numbers of names: the `most` frequent ones by falling frequency, all others together as "other"."""
    counted: dict[str, int] = {}
    for name in names:
        counted[name] = counted.get(name, 0) + 1
    chosen = sorted(counted, key=lambda name: -counted[name])[:most]
    place = {name: i for i, name in enumerate(chosen)}
    categories = [*chosen, OTHER_CATEGORY] if len(counted) > most else chosen
    return np.array([place.get(name, len(chosen)) for name in names], np.int64), categories


def nearest_categories(E: Float[np.ndarray, "n e"], X: Float[np.ndarray, "c e"]) -> Int[np.ndarray, " n"]:
    """The category of each embedding: the word whose text embedding is nearest (zero-shot)."""
    return (E @ X.T).argmax(1)


def cohen_kappa(one: Int[np.ndarray, " n"], other: Int[np.ndarray, " n"]) -> float | None:
    """Cohen's kappa of two labellers on the stimuli that both labelled (>= 0); None if they share none.

    1 where both always give one and the same category, although chance alone would too.
    """
    both = (one >= 0) & (other >= 0)
    if not both.any():
        return None
    a, b = one[both], other[both]
    c = int(max(a.max(), b.max())) + 1
    expected = float((np.bincount(a, minlength=c) / len(a)) @ (np.bincount(b, minlength=c) / len(b)))
    agreed = float((a == b).mean())
    return 1.0 if expected == 1 else (agreed - expected) / (1 - expected)
