"""The commands of `decompose`: each is a function, with its options above it.

Results go to stdout, progress and warnings to stderr.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from atlas.console import command_line, option, options_changed, print_table, run_command, takes
from atlas.errors import Refused
from atlas.options import ATLAS_WEIGHTS
from atlas.store.part import option_words
from decompose.opening import (
    AS_JSON,
    AUTO,
    CONCEPT_WORDS,
    DIRECTIONS_FILE,
    MODEL_CHOICE,
    NEURON_NUMBER,
    SEED_NUMBER,
    STORE_FOLDER,
    WITH_RECEIPTS,
    ModelOptions,
    check_count,
    chosen_neuron,
    count_option,
    load_directions,
    number_or_auto,
    open_model,
    open_store,
    sample_images,
    templates_option,
    text_bank,
    warn_untrained,
    word_list,
)
from decompose.results import (
    announce_page,
    component_row,
    print_equations,
    print_study,
    short_receipts,
    write_page,
    write_table,
)

if TYPE_CHECKING:
    from decompose.coding import Method

# Nothing heavy is imported here, so that `decompose --help` answers at once. Each command imports what it runs.

_RATE = 0.05  # false discovery rate
_COMPONENTS_FILE = "components.safetensors"


@takes(
    option("text", help="a word or a sentence"),
    DIRECTIONS_FILE,
    WITH_RECEIPTS,
    option("--by", choices=("basis", "response", "both"), help="evidence to rank by (both with a Store, else basis)"),
    MODEL_CHOICE,
    templates_option(),
    count_option(10),
    AS_JSON,
)
def search_command(
    text: str,
    directions: Path | None,
    receipts: bool,
    by: str | None,
    templates: str | None,
    k: int,
    as_json: bool,
    **model: Unpack[ModelOptions],
) -> int:
    """The neurons that contribute most to a text, best first."""
    from decompose.attribution import concept_embeddings
    from decompose.lookup import neurons_of_text

    check_count(k)
    store, clip = open_model(**model)
    some, images = load_directions(directions, clip.neurons), None
    if receipts:
        images = sample_images(store, clip, concept_embeddings(clip, text, templates)[0])
    found = neurons_of_text(clip, text, k, store, by, some, templates, images=images)
    warn_untrained(clip, [text])
    print_table(found.to_pylist() if as_json or not receipts else short_receipts(found.to_pylist()), as_json)
    return 0


@takes(
    NEURON_NUMBER,
    DIRECTIONS_FILE,
    option("--climb", action="store_true", help="text feature visualisation: optimise texts word by word"),
    MODEL_CHOICE,
    templates_option(),
    count_option(10),
    AS_JSON,
)
def texts_command(
    neuron: int,
    directions: Path | None,
    climb: bool,
    templates: str | None,
    k: int,
    as_json: bool,
    **model: Unpack[ModelOptions],
) -> int:
    """The texts that a neuron contributes to most; with --climb, texts optimised for the neuron."""
    from decompose.lookup import texts_of_neuron
    from decompose.wording import text_feature

    check_count(k)
    if climb and templates is not None:
        raise Refused("--climb optimises whole texts, so it takes no --templates")
    store, clip = open_model(**model)
    chosen = chosen_neuron(neuron, directions, clip.neurons, f"{clip.layer} of {clip.name}")
    if climb:
        print_table(text_feature(clip, chosen).to_pylist()[:k], as_json)
        return 0
    found = texts_of_neuron(clip, chosen, k, text_bank(store, clip, templates)).to_pylist()
    if not found:
        raise Refused(f"neuron {neuron} adds nothing to the embedding, so no text ranks above another")
    print_table(found, as_json)
    return 0


@takes(
    STORE_FOLDER,
    NEURON_NUMBER,
    DIRECTIONS_FILE,
    option("--by", choices=("response", "basis", "images"), default="response", help="how neurons are compared"),
    count_option(10),
    AS_JSON,
)
def nearest_command(store: Path, neuron: int, directions: Path | None, by: str, k: int, as_json: bool) -> int:
    """The neurons of a Store whose responses are most similar to those of one neuron."""
    from atlas.store.store import Store
    from decompose.neighbours import similar_neurons
    from decompose.responses import default_kind

    opened = Store.open(store)
    neurons = opened.array("max", default_kind(opened)).shape[1]
    chosen = chosen_neuron(neuron, directions, neurons, str(opened.path))
    print_table(similar_neurons(opened, chosen, k, by).to_pylist(), as_json)
    return 0


@takes(
    STORE_FOLDER,
    option("other", type=Path, help="folder of the other Store"),
    SEED_NUMBER,
    count_option(20, "pairs to print"),
    AS_JSON,
)
def universality_command(store: Path, other: Path, seed: int, k: int, as_json: bool) -> int:
    """Neurons of two models that are each other's nearest, by their responses to the same rows of two Stores."""
    from atlas.store.store import Store
    from decompose.neighbours import universality

    check_count(k)
    found = universality(Store.open(store), Store.open(other), seed=seed).to_pylist()
    if not as_json:
        kept = sum(row["q"] <= _RATE for row in found)
        print(f"{len(found):,} neurons are each other's nearest, {kept:,} of them above chance (q <= {_RATE})\n")
    print_table(found[:k], as_json)
    return 0


