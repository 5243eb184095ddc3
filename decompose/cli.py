"""`decompose ...`: a command is a function, its options stand above it. Results go to stdout, progress to stderr."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from atlas.console import command_line, option, print_table, run_command, takes
from atlas.errors import Refused
from decompose.opening import (
    at_least_one,
    chosen_neuron,
    command_again,
    load_directions,
    open_model,
    open_store,
    sample_images,
    text_bank,
    warn_untrained,
    word_list,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas.store.store import Part, Store
    from decompose.coding import Method
    from decompose.components import Component
    from decompose.emotions import Study
    from decompose.equations import Equation

# Nothing heavy is imported here: `decompose --help` must answer at once. Each command imports what it runs.

RATE = 0.05  # of false discoveries
AUTO, COMPONENTS_FILE = "auto", "components.safetensors"

STORE = option("store", type=Path, help="folder of the Store")
JSON = option("--json", action="store_true", dest="as_json", help="print JSON instead of a table")
SEED = option("--seed", type=int, default=0)
NEURON = option("neuron", type=int, help="the neuron's number")
CONCEPTS = option("concept", nargs="+")
RECEIPTS = option("--receipts", action="store_true", help="raise and silence each neuron in real forward passes")
DIRECTIONS = option(
    "--directions", "--sae", type=Path, metavar="FILE", help="directions, or a sparse autoencoder, instead of neurons"
)


class Model(TypedDict):
    """Which model a command asks, from the options of `MODEL`."""

    store: Path | None
    model: str
    pretrained: str | None


MODEL = (
    option("--store", type=Path, metavar="OUT", help="a Store: its model, and what neurons do on its rows"),
    option("--model", default="mini", help="an open_clip model, where there is no Store (mini)"),
    option("--pretrained", metavar="TAG|FILE", help="open_clip's tag or a checkpoint file; none: random weights"),
)


def _templates(default: str | None = None) -> Any:
    return option("--templates", default=default, help="a set of prompts, or one prompt with {} in it")


def _how_many(k: int, what: str = "how many") -> Any:
    return option("-k", type=int, default=k, help=f"{what} ({k})")


@takes(
    option("text"),
    DIRECTIONS,
    RECEIPTS,
    option("--by", choices=("basis", "response", "both"), help="evidence (both with a Store, else basis)"),
    MODEL,
    _templates(),
    _how_many(10),
    JSON,
)
def search_command(
    text: str,
    directions: Path | None,
    receipts: bool,
    by: str | None,
    templates: str | None,
    k: int,
    as_json: bool,
    **model: Unpack[Model],
) -> int:
    """The neurons that serve a text most, best first."""
    from decompose.attribution import concept_embeddings
    from decompose.lookup import neurons_of_text

    at_least_one(k)
    store, clip = open_model(**model)
    some, images = load_directions(directions, clip.neurons), None
    if receipts:
        images = sample_images(store, clip, concept_embeddings(clip, text, templates)[0])
    found = neurons_of_text(clip, text, k, store, by, some, templates, images=images)
    warn_untrained(clip, [text])
    print_table(found.to_pylist() if as_json or not receipts else _with_short_receipts(found.to_pylist()), as_json)
    return 0


@takes(
    NEURON,
    DIRECTIONS,
    option("--climb", action="store_true", help="text feature visualisation: compose texts from single words"),
    MODEL,
    _templates(),
    _how_many(10),
    JSON,
)
def texts_command(
    neuron: int,
    directions: Path | None,
    climb: bool,
    templates: str | None,
    k: int,
    as_json: bool,
    **model: Unpack[Model],
) -> int:
    """The texts that a neuron serves most; with --climb, texts that are composed for it."""
    from decompose.lookup import texts_of_neuron
    from decompose.wording import text_feature

    at_least_one(k)
    if climb and templates is not None:
        raise Refused("--climb composes whole texts, so it takes no --templates")
    store, clip = open_model(**model)
    chosen = chosen_neuron(neuron, directions, clip.neurons, f"{clip.layer} of {clip.name}")
    if climb:
        print_table(text_feature(clip, chosen).to_pylist()[:k], as_json)
        return 0
    found = texts_of_neuron(clip, chosen, k, text_bank(store, clip, templates)).to_pylist()
    if not found:
        raise Refused(f"{neuron} adds nothing to the embedding, so that no text is better for it than another")
    print_table(found, as_json)
    return 0


@takes(
    STORE,
    NEURON,
    DIRECTIONS,
    option("--by", choices=("response", "basis", "images"), default="response", help="how neurons are compared"),
    _how_many(10),
    JSON,
)
def nearest_command(store: Path, neuron: int, directions: Path | None, by: str, k: int, as_json: bool) -> int:
    """The neurons of a Store that behave most like one of them."""
    from atlas.store.store import Store
    from decompose.neighbours import similar_neurons
    from decompose.responses import default_kind

    opened = Store.open(store)
    neurons = opened.array("max", default_kind(opened)).shape[1]
    chosen = chosen_neuron(neuron, directions, neurons, str(opened.path))
    print_table(similar_neurons(opened, chosen, k, by).to_pylist(), as_json)
    return 0


@takes(STORE, option("other", type=Path, help="folder of the other Store"), SEED, _how_many(20, "pairs to print"), JSON)
def universality_command(store: Path, other: Path, seed: int, k: int, as_json: bool) -> int:
    """Neurons of two models, in two Stores of the same rows, that are each other's nearest."""
    from atlas.store.store import Store
    from decompose.neighbours import universality

    at_least_one(k)
    found = universality(Store.open(store), Store.open(other), seed=seed).to_pylist()
    if not as_json:
        kept = sum(row["q"] <= RATE for row in found)
        print(f"{len(found):,} neurons are each other's nearest, {kept:,} of them beyond chance (q <= {RATE})\n")
    print_table(found[:k], as_json)
    return 0


