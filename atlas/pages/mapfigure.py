"""A view of the map as a figure: points, pictures, words and names of regions, with the legend and the sources."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from PIL import Image

from atlas.errors import Misuse, Refused
from atlas.formatting import display_text
from atlas.pages.colours import PALETTE, RAMP
from atlas.pages.columns import place_steps
from atlas.pages.figure import check_target, new_figure, save_figure, write_source
from atlas.pages.frame import StoreFrame
from atlas.pages.front import standing_points
from atlas.pages.legend import first_scheme, legend_entries, row_schemes
from atlas.pages.map import image_code, named_regions, read_points
from atlas.pages.provenance import store_place
from atlas.pages.regions import Region
from atlas.pages.rows import PageRows
from atlas.pages.settings import Scheme
from atlas.store.store import Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _FOOT = 10.0, 7.6, 0.6  # inches: the figure, and the legend and sources at its foot
_SIDE = 0.24  # of a picture, in inches
_TRIED = 5000  # words, and pictures, that are tried in a view
_FIRST_WORDS = 30  # words that are placed before the pictures
_LONGEST = 24  # letters of a word on the map
_LEVELS = ((0.0, 4.0, 12.0), (1.6, 14.0, 10.0), (4.0, np.inf, 9.0))  # enlargements at which names show; their size
_SEEN = 0.998  # share of the points along each axis that the whole map shows, as on the page


@dataclass(frozen=True, slots=True)
class MapView:
    """What an address of map.html shows: middle and width in the page's steps, the colour scheme, hidden entries."""

    place: tuple[float, float, float] | None = None
    colour: str | None = None
    hidden: tuple[tuple[str, int], ...] = ()

    @classmethod
    def read(cls, address: str) -> "MapView":
        """Read an address, or its part after the #. Raises `Misuse` for another text."""
        fields = {name: values[-1] for name, values in parse_qs(address.rpartition("#")[2]).items()}
        if not fields and address and not address.rstrip("#").endswith(".html"):
            raise Misuse(f"{display_text(address)[:40]} is no address of map.html; copy it: #v=x,y,width")
        place = None
        if "v" in fields:
            numbers = fields["v"].split(",")
            try:
                x, y, width = (float(number) for number in numbers)
            except ValueError:
                x = y = width = np.nan
            if not (np.isfinite([x, y, width]).all() and width > 0):
                what = display_text(fields["v"])[:40]
                raise Misuse(f"v={what} is no view; copy the address of map.html: #v=x,y,width")
            place = (x, y, width)
        hidden = [part.split(".") for part in fields.get("hide", "").split(",") if part.count(".") == 1]
        entries = tuple((name, int(at)) for name, at in hidden if at.isdecimal() and len(at) < 4)
        return cls(place, fields.get("c"), entries)


def write_map_figure(store: Store, address: str = "", file: str | Path = "figure.pdf", dpi: int = 200) -> Path:
    """Draw the map, or the view of it that an address of map.html names, into a PDF, SVG or PNG file.

    Of the address, place (v), colour (c) and hidden entries of the legend (hide) count. The foot names model, layer,
    data and their hashes. `dpi`: dots an inch, for PNG. The same Store gives the same bytes.

    Raises `Misuse` for another kind of file, a file that is no figure of a Store, and an address that is no view;
    `Refused` without Matplotlib, and for a Store without a map.
    """
    path, view = Path(file), MapView.read(address)
    check_target(store, path)
    frame = StoreFrame(store, path.parent, [], {})
    rows = PageRows(store)
    points = read_points(frame, rows)
    if points is None:
        raise Refused(f"{store.path} has no map; make it: atlas map {store_place(store)}")
    return save_figure(_Drawing(frame, rows, *points, view).draw(address), path, dpi)


