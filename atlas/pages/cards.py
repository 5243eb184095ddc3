"""A card for every neuron: its label, images, words and neighbours in the page, the rest from a shard of evidence.

A card weighs little because what it shares it does not hold: style, script and sheets are the site's, and figures lie
packed, many neurons a file (`atlas.pages.evidence`). Without JavaScript the card's own part remains.
"""

from typing import Any

from atlas.formatting import display_text
from atlas.pages.evidence import shard_of, write_evidence
from atlas.pages.frame import Frame
from atlas.pages.neurons import NONE, Neurons

IMAGES, WORDS, NEAR = 12, 12, 5  # how many of each stand in the page itself
DRAWN, REACHED = "drawn", ("reached", "strongest")


def write_cards(frame: Frame, neurons: Neurons) -> None:
    """Write neurons/0000.html and so on, and data/cards-000.js and so on."""
    (frame.folder / "neurons").mkdir()
    map_page = "map.html" if "map.html" in frame.pages else "index.html"
    for neuron in range(len(neurons)):
        context = {"neuron": neuron, "last": len(neurons) - 1, "shard": shard_of(neuron), "map_page": map_page}
        context["drawings"] = _drawing_entries(frame, neurons, neuron)
        frame.render("card.html", f"neurons/{address(neuron)}", **context, **card_context(neurons, neuron))
    write_evidence(frame, neurons)


def address(neuron: int) -> str:
    """The page of a neuron, in the folder neurons."""
    return f"{neuron:04d}.html"


def card_context(neurons: Neurons, neuron: int) -> dict[str, Any]:
    """What stands in the card itself."""
    claims = neurons.claims.get(neuron, []) if neurons.claims is not None else None
    near = neurons.near[neuron]["by_response"][:NEAR] if neurons.near else []
    return {
        "label": neurons.label(neuron),
        "claims": None if claims is None else [_claim(row) for row in claims if row["label"] not in (None, "", NONE)],
        "kind": neurons.kind,
        "pictures": neurons.pictures(neurons.kind, neuron, IMAGES),
        "words": neurons.named("word", neuron, WORDS) if "word" in neurons.stats else [],
        "near": [(n, address(n)) for n in near],
    }


def _drawing_entries(frame: Frame, neurons: Neurons, neuron: int) -> list[dict[str, Any]]:
    """Write a neuron's drawings beside its card: where each lies, the theme, what it reaches and what images do."""
    hung = []
    for number, row in enumerate((neurons.drawings or {}).get(neuron, ())):
        path = frame.folder / "neurons" / DRAWN / f"{neuron:04d}-{number}.webp"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(row["image"])
        hung.append({"at": f"{DRAWN}/{path.name}", "theme": display_text(row["theme"]), **{k: row[k] for k in REACHED}})
    return hung


def _claim(row: dict[str, Any]) -> dict[str, Any]:
    evidence = row.get("evidence") or ""
    named = evidence if isinstance(evidence, str) else ", ".join(map(str, evidence))
    return {"label": display_text(row["label"]), "evidence": display_text(named), "p": row["p"], "q": row.get("q")}
