"""`decompose ...`: one command = one function. Results on stdout, progress on stderr, one line for a mistake."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.terminal import answer, table
from decompose.opening import bank, chosen, latents, open_model, some_images, word_list

# Nothing heavy is imported here: `decompose --help` must answer at once. Each command imports what it runs.

WAYS = ("basis", "response", "both")
RATE = 0.05  # of false discoveries
METHODS = ("omp", "lasso", "nnls", "iht", "logistic")


def search(args: argparse.Namespace) -> int:
    """The neurons that serve a text most, best first."""
    import decompose

    store, clip = open_model(args)
    directions = latents(args, clip.neurons)
    found = decompose.search(clip, args.text, args.k, store, args.by, directions, args.templates)
    return _print(args, found.to_pylist())


def texts(args: argparse.Namespace) -> int:
    """The texts that a neuron serves most; with --climb, texts that are made up for it."""
    import decompose

    store, clip = open_model(args)
    neuron = chosen(args, clip.neurons, f"{clip.layer} of {clip.name}")
    if args.climb:
        return _print(args, decompose.text_feature(clip, neuron).to_pylist()[: args.k])
    return _print(args, decompose.texts(clip, neuron, args.k, bank(store, clip)).to_pylist())


def nearest(args: argparse.Namespace) -> int:
    """The neurons of a Store that behave most like one of them."""
    import decompose
    from atlas.store import Store

    store = Store.open(args.store)
    kind = "image" if "image" in store.counts else "word"
    neuron = chosen(args, store.array("max", kind).shape[1], str(store.path))
    return _print(args, decompose.nearest(store, neuron, args.k, args.by).to_pylist())


def equation(args: argparse.Namespace) -> int:
    """Concepts as short sums of neurons; with a Store also as a page of its site."""
    import decompose
    from decompose import report

    store, clip = open_model(args)
    directions, images = latents(args, clip.neurons), some_images(store) if args.receipts else None
    found = decompose.compose(
        clip, args.concept, args.k, store, args.method, None, True, args.templates, directions, images
    )
    shares = [None] * len(found)
    if store is not None and "image" in store.counts:
        shares = decompose.explained(store, clip, args.concept, args.templates).tolist()
    if args.json:
        _print(args, [_as_row(each, share) for each, share in zip(found, shares, strict=True)])
    for each, share in zip(found, shares, strict=True) if not args.json else ():
        of_form = "" if share is None else f"; R2 of the bilinear form {share:.2f}"
        print(f"{each}   ({each.kept:.0%} of the logit{of_form})")
        if each.receipts:
            table(each.table().to_pylist())
            print()
    if store is not None and directions is None:  # cards are of neurons alone
        _page(args, store, "equations", "Equations", report.equations(found, shares))
    return 0


def compare(args: argparse.Namespace) -> int:
    """The solvers of equations on one set of concepts: size, fidelity, stability and time."""
    import decompose

    store, clip = open_model(args)
    return _print(args, decompose.compare(clip, args.concept, store=store).to_pylist())


def nmf(args: argparse.Namespace) -> int:
    """Components of a Store's activations: neurons that fire together; also as a page of its site."""
    from atlas.store import Store
    from decompose import report
    from decompose.components import factor_activations

    store = Store.open(args.store)
    _, found = factor_activations(store, args.k, args.alpha, args.seed)
    rows = [
        {
            "component": each.number,
            "share of images": each.share,
            "neurons": ", ".join(str(neuron) for neuron, _ in each.neurons),
            "words": ", ".join(each.words[:6]),
        }
        for each in found
    ]
    _print(args, rows)
    drawn = report.components_map(store, found)
    body, beside = report.components(store, found, with_map=drawn is not None), {report.MAP: drawn} if drawn else {}
    return _page(args, store, "components", "Components", body, beside, k=args.k, alpha=args.alpha)


def label(args: argparse.Namespace) -> int:
    """Label every neuron of a Store, with significance, facets and receipts; its cards then show them."""
    import decompose

    store, clip = open_model(args)
    recipe = {"rate": args.rate, "seed": args.seed}
    labels = decompose.label_neurons(store, clip, **recipe)
    _write(store, "labels", recipe, labels)
    if "image" in store.counts:
        _write(store, "facets", recipe, decompose.split_neurons(store, clip, **recipe))
        receipts = decompose.confirm_labels(store, clip, labels, seed=args.seed)
        _write(store, "receipts", {"seed": args.seed}, receipts, of=("neurons/labels",))
        raised = [row["confirmed"] for row in receipts.to_pylist() if row["act"] == "raise"]
        print(f"raising the neuron confirms {sum(raised):,} of {len(raised):,} labels", file=sys.stderr)
    if args.json:
        return _print(args, labels.to_pylist()[: args.k])
    given = _by_neuron(labels.to_pylist())
    print(f"{len(given):,} of {clip.neurons:,} neurons have a label; the surest:\n")
    table(sorted(given, key=lambda row: row["q"])[: args.k])
    _say_page(args.store)
    return 0


