"""Region neurons (Goh et al. 2021, section "Region neurons", Figure 6): which neurons respond to places.

Names of countries are rendered; the response to a name is the mean over fonts and sizes of the largest activation over
positions. A world map without text is shown in sliding crops, and the activations at each position are averaged on the
map's own grid.

    A (n, u) responses, the largest over positions    c countries    G (h, w, u) responses on the map's grid
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw
from scipy.stats import binomtest, hypergeom, rankdata

from atlas.analysis.multimodal import Found, areas, multimodal_pairs
from atlas.analysis.significance import q_values
from atlas.console import track
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.sources.decoding import Unreadable
from atlas.sources.word_images import render_word
from decompose.defaults import FALSE_RATE
from decompose.studies.gazetteer import map_places

TOP_WORDS = 5
GRID = (40, 80)  # of the world map, as in the paper
_MAP_WIDTH, _CROP, _STEP = 1440, 240, 60  # pixels
_FONTS, _SIZES, _AT_ONCE = ("open-sans", "pt-serif"), (24, 40), 256
_DRAWS = 200
_STRONGEST_NAMES = 10  # of a parent, counted by region
_STANDS_OUT = 4.0  # standard deviations of a child's strongest name


# -- words -------------------------------------------------------------------------------------------------------------


def word_means(A: Float[np.ndarray, "n u"], texts: Sequence[str]) -> tuple[list[str], Float[np.ndarray, "m u"]]:
    """The different words, and their mean responses over fonts and sizes."""
    number = {word: i for i, word in enumerate(dict.fromkeys(texts))}
    at = np.array([number[text] for text in texts], np.int64)
    sums = np.zeros((len(number), A.shape[1]), np.float32)
    np.add.at(sums, at, A)
    return list(number), sums / np.bincount(at)[:, None]


def top_places(A: Float[np.ndarray, "m u"], place: Bool[np.ndarray, " m"]) -> Int[np.ndarray, " u"]:
    """How many of the five words that each neuron responds to most are places."""
    top = np.argpartition(-A, TOP_WORDS - 1, axis=0)[:TOP_WORDS]
    return place[top].sum(0)


def place_shares(A: Float[np.ndarray, "m u"], place: Bool[np.ndarray, " m"], seed: int = 0) -> list[Record]:
    """How many neurons have 0 to 5 places among their five top words, beside words shuffled (mean and most)."""
    rng, null = np.random.default_rng(seed), []
    for _ in range(_DRAWS):
        null.append(np.bincount(top_places_shuffled(A.shape[1], place, rng), minlength=TOP_WORDS + 1))
    count = np.bincount(top_places(A, place), minlength=TOP_WORDS + 1)
    mean, most = np.mean(null, axis=0), np.max(null, axis=0)
    return [
        {"places of 5": n, "neurons": int(count[n]), "shuffled": float(mean[n]), "shuffled_most": int(most[n])}
        for n in range(TOP_WORDS, -1, -1)
    ]


def top_places_shuffled(neurons: int, place: Bool[np.ndarray, " m"], rng: np.random.Generator) -> Int[np.ndarray, " u"]:
    """The same for neurons whose five top words are drawn at random."""
    return place[rng.integers(0, len(place), (TOP_WORDS, neurons))].sum(0)


# -- names and flags ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendered:
    """Responses to rendered names: one row a rendering, and which name it is. Names that fonts lack are left out."""

    A: Float[np.ndarray, "n u"]
    name: Int[np.ndarray, " n"]

    def means(self, names: int) -> Float[np.ndarray, "c u"]:
        """Mean responses by name; NaN for a name without a rendering."""
        sums = np.zeros((names, self.A.shape[1]), np.float32)
        np.add.at(sums, self.name, self.A)
        count = np.bincount(self.name, minlength=names)[:, None]
        return np.where(count > 0, sums / np.maximum(count, 1), np.float32(np.nan))


def render_names(clip: Clip, names: Sequence[str], fonts: Sequence[str] = _FONTS) -> Rendered:
    """Render every name in two fonts (or others) and two sizes, and read the largest activation over positions."""
    pages: list[tuple[Image.Image, int]] = []
    for i, name in enumerate(names):
        for font in fonts:
            for size in _SIZES:
                try:
                    pages += [(render_word(name, font, size), i)] if name else []
                except Unreadable:
                    continue
    found = []
    for start in track(range(0, len(pages), _AT_ONCE), -(-len(pages) // _AT_ONCE), "names", "batches"):
        found.append(clip.activations([page for page, _ in pages[start : start + _AT_ONCE]]).max((2, 3)))
    return Rendered(np.concatenate(found), np.array([i for _, i in pages], np.int64))


def shared_neurons(
    flags: Float[np.ndarray, "n u"],
    country: Int[np.ndarray, " n"],
    rendered: Rendered,
    seed: int = 0,
) -> tuple[Found, int, int, Int[np.ndarray, " k"]]:
    """Neurons that respond to a country's flags and to its rendered name, by the rule for multimodal neurons.

    Returns what was found, how many countries share a neuron with flags shuffled over them, how many countries have
    both, and which.
    """
    both = np.intersect1d(country, rendered.name)
    drawn, written = (
        areas(A[np.isin(of, both)], np.searchsorted(both, of[np.isin(of, both)]), len(both))
        for A, of in ((flags, country), (rendered.A, rendered.name))
    )
    found = multimodal_pairs(drawn, written)
    shift = int(np.random.default_rng(seed).integers(1, max(2, len(both))))
    null = multimodal_pairs(np.roll(drawn, shift, axis=1), written)
    return found, len(np.unique(null.concept)), len(both), both


# -- the map -----------------------------------------------------------------------------------------------------------


def map_responses(clip: Clip, image: Image.Image) -> Float[np.ndarray, "h w u"]:
    """Mean rectified activations on the grid of a world map, over crops that slide across it."""
    rows, columns = GRID
    scale = image.width / _MAP_WIDTH
    crop, step, side = round(_CROP * scale), round(_STEP * scale), clip.image_size
    boxes = [(x, y) for y in range(0, image.height - crop + 1, step) for x in range(0, image.width - crop + 1, step)]
    sums, count = np.zeros((rows, columns, clip.neurons), np.float32), np.zeros((rows, columns, 1), np.float32)
    cell = image.width / columns
    for start in track(range(0, len(boxes), 64), -(-len(boxes) // 64), "world map", "batches"):
        some = boxes[start : start + 64]
        pictures = [image.crop((x, y, x + crop, y + crop)).resize((side, side)) for x, y in some]
        for (x, y), maps in zip(some, np.maximum(clip.activations(pictures), 0), strict=True):
            high, wide = maps.shape[1:]
            r = np.flatnonzero(np.abs((np.arange(rows) + 0.5) * cell - y - crop / 2) < crop / 2)
            c = np.flatnonzero(np.abs((np.arange(columns) + 0.5) * cell - x - crop / 2) < crop / 2)
            down = (((r + 0.5) * cell - y) / crop * high).astype(int)
            across = (((c + 0.5) * cell - x) / crop * wide).astype(int)
            sums[np.ix_(r, c)] += maps[:, down][:, :, across].transpose(1, 2, 0)
            count[np.ix_(r, c)] += 1
    return sums / np.maximum(count, 1)


def country_cells(shapes: Sequence[Sequence[Float[np.ndarray, "_ 2"]]]) -> Float[np.ndarray, "c hw"]:
    """The share of each country in each cell of the grid, so that a row's product with G is the country's response."""
    rows, columns = GRID
    fine = 8
    found = np.zeros((len(shapes), rows * columns), np.float32)
    for i, rings in enumerate(shapes):
        image = Image.new("L", (columns * fine, rows * fine))
        for ring in rings:
            ImageDraw.Draw(image).polygon([tuple(at) for at in map_places(ring, image.width).tolist()], fill=1)
        area = np.asarray(image, np.float32).reshape(rows, fine, columns, fine).sum((1, 3)).ravel()
        found[i] = area / max(float(area.sum()), 1)
    return found


def rank_correlations(X: Float[np.ndarray, "n u"], Y: Float[np.ndarray, "n u"]) -> Float[np.ndarray, " u"]:
    """Spearman's correlation of the columns; 0 for a constant one."""
    a, b = (rankdata(each, axis=0) for each in (X, Y))
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / np.maximum(np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0), 1e-9)


