"""The published tables of Goh et al. 2021, read from a clone of the article's public repository.

The user points to the clone; nothing of it is in this package. Every table is optional, because the repository's files
moved in its history: a table that is not there is None, or empty. One that cannot be read is refused.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, UInt8
from open_clip import list_pretrained_tags_by_model

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.sources.textfiles import MAX_RECORDS, check_regular

ARTICLE = "https://github.com/distillpub/post--multimodal"
PAPER_NETWORKS = {  # name in open_clip: names in the article's tables
    "RN50x4": ("contrastive_4x", "4x"),
    "RN101": ("contrastive_v2", "rn101"),
    "RN50": ("contrastive_rn50", "rn50"),
}
PAPER_WEIGHTS = "openai"  # open_clip's tag of the article's weights
_LAYER = "visual.layer4"  # of these networks, in open_clip's names
_FOLDERS = ("static", "src", "public")  # where a file is looked for, in this order
_FAMILY = re.compile(r'"?model"?:\s*"(\w+)",\s*"?unit"?:\s*(\d+),\s*"?title"?:\s*"((?:[^"\\]|\\.)*)"')
_NEIGHBOURS = re.compile(r"<span>([^<]*)</span>\s*<span>([^<]*)</span>\s*<span>([^<]*)</span>")
_T = TypeVar("_T")


def paper_network(clip: Clip) -> tuple[str, str] | None:
    """The names that the article's tables have for this network; None for another one, and for untrained weights.

    The weights are those that open_clip calls openai, or a file, of which nobody knows.
    """
    known = PAPER_NETWORKS.get(clip.name.removesuffix("-quickgelu"))
    return known if clip.layer == _LAYER and (clip.pretrained == PAPER_WEIGHTS or _from_file(clip)) else None


def _from_file(clip: Clip) -> bool:
    """Whether the weights come from a file, and not from a tag of open_clip's."""
    return bool(clip.pretrained) and str(clip.pretrained) not in list_pretrained_tags_by_model(clip.name)


class LabelledUnit(NamedTuple):
    """A neuron that the article's authors labelled by hand."""

    network: str
    unit: int
    label: str


class Submatrix(NamedTuple):
    """Weights of the sparse probe: neurons by classes."""

    units: list[int]
    classes: list[str]
    weights: Float[np.ndarray, "u c"]


@dataclass(frozen=True)
class PublishedTables:
    """What a clone of the article's repository holds."""

    units: list[tuple[str, int]] = field(default_factory=list)  # of the region maps: network and neuron
    words: list[list[str]] = field(default_factory=list)  # that each of these responds to most
    countries: list[str] = field(default_factory=list)
    cities: list[str] = field(default_factory=list)
    country: UInt8[np.ndarray, "n c"] | None = None
    city: UInt8[np.ndarray, "n t"] | None = None
    spatial: UInt8[np.ndarray, "n h w"] | None = None
    labelled: list[LabelledUnit] = field(default_factory=list)
    emotions: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)  # level, word, neuron: weight
    text_units: frozenset[int] = frozenset()
    emotion_atlas: dict[str, list[float]] = field(default_factory=dict)  # word: its factors
    attacks: list[Record] = field(default_factory=list)  # target, text, success, cover
    attack_images: int = 0
    attack_accuracy: float | None = None
    stroop: dict[tuple[str, str], str] = field(default_factory=dict)  # ink and word: the answer
    neighbours: dict[str, list[str]] = field(default_factory=dict)  # of a word
    submatrix: Submatrix | None = None


def read_published(folder: Path) -> PublishedTables:
    """Read all tables that are there. Raises Refused for a folder with none of them, and for a damaged table."""
    if not folder.is_dir():
        raise Refused(f"{folder} is no folder; give a clone of {ARTICLE}")
    units = _read(folder, "regional/units.json", _json) or []
    geography = _read(folder, "regional/geo.json", _object) or {"cities": [], "countries": []}
    attacks = _read(folder, "typographic/small_attacks.json", _attacks)
    levels = _read(folder, "emotions/semantic/allSparse.js", _levels) or {}
    found = PublishedTables(
        [(str(network), int(unit)) for network, unit in units],
        _read(folder, "regional/top_words.json", _json) or [],
        [str(each["properties"]["name"]) for each in geography["countries"]],
        [str(each["name"]) for each in geography["cities"]],
        _read(folder, "regional/country.npy", _array),
        _read(folder, "regional/city.npy", _array),
        _read(folder, "regional/spatial.npy", _array),
        _read(folder, "NeuronFamilies.svelte", _labelled) or [],
        levels,
        _read(folder, "emotions/semantic/textNeurons.js", _text_units) or frozenset(),
        _read(folder, "emotions/atlas/data.js", _emotion_atlas) or {},
        *(attacks or ([], 0, None)),
        _read(folder, "typographic/stroop_experiment.json", _answers) or {},
        _read(folder, "ImageWordEmbeddingFootnote.svelte", _neighbours) or {},
        _read(folder, "HyperSet.svelte", _submatrix),
    )
    tables = (units, found.labelled, levels, found.emotion_atlas, attacks, found.stroop, found.neighbours)
    if not any(tables) and found.submatrix is None:
        raise Refused(f"{folder} holds none of the article's tables; give a clone of {ARTICLE}")
    _check_shapes(folder, found)
    return found


