"""All figures of `decompose regions`: places among words, flags and names, the world map, parents and children."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.attribution import check_model
from decompose.renderings import display_texts
from decompose.studies.edits import UNLIKE, spelling_likeness
from decompose.studies.gazetteer import Country, all_cities, all_countries, country_of_names, place_words, world_map
from decompose.studies.places import (
    GRID,
    Rendered,
    cities_agree,
    country_cells,
    map_responses,
    parents_and_children,
    place_shares,
    render_names,
    second_place,
    shared_neurons,
    shuffled_parents,
    top_places,
    word_means,
)
from decompose.studies.rates import Rate

SHOWN = 6  # neurons on the page
_FEW_FLAGS = 2  # of a country, for the comparison with an untrained network


@dataclass(frozen=True)
class ShownNeuron:
    """A neuron on the page: its responses to names of countries, of cities, and on the map, each 0 to 1."""

    neuron: int
    words: list[str]
    flags: list[str]
    countries: Float[np.ndarray, " c"]
    cities: Float[np.ndarray, " t"]
    grid: Float[np.ndarray, "h w"]


@dataclass(frozen=True)
class RegionReport:
    """Everything that `decompose regions` found."""

    model: str
    words: int
    places: int  # words that are places
    shares: list[Record]
    sharing: list[Record]  # countries whose flags and names share a neuron, beside nulls
    pairs: list[Record]  # neuron, country, both areas
    secondary: list[Record]
    tests: list[Record]  # how many neurons pass each test of the second place
    cities: Record  # neurons that respond to names of countries as to those of their cities; untrained ones too
    parents: list[Record]
    parents_shuffled: int
    shown: list[ShownNeuron]


def report_regions(store: Store, clip: Clip, neurons: Sequence[int] = (), seed: int = 0) -> RegionReport:
    """Measure the region neurons of a Store's model. `neurons`: shown on the page (those with most places)."""
    check_model(store, clip)
    if "word" not in store.counts:
        raise Refused(f"{store.path} holds no rendered words; collect some, as words:emoji or words:countries")
    if bad := [n for n in neurons if not 0 <= n < clip.neurons]:
        raise Refused(f"neuron {bad[0]} is out of range: {store.path} has neurons 0 to {clip.neurons - 1}")
    lands = all_countries()
    table = store.table(["label", "caption"]).take(store.positions("word"))
    words, A = word_means(np.asarray(store.array("max", "word"), np.float32), display_texts(table))
    place = np.array([word.lower() in place_words() for word in words])
    if not 0 < place.sum() < len(words):
        raise Refused(f"{int(place.sum())} of the {len(words)} words in {store.path} are places; some must be, not all")
    counts = top_places(A, place)
    rendered = render_names(clip, [land.name for land in lands])
    names = rendered.means(len(lands))
    grids = [map_responses(clip, world_map(1440, outlined)) for outlined in (False, True)]
    secondary, tests = second_place(counts, grids, country_cells([land.shape for land in lands]), names, seed)
    flags, country = flag_rows(store)
    other = untrained_clip(clip, seed)
    null_names = render_names(other, [land.name for land in lands])
    sharing, pairs = sharing_figures(store, clip, flags, country, rendered, lands, other, null_names, seed)
    regions = [land.region for land in lands]
    parents = parents_and_children(names, regions)
    for row in parents:
        row["country"] = lands[row["country"]].name
    for row in secondary:
        row["words"] = _strongest(A[:, row["neuron"]], words, 3)
        row["countries"] = _strongest(np.nan_to_num(names[:, row["neuron"]], nan=-np.inf), [x.name for x in lands], 3)
    chosen = list(neurons) or _most_regional(counts, names)
    towns = all_cities()
    of_cities = render_names(clip, [town.name for town in towns]).means(len(towns))
    return RegionReport(
        clip.name, len(words), int(place.sum()), place_shares(A, place, seed), sharing, pairs, secondary, tests,
        city_figures(names, of_cities, null_names.means(len(lands)), other, lands, seed),
        parents, shuffled_parents(names, regions, seed),
        _shown(store, chosen, words, A, names, of_cities, grids, flags, country, lands),
    )  # fmt: skip


