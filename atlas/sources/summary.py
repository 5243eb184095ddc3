"""What was read of some sources, in lines: pictures, captions, labels, refusals, files left out.

One rule holds everywhere: rows in = rows out + rejects, and a caption ends at its own picture or the summary says so.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from atlas.formatting import Record
from atlas.sources.items import Item, Note, Source, Telling, reason_known

_PLURALS = {"image": "pictures", "word": "rendered words", "text": "texts"}
_DISTINCT = 1000  # reasons that are kept apart
_FEW = 5  # labels, groups, reasons or notes that are listed
_DESCRIBED = ("caption", "label", "group", "split")
_PARTS = ("captions", "labels", "groups", "splits")


@dataclass
class Tally:
    """Counts over the items and notes of a source; `lines` says them."""

    kinds: Counter[str] = field(default_factory=Counter)
    described: Counter[str] = field(default_factory=Counter)  # pictures with a caption, a label, a group, a split
    several: int = 0  # pictures with more captions than one
    examples: dict[str, dict[str, int]] = field(default_factory=dict)  # the commonest labels, groups and splits
    reasons: Counter[str] = field(default_factory=Counter)  # of pictures known to be unreadable
    notes: dict[tuple[str, str], Note] = field(default_factory=dict)
    opened: int | None = None  # how many inputs were opened, where a look opens the first alone

    def add(self, entry: Item | Note) -> None:
        """Count an item or a note."""
        if isinstance(entry, Note):
            key = entry.kind, entry.text
            held = self.notes.get(key)
            self.notes[key] = entry if held is None else replace(held, count=held.count + entry.count)
            return
        self.kinds[entry.kind] += 1
        if entry.kind != "image":
            return
        if reason := reason_known(entry):
            self.reasons[reason if len(self.reasons) < _DISTINCT else _general(reason)] += 1
        self.several += len(entry.captions) > 1
        for name in _DESCRIBED:
            if value := getattr(entry, name):
                self.described[name] += 1
                if name != "caption":
                    seen = self.examples.setdefault(name, {})
                    if value in seen or len(seen) < 10_000:
                        seen[value] = seen.get(value, 0) + 1

    def lines(self, rejects: Counter[str] | None = None) -> list[str]:
        """The summary; `rejects`: reasons of the inputs that were refused, once the pictures have been decoded."""
        return [*self.first_lines(rejects), *self._note_lines("left"), *self._note_lines("lost")]

    def first_lines(self, rejects: Counter[str] | None = None) -> list[str]:
        """Its first lines: how many rows there are, what describes them, and what was taken for what."""
        refused = self.reasons if rejects is None else rejects
        found = sum(self.kinds.values())
        counts = ", ".join(f"{count:,} {_PLURALS[kind]}" for kind, count in self.kinds.items())
        lost = sum(refused.values())
        done = "to read" if rejects is None and self.opened is None else "read"
        said = [f"{found:,} inputs ({counts or 'none'}) = {found - lost:,} {done} + {lost:,} refused"]
        if self.opened is not None and self.opened < found:
            said[0] += f"; only the first {self.opened:,} were opened"
        if lost:
            said += [f"refused: {count:,} x {reason}" for reason, count in _grouped(refused).most_common(_FEW)]
        pictures = self.kinds["image"]
        if pictures:
            said.append(f"captions of {self.described['caption']:,} of {pictures:,} pictures")
            said[-1] += f" ({self.several:,} have several; the first is used)" if self.several else ""
        for name, plural in zip(_DESCRIBED[1:], _PARTS[1:], strict=True):
            if count := self.described[name]:
                seen = sorted(self.examples[name], key=lambda value: -self.examples[name][value])
                more = f" and {len(seen) - _FEW:,} more" if len(seen) > _FEW else ""
                said.append(f"{plural} of {count:,}: {', '.join(each[:30] for each in seen[:_FEW])}{more}")
        return said + self._note_lines("taken")

    def _note_lines(self, kind: str) -> list[str]:
        start = {"taken": "", "left": "left out: ", "lost": "without a picture: "}[kind]
        notes = [note for note in self.notes.values() if note.kind == kind]
        shown = [start + _in_words(note, kind != "taken") for note in notes[: 2 * _FEW]]
        return shown + ([f"{start}and {len(notes) - 2 * _FEW} more such lines"] if len(notes) > 2 * _FEW else [])

    def record(self) -> Record:
        """The same as values, for JSON."""
        return {
            "rows": sum(self.kinds.values()),
            "kinds": dict(self.kinds),
            **{plural: self.described[name] for name, plural in zip(_DESCRIBED, _PARTS, strict=True)},
            "several_captions": self.several,
            "refused": dict(self.reasons),
            **{kind: [asdict(note) for note in self.notes.values() if note.kind == kind] for kind in _KINDS},
        }


_KINDS = ("taken", "left", "lost")


def _in_words(note: Note, counted: bool) -> str:
    example = f" ({note.example})" if note.example else ""
    return f"{note.count:,} {note.text}{example}" if counted else f"{note.text}{example}"


def _general(reason: str) -> str:
    """A reason without the number of its line, so that equal ones are counted together."""
    words = reason.split()
    return " ".join(["a line", *words[2:]]) if words[:1] == ["line"] and len(words) > 2 else reason


def _grouped(reasons: Counter[str]) -> Counter[str]:
    """Reasons as they are if they are few; otherwise equal ones counted together, whatever line they are of."""
    if len(reasons) <= _FEW:
        return reasons
    found: Counter[str] = Counter()
    for reason, count in reasons.items():
        found[_general(reason)] += count
    return found


class Tallied:
    """A source that counts what it yields; `tally` is that of the last pass."""

    def __init__(self, source: Source):
        self.source, self.name, self.tally = source, source.name, Tally()

    def __iter__(self) -> Iterator[Item]:
        tally = Tally()
        for entry in source_entries(self.source):
            tally.add(entry)
            if isinstance(entry, Item):
                yield entry
        self.tally = tally


def source_entries(source: Source) -> Iterator[Item | Note]:
    """Items and notes of a source, or its items alone if it has no notes."""
    return source.entries() if isinstance(source, Telling) else iter(source)
