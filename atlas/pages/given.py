"""write_points: a map of places that one already has, from any tool, as one file or as a folder."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer

from atlas.errors import Refused
from atlas.formatting import display_text
from atlas.pages import budget, columns
from atlas.pages.bundle import inline_assets
from atlas.pages.columns import Column, smallest
from atlas.pages.frame import Frame
from atlas.pages.labels import given_clusters
from atlas.pages.map import percent, render_map
from atlas.store.store import Store

NO_GRID = (1, 1)


@dataclass
class Given(Frame):
    """A page that has no Store behind it: a title and a group's name for a point is all it knows."""

    store: Store = field(init=False)
    title: str = "Map"

    @cached_property
    def about(self) -> dict[str, Any]:
        """Title, and what is known of the data."""
        return {
            "title": self.title,
            "provenance": {"Model": self.title, "Layer": "given places", "Rows": ""},
            "command": "",
        }

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What the scripts must know."""
        return {"kinds": ["point"], "sheets": [], "grid": NO_GRID, "neurons": False, "cite": self.title, "tables": {}}

    @cached_property
    def grid(self) -> tuple[int, int]:
        """No layer, so no positions."""
        return NO_GRID


def write_points(
    path: str | Path,
    xy: Float[np.ndarray, "n 2"],
    captions: Sequence[str],
    groups: Sequence[str] | None = None,
    near: Integer[np.ndarray, "n k"] | None = None,
    labels: Sequence[Sequence[str]] = (),
    preservation: Float[np.ndarray, " n"] | None = None,
    title: str = "Map",
    max_mb: float | int = 25,
    single_file: bool | None = None,
) -> Path:
    """Write a map of n given places; returns its index.html, or the file itself where `path` ends in .html.

    `labels`: for each level, coarse first, the name of every point's cluster ("" for none). `near`: positions of each
    point's nearest. `single_file` goes by size unless given: one file up to 100,000 points (packed, it is smaller than
    a folder would be), else a folder of scripts; the plan is printed on stderr. Raises `Refused` where the parts do not
    match, where a place is not finite, or where the page would be larger than `max_mb` (10^6 bytes).
    """
    target = Path(path)
    xy, near = _checked(np.asarray(xy, np.float32), captions, groups, near, labels)
    single = len(xy) <= budget.ONE_FILE or target.suffix == ".html" if single_file is None else single_file
    shown = [display_text(caption) for caption in captions]
    k = 0 if near is None else near.shape[1]
    print(
        *budget.plan(shown, max_mb, k, single_file=single, what=f"a map in {target}").lines(), sep="\n", file=sys.stderr
    )
    folder = target.with_name(target.name + ".partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _write(Given(folder, ["index.html"], title=title), xy, shown, groups, near, labels, preservation)
        return _put(folder, target, single, round(max_mb * 1e6))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _checked(
    xy: Float[np.ndarray, "n 2"],
    captions: Sequence[str],
    groups: Sequence[str] | None,
    near: Int[np.ndarray, "n k"] | np.ndarray | None,
    labels: Sequence[Sequence[str]],
) -> tuple[np.ndarray, np.ndarray | None]:
    n = len(xy)
    if not n or not np.isfinite(xy).all():
        raise Refused(f"a map needs finite places, got {n} with {int((~np.isfinite(xy)).any(1).sum())} that are not")
    named = {
        "captions": captions,
        "groups": groups,
        "near": near,
        **{f"labels[{i}]": of for i, of in enumerate(labels)},
    }
    for name, part in named.items():
        if part is not None and len(part) != n:
            raise Refused(f"{n:,} places have {len(part):,} {name}; give one a place")
    if near is not None and (near.min() < 0 or near.max() >= n):
        raise Refused(f"near holds {near.min()} to {near.max()}; positions are 0 to {n - 1}")
    return xy, near


def _write(
    frame: Given,
    xy: np.ndarray,
    captions: list[str],
    groups: Sequence[str] | None,
    near: np.ndarray | None,
    labels: Sequence[Sequence[str]],
    preservation: np.ndarray | None,
) -> None:
    n = len(xy)
    frame.write_assets()
    frame.about["provenance"]["Rows"] = f"{n:,} points"
    code, levels = columns.encode_levels([display_text(group) for group in groups] if groups is not None else [""] * n)
    rows: dict[str, Column] = {"kind": np.zeros(n, np.uint8), "group": code, "groups": levels}
    rows |= {"sheet": np.full(n, -1, np.int16), "cell": np.zeros(n, np.uint16)}
    data: dict[str, Column] = {"row": np.arange(n, dtype=np.uint32)}
    if preservation is not None:
        data["kept"] = percent(np.asarray(preservation, np.float32))
    beside: dict[str, Column] = {} if near is None else {"near": near.astype(smallest(n))}
    context = {"has_neurons": False, "meaning": None, "honesty": None, "guessed": None}
    render_map(frame, xy, data, beside, given_clusters(xy, labels), rows, captions, **context)


def _put(folder: Path, target: Path, single: bool, limit: int) -> Path:
    """Move the finished page into place; of the folder that was there only what is written again is replaced."""
    if single:
        tables = sorted(path.relative_to(folder).as_posix() for path in (folder / "data").glob("*.js"))
        html = inline_assets(folder, "index.html", tables)
        _refuse_above(limit, len(html.encode()), target)
        index = target if target.suffix == ".html" else target / "index.html"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text(html, "utf-8")
        return index
    _refuse_above(limit, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), target)
    target.mkdir(parents=True, exist_ok=True)
    for part in folder.iterdir():
        shutil.rmtree(target / part.name) if (target / part.name).is_dir() else None
        shutil.move(part, target / part.name)
    return target / "index.html"


def _refuse_above(limit: int, need: int, target: Path) -> None:
    if need > limit:
        raise Refused(f"a map in {target} takes {need / 1e6:.1f} MB, above {limit / 1e6:g} MB; raise max_mb")
