"""Neurons as a figure for a paper or a slide: PDF, SVG or PNG, with what each responds to and where it all comes from.

Matplotlib draws; it comes with the extra `figure`.
"""

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from atlas.errors import Misuse, Refused
from atlas.formatting import display_text, escape_controls
from atlas.pages.frame import StoreFrame
from atlas.pages.neurons import Neurons
from atlas.pages.poster import poster_name, poster_sides, poster_ticks, poster_verdict
from atlas.pages.rows import PageRows
from atlas.store.files import whole_file
from atlas.store.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("pdf", "svg", "png")
MOST_NEURONS = 60  # in a figure
_MAKER = "Multimodal Atlas"  # stands in every figure's metadata, by which its own figures are known
_WIDTH, _BAND, _FOOT = 10.0, 1.5, 0.45  # inches: the figure, each neuron, and the line of sources
_PICTURES, _SIDE, _GAP, _LEFT = 7, 0.82, 0.06, 3.7  # pictures of a neuron, their side, gap and left edge in inches
_LINE = 58  # letters of a line of text


def write_figure(store: Store, neurons: Sequence[int], file: str | Path = "figure.pdf", dpi: int = 200) -> Path:
    """Draw neurons into a PDF, SVG or PNG file, each with its name, its strongest pictures and its checks.

    A drawing of the neuron comes first where there is one. The last line names model, layer, data and their hashes.
    `dpi`: dots an inch, for PNG. The same Store gives the same bytes.

    Raises `Misuse` for another kind of file, a file that is no figure of a Store, and neurons that there are not;
    `Refused` without Matplotlib, and for a Store without statistics.
    """
    path = Path(file)
    check_target(store, path)
    frame = StoreFrame(store, path.parent, [], {})
    found = Neurons.read(frame, PageRows(store))
    if found is None:
        raise Refused(f"{store.path} has no statistics of neurons; make them: atlas stats {store.path}")
    wanted = list(dict.fromkeys(neurons))
    if not 0 < len(wanted) <= MOST_NEURONS:
        raise Misuse(f"{len(wanted)} neurons; a figure shows 1 to {MOST_NEURONS}")
    if beyond := [neuron for neuron in wanted if not 0 <= neuron < len(found)]:
        raise Misuse(f"there is no neuron {beyond[0]}; {store.layer} has {len(found):,}, from 0 on")
    figure = _figure(found, wanted)
    return save_figure(figure, path, dpi)


def check_target(store: Store, path: Path) -> None:
    """Raise `Misuse` unless a figure of the Store may be written to `path`."""
    if path.suffix[1:].lower() not in FORMATS:
        raise Misuse(f"{path}: a figure is a .pdf, .svg or .png file")
    if not path.parent.is_dir():
        raise Misuse(f"{path.parent} is not there; make the folder first")
    if store.path.resolve() in path.resolve().parents:
        raise Misuse(f"{path} is inside the Store; name a file elsewhere")
    if path.exists() and not (path.is_file() and _MAKER.encode() in path.read_bytes()):
        raise Misuse(f"{path} is there, and no figure of a Store; name another file")


def _figure(found: Neurons, wanted: Sequence[int]) -> "Figure":
    height = _BAND * len(wanted) + _FOOT
    figure = new_figure(_WIDTH, height)
    for place, neuron in enumerate(wanted):
        _draw_neuron(figure, found, neuron, height - _BAND * place - 0.2)
    write_source(figure, found.frame.facts.cite)
    return figure


def _draw_neuron(figure: "Figure", found: Neurons, neuron: int, top: float) -> None:
    """A neuron's band, whose upper edge lies `top` inches above the figure's lower edge."""
    _, height = figure.get_size_inches()

    def say(text: str, below: float, size: float, color: str = "black", weight: str = "normal") -> None:
        at = (0.3 / _WIDTH, (top - below) / height)
        style = {"size": size, "color": color, "weight": weight, "linespacing": 1.35}
        figure.text(*at, text, style, va="top", parse_math=False)

    say(f"Neuron {neuron}", 0.0, size=8.0, color="#666")
    say(text_lines(poster_name(found, neuron), 34, 1), 0.16, size=11.0, weight="bold")
    said = [f"{title}: {text_lines(text, _LINE - len(title), 1)}" for title, text in poster_sides(found, neuron)]
    marks = {True: "yes", False: "no", None: "–"}
    ticks = poster_ticks(found, neuron)
    said += [poster_verdict(ticks)] if ticks else []
    said += [f"{marks[tick.holds]}: {text_lines(tick.text, _LINE, 1)}" for tick in ticks]
    say("\n".join(said), 0.42, size=6.5, color="#333")
    for place, picture in enumerate(_pictures(found, neuron)):
        box = (_LEFT + place % _PICTURES * (_SIDE + _GAP), top - 0.1 - _SIDE, _SIDE, _SIDE)
        axes = figure.add_axes((box[0] / _WIDTH, box[1] / height, box[2] / _WIDTH, box[3] / height))
        axes.imshow(picture, interpolation="lanczos")
        axes.set_axis_off()


def _pictures(found: Neurons, neuron: int) -> list[Image.Image]:
    drawn = [row["image"] for row in (found.drawings or {}).get(neuron, ())[:1]]
    top = found.stats[found.kind][neuron]["top"]
    distinct = found.rows.distinct(top, _PICTURES - len(drawn))
    shown = [found.frame.store.thumb(int(top[at])) for at in distinct]
    return [Image.open(io.BytesIO(content)).convert("RGB") for content in (*drawn, *shown) if content]


def new_figure(width: float, height: float) -> "Figure":
    """A white figure of a size in inches. Raises `Refused` without Matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise Refused('figures are drawn by Matplotlib: pip install "multimodal-atlas[figure]"') from None
    return Figure((width, height), facecolor="white")


def write_source(figure: "Figure", source: str) -> None:
    """Write at a figure's foot, in at most two lines, where it comes from."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(escape_controls(source), round(15 * width), max_lines=2, placeholder=" …")
    figure.text(0.3 / width, 0.1 / height, "\n".join(lines), size=6.5, color="#666", va="bottom", parse_math=False)


def text_lines(text: str, width: int, most: int = 2) -> str:
    """A text in at most so many lines of a width."""
    return "\n".join(textwrap.wrap(display_text(text), max(width, 8), max_lines=most, placeholder=" …"))


def save_figure(figure: "Figure", path: Path, dpi: int) -> Path:
    """Write a figure as the kind of file that the path's ending names, in one step; returns the path."""
    import matplotlib

    kind = path.suffix[1:].lower()
    metadata = {"png": {"Software": _MAKER}, "svg": {"Creator": _MAKER, "Date": None}}
    metadata["pdf"] = {"Creator": _MAKER, "CreationDate": None}
    same = matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": _MAKER, "pdf.fonttype": 42, "image.composite_image": False}
    )
    drawn = io.BytesIO()  # not a file: on a full disk Matplotlib's PDF ends in an error of its own
    with warnings.catch_warnings(), same:
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a script that the font lacks is drawn as boxes
        figure.savefig(drawn, format=kind, dpi=dpi, metadata=metadata[kind])
    with whole_file(path) as partial:
        partial.write_bytes(drawn.getbuffer())
    return path
