"""`decompose words`: image-based word embeddings beside the text tower's."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.console import option, options_changed, print_table, takes
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.option_types import whole_number
from atlas.store.part import option_words
from decompose.defaults import CONCEPT_TEMPLATES
from decompose.opening import STORE_FOLDER, STUDY_OPTIONS, open_with_model, templates_option
from decompose.results import write_page

if TYPE_CHECKING:
    from decompose.studies.word_report import WordReport

# Nothing heavy is imported here, so that `decompose --help` answers at once.


@takes(
    STORE_FOLDER,
    option("word", nargs="*", help="words whose neighbours are shown (default: five examples)"),
    option(
        "--sum",
        nargs="+",
        default=[],
        dest="sums",
        metavar="EXPR",
        help="sums, as king-man+woman=queen (twelve)",
    ),
    option(
        "--centre",
        type=whole_number(1, 1_000_000),
        default=2000,
        metavar="N",
        help="frequent words whose mean is subtracted (2000)",
    ),
    templates_option(CONCEPT_TEMPLATES),
    STUDY_OPTIONS,
)
def words_command(
    store: Path,
    word: list[str],
    sums: list[str],
    centre: int,
    templates: str | None,
    seed: int,
    pretrained: str | None,
    as_json: bool,
) -> int:
    """Words as images: neighbours, sums, spelling neurons and other languages, beside text; also a page of the site."""
    from decompose.pages.words import WORDS_PAGE, words_page
    from decompose.studies.word_report import ASKED_WORDS, WORD_SUMS, report_words

    if centre < 2:
        raise Refused(f"--centre {centre}: a mean needs two words or more")
    opened, clip = open_with_model(store, pretrained)
    found = report_words(
        opened, clip, word or ASKED_WORDS, sums or WORD_SUMS, templates or CONCEPT_TEMPLATES, centre, seed
    )
    if as_json:
        print(json.dumps(vars(found), ensure_ascii=False, indent=1))
    else:
        _print_report(found)
    options = options_changed(words_command, centre=centre, templates=templates, seed=seed)
    again = ["words", "{store}", *word, *option_words(sum=sums or None, **options)]
    return write_page(opened, WORDS_PAGE, "Words", words_page(found), again)


def _print_report(found: "WordReport") -> None:
    joined: list[Record] = [
        {name: ", ".join(value[:5]) if isinstance(value, list) else value for name, value in row.items()}
        for row in found.neighbours
    ]
    print_table(joined)
    print()
    ranks = ("sum", "expected", "image rank", "image, masked rank", "text rank")
    print_table([{name: row[name] for name in ranks} for row in found.sums])
    print(f"\n{len(found.lexicographic)} neurons respond to spelling:\n")
    print_table([row | {"words": ", ".join(row["words"])} for row in found.lexicographic[:10]])
    print(
        "\nthe same in one font: {model} of the model, {untrained} of an untrained network".format(
            **found.lexicographic_few
        )
    )
    for rows in (found.fonts_agree, found.meaning, found.languages):
        print()
        print_table(rows)
