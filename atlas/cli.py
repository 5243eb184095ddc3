"""The command line `atlas`: each command is a function under its options. Results go to stdout, progress to stderr."""

import re
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from atlas.console import command_line, exclusive, option, options_given, print_json, print_table, run_command, takes
from atlas.dream.commands import dream_command
from atlas.errors import Misuse, Refused
from atlas.option_types import path_name, real_number, whole_number
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
    MapOptionsGiven,
    ModelOptionsGiven,
    neuron_span,
)
from atlas.store.options import STORE_READ

if TYPE_CHECKING:
    from atlas.model.clip import Clip
    from atlas.store.store import Store

# Heavy modules are imported inside the commands, so that `atlas --help` answers at once. Options without a default get
# None, and the default of the called function applies; the help text names it in brackets.

DEMO = ("emoji", "words:emoji?fonts=open-sans,pt-serif", "texts")  # sources of `atlas demo`


@takes(
    option("out", type=path_name, nargs="?", default=Path("outputs/demo"), help="folder of the Store (outputs/demo)"),
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
    from atlas.analysis import parts
    from atlas.analysis.alignment import Alignment
    from atlas.analysis.derivation import derive
    from atlas.pages.site import SITE, write_site

    store, clip = _collect(source, out, **options)
    if derive(store, clip, force) or not store.current(SITE):
        write_site(store, **options_given(max_mb=max_mb))
    print(store)
    if found := Alignment.read(store.recipe(parts.TEXTS)):
        print(found.sentence())
    print(store.derived(SITE) / "index.html")
    return _report_rejects(store, skip_bad)


@takes(
    ATLAS_SOURCES,
    option("-n", type=whole_number(1, 10_000), dest="shown", default=8, help="first rows to show (8)"),
    ATLAS_JSON,
)
def look_command(source: list[str], shown: int, as_json: bool) -> int:
    """Say what sources hold and what was taken for what, before anything is computed."""
    from atlas.sources.look import look_at

    found = look_at(source, shown)
    if as_json:
        print_json(found.record())
    else:
        print(*found.tally.lines(), "", sep="\n")
        print_table(found.rows)
    return 0


@takes(ATLAS_SOURCES, ATLAS_OUT, ATLAS_MODEL, ATLAS_COLLECTING)
def collect_command(source: list[str], out: Path, skip_bad: bool, **options: Unpack[ModelOptionsGiven]) -> int:
    """Run every item of the sources through the model once and store embeddings and activations."""
    store, _ = _collect(source, out, **options)
    print(store)
    return _report_rejects(store, skip_bad)


@takes(
    STORE_READ,
    option("--layer", metavar="PATH", help="another layer that the Store holds, in place of the first"),
    ATLAS_WEIGHTS,
    ATLAS_DEVICE,
)
def stats_command(out: Path, layer: str | None, pretrained: str | None, device: str | None) -> int:
    """Compute statistics of all neurons, similar neurons, and the nearest texts."""
    from atlas.analysis.derivation import clip_of, relate_neurons, relate_texts, summarise_neurons

    store = _open(out) if layer is None else _open(out).of_layer(layer)
    clip = clip_of(store, pretrained, device)
    print(summarise_neurons(store), relate_neurons(store, clip), relate_texts(store, clip), sep="\n")
    return 0


@takes(STORE_READ, ATLAS_SEED, ATLAS_JSON)
def index_command(out: Path, seed: int | None, as_json: bool) -> int:
    """Build FAISS indexes of the embeddings, one for each kind, and measure their recall."""
    from atlas.analysis import parts
    from atlas.analysis.derivation import index_embeddings

    store = _open(out)
    print(index_embeddings(store, **options_given(seed=seed)))
    print_table([{"kind": kind, **entry} for kind, entry in store.recipe(parts.EMBEDDINGS).items()], as_json)
    return 0


@takes(
    STORE_READ,
    option("--neighbors", type=whole_number(2, 1000), dest="n_neighbors", metavar="N", help="n_neighbors of UMAP (15)"),
    option("--min-dist", type=real_number(0, 1), help="min_dist of UMAP (0.1)"),
    option(
        "--raw",
        action="store_false",
        dest="centre",
        default=None,
        help="do not centre images, words and texts; the modality gap stays visible",
    ),
    option("--centred", action="store_false", dest="balanced", default=None, help="centre kinds, but do not join them"),
    option(
        "--columns",
        type=whole_number(1, 1000),
        help="columns of the activation atlas; by default several grids, 10 to 160, by the number of images",
    ),
    ATLAS_SEED,
    ATLAS_JSON,
)
def map_command(out: Path, as_json: bool, **options: Unpack[MapOptionsGiven]) -> int:
    """Make the map of all rows, the neuron atlas and the activation atlas."""
    from atlas.analysis import parts
    from atlas.analysis.derivation import MapOptions, draw_maps

    store = _open(out)
    print(*draw_maps(store, MapOptions(**options_given(**options))), sep="\n")
    found = {name: value for name, value in store.recipe(parts.MAP).items() if not _says_nothing(value)}
    print_table([{"measure": name, "value": value} for name, value in found.items()], as_json)
    return 0


def _says_nothing(value: object) -> bool:
    """Whether a measure has no figures, as the gap between kinds has in a Store of one kind."""
    return isinstance(value, dict) and all(_says_nothing(each) for each in value.values())


@takes(
    STORE_READ,
    ATLAS_MAX_MB,
    option("--single-file", action="store_true", help="the map alone as one file, OUT/single/map.html"),
)
def page_command(out: Path, max_mb: float | None, single_file: bool) -> int:
    """Write the static site from all parts that were derived."""
    from atlas.pages.site import write_site

    print(write_site(_open(out), single_file=single_file, **options_given(max_mb=max_mb)))
    return 0


@takes(
    STORE_READ,
    exclusive(
        option("--text", help="find rows near this text"),
        option("--image", type=path_name, help="find rows near this image file"),
        option("--row", help="find rows near this row, by position or id"),
        option("--neuron", type=whole_number(), help="find neurons near this one, by number"),
    ),
    option("--by", choices=("basis", "response"), help="how neurons are compared (response)"),
    option("--kind", choices=("image", "word", "text"), default="image", help="kind of rows to find (image)"),
    option("-k", type=whole_number(1), help="number of results (10)"),
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
        position = int(row) if re.fullmatch("[0-9]{1,18}", row) else row
        print_table(queries.rows_near_row(store, position, kind=kind, **options_given(k=k)), as_json)
    else:
        vector = queries.embed_query(store, text, image, pretrained)
        print_table(queries.rows_near(store, vector, kind=kind, **options_given(k=k)), as_json)
        if store.has(parts.MAP) and not as_json:
            try:
                x, y = queries.place_on_map(store, vector, kind)
                print(f"place on the map, among the {kind}s: {x:.2f}, {y:.2f}")
            except Refused as refused:  # the rows do not rest on the map
                print(f"no place on the map: {refused}", file=sys.stderr)
    return 0


@takes(
    ATLAS_OUT,
    option("--repair", action="store_true", help="remove derived parts at fault, and print what makes them again"),
)
def check_command(out: Path, repair: bool) -> int:
    """Verify every file of a Store against its checksum, and name those that do not belong there."""
    from atlas.store.check import check_folder, derived_names, repair_folder

    found = check_folder(out)
    derived = ", ".join(derived_names(out)) or "nothing"
    summary = f"{found.shards:,} shards, {found.rows:,} rows; derived: {derived}; {len(found.faults)} faults"
    print(*found.faults, f"{out}: {summary}", sep="\n")
    if repair and found.faults:
        print(*(f"removed {place}" for place in repair_folder(out, found)), sep="\n")
    for command in dict.fromkeys(found.commands):
        print(f"{'' if repair else '--repair, '}then: {command}", file=sys.stderr)
    return 1 if found.faults else 0


@takes(STORE_READ, option("file", type=path_name, help="Parquet file to write"))
def export_command(out: Path, file: Path) -> int:
    """Write one Parquet file of rows, embeddings and map positions, for other tools."""
    from atlas.analysis.queries import export_parquet

    print(export_parquet(_open(out), file))
    return 0


@takes(
    ATLAS_OUT,
    option("neuron", nargs="*", type=neuron_span, help="numbers and spans of numbers: 12 40-47; none: the map"),
    option("--view", metavar="ADDRESS", help="a view of the map, by the address that its page shows: #v=x,y,width"),
    option("--to", type=path_name, metavar="FILE", help=".pdf, .svg or .png (figure.pdf)"),
)
def figure_command(out: Path, neuron: list[range], view: str | None, to: Path | None) -> int:
    """Draw neurons, or the map, as one figure with names, pictures and sources."""
    from atlas.pages.figure import write_figure
    from atlas.pages.mapfigure import write_map_figure

    if neuron and view is not None:
        raise Misuse("a figure shows neurons, or a view of the map: leave one of them out")
    options = options_given(address=view, file=to)
    store, numbers = _open(out), list(chain.from_iterable(neuron))
    print(write_figure(store, numbers, **options) if numbers else write_map_figure(store, **options))
    return 0


@takes(option("model", nargs="?", help="mini, or an open_clip model"), ATLAS_PRETRAINED, ATLAS_JSON)
def layers_command(model: str | None, pretrained: str | None, as_json: bool) -> int:
    """List the layers of a model that can be hooked, with shapes; without a model, which of open_clip's names work."""
    from atlas.model.clip import Clip
    from atlas.model.names import name_results, names_summary

    if model is None and pretrained:
        raise Misuse("--pretrained is of a model: name it, as in atlas layers RN50 --pretrained openai")
    if model is None:
        print_json(name_results()) if as_json else print(names_summary())
        return 0
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
    clip.tokenizer  # noqa: B018 - asked for before anything is collected: statistics and labels read texts
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
    first = rejects.slice(0, 5).to_pylist()
    print(*(f"refused {row['id']}: {row['reason']}" for row in first), sep="\n", file=sys.stderr)
    more = "" if skip_bad else "; --skip-bad accepts that"
    print(f"{len(rejects):,} inputs refused, listed in {store.path / 'rejects.parquet'}{more}", file=sys.stderr)
    return 0 if skip_bad else 1


ATLAS_COMMANDS = (
    demo_command,
    build_command,
    look_command,
    collect_command,
    stats_command,
    index_command,
    map_command,
    dream_command,
    page_command,
    near_command,
    check_command,
    export_command,
    figure_command,
    layers_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `atlas`; returns the exit code: 0 success, 1 something was refused, 2 wrong usage, 130 interrupted."""
    parser = command_line("atlas", "See what the neurons of a CLIP model respond to.", ATLAS_COMMANDS)
    return run_command(parser, argv, "interrupted; finished work is kept, and the same command continues")