@takes(
    CONCEPTS,
    DIRECTIONS,
    option("--method", choices=("omp", "lasso", "nnls", "iht", "logistic"), default="omp", help="solver (omp)"),
    RECEIPTS,
    MODEL,
    _templates(),
    _how_many(4, "terms"),
    JSON,
)
def equation_command(
    concept: list[str],
    directions: Path | None,
    method: "Method",
    receipts: bool,
    templates: str | None,
    k: int,
    as_json: bool,
    **model: Unpack[Model],
) -> int:
    """Concepts as short sums of neurons; with a Store also as a page of its site."""
    from decompose.attribution import explained
    from decompose.equations import compose
    from decompose.pages import equations_page

    store, clip = open_model(**model)
    some, images = load_directions(directions, clip.neurons), sample_images(store, clip) if receipts else None
    found = compose(clip, concept, k, store, method, None, True, templates, some, images)
    warn_untrained(clip, concept)
    shares: list[float | None] = [None] * len(found)
    if store is not None and "image" in store.counts:
        shares = explained(store, clip, concept, templates).tolist()
    if as_json:
        print_table([_equation_row(*each) for each in zip(found, shares, strict=True)], as_json)
    for each, share in zip(found, shares, strict=True) if not as_json else ():
        of_form = "" if share is None else f"; R2 of the bilinear form {share:.2f}"
        print(f"{each}   ({each.kept:.0%} of the logit{of_form})")
        if each.receipts:
            print_table(each.acts())
            print(f"tried with {', '.join(each.receipts[0].templates)}\n")
    if store is not None and some is None:  # cards are of neurons alone
        again = ["equation", *concept, "--store", "{store}", "--method", method, "-k", k]
        again += ["--templates", templates] if templates else []
        again += ["--receipts"] if receipts else []
        _write_page(store, "equations", "Equations", equations_page(found, shares), again)
    return 0


@takes(CONCEPTS, MODEL, _templates("drawing"), JSON)
def compare_command(concept: list[str], templates: str | None, as_json: bool, **model: Unpack[Model]) -> int:
    """The solvers of equations on one set of concepts: size, fidelity, stability and time."""
    from decompose.bakeoff import compare_solvers

    store, clip = open_model(**model)
    found = compare_solvers(clip, concept, templates=templates, store=store).to_pylist()
    warn_untrained(clip, concept)
    print_table(found, as_json)
    return 0


def _count(text: str) -> int | str:
    if text == AUTO or text.lstrip("-").isdecimal():
        return text if text == AUTO else int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor {AUTO}")


