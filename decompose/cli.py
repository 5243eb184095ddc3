"""`decompose ...`: one command = one function. Results on stdout, progress on stderr, one line for a mistake."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.errors import Refused
from atlas.terminal import answer, table
from decompose.opening import at_least_one, bank, chosen, directions, open_model, say_unread, some_images, word_list

# Nothing heavy is imported here: `decompose --help` must answer at once. Each command imports what it runs.

WAYS = ("basis", "response", "both")
RATE = 0.05  # of false discoveries
METHODS = ("omp", "lasso", "nnls", "iht", "logistic")
AUTO, COMPONENTS = "auto", "components.safetensors"
RECEIPTS = "raise and silence each neuron in real forward passes and measure"


def search(args: argparse.Namespace) -> int:
    """The neurons that serve a text most, best first."""
    import decompose
    from decompose.attribution import concept_embeddings

    at_least_one(args)
    store, clip = open_model(args)
    some, images = directions(args, clip.neurons), None
    if args.receipts:
        images = some_images(store, clip, concept_embeddings(clip, args.text, args.templates)[0])
    found = decompose.search(clip, args.text, args.k, store, args.by, some, args.templates, images=images)
    say_unread(clip, [args.text])
    return _print(args, found.to_pylist() if args.json or not args.receipts else _in_short(found.to_pylist()))


def texts(args: argparse.Namespace) -> int:
    """The texts that a neuron serves most; with --climb, texts that are made up for it."""
    import decompose

    at_least_one(args)
    if args.climb and args.templates is not None:
        raise Refused("--climb makes up whole texts, so it takes no --templates")
    store, clip = open_model(args)
    neuron = chosen(args, clip.neurons, f"{clip.layer} of {clip.name}")
    if args.climb:
        return _print(args, decompose.text_feature(clip, neuron).to_pylist()[: args.k])
    found = decompose.texts(clip, neuron, args.k, bank(store, clip, args.templates)).to_pylist()
    if not found:
        raise Refused(f"{args.neuron} adds nothing to the embedding, so that no text is better for it than another")
    return _print(args, found)


def nearest(args: argparse.Namespace) -> int:
    """The neurons of a Store that behave most like one of them."""
    import decompose
    from atlas.store import Store
    from decompose.responses import looked_at

    store = Store.open(args.store)
    neuron = chosen(args, store.array("max", looked_at(store)).shape[1], str(store.path))
    return _print(args, decompose.nearest(store, neuron, args.k, args.by).to_pylist())


def equation(args: argparse.Namespace) -> int:
    """Concepts as short sums of neurons; with a Store also as a page of its site."""
    import decompose
    from decompose.pages import equations_page

    store, clip = open_model(args)
    some, images = directions(args, clip.neurons), some_images(store, clip) if args.receipts else None
    found = decompose.compose(clip, args.concept, args.k, store, args.method, None, True, args.templates, some, images)
    say_unread(clip, args.concept)
    shares = [None] * len(found)
    if store is not None and "image" in store.counts:
        shares = decompose.explained(store, clip, args.concept, args.templates).tolist()
    if args.json:
        _print(args, [_as_row(each, share) for each, share in zip(found, shares, strict=True)])
    for each, share in zip(found, shares, strict=True) if not args.json else ():
        of_form = "" if share is None else f"; R2 of the bilinear form {share:.2f}"
        print(f"{each}   ({each.kept:.0%} of the logit{of_form})")
        if each.receipts:
            table(each.acts())
            print(f"tried with {', '.join(each.receipts[0].templates)}\n")
    if store is not None and some is None:  # cards are of neurons alone
        _page(args, store, "equations", "Equations", equations_page(found, shares))
    return 0


def compare(args: argparse.Namespace) -> int:
    """The solvers of equations on one set of concepts: size, fidelity, stability and time."""
    import decompose

    store, clip = open_model(args)
    found = decompose.compare(clip, args.concept, templates=args.templates, store=store).to_pylist()
    say_unread(clip, args.concept)
    return _print(args, found)


def nmf(args: argparse.Namespace) -> int:
    """Components of a Store's activations: neurons that fire together; also as a page of its site."""
    from atlas.store import Store
    from decompose.components import choose_components, factor_activations
    from decompose.pages.components import MAP, components_map, components_page

    store = Store.open(args.store)
    if args.k == AUTO:
        choice = choose_components(store, alpha=args.alpha, seed=args.seed)
        args.k = choice.n_components
        tried = zip(choice.tried, choice.error.tolist(), choice.stability.tolist(), strict=True)
        for k, error, stable in tried:
            print(f"{k} components: held-out error {error:.3f}, stability {stable:.2f}", file=sys.stderr)
    made, found = factor_activations(store, args.k, args.alpha, args.seed)
    rows = [
        {
            "component": each.number,
            "share of images": each.share,
            "neurons": ", ".join(f"{'not ' if weight < 0 else ''}{neuron}" for neuron, weight in each.neurons),
            "images": ", ".join(each.called[:3]),
            "words": ", ".join(each.words[:6]),
        }
        for each in found
    ]
    _print(args, rows)
    with store.deriving("neurons/components", {"k": args.k, "alpha": args.alpha, "seed": args.seed}) as folder:
        made.save(folder / COMPONENTS)
    print(f"--directions {store.derived('neurons/components') / COMPONENTS} takes them for neurons", file=sys.stderr)
    drawn = components_map(store, found)
    body, beside = components_page(store, found, with_map=drawn is not None), {MAP: drawn} if drawn else {}
    return _page(args, store, "components", "Components", body, beside, k=args.k, alpha=args.alpha)


