"""Pages of what was found about a Store: equations, NMF components, directions, emotions; fragments of its site.

A page is written beside the Store's other derived folders (`atlas.pages.fragments` has the contract) and stands in the
navigation the next time that the site is written. Nothing here computes what it shows.
"""

import colorsys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from bokeh import palettes
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image, ImageDraw

from atlas.pages.cards import address
from atlas.pages.fragments import FOLDER, PAGE, picture
from atlas.store import Store
from atlas.terminal import chance
from decompose.components import Component
from decompose.emotions import Factors, Study
from decompose.equations import Equation, Term
from decompose.families import FAINT
from decompose.portraits import Portrait

SOLVERS = {
    "omp": "orthogonal matching pursuit",
    "lasso": "the lasso",
    "nnls": "non-negative least squares",
    "iht": "iterative hard thresholding",
    "logistic": "L1 logistic regression",
}
HERE = Path(__file__).parent
CELL = 54  # pixels of a word's cell in the emotion atlas
MAP, GREY = "map.png", "#8884"  # a component's map, and the colour of the rows that are no images
WIDTH, DOT = 1400, 3  # pixels
OUTLYING, BESIDE = (1, 99), 0.08  # percentiles of the images that its edges lie beyond, and by how much
SIGNIFICANT = 0.05  # p from which on an agreement is no chance
FIRST_HUE, SATURATION = 91, 0.7  # degrees; the paper's colours of factors (Goh et al. 2021, figure 13)


def write(
    store: Store, name: str, title: str, recipe: dict[str, Any], body: str, beside: Mapping[str, bytes] | None = None
) -> Path:
    """Write a page, and files beside it, as the fragment `name` of the Store's site; returns its folder."""
    with store.deriving(f"{FOLDER}/{name}", {"title": title, **recipe}) as folder:
        (folder / PAGE).write_text(body, "utf-8")
        for file, content in (beside or {}).items():
            (folder / file).write_bytes(content)
    return store.derived(f"{FOLDER}/{name}")


def equations(found: Sequence[Equation], shares: Sequence[float | None] | None = None) -> str:
    """A page of equations, whose neurons lead to their cards, with the receipts that there are.

    `shares`: of each concept's logit over the Store's images, what the bilinear form explains (R^2), if it is known.
    """
    shares = shares or [None] * len(found)
    tried = next((each.receipts[0].templates for each in found if each.receipts), ())  # the same for all
    return _render("equations.html", equations=list(zip(found, shares, strict=True)), tried=tried)


def components(store: Store, found: Sequence[Component], with_map: bool = False) -> str:
    """A page of NMF components as rows: their neurons, words and images; `with_map`: MAP lies beside it."""
    return _render(
        "components.html",
        components=found,
        signed=any(weight < 0 for each in found for _, weight in each.neurons),
        colours=colours(len(found)),
        map=MAP if with_map else None,
        picture=lambda row: picture(store, row),
    )


def directions(store: Store, found: Sequence[Portrait], whole: int) -> str:
    """A page of directions, of `whole` of which some are portrayed."""
    return _render("directions.html", portraits=list(found), whole=whole, picture=lambda row: picture(store, row))


def components_map(store: Store, found: Sequence[Component]) -> bytes | None:
    """The Store's map as a PNG, each image in the colour of its strongest component; None where there is no map."""
    if not store.current("layout/map"):
        return None
    points = pq.read_table(store.derived("layout/map") / "points.parquet", columns=["row", "x", "y"])
    row, xy = points["row"].to_numpy(), np.column_stack([points["x"].to_numpy(), points["y"].to_numpy()])
    low, high = np.percentile(xy[np.isin(row, store.positions("image"))], OUTLYING, axis=0)
    low, high = low - BESIDE * (high - low), high + BESIDE * (high - low)  # a few rows far off would shrink the rest
    span = np.maximum(high - low, 1e-9)
    near = ((xy >= low) & (xy <= high)).all(1)
    row, xy = row[near], xy[near]
    side = np.round(WIDTH * np.minimum(span / span[0], 1)).astype(int)
    at = (xy - low) / span * (side - 1)
    at[:, 1] = side[1] - 1 - at[:, 1]
    image = Image.new("RGBA", (int(side[0]), int(side[1])))
    draw = ImageDraw.Draw(image)
    groups = [(np.ones(len(row), bool), GREY)]
    groups += [(np.isin(row, each.own), colour) for each, colour in zip(found, colours(len(found)), strict=True)]
    for inside, colour in groups:
        for x, y in at[inside].tolist():
            draw.circle((x, y), DOT, fill=colour)
    written = BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()


