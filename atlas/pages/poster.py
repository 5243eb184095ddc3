"""The head of a neuron's card: three large pictures, what it responds to, reads and writes, and the evidence in a line.

A neuron responds to what its strongest pictures show, reads the rendered words that activate it most, and writes the
texts nearest to its basis row. Its name is checked in three ways: by its pictures, by its words, and by switching it.
"""

from dataclasses import dataclass

from atlas.analysis.naming import NONE
from atlas.analysis.phrases import word_runs
from atlas.formatting import Record, display_text
from atlas.pages.neurons import Neurons
from atlas.pages.rows import Thumbnail

POSTER_PICTURES, POSTER_NAMES = 3, 3
TICK_WORDS = 12  # the name must be among so many of its strongest words
TICK_SHARE, TICK_PICTURES = 0.25, 2  # share of the pictures that could show it, and how many at least where there are
_NOTHING = "nothing that is significant"


@dataclass(frozen=True)
class Tick:
    """A check of a neuron's name: whether it `holds` (None: not tested), and the finding in words."""

    holds: bool | None
    text: str


def poster_name(neurons: Neurons, neuron: int) -> str:
    """The name of a neuron, as a guess where labels were tested and none holds by pictures and words."""
    claims = (neurons.claims or {}).get(neuron)
    guessed = claims and "responds_to" in claims[0] and not claims[0]["responds_to"]
    number = neurons.names[neuron].source == "number"
    return f"perhaps {neurons.label(neuron)}" if guessed and not number else neurons.label(neuron)


def poster_pictures(neurons: Neurons, neuron: int) -> list[Thumbnail]:
    """The strongest pictures of a neuron, each thing once."""
    top = neurons.stats[neurons.kind][neuron]["top"]
    return [neurons.rows.picture(top[at]) for at in neurons.rows.distinct(top, POSTER_PICTURES)]


def poster_sides(neurons: Neurons, neuron: int) -> list[tuple[str, str]]:
    """What a neuron responds to, reads and writes, in words; what is not known is left out."""
    claims = (neurons.claims or {}).get(neuron)
    tested: Record = claims[0] if claims else {}
    found = []
    if "responds_to" in tested:
        found.append(("Responds to", display_text(tested["responds_to"]) if tested["responds_to"] else _NOTHING))
    elif neurons.kind == "image" and neurons.rows.names.telling:
        top = neurons.stats["image"][neuron]["top"]
        shown = [neurons.rows.names[top[at]] for at in neurons.rows.distinct(top, POSTER_NAMES)]
        found.append(("Responds to", ", ".join(shown)))
    if "word" in neurons.stats:
        found.append(("Reads", ", ".join(neurons.named("word", neuron, POSTER_NAMES))))
    if "writes" in tested:
        found.append(("Writes", display_text(tested["writes"]) if tested["writes"] else _NOTHING))
    elif neurons.texts:
        found.append(("Writes", ", ".join(map(display_text, neurons.texts[neuron]["texts"][:POSTER_NAMES]))))
    return found


def poster_ticks(neurons: Neurons, neuron: int) -> list[Tick]:
    """Three checks of the first part of a neuron's name: by its pictures, by its words, by switching it."""
    name = neurons.names[neuron]
    if name.source == "number":
        return []
    thing = name.parts[0].casefold()
    return [_pictured(neurons, neuron, thing), _written(neurons, neuron, thing), _switched(neurons, neuron, thing)]


def poster_verdict(ticks: list[Tick]) -> str:
    """What the checks say of a neuron's name together, in one line; empty where none could be made."""
    made = [tick.holds for tick in ticks if tick.holds is not None]
    if not made:
        return ""
    held, of = sum(made), f"of {len(made)} check{'s' if len(made) > 1 else ''}"
    speaks = f"speak{'' if held > 1 else 's'} for this name"
    if held == len(made) > 1:
        return f"All {len(made)} checks speak for this name"
    doubt = "" if 2 * held > len(made) > 1 else ": doubt it"
    return f"{held or 'None'} {of} {speaks}{doubt}"


def pictures_of(neurons: Neurons, neuron: int, thing: str) -> tuple[int, int]:
    """How many of a neuron's strongest pictures show a thing, and how many could: as many as there are of it."""
    top = neurons.stats["image"][neuron]["top"]
    shown = sum(thing in word_runs(neurons.rows.names[row]) for row in top)
    return shown, min(len(top), neurons.rows.depicted[thing])


def _pictured(neurons: Neurons, neuron: int, thing: str) -> Tick:
    if neurons.kind != "image" or not neurons.rows.names.telling:
        return Tick(None, "pictures: without names")
    shown, could = pictures_of(neurons, neuron, thing)
    if not could:
        return Tick(None, f"pictures: none of “{thing}” in this atlas")
    holds = shown >= max(TICK_SHARE * could, min(could, TICK_PICTURES))
    return Tick(holds, f"{shown} of its strongest pictures show “{thing}”, of {could} that could")


def _written(neurons: Neurons, neuron: int, thing: str) -> Tick:
    if "word" not in neurons.stats:
        return Tick(None, "words: none in this atlas")
    words = [word.casefold() for word in neurons.named("word", neuron, TICK_WORDS)]
    if thing not in words:
        return Tick(False, f"“{thing}” is not among its {TICK_WORDS} strongest words")
    rank = words.index(thing) + 1
    place = "its strongest word" if rank == 1 else f"among its {rank} strongest words"
    return Tick(True, f"“{thing}” is {place}")


def _switched(neurons: Neurons, neuron: int, thing: str) -> Tick:
    rows = [
        row
        for row in (neurons.receipts or {}).get(neuron, ())
        if display_text(row.get("concept", NONE)).casefold() == thing and row.get("act", "raise") == "raise"
    ]
    if not rows:
        return Tick(None, "switching: not tested")
    if not any(row.get("confirmed") for row in rows):
        return Tick(False, "switching it does not confirm it")
    return Tick(True, "raising it changes its score, more than in matched neurons")
