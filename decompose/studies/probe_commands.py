"""`decompose probe`: classes from a few neurons each."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.console import option, options_changed, print_table, takes
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.option_types import whole_number
from atlas.store.part import option_words
from decompose.opening import STORE_FOLDER, STUDY_OPTIONS, count_option, open_with_model
from decompose.results import write_page

if TYPE_CHECKING:
    from decompose.studies.sparse_probe import ProbeReport

# Nothing heavy is imported here, so that `decompose --help` answers at once.


@takes(
    STORE_FOLDER,
    option("--by", choices=("label", "group"), default="label", help="what an image's class is (label)"),
    option("--classes", nargs="+", default=[], metavar="NAME", help="the classes (drawn at random)"),
    option("--count", type=whole_number(2, 100_000), default=50, help="how many classes to draw (50)"),
    count_option(3, "neurons a class, at most"),
    STUDY_OPTIONS,
)
def probe_command(
    store: Path, by: str, classes: list[str], count: int, k: int, seed: int, pretrained: str | None, as_json: bool
) -> int:
    """The sparse probe: a Store's classes told apart by a few neurons each, held out; also a page of the site."""
    from atlas.analysis.naming import NeuronNames
    from decompose.pages.probe import PROBE_PAGE, probe_page
    from decompose.studies.sparse_probe import report_probe

    if count < 2:
        raise Refused(f"--count {count}: two classes or more")
    opened, clip = open_with_model(store, pretrained)
    found = report_probe(opened, clip, by, classes, count, k, seed)
    names = NeuronNames.read(opened)
    named = [str(names[i]) for i in range(clip.neurons)]
    if as_json:
        print(json.dumps(probe_record(found, named), ensure_ascii=False, indent=1))
    else:
        print_table(accuracy_rows(found))
        print(f"\n{found.neurons_a_class:.1f} neurons a class; {found.held:,} images held out\n")
        print_table([{name: row[name] for name in ("class", "neurons", "right")} for row in class_rows(found, named)])
    options = options_changed(probe_command, by=by, classes=classes, count=count, k=k, seed=seed)
    again = ["probe", "{store}", *option_words(**options)]
    return write_page(opened, PROBE_PAGE, "Probe", probe_page(found, named), again)


def accuracy_rows(found: "ProbeReport") -> list[Record]:
    """Accuracy of the probe, with classes shuffled, and of an untrained network."""
    rates = {"model": (found.top1, found.top5), "shuffled": found.shuffled, "untrained": found.untrained[:2]}
    return [{"probe": name} | one.columns("top1") | five.columns("top5") for name, (one, five) in rates.items()]


def class_rows(found: "ProbeReport", names: list[str]) -> list[Record]:
    """The neurons of each class, as text and as numbers, and how many held-out images are right."""
    return [
        {
            "class": name,
            "neurons": ", ".join(f"{u} ({names[u]}) {weight:+.2f}" for u, weight in found.used(c)),
            "right": f"{found.right[c]} of {found.of[c]}",
            "weights": found.used(c),
        }
        for c, name in enumerate(found.classes)
    ]


def probe_record(found: "ProbeReport", names: list[str]) -> Record:
    """The figures as JSON has them."""
    return {
        "model": found.model,
        "by": found.by,
        "fitted": found.fitted,
        "held": found.held,
        "neurons_a_class": found.neurons_a_class,
        "accuracy": accuracy_rows(found),
        "classes": class_rows(found, names),
    }