def colours(count: int) -> list[str]:
    """As many colours to tell apart as there are, then the same again."""
    return [palettes.Category20_20[(2 * i + i // 10) % 20] for i in range(count)]


def emotions(found: Study, model: str) -> str:
    """The emotion atlas: the words in a disc, coloured by their factors, with their equations."""
    k = max(found.factors)
    factors = found.factors[k]
    return _render(
        "emotions.html",
        study=found,
        model=model,
        cells=_cells(found, factors),
        factors=list(zip(factors.names, (hue(i, k) for i in range(k)), _members(found, factors), strict=True)),
        fewer=[(number, each.names, _members(found, each)) for number, each in found.factors.items() if number != k],
        agreements=found.agreements.to_pylist(),
        verdict=verdict(found.agreements.to_pylist()),
        fewest=min(found.factors),
        affect=affect(found),
        side=(int(found.places.max()) + 1) * CELL,
        size=CELL,
    )


def affect(found: Study) -> list[dict[str, Any]]:
    """The correlations with valence and arousal; the neurons' factors by name, those of the controls by number."""
    rows = [] if found.affect is None else found.affect.to_pylist()
    names = found.factors[min(found.factors)].names
    return [row | {"name": names[row["factor"]] if row["factors"] == "neurons" else row["factor"]} for row in rows]


def verdict(agreements: Sequence[dict[str, Any]]) -> str:
    """Whether the factors of neurons agree with the families beyond chance, and how that of their controls compares."""
    own, *controls = agreements
    if not own["words"]:
        return "None of these words has a known family and a factor, so the factors were compared with nothing."
    if own["p"] > SIGNIFICANT:
        return (
            f"The factors of the neurons agree with the families no better than shuffled ones would ({_figures(own)})."
        )
    beyond = f"The factors of the neurons agree with the families beyond chance ({_figures(own)})"
    equal = [row for row in controls if row["high"] >= own["ami"]]
    if sure := [row for row in equal if row["p"] <= SIGNIFICANT]:
        return f"{beyond}, and those of the {_listed(sure)} no less: the structure is the text tower's, not theirs."
    if equal:
        near = f"those of the {_listed(equal)} come as near, but not beyond chance"
        return f"{beyond}; {near}: neither is shown to be better."
    single = [row["method"] for row in controls if row["draws"] == 1]
    untested = f"; the difference from the {' and the '.join(single)} was not tested" if single else ""
    return f"{beyond}, and more than those of the {_listed(controls)}{untested}."


def _figures(row: dict[str, Any]) -> str:
    draws = f", {row['low']:.2f} to {row['high']:.2f} in {row['draws']} draws" if row["draws"] > 1 else ""
    return f"AMI {row['ami']:.2f}{draws}, p {chance(row['p'])}"


def _listed(rows: Sequence[dict[str, Any]]) -> str:
    return " and the ".join(f"{row['method']} ({_figures(row)})" for row in rows)


def hue(factor: int, factors: int) -> str:
    """The paper's colour of one of so many factors, as #rrggbb."""
    rgb = colorsys.hsv_to_rgb((360 / factors * factor + FIRST_HUE) % 360 / 360, SATURATION, 1)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def _cells(found: Study, factors: Factors) -> list[dict[str, Any]]:
    """Place, colours and equation of each word; a word without a factor has no colour."""
    k = factors.words.shape[1]
    cells = []
    for word, place, weights, equation in zip(found.words, found.places, factors.words, found.equations, strict=True):
        total = max(float(weights.sum()), 1e-12)
        layers = [(hue(i, k), round(float(w) / total, 3)) for i, w in enumerate(weights) if w / total > FAINT]
        x, y = (int(coordinate) * CELL for coordinate in place)
        cells.append(
            {"word": word, "x": x, "y": y, "layers": layers if weights.max() > FAINT else [], "said": equation}
            | {"dark": _is_dark(layers)}
        )
    return cells


def _is_dark(layers: Sequence[tuple[str, float]]) -> bool:
    """Whether a cell of these colours over white asks for white letters (WCAG's relative luminance)."""
    colour = np.ones(3)
    for name, share in layers:
        colour = (1 - share) * colour + share * np.array([int(name[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return bool(linear @ [0.2126, 0.7152, 0.0722] < 0.179)


def _members(found: Study, factors: Factors) -> list[list[str]]:
    """The words of each factor, strongest first, of those that belong to it most."""
    own, strength = factors.words.argmax(1), factors.words.max(1)
    return [
        [found.words[i] for i in np.argsort(-strength) if own[i] == factor and strength[i] > FAINT]
        for factor in range(factors.words.shape[1])
    ]


def _render(template: str, **names: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        chance=chance,
        card=lambda neuron: f"neurons/{address(neuron)}",
        coefficient=_coefficient,
        signed=_signed,
        solver=SOLVERS.__getitem__,
    )
    return environment.get_template(template).render(**names)


def _coefficient(term: Term, first: bool) -> str:
    """What stands before a term's name, not to be parted from it: its sign, and its weight unless that is 1."""
    sign = ("−" if term.weight < 0 else "") if first else (" −\xa0" if term.weight < 0 else " +\xa0")
    size = f"{abs(term.weight):.2f}".rstrip("0").rstrip(".")
    return sign if size == "1" else f"{sign}{size}\xa0"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")
