"""`atlas ...`: one command = one function. Results on stdout, progress on stderr, one line for a mistake."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.errors import Refused
from atlas.terminal import answer, table

# Nothing heavy is imported here: `atlas --help` must answer at once. Each command imports what it runs.

DEMO = ("emoji", "words:emoji?fonts=open-sans,pt-serif", "texts")
KINDS = ("image", "word", "text")


def demo(args: argparse.Namespace) -> int:
    """Build the atlas of the embedded model over emoji, rendered words and captions; offline, in minutes."""
    args.source, args.model, args.pretrained, args.layer, args.token = list(DEMO), "mini", None, None, None
    return build(args)


def build(args: argparse.Namespace) -> int:
    """Collect, derive everything and write the site: the whole path in one command."""
    from atlas.derivation import derive
    from atlas.pages import write_site

    store, clip = _collect(args)
    if derive(store, clip, args.force) or not store.current("site"):
        write_site(store, max_mb=args.max_mb)
    print(store)
    print(store.derived("site") / "index.html")
    return _refused(store, args)


def collect(args: argparse.Namespace) -> int:
    """Run every item of the sources through the model once and keep what came out."""
    store, _ = _collect(args)
    print(store)
    return _refused(store, args)


def stats(args: argparse.Namespace) -> int:
    """Statistics of every neuron, its neighbours and nearest texts."""
    from atlas.derivation import clip_of, relate_neurons, relate_texts, summarise_neurons

    store = _open(args)
    clip = clip_of(store, args.pretrained, args.device)
    print(summarise_neurons(store))
    print(relate_neurons(store, clip))
    print(relate_texts(store, clip))
    return 0


def index(args: argparse.Namespace) -> int:
    """FAISS indexes over the embeddings, one a kind, with their measured recall."""
    from atlas.derivation import index_embeddings

    store = _open(args)
    print(index_embeddings(store, seed=args.seed))
    recipe = store.recipe("index/embedding")
    table([{"kind": kind, **entry} for kind, entry in recipe.items()], args.json)
    return 0


def map(args: argparse.Namespace) -> int:
    """The map of all rows, the neuron atlas and the activation atlas."""
    from atlas.derivation import draw_cells, draw_map, draw_neurons

    store = _open(args)
    options = {"n_neighbors": args.neighbors, "min_dist": args.min_dist, "centre": not args.raw, "seed": args.seed}
    print(draw_map(store, **options))
    print(draw_neurons(store, seed=args.seed))
    if "image" in store.counts:
        print(draw_cells(store, columns=args.columns, seed=args.seed))
    table([{"measure": k, "value": v} for k, v in store.recipe("layout/map").items()], args.json)
    return 0


def dream(args: argparse.Namespace) -> int:
    """Pictures drawn to drive neurons (feature visualisation), plain or by theme; their cards then show them."""
    from atlas.derivation import clip_of
    from atlas.gallery import illustrate
    from atlas.neuron import Neuron

    store = _open(args)
    clip = clip_of(store, args.pretrained, args.device)
    if bool(args.neuron) == args.all:
        raise Refused("name neurons, as in 12 40-47, or ask for --all of them")
    chosen = range(clip.neurons) if args.all else [n for part in args.neuron for n in part]
    options = {"repeats": args.repeats, "steps": args.steps, "strength": args.strength, "seed": args.seed}
    found = illustrate(store, clip, chosen, args.theme or ("",), **options)
    shown = ("neuron", "theme", "repeat", "reached", "strongest")
    labels = {n: Neuron(store, n).label for n in {row["neuron"] for row in found}} if store.has("neurons/stats") else {}
    table([{name: row[name] for name in shown} | {"label": labels.get(row["neuron"], "")} for row in found], args.json)
    print(f"atlas page {args.out} brings them onto the cards", file=sys.stderr)
    return 0


def page(args: argparse.Namespace) -> int:
    """The static site, from whatever was derived."""
    from atlas.pages import write_site

    print(write_site(_open(args), max_mb=args.max_mb, single_file=args.single_file))
    return 0


def near(args: argparse.Namespace) -> int:
    """Rows near a text, an image or a row; neurons near a neuron."""
    from atlas import queries

    store = _open(args)
    if args.neuron is not None:
        table(queries.neurons_near(store, args.neuron, args.k, args.by), args.json)
    elif args.row is not None:
        row = int(args.row) if args.row.isdigit() else args.row
        table(queries.rows_near_row(store, row, args.k, args.kind), args.json)
    else:
        vector = queries.embed(store, args.text, args.image, args.pretrained)
        table(queries.rows_near(store, vector, args.k, args.kind), args.json)
        if store.current("layout/map") and not args.json:
            x, y = queries.place(store, vector, args.kind)
            print(f"its place on the map, among the {args.kind}s: {x:.2f}, {y:.2f}")
    return 0


def check(args: argparse.Namespace) -> int:
    """Verify a Store and all that was derived from it against their checksums."""
    store = _open(args)
    faults = store.check()
    for fault in faults:
        print(fault)
    derived = ", ".join(store.everything_derived()) or "nothing"
    print(f"{store.path}: {len(store.shards)} shards, {len(store):,} rows; derived: {derived}; {len(faults)} faults")
    return 1 if faults else 0


def export(args: argparse.Namespace) -> int:
    """One Parquet file of rows, embeddings and map positions, for other tools."""
    from atlas.queries import export_parquet

    print(export_parquet(_open(args), args.file))
    return 0


def layers(args: argparse.Namespace) -> int:
    """What can be hooked in a model, with shapes."""
    from atlas.clip import Clip

    clip = Clip(args.model, args.pretrained, device="cpu")
    rows = [{"path": x.path, "neurons": x.neurons, "height": x.height, "width": x.width} for x in clip.layers()]
    table([{**row, "default": "*" if row["path"] == clip.layer else ""} for row in rows], args.json)
    return 0


# -- what the commands share -------------------------------------------------------------------------------------------


def _collect(args: argparse.Namespace) -> tuple[Any, Any]:
    from atlas.clip import Clip
    from atlas.collection import collect as run

    clip = Clip(args.model, args.pretrained, args.layer, args.device, args.token)
    options = {"seed": args.seed, "thumb": args.thumb, "batch": args.batch}
    store = run(args.source, clip, args.out, engine=args.engine, append=args.append, **options)
    return store, clip


def _open(args: argparse.Namespace) -> Any:
    from atlas.store import Store

    return Store.open(args.out)


def _refused(store: Any, args: argparse.Namespace) -> int:
    """Say what was refused; that is a failure unless the user said it is not."""
    rejects = store.rejects
    if not len(rejects):
        return 0
    for row in rejects.slice(0, 5).to_pylist():
        print(f"refused {row['id']}: {row['reason']}", file=sys.stderr)
    more = "" if args.skip_bad else "; --skip-bad accepts that"
    print(f"{len(rejects):,} inputs refused, listed in {store.path / 'rejects.parquet'}{more}", file=sys.stderr)
    return 0 if args.skip_bad else 1


def parser() -> argparse.ArgumentParser:
    """The command line as a whole."""
    whole = argparse.ArgumentParser(prog="atlas", description="See what the neurons of a CLIP model respond to.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function: Any, *arguments: str) -> argparse.ArgumentParser:
        doc = (function.__doc__ or "").strip()
        sub = commands.add_parser(function.__name__, help=doc.rstrip(".").lower().split(";")[0], description=doc)
        sub.set_defaults(function=function)
        for name in arguments:
            sub.add_argument(name, type=Path)
        return sub

    sub = command(demo)
    sub.add_argument("out", type=Path, nargs="?", default=Path("outputs/demo"), help="default: outputs/demo")
    _collecting(sub)
    _building(sub)
    for function in (build, collect):
        sub = command(function)
        sub.add_argument("source", nargs="+", help="emoji, words, texts, a folder, list, table, tar, Parquet, hf:NAME")
        sub.add_argument("out", type=Path, help="folder of the Store")
        _model(sub)
        _collecting(sub)
        if function is build:
            _building(sub)
    sub = command(stats, "out")
    sub.add_argument("--pretrained", help="where the checkpoint file lies now, if the Store was made with one")
    sub.add_argument("--device", default="auto")
    sub = command(index, "out")
    sub.add_argument("--seed", type=int, default=0)
    _json(sub)
    sub = command(map, "out")
    sub.add_argument("--neighbors", type=int, default=15, help="UMAP's n_neighbors (15)")
    sub.add_argument("--min-dist", type=float, default=0.1, help="UMAP's min_dist (0.1)")
    sub.add_argument("--raw", action="store_true", help="leave the gap between kinds as it is")
    sub.add_argument("--columns", type=int, help="cells across the activation atlas (20, fewer of few images)")
    sub.add_argument("--seed", type=int, default=0)
    _json(sub)
    sub = command(dream, "out")
    sub.add_argument("neuron", nargs="*", type=_span, help="numbers and spans of them: 12 40-47")
    sub.add_argument("--all", action="store_true", help="every neuron of the layer")
    about = "as each answers to this: a text, whose nearest pictures teach it, or words"
    sub.add_argument("--theme", nargs="+", metavar="T", help=about)
    sub.add_argument("--strength", type=float, default=1.0, help="of the theme (1)")
    sub.add_argument("--repeats", type=int, default=1, help="pictures of each, unlike each other (1)")
    sub.add_argument("--steps", type=int, default=200, help="of optimisation (200)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--pretrained", help="where the checkpoint file lies now, if the Store was made with one")
    sub.add_argument("--device", default="auto")
    _json(sub)
    sub = command(page, "out")
    sub.add_argument("--max-mb", type=float, default=25, help="largest size of the site (25)")
    sub.add_argument("--single-file", action="store_true", help="the map alone as one file, OUT/single/map.html")
    sub = command(near, "out")
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="a text, through the text tower")
    what.add_argument("--image", type=Path, help="an image file")
    what.add_argument("--row", help="a row of the Store, by position or id")
    what.add_argument("--neuron", type=int, help="a neuron, by number")
    sub.add_argument("--by", choices=("basis", "response"), default="response", help="how neurons are compared")
    sub.add_argument("--kind", choices=KINDS, default="image", help="kind of rows to find (image)")
    sub.add_argument("-k", type=int, default=10)
    sub.add_argument("--pretrained", help="where the checkpoint file lies now, if the Store was made with one")
    _json(sub)
    command(check, "out")
    sub = command(export, "out")
    sub.add_argument("file", type=Path, help="Parquet file to write")
    sub = command(layers)
    sub.add_argument("model", nargs="?", default="mini")
    sub.add_argument("--pretrained", metavar="TAG|FILE")
    _json(sub)
    return whole


def _span(text: str) -> range:
    """The neurons that 12, or 40-47, means."""
    first, _, last = text.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a span such as 40-47")
    return range(int(first), int(last or first) + 1)


def _model(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="mini", help="an open_clip model (mini, the embedded one)")
    sub.add_argument("--pretrained", metavar="TAG|FILE", help="open_clip's tag or a checkpoint file; none: random")
    sub.add_argument("--layer", nargs="+", metavar="L", help="module paths; `atlas layers MODEL` lists them")
    sub.add_argument("--token", choices=("cls", "patches"), help="which tokens of a ViT (what the tower pools)")


def _collecting(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", default="auto")
    sub.add_argument("--batch", type=int, default=64, help="images a forward pass (64)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--thumb", type=int, default=64, help="longest side of thumbnails in pixels (64)")
    sub.add_argument("--engine", choices=("local", "ray"), default="local")
    sub.add_argument("--skip-bad", action="store_true", help="refused inputs are no failure")
    sub.add_argument("--append", action="store_true", help="take in files added since")


def _building(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--max-mb", type=float, default=25, help="largest size of the site (25)")
    sub.add_argument("--force", action="store_true", help="derive and write everything again")


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="JSON instead of a table")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something was refused, 2 misuse, 130 interrupted."""
    goes_on = "interrupted; what is finished is kept, and the same command goes on from there"
    return answer("atlas", parser().parse_args(argv), goes_on)


def run() -> None:
    """The console script."""
    sys.exit(main())
