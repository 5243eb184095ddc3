"""Page fragments: pages about a Store that another package adds to the site.

A fragment is a derived folder `site-fragments/NAME`, written through `store.deriving`. Its recipe has a "title", and
it holds page.html, the inside of <main>: no scripts, and headings from <h2> on, because the title is the page's <h1>.
The page becomes NAME.html at the site's root, so that it links to neurons/0012.html, map.html#12 and the like. Files
beside it are copied to assets/NAME/. Styles are the site's: an <article class="text"> or a <section class="sheet">
sets the width of lines, and `picture_tag` gives the thumbnail of a row.
"""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

from markupsafe import Markup

from atlas.errors import Refused
from atlas.formatting import display_text
from atlas.pages.frame import STUDIES_PAGE, Page, StoreFrame
from atlas.pages.thumbnails import pictured_shards
from atlas.store.store import Part, Store

FRAGMENTS_FOLDER, FRAGMENT_FILE = "site-fragments", "page.html"
ACTIVE_ELEMENTS = {"script", "iframe", "object", "embed", "form", "link", "meta", "base", "frame", "html", "body"}
TEXT_ATTRIBUTES = {
    "alt",
    "title",
    "class",
    "id",
    "lang",
    "summary",
    "abbr",
}  # attributes that hold text, beside aria-* and data-*
_PICTURE = re.compile(r"data:image/[a-z0-9.+-]+(;[a-z0-9=-]+)*,[^\s,;]*")
_AWAY = re.compile(r"[/\\]{2}|(^|[\s,;'\"(])[a-z][a-z0-9+.-]*:")  # an address outside the site, alone or in a list
_LEAD = re.compile(r'<p class="lead">(.*?)</p>', re.S)
_PART = re.compile(r"""<(?:article|section)\b(?:"[^"]*"|'[^']*'|[^'">])*>""")
SITE_PAGES = {"index", "map", "neurons", "activations", "about", "studies"}  # names of the site's own pages


def derived_fragments(store: Store) -> list[Part]:
    """The page fragments among a Store's derived parts."""
    return [fragment_part(name) for name in store.everything_derived() if name.startswith(f"{FRAGMENTS_FOLDER}/")]


def fragment_part(name: str, command: str = "the command that made it") -> Part:
    """The part of a Store that holds a page fragment, by its name (with or without its folder)."""
    return Part(f"{FRAGMENTS_FOLDER}/{name.removeprefix(f'{FRAGMENTS_FOLDER}/')}", command)


def read_fragments(store: Store) -> dict[str, str]:
    """The title of every fragment by its page, in the order of names."""
    titles = {part.name: display_text(store.recipe(part).get("title")) for part in derived_fragments(store)}
    return {fragment_page(name): title or name.split("/")[-1].capitalize() for name, title in titles.items()}


def fragment_page(name: str) -> str:
    """The page that a derived fragment becomes; `Refused` where its name is no file name, or the site's own."""
    stem = name.removeprefix(f"{FRAGMENTS_FOLDER}/")
    if not re.fullmatch("[a-z0-9][a-z0-9-]*", stem) or stem in SITE_PAGES:
        raise Refused(
            f"{name}: a fragment's name is letters, digits and -, and none of {', '.join(sorted(SITE_PAGES))}"
        )
    return f"{stem}.html"


def write_fragments(frame: StoreFrame) -> list[Page]:
    """Copy the files beside every fragment of the Store; returns the fragments' pages."""
    pages, studies = [], []
    for page, title in read_fragments(frame.store).items():
        source = frame.store.derived(fragment_part(Path(page).stem))
        body = (source / FRAGMENT_FILE).read_text("utf-8")
        check_fragment(body, source / FRAGMENT_FILE)
        pages.append(Page("fragment.html", page, {"heading": title, "body": with_heading(body, title)}))
        lead = _LEAD.search(body)
        studies.append({"page": page, "title": title, "about": Markup(lead[1]).striptags() if lead else ""})
        beside = [path for path in source.iterdir() if path.name not in (FRAGMENT_FILE, "made.json")]
        for path in beside:
            target = frame.folder / "assets" / Path(page).stem / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return [*pages, Page("studies.html", STUDIES_PAGE, {"list": studies})] if frame.grouped else pages


def with_heading(body: str, heading: str) -> Markup:
    """A fragment with the page's heading as the first child of its first article or section, so that widths agree."""
    first = _PART.search(body)
    at = first.end() if first else 0
    return Markup(body[:at]) + Markup("<h1>{}</h1>").format(heading) + Markup(body[at:])


def picture_tag(store: Store, row: int, name: str = "", to: str = "") -> Markup:
    """The thumbnail of a row (of a text, its name) as a link to its place on the map, for use in a fragment.

    `name`: what the link is called; the row's label or caption by default. `to`: another page that it leads to.
    """
    shards = pictured_shards(store)
    number = next((i for i, shard in enumerate(shards) if shard.start <= row < shard.start + shard.rows), None)
    if not name:
        entry = store.rows.slice(row, 1).to_pylist()[0]
        name = display_text(entry["label"] or entry["caption"]) or f"row {row}"
    link = Markup('<a class="t {}" style="--n:{}" href="{}" title="{}" aria-label="{}">{}</a>')
    to = to or f"map.html#{row}"
    if number is None:
        return link.format("none", 0, to, name, name, name)
    return link.format(f"s{number}", row - shards[number].start, to, name, name, "")


def check_fragment(body: str, where: Path) -> None:
    """Check that a fragment holds no scripts, and loads nothing from outside the site. Raises `Refused`."""
    _Inspector(where).feed(body)


class _Inspector(HTMLParser):
    def __init__(self, where: Path):
        super().__init__()
        self.where = where

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ACTIVE_ELEMENTS:
            self._refuse(f"holds <{tag}>")
        for name, value in attrs:
            target = re.sub(r"[\x00-\x20]+", "", value or "").lower()  # as browsers read it
            if name.startswith("on"):
                self._refuse(f"holds the handler {name}")
            if name == "style":
                self._style(target)
            elif tag in ("a", "area") and name in ("href", "xlink:href"):  # a link may lead out of the site
                if re.match("(javascript|vbscript|data):", target):
                    self._refuse("holds a link that runs a script")
            elif name not in TEXT_ATTRIBUTES and not name.startswith(("aria-", "data-", "xmlns")):
                self._address(target, (value or "").lower())

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style":
            self._style("".join(data.split()).lower())

    def _address(self, *ways: str) -> None:
        if any(_AWAY.search(_PICTURE.sub("", text)) for text in ways):
            self._refuse(f"loads {ways[0][:60]}")

    def _style(self, text: str) -> None:
        away = re.search(r"[/\\]{2}|(url|image-set|src)\(['\"]?[a-z][a-z0-9+.-]*:", _PICTURE.sub("", text))
        if "@import" in text or away:
            self._refuse("has a style that loads something")

    def _refuse(self, fault: str) -> None:
        raise Refused(f"{self.where}, line {self.getpos()[0]}, {fault}; a fragment is text, tables and pictures alone")
