"""A card leads to the file that its picture was read from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

import atlas
from atlas.pages import write_site
from atlas.pages.files import file_addresses
from atlas.store.store import Store
from tests.browsing import visiting


def test_rows_of_a_folder_have_the_addresses_of_their_files(discs: Callable[..., Path], mini: atlas.Clip) -> None:
    place = discs(("a b", "c#d"), 3).parent
    store = atlas.collect([f"folder:{place / 'images'}", "texts:emotions"], mini, place / "both")
    for _ in range(2):
        found = dict(zip(store.rows["id"].to_pylist(), file_addresses(store), strict=True))
        files = {id: address for id, address in found.items() if address}
        there = sorted(path.relative_to(place).as_posix() for path in place.rglob("images/*/*.png"))
        assert sorted(files) == there
        assert files["images/c#d/1.png"] == "../../images/c%23d/1.png"
        (place / "images" / "a b" / "0.png").unlink(missing_ok=True)  # what is gone has no address


@pytest.mark.slow
def test_a_card_leads_to_its_file(real_store: Store, browser: Any) -> None:
    index = write_site(real_store)
    row = next(row for row, address in enumerate(file_addresses(real_store)) if address)
    for visit in visiting(browser, index.parent):
        page = visit.open(f"map.html#{row}")
        link = page.get_by_role("link", name="Open its file")
        file = index.parent / unquote(link.get_attribute("href"))
        assert file.resolve().read_bytes()
        assert file.resolve() == real_store.path.parent / real_store.rows["id"][row].as_py()