@takes(
    STORE,
    option("-k", type=_count, default=16, help=f"components (16); {AUTO} takes held-out error and stability"),
    option("--alpha", type=float, default=0.0, help="L1 penalty on the codes (0)"),
    SEED,
    JSON,
)
def nmf_command(store: Path, k: int | str, alpha: float, seed: int, as_json: bool) -> int:
    """Components of a Store's activations: neurons that fire together; also as a page of its site."""
    from atlas.store.store import Store
    from decompose.components import COMPONENTS, choose_components, factor_activations
    from decompose.pages.components import MAP_FILE, components_map, components_page

    opened = Store.open(store)
    if isinstance(k, str):
        choice = choose_components(opened, alpha=alpha, seed=seed)
        k = choice.n_components
        for tried, error, stable in zip(choice.tried, choice.error.tolist(), choice.stability.tolist(), strict=True):
            print(f"{tried} components: held-out error {error:.3f}, stability {stable:.2f}", file=sys.stderr)
    made, found = factor_activations(opened, k, alpha, seed)
    print_table([_component_row(each) for each in found], as_json)
    recipe = {"k": k, "alpha": alpha, "seed": seed}
    part = COMPONENTS.made_with(**recipe)
    with opened.deriving(part, recipe) as folder:
        made.save(folder / COMPONENTS_FILE)
    file = opened.derived(part) / COMPONENTS_FILE
    print(f"--directions {file} uses the components in place of neurons", file=sys.stderr)
    drawn = components_map(opened, found)
    body, beside = components_page(opened, found, with_map=drawn is not None), {MAP_FILE: drawn} if drawn else {}
    again = ["nmf", "{store}", "-k", k, "--alpha", alpha, "--seed", seed]
    return _write_page(opened, "components", "Components", body, again, beside)


@takes(
    STORE,
    DIRECTIONS,
    option("--rate", type=float, default=RATE, help=f"false discovery rate ({RATE})"),
    SEED,
    _how_many(20, "labels to print"),
    option("--pretrained", help="the checkpoint file's place now, if the Store was made with one"),
    JSON,
)
def label_command(
    store: Path, directions: Path | None, rate: float, seed: int, k: int, pretrained: str | None, as_json: bool
) -> int:
    """Label every neuron of a Store, with significance, facets and receipts; its cards then show them.

    Directions, which have no cards, become a page of the site.
    """
    from atlas.analysis import parts
    from decompose.confirmation import confirm_labels
    from decompose.facets import split_neurons
    from decompose.labels import by_neuron, label_neurons
    from decompose.pages.directions import directions_page, portray

    at_least_one(k)
    opened, clip = open_store(store, pretrained)
    some = load_directions(directions, clip.neurons)
    recipe = {"rate": rate, "seed": seed}
    labels = label_neurons(opened, clip, directions=some, rate=rate, seed=seed)
    if some is None:  # cards are of neurons alone
        _write_table(opened, parts.LABELS, recipe, labels)
    receipts = None
    if "image" in opened.counts:
        receipts = confirm_labels(opened, clip, labels, seed=seed, directions=some)
        raised = [row["confirmed"] for row in receipts.to_pylist() if row["act"] == "raise"]
        print(f"raising confirms {sum(raised):,} of {len(raised):,} labels", file=sys.stderr)
        if some is None:
            _write_table(opened, parts.FACETS, recipe, split_neurons(opened, clip, rate=rate, seed=seed))
            _write_table(opened, parts.RECEIPTS, recipe, receipts, of=(parts.LABELS,))
    given = sorted(by_neuron(labels), key=lambda row: row["q"])
    if not as_json:
        what = f"{clip.neurons:,} neurons" if some is None else f"{len(some):,} directions"
        print(f"{len(given):,} of {what} have a label; the surest:\n")
    print_table(given[:k], as_json)
    if some is None:
        return _announce_page(opened)
    body = directions_page(opened, portray(opened, some, labels, receipts), len(some))
    again = ["label", "{store}", "--directions", directions, "--rate", rate, "--seed", seed]
    return _write_page(opened, "directions", "Directions", body, again)


