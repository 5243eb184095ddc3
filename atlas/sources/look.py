"""A first look at sources: what was taken for what, and the first rows, before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.sources.decoding import STRETCHED, Unreadable
from atlas.sources.items import Item, reason_known
from atlas.sources.spec import join
from atlas.sources.summary import Tally, source_entries


@dataclass(frozen=True)
class Look:
    """The counts of some sources, and their first rows."""

    tally: Tally
    rows: list[Record]

    def record(self) -> Record:
        """All of it as values, for JSON."""
        return {**self.tally.record(), "first_rows": self.rows}


def look_at(sources: Sequence[str], shown: int = 8) -> Look:
    """List some sources once and open their first pictures. Raises `Refused` as `parse` does."""
    if shown < 0:
        raise Refused(f"-n {shown}: show 0 rows or more")
    tally, first = Tally(), list[Item]()
    for entry in source_entries(join(sources)):
        tally.add(entry)
        if isinstance(entry, Item) and len(first) < shown:
            first.append(entry)
    tally.opened = len(first)
    return Look(tally, [_shown(item, tally) for item in first])


def _shown(item: Item, tally: Tally) -> Record:
    """A row of the table: what is known of an item, and its size in pixels or why it cannot be read."""
    size = ""
    if item.load is not None:
        try:
            picture = item.load()
            size = "{} x {}".format(*picture.size) + (", stretched" if STRETCHED in picture.info else "")
        except Unreadable as reason:
            size = f"refused: {reason}"
            tally.reasons[str(reason)] += not reason_known(item)  # the listing has counted those
    fields = {name: getattr(item, name) for name in ("id", "kind", "caption", "label", "group", "split")}
    return {**fields, "pixels": size}
