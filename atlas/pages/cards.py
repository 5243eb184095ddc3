"""A card for every neuron: label, images, words and neighbours in the page, all else in data that cards share.

Cards are small: style, script and sheets belong to the site, and numbers are packed, many neurons a file
(`atlas.pages.evidence`). Without JavaScript, a card shows what its page holds.
"""

from pathlib import Path

from atlas.analysis.naming import NONE
from atlas.formatting import Record, display_text
from atlas.pages.evidence import write_evidence
from atlas.pages.frame import MAP_PAGE, Page, StoreFrame, card_file, card_table
from atlas.pages.neurons import Neurons
from atlas.pages.poster import poster_name, poster_pictures, poster_sides, poster_ticks, poster_verdict

CARD_IMAGES, CARD_WORDS, CARD_NEIGHBOURS = 12, 12, 5  # how many the page itself shows
DRAWN_FOLDER, MEASURED_COLUMNS = "drawn", ("reached", "strongest", "kept", "seen")


def write_cards(frame: StoreFrame, neurons: Neurons) -> None:
    """Write neurons/0000.html and so on, and data/cards-000.js and so on."""
    (frame.folder / "neurons").mkdir()
    for neuron in range(len(neurons)):
        context: dict[str, object] = {
            "neuron": neuron,
            "last": len(neurons) - 1,
            "shard": card_table(neuron),
            "map_page": MAP_PAGE,
        }
        context["drawings"] = _drawing_entries(frame, neurons, neuron)
        frame.render(Page("card.html", f"neurons/{card_file(neuron)}", context | card_context(neurons, neuron)))
    write_evidence(frame, neurons)


def card_context(neurons: Neurons, neuron: int) -> dict[str, object]:
    """The names of the template of a card."""
    claims = neurons.claims.get(neuron, []) if neurons.claims is not None else None
    near = neurons.near[neuron]["by_response"][:CARD_NEIGHBOURS] if neurons.near else []
    return {
        "label": neurons.label(neuron),
        "name": poster_name(neurons, neuron),
        "claims": None if claims is None else [_claim(row) for row in claims if row["label"] not in (None, "", NONE)],
        "three": poster_pictures(neurons, neuron),
        "sides": poster_sides(neurons, neuron),
        "ticks": (ticks := poster_ticks(neurons, neuron)),
        "verdict": poster_verdict(ticks),
        "kind": neurons.kind,
        "pictures": neurons.pictures(neurons.kind, neuron, CARD_IMAGES),
        "words": neurons.named("word", neuron, CARD_WORDS) if "word" in neurons.stats else [],
        "near": near,
    }


def _drawing_entries(frame: StoreFrame, neurons: Neurons, neuron: int) -> list[Record]:
    """Write a neuron's feature visualisations beside its card; returns file, theme and activations of each."""
    written = []
    for number, row in enumerate((neurons.drawings or {}).get(neuron, ())):
        path = frame.folder / "neurons" / DRAWN_FOLDER / f"{Path(card_file(neuron)).stem}-{number}.webp"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(row["image"])
        written.append(
            {
                "at": f"{DRAWN_FOLDER}/{path.name}",
                "theme": display_text(row["theme"]),
                **{k: row.get(k) for k in MEASURED_COLUMNS},
            }
        )
    return written


def _claim(row: Record) -> Record:
    evidence = row.get("evidence") or ""
    named = evidence if isinstance(evidence, str) else ", ".join(map(str, evidence))
    return {"label": display_text(row["label"]), "evidence": display_text(named), "p": row["p"], "q": row.get("q")}
