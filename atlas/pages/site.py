"""write_site: a Store and what was derived from it, as a folder of pages within a budget of bytes."""

from pathlib import Path

from atlas.errors import Refused
from atlas.pages import thumbnails
from atlas.pages.cards import write_cards
from atlas.pages.cells import write_cells
from atlas.pages.frame import Frame
from atlas.pages.map import write_map
from atlas.pages.neurons import Neurons, write_neurons
from atlas.pages.rows import Rows
from atlas.store import Store

DERIVED = (
    "index/embedding",
    "layout/cells",
    "layout/map",
    "layout/neurons",
    "neurons/neighbours",
    "neurons/stats",
    "neurons/texts",
)
LISTED = 150  # bytes that made.json takes for a file


def write_site(store: Store, max_mb: float | int = 25) -> Path:
    """Write the Store's site: index.html (map), neurons.html and a card a neuron, activations.html, about.html.

    What was not derived is left out. Thumbnails take what `max_mb` (10^6 bytes) leaves them, 56 to 24 pixels wide.
    Returns the path of index.html. Raises `Refused` where the smallest thumbnails do not fit, or where something
    derived is of another state of the Store.
    """
    parents = [name for name in DERIVED if store.has(name)]
    recipe: dict[str, float | int] = {"max_mb": max_mb}
    with store.deriving("site", recipe, of=parents) as folder:
        write_pages(store, folder)
        size = fit_sheets(store, folder, round(max_mb * 1e6))
        recipe |= {"thumbnail": size.side, "quality": size.quality}
    return store.derived("site") / "index.html"


def write_pages(store: Store, folder: Path) -> None:
    """Write all but the thumbnails."""
    pages = ["index.html"]
    pages += ["neurons.html"] if store.has("neurons/stats") else []
    pages += ["activations.html"] if store.has("layout/cells") else []
    frame, rows = Frame(store, folder, [*pages, "about.html"]), Rows(store)
    frame.write_assets()
    write_map(frame, rows)
    if "neurons.html" in pages and (neurons := Neurons.read(frame, rows)):
        write_neurons(frame, neurons)
        write_cards(frame, neurons)
    if "activations.html" in pages:
        write_cells(frame, rows)
    frame.render("about.html", "about.html")


def fit_sheets(store: Store, folder: Path, limit: int) -> thumbnails.Size:
    """Write the sheets at the largest size with which the folder holds no more than `limit` bytes."""
    files, shards = [path for path in folder.rglob("*") if path.is_file()], thumbnails.pictured(store)
    used = sum(path.stat().st_size for path in files) + LISTED * (len(files) + len(shards))
    need = used
    for size, planned in thumbnails.estimates(shards):
        need = used + planned
        if need <= limit and (need := used + thumbnails.write_sheets(shards, size, folder / "assets")) <= limit:
            return size
    raise Refused(
        f"a site of {store.path} takes {need / 1e6:.1f} MB at least, above {limit / 1e6:g} MB; raise --max-mb"
    )
