"""What the script of a card shows: JSON in data files that CARDS_A_SCRIPT cards share.

A file holds a text for each neuron, and sheet, cell and name of every row that they mention.
"""

import json
import shlex
from collections.abc import Iterable, Iterator

import numpy as np

from atlas.analysis.stats import PER_BUCKET
from atlas.formatting import Record, display_text, format_difference, format_p, json_number
from atlas.pages import columns
from atlas.pages.frame import CARDS_A_SCRIPT, StoreFrame, card_file, card_table
from atlas.pages.neurons import Neurons
from atlas.pages.provenance import model_text, rebuild_command, store_place
from atlas.pages.thumbnails import pictured_shards

STRONGEST_SHOWN, WEAKEST_SHOWN, BAND_SHOWN, WORDS_SHOWN, NEIGHBOURS_SHOWN, TEXTS_SHOWN = (
    24,
    12,
    6,
    16,
    6,
    8,
)  # how many of each a card shows
HISTOGRAM_BARS = 32  # bars of a histogram
STRIP_PICTURES = 6  # pictures of a facet
NAME_LETTERS = 60  # letters of a picture's name
ROW_COLUMNS = ("pictures", "rows", "top")  # columns of facets and receipts that hold rows of the Store

FACET_COLUMNS = {"label", "p", "q", "size", "rows"}
_RECEIPT_FIELDS = {"concept", "act", "effect", "low", "high", "p", "control", "confirmed"}  # columns of a causal check
ACT_TEXTS = {"raise": "raised", "ablate": "silenced"}


def write_evidence(frame: StoreFrame, neurons: Neurons) -> None:
    """Write data/cards-000.js and so on."""
    about = json.dumps(shared_facts(frame, neurons), ensure_ascii=False)
    for start in range(0, len(neurons), CARDS_A_SCRIPT):
        cards = [evidence_card(neurons, i) for i in range(start, min(start + CARDS_A_SCRIPT, len(neurons)))]
        texts = [json.dumps(one, ensure_ascii=False, separators=(",", ":"), allow_nan=False) for one in cards]
        frame.write_data(card_table(start), {"card": texts, "about": [about], **mentioned_rows(neurons, cards)})


def shared_facts(frame: StoreFrame, neurons: Neurons) -> Record:
    """What every card shares: facts, commands that compute its numbers, what the Store lacks, and the files' layout."""
    store = frame.store
    place = store_place(store)
    facts = {
        "Model": model_text(store),
        "Weights": f"sha256 {store.request['model']['weights_sha256']}",
        "Layer": store.layer,
        "Store": f"sha256 {store.digest}",
    }
    python = f"import atlas; print(atlas.Neuron(atlas.Store.open({place!r}), {{}}).stats)"
    figure = f"atlas figure {shlex.quote(place)} {{}} --to neuron.pdf"
    starts = [shard.start for shard in pictured_shards(store)]  # the first row of every sheet
    found = {
        "facts": facts,
        "commands": [rebuild_command(store), f"python -c {shlex.quote(python)}", figure],
        "absent": missing_parts(neurons, shlex.quote(place)),
    }
    layout = {"shard": CARDS_A_SCRIPT, "starts": starts, "file": card_file(0), "pictured": ROW_COLUMNS}
    return found | layout | {"exact": PER_BUCKET}  # counts up to PER_BUCKET are exact


def missing_parts(neurons: Neurons, place: str) -> list[tuple[str, str]]:
    """What the Store lacks, each with the command that makes it."""
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


def evidence_card(neurons: Neurons, neuron: int) -> Record:
    """Everything about one neuron, numbers rounded to four digits."""
    found: Record = {"kinds": {kind: _kind(neurons, kind, table[neuron]) for kind, table in neurons.stats.items()}}
    if neurons.near:
        found["near"] = {
            by: [[n, neurons.label(n), neurons.cover(n)] for n in neurons.near[neuron][f"by_{by}"][:NEIGHBOURS_SHOWN]]
            for by in ("response", "basis")
        }
    if neurons.texts:
        row = neurons.texts[neuron]
        found["texts"] = [[text, json_number(score)] for text, score in zip(row["texts"], row["score"], strict=True)][
            :TEXTS_SHOWN
        ]
    if neurons.facets and neuron in neurons.facets:
        found["facets"] = [list(facet_entry(row).items()) for row in neurons.facets[neuron]]
    if neurons.receipts and neuron in neurons.receipts:
        rows = sorted(neurons.receipts[neuron], key=lambda row: (not row.get("confirmed"), row.get("p") or 0.0))
        found["receipts"] = [list(receipt_entry(row).items()) for row in rows]
    return found


def facet_entry(row: Record) -> Record:
    """A cluster of the strongest images as columns of a table: its label, p, q, size and images."""
    if not set(row) >= FACET_COLUMNS:
        return {name: _cell(name, value) for name, value in row.items()}
    sure = {"p": format_p(row["p"]), "q": format_p(row["q"])}
    return {"about": display_text(row["label"]), **sure, "images": row["size"], "pictures": _cell("rows", row["rows"])}


