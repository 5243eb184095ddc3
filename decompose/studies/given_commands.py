"""`decompose given`: a neuron's activation given a person or a class."""

from pathlib import Path

from atlas.console import option, print_table, takes
from decompose.opening import AS_JSON, NEURON_NUMBER, SEED_NUMBER, STORE_FOLDER
from decompose.results import write_page

# Nothing heavy is imported here, so that `decompose --help` answers at once.


@takes(
    STORE_FOLDER,
    NEURON_NUMBER,
    option("--names", nargs="+", default=[], metavar="NAME", help="persons or classes (those at both ends)"),
    option("--by", choices=("label", "group"), default="label", help="what an image's class is (label)"),
    SEED_NUMBER,
    AS_JSON,
)
def given_command(store: Path, neuron: int, names: list[str], by: str, seed: int, as_json: bool) -> int:
    """A neuron's activation given a person or a class: medians and spreads; also a page of the site."""
    from atlas.store.store import Store
    from decompose.pages.given_class import GIVEN_PAGE, given_page
    from decompose.studies.given_class import activation_given, neuron_activations

    opened = Store.open(store)
    a, classes = neuron_activations(opened, neuron, by)
    rows = activation_given(a, classes, names, seed)
    print_table(rows, as_json)
    body = given_page(neuron, rows, opened.request["model"]["name"], len(a), not names)
    again: list[object] = ["given", "{store}", neuron, "--by", by, "--seed", seed]
    again += ["--names", *names] if names else []
    return write_page(opened, GIVEN_PAGE, "Given a class", body, again)
