"""What Python hands to the scripts of a page: one object, which `Frame.render` writes and `atlas.settings()` reads.

static/types.js describes the same fields for JavaScript.
"""

from typing import NotRequired, TypedDict

Figure = dict[str, object]  # a Bokeh figure as JSON


class LegendEntry(TypedDict):
    """A line of the legend: its name, how many points it has, and the code of its colour."""

    name: str
    count: int
    hue: int


class Scheme(TypedDict):
    """Something to colour points by, with the entries of its legend.

    `of`: the entry of each value of the column that the scheme reads; None where the column holds entries.
    """

    name: str
    title: str
    about: str
    entries: list[LegendEntry]
    of: list[int] | None


class Places(TypedDict):
    """The grid of 16-bit steps that places are counted in: see `columns.place_steps`.

    `low`: the smallest step. `size`: how many steps there are. `span`: steps along the longer side of the map. `edge`:
    where the still picture ends, in steps from the middle. `origin`: x and y of step 0, and the length of a step.
    `tile`: the side of a square in steps where every point has one of its own, else 0.
    """

    low: int
    size: int
    span: int
    edge: float
    origin: tuple[float, float, float]
    tile: float


class Drivers(TypedDict):
    """How the rows that activate each neuron most are stored: see `drivers.write_drivers`."""

    neurons: int
    block: int
    levels: int
    rows: int
    kinds: list[str]


class CardFiles(TypedDict):
    """How the cards of neurons are stored: `shard` cards in a table; `first` is the name of the first, cards-000."""

    shard: int
    first: str


class PageSettings(TypedDict):
    """The fields that a page's own writer fills; each has a default in `Settings`."""

    figure: NotRequired[Figure]
    places: NotRequired[Places]
    legend: NotRequired[list[Scheme]]
    colour: NotRequired[str]
    mask: NotRequired[list[tuple[str, int, int]]]
    drivers: NotRequired[Drivers | None]


class Settings(TypedDict):
    """Everything that the scripts of a page must know; `types.js` has a sentence for each field."""

    kinds: list[str]
    tables: dict[str, int]
    neurons: bool
    map: str | None
    cite: str
    sheet: int
    front: int
    card: str
    lit: int
    zoom: int
    mark: str
    palette: tuple[str, ...]
    ramp: tuple[str, ...]
    heat: tuple[str, ...]
    figure: Figure | None
    places: Places | None
    legend: list[Scheme]
    colour: str | None
    mask: list[tuple[str, int, int]]
    drivers: Drivers | None
    cards: CardFiles | None
