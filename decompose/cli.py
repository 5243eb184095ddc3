"""`decompose ...`: one command = one function. Results on stdout, progress on stderr, one line for a mistake."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.errors import Refused
from atlas.terminal import answer, table

# Nothing heavy is imported here: `decompose --help` must answer at once. Each command imports what it runs.

WAYS = ("basis", "response", "both")
METHODS = ("omp", "lasso", "nnls", "iht", "logistic")
RECEIPT_IMAGES = 64


def search(args: argparse.Namespace) -> int:
    """The neurons that serve a text most, best first."""
    import decompose

    store, clip = _open(args)
    found = decompose.search(clip, args.text, args.k, store, args.by, templates=args.templates)
    return _print(args, found.to_pylist())


def texts(args: argparse.Namespace) -> int:
    """The texts that a neuron serves most; with --climb, texts that are made up for it."""
    import decompose

    _, clip = _open(args)
    found = decompose.text_feature(clip, args.neuron) if args.climb else decompose.texts(clip, args.neuron, args.k)
    return _print(args, found.to_pylist()[: args.k])


def nearest(args: argparse.Namespace) -> int:
    """The neurons of a Store that behave most like one of them."""
    import decompose
    from atlas.store import Store

    return _print(args, decompose.nearest(Store.open(args.store), args.neuron, args.k, args.by).to_pylist())


def equation(args: argparse.Namespace) -> int:
    """Concepts as short sums of neurons; with a Store also as a page of its site."""
    import decompose
    from decompose import report

    store, clip = _open(args)
    images = _some_images(store) if args.receipts else None
    found = decompose.compose(clip, args.concept, args.k, store, args.method, templates=args.templates, images=images)
    if args.json:
        rows = [{"concept": each.concept, "kept": each.kept, "terms": each.table().to_pylist()} for each in found]
        return _print(args, rows)
    for each in found:
        print(f"{each}   ({each.kept:.0%} of the logit)")
        if each.receipts:
            table(each.table().to_pylist())
    if store is not None:
        _page(args, store, "equations", "Equations", report.equations(found))
    return 0


def compare(args: argparse.Namespace) -> int:
    """The solvers of equations on one set of concepts: size, fidelity, stability and time."""
    import decompose

    store, clip = _open(args)
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

    store, clip = _open(args)
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

    store, clip = _open(args)
    words = None if args.words is None else _lines(args.words)
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


# -- what the commands share -------------------------------------------------------------------------------------------


def _open(args: argparse.Namespace) -> tuple[Any, Any]:
    """The Store, if one is given, and the model: the Store's own, or the one that is named."""
    if args.store is not None:
        from atlas.derivation import clip_of
        from atlas.store import Store

        store = Store.open(args.store)
        return store, clip_of(store, args.pretrained, "auto")
    from atlas.clip import Clip

    return None, Clip(args.model, args.pretrained)


def _some_images(store: Any) -> list[Any]:
    """Thumbnails of images spread over the Store, to try neurons on."""
    from decompose.confirmation import thumbnails

    if store is None or "image" not in store.counts:
        raise Refused("receipts need images to try neurons on: give --store of one that holds some")
    rows = store.positions("image")
    return thumbnails(store, rows[:: max(1, len(rows) // RECEIPT_IMAGES)][:RECEIPT_IMAGES])


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


def _scales(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("words", "valence", "p_valence", "arousal", "p_arousal")}


def _lines(file: Path) -> list[str]:
    from atlas.files import lines

    if not file.is_file():
        raise Refused(f"{file} is not a file; give one with a word a line")
    return [line for _, line in lines(file)]


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
    sub.add_argument("--by", choices=WAYS, help="what neurons are judged by (both with a Store, else basis)")
    _model(sub, k=10)
    sub = command(texts)
    sub.add_argument("neuron", type=int)
    sub.add_argument("--climb", action="store_true", help="text feature visualisation: climb over all words instead")
    _model(sub, k=10)
    sub = command(nearest)
    sub.add_argument("store", type=Path)
    sub.add_argument("neuron", type=int)
    sub.add_argument("--by", choices=("response", "basis", "images"), default="response")
    sub.add_argument("-k", type=int, default=10)
    sub = command(equation)
    sub.add_argument("concept", nargs="+")
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
    sub.add_argument("--rate", type=float, default=0.05, help="false discovery rate (0.05)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("-k", type=int, default=20, help="labels to print (20)")
    sub.add_argument("--pretrained", help="where the checkpoint file lies now, if the Store was made with one")
    sub = command(emotions)
    sub.add_argument("--words", type=Path, metavar="FILE", help="words, one a line (the feeling wheel's)")
    _model(sub, templates="feeling")
    return whole


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
