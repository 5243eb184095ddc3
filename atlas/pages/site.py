"""write_site: a Store and what was derived from it, as a folder of pages within a budget of bytes."""

import shutil
import sys
from pathlib import Path

from atlas.analysis import parts
from atlas.errors import Refused
from atlas.pages import budget, thumbnails
from atlas.pages.bundle import inline_assets
from atlas.pages.cards import write_cards
from atlas.pages.cells import write_cells
from atlas.pages.fragments import derived_fragments, read_fragments, write_fragments
from atlas.pages.frame import Frame
from atlas.pages.map import is_centred, write_map
from atlas.pages.neuronmap import write_neurons
from atlas.pages.neurons import Neurons
from atlas.pages.rows import PageRows
from atlas.store.store import Part, Store

SITE = Part("site", "atlas page {store}")
SINGLE_FILE = Part("single", "atlas page {store} --single-file")
SHOWN = (
    parts.EMBEDDINGS,
    parts.TERMS,
    parts.CELLS,
    parts.MAP,
    parts.NEURON_MAP,
    parts.DRAWINGS,
    parts.FACETS,
    parts.LABELS,
    parts.NEIGHBOURS,
    parts.RECEIPTS,
    parts.STATS,
    parts.TEXTS,
)  # what the pages read, where it was derived
MAX_MB = 25  # of a site, unless told otherwise (10^6 bytes)
WHOLE = "map.html"  # the single file
LISTED = 150  # bytes that made.json takes for a file


def write_site(store: Store, max_mb: float | int = MAX_MB, single_file: bool = False) -> Path:
    """Write the Store's site: index.html (map), neurons.html and a card a neuron, activations.html, about.html.

    What was not derived is left out. Thumbnails take what `max_mb` (10^6 bytes) leaves them, 56 to 24 pixels wide;
    the plan is printed on stderr before anything is written. `single_file`: the map alone, with all it needs inside,
    as single/map.html beside the site, which stays as it is. Returns the path of the map. Raises `Refused` where the
    smallest thumbnails do not fit, or where something derived is of another state of the Store.
    """
    parents = [part for part in SHOWN if store.has(part)] + derived_fragments(store)
    recipe: dict[str, float | int] = {"max_mb": max_mb}
    rows, shards = PageRows(store), thumbnails.pictured(store)
    neurons = store.request["model"]["layers"][0]["neurons"] if store.has(parts.STATS) else 0
    driven = neurons if store.has(parts.MAP) else 0
    options = {"cards": 0 if single_file else neurons, "driven": driven, "shards": shards, "single_file": single_file}
    if store.has(parts.DRAWINGS) and not single_file:
        options["drawn"] = sum(path.stat().st_size for path in store.derived(parts.DRAWINGS).glob("*.parquet"))
    options["what"] = f"a site of {store.path}"
    planned = budget.plan(rows.captions, max_mb, **options)
    print(*planned.lines(), sep="\n", file=sys.stderr)
    part, page = (SINGLE_FILE, WHOLE) if single_file else (SITE, "index.html")
    with store.deriving(part.made_with(max_mb=max_mb if max_mb != MAX_MB else None), recipe, of=parents) as folder:
        write_pages(store, folder, rows, single_file)
        limit = round(max_mb * 1e6)
        size = write_whole(store, folder, limit) if single_file else fit_sheets(store, folder, limit)
        recipe |= {"thumbnail": size.side, "quality": size.quality}
    return store.derived(part) / page


def write_pages(store: Store, folder: Path, rows: PageRows, map_alone: bool = False) -> None:
    """Write all but the thumbnails."""
    pages, added = ["index.html"], {} if map_alone else read_fragments(store)
    if not map_alone:
        pages += ["neurons.html"] if store.has(parts.STATS) else []
        pages += ["activations.html"] if store.has(parts.CELLS) else []
        pages += [*added, "about.html"]
    frame = Frame(store, folder, pages, added)
    frame.write_assets()
    if "neurons.html" in pages and (neurons := Neurons.read(frame, rows)):
        write_neurons(frame, neurons)
        write_cards(frame, neurons)
    if "activations.html" in pages:
        write_cells(frame, rows)
    write_map(frame, rows)  # after the others: it says where their tables lie
    if "about.html" in pages:
        write_fragments(frame)
        frame.render("about.html", "about.html", centred=is_centred(store) if store.has(parts.MAP) else None)


def fit_sheets(store: Store, folder: Path, limit: int) -> thumbnails.Size:
    """Write the sheets at the largest size with which the folder holds no more than `limit` bytes."""
    files, shards = [path for path in folder.rglob("*") if path.is_file()], thumbnails.pictured(store)
    used = sum(path.stat().st_size for path in files) + LISTED * (len(files) + len(shards))
    need = used
    for size, planned in thumbnails.estimates(shards):
        need = used + planned
        if need <= limit and (need := used + thumbnails.write_sheets(shards, size, folder / "assets")) <= limit:
            return size
    raise _too_large(store, need, limit)


def write_whole(store: Store, folder: Path, limit: int) -> thumbnails.Size:
    """Turn a folder with the map alone into one file of at most `limit` bytes."""
    shards, tables = thumbnails.pictured(store), sorted((folder / "data").glob("*.js"))
    scripts, need = [path.relative_to(folder).as_posix() for path in tables], 0
    used = sum(path.stat().st_size for path in tables)
    for size, planned in thumbnails.estimates(shards):
        need = used + planned * 4 // 3
        if need > limit:
            continue
        thumbnails.write_sheets(shards, size, folder / "assets")
        whole = inline_assets(folder, "index.html", scripts)
        if (need := len(whole.encode())) + LISTED <= limit:
            for part in ("assets", "data"):
                shutil.rmtree(folder / part)
            (folder / "index.html").unlink()
            (folder / WHOLE).write_text(whole, "utf-8")
            return size
    raise _too_large(store, need, limit)


def _too_large(store: Store, need: int, limit: int) -> Refused:
    return Refused(
        f"a site of {store.path} takes {need / 1e6:.1f} MB at least, above {limit / 1e6:g} MB; raise --max-mb"
    )
