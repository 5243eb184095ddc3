"""Which of open_clip's names work: each was tried once with random weights; the results are in openclip_names.json."""

import json
from pathlib import Path
from textwrap import fill
from typing import NotRequired, TypedDict

import open_clip

TABLE = Path(__file__).parent / "openclip_names.json"
_WIDTH = 80
_HEADS = {  # result: what a list of names with it says first
    "works": "list layers and give finite activations of two pictures",
    "memory": "need more than {gigabytes} GB of memory, and are refused where it is not free",
    "text tower": "need the files of a text tower from Hugging Face's hub (extra hf), and are refused without them",
    "refused": "do not work",
    "not tried": "were not tried",
}


class NameResult(TypedDict):
    """What the trial of a name gave: its default layer, or what it lacks."""

    name: str
    result: str  # a key of _HEADS
    parameters: NotRequired[int]
    layers: NotRequired[int]
    layer: NotRequired[str]
    shape: NotRequired[list[int]]  # of the default layer: neurons, height, width
    lacks: NotRequired[str]  # memory, the repository of the text tower, or the line of the refusal


def name_results() -> list[NameResult]:
    """The result of each name of the installed open_clip."""
    known = {row["name"]: row for row in json.loads(TABLE.read_text())["names"]}
    names = [name for name in open_clip.list_models() if name != "mini"]
    return [known.get(name) or NameResult(name=name, result="not tried") for name in names]


def names_summary() -> str:
    """The names by result, as text for a terminal of 80 columns."""
    tried, rows = json.loads(TABLE.read_text()), name_results()
    parts = [f"open_clip {open_clip.__version__} has {len(rows)} names; those of {tried['open_clip']} were tried once:"]
    for result, head in _HEADS.items():
        if some := [row for row in rows if row["result"] == result]:
            names = ", ".join(f"{row['name']} ({row['lacks']})" if "lacks" in row else row["name"] for row in some)
            listed = fill(names, _WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
            parts.append(fill(f"{len(some)} {head.format(**tried)}:", _WIDTH) + "\n" + listed)
    return "\n\n".join([*parts, "atlas layers NAME lists the layers of one; mini is the embedded model."])