@takes(
    CONCEPT_WORDS,
    DIRECTIONS_FILE,
    option("--method", choices=("omp", "lasso", "nnls", "iht", "logistic"), default="omp", help="sparse solver (omp)"),
    WITH_RECEIPTS,
    MODEL_CHOICE,
    templates_option(),
    count_option(4, "terms"),
    AS_JSON,
)
def equation_command(
    concept: list[str],
    directions: Path | None,
    method: "Method",
    receipts: bool,
    templates: str | None,
    k: int,
    as_json: bool,
    **model: Unpack[ModelOptions],
) -> int:
    """Concepts as short sums of neurons; with a Store, also a page of its site."""
    from decompose.attribution import explained
    from decompose.equations import compose
    from decompose.pages import equations_page

    store, clip = open_model(**model)
    some, images = load_directions(directions, clip.neurons), sample_images(store, clip) if receipts else None
    found = compose(clip, concept, k, store, method=method, templates=templates, directions=some, images=images)
    warn_untrained(clip, concept)
    shares: list[float | None] = [None] * len(found)
    if store is not None and "image" in store.counts:
        shares = explained(store, clip, concept, templates).tolist()
    print_equations(found, shares, as_json)
    if store is not None and some is None:  # only neurons have cards
        options = options_changed(equation_command, method=method, k=k, templates=templates, receipts=receipts)
        again = ["equation", *concept, "--store", "{store}", *option_words(**options)]
        write_page(store, "equations", "Equations", equations_page(found, shares), again)
    return 0


@takes(CONCEPT_WORDS, MODEL_CHOICE, templates_option("drawing"), AS_JSON)
def compare_command(concept: list[str], templates: str | None, as_json: bool, **model: Unpack[ModelOptions]) -> int:
    """The sparse solvers compared on one set of concepts: size, fidelity, stability and time."""
    from decompose.bakeoff import compare_solvers

    store, clip = open_model(**model)
    found = compare_solvers(clip, concept, templates=templates, store=store).to_pylist()
    warn_untrained(clip, concept)
    print_table(found, as_json)
    return 0


@takes(
    STORE_FOLDER,
    option("-k", type=number_or_auto, default=16, help=f"components (16); {AUTO}: by held-out error and stability"),
    option("--alpha", type=float, default=0.0, help="L1 penalty on the codes (0)"),
    SEED_NUMBER,
    AS_JSON,
)
def nmf_command(store: Path, k: int | str, alpha: float, seed: int, as_json: bool) -> int:
    """NMF components of a Store's activations: neurons that fire together; also a page of its site."""
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
    print_table([component_row(each) for each in found], as_json)
    recipe = {"k": k, "alpha": alpha, "seed": seed}
    options = options_changed(nmf_command, **recipe)
    part = COMPONENTS.made_with(**options)
    with opened.deriving(part, recipe) as folder:
        made.save(folder / _COMPONENTS_FILE)
    file = opened.derived(part) / _COMPONENTS_FILE
    print(f"with --directions {file} commands use the components instead of neurons", file=sys.stderr)
    drawn = components_map(opened, found)
    body, beside = components_page(opened, found, with_map=drawn is not None), {MAP_FILE: drawn} if drawn else {}
    again = ["nmf", "{store}", *option_words(**options)]
    return write_page(opened, "components", "Components", body, again, beside)


