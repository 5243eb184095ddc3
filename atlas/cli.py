"""The command line `atlas`: each command is a function under its options. Results go to stdout, progress to stderr."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from atlas.console import command_line, exclusive, option, options_given, print_table, run_command, takes
from atlas.errors import Refused
from atlas.options import (
    ATLAS_COLLECTING,
    ATLAS_DEVICE,
    ATLAS_FORCE,
    ATLAS_JSON,
    ATLAS_MAX_MB,
    ATLAS_MODEL,
    ATLAS_OUT,
    ATLAS_PRETRAINED,
    ATLAS_SEED,
    ATLAS_SOURCES,
    ATLAS_WEIGHTS,
    CollectOptionsGiven,
    DreamOptionsGiven,
    MapOptionsGiven,
    ModelOptionsGiven,
)

if TYPE_CHECKING:
    from atlas.model.clip import Clip
    from atlas.store.store import Store

# Heavy modules are imported inside the commands, so that `atlas --help` answers at once. Options without a default get
# None, and the default of the called function applies; the help text names it in brackets.

DEMO = ("emoji", "words:emoji?fonts=open-sans,pt-serif", "texts")  # sources of `atlas demo`


@takes(
    option("out", type=Path, nargs="?", default=Path("outputs/demo"), help="folder of the Store (outputs/demo)"),
    ATLAS_COLLECTING,
    ATLAS_MAX_MB,
    ATLAS_FORCE,
)
def demo_command(
    out: Path, max_mb: float | None, force: bool, skip_bad: bool, **options: Unpack[CollectOptionsGiven]
) -> int:
    """Build the atlas of the embedded model over emoji, rendered words and captions; offline, in minutes."""
    own = ModelOptionsGiven(name=None, pretrained=None, layer=None, token=None, **options)
    return build_command(list(DEMO), out, max_mb, force, skip_bad, **own)


@takes(ATLAS_SOURCES, ATLAS_OUT, ATLAS_MODEL, ATLAS_COLLECTING, ATLAS_MAX_MB, ATLAS_FORCE)
def build_command(
    source: list[str],
    out: Path,
    max_mb: float | None,
    force: bool,
    skip_bad: bool,
    **options: Unpack[ModelOptionsGiven],
) -> int:
    """Collect, derive all parts and write the site: everything in one command."""
    from atlas.analysis.derivation import derive
    from atlas.pages.site import SITE, write_site

    store, clip = _collect(source, out, **options)
    if derive(store, clip, force) or not store.current(SITE):
        write_site(store, **options_given(max_mb=max_mb))
    print(store)
    print(store.derived(SITE) / "index.html")
    return _report_rejects(store, skip_bad)


@takes(ATLAS_SOURCES, ATLAS_OUT, ATLAS_MODEL, ATLAS_COLLECTING)
def collect_command(source: list[str], out: Path, skip_bad: bool, **options: Unpack[ModelOptionsGiven]) -> int:
    """Run every item of the sources through the model once and store embeddings and activations."""
    store, _ = _collect(source, out, **options)
    print(store)
    return _report_rejects(store, skip_bad)


@takes(
    ATLAS_OUT,
    option("--layer", metavar="PATH", help="another layer that the Store holds, in place of the first"),
    ATLAS_WEIGHTS,
    ATLAS_DEVICE,
)
def stats_command(out: Path, layer: str | None, pretrained: str | None, device: str | None) -> int:
    """Compute statistics of all neurons, similar neurons, and the nearest texts."""
    from atlas.analysis.derivation import clip_of, relate_neurons, relate_texts, summarise_neurons

    store = _open(out) if layer is None else _open(out).of_layer(layer)
    clip = clip_of(store, pretrained, device)
    print(summarise_neurons(store))
    print(relate_neurons(store, clip))
    print(relate_texts(store, clip))
    return 0


@takes(ATLAS_OUT, ATLAS_SEED, ATLAS_JSON)
def index_command(out: Path, seed: int | None, as_json: bool) -> int:
    """Build FAISS indexes of the embeddings, one for each kind, and measure their recall."""
    from atlas.analysis import parts
    from atlas.analysis.derivation import index_embeddings

    store = _open(out)
    print(index_embeddings(store, **options_given(seed=seed)))
    print_table([{"kind": kind, **entry} for kind, entry in store.recipe(parts.EMBEDDINGS).items()], as_json)
    return 0


@takes(
    ATLAS_OUT,
    option("--neighbors", type=int, dest="n_neighbors", metavar="N", help="n_neighbors of UMAP (15)"),
    option("--min-dist", type=float, help="min_dist of UMAP (0.1)"),
    option(
        "--raw",
        action="store_false",
        dest="centre",
        default=None,
        help="do not centre images, words and texts; the modality gap stays visible",
    ),
    option("--columns", type=int, help="cells across the activation atlas; by default 20, fewer for few images"),
    ATLAS_SEED,
    ATLAS_JSON,
)
def map_command(out: Path, as_json: bool, **options: Unpack[MapOptionsGiven]) -> int:
    """Make the map of all rows, the neuron atlas and the activation atlas."""
    from atlas.analysis import parts
    from atlas.analysis.derivation import draw_maps

    store = _open(out)
    for folder in draw_maps(store, **options_given(**options)):
        print(folder)
    print_table([{"measure": name, "value": value} for name, value in store.recipe(parts.MAP).items()], as_json)
    return 0


def _span(text: str) -> range:
    """The neurons of an argument such as 12 or 40-47."""
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a span such as 40-47")
    return range(int(first), int(last or first) + 1)


@takes(
    ATLAS_OUT,
    option("neuron", nargs="*", type=_span, help="numbers and spans of numbers: 12 40-47"),
    option("--all", action="store_true", dest="every", help="all neurons of the layer"),
    option("--text", nargs="+", metavar="T", help="draw texts: images optimised for the logit of each"),
    option("--cells", action="store_true", help="draw an icon of every cell of the activation atlas"),
    option(
        "--theme",
        nargs="+",
        metavar="T",
        help="themes (facets): any texts, each learnt from its nearest images; or `words`, for rendered words",
    ),
    option("--strength", type=float, help="weight of the theme at first (1.0)"),
    option("--repeats", type=int, help="different images of each neuron (1)"),
    option("--steps", type=int, help="steps of optimisation (200)"),
    ATLAS_SEED,
    ATLAS_WEIGHTS,
    ATLAS_DEVICE,
    ATLAS_JSON,
)
def dream_command(
    out: Path,
    neuron: list[range],
    every: bool,
    text: list[str] | None,
    cells: bool,
    theme: list[str] | None,
    pretrained: str | None,
    device: str | None,
    as_json: bool,
    **options: Unpack[DreamOptionsGiven],
) -> int:
    """Make feature visualisations, images optimised to activate a neuron, for the cards; or of texts, or of cells."""
    from atlas.analysis.derivation import clip_of
    from atlas.dream import scenes
    from atlas.dream.gallery import drawn_rows, write_drawings

    store = _open(out)
    clip = clip_of(store, pretrained, device)
    if (bool(neuron), every, bool(text), cells).count(True) != 1:
        raise Refused("name neurons, as in 12 40-47, or ask for --all of them, for --text or for --cells")
    if (text or cells) and (theme or options["strength"] is not None):
        raise Refused("--theme and --strength are of neurons; leave them out")
    if cells and options["repeats"] is not None:
        raise Refused("a cell has one icon; leave --repeats out")
    given = options_given(**options)
    if text or cells:
        found = scenes.draw_texts(store, clip, text, **given) if text else scenes.draw_cells(store, clip, **given)
    else:
        chosen = range(clip.neurons) if every else [number for span in neuron for number in span]
        found = write_drawings(store, clip, chosen, theme or ("",), **given)
    print_table(drawn_rows(store, found), as_json)
    print(f"atlas page {out} puts them on the pages", file=sys.stderr)
    return 0


@takes(
    ATLAS_OUT,
    ATLAS_MAX_MB,
    option("--single-file", action="store_true", help="the map alone as one file, OUT/single/map.html"),
)
def page_command(out: Path, max_mb: float | None, single_file: bool) -> int:
    """Write the static site from all parts that were derived."""
    from atlas.pages.site import write_site

    print(write_site(_open(out), single_file=single_file, **options_given(max_mb=max_mb)))
    return 0


@takes(
    ATLAS_OUT,
    exclusive(
        option("--text", help="find rows near this text"),
        option("--image", type=Path, help="find rows near this image file"),
        option("--row", help="find rows near this row, by position or id"),
        option("--neuron", type=int, help="find neurons near this one, by number"),
    ),
    option("--by", choices=("basis", "response"), help="how neurons are compared (response)"),
    option("--kind", choices=("image", "word", "text"), default="image", help="kind of rows to find (image)"),
    option("-k", type=int, help="number of results (10)"),
    ATLAS_WEIGHTS,
    ATLAS_JSON,
)
def near_command(
    out: Path,
    text: str | None,
    image: Path | None,
    row: str | None,
    neuron: int | None,
    by: str | None,
    kind: str,
    k: int | None,
    pretrained: str | None,
    as_json: bool,
) -> int:
    """Find rows near a text, an image or a row, or neurons near a neuron."""
    from atlas.analysis import parts, queries

    store = _open(out)
    if neuron is not None:
        print_table(queries.neurons_near(store, neuron, **options_given(k=k, by=by)), as_json)
    elif row is not None:
        print_table(
            queries.rows_near_row(store, int(row) if row.isdigit() else row, kind=kind, **options_given(k=k)), as_json
        )
    else:
        vector = queries.embed_query(store, text, image, pretrained)
        print_table(queries.rows_near(store, vector, kind=kind, **options_given(k=k)), as_json)
        if store.current(parts.MAP) and not as_json:
            x, y = queries.place_on_map(store, vector, kind)
            print(f"place on the map, among the {kind}s: {x:.2f}, {y:.2f}")
    return 0


@takes(ATLAS_OUT)
def check_command(out: Path) -> int:
    """Verify the checksums of a Store and of all parts derived from it."""
    store = _open(out)
    faults = store.check()
    for fault in faults:
        print(fault)
    derived = ", ".join(store.everything_derived()) or "nothing"
    print(f"{store.path}: {len(store.shards)} shards, {len(store):,} rows; derived: {derived}; {len(faults)} faults")
    return 1 if faults else 0


@takes(ATLAS_OUT, option("file", type=Path, help="Parquet file to write"))
def export_command(out: Path, file: Path) -> int:
    """Write one Parquet file of rows, embeddings and map positions, for other tools."""
    from atlas.analysis.queries import export_parquet

    print(export_parquet(_open(out), file))
    return 0


@takes(option("model", nargs="?", help="an open_clip model (mini)"), ATLAS_PRETRAINED, ATLAS_JSON)
def layers_command(model: str | None, pretrained: str | None, as_json: bool) -> int:
    """List the layers of a model that can be hooked, with the shapes of their maps."""
    from atlas.model.clip import Clip

    clip = Clip(**options_given(name=model), pretrained=pretrained, device="cpu")
    rows = [{"path": x.path, "neurons": x.neurons, "height": x.height, "width": x.width} for x in clip.layers()]
    print_table([{**row, "default": "*" if row["path"] == clip.layer else ""} for row in rows], as_json)
    return 0


# -- what the commands share -------------------------------------------------------------------------------------------


def _collect(source: list[str], out: Path, **options: Unpack[ModelOptionsGiven]) -> "tuple[Store, Clip]":
    from atlas.model.clip import Clip
    from atlas.store.collection import collect

    own = ("name", "pretrained", "layer", "device", "token")
    clip = Clip(**options_given(**{name: value for name, value in options.items() if name in own}))
    rest = {name: value for name, value in options.items() if name not in own}
    return collect(list(source), clip, out, **options_given(**rest)), clip


def _open(out: Path) -> "Store":
    from atlas.store.store import Store

    return Store.open(out)


def _report_rejects(store: "Store", skip_bad: bool) -> int:
    """Print the first inputs that were refused; returns the exit code, 1 unless `skip_bad`."""
    rejects = store.rejects
    if not len(rejects):
        return 0
    for row in rejects.slice(0, 5).to_pylist():
        print(f"refused {row['id']}: {row['reason']}", file=sys.stderr)
    more = "" if skip_bad else "; --skip-bad accepts that"
    print(f"{len(rejects):,} inputs refused, listed in {store.path / 'rejects.parquet'}{more}", file=sys.stderr)
    return 0 if skip_bad else 1


ATLAS_COMMANDS = (
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
    """Run `atlas`; returns the exit code: 0 success, 1 something was refused, 2 wrong usage, 130 interrupted."""
    parser = command_line("atlas", "See what the neurons of a CLIP model respond to.", ATLAS_COMMANDS)
    return run_command(parser, argv, "interrupted; finished work is kept, and the same command continues")
