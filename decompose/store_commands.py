"""The commands of `decompose` about all neurons of a Store: each is a function, with its options above it."""

import sys
from pathlib import Path

from atlas.console import option, options_changed, print_table, takes
from atlas.option_types import path_name, real_number
from atlas.options import ATLAS_WEIGHTS
from atlas.store.part import option_words
from decompose.defaults import FALSE_RATE
from decompose.opening import (
    AS_JSON,
    AUTO,
    COLLECTED_LAYER,
    DIRECTIONS_FILE,
    NEURON_NUMBER,
    SEED_NUMBER,
    STORE_FOLDER,
    chosen_neuron,
    count_option,
    load_directions,
    number_or_auto,
    open_store,
    open_with_model,
)
from decompose.results import (
    announce_page,
    component_row,
    write_page,
    write_table,
)

# Nothing heavy is imported here, so that `decompose --help` answers at once. Each command imports what it runs.

_COMPONENTS_FILE = "components.safetensors"


@takes(
    STORE_FOLDER,
    NEURON_NUMBER,
    DIRECTIONS_FILE,
    option("--by", choices=("response", "basis", "images"), default="response", help="how neurons are compared"),
    COLLECTED_LAYER,
    count_option(10),
    AS_JSON,
)
def nearest_command(
    store: Path, neuron: int, directions: Path | None, by: str, layer: str | None, k: int, as_json: bool
) -> int:
    """The neurons of a Store whose responses are most similar to those of one neuron."""
    from decompose.neighbours import similar_neurons
    from decompose.responses import default_kind

    opened = open_store(store, layer)
    neurons = opened.array("max", default_kind(opened)).shape[1]
    chosen = chosen_neuron(neuron, directions, neurons, str(opened.path))
    print_table(similar_neurons(opened, chosen, k, by).to_pylist(), as_json)
    return 0


@takes(
    STORE_FOLDER,
    option("other", type=path_name, help="folder of the other Store"),
    COLLECTED_LAYER,
    option("--other-layer", metavar="PATH", help="another layer that the other Store holds"),
    SEED_NUMBER,
    count_option(20, "pairs to print"),
    AS_JSON,
)
def universality_command(
    store: Path, other: Path, layer: str | None, other_layer: str | None, seed: int, k: int, as_json: bool
) -> int:
    """Neurons of two models that are each other's nearest, by their responses to the same rows of two Stores."""
    from decompose.neighbours import universality

    found = universality(open_store(store, layer), open_store(other, other_layer), seed=seed).to_pylist()
    if not as_json:
        kept = sum(row["q"] <= FALSE_RATE for row in found)
        print(f"{len(found):,} neurons are each other's nearest, {kept:,} of them above chance (q <= {FALSE_RATE})\n")
    print_table(found[:k], as_json)
    return 0


@takes(
    STORE_FOLDER,
    option("-k", type=number_or_auto, default=16, help=f"components (16); {AUTO}: by held-out error and stability"),
    option("--alpha", type=real_number(0), default=0.0, help="L1 penalty on the codes (0)"),
    SEED_NUMBER,
    COLLECTED_LAYER,
    AS_JSON,
)
def nmf_command(store: Path, k: int | str, alpha: float, seed: int, layer: str | None, as_json: bool) -> int:
    """NMF components of a Store's activations: neurons that fire together; also a page of its site."""
    from decompose.components import COMPONENTS, choose_components, factor_activations
    from decompose.pages.components import MAP_FILE, components_map, components_page

    opened = open_store(store, layer)
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
    option(
        "--rate", type=real_number(0, 1, above=True), default=FALSE_RATE, help=f"false discovery rate ({FALSE_RATE})"
    ),
    SEED_NUMBER,
    count_option(20, "labels to print"),
    ATLAS_WEIGHTS,
    COLLECTED_LAYER,
    AS_JSON,
)
def label_command(
    store: Path,
    directions: Path | None,
    rate: float,
    seed: int,
    k: int,
    pretrained: str | None,
    layer: str | None,
    as_json: bool,
) -> int:
    """Label every neuron of a Store, with significance, clusters and receipts; neuron cards then show these.

    Labels of directions, which have no cards, are written as a page of the site.
    """
    from atlas.analysis import parts
    from decompose.confirmation import confirm_labels, signs_that_hold
    from decompose.facets import split_neurons
    from decompose.labels import by_neuron, label_neurons
    from decompose.pages.directions import directions_page, portray

    opened, clip = open_with_model(store, pretrained, layer)
    some = load_directions(directions, clip.neurons)
    recipe = {"rate": rate, "seed": seed}
    labels = label_neurons(opened, clip, directions=some, rate=rate, seed=seed)
    if some is None:  # only neurons have cards
        write_table(opened, parts.LABELS, recipe, labels)
    receipts = None
    if "image" in opened.counts:
        receipts = confirm_labels(opened, clip, labels, seed=seed, directions=some)
        raised = [row["confirmed"] for row in receipts.to_pylist() if row["act"] == "raise"]
        hold, factor = signs_that_hold(receipts)
        print(f"raising confirms {sum(raised):,} of {len(raised):,} labels;", end=" ", file=sys.stderr)
        print(f"{hold:.0%} of predicted signs hold, sizes to a factor of {factor:.2f}", file=sys.stderr)
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


STORE_COMMANDS = (nearest_command, universality_command, nmf_command, label_command)
