"""The page of region neurons: a map of several by hue, a map of each, and the figures."""

import numpy as np

from atlas.formatting import Record
from decompose.pages.fragment import render_fragment
from decompose.pages.region_maps import (
    SOUTH_END,
    SVG_WIDTH,
    city_circles,
    heat_map,
    mixed_colours,
    neuron_hues,
    outline_paths,
    single_colours,
)
from decompose.studies.gazetteer import all_cities, all_countries
from decompose.studies.region_report import RegionReport

REGIONS_PAGE = "regions"
_MOST_LISTED = 20  # rows of each list


def regions_page(found: RegionReport) -> tuple[str, dict[str, bytes]]:
    """The page of regions as HTML, and its pictures by file name."""
    lands = all_countries()
    paths = outline_paths(lands)
    maps: list[Record] = [
        {
            "neuron": each.neuron,
            "words": each.words,
            "flags": each.flags,
            "fills": fills(single_colours(each.countries), each.countries, paths),
            "circles": city_circles(each.cities, all_cities()),
        }
        for each in found.shown
    ]
    together = np.stack([each.countries for each in found.shown])
    body = render_fragment(
        "regions.html",
        found=found,
        paths=paths,
        maps=maps,
        together=fills(mixed_colours(together), together.max(0), paths),
        hues=neuron_hues(len(maps)),
        width=SVG_WIDTH,
        height=SOUTH_END,
        most=_MOST_LISTED,
        lands=len(lands),
        cities=len(all_cities()),
    )
    return body, {f"map-{each.neuron}.webp": heat_map(each.grid) for each in found.shown}


def fills(colours: list[str], strength: np.ndarray, paths: dict[str, str]) -> list[tuple[str, str, str]]:
    """The code, the colour and the words of every country that is drawn."""
    lands = zip(all_countries(), colours, strength.tolist(), strict=True)
    return [(land.code, colour, f"{land.name}: {a:.2f}") for land, colour, a in lands if land.code in paths]
