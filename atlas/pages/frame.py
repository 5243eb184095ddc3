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

from atlas.pages import columns
from atlas.pages.thumbnails import pictured, sheet_name
from atlas.store import Store

HERE = Path(__file__).parent
SCRIPTS = ("atlas.js", "scatter.js", "map.js", "neurons.js", "activations.js")
NAVIGATION = {"index.html": "Map", "neurons.html": "Neurons", "activations.html": "Activations", "about.html": "About"}


@dataclass
class Frame:
    """A site being written: its Store, its folder, and the pages that it will have."""

    store: Store
    folder: Path
    pages: list[str] = field(default_factory=list)

    @cached_property
    def templates(self) -> Environment:
        """Jinja's environment: everything escaped, nothing undefined."""
        found = Environment(
            loader=FileSystemLoader(HERE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        found.filters["json"] = lambda content: Markup(columns.safe_json(content))
        found.filters["figure"] = short
        found.filters["share"] = lambda value: "–" if value is None or value != value else f"{value:.3f}"
        found.filters["signed"] = lambda value: f"{value:+.1f}".replace("-", "−")
        found.globals.update(
            navigation=[(path, NAVIGATION.get(path, path)) for path in self.pages],
            title=self.store.path.name,
            provenance=provenance(self.store),
            command=command(self.store),
            settings=self.settings,
        )
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the scripts of every page must know."""
        return {
            "kinds": list(self.store.counts),
            "sheets": [sheet_name(shard) for shard in pictured(self.store)],
            "grid": self.grid,
            "neurons": "neurons.html" in self.pages,
        }

    @cached_property
    def grid(self) -> tuple[int, int]:
        """Height and width of the layer's map: what positions in it are counted in."""
        height, width = self.store.request["model"]["layers"][0]["grid"]
        return height, width

    def derived(self, name: str, file: str) -> Path | None:
        """A file of something derived, or None where it was not made; `Refused` where it is stale."""
        if not self.store.has(name):
            return None
        path = self.store.derived(name) / file
        return path if path.exists() else None

    def render(self, template: str, path: str, **context: Any) -> None:
        """Write one page."""
        target = self.folder / path
        target.parent.mkdir(exist_ok=True)
        root = "../" * path.count("/")
        target.write_text(self.templates.get_template(template).render(root=root, path=path, **context), "utf-8")

    def write_data(self, name: str, data: dict[str, columns.Column]) -> None:
        """Write columns as data/NAME.js."""
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "data" / f"{name}.js").write_text(columns.script(name, data), "utf-8")

    def write_assets(self) -> None:
        """Write style, scripts and BokehJS, which all pages share."""
        assets = self.folder / "assets"
        assets.mkdir()
        sheets = (f'.s{i}{{background-image:url("{name}")}}\n' for i, name in enumerate(self.settings["sheets"]))
        (assets / "atlas.css").write_text((HERE / "atlas.css").read_text("utf-8") + "".join(sheets), "utf-8")
        for script in SCRIPTS:
            (assets / script).write_text((HERE / script).read_text("utf-8"), "utf-8")
        library = Path(bokeh.__file__).parent / "server" / "static" / "js"
        parts = [(library / name).read_text("utf-8") for name in ("bokeh.min.js", "bokeh-gl.min.js")]
        (assets / "bokeh.min.js").write_text("\n".join(parts), "utf-8")


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
    if store.has("layout/map"):
        found |= _map_quality(store.recipe("layout/map"))
    if store.has("index/embedding"):
        found["Index"] = "; ".join(
            f"{kind}s: {made['type']}, recall@10 {made['recall_at_10']:.3f}"
            for kind, made in store.recipe("index/embedding").items()
            if isinstance(made, dict) and "recall_at_10" in made
        )
    return found


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


def short(value: float | None) -> str:
    """A figure to three significant digits, with a true minus."""
    if value is None or value != value:
        return "–"
    text = f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")
