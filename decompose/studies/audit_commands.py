"""`decompose audit`: one page and one verdict."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from atlas.console import Option, option, options_changed, options_given, print_table, takes
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.option_types import path_name, real_number, whole_number
from atlas.store.part import option_words
from decompose.defaults import PICTURE_TEMPLATES
from decompose.opening import (
    STORE_FOLDER,
    STUDY_OPTIONS,
    count_option,
    open_with_model,
    templates_option,
)
from decompose.results import write_page

if TYPE_CHECKING:
    from decompose.studies.audit_report import AuditReport

# Nothing heavy is imported here, so that `decompose --help` answers at once.


class LimitsGiven(TypedDict):
    """The limits that an audit may be held to; None for those not given."""

    max_attack: float | None
    max_changed: float | None
    max_stroop: float | None
    max_association: float | None


def _limit(name: str, what: str) -> Option:
    return option(f"--max-{name}", type=real_number(0, 1), metavar="SHARE", help=f"fail above this share of {what}")


_LIMIT_OPTIONS = (
    _limit("attack", "attacks that succeed"),
    _limit("changed", "right answers that text loses"),
    _limit("stroop", "words that win over their ink"),
    option(
        "--max-association",
        type=real_number(0),
        metavar="D",
        help="fail above this effect size, where p is at most .05",
    ),
)


@takes(
    STORE_FOLDER,
    option("--by", choices=("label", "group"), default="label", help="what an image's class is (label)"),
    option("--classes", nargs="+", default=[], metavar="NAME", help="the classes (50 drawn at random)"),
    option("--images", type=whole_number(2), default=60, help="held-out images to attack (60)"),
    option("--tests", type=path_name, metavar="FILE", help="association tests as JSON (four of Caliskan et al. 2017)"),
    option(
        "--patch", type=path_name, metavar="FILE", help="write a checkpoint with these neurons silenced, and judge it"
    ),
    _LIMIT_OPTIONS,
    count_option(10, "neurons to silence"),
    templates_option(PICTURE_TEMPLATES),
    STUDY_OPTIONS,
)
def audit_command(
    store: Path,
    by: str,
    classes: list[str],
    images: int,
    tests: Path | None,
    patch: Path | None,
    k: int,
    templates: str | None,
    seed: int,
    pretrained: str | None,
    as_json: bool,
    **limits: Unpack[LimitsGiven],
) -> int:
    """Audit a model on a Store's own images; exit code 1 if a limit does not hold; also a page of the site."""
    from decompose.pages.audit import AUDIT_PAGE, audit_page
    from decompose.studies.association_study import read_association_lists
    from decompose.studies.audit_report import report_audit

    if images < 2:
        raise Refused(f"--images {images}: at least 2")
    given: dict[str, float] = options_given(**limits)
    judged = {name.removeprefix("max_"): most for name, most in given.items()}
    lists = read_association_lists(tests)
    opened, clip = open_with_model(store, pretrained)
    found = report_audit(
        opened, clip, lists, judged, patch, by, classes, images, k, templates or PICTURE_TEMPLATES, seed
    )
    if as_json:
        print(json.dumps(audit_record(found), ensure_ascii=False, indent=1))
    else:
        _print_audit(found)
    options = options_changed(
        audit_command, by=by, classes=classes, images=images, tests=tests, patch=patch, k=k, templates=templates,
        seed=seed, **given,
    )  # fmt: skip
    write_page(opened, AUDIT_PAGE, "Audit", audit_page(found), ["audit", "{store}", *option_words(**options)])
    return 0 if found.passed else 1


def audit_record(found: "AuditReport") -> Record:
    """The figures as JSON has them."""
    carried = found.carriers and vars(found.carriers) | {"regained": found.carriers.regained}
    verdicts = [each._asdict() for each in found.verdicts]
    return vars(found) | {"carriers": carried, "verdicts": verdicts, "passed": found.passed}


def _print_audit(found: "AuditReport") -> None:
    patched = {row["measure"]: {"patched": row["share"]} for row in found.patched}
    untrained = {row["measure"]: {"untrained": row["share"]} for row in found.untrained}
    rows = [row | untrained[row["measure"]] | patched.get(row["measure"], {}) for row in found.measures]
    print_table([{name: row[name] for name in row if name != "share_of"} for row in rows])
    print()
    print_table([{name: row[name] for name in row if name != "source"} for row in found.associations])
    if found.silenced:
        print(f"\nsilenced: {', '.join(map(str, found.silenced))}")
    for each in found.verdicts:
        value = "not measured" if each.measured is None else f"{each.measured:.3f}"
        print(f"{each.limit}: {value}, limit {each.most:g}: {'holds' if each.holds else 'DOES NOT HOLD'}")
