"""`atlas ...`: a command is a function, its options stand above it. Results go to stdout, progress to stderr."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from atlas.console import command_line, exclusive, option, print_table, run_command, takes
from atlas.errors import Refused

if TYPE_CHECKING:
    from atlas.model.clip import Clip
    from atlas.model.layers import Token
    from atlas.store.store import Store

# Nothing heavy is imported here: `atlas --help` must answer at once. Each command imports what it runs.

DEMO = ("emoji", "words:emoji?fonts=open-sans,pt-serif", "texts")  # sources of `atlas demo`

OUT = option("out", type=Path, help="folder of the Store")
JSON = option("--json", action="store_true", dest="as_json", help="print JSON instead of a table")
SEED = option("--seed", type=int, default=0)
DEVICE = option("--device", default="auto", help="cpu, cuda, cuda:1, mps; auto takes a GPU where there is one")
WEIGHTS = option("--pretrained", help="the checkpoint file's place now, if the Store was made with one")
MAX_MB = option("--max-mb", type=float, default=25, help="largest size of the site in MB (25)")
FORCE = option("--force", action="store_true", help="derive and write everything again")
MODEL = (
    option("--model", default="mini", help="an open_clip model (mini, the embedded one)"),
    option("--pretrained", metavar="TAG|FILE", help="open_clip's tag or a checkpoint file; none: random weights"),
    option("--layer", nargs="+", metavar="L", help="module paths; `atlas layers MODEL` lists them"),
    option("--token", choices=("cls", "patches"), help="which tokens of a ViT (those the tower pools)"),
)
COLLECTING = (
    DEVICE,
    option("--batch", type=int, default=64, help="images a forward pass (64)"),
    SEED,
    option("--thumb", type=int, default=64, help="longest side of thumbnails in pixels (64)"),
    option("--engine", choices=("local", "ray"), default="local", help="where the work runs (local)"),
    option("--skip-bad", action="store_true", help="exit with 0 although inputs were refused"),
    option("--append", action="store_true", help="add files that are new since the last run"),
)
SOURCES = option("source", nargs="+", help="emoji, words, texts, a folder, list, table, tar, Parquet, hf:NAME")


class Collecting(TypedDict):
    """What `demo`, `build` and `collect` hand on to the model and to `collect`."""

    device: str
    batch: int
    seed: int
    thumb: int
    engine: str
    append: bool


class Modelled(Collecting):
    """The same, of a model that the user names."""

    model: str
    pretrained: str | None
    layer: list[str] | None
    token: "Token | None"


@takes(
    option("out", type=Path, nargs="?", default=Path("outputs/demo"), help="outputs/demo"), COLLECTING, MAX_MB, FORCE
)
def demo_command(out: Path, max_mb: float, force: bool, skip_bad: bool, **options: Unpack[Collecting]) -> int:
    """Build the atlas of the embedded model over emoji, rendered words and captions; offline, in minutes."""
    own = Modelled(model="mini", pretrained=None, layer=None, token=None, **options)
    return build_command(list(DEMO), out, max_mb, force, skip_bad, **own)


@takes(SOURCES, OUT, MODEL, COLLECTING, MAX_MB, FORCE)
def build_command(
    source: list[str], out: Path, max_mb: float, force: bool, skip_bad: bool, **options: Unpack[Modelled]
) -> int:
    """Collect, derive everything and write the site: the whole path in one command."""
    from atlas.analysis.derivation import derive
    from atlas.pages.site import SITE, write_site

    store, clip = _collect(source, out, **options)
    if derive(store, clip, force) or not store.current(SITE):
        write_site(store, max_mb=max_mb)
    print(store)
    print(store.derived(SITE) / "index.html")
    return _report_rejects(store, skip_bad)


@takes(SOURCES, OUT, MODEL, COLLECTING)
def collect_command(source: list[str], out: Path, skip_bad: bool, **options: Unpack[Modelled]) -> int:
    """Run every item of the sources through the model once and keep what came out."""
    store, _ = _collect(source, out, **options)
    print(store)
    return _report_rejects(store, skip_bad)


@takes(OUT, WEIGHTS, DEVICE)
def stats_command(out: Path, pretrained: str | None, device: str) -> int:
    """Statistics of every neuron, its neighbours and nearest texts."""
    from atlas.analysis.derivation import clip_of, relate_neurons, relate_texts, summarise_neurons

    store = _open(out)
    clip = clip_of(store, pretrained, device)
    print(summarise_neurons(store))
    print(relate_neurons(store, clip))
    print(relate_texts(store, clip))
    return 0


@takes(OUT, SEED, JSON)
def index_command(out: Path, seed: int, as_json: bool) -> int:
    """FAISS indexes over the embeddings, one for each kind, with their measured recall."""
    from atlas.analysis import parts
    from atlas.analysis.derivation import index_embeddings

    store = _open(out)
    print(index_embeddings(store, seed=seed))
    print_table([{"kind": kind, **entry} for kind, entry in store.recipe(parts.EMBEDDINGS).items()], as_json)
    return 0


@takes(
    OUT,
    option("--neighbors", type=int, default=15, help="UMAP's n_neighbors (15)"),
    option("--min-dist", type=float, default=0.1, help="UMAP's min_dist (0.1)"),
    option("--raw", action="store_true", help="keep the gap between kinds"),
    option("--columns", type=int, help="cells across the activation atlas (20; fewer where there are few images)"),
    SEED,
    JSON,
)
def map_command(
    out: Path, neighbors: int, min_dist: float, raw: bool, columns: int | None, seed: int, as_json: bool
) -> int:
    """The map of all rows, the neuron atlas and the activation atlas."""
    from atlas.analysis import parts
    from atlas.analysis.derivation import lay_out_cells, lay_out_neurons, lay_out_rows

    store = _open(out)
    print(lay_out_rows(store, n_neighbors=neighbors, min_dist=min_dist, centre=not raw, seed=seed))
    print(lay_out_neurons(store, seed=seed))
    if "image" in store.counts:
        print(lay_out_cells(store, columns=columns, seed=seed))
    print_table([{"measure": name, "value": value} for name, value in store.recipe(parts.MAP).items()], as_json)
    return 0


def _span(text: str) -> range:
    """The neurons that 12, or 40-47, means."""
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a span such as 40-47")
    return range(int(first), int(last or first) + 1)


@takes(
    OUT,
    option("neuron", nargs="*", type=_span, help="numbers and spans of numbers: 12 40-47"),
    option("--all", action="store_true", dest="every", help="every neuron of the layer"),
    option("--theme", nargs="+", metavar="T", help="facets: a text, learnt from its nearest pictures, or words"),
    option("--strength", type=float, default=1.0, help="weight of the theme (1)"),
    option("--repeats", type=int, default=1, help="pictures of each neuron, unlike each other (1)"),
    option("--steps", type=int, default=200, help="steps of optimisation (200)"),
    SEED,
    WEIGHTS,
    DEVICE,
    JSON,
)
def dream_command(
    out: Path,
    neuron: list[range],
    every: bool,
    theme: list[str] | None,
    strength: float,
    repeats: int,
    steps: int,
    seed: int,
    pretrained: str | None,
    device: str,
    as_json: bool,
) -> int:
    """Feature visualisation: pictures optimised so that a neuron responds, plain or by theme, for the cards."""
    from atlas.analysis.derivation import clip_of
    from atlas.analysis.naming import NeuronNames
    from atlas.dream.gallery import write_drawings

    store = _open(out)
    clip = clip_of(store, pretrained, device)
    if bool(neuron) == every:
        raise Refused("name neurons, as in 12 40-47, or ask for --all of them")
    chosen = range(clip.neurons) if every else [number for span in neuron for number in span]
    found = write_drawings(store, clip, chosen, theme or ("",), repeats, steps, strength, seed)
    names, shown = NeuronNames.read(store), ("neuron", "theme", "repeat", "reached", "strongest")
    rows = [{name: row[name] for name in shown} | {"label": str(names[row["neuron"]])} for row in found]
    print_table(rows, as_json)
    print(f"atlas page {out} brings them onto the cards", file=sys.stderr)
    return 0


@takes(
    OUT,
    MAX_MB,
    option("--single-file", action="store_true", help="the map alone as one file, OUT/single/map.html"),
)
def page_command(out: Path, max_mb: float, single_file: bool) -> int:
    """The static site, from whatever was derived."""
    from atlas.pages.site import write_site

    print(write_site(_open(out), max_mb=max_mb, single_file=single_file))
    return 0


@takes(
    OUT,
    exclusive(
        option("--text", help="a text, through the text tower"),
        option("--image", type=Path, help="an image file"),
        option("--row", help="a row of the Store, by position or id"),
        option("--neuron", type=int, help="a neuron, by number"),
    ),
    option("--by", choices=("basis", "response"), default="response", help="how neurons are compared"),
    option("--kind", choices=("image", "word", "text"), default="image", help="kind of rows to find (image)"),
    option("-k", type=int, default=10, help="how many (10)"),
    WEIGHTS,
    JSON,
)
def near_command(
    out: Path,
    text: str | None,
    image: Path | None,
    row: str | None,
    neuron: int | None,
    by: str,
    kind: str,
    k: int,
    pretrained: str | None,
    as_json: bool,
) -> int:
    """Rows near a text, an image or a row; neurons near a neuron."""
    from atlas.analysis import parts, queries

    store = _open(out)
    if neuron is not None:
        print_table(queries.neurons_near(store, neuron, k, by), as_json)
    elif row is not None:
        print_table(queries.rows_near_row(store, int(row) if row.isdigit() else row, k, kind), as_json)
    else:
        vector = queries.embed_query(store, text, image, pretrained)
        print_table(queries.rows_near(store, vector, k, kind), as_json)
        if store.current(parts.MAP) and not as_json:
            x, y = queries.place_on_map(store, vector, kind)
            print(f"its place on the map, among the {kind}s: {x:.2f}, {y:.2f}")
    return 0


@takes(OUT)
def check_command(out: Path) -> int:
    """Verify a Store and all that was derived from it against their checksums."""
    store = _open(out)
    faults = store.check()
    for fault in faults:
        print(fault)
    derived = ", ".join(store.everything_derived()) or "nothing"
    print(f"{store.path}: {len(store.shards)} shards, {len(store):,} rows; derived: {derived}; {len(faults)} faults")
    return 1 if faults else 0


@takes(OUT, option("file", type=Path, help="Parquet file to write"))
def export_command(out: Path, file: Path) -> int:
    """One Parquet file of rows, embeddings and map positions, for other tools."""
    from atlas.analysis.queries import export_parquet

    print(export_parquet(_open(out), file))
    return 0


@takes(option("model", nargs="?", default="mini"), option("--pretrained", metavar="TAG|FILE"), JSON)
def layers_command(model: str, pretrained: str | None, as_json: bool) -> int:
    """What can be hooked in a model, with shapes."""
    from atlas.model.clip import Clip

    clip = Clip(model, pretrained, device="cpu")
    rows = [{"path": x.path, "neurons": x.neurons, "height": x.height, "width": x.width} for x in clip.layers()]
    print_table([{**row, "default": "*" if row["path"] == clip.layer else ""} for row in rows], as_json)
    return 0


# -- what the commands share -------------------------------------------------------------------------------------------


def _collect(source: list[str], out: Path, **options: Unpack[Modelled]) -> "tuple[Store, Clip]":
    from atlas.model.clip import Clip
    from atlas.store.collection import collect

    clip = Clip(options["model"], options["pretrained"], options["layer"], options["device"], options["token"])
    store = collect(
        source,
        clip,
        out,
        seed=options["seed"],
        thumb=options["thumb"],
        batch=options["batch"],
        engine=options["engine"],
        append=options["append"],
    )
    return store, clip


def _open(out: Path) -> "Store":
    from atlas.store.store import Store

    return Store.open(out)


def _report_rejects(store: "Store", skip_bad: bool) -> int:
    """Name the first inputs that were refused; returns the exit code, 1 unless `skip_bad`."""
    rejects = store.rejects
    if not len(rejects):
        return 0
    for row in rejects.slice(0, 5).to_pylist():
        print(f"refused {row['id']}: {row['reason']}", file=sys.stderr)
    more = "" if skip_bad else "; --skip-bad accepts that"
    print(f"{len(rejects):,} inputs refused, listed in {store.path / 'rejects.parquet'}{more}", file=sys.stderr)
    return 0 if skip_bad else 1


COMMANDS = (
    demo_command,
    build_command,
    collect_command,
    stats_command,
    index_command,
    map_command,
    dream_command,
    page_command,
    near_command,
    check_command,
    export_command,
    layers_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `atlas`; returns its exit code: 0 done, 1 something was refused, 2 misuse, 130 interrupted."""
    parser = command_line("atlas", "See what the neurons of a CLIP model respond to.", COMMANDS)
    return run_command(parser, argv, "interrupted; finished work is kept, and the same command goes on from there")