def label(args: argparse.Namespace) -> int:
    """Label every neuron of a Store, with significance, facets and receipts; its cards then show them.

    Directions, which have no cards, become a page of the site.
    """
    import decompose
    from decompose.labels import by_neuron
    from decompose.pages.directions import directions_page, portray

    at_least_one(args)
    store, clip = open_model(args)
    some, recipe = directions(args, clip.neurons), {"rate": args.rate, "seed": args.seed}
    labels = decompose.label_neurons(store, clip, directions=some, **recipe)
    if some is None:  # cards are of neurons alone
        _write(store, "labels", recipe, labels)
    receipts = None
    if "image" in store.counts:
        receipts = decompose.confirm_labels(store, clip, labels, seed=args.seed, directions=some)
        raised = [row["confirmed"] for row in receipts.to_pylist() if row["act"] == "raise"]
        print(f"raising confirms {sum(raised):,} of {len(raised):,} labels", file=sys.stderr)
        if some is None:
            _write(store, "facets", recipe, decompose.split_neurons(store, clip, **recipe))
            _write(store, "receipts", {"seed": args.seed}, receipts, of=("neurons/labels",))
    given = sorted(by_neuron(labels), key=lambda row: row["q"])
    if not args.json:
        what = f"{clip.neurons:,} neurons" if some is None else f"{len(some):,} directions"
        print(f"{len(given):,} of {what} have a label; the surest:\n")
    _print(args, given[: args.k])
    if some is None:
        _say_page(args.store)
        return 0
    body = directions_page(store, portray(store, some, labels, receipts), len(some))
    return _page(args, store, "directions", "Directions", body, of=args.directions.name, **recipe)


def emotions(args: argparse.Namespace) -> int:
    """What feelings are made of: equations, factors and the emotion atlas; any words and prompts will do."""
    import decompose
    from decompose.families import verdict
    from decompose.pages import emotions_page

    store, clip = open_model(args)
    words = None if args.words is None else word_list(args.words)
    found = decompose.study(clip, words, args.templates, store, factors=args.factors)
    say_unread(clip, found.words)
    agreements, affect = (table.to_pylist() if table else [] for table in (found.agreements, found.affect))
    if args.json:
        rows = [{"word": each.concept, "terms": each.table().to_pylist()} for each in found.equations]
        factors = {str(k): {"names": each.names, "words": each.words.tolist()} for k, each in found.factors.items()}
        print(json.dumps({"equations": rows, "factors": factors, "agreements": agreements, "affect": affect}, indent=1))
    else:
        for each in found.equations:
            print(each)
        print()
        table(agreements)
        print(verdict(agreements), end="\n\n")
        if affect:
            table([_scales(row) for row in affect])
        else:
            print('valence and arousal were not compared: pip install "multimodal-atlas[affect]"', file=sys.stderr)
    if store is not None:
        _page(args, store, "emotions", "Emotions", emotions_page(found, clip.name))
    return 0


def universality(args: argparse.Namespace) -> int:
    """Neurons of two models, in two Stores of the same rows, that are each other's nearest."""
    import decompose
    from atlas.store import Store

    at_least_one(args)
    found = decompose.universality(Store.open(args.store), Store.open(args.other), seed=args.seed).to_pylist()
    if not args.json:
        kept = sum(row["q"] <= RATE for row in found)
        print(f"{len(found):,} neurons are each other's nearest, {kept:,} of them beyond chance (q <= {RATE})\n")
    return _print(args, found[: args.k])


# -- what the commands share -------------------------------------------------------------------------------------------


def _write(store: Any, name: str, recipe: dict[str, Any], found: Any, of: Sequence[str] = ()) -> None:
    import pyarrow.parquet as pq

    with store.deriving(f"neurons/{name}", recipe, of) as folder:
        pq.write_table(found, folder / f"{name}.parquet")
    print(store.derived(f"neurons/{name}"), file=sys.stderr)


def _as_row(found: Any, share: float | None) -> dict[str, Any]:
    row = {"concept": found.concept, "kept": found.kept, "explained": share, "terms": found.table().to_pylist()}
    return row | ({"tried_with": found.receipts[0].templates} if found.receipts else {})


