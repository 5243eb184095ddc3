"""The commands of the studies; `decompose.cli` adds them to its own."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.console import option, options_changed, print_table, takes
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.option_types import path_name, whole_number
from atlas.store.part import option_words
from decompose.defaults import CONCEPT_TEMPLATES, PICTURE_TEMPLATES
from decompose.opening import (
    NEURON_NUMBER,
    STORE_FOLDER,
    STUDY_OPTIONS,
    count_option,
    open_with_model,
    templates_option,
)
from decompose.results import write_page
from decompose.studies.audit_commands import audit_command
from decompose.studies.concept_stimuli import concept_command
from decompose.studies.given_commands import given_command
from decompose.studies.probe_commands import probe_command
from decompose.studies.region_commands import regions_command
from decompose.studies.replicate_commands import replicate_command
from decompose.studies.word_commands import words_command

if TYPE_CHECKING:
    from atlas.model.clip import Clip
    from atlas.store.store import Store
    from decompose.studies.attack_report import AttackReport
    from decompose.studies.conditional import Conditional

# Nothing heavy is imported here, so that `decompose --help` answers at once.


_SHOWN = ("classifier", "target", "text", "success", "nonsense", "accuracy", "accuracy_nonsense", "cover")


@takes(
    STORE_FOLDER,
    option("--by", choices=("label", "group"), default="label", help="what an image's class is (label)"),
    option("--classes", nargs="+", default=[], metavar="NAME", help="the classes (50 drawn at random)"),
    option("--target", nargs="+", default=[], metavar="NAME[=TEXT]", help="classes to aim at, and the text to draw"),
    option("--single", action="store_true", help="one sticker in the middle, in place of eight copies of the text"),
    option(
        "--search", type=whole_number(), default=0, metavar="N", help="try N of the Store's words for each target (0)"
    ),
    option("--images", type=whole_number(2), default=100, help="held-out images to attack (100)"),
    option("--stroop", action="store_true", help="the Stroop test instead: names of colours in other colours"),
    count_option(10, "neurons to ablate"),
    templates_option(PICTURE_TEMPLATES),
    STUDY_OPTIONS,
)
def attack_command(
    store: Path,
    by: str,
    classes: list[str],
    target: list[str],
    single: bool,
    search: int,
    images: int,
    stroop: bool,
    k: int,
    templates: str | None,
    seed: int,
    pretrained: str | None,
    as_json: bool,
) -> int:
    """Typographic attacks: text on the images of a Store, and the neurons that carry it; also a page of its site."""
    from decompose.pages.attack import ATTACK_PAGE, attack_page
    from decompose.studies.attack_report import attack_records, report_attacks
    from decompose.studies.classifiers import labelled_rows

    opened, clip = open_with_model(store, pretrained)
    if stroop:
        return _stroop(opened, clip, k, seed, as_json)
    rows = labelled_rows(opened, by, classes, images=images, seed=seed)
    aims = [target_and_text(each) for each in target]
    found = report_attacks(opened, clip, rows, aims, by, single, templates, search, k, seed)
    if as_json:
        print(json.dumps(attack_records(found), ensure_ascii=False, indent=1))
    else:
        print_attacks(found)
    body, beside = attack_page(found)
    options = options_changed(
        attack_command, by=by, classes=classes, target=target, single=single, search=search, images=images, k=k,
        templates=templates, seed=seed,
    )  # fmt: skip
    return write_page(opened, ATTACK_PAGE, "Attacks", body, ["attack", "{store}", *option_words(**options)], beside)


def print_attacks(found: "AttackReport") -> None:
    """Print what `decompose attack` found: rates, the searched texts, an untrained network, and the carriers."""
    from decompose.pages.attack import carrier_text

    print_table(found.baseline)
    print()
    print_table([{name: row[name] for name in _SHOWN} for row in found.rows])
    if found.searched:
        print("\nother texts, in the order of their success on one half of the images; success is on the other half")
        print_table([{name: row[name] for name in row if name != "success_of"} for row in found.searched])
    print("\nan untrained network")
    print_table([found.untrained])
    for name, each in found.carriers.items():
        print(f"\n{name}: {carrier_text(each) if each else 'no answer was changed'}")


_CATEGORY_WORDS = option(
    "--categories",
    nargs="+",
    default=[],
    metavar="WORD",
    help="categories for zero-shot classification, or for the labelling page",
)


@takes(
    STORE_FOLDER,
    NEURON_NUMBER,
    option("--by", choices=("label", "group"), default="label", help="what an image's category is (label)"),
    _CATEGORY_WORDS,
    option(
        "--labelling-page", type=path_name, metavar="FILE", help="write a page on which a person labels the stimuli"
    ),
    option("--labels", type=path_name, nargs="+", default=[], metavar="FILE", help="answers of one labeller, or two"),
    templates_option(CONCEPT_TEMPLATES),
    STUDY_OPTIONS,
)
def conditional_command(
    store: Path,
    neuron: int,
    by: str,
    categories: list[str],
    labelling_page: Path | None,
    labels: list[Path],
    templates: str | None,
    seed: int,
    pretrained: str | None,
    as_json: bool,
) -> int:
    """P(category | activation) of a neuron, in uniform buckets between its extremes; also a page of the site."""
    from atlas.store.store import Store
    from decompose.pages.conditional import CONDITIONAL_PAGE, conditional_page
    from decompose.studies.categories import person_categories, zero_shot_categories
    from decompose.studies.conditional import conditional_shares, neuron_stimuli, stored_categories
    from decompose.studies.labelling import labelling_page as labelling_html
    from decompose.studies.untrained_nulls import beside_untrained

    opened, kappa = Store.open(store), None
    stimuli = neuron_stimuli(opened, neuron)
    if labelling_page is not None:
        labelling_page.write_text(labelling_html(opened, stimuli, categories, seed), "utf-8")
        print(f"{labelling_page} is written; --labels FILE reads what it exports", file=sys.stderr)
        return 0
    if labels:
        numbers, names, kappa = person_categories(labels, opened, stimuli)
        source = "by a person who did not see the activations"
    elif categories:
        opened, clip = open_with_model(store, pretrained)
        numbers, names = zero_shot_categories(opened, clip, stimuli.rows, categories, templates), categories
        source = "by zero-shot words"
    else:
        numbers, names = stored_categories(opened, stimuli.rows, by)
        source = f"by the {by} of each image"
    found = conditional_shares(stimuli.bucket, numbers, stimuli.edges, stimuli.deviation, names, seed)
    found = beside_untrained(found, opened, stimuli, numbers, seed)
    _print_shares(found, neuron, source, kappa, as_json)
    body = conditional_page(found, neuron, opened.request["model"]["name"], source, kappa)
    given = {"by": by, "categories": categories, "labels": labels, "templates": templates, "seed": seed}
    again = ["conditional", "{store}", neuron, *option_words(**options_changed(conditional_command, **given))]
    return write_page(opened, CONDITIONAL_PAGE, "Conditional", body, again)


def _print_shares(found: "Conditional", neuron: int, source: str, kappa: float | None, as_json: bool) -> None:
    if as_json:
        about = {
            "neuron": neuron,
            "source": source,
            "p": found.p,
            "p_untrained": found.p_untrained,
            "kappa": kappa,
            "deviation": found.deviation,
        }
        about |= {"bits": found.information, "bits_shuffled": found.shuffled, "bits_untrained": found.untrained}
        print(json.dumps(about | {"edges": found.edges.tolist(), "shares": found.rows()}, ensure_ascii=False, indent=1))
        return
    print_table(bucket_rows(found))
    if kappa is not None:
        print(f"kappa of the labellers {kappa:.2f}")
    print(f"p {found.p:.3f} by shuffled categories; it is too small where images resemble one another")
    if found.p_untrained is not None:
        print(f"p {found.p_untrained:.3f} among the neurons of an untrained network")
    median, most = found.untrained or (0.0, 0.0)
    nulls = f"{found.shuffled:.2f} shuffled, {median:.2f} untrained (95 % below {most:.2f})"
    print(f"{found.information:.2f} bits about the category; {nulls}")


def bucket_rows(found: "Conditional") -> list[Record]:
    """One row a bucket: its range in standard deviations, how many stimuli, and the share of each category."""
    return [
        {"activation": f"{found.x[b]:+.1f} to {found.x[b + 1]:+.1f}", "stimuli": int(found.totals[b])}
        | {name: float(share) if found.totals[b] else None for name, share in zip(found.categories, row, strict=True)}
        for b, row in enumerate(found.shares)
    ]


def target_and_text(asked: str) -> tuple[str, str]:
    """The class and the text of NAME=TEXT; the name itself is the text of NAME."""
    name, _, text = asked.partition("=")
    if not name or (not text and "=" in asked):
        raise Refused(f"--target {asked!r}: give NAME or NAME=TEXT")
    return name, text or name


def _stroop(store: "Store", clip: "Clip", k: int, seed: int, as_json: bool) -> int:
    from atlas.model.untrained import untrained_clip
    from decompose.pages.attack import STROOP_PAGE, stroop_carrier_text, stroop_page
    from decompose.studies.stroop import study_stroop

    found = study_stroop(clip, k=k, seed=seed)
    null = study_stroop(untrained_clip(clip, seed), k=k, seed=seed, carried=False)
    rows = [*found.rows(), *(row | {"subset": f"{row['subset']}, untrained"} for row in null.rows())]
    print_table(rows, as_json)
    if found.carriers:
        print(stroop_carrier_text(found.carriers), file=sys.stderr)
    options = options_changed(attack_command, stroop=True, k=k, seed=seed)
    again = ["attack", "{store}", *option_words(**options)]
    return write_page(store, STROOP_PAGE, "Stroop", stroop_page(found, clip.name, rows), again)


STUDY_COMMANDS = (
    attack_command,
    conditional_command,
    concept_command,
    words_command,
    probe_command,
    regions_command,
    audit_command,
    given_command,
    replicate_command,
)
