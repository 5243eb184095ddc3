"""The page of NMF components: neurons, words and images of each, and the map in their colours."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pyarrow.parquet as pq
from bokeh import palettes
from PIL import Image, ImageDraw

from atlas.analysis import parts
from atlas.pages.fragments import picture_tag
from atlas.store.store import Store
from decompose.components import Component, telling_names
from decompose.pages.fragment import render_fragment

MAP_FILE, OTHER_ROWS_COLOUR = (
    "map.png",
    "#8884",
)  # the map in colours of components, and the colour of rows that are no images
MAP_WIDTH, DOT_RADIUS = 1400, 3  # pixels
EDGE_PERCENTILES, EDGE_MARGIN = (1, 99), 0.08  # the map shows these percentiles of the images, and this margin


def components_page(store: Store, found: Sequence[Component], with_map: bool = False) -> str:
    """The HTML of the page. `with_map`: whether MAP_FILE lies beside it."""
    return render_fragment(
        "components.html",
        components=found,
        names=[", ".join(telling_names(each.called or each.words)) or f"set {each.number}" for each in found],
        least=min(each.share for each in found),
        most=max(each.share for each in found),
        signed=any(weight < 0 for each in found for _, weight in each.neurons),
        colours=component_colours(len(found)),
        map=MAP_FILE if with_map else None,
        picture=lambda row: picture_tag(store, row),
    )


def components_map(store: Store, found: Sequence[Component]) -> bytes | None:
    """The Store's map as a PNG, each image in the colour of its strongest component; None where there is no map."""
    if not store.current(parts.MAP):
        return None
    points = pq.read_table(store.derived(parts.MAP) / "points.parquet", columns=["row", "x", "y"])
    row, xy = points["row"].to_numpy(), np.column_stack([points["x"].to_numpy(), points["y"].to_numpy()])
    low, high = np.percentile(xy[np.isin(row, store.positions("image"))], EDGE_PERCENTILES, axis=0)
    low, high = (
        low - EDGE_MARGIN * (high - low),
        high + EDGE_MARGIN * (high - low),
    )  # a few outliers would shrink the rest
    span = np.maximum(high - low, 1e-9)
    near = ((xy >= low) & (xy <= high)).all(1)
    row, xy = row[near], xy[near]
    side = np.round(MAP_WIDTH * np.minimum(span / span[0], 1)).astype(int)
    at = (xy - low) / span * (side - 1)
    at[:, 1] = side[1] - 1 - at[:, 1]
    image = Image.new("RGBA", (int(side[0]), int(side[1])))
    draw = ImageDraw.Draw(image)
    groups = [(np.ones(len(row), bool), OTHER_ROWS_COLOUR)]
    groups += [
        (np.isin(row, each.own), colour) for each, colour in zip(found, component_colours(len(found)), strict=True)
    ]
    for inside, colour in groups:
        for x, y in at[inside].tolist():
            draw.circle((x, y), DOT_RADIUS, fill=colour)
    written = BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()


def component_colours(count: int) -> list[str]:
    """So many colours: 20 distinct ones, then the same again."""
    return [palettes.Category20_20[(2 * i + i // 10) % 20] for i in range(count)]
