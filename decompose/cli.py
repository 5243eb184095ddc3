"""The commands of `decompose`: each is a function, with its options above it.

Results go to stdout, progress and warnings to stderr.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from atlas.console import command_line, option, options_changed, print_table, run_command, takes
from atlas.errors import Misuse, Refused
from atlas.option_types import path_name, whole_number
from atlas.store.part import option_words
from decompose.defaults import PICTURE_TEMPLATES
from decompose.opening import (
    AS_JSON,
    CONCEPT_WORDS,
    DIRECTIONS_FILE,
    MODEL_CHOICE,
    NEURON_NUMBER,
    WITH_RECEIPTS,
    ModelOptions,
    chosen_neuron,
    count_option,
    load_directions,
    open_model,
    open_store,
    sample_images,
    templates_option,
    text_bank,
    warn_untrained,
    word_list,
)
from decompose.results import (
    print_equations,
    print_study,
    short_receipts,
    write_page,
)
from decompose.store_commands import STORE_COMMANDS
from decompose.studies.commands import STUDY_COMMANDS

if TYPE_CHECKING:
    from decompose.coding import Method

# Nothing heavy is imported here, so that `decompose --help` answers at once. Each command imports what it runs.


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
    if model["store"] and not (model["pretrained"] or directions or receipts):
        from decompose.ranking import search_kept

        kept = search_kept(open_store(model["store"], model["layer"]), text, k, by, templates)
        if kept is not None:
            print_table(kept.to_pylist(), as_json)
            return 0
    from decompose.lookup import neurons_of_text
    from decompose.prompting import concept_embeddings

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
    CONCEPT_WORDS,
    DIRECTIONS_FILE,
    option("--method", choices=("omp", "lasso", "nnls", "iht", "logistic"), default="omp", help="sparse solver (omp)"),
    WITH_RECEIPTS,
    MODEL_CHOICE,
    templates_option(),
    count_option(4, "terms"),
    option("--to", type=path_name, metavar="FILE", help="also a figure of the sums with a Store: .pdf, .svg or .png"),
    AS_JSON,
)
def equation_command(
    concept: list[str],
    directions: Path | None,
    method: "Method",
    receipts: bool,
    templates: str | None,
    k: int,
    to: Path | None,
    as_json: bool,
    **model: Unpack[ModelOptions],
) -> int:
    """Concepts as short sums of neurons; with a Store, also a page of its site."""
    from atlas.pages.figure import check_target
    from decompose.attribution import explained
    from decompose.equations import compose
    from decompose.pages import covers, equations_page
    from decompose.pages.sum_figure import write_sum_figure

    store, clip = open_model(**model)
    if to and (store is None or directions):
        raise Misuse("--to draws the pictures of neurons: give a Store, and no --directions")
    if to and store:
        check_target(store, to)  # before the work
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
        write_page(store, "equations", "Equations", equations_page(found, shares, covers(store)), again)
        if to:
            print(write_sum_figure(store, found, to), file=sys.stderr if as_json else sys.stdout)
    return 0


@takes(CONCEPT_WORDS, MODEL_CHOICE, templates_option(PICTURE_TEMPLATES), AS_JSON)
def compare_command(concept: list[str], templates: str | None, as_json: bool, **model: Unpack[ModelOptions]) -> int:
    """The sparse solvers compared on one set of concepts: size, fidelity, stability and time."""
    from decompose.bakeoff import compare_solvers

    store, clip = open_model(**model)
    found = compare_solvers(clip, concept, templates=templates, store=store).to_pylist()
    warn_untrained(clip, concept)
    print_table(found, as_json)
    return 0


@takes(
    option("--words", type=path_name, metavar="FILE", help="file of words, one a line (the feeling wheel)"),
    option(
        "--factors",
        type=whole_number(1, 1000),
        nargs="+",
        default=[2, 7],
        metavar="N",
        help="numbers of factors (2 and 7)",
    ),
    MODEL_CHOICE,
    templates_option("feeling"),
    AS_JSON,
)
def emotions_command(
    words: Path | None, factors: list[int], templates: str | None, as_json: bool, **model: Unpack[ModelOptions]
) -> int:
    """Emotion words as equations and factors, and the emotion atlas; any other words and prompts work too."""
    from decompose.emotions import study_emotions
    from decompose.pages import covers, emotions_page

    store, clip = open_model(**model)
    found = study_emotions(clip, None if words is None else word_list(words), templates, store, factors=factors)
    warn_untrained(clip, found.words)
    print_study(found, as_json)
    if store is not None:
        options = options_changed(emotions_command, factors=factors, templates=templates, words=words)
        again = ["emotions", "--store", "{store}", *option_words(**options)]
        write_page(store, "emotions", "Emotions", emotions_page(found, clip.name, covers(store)), again)
    return 0


@takes(option("--delete", action="store_true", help="delete them all"), AS_JSON)
def kept_command(delete: bool, as_json: bool) -> int:
    """List the models whose text embeddings are kept in the user's cache folder, or delete them."""
    from atlas.model.kept_texts import cache_file, forget_texts, kept_models

    if delete:
        forget_texts()
    print_table(kept_models(), as_json)
    print(cache_file(), file=sys.stderr)
    return 0


DECOMPOSE_COMMANDS = (
    search_command,
    texts_command,
    equation_command,
    compare_command,
    emotions_command,
    *STORE_COMMANDS,
    *STUDY_COMMANDS,
    kept_command,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `decompose`; returns its exit code: 0 done, 1 something was refused, 2 misuse, 130 interrupted."""
    about = "What a direction, a word or a neuron of a CLIP model is made of."
    return run_command(command_line("decompose", about, DECOMPOSE_COMMANDS), argv)
