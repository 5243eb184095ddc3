"""A card for every neuron: static, small, readable without JavaScript."""

from typing import Any

from atlas.pages.frame import Frame
from atlas.pages.histogram import histogram
from atlas.pages.neurons import Neurons
from atlas.pages.rows import Picture

IMAGES, WORDS, BUCKET, NEAR, TEXTS = 12, 16, 3, 5, 8  # how many of each a card shows


def write_cards(frame: Frame, neurons: Neurons) -> None:
    """Write neurons/0000.html and so on."""
    (frame.folder / "neurons").mkdir()
    covers = [_cover(neurons, i) for i in range(len(neurons))]
    labels = [neurons.label(i) for i in range(len(neurons))]
    for neuron in range(len(neurons)):
        frame.render(
            "card.html",
            f"neurons/{address(neuron)}",
            neuron=neuron,
            label=labels[neuron],
            previous=address(neuron - 1) if neuron else None,
            following=address(neuron + 1) if neuron + 1 < len(neurons) else None,
            stats={kind: table[neuron] for kind, table in neurons.stats.items()},
            tails=_tails(neurons, neuron),
            words=_words(neurons, neuron),
            histogram=histogram({kind: table[neuron] for kind, table in neurons.stats.items()}),
            buckets=_buckets(neurons, neuron),
            near=[
                (title, [(n, address(n), labels[n], covers[n]) for n in found])
                for title, found in _near(neurons, neuron)
            ],
            texts=_texts(neurons, neuron),
        )


def address(neuron: int) -> str:
    """The page of a neuron, in the folder neurons."""
    return f"{neuron:04d}.html"


def _cover(neurons: Neurons, neuron: int) -> Picture:
    kind = "image" if "image" in neurons.stats else "word"
    return neurons.rows.picture(neurons.stats[kind][neuron]["top"][0])


def _tails(neurons: Neurons, neuron: int) -> list[tuple[str, list[Picture]]]:
    if "image" not in neurons.stats:
        return []
    named = (("Images it answers to most", "top"), ("Images it answers to least", "bottom"))
    return [(title, neurons.pictures("image", neuron, tail, IMAGES)) for title, tail in named]


def _words(neurons: Neurons, neuron: int) -> list[tuple[str, list[tuple[str, float]]]]:
    if "word" not in neurons.stats:
        return []
    stat, labels = neurons.stats["word"][neuron], neurons.rows.labels
    named = (("Words it answers to most", "top"), ("Words it answers to least", "bottom"))
    return [
        (title, [(labels[r], v) for r, v in zip(stat[tail][:WORDS], stat[f"{tail}_value"][:WORDS], strict=True)])
        for title, tail in named
    ]


def _buckets(neurons: Neurons, neuron: int) -> list[dict[str, Any]]:
    """Images from each tenth of the range of activations, with the tenth's middle in standard deviations."""
    if "image" not in neurons.stats:
        return []
    stat = neurons.stats["image"][neuron]
    step = (stat["max"] - stat["min"]) / len(stat["reservoir"])
    found = []
    for i, rows in enumerate(stat["reservoir"]):
        low = stat["min"] + i * step
        deviations = (low + step / 2 - stat["mean"]) / stat["std"] if stat["std"] > 0 else 0.0
        pictures = [neurons.rows.picture(row) for row in rows[:BUCKET]]
        found.append({"low": low, "deviations": deviations, "pictures": pictures})
    return found


def _near(neurons: Neurons, neuron: int) -> list[tuple[str, list[int]]]:
    if neurons.near is None:
        return []
    named = (("By what they write into the embedding", "by_basis"), ("By the images they answer to", "by_response"))
    return [(title, neurons.near[neuron][column][:NEAR]) for title, column in named]


def _texts(neurons: Neurons, neuron: int) -> list[tuple[str, float]]:
    if neurons.texts is None:
        return []
    row = neurons.texts[neuron]
    return list(zip(row["texts"][:TEXTS], row["score"][:TEXTS], strict=True))
