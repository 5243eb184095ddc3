"""The neurons that the opening page shows, chosen by evidence: each responds to one thing drawn, written and told."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from atlas.analysis.phrases import word_runs
from atlas.formatting import display_text
from atlas.pages.neurons import Neurons
from atlas.pages.poster import pictures_of

EXAMPLES = 6
_CANDIDATES = 80  # the neurons with the most evidence, of which those farthest apart are shown
_LEAST_DRAWN = 0.5  # share of a neuron's strongest pictures that show the thing, of those that could
_FEWEST_DRAWN = 4
_FIRST_WORDS, _FIRST_TEXTS = 3, 12  # among which the thing must be, to count


@dataclass(frozen=True)
class Example:
    """A neuron and the thing that it responds to, with the evidence.

    `drawn`: how many of its strongest pictures show the thing, of `pictures` that could. `word`, `text`: the rank of
    the thing, from 1, among its strongest rendered words, and among the texts nearest to what it writes; 0 where it is
    not among them. `switching`: what raising the neuron does to the score of the thing, and the same of matched ones.
    """

    neuron: int
    thing: str
    drawn: int
    pictures: int
    word: int
    text: int
    switching: tuple[float, float] | None

    @property
    def evidence(self) -> float:
        """How much speaks for it: 1 for all pictures, 1 for the first word, 1 for the first text, 1 for switching."""
        ranks = sum(1 / rank for rank in (self.word, self.text) if rank)
        return self.drawn / self.pictures + ranks + (self.switching is not None)

    def sentence(self) -> str:
        """The evidence in words."""
        found = [f"{self.drawn} of its strongest pictures show it, of {self.pictures} that could"]
        if self.word:
            found.append(
                "it is its strongest word" if self.word == 1 else f"it is among its {self.word} strongest words"
            )
        if self.text:
            found.append(f"it is the {ordinal(self.text)} of the texts nearest to what it writes")
        return "; ".join(found) + "."


def ordinal(number: int) -> str:
    """A number as first, second, third, 4th and so on."""
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def choose_examples(neurons: Neurons, places: Float[np.ndarray, "u 2"] | None = None) -> list[Example]:
    """The neurons with the most evidence, at most `EXAMPLES`, of different things and far apart among the neurons.

    A neuron counts if half of its strongest pictures show the thing and it is among its strongest words or texts.
    """
    if neurons.kind != "image" or not neurons.rows.names.telling:
        return []
    found = [example for i in range(len(neurons)) if (example := find_example(neurons, i))]
    found = sorted(found, key=lambda example: -example.evidence)[:_CANDIDATES]
    chosen: list[Example] = []
    while found and len(chosen) < EXAMPLES:
        best = found[0] if not chosen else max(found, key=lambda one: _distance(one, chosen, places) * one.evidence)
        chosen.append(best)
        words = set(best.thing.split())
        found = [one for one in found if one.neuron != best.neuron and not words & set(one.thing.split())]
    return chosen


def _distance(one: Example, chosen: list[Example], places: Float[np.ndarray, "u 2"] | None) -> float:
    if places is None:
        return 1.0
    return float(np.linalg.norm(places[[other.neuron for other in chosen]] - places[one.neuron], axis=1).min())


def find_example(neurons: Neurons, neuron: int) -> Example | None:
    """The thing with the most evidence for a neuron; None where none has enough."""
    words = [word.casefold() for word in _listed_words(neurons, neuron)]
    texts = [text.casefold() for text in neurons.texts[neuron]["texts"][:_FIRST_TEXTS]] if neurons.texts else []
    things = [name.casefold() for name in neurons.significant(neuron)] + words
    things += [neurons.rows.labels[row].casefold() for row in neurons.stats["image"][neuron]["top"][:1]]
    found = []
    for thing in dict.fromkeys(things):
        drawn, most = pictures_of(neurons, neuron, thing)
        word = words.index(thing) + 1 if thing in words else 0
        text = next((rank for rank, name in enumerate(texts, 1) if thing in word_runs(name)), 0)
        if len(thing) > 2 and drawn >= max(_FEWEST_DRAWN, _LEAST_DRAWN * most) and (word or text):
            found.append(Example(neuron, thing, drawn, most, word, text, _switching(neurons, neuron, thing)))
    return max(found, key=lambda example: example.evidence, default=None)


def _listed_words(neurons: Neurons, neuron: int) -> list[str]:
    return neurons.named("word", neuron, _FIRST_WORDS) if "word" in neurons.stats else []


def _switching(neurons: Neurons, neuron: int, thing: str) -> tuple[float, float] | None:
    """The effect of raising the neuron on the thing's score, and that of matched neurons, where it was confirmed."""
    for row in (neurons.receipts or {}).get(neuron, ()):
        known = {"concept", "act", "effect", "control", "confirmed"} <= set(row)
        if known and row["act"] == "raise" and row["confirmed"] and display_text(row["concept"]).casefold() == thing:
            return float(row["effect"]), float(row["control"])
    return None
