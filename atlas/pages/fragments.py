"""Page fragments: what another package says about a Store, shown as pages of the site.

The contract: a derived folder `site-fragments/NAME`, written through `store.deriving`, whose recipe has a "title" and
which holds page.html, the inside of <main>, without scripts and with headings from <h2> on: the title is the page's
<h1>. It becomes NAME.html at the site's root, so that its links are neurons/0012.html, index.html#12 and the like;
files beside it are found under assets/NAME/. Styles are the site's: an <article class="text"> or a <section
class="sheet"> sets the measure, and `picture` gives a row's thumbnail.
"""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

from markupsafe import Markup

from atlas.errors import Refused
from atlas.formatting import display_text
from atlas.pages.frame import Frame
from atlas.pages.thumbnails import pictured
from atlas.store.store import Part, Store

FOLDER, PAGE = "site-fragments", "page.html"
ACTIVE = {"script", "iframe", "object", "embed", "form", "link", "meta", "base", "frame", "html", "body"}
WORDS = {"alt", "title", "class", "id", "lang", "summary", "abbr"}  # attributes of text, as aria-* and data-* are
_PICTURE = re.compile(r"data:image/[a-z0-9.+-]+(;[a-z0-9=-]+)*,[^\s,;]*")
_AWAY = re.compile(r"[/\\]{2}|(^|[\s,;'\"(])[a-z][a-z0-9+.-]*:")  # an address beyond the site, alone or in a list
_PART = re.compile(r"""<(?:article|section)\b(?:"[^"]*"|'[^']*'|[^'">])*>""")
TAKEN = {"index", "map", "neurons", "activations", "about"}  # names of the site's own pages


def derived_fragments(store: Store) -> list[Part]:
    """The page fragments among a Store's derived parts."""
    return [fragment(name) for name in store.everything_derived() if name.startswith(f"{FOLDER}/")]


def fragment(name: str, command: str = "the command that made it") -> Part:
    """The part of a Store that holds a page fragment, by its name (with or without its folder)."""
    return Part(f"{FOLDER}/{name.removeprefix(f'{FOLDER}/')}", command)


def read_fragments(store: Store) -> dict[str, str]:
    """Title of every fragment by the page that it becomes, in the order of their names."""
    titles = {part.name: display_text(store.recipe(part).get("title")) for part in derived_fragments(store)}
    return {page_name(name): title or name.split("/")[-1].capitalize() for name, title in titles.items()}


def page_name(name: str) -> str:
    """The page that a derived fragment becomes; `Refused` where its name is no file name, or the site's own."""
    stem = name.removeprefix(f"{FOLDER}/")
    if not re.fullmatch("[a-z0-9][a-z0-9-]*", stem) or stem in TAKEN:
        raise Refused(f"{name}: a fragment's name is letters, digits and -, and none of {', '.join(sorted(TAKEN))}")
    return f"{stem}.html"


def write_fragments(frame: Frame) -> None:
    """Write a page for every fragment of the frame's Store, and copy the files beside it."""
    for page in read_fragments(frame.store):
        source = frame.store.derived(fragment(Path(page).stem))
        body = (source / PAGE).read_text("utf-8")
        inspect(body, source / PAGE)
        frame.render("fragment.html", page, heading=frame.titles[page], body=headed(body, frame.titles[page]))
        beside = [path for path in source.iterdir() if path.name not in (PAGE, "made.json")]
        for path in beside:
            target = frame.folder / "assets" / Path(page).stem / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def headed(body: str, heading: str) -> Markup:
    """A fragment with its page's heading, which opens its first article or section, whose measure it then has."""
    first = _PART.search(body)
    at = first.end() if first else 0
    return Markup(body[:at]) + Markup("<h1>{}</h1>").format(heading) + Markup(body[at:])


def picture_tag(store: Store, row: int, name: str = "") -> Markup:
    """The thumbnail of a row as a link to its place on the map, for use in a fragment; of a text its name.

    Without a `name` it is called by the row's label, or its caption.
    """
    shards = pictured(store)
    number = next((i for i, shard in enumerate(shards) if shard.start <= row < shard.start + shard.rows), None)
    if not name:
        entry = store.rows.slice(row, 1).to_pylist()[0]
        name = display_text(entry["label"] or entry["caption"]) or f"row {row}"
    link = Markup('<a class="t {}" style="--n:{}" href="index.html#{}" title="{}" aria-label="{}">{}</a>')
    if number is None:
        return link.format("none", 0, row, name, name, name)
    return link.format(f"s{number}", row - shards[number].start, row, name, name, "")


def inspect(body: str, where: Path) -> None:
    """Refuse a fragment that could act, or ask for something beyond the site."""
    _Inspector(where).feed(body)


class _Inspector(HTMLParser):
    def __init__(self, where: Path):
        super().__init__()
        self.where = where

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ACTIVE:
            self._refuse(f"holds <{tag}>")
        for name, value in attrs:
            target = re.sub(r"[\x00-\x20]+", "", value or "").lower()  # as browsers read it
            if name.startswith("on"):
                self._refuse(f"holds the handler {name}")
            if name == "style":
                self._style(target)
            elif tag in ("a", "area") and name in ("href", "xlink:href"):  # a link may lead away, when one follows it
                if re.match("(javascript|vbscript|data):", target):
                    self._refuse("holds a link that acts")
            elif name not in WORDS and not name.startswith(("aria-", "data-", "xmlns")):
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
