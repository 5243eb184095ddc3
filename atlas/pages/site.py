"""The site of a Store: pages of everything that was derived from it, within a budget of bytes."""

import shutil
import sys
from pathlib import Path

from atlas.analysis import parts
from atlas.arrays import accepts
from atlas.errors import Refused
from atlas.pages import budget, thumbnails
from atlas.pages.bundle import inline_assets
from atlas.pages.cards import write_cards
from atlas.pages.cells import named_by_members, write_cells
from atlas.pages.dreams import DRAWN_PARTS, write_drawn
from atlas.pages.fragments import derived_fragments, read_fragments, write_fragments
from atlas.pages.frame import (
    ABOUT_PAGE,
    CELLS_PAGE,
    DRAWINGS_PAGE,
    MAP_PAGE,
    NEURONS_PAGE,
    START_PAGE,
    Page,
    StoreFrame,
)
from atlas.pages.map import is_centred, write_map
from atlas.pages.neuronmap import write_neurons
from atlas.pages.neurons import MEANING_OF_LABELS, Neurons
from atlas.pages.rows import PageRows
from atlas.pages.start import write_start
from atlas.store.store import Part, Store

SITE = Part("site", "atlas page {store}")
SINGLE_FILE = Part("single", "atlas page {store} --single-file")
SHOWN_PARTS = (
    parts.EMBEDDINGS,
    parts.TERMS,
    parts.CELLS,
    parts.MAP,
    parts.NEURON_MAP,
    *DRAWN_PARTS,
    parts.FACETS,
    parts.LABELS,
    parts.NEIGHBOURS,
    parts.RECEIPTS,
    parts.STATS,
    parts.TEXTS,
)  # the parts that pages read, where they were made
SINGLE_PAGE = "map.html"  # the map as a single file
LISTED_BYTES = 150  # bytes of made.json for each file


@accepts()
def write_site(store: Store, max_mb: float | int = budget.DEFAULT_MAX_MB, single_file: bool = False) -> Path:
    """Write a Store's site: index.html, map.html, neurons.html and the neurons' cards, activations.html, about.html.

    Parts that were not derived are left out. `max_mb`: the largest size, in 10^6 bytes; thumbnails are 56 to 24 pixels
    wide, the largest that fit. `single_file`: write the map alone, as one file with everything inside, single/map.html;
    the site beside it stays as it is.

    Prints the plan of bytes on stderr before it writes. Returns the path of the page to open. Raises `Refused` where
    the smallest thumbnails do not fit, and where a derived part is stale.
    """
    parents = [part for part in SHOWN_PARTS if store.has(part)] + derived_fragments(store)
    recipe: dict[str, float | int] = {"max_mb": max_mb}
    rows, shards = PageRows(store), thumbnails.pictured_shards(store)
    neurons = store.request["model"]["layers"][0]["neurons"] if store.has(parts.STATS) else 0
    driven = neurons if store.has(parts.MAP) else 0
    options = {"cards": 0 if single_file else neurons, "driven": driven, "shards": shards, "single_file": single_file}
    if drawn := [] if single_file else [part for part in DRAWN_PARTS if store.has(part)]:
        files = (path for part in drawn for path in store.derived(part).glob("*.parquet"))
        options["drawn"] = sum(path.stat().st_size for path in files)
    options["files"] = rows.files
    options["what"] = f"a site of {store.path}"
    planned = budget.plan_site(rows.captions, max_mb, **options)
    print(*planned.lines(), sep="\n", file=sys.stderr)
    part, page = (SINGLE_FILE, SINGLE_PAGE) if single_file else (SITE, START_PAGE)
    with store.deriving(
        part.made_with(max_mb=max_mb if max_mb != budget.DEFAULT_MAX_MB else None), recipe, of=parents
    ) as folder:
        write_pages(store, folder, rows, single_file)
        limit = round(max_mb * 1e6)
        size = write_whole(store, folder, limit) if single_file else fit_sheets(store, folder, limit)
        recipe |= {"thumbnail": size.side, "quality": size.quality}
    return store.derived(part) / page


def write_pages(store: Store, folder: Path, rows: PageRows, map_alone: bool = False) -> None:
    """Write all but the thumbnails; `map_alone`: the map's page only."""
    if map_alone:
        frame = StoreFrame(store, folder, [MAP_PAGE], {})
        frame.write_assets()
        frame.render(write_map(frame, rows))
        frame.write_first_pictures()
        return
    titles = read_fragments(store)
    own = [MAP_PAGE] + [NEURONS_PAGE] * store.has(parts.STATS) + [CELLS_PAGE] * store.has(parts.CELLS)
    own += [DRAWINGS_PAGE] * store.has(parts.TEXT_DRAWINGS)  # without drawings of texts only cards lead there
    frame = StoreFrame(store, folder, [*own, *titles, ABOUT_PAGE], titles)
    frame.write_assets()
    neurons = Neurons.read(frame, rows)
    pages = [
        write_start(frame, neurons),
        write_map(frame, rows),
        write_cells(frame, rows),
        write_drawn(frame, rows),
        *write_fragments(frame),
        about_page(frame, neurons),
    ]
    if neurons:
        pages.append(write_neurons(frame, neurons))
        write_cards(frame, neurons)
    for page in pages:  # rendered after all tables are written: see `Page`
        if page:
            frame.render(page)
    frame.write_first_pictures()


def about_page(frame: StoreFrame, neurons: Neurons | None) -> Page:
    """The page that explains the site."""
    said = " ".join(MEANING_OF_LABELS) if neurons and neurons.claims is not None else ""
    centred = is_centred(frame.derived) if frame.facts.has_map else None
    return Page("about.html", ABOUT_PAGE, {"centred": centred, "named": named_by_members(frame.derived), "said": said})


def fit_sheets(store: Store, folder: Path, limit: int) -> thumbnails.ThumbnailSize:
    """Write the sheets at the largest size with which the folder has at most `limit` bytes; returns the size."""
    files, shards = [path for path in folder.rglob("*") if path.is_file()], thumbnails.pictured_shards(store)
    used = sum(path.stat().st_size for path in files) + LISTED_BYTES * (len(files) + len(shards))
    need = used
    for size, planned in thumbnails.sheet_estimates(shards):
        need = used + planned
        if need <= limit and (need := used + thumbnails.write_sheets(shards, size, folder / "assets")) <= limit:
            return size
    raise _too_large(store, need, limit)


def write_whole(store: Store, folder: Path, limit: int) -> thumbnails.ThumbnailSize:
    """Turn a folder with the map alone into one file of at most `limit` bytes; returns the size of thumbnails."""
    shards, tables = thumbnails.pictured_shards(store), sorted((folder / "data").glob("*.js"))
    scripts, need = [path.relative_to(folder).as_posix() for path in tables], 0
    used = sum(path.stat().st_size for path in tables)
    for size, planned in thumbnails.sheet_estimates(shards):
        need = used + planned * 4 // 3
        if need > limit:
            continue
        thumbnails.write_sheets(shards, size, folder / "assets")
        whole = inline_assets(folder, MAP_PAGE, scripts)
        if (need := len(whole.encode())) + LISTED_BYTES <= limit:
            for part in ("assets", "data"):
                shutil.rmtree(folder / part)
            (folder / MAP_PAGE).unlink()
            (folder / SINGLE_PAGE).write_text(whole, "utf-8")
            return size
    raise _too_large(store, need, limit)


def _too_large(store: Store, need: int, limit: int) -> Refused:
    return Refused(
        f"a site of {store.path} takes {need / 1e6:.1f} MB at least, above {limit / 1e6:g} MB; raise --max-mb"
    )
