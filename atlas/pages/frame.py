"""What all pages share: the templates, the navigation, the provenance, the assets."""

import math
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import bokeh
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from atlas.analysis import parts
from atlas.formatting import format_number, format_p
from atlas.pages import columns
from atlas.pages.bundle import pack
from atlas.pages.thumbnails import pictured, sheet_name
from atlas.store.store import Part, Store

STATIC, TEMPLATES = (Path(__file__).parent / name for name in ("static", "templates"))
SCRIPTS = {  # what a page loads, and the files that it is joined from
    "atlas.js": ("atlas.js", "rank.js"),
    "scatter.js": ("places.js", "overlay.js", "raster.js", "scatter.js"),
    "map.js": ("whole.js", "tiles.js", "legend.js", "cardpanel.js", "find.js", "selection.js", "address.js", "map.js"),
    "neurons.js": ("neurontable.js", "neurons.js"),
    "card.js": ("card.js",),
    "activations.js": ("activations.js",),
}
SHARD = 125_000  # rows of a table from which on it is cut into several scripts
STYLES = ("atlas.css", "map.css", "neuron.css")  # joined into assets/atlas.css
NAVIGATION = {"index.html": "Map", "neurons.html": "Neurons", "activations.html": "Activations", "about.html": "About"}


@dataclass
class Frame:
    """A site being written: its Store, its folder, and the pages that it will have."""

    store: Store
    folder: Path
    pages: list[str] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)  # of the pages that NAVIGATION does not know

    @cached_property
    def templates(self) -> Environment:
        """Jinja's environment: everything escaped, nothing undefined."""
        found = Environment(
            loader=FileSystemLoader(TEMPLATES),
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
        found.globals.update(
            navigation=[(path, NAVIGATION.get(path) or self.titles[path]) for path in self.pages],
            settings=self.settings,
            **self.about,
        )
        return found

    @cached_property
    def about(self) -> dict[str, Any]:
        """What every page says of the whole: title, provenance, and the command that makes it again."""
        store = self.store
        return {"title": store.path.name, "provenance": provenance(store), "command": command(store)}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the scripts of every page must know."""
        return {
            "kinds": list(self.store.counts),
            "sheets": [sheet_name(shard) for shard in pictured(self.store)],
            "grid": self.grid,
            "neurons": "neurons.html" in self.pages,
            "map": "index.html" if self.store.has(parts.MAP) else None,
            "cite": citation(self.store),
            "tables": {},  # name -> scripts that it is cut into, filled as they are written
        }

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Height and width of the layer's map: what positions in it are counted in."""
        height, width = self.store.request["model"]["layers"][0]["grid"]
        return height, width

    def derived(self, part: Part, file: str) -> Path | None:
        """A file of something derived, or None where it was not made; `Refused` where it is stale."""
        if not self.store.has(part):
            return None
        path = self.store.derived(part) / file
        return path if path.exists() else None

    def render(self, template: str, path: str, **context: Any) -> None:
        """Write one page."""
        target = self.folder / path
        target.parent.mkdir(exist_ok=True)
        root = "../" * path.count("/")
        target.write_text(self.templates.get_template(template).render(root=root, path=path, **context), "utf-8")

    def write_data(self, name: str, data: dict[str, columns.Column]) -> None:
        """Write columns as data/NAME.js, and many rows as NAME.js, NAME-1.js and so on."""
        (self.folder / "data").mkdir(exist_ok=True)
        count = -(-max(map(len, data.values()), default=1) // SHARD) or 1
        self.settings["tables"][name] = count
        for i, piece in enumerate(columns.pieces(data, count)):
            path = self.folder / "data" / (f"{name}-{i}.js" if i else f"{name}.js")
            path.write_text(columns.script(name, piece, i), "utf-8")

    def write_assets(self) -> None:
        """Write style, scripts and BokehJS, which all pages share."""
        assets = self.folder / "assets"
        assets.mkdir()
        sheets = (f'.s{i}{{background-image:url("{name}")}}\n' for i, name in enumerate(self.settings["sheets"]))
        styles = (*((STATIC / style).read_text("utf-8") for style in STYLES), *sheets)
        (assets / "atlas.css").write_text("".join(styles), "utf-8")
        for script, files in SCRIPTS.items():
            (assets / script).write_text("\n".join((STATIC / part).read_text("utf-8") for part in files), "utf-8")
        library = Path(bokeh.__file__).parent / "server" / "static" / "js"
        bokeh_files = [(library / name).read_text("utf-8") for name in ("bokeh.min.js", "bokeh-gl.min.js")]
        (assets / "bokeh.min.js").write_text(pack("\n".join(bokeh_files)), "utf-8")


def provenance(store: Store) -> dict[str, str]:
    """Where the pages come from and how far to trust them, as name and value."""
    model, counts = store.request["model"], store.counts
    found = {
        "Model": f"{model['name']} ({model['pretrained']})" if model.get("pretrained") else model["name"],
        "Weights": f"sha256 {model['weights_sha256'][:16]}",
        "Layer": store.layer,
        "Rows": ", ".join(f"{n:,} {kind}s" for kind, n in counts.items()),
        "Store": f"sha256 {store.digest[:16]}",
    }
    if store.has(parts.MAP):
        found |= _map_quality(store.recipe(parts.MAP))
    if store.has(parts.EMBEDDINGS):
        found["Index"] = "; ".join(
            f"{kind}s: {made['type']}, recall@10 {made['recall_at_10']:.3f}"
            for kind, made in store.recipe(parts.EMBEDDINGS).items()
            if isinstance(made, dict) and "recall_at_10" in made
        )
    return found


def citation(store: Store) -> str:
    """What the pages show, in one line that identifies it: model, layer, weights, Store."""
    found = provenance(store)
    name = f"Multimodal Atlas of {found['Rows']} by {found['Model']}, {found['Layer']}"
    return f"{name} (weights {found['Weights']}, Store {found['Store']})"


def _map_quality(recipe: dict[str, Any]) -> dict[str, str]:
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
            found["Words meet drawings"] = f"{shares}: how often a word's nearest drawing carries its name"
    return found


def command(store: Store) -> str:
    """The command that makes this site again."""
    model = store.request["model"]
    words = ["atlas", "build", *store.request["sources"], f"outputs/{store.path.name}", "--model", model["name"]]
    if model.get("pretrained"):
        words += ["--pretrained", str(model["pretrained"])]
    words += ["--layer", store.layer, "--seed", str(store.request.get("seed", 0))]
    return shlex.join(words)
