"""`decompose regions`: neurons that respond to places."""

import json
from pathlib import Path

from atlas.console import option, options_changed, print_table, takes
from atlas.option_types import whole_number
from atlas.store.part import option_words
from decompose.opening import STORE_FOLDER, STUDY_OPTIONS, count_option, open_with_model
from decompose.results import write_page

# Nothing heavy is imported here, so that `decompose --help` answers at once.


@takes(
    STORE_FOLDER,
    option(
        "--neurons",
        type=whole_number(),
        nargs="+",
        default=[],
        metavar="N",
        help="neurons on the maps (the most regional)",
    ),
    count_option(10),
    STUDY_OPTIONS,
)
def regions_command(store: Path, neurons: list[int], k: int, seed: int, pretrained: str | None, as_json: bool) -> int:
    """Region neurons: places among words, names and flags of countries, the world map; also a page of the site."""
    from decompose.pages.regions import REGIONS_PAGE, regions_page
    from decompose.studies.region_report import region_record, report_regions, second_place_text

    opened, clip = open_with_model(store, pretrained)
    found = report_regions(opened, clip, neurons, seed)
    if as_json:
        print(json.dumps(region_record(found), ensure_ascii=False, indent=1))
    else:
        print(f"{found.places:,} of {found.words:,} words are places\n")
        print_table(found.shares)
        for rows in (found.sharing, found.pairs[:k], found.tests):
            print()
            print_table(rows)
        print()
        print_table([found.cities])
        print("names that are drawn alike suffice for this: compare the neurons of an untrained network")
        print(f"\n{second_place_text(found)}\n")
        print_table(
            [row | {name: ", ".join(row[name]) for name in ("words", "countries")} for row in found.secondary[:k]]
        )
        print(f"\n{len({row['parent'] for row in found.parents})} parents; shuffled {found.parents_shuffled}\n")
        print_table(found.parents[:k])
    body, beside = regions_page(found)
    options = options_changed(regions_command, neurons=neurons, k=k, seed=seed)
    again = ["regions", "{store}", *option_words(**options)]
    return write_page(opened, REGIONS_PAGE, "Regions", body, again, beside)
