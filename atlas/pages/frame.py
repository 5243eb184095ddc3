"""The frame of a site: templates, navigation, tables of data, and the assets that all pages share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import bokeh
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from atlas.analysis.cells import PATCH_ZOOM
from atlas.formatting import format_number, format_p
from atlas.pages import columns
from atlas.pages.bundle import packed_script
from atlas.pages.colours import HEAT, MARK, PALETTE, RAMP
from atlas.pages.front import COVERS_SHEET, FrontSheet
from atlas.pages.provenance import DerivedParts, SiteFacts, store_facts
from atlas.pages.settings import PageSettings, Settings
from atlas.pages.thumbnails import SHEET_COLUMNS
from atlas.store.store import Store

STATIC_FOLDER = Path(__file__).parent / "static"
TEMPLATES_FOLDER = Path(__file__).parent / "templates"
SCRIPT_PARTS = {  # the scripts that pages load, and the files that each is joined from
    "atlas.js": ("atlas.js", "rank.js"),
    "scatter.js": ("places.js", "words.js", "overlay.js", "raster.js", "scatter.js"),
    "map.js": (
        "whole.js",
        "tiles.js",
        "rowview.js",
        "page.js",
        "lit.js",
        "legend.js",
        "between.js",
        "cardpanel.js",
        "find.js",
        "apart.js",
        "selection.js",
        "address.js",
        "map.js",
    ),
    "neurons.js": ("neurontable.js", "neurons.js"),
    "card.js": ("card.js",),
    "activations.js": ("activations.js",),
}
ROWS_A_SCRIPT = 125_000  # a table with more rows is cut into several scripts
STYLE_PARTS = ("atlas.css", "map.css", "neuron.css")  # joined into assets/atlas.css
START_PAGE = "index.html"  # the opening page of a Store's site; the only page of a map of points
MAP_PAGE, NEURONS_PAGE, CELLS_PAGE, ABOUT_PAGE = "map.html", "neurons.html", "activations.html", "about.html"
DRAWINGS_PAGE = "drawings.html"  # drawings of texts, and how to read all drawings
STUDIES_PAGE = "studies.html"  # lists the pages that other packages add, where there are several
NAVIGATION = {START_PAGE: "Map", MAP_PAGE: "Map", NEURONS_PAGE: "Neurons", CELLS_PAGE: "Activations"}
NAVIGATION |= {DRAWINGS_PAGE: "Drawings", ABOUT_PAGE: "About"}
CARDS_A_SCRIPT = 64  # cards that share a data file: opening a card reads one file
CARD_DIGITS, TABLE_DIGITS = 4, 3  # digits of a neuron in the name of its card (0012.html), and of a table of cards
MOST_LIT = 400  # highlighted points that are shown by their thumbnails


@dataclass(frozen=True)
class Page:
    """A page to render: its template, its path in the site, what the template shows, and its part of the settings.

    Pages are rendered after all tables are written, so that each knows all tables, in whatever order they were made.
    """

    template: str
    path: str
    context: Mapping[str, object] = field(default_factory=dict)
    settings: PageSettings = field(default_factory=PageSettings)


@dataclass
class Frame:
    """A site being written: its folder, its facts, and the pages that it will have.

    `titles`: of pages that NAVIGATION does not name. `tables`: in how many scripts each table is cut, which
    `write_data` fills.
    """

    folder: Path
    facts: SiteFacts
    pages: Sequence[str] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)

    @cached_property
    def templates(self) -> Environment:
        """Jinja's environment: everything is escaped, and undefined names are errors."""
        found = Environment(
            loader=FileSystemLoader(TEMPLATES_FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        found.filters["json"] = lambda content: Markup(columns.safe_json(content))
        found.filters["figure"] = format_number
        found.filters["share"] = lambda value: "–" if value is None or value != value else f"{value:.3f}"
        found.filters["chance"] = format_p
        found.filters["signed"] = lambda value: f"{value:+.1f}".replace("-", "−")
        found.filters["card"] = card_file
        found.globals.update(
            navigation=self.navigation(),
            studies=list(self.titles.items()) if self.grouped else [],
            title=self.facts.title,
            provenance=self.facts.provenance,
            command=self.facts.command,
            warnings=self.facts.warnings,
            front=len(self.facts.sheets) - 1,
            grid=self.facts.grid,
            sheet=SHEET_COLUMNS,
            mark=MARK,
        )
        return found

    @property
    def grouped(self) -> bool:
        """Whether the navigation has one entry for all pages that other packages added."""
        return len(self.titles) > 1

    def navigation(self) -> list[tuple[str, str]]:
        """The entries of the navigation: pages and what they are called."""
        found = []
        for path in self.pages:
            if path in self.titles and self.grouped:
                if (STUDIES_PAGE, "Studies") not in found:
                    found.append((STUDIES_PAGE, "Studies"))
            else:
                found.append((path, NAVIGATION.get(path) or self.titles[path]))
        return found

    def settings(self, own: PageSettings) -> Settings:
        """The settings of a page: those of the site, and its `own`. This is the one place that makes them."""
        return Settings(
            kinds=list(self.facts.kinds),
            tables=self.tables,
            neurons=NEURONS_PAGE in self.pages,
            map=MAP_PAGE if self.facts.has_map else None,
            cite=self.facts.cite,
            sheet=SHEET_COLUMNS,
            front=len(self.facts.sheets) - 1,
            card=f"neurons/{card_file(0)}",
            lit=MOST_LIT,
            zoom=1 if self.facts.grid == (1, 1) else PATCH_ZOOM,
            mark=MARK,
            palette=PALETTE,
            ramp=RAMP,
            heat=HEAT,
            figure=own.get("figure"),
            places=own.get("places"),
            legend=own.get("legend", []),
            colour=own.get("colour"),
            mask=own.get("mask", []),
            drivers=own.get("drivers"),
            cards={"shard": CARDS_A_SCRIPT, "first": card_table(0)} if card_table(0) in self.tables else None,
        )

    def render(self, page: Page) -> None:
        """Write a page."""
        target = self.folder / page.path
        target.parent.mkdir(exist_ok=True)
        root = "../" * page.path.count("/")
        template = self.templates.get_template(page.template)
        html = template.render(root=root, path=page.path, settings=self.settings(page.settings), **page.context)
        target.write_text(html, "utf-8")

    def write_data(self, name: str, data: Mapping[str, columns.Column]) -> None:
        """Write columns as data/NAME.js, and many rows as NAME.js, NAME-1.js and so on."""
        (self.folder / "data").mkdir(exist_ok=True)
        count = -(-max(map(len, data.values()), default=1) // ROWS_A_SCRIPT) or 1
        self.tables[name] = count
        for i, piece in enumerate(columns.cut_columns(data, count)):
            path = self.folder / "data" / (f"{name}-{i}.js" if i else f"{name}.js")
            path.write_text(columns.column_script(name, piece, i), "utf-8")

    def write_assets(self) -> None:
        """Write style, scripts and BokehJS, which all pages share."""
        assets = self.folder / "assets"
        assets.mkdir()
        sheets = (f'.s{i}{{background-image:url("{name}")}}\n' for i, name in enumerate(self.facts.sheets))
        styles = (*((STATIC_FOLDER / style).read_text("utf-8") for style in STYLE_PARTS), *sheets)
        (assets / "atlas.css").write_text("".join(styles), "utf-8")
        for script, files in SCRIPT_PARTS.items():
            (assets / script).write_text(
                "\n".join((STATIC_FOLDER / part).read_text("utf-8") for part in files), "utf-8"
            )
        library = Path(bokeh.__file__).parent / "server" / "static" / "js"
        bokeh_files = [(library / name).read_text("utf-8") for name in ("bokeh.min.js", "bokeh-gl.min.js")]
        (assets / "bokeh.min.js").write_text(packed_script("\n".join(bokeh_files)), "utf-8")


class StoreFrame(Frame):
    """The frame of a Store's site. `derived`: the Store's derived parts, each verified once."""

    def __init__(self, store: Store, folder: Path, pages: Sequence[str], titles: Mapping[str, str]):
        self.store, self.derived, self.front = store, DerivedParts(store), FrontSheet(store)
        self.covers = FrontSheet(store, COVERS_SHEET)
        super().__init__(folder, store_facts(store, self.derived), pages, titles)

    def write_first_pictures(self) -> None:
        """Write the sheets of the pictures that pages show first, once all pages have added theirs."""
        for sheet in (self.front, self.covers):
            sheet.write(self.folder / "assets")


def card_table(neuron: int) -> str:
    """The name of the table, data/NAME.js, that a neuron's card is in."""
    return f"cards-{neuron // CARDS_A_SCRIPT:0{TABLE_DIGITS}d}"


def card_file(neuron: int) -> str:
    """The file name of a neuron's card, in the folder neurons."""
    return f"{neuron:0{CARD_DIGITS}d}.html"