def receipt_entry(row: Record) -> Record:
    """A causal check as columns of a table: the act on the neuron, and the change of the concept's score."""
    if not set(row) >= _RECEIPT_FIELDS:
        return {name: _cell(name, value) for name, value in row.items()}
    interval = (
        f"{format_difference(row['effect'])} ({format_difference(row['low'])} to {format_difference(row['high'])})"
    )
    found = {
        "concept": display_text(row["concept"]),
        "neuron was": ACT_TEXTS.get(row["act"], row["act"]),
        "effect on the score (95 %)": interval,
        "predicted": format_difference(row["predicted"]) if "predicted" in row else None,
        "matched neurons": format_difference(row["control"]),
        "their push": f"{row['balance']:.2f}" if "balance" in row else None,
        "images": row.get("images"),
        "p": format_p(row["p"]),
        "q": format_p(row["q"]) if "q" in row else None,
        "confirmed": "yes" if row["confirmed"] else "no",
    }
    return {name: value for name, value in found.items() if value is not None}  # receipts of earlier versions have less


def _kind(neurons: Neurons, kind: str, stat: Record) -> Record:
    lengths = (
        {"top": STRONGEST_SHOWN, "bottom": WEAKEST_SHOWN}
        if kind == "image"
        else {"top": WORDS_SHOWN, "bottom": WORDS_SHOWN}
    )
    found: Record = {name: json_number(stat[name]) for name in ("count", "mean", "std", "skew", "min", "max")}
    found["monosemanticity"] = json_number(stat["monosemanticity"])
    counts = np.array(stat["counts"])
    found["counts"] = (
        counts.reshape(HISTOGRAM_BARS, -1).sum(1).tolist() if len(counts) % HISTOGRAM_BARS == 0 else counts.tolist()
    )
    for tail, k in lengths.items():
        shown = neurons.rows.distinct(stat[tail], k) if kind == "image" else range(min(k, len(stat[tail])))
        found[tail] = [
            [
                row := stat[tail][at],
                json_number(stat[f"{tail}_value"][at]),
                neurons.peak(row, stat["neuron"]) if kind == "image" else None,
                at + 1,
            ]
            for at in shown
        ]
    found["bands"] = [
        {"rows": rows[:BAND_SHOWN], "count": len(rows) if len(rows) < PER_BUCKET else max(PER_BUCKET, round(about))}
        for rows, about in zip(stat["reservoir"], rebin_counts(counts, len(stat["reservoir"])), strict=True)
    ]
    return found


def rebin_counts(counts: np.ndarray, bands: int) -> np.ndarray:
    """Counts (bins,) summed into fewer bands of equal width (bands,); a bin that two bands share is split."""
    total = np.concatenate([[0.0], np.cumsum(counts)])
    return np.diff(np.interp(np.linspace(0, len(counts), bands + 1), np.arange(len(counts) + 1), total))


def _cell(name: str, value: object) -> object:
    if isinstance(value, float):
        return json_number(value)
    if not isinstance(value, list):
        return value
    return [_cell(name, each) for each in (value[:STRIP_PICTURES] if name in ROW_COLUMNS else value)]


def mentioned_rows(neurons: Neurons, cards: Iterable[Record]) -> dict[str, columns.Column]:
    """Columns of the rows that some cards mention: row, sheet (-1: none), and codes into names and styles.

    The cell of a row is its distance to the first row of its sheet, which `shared_facts` lists.
    """
    rows = np.array(sorted({row for one in cards for row in _mentioned(one)}), np.int64)
    names, styles = zip(*(_name(neurons, row) for row in rows.tolist()), strict=True) if len(rows) else ((), ())
    found: dict[str, columns.Column] = {"row": rows.astype(np.uint32)}
    found["name"], found["names"] = columns.encode_levels(names)
    found["style"], found["styles"] = columns.encode_levels(styles)
    return {**found, "sheet": neurons.rows.places[0][rows].astype(np.int16)}


def _mentioned(one: Record) -> Iterator[int]:
    for kind in one["kinds"].values():
        yield from (row for tail in ("top", "bottom") for row, *_ in kind[tail])
        yield from (row for band in kind["bands"] for row in band["rows"])
    yield from (row for near in one.get("near", {}).values() for *_, row in near)
    tables = (row for name in ("facets", "receipts") for row in one.get(name, ()))
    yield from (
        each for row in tables for key, value in row if key in ROW_COLUMNS and isinstance(value, list) for each in value
    )


def _name(neurons: Neurons, row: int) -> tuple[str, str]:
    """Name and style of a row; of a word no style, because it is averaged over fonts."""
    is_word = row in neurons.words
    name = neurons.rows.labels[row] if is_word else neurons.rows.names[row]
    cut = name if len(name) <= NAME_LETTERS else name[: NAME_LETTERS - 1].rstrip() + "…"
    return cut, "" if is_word else neurons.rows.groups[row]