def emotions(args: argparse.Namespace) -> int:
    """What feelings are made of: equations, factors and the emotion atlas; any words and prompts will do."""
    import decompose
    from decompose import report

    store, clip = open_model(args)
    words = None if args.words is None else word_list(args.words)
    found = decompose.study(clip, words, args.templates, store)
    agreements, affect = found.agreements.to_pylist(), report.affect(found)
    if args.json:
        rows = [{"word": each.concept, "terms": each.table().to_pylist()} for each in found.equations]
        factors = {str(k): {"names": each.names, "words": each.words.tolist()} for k, each in found.factors.items()}
        print(json.dumps({"equations": rows, "factors": factors, "agreements": agreements, "affect": affect}, indent=1))
    else:
        for each in found.equations:
            print(each)
        print()
        table(agreements)
        print(report.verdict(agreements), end="\n\n")
        if affect:
            table([{"factors of": row["factors"], "factor": row["name"], **_scales(row)} for row in affect])
        else:
            print('valence and arousal were not compared: pip install "multimodal-atlas[affect]"', file=sys.stderr)
    if store is not None:
        _page(args, store, "emotions", "Emotions", report.emotions(found, clip.name))
    return 0


def universality(args: argparse.Namespace) -> int:
    """Neurons of two models, in two Stores of the same rows, that are each other's nearest."""
    import decompose
    from atlas.store import Store

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


def _by_neuron(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each neuron that has a label: its labels, the evidence and q of the first."""
    given: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["neuron"] in given:
            given[row["neuron"]]["labels"] += f", {row['label']}"
        elif row["label"] != "none":
            given[row["neuron"]] = {name: row[name] for name in ("neuron", "label", "evidence", "q")}
            given[row["neuron"]]["labels"] = given[row["neuron"]].pop("label")
    return list(given.values())


def _as_row(found: Any, share: float | None) -> dict[str, Any]:
    return {"concept": found.concept, "kept": found.kept, "explained": share, "terms": found.table().to_pylist()}


def _scales(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("words", "valence", "p_valence", "arousal", "p_arousal")}


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
    from decompose import report

    report.write(store, name, title, {"command": args.command, **recipe}, body, beside)
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
    _sae(sub)
    sub.add_argument("--by", choices=WAYS, help="what neurons are judged by (both with a Store, else basis)")
    _model(sub, k=10)
    sub = command(texts)
    sub.add_argument("neuron", type=int)
    _sae(sub)
    sub.add_argument("--climb", action="store_true", help="text feature visualisation: climb over all words instead")
    _model(sub, k=10)
    sub = command(nearest)
    sub.add_argument("store", type=Path)
    sub.add_argument("neuron", type=int)
    _sae(sub)
    sub.add_argument("--by", choices=("response", "basis", "images"), default="response")
    sub.add_argument("-k", type=int, default=10)
    sub = command(universality)
    sub.add_argument("store", type=Path)
    sub.add_argument("other", type=Path)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("-k", type=int, default=20, help="pairs to print (20)")
    sub = command(equation)
    sub.add_argument("concept", nargs="+")
    _sae(sub)
    sub.add_argument("--method", choices=METHODS, default="omp")
    sub.add_argument("--receipts", action="store_true", help="raise each neuron in real forward passes and measure")
    _model(sub, k=4)
    sub = command(compare)
    sub.add_argument("concept", nargs="+")
    _model(sub)
    sub = command(nmf)
    sub.add_argument("store", type=Path)
    sub.add_argument("-k", type=int, default=16, help="components (16)")
    sub.add_argument("--alpha", type=float, default=0.0, help="L1 on the codes (0)")
    sub.add_argument("--seed", type=int, default=0)
    sub = command(label)
    sub.add_argument("store", type=Path)
    sub.add_argument("--rate", type=float, default=RATE, help=f"false discovery rate ({RATE})")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("-k", type=int, default=20, help="labels to print (20)")
    sub.add_argument("--pretrained", help="where the checkpoint file lies now, if the Store was made with one")
    sub = command(emotions)
    sub.add_argument("--words", type=Path, metavar="FILE", help="words, one a line (the feeling wheel's)")
    _model(sub, templates="feeling")
    return whole


def _sae(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--sae", type=Path, metavar="FILE", help="latents of a sparse autoencoder instead of neurons")


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