@takes(
    option("--words", type=Path, metavar="FILE", help="words, one a line (the feeling wheel's)"),
    option("--factors", type=int, nargs="+", default=[2, 7], metavar="N", help="how many factors (2 and 7)"),
    MODEL,
    _templates("feeling"),
    JSON,
)
def emotions_command(
    words: Path | None, factors: list[int], templates: str | None, as_json: bool, **model: Unpack[Model]
) -> int:
    """What feelings are made of: equations, factors and the emotion atlas; any words and prompts will do."""
    from decompose.emotions import study_emotions
    from decompose.pages import emotions_page

    store, clip = open_model(**model)
    found = study_emotions(clip, None if words is None else word_list(words), templates, store, factors=factors)
    warn_untrained(clip, found.words)
    _print_study(found, as_json)
    if store is not None:
        again = ["emotions", "--store", "{store}", "--factors", *factors, "--templates", templates]
        again += ["--words", words] if words else []
        _write_page(store, "emotions", "Emotions", emotions_page(found, clip.name), again)
    return 0


# -- what the commands share -------------------------------------------------------------------------------------------


def _write_table(
    store: "Store", part: "Part", recipe: dict[str, Any], found: "pa.Table", of: "Sequence[Part]" = ()
) -> None:
    import pyarrow.parquet as pq

    made = part.made_with(**{name: value for name, value in recipe.items() if (name, value) not in DEFAULTS})
    with store.deriving(made, recipe, of) as folder:
        pq.write_table(found, folder / f"{Path(part.name).name}.parquet")
    print(store.derived(part), file=sys.stderr)


DEFAULTS = (("rate", RATE), ("seed", 0))  # options that a recorded command leaves out


def _equation_row(found: "Equation", share: float | None) -> dict[str, Any]:
    row = {"concept": found.concept, "kept": found.kept, "explained": share, "terms": found.table().to_pylist()}
    return row | ({"tried_with": found.receipts[0].templates} if found.receipts else {})


def _component_row(found: "Component") -> dict[str, Any]:
    return {
        "component": found.number,
        "share of images": found.share,
        "neurons": ", ".join(f"{'not ' if weight < 0 else ''}{neuron}" for neuron, weight in found.neurons),
        "images": ", ".join(found.called[:3]),
        "words": ", ".join(found.words[:6]),
    }


def _with_short_receipts(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neurons found, with as much of their receipts as fits a line."""
    shown = ("neuron", "score", "q", "label")
    acts = [f"{act}_{name}" for act in ("raise", "ablate") for name in ("effect", "p", "confirmed")]
    return [{name: row[name] for name in (*shown, *acts)} for row in rows]


def _print_study(found: "Study", as_json: bool) -> None:
    from decompose.families import verdict

    agreements, affect = (table.to_pylist() if table else [] for table in (found.agreements, found.affect))
    if as_json:
        rows = [{"word": each.concept, "terms": each.table().to_pylist()} for each in found.equations]
        factors = {str(k): {"names": each.names, "words": each.words.tolist()} for k, each in found.factors.items()}
        print(json.dumps({"equations": rows, "factors": factors, "agreements": agreements, "affect": affect}, indent=1))
        return
    for each in found.equations:
        print(each)
    print()
    print_table(agreements)
    print(verdict(agreements), end="\n\n")
    if affect:
        print_table([_affect_row(row) for row in affect])
    else:
        print('valence and arousal were not compared: pip install "multimodal-atlas[affect]"', file=sys.stderr)


def _affect_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row of valence and arousal, with the factor's name in place of its number."""
    left_out = ("factors", "factor", "name", "draws")
    return {"factors of": row["factors"], "factor": row["name"]} | {k: row[k] for k in row if k not in left_out}


def _write_page(
    store: "Store",
    name: str,
    title: str,
    body: str,
    again: Sequence[object],
    beside: dict[str, bytes] | None = None,
) -> int:
    """Write a page of the Store's site; `again`: the words of the command that makes it."""
    from decompose.pages import write_fragment

    write_fragment(store, name, title, command_again(*map(str, again)), body, beside)
    return _announce_page(store)


def _announce_page(store: "Store") -> int:
    print(f"atlas page {store.path} brings this into the site", file=sys.stderr)
    return 0


COMMANDS = (
    search_command,
    texts_command,
    nearest_command,
    universality_command,
    equation_command,
    compare_command,
    nmf_command,
    label_command,
    emotions_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `decompose`; returns its exit code: 0 done, 1 something was refused, 2 misuse, 130 interrupted."""
    about = "What a direction, a word or a neuron of a CLIP model is made of."
    return run_command(command_line("decompose", about, COMMANDS), argv)
