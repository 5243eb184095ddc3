"""The page of drawings: how to read them, what they reach in this Store, and the drawings of texts."""

import pyarrow.parquet as pq

from atlas.analysis import parts
from atlas.formatting import Record, display_text
from atlas.pages.frame import DRAWINGS_PAGE, Page, StoreFrame
from atlas.pages.rows import PageRows

DRAWN_PARTS = (parts.DRAWINGS, parts.TEXT_DRAWINGS, parts.CELL_ICONS)  # all that is optimised, where it was
TEXT_IMAGES = 6  # images shown beside the drawing of a text


def write_drawn(frame: StoreFrame, rows: PageRows) -> Page | None:
    """Write the drawings of texts beside the page drawings.html; returns it, or None where nothing was drawn."""
    tables = {part: frame.derived.file(part, file) for part, file in zip(DRAWN_PARTS, _FILES, strict=True)}
    if not any(tables.values()):
        return None
    columns = ["reached", "strongest"]
    neurons, texts, icons = (pq.read_table(path).to_pylist() if path else [] for path in tables.values())
    figures = [
        _reached(what, [[row[name] for name in columns] for row in drawn])
        for what, drawn in (
            ("neurons", [row for row in neurons if not row["theme"]]),
            ("texts", texts),
            ("cells", icons),
        )
        if drawn
    ]
    kept = [row["kept"] for row in neurons if row.get("kept") is not None]
    context = {
        "texts": [_text(frame, rows, number, row) for number, row in enumerate(texts)],
        "figures": figures,
        "facets": len(kept),
        "kept": sum(share >= 0.5 for share in kept),
        "neurons": bool(neurons),
    }
    return Page("drawings.html", DRAWINGS_PAGE, context)


_FILES = ("drawings.parquet", "texts.parquet", "icons.parquet")


def _reached(what: str, pairs: list[list[float | None]]) -> Record:
    """How many drawings reach more than the best image of the Store, and the median of the ratio."""
    ratios = sorted(reached / best for reached, best in pairs if reached is not None and best)
    return {
        "what": what,
        "number": len(pairs),
        "compared": len(ratios),
        "above": sum(ratio > 1 for ratio in ratios),
        "median": ratios[len(ratios) // 2] if ratios else None,
    }


def _text(frame: StoreFrame, rows: PageRows, number: int, row: Record) -> Record:
    path = frame.folder / "drawn" / f"{number:03d}.webp"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(row["image"])
    return {
        "at": f"drawn/{path.name}",
        "text": display_text(row["text"]),
        "reached": row["reached"],
        "strongest": row["strongest"],
        "pictures": [rows.picture(each) for each in row["rows"][:TEXT_IMAGES]],
    }