def second_place(
    places: Int[np.ndarray, " u"],
    grids: Sequence[Float[np.ndarray, "h w u"]],
    cells: Float[np.ndarray, "c hw"],
    names: Float[np.ndarray, "c u"],
    seed: int = 0,
) -> tuple[list[Record], list[Record]]:
    """Neurons that are regional in the second place: at most one place among their top words, and yet regional.

    The paper asks that a neuron fires for the same region on several maps, or responds to place names there. Here: its
    responses on two maps agree, and its responses to the countries on the map agree with those to their names, each
    above the 95th percentile of what the same measures give between different neurons. Returns those neurons, and how
    many of all neurons pass each test beside that 5 %.
    """
    flat = [grid.reshape(-1, grid.shape[-1]) for grid in grids]
    of_country = cells @ ((flat[0] + flat[1]) / 2)
    there = np.isfinite(names).all(1) & (cells.sum(1) > 0)
    by_name, by_map = names[there], of_country[there]
    land = cells.sum(0) > 0
    other = np.roll(np.arange(by_name.shape[1]), int(np.random.default_rng(seed).integers(1, by_name.shape[1])))
    passed, scores, rows = np.ones(len(places), bool), [], []
    for name, one, two in (
        ("two maps agree", flat[0][land], flat[1][land]),
        ("map and names agree", by_map, by_name),
    ):
        own, null = rank_correlations(one, two), rank_correlations(one, two[:, other])
        above = own > np.percentile(null, 95)
        passed &= above
        scores.append(own)
        rows.append({"test": name, "neurons": int(above.sum()), "by chance": float(0.05 * len(own))})
        rows[-1]["weak"] = bool(binomtest(int(above.sum()), len(own), 0.05, "greater").pvalue > 0.05)
    chosen = np.flatnonzero(passed & (places <= 1))
    order = chosen[np.argsort(-scores[1][chosen], kind="stable")]
    found = [{"neuron": int(u), "maps": float(scores[0][u]), "names": float(scores[1][u])} for u in order]
    return found, rows


