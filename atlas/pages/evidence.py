"""What a card's script shows of a neuron beside what stands in the card: JSON, in shards that many cards share.

A shard holds SHARD neurons, one text each, and what is known of every row that they mention: sheet, cell and name.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from atlas.analysis.stats import PER_BUCKET
from atlas.formatting import display_text, format_difference, format_p, json_number
from atlas.pages import columns
from atlas.pages.frame import Frame, command
from atlas.pages.neurons import Neurons
from atlas.pages.thumbnails import pictured

SHARD = 64  # neurons in a file: what opening one card reads
TOP, BOTTOM, BAND, WORDS, NEAR, TEXTS = 24, 12, 6, 16, 6, 8  # how many of each a card shows
BINS = 32  # bars of a histogram: finer than this only looks ragged
STRIP = 6  # pictures of a facet
NAME = 60  # letters of a picture's name
PICTURED = ("pictures", "rows", "top")  # columns of facets and receipts that hold rows of the Store

FACET = {"label", "p", "q", "size", "rows"}
RECEIPT = {"concept", "act", "effect", "low", "high", "p", "control", "confirmed"}  # columns of a causal check
ACTS = {"raise": "raised", "ablate": "silenced"}

Card = dict[str, Any]


def shard_of(neuron: int) -> str:
    """The shard, data/NAME.js, in which a neuron is."""
    return f"cards-{neuron // SHARD:03d}"


def write_evidence(frame: Frame, neurons: Neurons) -> None:
    """Write data/cards-000.js and so on."""
    about = json.dumps(common(frame, neurons), ensure_ascii=False)
    for start in range(0, len(neurons), SHARD):
        cards = [evidence_card(neurons, i) for i in range(start, min(start + SHARD, len(neurons)))]
        texts = [json.dumps(one, ensure_ascii=False, separators=(",", ":"), allow_nan=False) for one in cards]
        frame.write_data(shard_of(start), {"card": texts, "about": [about], **known(neurons, cards)})


def common(frame: Frame, neurons: Neurons) -> dict[str, Any]:
    """What every card says: how to get its numbers again, and what was not made of this Store."""
    store, model = frame.store, frame.store.request["model"]
    place = f"outputs/{store.path.name}"
    facts = {
        "Model": f"{model['name']} ({model['pretrained']})" if model.get("pretrained") else model["name"],
        "Weights": f"sha256 {model['weights_sha256']}",
        "Layer": store.layer,
        "Store": f"sha256 {store.digest}",
    }
    python = f"python -c 'import atlas; print(atlas.Neuron(atlas.Store.open(\"{place}\"), {{}}).stats)'"
    starts = [shard.start for shard in pictured(store)]  # the first row of every sheet
    found = {"facts": facts, "commands": [command(store), python], "absent": absent(neurons, place)}
    return found | {"shard": SHARD, "starts": starts}


def absent(neurons: Neurons, place: str) -> list[tuple[str, str]]:
    """What this Store does not hold, and the command that makes it."""
    parts = (
        ("labels with their p-values", neurons.claims, f"decompose label {place}"),
        ("facets", neurons.facets, f"decompose label {place}"),
        ("receipts (does raising the neuron raise its label?)", neurons.receipts, f"decompose label {place}"),
        ("neighbours", neurons.near, f"atlas stats {place}"),
    )
    found = [(what, make) for what, table, make in parts if table is None]
    counts = neurons.frame.store.counts
    spare = (("image", "images", "emoji"), ("word", "words", "words"), ("text", "texts", "texts"))
    return found + [(what, f"atlas collect {source} {place}") for kind, what, source in spare if kind not in counts]


def evidence_card(neurons: Neurons, neuron: int) -> Card:
    """Everything about one neuron, figures rounded to four digits."""
    found: Card = {"kinds": {kind: _kind(neurons, kind, table[neuron]) for kind, table in neurons.stats.items()}}
    if neurons.near:
        found["near"] = {
            by: [[n, neurons.label(n), neurons.cover(n)] for n in neurons.near[neuron][f"by_{by}"][:NEAR]]
            for by in ("response", "basis")
        }
    if neurons.texts:
        row = neurons.texts[neuron]
        found["texts"] = [[text, json_number(score)] for text, score in zip(row["texts"], row["score"], strict=True)][
            :TEXTS
        ]
    if neurons.facets and neuron in neurons.facets:
        found["facets"] = [list(facet_entry(row).items()) for row in neurons.facets[neuron]]
    if neurons.receipts and neuron in neurons.receipts:
        rows = sorted(neurons.receipts[neuron], key=lambda row: (not row.get("confirmed"), row.get("p") or 0.0))
        found["receipts"] = [list(receipt_entry(row).items()) for row in rows]
    return found


def facet_entry(row: dict[str, Any]) -> dict[str, Any]:
    """A group of the strongest images in words: what it is about, how sure that is, how many they are and which."""
    if not set(row) >= FACET:
        return {name: _cell(name, value) for name, value in row.items()}
    sure = {"p": format_p(row["p"]), "q": format_p(row["q"])}
    return {"about": display_text(row["label"]), **sure, "images": row["size"], "pictures": _cell("rows", row["rows"])}


def receipt_entry(row: dict[str, Any]) -> dict[str, Any]:
    """A causal check in words: what was done to the neuron, and what that did to the concept's score."""
    if not set(row) >= RECEIPT:
        return {name: _cell(name, value) for name, value in row.items()}
    interval = (
        f"{format_difference(row['effect'])} ({format_difference(row['low'])} to {format_difference(row['high'])})"
    )
    return {
        "concept": display_text(row["concept"]),
        "neuron was": ACTS.get(row["act"], row["act"]),
        "effect on the score (95 %)": interval,
        "matched neurons": format_difference(row["control"]),
        "p": format_p(row["p"]),
        "confirmed": "yes" if row["confirmed"] else "no",
    }


