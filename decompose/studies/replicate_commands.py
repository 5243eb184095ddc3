"""`decompose replicate`: the scorecard of a published study."""

from pathlib import Path
from typing import Unpack

from atlas.console import option, options_changed, print_table, takes
from atlas.option_types import path_name, whole_number
from atlas.store.part import option_words
from decompose.opening import AS_JSON, MODEL_CHOICE, SEED_NUMBER, ModelOptions, open_model
from decompose.results import write_page

# Nothing heavy is imported here, so that `decompose --help` answers at once.


@takes(
    option("study", choices=("goh2021",), help="the published study: goh2021"),
    option(
        "--reference", type=path_name, required=True, metavar="DIR", help="a clone of the article's public repository"
    ),
    option("--words", type=whole_number(100, 10_000), default=2000, metavar="N", help="frequent words rendered (2000)"),
    MODEL_CHOICE,
    SEED_NUMBER,
    AS_JSON,
)
def replicate_command(
    study: str, reference: Path, words: int, seed: int, as_json: bool, **model: Unpack[ModelOptions]
) -> int:
    """The scorecard of a published study: published beside measured, row by row; with a Store, also a page."""
    from decompose.pages.replicate import REPLICATE_PAGE, replicate_page
    from decompose.studies.published import read_published
    from decompose.studies.replication import replication_rows

    tables = read_published(reference)
    store, clip = open_model(**model)
    rows = replication_rows(clip, tables, store, words, seed)
    print_table(rows, as_json)
    if store is None:
        return 0
    options = options_changed(replicate_command, words=words, seed=seed)
    again = ["replicate", study, "--reference", reference, "--store", "{store}", *option_words(**options)]
    return write_page(store, REPLICATE_PAGE, "Replication", replicate_page(rows, clip.name), again)
