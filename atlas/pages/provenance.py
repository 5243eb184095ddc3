"""What every page says of the site as a whole: its title, where its numbers come from, and how to make it again."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atlas.analysis import parts
from atlas.analysis.alignment import Alignment
from atlas.formatting import Record
from atlas.pages.front import COVERS_SHEET, FRONT_SHEET
from atlas.pages.thumbnails import pictured_shards, sheet_name
from atlas.store.files import read_json
from atlas.store.store import Part, Store

RANDOM_WEIGHTS = "random weights"  # the origin that a Store records of them
RANDOM_TEXT = (
    "Random weights: this model was never trained, so nothing here has a meaning. Take trained ones: atlas build "
    "... --model NAME --pretrained TAG."
)


@dataclass(frozen=True)
class SiteFacts:
    """What all pages of a site share.

    `cite`: a line that identifies model, layer and data. `kinds`: kinds of rows, in the order of their codes. `sheets`:
    file names of the sheets of thumbnails, those of first pictures last. `grid`: height and width of the layer's
    map, in positions. `has_map`: whether there is a map of rows. `warnings`: what stands on top of every page. `names`:
    whether texts may name things: not where the model cannot tell the pictures apart.
    """

    title: str
    provenance: dict[str, str]
    command: str
    cite: str
    kinds: Sequence[str]
    sheets: Sequence[str] = ()
    grid: tuple[int, int] = (1, 1)
    has_map: bool = True
    warnings: Sequence[str] = ()
    names: bool = True


class DerivedParts:
    """The parts derived from a Store, each verified once: `Store.derived` verifies at every call."""

    def __init__(self, store: Store):
        self.store = store
        self._folders: dict[str, Path] = {}

    def folder(self, part: Part) -> Path | None:
        """The folder of a part, or None where it was not made. Raises `Refused` where it is stale or incomplete."""
        if part.name not in self._folders:
            if not self.store.has(part):
                return None
            self._folders[part.name] = self.store.derived(part)
        return self._folders[part.name]

    def file(self, part: Part, name: str) -> Path | None:
        """A file of a part, or None where the part or the file is absent."""
        folder = self.folder(part)
        return folder / name if folder and (folder / name).exists() else None

    def recipe(self, part: Part) -> Record:
        """How a part was made, and what was measured then; empty where it was not made."""
        folder = self.folder(part)
        return read_json(folder / "made.json")["recipe"] if folder else {}


def store_facts(store: Store, derived: DerivedParts) -> SiteFacts:
    """The facts of a Store's site."""
    provenance = store_provenance(store, derived)
    height, width = store.request["model"]["layers"][0]["grid"]
    return SiteFacts(
        title=store.path.name,
        provenance=provenance,
        command=rebuild_command(store),
        cite=citation(store, provenance),
        kinds=list(store.counts),
        sheets=[*(sheet_name(shard) for shard in pictured_shards(store)), COVERS_SHEET, FRONT_SHEET],
        grid=(height, width),
        has_map=store.has(parts.MAP),
        warnings=site_warnings(store, alignment := read_alignment(store, derived)),
        names=alignment is None or alignment.sees,
    )


def read_alignment(store: Store, derived: DerivedParts) -> Alignment | None:
    """Whether the model joins the images and texts of a Store, as it was measured; None where it was not."""
    return Alignment.read(derived.recipe(parts.TEXTS)) if store.has(parts.TEXTS) else None


def site_warnings(store: Store, alignment: Alignment | None) -> list[str]:
    """What a reader must know before anything else: random weights, and a model that cannot see these pictures."""
    found = [RANDOM_TEXT] if store.request["model"].get("origin") == RANDOM_WEIGHTS else []
    return found if alignment is None or alignment.sees else [*found, alignment.sentence()]


def store_provenance(store: Store, derived: DerivedParts) -> dict[str, str]:
    """Model, weights, layer, rows and Store by name, and the measured quality of map and index where they are there."""
    model, counts = store.request["model"], store.counts
    found = {
        "Model": model_text(store),
        "Weights": f"sha256 {model['weights_sha256'][:16]}",
        "Layer": store.layer,
        "Rows": ", ".join(f"{n:,} {kind}s" for kind, n in counts.items()),
        "Store": f"sha256 {store.digest[:16]}",
    }
    if store.has(parts.MAP):
        found |= _map_facts(derived.recipe(parts.MAP))
    if store.has(parts.EMBEDDINGS):
        found["Index"] = "; ".join(
            f"{kind}s: {made['type']}, recall@10 {made['recall_at_10']:.3f}"
            for kind, made in derived.recipe(parts.EMBEDDINGS).items()
            if isinstance(made, dict) and "recall_at_10" in made
        )
    return found


def model_text(store: Store) -> str:
    """The model's name, with the name of its weights."""
    model = store.request["model"]
    return f"{model['name']} ({model['pretrained']})" if model.get("pretrained") else model["name"]


def citation(store: Store, provenance: dict[str, str]) -> str:
    """A line that identifies what the pages show: rows, model, layer, weights and Store."""
    name = f"Multimodal Atlas of {provenance['Rows']} by {provenance['Model']}, {store.layer}"
    return f"{name} (weights {provenance['Weights']}, Store {provenance['Store']})"


def store_place(store: Store) -> str:
    """The path of a Store in commands: below the working folder relative to it, else as it is."""
    path = store.path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def rebuild_command(store: Store) -> str:
    """The command that makes the Store and its site again."""
    model = store.request["model"]
    words = ["atlas", "build", *store.request["sources"], store_place(store), "--model", model["name"]]
    if model.get("pretrained"):
        words += ["--pretrained", str(model["pretrained"])]
    words += ["--layer", store.layer, "--seed", str(store.request.get("seed", 0))]
    return shlex.join(words)


def _map_facts(recipe: Record) -> dict[str, str]:
    found = {"Map": "UMAP, " + ", ".join(f"{name} {value}" for name, value in recipe.get("umap", {}).items())}
    if "trustworthiness" in recipe:
        found["Trustworthiness"] = f"{recipe['trustworthiness']:.3f} (1: every neighbour on the map is a true one)"
    if "preservation" in recipe:
        found["Neighbours kept"] = f"{recipe['preservation']:.0%} of a point's nearest, on average"
    meets = recipe.get("word_meets_drawing")
    if isinstance(meets, dict):
        known = {how: share for how, share in meets.items() if isinstance(share, float) and math.isfinite(share)}
        shares = ", ".join(f"{share:.0%} {how}" for how, share in known.items())
        if shares:
            found["Words meet drawings"] = (
                f"{shares}: how often, in the model's space, the drawing nearest to a word carries its name; over all "
                "words that name a drawing, each font counted"
            )
    return found