def _kind(neurons: Neurons, kind: str, stat: dict[str, Any]) -> Card:
    shown = {"top": TOP, "bottom": BOTTOM} if kind == "image" else {"top": WORDS, "bottom": WORDS}
    found: Card = {name: json_number(stat[name]) for name in ("count", "mean", "std", "skew", "min", "max")}
    found["monosemanticity"] = json_number(stat["monosemanticity"])
    counts = np.array(stat["counts"])
    found["counts"] = counts.reshape(BINS, -1).sum(1).tolist() if len(counts) % BINS == 0 else counts.tolist()
    for tail, k in shown.items():
        rows, values = stat[tail][:k], map(json_number, stat[f"{tail}_value"][:k])
        at = (neurons.position(row, stat["neuron"]) if kind == "image" else None for row in rows)
        found[tail] = [list(entry) for entry in zip(rows, values, at, strict=True)]
    found["bands"] = [
        {"rows": rows[:BAND], "count": len(rows) if len(rows) < PER_BUCKET else max(PER_BUCKET, round(about))}
        for rows, about in zip(stat["reservoir"], rebinned(counts, len(stat["reservoir"])), strict=True)
    ]
    return found


def rebinned(counts: np.ndarray, bands: int) -> np.ndarray:
    """Counts (bins,) gathered into fewer equal bands (bands,), a bin that two bands share split between them."""
    total = np.concatenate([[0.0], np.cumsum(counts)])
    return np.diff(np.interp(np.linspace(0, len(counts), bands + 1), np.arange(len(counts) + 1), total))


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, float):
        return json_number(value)
    if not isinstance(value, list):
        return value
    return [_cell(name, each) for each in (value[:STRIP] if name in PICTURED else value)]


def known(neurons: Neurons, cards: Iterable[Card]) -> dict[str, columns.Column]:
    """Columns of the rows that some cards mention: row, sheet (-1: none), and codes into names and styles.

    The cell of a row is how far it is from the first of its sheet, which `common` lists.
    """
    rows = np.array(sorted({row for one in cards for row in _mentioned(one)}), np.int64)
    names, styles = zip(*(_name(neurons, row) for row in rows.tolist()), strict=True) if len(rows) else ((), ())
    found: dict[str, columns.Column] = {"row": rows.astype(np.uint32)}
    found["name"], found["names"] = columns.encode_levels(names)
    found["style"], found["styles"] = columns.encode_levels(styles)
    return {**found, "sheet": neurons.rows.places[0][rows].astype(np.int16)}


def _mentioned(one: Card) -> Iterator[int]:
    for kind in one["kinds"].values():
        yield from (row for tail in ("top", "bottom") for row, *_ in kind[tail])
        yield from (row for band in kind["bands"] for row in band["rows"])
    yield from (row for near in one.get("near", {}).values() for *_, row in near)
    tables = (row for name in ("facets", "receipts") for row in one.get(name, ()))
    yield from (
        each for row in tables for key, value in row if key in PICTURED and isinstance(value, list) for each in value
    )


def _name(neurons: Neurons, row: int) -> tuple[str, str]:
    """A picture's name and style; of a word the word alone, being averaged over its fonts."""
    is_word = row in neurons.words
    name = neurons.rows.labels[row] if is_word else neurons.rows.names[row]
    cut = name if len(name) <= NAME else name[: NAME - 1].rstrip() + "…"
    return cut, "" if is_word else neurons.rows.groups[row]
