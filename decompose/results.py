"""What the commands of `decompose` print, and the tables and pages that they write into a Store."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.console import print_table
from atlas.formatting import Record
from decompose.defaults import FALSE_RATE

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.store.store import Part, Store
    from decompose.components import Component
    from decompose.emotions import Study
    from decompose.equations import Equation

# Nothing heavy is imported here, so that `decompose --help` answers at once.

_DEFAULTS = (("rate", FALSE_RATE), ("seed", 0))  # options that a recorded command leaves out


# -- printed -----------------------------------------------------------------------------------------------------------


def equation_row(found: "Equation", share: float | None) -> Record:
    """An equation as JSON has it; `share` is the R^2 of the bilinear form."""
    row: Record = {"concept": found.concept, "kept": found.kept, "explained": share}
    row["terms"] = found.table().to_pylist()
    return row | ({"tried_with": found.receipts[0].templates} if found.receipts else {})


def print_equations(found: Sequence["Equation"], shares: Sequence[float | None], as_json: bool) -> None:
    """Print equations with their receipts, if they have any; `shares` are the R^2 of the bilinear form."""
    if as_json:
        print_table([equation_row(*each) for each in zip(found, shares, strict=True)], as_json)
        return
    for each, share in zip(found, shares, strict=True):
        of_form = "" if share is None else f"; R2 of the bilinear form {share:.2f}"
        print(f"{each}   ({each.kept:.0%} of the logit{of_form})")
        if each.receipts:
            print_table(each.acts())
            print(f"tried with {', '.join(each.receipts[0].templates)}\n")


def component_row(found: "Component") -> Record:
    """A component as a row of the printed table."""
    from decompose.components import telling_names

    return {
        "component": found.number,
        "share of images": found.share,
        "neurons": ", ".join(f"{'not ' if weight < 0 else ''}{neuron}" for neuron, weight in found.neurons),
        "images": ", ".join(telling_names(found.called)),
        "words": ", ".join(found.words[:6]),
    }


def short_receipts(rows: Sequence[Record]) -> list[Record]:
    """Neurons found by a search, with as many columns of their receipts as fit a line."""
    shown = ("neuron", "score", "q", "label")
    acts = [f"{act}_{name}" for act in ("raise", "ablate") for name in ("effect", "p", "confirmed")]
    return [{name: row[name] for name in (*shown, *acts)} for row in rows]


def print_study(found: "Study", as_json: bool) -> None:
    """Print a study of emotions: equations, agreement with the families, valence and arousal."""
    from decompose.families import verdict, verdict_in_figures

    agreements, affect = (table.to_pylist() if table else [] for table in (found.agreements, found.affect))
    if as_json:
        rows = [{"word": each.concept, "terms": each.table().to_pylist()} for each in found.equations]
        factors = {
            str(k): {"names": each.names(found.words), "words": each.words.tolist()}
            for k, each in found.factors.items()
        }
        print(json.dumps({"equations": rows, "factors": factors, "agreements": agreements, "affect": affect}, indent=1))
        return
    for each in found.equations:
        print(each)
    print()
    print_table(agreements)
    print(verdict(agreements))
    print(verdict_in_figures(agreements), end="\n\n")
    if affect:
        print_table([_affect_row(row) for row in affect])
    else:
        print('valence and arousal were not compared: pip install "multimodal-atlas[affect]"', file=sys.stderr)


def _affect_row(row: Record) -> Record:
    """A row of valence and arousal, with the factor's name in place of its number."""
    left_out = ("factors", "factor", "name", "draws")
    return {"factors of": row["factors"], "factor": row["name"]} | {k: row[k] for k in row if k not in left_out}


# -- written -----------------------------------------------------------------------------------------------------------


def write_table(store: "Store", part: "Part", recipe: Record, found: "pa.Table", of: Sequence["Part"] = ()) -> None:
    """Write a table into a part of the Store, and print its folder on stderr.

    `of`: the parts that the table was made from, besides the shards.
    """
    import pyarrow.parquet as pq

    made = part.made_with(**{name: value for name, value in recipe.items() if (name, value) not in _DEFAULTS})
    with store.deriving(made, recipe, of) as folder:
        pq.write_table(found, folder / f"{Path(part.name).name}.parquet")
    print(store.derived(part), file=sys.stderr)


def write_page(
    store: "Store",
    name: str,
    title: str,
    body: str,
    again: Sequence[object],
    beside: dict[str, bytes] | None = None,
) -> int:
    """Write a page of the Store's site; returns the exit code.

    `body`: the page; an empty one says nothing and is not written. `again`: the words of the command that makes the
    page. `beside`: further files of the page, by name.
    """
    from atlas.store.files import NotWritable
    from decompose.pages import write_fragment

    if not body:
        print(f"nothing to show under {title!r}, so no page is made", file=sys.stderr)
        return 0
    if store.layer != store.layers[0]:
        print(f"the site shows {store.layers[0]} alone, so there is no page of {store.layer}", file=sys.stderr)
        return 0
    try:
        write_fragment(store, name, title, recorded_command(*map(str, again)), body, beside)
    except NotWritable as refused:
        print(f"{refused}, so no page is made", file=sys.stderr)
        return 0
    return announce_page(store)


def announce_page(store: "Store") -> int:
    """Say on stderr which command brings new pages into the site; returns the exit code."""
    if store.layer == store.layers[0]:
        print(f"atlas page {store.path} brings this into the site", file=sys.stderr)
    return 0


def recorded_command(name: str, *words: object) -> str:
    """The command `decompose NAME WORDS` as made.json records it: quoted, with {store} for the Store's path."""
    quoted = (str(word) if word == "{store}" else shlex.quote(str(word)) for word in words)
    return " ".join(["decompose", name, *quoted])