class _Drawing:
    """A view of the map while it is drawn; places are in inches from the lower left corner."""

    def __init__(self, frame: StoreFrame, rows: PageRows, xy: Float[np.ndarray, "n 2"], data: dict, view: MapView):
        self.frame, self.rows, self.xy, self.data, self.view = frame, rows, xy, data, view
        self.at = np.asarray(data["row"])
        columns = rows.columns()
        schemes = row_schemes(data, columns, frame.facts.kinds)
        named = {scheme["name"]: scheme for scheme in schemes}
        if view.colour and view.colour not in named:
            raise Misuse(f"c={display_text(view.colour)[:40]} is no colouring of this map; it has {', '.join(named)}")
        self.scheme: Scheme = named[view.colour] if view.colour else first_scheme(schemes)
        entries = legend_entries(schemes, data, columns)
        self.entry = entries[self.scheme["name"]]
        self.shown: Bool[np.ndarray, " n"] = np.ones(len(xy), bool)
        for name, entry in view.hidden:
            if name in entries:
                self.shown &= entries[name] != entry
        self.places, self.enlarged = self._placed()
        inside = (self.places > 0) & (self.places < (_WIDTH, _HEIGHT - _FOOT))
        self.visible = self.shown & inside.all(axis=1)
        self.hues = np.array([(*PALETTE, *RAMP)[entry["hue"]] for entry in self.scheme["entries"]])
        self.taken: list[tuple[float, float, float, float]] = []

    def _placed(self) -> tuple[Float64[np.ndarray, "n 2"], float]:
        """Where the points lie in the figure, and how many times the whole map is enlarged."""
        ends = np.quantile(self.xy, [(1 - _SEEN) / 2, (1 + _SEEN) / 2], axis=0)
        tall = _HEIGHT - _FOOT
        middle, size = ends.mean(axis=0), np.maximum(1.06 * np.ptp(ends, axis=0), 1e-9)
        scale = whole = min(_WIDTH / size[0], tall / size[1])
        if self.view.place:
            x, y, step = place_steps(self.xy)
            across, up, width = self.view.place
            middle, scale = np.array([x + across * step, y + up * step]), _WIDTH / (width * step)
        return (self.xy - middle) * scale + (_WIDTH / 2, tall / 2), scale / whole

    def draw(self, address: str) -> "Figure":
        """The figure."""
        figure = new_figure(_WIDTH, _HEIGHT)
        axes = figure.add_axes((0, _FOOT / _HEIGHT, 1, 1 - _FOOT / _HEIGHT))
        axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT - _FOOT), aspect="auto")
        axes.set_axis_off()
        points = self.places[self.visible]
        hues = self.hues[self.entry[self.visible]]
        axes.scatter(*points.T, s=3, c=hues, alpha=0.6, linewidths=0, rasterized=True)
        names = self._names()
        words = self._words()
        self._write(axes, islice(words, _FIRST_WORDS))
        self._pictures(axes)
        self._write(axes, words)
        for region, (x, y), size in names:
            box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": "none", "alpha": 0.85}
            style = {"size": size, "weight": "bold", "ha": "center", "va": "center"}
            axes.text(x, y, display_text(region.text), style, bbox=box, parse_math=False, zorder=5)
        self._foot(figure, address)
        return figure

    def _free(self, x: float, y: float, half: float, tall: float) -> bool:
        """Whether a box lies in the figure and meets no other; it is taken if so."""
        box = (x - half, y - tall, x + half, y + tall)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= _WIDTH and box[3] <= _HEIGHT - _FOOT
        if not inside or any(b[0] < box[2] and box[0] < b[2] and b[1] < box[3] and box[1] < b[3] for b in self.taken):
            return False
        self.taken.append(box)
        return True

    def _names(self) -> list[tuple[Region, tuple[float, float], float]]:
        """Names of regions with their places and sizes: coarse before fine, large before small, none twice."""
        regions, _ = named_regions(self.frame, self.rows, self.at, self.xy)
        found: list[tuple[Region, tuple[float, float], float]] = []
        for region in sorted(regions, key=lambda region: (region.level, -region.count)):
            least, most, size = _LEVELS[region.level]
            x, y = self.places[region.point].tolist()
            if not least <= self.enlarged < most or not self.shown[region.members].any():
                continue
            again = any(other.text == region.text for other, _, _ in found)
            if not again and self._free(x, y, (0.33 * len(region.text) + 0.7) * size / 72, size / 72):
                found.append((region, (x, y), size))
        return found

    def _pictures(self, axes: "Axes") -> None:
        """Pictures that stand for those around them, without overlap."""
        pictured = self.visible & (self.rows.places[0][self.at] >= 0)
        if "image" in self.frame.store.counts:
            pictured &= self.rows.kinds[self.at] == image_code(self.frame)
        inside = np.flatnonzero(pictured)
        standing = inside[standing_points(self.places[inside], np.ones(len(inside), bool))]
        for point in list(dict.fromkeys([*standing.tolist(), *scattered(inside).tolist()]))[:_TRIED]:
            x, y = self.places[point].tolist()
            if not self._free(x, y, _SIDE / 2, _SIDE / 2):
                continue
            content = self.frame.store.thumb(int(self.at[point]))
            if content:
                box = (x - _SIDE / 2 + 0.02, x + _SIDE / 2 - 0.02, y - _SIDE / 2 + 0.02, y + _SIDE / 2 - 0.02)
                picture = Image.open(io.BytesIO(content)).convert("RGB")
                axes.imshow(picture, extent=box, aspect="auto", interpolation="lanczos", zorder=3)
                edge = ([box[0], box[1], box[1], box[0], box[0]], [box[2], box[2], box[3], box[3], box[2]])
                axes.plot(*edge, color=self.hues[self.entry[point]], linewidth=0.9, zorder=4)

    def _words(self) -> Iterator[int]:
        """Points with a word or a text that has room, those first that lie at a picture of their name; each once."""
        kinds = self.rows.kinds[self.at]
        written = self.visible & (kinds != (image_code(self.frame) if "image" in self.frame.store.counts else -1))
        order = scattered(np.flatnonzero(written))
        met = np.asarray(self.data.get("met", np.zeros(len(self.at))))
        said: set[str] = set()
        for point in order[np.argsort(-met[order], kind="stable")][:_TRIED].tolist():
            text = self._word(point)
            x, y = self.places[point].tolist()
            if not 0 < len(text) <= _LONGEST or text.lower() in said:
                continue
            if self._free(x, y, (0.28 * len(text) + 0.4) * 7 / 72, 0.085):
                said.add(text.lower())
                yield point

    def _word(self, point: int) -> str:
        row = self.at[point]
        return display_text(self.rows.labels[row] or self.rows.captions[row])

    def _write(self, axes: "Axes", points: Iterable[int]) -> None:
        """Write words where they lie, texts in italics."""
        slanted = list(self.frame.facts.kinds).index("text") if "text" in self.frame.facts.kinds else -1
        for point in points:
            style = "italic" if self.rows.kinds[self.at[point]] == slanted else "normal"
            shown = {"size": 7, "color": "#333", "style": style, "ha": "center", "va": "center"}
            x, y = self.places[point].tolist()
            axes.text(x, y, self._word(point), shown, parse_math=False, zorder=2)

    def _foot(self, figure: "Figure", address: str) -> None:
        """The legend, and where it all comes from."""
        x, off = 0.3, self._hidden_entries()
        for k, entry in enumerate(self.scheme["entries"]):
            if k not in off and x < _WIDTH - 2:
                text = f"● {display_text(entry['name'])[:30]} {entry['count']:,}"
                figure.text(x / _WIDTH, (_FOOT - 0.2) / _HEIGHT, text, size=7.5, color=self.hues[k], parse_math=False)
                x += 0.075 * len(text) + 0.15
        view = f" View: {address.rpartition('#')[2][:80]}." if address else ""
        write_source(figure, f"{self.frame.facts.cite}{view}")

    def _hidden_entries(self) -> Sequence[int]:
        return [entry for name, entry in self.view.hidden if name == self.scheme["name"]]


def scattered(points: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """The points in an order that looks random and is always the same, so that no part of the map comes first."""
    return points[np.argsort(points * 2_654_435_761 % 2**32, kind="stable")]