def city_figures(
    names: Float[np.ndarray, "c u"],
    cities: Float[np.ndarray, "t u"],
    null_names: Float[np.ndarray, "c u"],
    other: Clip,
    lands: Sequence[Country],
    seed: int = 0,
) -> Record:
    """How many neurons respond to names of countries as to those of their cities that are spelled otherwise.

    `untrained`: how many neurons of the network `other` with random weights do. Names that are drawn alike suffice.
    """
    towns = all_cities()
    apart = [i for i, town in enumerate(towns) if not _spelled_alike(town.name, lands[town.country].name)]
    country = [towns[i].country for i in apart]
    null_cities = render_names(other, [towns[i].name for i in apart]).means(len(apart))
    null = cities_agree(null_names, null_cities, country, seed)
    return cities_agree(names, cities[apart], country, seed) | {"untrained": null["neurons"]}


def _spelled_alike(one: str, other: str) -> bool:
    """Whether a city is called like its country, as Panama City is."""
    one, other = one.lower(), other.lower()
    return one in other or other in one or bool(spelling_likeness([one], [other])[0, 0] >= UNLIKE)


def flag_rows(store: Store) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Images of a Store that are flags, by their place among the images, and the country of each.

    An image is a flag if its name is that of a country, and no other image of its group has this name (as the bird
    turkey beside the flag).
    """
    if "image" not in store.counts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    table = store.table(["label", "caption", "group"]).take(store.positions("image"))
    named, groups = [text.lower() for text in display_texts(table)], table["group"].to_pylist()
    number, seen = country_of_names(), {}
    for i, key in enumerate(zip(named, groups, strict=True)):
        seen.setdefault(key, []).append(i)
    alone = [places[0] for (name, _), places in seen.items() if name in number and len(places) == 1]
    rows = np.array(sorted(alone), np.int64)
    return rows, np.array([number[named[i]] for i in rows.tolist()], np.int64)


def sharing_figures(
    store: Store,
    clip: Clip,
    flags: Int[np.ndarray, " n"],
    country: Int[np.ndarray, " n"],
    rendered: Rendered,
    lands: Sequence[Country],
    other: Clip,
    null_names: Rendered,
    seed: int = 0,
) -> tuple[list[Record], list[Record]]:
    """How many countries have a neuron that responds to their flags and their rendered name, beside nulls.

    The nulls are flags shuffled over countries and the untrained network `other`, which is compared on two flags a
    country. `null_names`: its responses to the names.
    Empty where the Store holds the flags of fewer than three countries.
    """
    if len(np.unique(country)) < 3:
        return [], []
    A = np.asarray(store.array("max", "image"), np.float32)
    found, shuffled, both, which = shared_neurons(A[flags], country, rendered, seed)
    rows = [_sharing("model", len(np.unique(found.concept)), len(np.unique(found.neuron)), both, len(flags))]
    rows.append(_sharing("flags shuffled over countries", shuffled, None, both, len(flags)))
    few = _few_of_each(country)
    least, _, both, _ = shared_neurons(A[flags[few]], country[few], rendered, seed)
    rows.append(
        _sharing("model, two flags each", len(np.unique(least.concept)), len(np.unique(least.neuron)), both, len(few))
    )
    pixels = original_pictures(store, clip, store.positions("image")[flags[few]])
    drawn = np.concatenate([other.activations(pixels[i : i + 64]).max((2, 3)) for i in range(0, len(pixels), 64)])
    null, _, both, _ = shared_neurons(drawn, country[few], null_names, seed)
    rows.append(
        _sharing("untrained, two flags each", len(np.unique(null.concept)), len(np.unique(null.neuron)), both, len(few))
    )
    pairs = [
        {"neuron": int(u), "country": lands[int(which[c])].name, "flags": float(d), "name": float(w), "p": float(p)}
        for u, c, d, w, p in zip(found.neuron, found.concept, found.drawn, found.written, found.p, strict=True)
    ]
    return rows, pairs


def _sharing(name: str, countries: int, neurons: int | None, of: int, flags: int) -> Record:
    low, high = Rate(countries, of).interval
    found = {"measured on": name, "countries": countries, "of": of, "share_low": low, "share_high": high}
    return found | {"neurons": neurons, "flags": flags}


def second_place_text(found: RegionReport) -> str:
    """How many neurons are regional in the second place; where a test finds nothing, that the count says nothing."""
    if weak := [f'"{row["test"]}"' for row in found.tests if row["weak"]]:
        passed = f"{len(found.secondary):,} neurons pass both tests and have at most one place among their top words"
        return f"{passed}; no more pass {' or '.join(weak)} than by chance"
    return f"{len(found.secondary):,} neurons are regional in the second place"


def _few_of_each(country: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """The first two flags of every country."""
    order = np.argsort(country, kind="stable")
    size = np.bincount(country)
    place = np.arange(len(order)) - (np.cumsum(size) - size)[country[order]]
    return np.sort(order[place < _FEW_FLAGS])


def _most_regional(places: Int[np.ndarray, " u"], names: Float[np.ndarray, "c u"]) -> list[int]:
    """Neurons with most places among their top words; of those with as many, the ones whose names stand out most."""
    A = names[np.isfinite(names).all(1)]
    peak = (A.max(0) - np.median(A, 0)) / np.maximum(A.std(0), 1e-9)
    return np.lexsort((-peak, -places))[:SHOWN].tolist()


def _strongest(responses: Float[np.ndarray, " m"], names: Sequence[str], k: int) -> list[str]:
    return [names[int(i)] for i in np.argsort(-responses, kind="stable")[:k]]


def _shown(
    store: Store,
    chosen: Sequence[int],
    words: Sequence[str],
    A: Float[np.ndarray, "m u"],
    names: Float[np.ndarray, "c u"],
    cities: Float[np.ndarray, "t u"],
    grids: Sequence[Float[np.ndarray, "h w u"]],
    flags: Int[np.ndarray, " n"],
    country: Int[np.ndarray, " n"],
    lands: Sequence[Country],
) -> list[ShownNeuron]:
    drawn = np.asarray(store.array("max", "image"), np.float32)[flags] if len(flags) else A[:0]
    titles = [land.name for land in lands]
    found = []
    for u in chosen:
        of_flags = np.full(len(lands), -np.inf)
        if len(flags):
            there = np.unique(country)
            of_flags[there] = [drawn[country == c, u].mean() for c in there]
        both = np.concatenate([names[:, u], cities[:, u]])  # countries and cities share one maximum, as in the paper
        low, high = np.nanmedian(both), np.nanmax(both)
        scaled = np.nan_to_num(np.clip((both - low) / max(high - low, 1e-9), 0, 1))
        grid = (grids[0][..., u] + grids[1][..., u]) / 2
        found.append(
            ShownNeuron(
                int(u),
                _strongest(A[:, u], words, 5),
                _strongest(of_flags, titles, 3) if len(flags) else [],
                scaled[: len(lands)],
                scaled[len(lands) :],
                (grid / max(float(grid.max()), 1e-9)).reshape(GRID),
            )
        )
    return found


def region_record(found: RegionReport) -> Record:
    """The figures as JSON has them; responses of the shown neurons by the names of countries."""
    lands = all_countries()
    shown = [
        {
            "neuron": each.neuron,
            "words": each.words,
            "flags": each.flags,
            "countries": {land.name: round(a, 3) for land, a in zip(lands, each.countries.tolist(), strict=True) if a},
            "cities": {town.name: round(a, 3) for town, a in zip(all_cities(), each.cities.tolist(), strict=True) if a},
        }
        for each in found.shown
    ]
    return {name: value for name, value in vars(found).items() if name != "shown"} | {"shown": shown}