def _read(folder: Path, name: str, reader: Callable[[Path], _T]) -> _T | None:
    """What a reader makes of the file with this name anywhere in the clone; None without one."""
    for top in _FOLDERS:
        for path in sorted((folder / top).rglob(name)):
            check_regular(path, MAX_RECORDS)
            try:
                return reader(path)
            except Refused:
                raise
            except Exception as error:  # damaged headers and nested tables raise many types of error
                raise Refused(f"cannot read {path}: {' '.join(str(error).split())[:120]}") from None
    return None


def _check_shapes(folder: Path, found: PublishedTables) -> None:
    n = len(found.units)
    for name, table, shape in (
        ("top_words.json", found.words, (n,)),
        ("country.npy", found.country, (n, len(found.countries))),
        ("city.npy", found.city, (n, len(found.cities))),
        ("spatial.npy", found.spatial, (n,)),
    ):
        got = () if table is None else table.shape if isinstance(table, np.ndarray) else (len(table),)
        if len(got) and got[: len(shape)] != shape and got != (0,):
            raise Refused(f"{folder}: {name} has the shape {got}; units.json and geo.json say {shape}")


# -- one reader a format -----------------------------------------------------------------------------------------------


def _json(path: Path) -> list:
    return list(json.loads(path.read_text("utf-8")))


def _object(path: Path) -> Record:
    return dict(json.loads(path.read_text("utf-8")))


def _array(path: Path) -> UInt8[np.ndarray, "..."]:
    return np.load(path, mmap_mode="r", allow_pickle=False).astype(np.uint8)  # a header may state any size


def _levels(path: Path) -> dict[str, dict[str, dict[int, float]]]:
    found = dict(script_data(path.read_text("utf-8")))
    return {level: {word: _terms(terms) for word, terms in words.items()} for level, words in found.items()}


def _text_units(path: Path) -> frozenset[int]:
    return frozenset(map(int, script_data(path.read_text("utf-8"))))


def script_data(text: str) -> list | dict:
    """The value that a JavaScript module of plain data exports: JSON but for bare keys, quotes and last commas."""
    _, exported, body = text.partition("export default")
    if not exported:
        raise ValueError("it exports nothing")
    body = re.sub(r"^\s*//[^\n]*$", "", body, flags=re.M).strip().rstrip(";")
    body = re.sub(r"'([^'\\\n]*)'", r'"\1"', body)
    body = re.sub(r"([{,]\s*)([A-Za-z_]\w*)\s*:", r'\1"\2":', body)
    return json.loads(re.sub(r",(\s*[}\]])", r"\1", body))


def _terms(terms: list[list[float | int]]) -> dict[int, float]:
    return {int(unit): float(weight) for weight, unit in terms}


def _labelled(path: Path) -> list[LabelledUnit]:
    shown = re.sub(r"^\s*//[^\n]*$", "", path.read_text("utf-8"), flags=re.M)
    rows = _FAMILY.findall(shown)
    return [LabelledUnit(model, int(unit), re.sub(r"\\(.)", r"\1", title)) for model, unit, title in rows]


def _emotion_atlas(path: Path) -> dict[str, list[float]]:
    found = script_data(path.read_text("utf-8"))
    return {str(cell["name"]): [float(part) for part in cell["components"]] for cell in dict(found)["grid"]}


def _attacks(path: Path) -> tuple[list[Record], int, float]:
    found = _object(path)
    probes = found["linear_probes"]
    rows: list[Record] = [
        {"target": target, "text": text, "success": each["fraction_changed_to"], "cover": each["avg_img_l0_norm_diff"]}
        for target, texts in probes["results"].items()
        for text, each in texts.items()
    ]
    return sorted(rows, key=lambda row: -row["success"]), int(found["n"]), float(probes["baseline_accuracy"])


def _answers(path: Path) -> dict[tuple[str, str], str]:
    found = _object(path)["output"]
    return {(ink, word): max(each["results"])[1] for ink, words in found.items() for word, each in words.items()}


def _neighbours(path: Path) -> dict[str, list[str]]:
    rows = _NEIGHBOURS.findall(path.read_text("utf-8"))
    return {word.strip(): [each.strip() for each in near.split(",")] for word, _, near in rows}


def _submatrix(path: Path) -> Submatrix:
    text = path.read_text("utf-8")

    def value(name: str) -> list:
        found = re.search(rf"const {name} = (\[.*?\])\s*(?:\n|;)", text, re.S)
        if found is None:
            raise ValueError(f"it has no {name}")
        return list(script_data(f"export default {found[1]}"))

    classes, units = [str(name) for name in value("classnames")], [int(unit) for unit in value("neurons")]
    weights = np.zeros((len(units), len(classes)))
    for unit, place, weight in value("nonzeros"):
        weights[int(unit), int(place)] = weight
    return Submatrix(units, classes, weights)
