"""`decompose given`: a neuron's activation given a person or a class."""

from pathlib import Path

from atlas.console import option, options_changed, print_table, takes
from atlas.store.part import option_words
from decompose.opening import AS_JSON, NEURON_NUMBER, SEED_NUMBER, STORE_FOLDER
from decompose.results import write_page

# Nothing heavy is imported here, so that `decompose --help` answers at once.


@takes(
    STORE_FOLDER,
    NEURON_NUMBER,
    option(
        "--names",
        nargs="+",
        default=[],
        metavar="NAME",
        help="persons or classes (by default those with the largest and the smallest medians)",
    ),
    option("--by", choices=("label", "group"), default="label", help="what an image's class is (label)"),
    SEED_NUMBER,
    AS_JSON,
)
def given_command(store: Path, neuron: int, names: list[str], by: str, seed: int, as_json: bool) -> int:
    """A neuron's activation given a person or a class: medians and spreads; also a page of the site."""
    from atlas.store.store import Store
    from decompose.pages.given_class import GIVEN_PAGE, given_page
    from decompose.studies.given_class import activation_given, chosen_images, neuron_activations
    from decompose.studies.untrained_nulls import untrained_distances

    opened = Store.open(store)
    a, classes = neuron_activations(opened, neuron, by)
    null = untrained_distances(opened, chosen_images(a, classes, names, seed), seed)
    rows = [row | {"untrained": null[row["class"]]} for row in activation_given(a, classes, names, seed)]
    print_table(rows, as_json)
    body = given_page(neuron, rows, opened.request["model"]["name"], len(a), not names)
    options = options_changed(given_command, by=by, names=names, seed=seed)
    again = ["given", "{store}", neuron, *option_words(**options)]
    return write_page(opened, GIVEN_PAGE, "Given a class", body, again)
