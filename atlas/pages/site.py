"""write_site: a Store and what was derived from it, as a folder of pages within a budget of bytes."""

import shutil
import sys
from pathlib import Path

from atlas.errors import Refused
from atlas.pages import budget, thumbnails
from atlas.pages.bundle import bundle
from atlas.pages.cards import write_cards
from atlas.pages.cells import write_cells
from atlas.pages.fragments import derived_fragments, fragments, write_fragments
from atlas.pages.frame import Frame
from atlas.pages.map import centred, write_map
from atlas.pages.neuronmap import write_neurons
from atlas.pages.neurons import Neurons
from atlas.pages.rows import Rows
from atlas.store import Store

DRAWINGS = "neurons/drawings"
DERIVED = (
    "index/embedding",
    "index/terms",
    "layout/cells",
    "layout/map",
    "layout/neurons",
    DRAWINGS,
    "neurons/facets",
    "neurons/labels",
    "neurons/neighbours",
    "neurons/receipts",
    "neurons/stats",
    "neurons/texts",
)
WHOLE = "map.html"  # the single file
LISTED = 150  # bytes that made.json takes for a file


def write_site(store: Store, max_mb: float | int = 25, single_file: bool = False) -> Path:
    """Write the Store's site: index.html (map), neurons.html and a card a neuron, activations.html, about.html.

    What was not derived is left out. Thumbnails take what `max_mb` (10^6 bytes) leaves them, 56 to 24 pixels wide;
    the plan is printed on stderr before anything is written. `single_file`: the map alone, with all it needs inside,
    as single/map.html beside the site, which stays as it is. Returns the path of the map. Raises `Refused` where the
    smallest thumbnails do not fit, or where something derived is of another state of the Store.
    """
    parents = [name for name in DERIVED if store.has(name)] + derived_fragments(store)
    recipe: dict[str, float | int] = {"max_mb": max_mb}
    rows, shards = Rows(store), thumbnails.pictured(store)
    neurons = store.request["model"]["layers"][0]["neurons"] if store.has("neurons/stats") else 0
    driven = neurons if store.has("layout/map") else 0
    options = {"cards": 0 if single_file else neurons, "driven": driven, "shards": shards, "single_file": single_file}
    if store.has(DRAWINGS) and not single_file:
        options["drawn"] = sum(path.stat().st_size for path in store.derived(DRAWINGS).glob("*.parquet"))
    options["what"] = f"a site of {store.path}"
    planned = budget.plan(rows.captions, max_mb, **options)
    print(*planned.lines(), sep="\n", file=sys.stderr)
    name, page = ("single", WHOLE) if single_file else ("site", "index.html")
    with store.deriving(name, recipe, of=parents) as folder:
        write_pages(store, folder, rows, single_file)
        limit = round(max_mb * 1e6)
        size = write_whole(store, folder, limit) if single_file else fit_sheets(store, folder, limit)
        recipe |= {"thumbnail": size.side, "quality": size.quality}
    return store.derived(name) / page


def write_pages(store: Store, folder: Path, rows: Rows, map_alone: bool = False) -> None:
    """Write all but the thumbnails."""
    pages, added = ["index.html"], {} if map_alone else fragments(store)
    if not map_alone:
        pages += ["neurons.html"] if store.has("neurons/stats") else []
        pages += ["activations.html"] if store.has("layout/cells") else []
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
        frame.render("about.html", "about.html", centred=centred(store) if store.has("layout/map") else None)


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
        whole = bundle(folder, "index.html", scripts)
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