def cities_agree(
    names: Float[np.ndarray, "c u"], cities: Float[np.ndarray, "t u"], country: Sequence[int], seed: int = 0
) -> Record:
    """How many neurons respond to names of countries as to names of their cities, and how many would by chance.

    A neuron is counted if the rank correlation of its responses to countries with its mean responses to their cities
    is above the 95th percentile of what this measure gives between different neurons.
    """
    rendered = np.isfinite(cities).all(1)
    of, kept = np.asarray(country)[rendered], cities[rendered]
    number = np.bincount(of, minlength=len(names))
    sums = np.zeros_like(names)
    np.add.at(sums, of, kept)
    there = np.isfinite(names).all(1) & (number > 0)
    by_city, by_name = sums[there] / number[there, None], names[there]
    shift = int(np.random.default_rng(seed).integers(1, names.shape[1]))
    own, null = rank_correlations(by_name, by_city), rank_correlations(by_name, np.roll(by_city, shift, axis=1))
    above = int((own > np.percentile(null, 95)).sum())
    return {
        "neurons": above, "by chance": 0.05 * len(own), "of": len(own), "median": float(np.median(own)),
        "median_other": float(np.median(null)), "cities": int(rendered.sum()), "countries": int(there.sum()),
    }  # fmt: skip


# -- parents and children ----------------------------------------------------------------------------------------------


def parents_and_children(
    names: Float[np.ndarray, "c u"], regions: Sequence[str], rate: float = FALSE_RATE
) -> list[Record]:
    """Pairs of a parent, which responds to a region, and a child, whose strongest name is in it and leaves it silent.

    A parent has more of its ten strongest names in one region than chance allows (hypergeometric, corrected for the
    regions; false discovery rate `rate` over the neurons). A child's strongest name is a country of that region and
    stands out by 4 standard deviations, and the parent responds to it less than to the median country.
    """
    there = np.flatnonzero(np.isfinite(names).all(1) & np.array([bool(region) for region in regions]))
    A, where = names[there], np.array(regions, object)[there]
    z = (A - np.median(A, 0)) / np.maximum(A.std(0), 1e-9)
    top = np.argsort(-z, axis=0, kind="stable")[:_STRONGEST_NAMES]
    kinds = sorted({name for name in where.tolist() if (where == name).sum() > 2})
    if not kinds:
        return []
    counts = np.array([(where[top] == name).sum(0) for name in kinds])
    sizes = np.array([(where == name).sum() for name in kinds])
    p = hypergeom.sf(counts - 1, len(where), sizes[:, None], len(top))
    q = q_values(np.minimum(p.min(0) * len(kinds), 1))
    strongest = top[0]
    peak = z[strongest, np.arange(z.shape[1])]
    found = []
    for u in np.flatnonzero(q <= rate):
        region = kinds[int(p[:, u].argmin())]
        for child in np.flatnonzero((peak > _STANDS_OUT) & (where[strongest] == region) & (z[strongest, u] < 0)):
            if child != u:
                country = int(there[strongest[child]])
                found.append(
                    {"parent": int(u), "region": region, "q": float(q[u]), "child": int(child), "country": country}
                )
    return sorted(found, key=lambda row: row["q"])


def shuffled_parents(names: Float[np.ndarray, "c u"], regions: Sequence[str], seed: int = 0) -> int:
    """How many neurons would be parents if regions were shuffled over the countries."""
    order = np.random.default_rng(seed).permutation(len(regions))
    return len({row["parent"] for row in parents_and_children(names, [regions[int(i)] for i in order])})