def _in_short(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neurons found, with as much of their receipts as fits a line."""
    shown = ("neuron", "score", "q", "label")
    acts = [f"{act}_{name}" for act in ("raise", "ablate") for name in ("effect", "p", "confirmed")]
    return [{name: row[name] for name in (*shown, *acts)} for row in rows]


def _scales(row: dict[str, Any]) -> dict[str, Any]:
    """A row beside valence and arousal, with what the factor is called for its number."""
    left_out = ("factors", "factor", "name", "draws")
    return {"factors of": row["factors"], "factor": row["name"]} | {k: row[k] for k in row if k not in left_out}


def _print(args: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> int:
    table(rows, args.json)
    return 0


def _page(
    args: argparse.Namespace,
    store: Any,
    name: str,
    title: str,
    body: str,
    beside: dict[str, bytes] | None = None,
    **recipe: Any,
) -> int:
    from decompose.pages import write_fragment

    write_fragment(store, name, title, {"command": args.command, **recipe}, body, beside)
    _say_page(args.store)
    return 0


def _say_page(store: Path) -> None:
    print(f"atlas page {store} brings this into the site", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The command line as a whole."""
    about = "What a direction, a word or a neuron of a CLIP model is made of."
    whole = argparse.ArgumentParser(prog="decompose", description=about)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function: Any) -> argparse.ArgumentParser:
        doc = (function.__doc__ or "").strip()
        sub = commands.add_parser(function.__name__, help=doc.rstrip(".").lower().split(";")[0], description=doc)
        sub.set_defaults(function=function)
        sub.add_argument("--json", action="store_true", help="JSON instead of a table")
        return sub

    sub = command(search)
    sub.add_argument("text")
    _directions(sub)
    sub.add_argument("--receipts", action="store_true", help=RECEIPTS)
    sub.add_argument("--by", choices=WAYS, help="what neurons are judged by (both with a Store, else basis)")
    _model(sub, k=10)
    sub = command(texts)
    sub.add_argument("neuron", type=int)
    _directions(sub)
    sub.add_argument("--climb", action="store_true", help="text feature visualisation: climb over all words instead")
    _model(sub, k=10)
    sub = command(nearest)
    sub.add_argument("store", type=Path)
    sub.add_argument("neuron", type=int)
    _directions(sub)
    sub.add_argument("--by", choices=("response", "basis", "images"), default="response")
    sub.add_argument("-k", type=int, default=10)
    sub = command(universality)
    sub.add_argument("store", type=Path)
    sub.add_argument("other", type=Path)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("-k", type=int, default=20, help="pairs to print (20)")
    sub = command(equation)
    sub.add_argument("concept", nargs="+")
    _directions(sub)
    sub.add_argument("--method", choices=METHODS, default="omp")
    sub.add_argument("--receipts", action="store_true", help=RECEIPTS)
    _model(sub, k=4)
    sub = command(compare)
    sub.add_argument("concept", nargs="+")
    _model(sub, templates="drawing")
    sub = command(nmf)
    sub.add_argument("store", type=Path)
    sub.add_argument("-k", type=_count, default=16, help=f"components (16), or {AUTO}: by held-out error and stability")
    sub.add_argument("--alpha", type=float, default=0.0, help="L1 on the codes (0)")
    sub.add_argument("--seed", type=int, default=0)
    sub = command(label)
    sub.add_argument("store", type=Path)
    _directions(sub)
    sub.add_argument("--rate", type=float, default=RATE, help=f"false discovery rate ({RATE})")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("-k", type=int, default=20, help="labels to print (20)")
    sub.add_argument("--pretrained", help="where the checkpoint file lies now, if the Store was made with one")
    sub = command(emotions)
    sub.add_argument("--words", type=Path, metavar="FILE", help="words, one a line (the feeling wheel's)")
    sub.add_argument("--factors", type=int, nargs="+", default=[2, 7], metavar="N", help="how many factors (2 and 7)")
    _model(sub, templates="feeling")
    return whole


def _count(text: str) -> int | str:
    if text == AUTO or text.lstrip("-").isdecimal():
        return text if text == AUTO else int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {AUTO}")


def _directions(sub: argparse.ArgumentParser) -> None:
    about = "a safetensors file of directions, or of a sparse autoencoder, to take instead of neurons"
    sub.add_argument("--directions", "--sae", type=Path, metavar="FILE", help=about)


def _model(sub: argparse.ArgumentParser, k: int | None = None, templates: str | None = None) -> None:
    sub.add_argument("--store", type=Path, metavar="OUT", help="a Store, to judge by what neurons do on its rows")
    sub.add_argument("--model", default="mini", help="an open_clip model, where there is no Store (mini)")
    sub.add_argument("--pretrained", metavar="TAG|FILE", help="open_clip's tag or a checkpoint file; none: random")
    sub.add_argument("--templates", default=templates, help="a set of prompts, or one with {} in it")
    if k is not None:
        sub.add_argument("-k", type=int, default=k, help=f"how many ({k})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 something was refused, 2 misuse, 130 interrupted."""
    return answer("decompose", parser().parse_args(argv))


def run() -> None:
    """The console script."""
    sys.exit(main())
