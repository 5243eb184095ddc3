"""A map of given places, computed by any tool, as one file or as a folder."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer

from atlas.arrays import accepts
from atlas.errors import Refused
from atlas.formatting import display_text
from atlas.pages import budget, columns
from atlas.pages.bundle import inline_assets
from atlas.pages.columns import Column, smallest_unsigned
from atlas.pages.frame import START_PAGE, Frame
from atlas.pages.map import percentages, write_points_page
from atlas.pages.provenance import SiteFacts
from atlas.pages.regions import given_regions


@accepts(xy=2, captions="texts", groups="texts", near="positions", preservation=1)
def write_points(
    path: str | Path,
    xy: Float[np.ndarray, "n axes"],  # two
    captions: Sequence[str],
    groups: Sequence[str] | None = None,
    near: Integer[np.ndarray, "n k"] | None = None,
    labels: Sequence[Sequence[str]] = (),
    preservation: Float[np.ndarray, " m"] | None = None,  # one a place
    title: str = "Map",
    max_mb: float | int = budget.DEFAULT_MAX_MB,
    single_file: bool | None = None,
) -> Path:
    """Write a map of n given places; returns its index.html, or the file itself where `path` ends in .html.

    `captions`: the text of each point. `groups`: its class, which the legend lists. `near` (n, k): the positions of its
    nearest points. `labels`: for each level, coarse first, the name of every point's region ("" for none).
    `preservation`: the share of its neighbours that the map kept, 0 to 1. `max_mb`: the largest size, in 10^6 bytes.
    `single_file`: whether to write one file; by default up to 100,000 points, else a folder of scripts.

    Prints the plan of bytes on stderr. Raises `Refused` where arguments differ in length, where a place is not finite,
    and where the page would be larger than `max_mb`.
    """
    target = Path(path)
    xy, near = _checked(np.asarray(xy, np.float32), captions, groups, near, labels, preservation)
    single = len(xy) <= budget.ONE_FILE_POINTS or target.suffix == ".html" if single_file is None else single_file
    shown = [display_text(caption) for caption in captions]
    k = 0 if near is None else near.shape[1]
    print(
        *budget.plan_site(shown, max_mb, k, single_file=single, what=f"a map in {target}").lines(),
        sep="\n",
        file=sys.stderr,
    )
    folder = target.with_name(target.name + ".partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _write(folder, title, xy, shown, groups, near, labels, preservation)
        return _put(folder, target, single, round(max_mb * 1e6))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _checked(
    xy: Float[np.ndarray, "n axes"],
    captions: Sequence[str],
    groups: Sequence[str] | None,
    near: Int[np.ndarray, "n k"] | np.ndarray | None,
    labels: Sequence[Sequence[str]],
    preservation: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    n = len(xy)
    if captions is None or xy.shape[1] != 2:
        raise Refused(f"a map needs xy of shape (n, 2), got {xy.shape}, and captions, a text for each place")
    if not n or not np.isfinite(xy).all():
        raise Refused(f"a map needs finite places, got {n} with {int((~np.isfinite(xy)).any(1).sum())} that are not")
    named = {
        "captions": captions,
        "groups": groups,
        "near": near,
        "preservation": preservation,
        **{f"labels[{i}]": of for i, of in enumerate(labels)},
    }
    for name, part in named.items():
        if part is not None and len(part) != n:
            raise Refused(f"{n:,} places have {len(part):,} {name}; give one a place")
    if preservation is not None and not ((preservation >= 0) & (preservation <= 1)).all():
        raise Refused("preservation holds other numbers than shares from 0 to 1")
    if near is not None and (near.min() < 0 or near.max() >= n):
        raise Refused(f"near holds {near.min()} to {near.max()}; positions are 0 to {n - 1}")
    return xy, near


def _write(
    folder: Path,
    title: str,
    xy: np.ndarray,
    captions: list[str],
    groups: Sequence[str] | None,
    near: np.ndarray | None,
    labels: Sequence[Sequence[str]],
    preservation: np.ndarray | None,
) -> None:
    n = len(xy)
    provenance = {"Model": title, "Layer": "given places", "Rows": f"{n:,} points"}
    frame = Frame(folder, SiteFacts(title, provenance, command="", cite=title, kinds=["point"]), [START_PAGE])
    frame.write_assets()
    code, levels = columns.encode_levels([display_text(group) for group in groups] if groups is not None else [""] * n)
    rows: dict[str, Column] = {"kind": np.zeros(n, np.uint8), "group": code, "groups": levels}
    rows |= {"sheet": np.full(n, -1, np.int16), "cell": np.zeros(n, np.uint16)}
    data: dict[str, Column] = {"row": np.arange(n, dtype=np.uint32)}
    if preservation is not None:
        data["kept"] = percentages(np.asarray(preservation, np.float32))
    beside: dict[str, Column] = {} if near is None else {"near": near.astype(smallest_unsigned(n))}
    page = write_points_page(frame, xy, data, beside, given_regions(xy, labels), rows, captions)
    frame.render(replace(page, path=START_PAGE))


def _put(folder: Path, target: Path, single: bool, limit: int) -> Path:
    """Move the finished page into place; files of a former page are replaced, all others are left."""
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