@takes(
    STORE_FOLDER,
    DIRECTIONS_FILE,
    option("--rate", type=float, default=_RATE, help=f"false discovery rate ({_RATE})"),
    SEED_NUMBER,
    count_option(20, "labels to print"),
    ATLAS_WEIGHTS,
    AS_JSON,
)
def label_command(
    store: Path, directions: Path | None, rate: float, seed: int, k: int, pretrained: str | None, as_json: bool
) -> int:
    """Label every neuron of a Store, with significance, clusters and receipts; neuron cards then show these.

    Labels of directions, which have no cards, are written as a page of the site.
    """
    from atlas.analysis import parts
    from decompose.confirmation import confirm_labels
    from decompose.facets import split_neurons
    from decompose.labels import by_neuron, label_neurons
    from decompose.pages.directions import directions_page, portray

    check_count(k)
    opened, clip = open_store(store, pretrained)
    some = load_directions(directions, clip.neurons)
    recipe = {"rate": rate, "seed": seed}
    labels = label_neurons(opened, clip, directions=some, rate=rate, seed=seed)
    if some is None:  # only neurons have cards
        write_table(opened, parts.LABELS, recipe, labels)
    receipts = None
    if "image" in opened.counts:
        receipts = confirm_labels(opened, clip, labels, seed=seed, directions=some)
        raised = [row["confirmed"] for row in receipts.to_pylist() if row["act"] == "raise"]
        print(f"raising confirms {sum(raised):,} of {len(raised):,} labels", file=sys.stderr)
        if some is None:
            write_table(opened, parts.FACETS, recipe, split_neurons(opened, clip, rate=rate, seed=seed))
            write_table(opened, parts.RECEIPTS, recipe, receipts, of=(parts.LABELS,))
    given = sorted(by_neuron(labels), key=lambda row: row["q"])
    if not as_json:
        what = f"{clip.neurons:,} neurons" if some is None else f"{len(some):,} directions"
        print(f"{len(given):,} of {what} have a label; the most significant:\n")
    print_table(given[:k], as_json)
    if some is None:
        return announce_page(opened)
    body = directions_page(opened, portray(opened, some, labels, receipts), len(some))
    options = options_changed(label_command, directions=directions, rate=rate, seed=seed)
    again = ["label", "{store}", *option_words(**options)]
    return write_page(opened, "directions", "Directions", body, again)


@takes(
    option("--words", type=Path, metavar="FILE", help="file of words, one a line (the feeling wheel)"),
    option("--factors", type=int, nargs="+", default=[2, 7], metavar="N", help="numbers of factors (2 and 7)"),
    MODEL_CHOICE,
    templates_option("feeling"),
    AS_JSON,
)
def emotions_command(
    words: Path | None, factors: list[int], templates: str | None, as_json: bool, **model: Unpack[ModelOptions]
) -> int:
    """Emotion words as equations and factors, and the emotion atlas; any other words and prompts work too."""
    from decompose.emotions import study_emotions
    from decompose.pages import emotions_page

    store, clip = open_model(**model)
    found = study_emotions(clip, None if words is None else word_list(words), templates, store, factors=factors)
    warn_untrained(clip, found.words)
    print_study(found, as_json)
    if store is not None:
        options = options_changed(emotions_command, factors=factors, templates=templates, words=words)
        again = ["emotions", "--store", "{store}", *option_words(**options)]
        write_page(store, "emotions", "Emotions", emotions_page(found, clip.name), again)
    return 0


DECOMPOSE_COMMANDS = (
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
    return run_command(command_line("decompose", about, DECOMPOSE_COMMANDS), argv)
