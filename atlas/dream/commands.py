"""The command `atlas dream`; nothing heavy is imported here, so that `atlas --help` answers at once."""

import sys
from pathlib import Path
from typing import Unpack

from atlas.console import option, options_given, print_table, takes
from atlas.errors import Misuse
from atlas.option_types import real_number, whole_number
from atlas.options import (
    ATLAS_DEVICE,
    ATLAS_JSON,
    ATLAS_SEED,
    ATLAS_WEIGHTS,
    DreamOptionsGiven,
    neuron_span,
)
from atlas.store.options import STORE_READ


@takes(
    STORE_READ,
    option("neuron", nargs="*", type=neuron_span, help="numbers and spans of numbers: 12 40-47"),
    option("--all", action="store_true", dest="every", help="all neurons of the layer"),
    option("--text", nargs="+", metavar="T", help="draw texts: images optimised for the logit of each"),
    option("--cells", action="store_true", help="draw an icon of every cell of the activation atlas"),
    option(
        "--theme",
        nargs="+",
        type=str,
        metavar="T",
        help="themes (facets): any texts, each learnt from its nearest images; or `words`, for rendered words",
    ),
    option("--strength", type=real_number(0), help="initial weight of the theme (1.0)"),
    option("--repeats", type=whole_number(1, 1000), help="different images of each neuron (1)"),
    option("--steps", type=whole_number(1), help="steps of optimisation (200)"),
    ATLAS_SEED,
    ATLAS_WEIGHTS,
    ATLAS_DEVICE,
    ATLAS_JSON,
)
def dream_command(
    out: Path,
    neuron: list[range],
    every: bool,
    text: list[str] | None,
    cells: bool,
    theme: list[str] | None,
    pretrained: str | None,
    device: str | None,
    as_json: bool,
    **options: Unpack[DreamOptionsGiven],
) -> int:
    """Make feature visualisations, images optimised to activate a neuron, for the cards; or of texts, or of cells."""
    from atlas.analysis.derivation import clip_of
    from atlas.analysis.naming import NeuronNames
    from atlas.dream import scenes
    from atlas.dream.gallery import drawn_rows, write_drawings
    from atlas.store.store import Store

    if (bool(neuron), every, bool(text), cells).count(True) != 1:
        raise Misuse("name neurons, as in 12 40-47, or ask for --all of them, for --text or for --cells")
    _check_theme(theme, bool(text) or cells, options["strength"])
    if cells and options["repeats"] is not None:
        raise Misuse("a cell has one icon; leave --repeats out")
    store = Store.open(out)
    clip = clip_of(store, pretrained, device)
    if beyond := [span[-1] for span in neuron if span[-1] >= clip.neurons]:
        raise Misuse(f"neuron {beyond[0]} is out of range: {clip.layer} has neurons 0 to {clip.neurons - 1}")
    given = options_given(**options)
    if text or cells:
        found = scenes.draw_texts(store, clip, text, **given) if text else scenes.draw_cells(store, clip, **given)
    else:
        NeuronNames.read(store)  # refuses stale names before anything is drawn
        chosen = range(clip.neurons) if every else [number for span in neuron for number in span]
        found = write_drawings(store, clip, chosen, theme or ("",), **given)
    print_table(drawn_rows(store, found), as_json)
    print(f"atlas page {out} puts them on the pages", file=sys.stderr)
    return 0


def _check_theme(theme: list[str] | None, other_things: bool, strength: float | None) -> None:
    if other_things and (theme or strength is not None):
        raise Misuse("--theme and --strength are of neurons; leave them out")
    if theme and not any(map(str.strip, theme)):
        raise Misuse("--theme is empty; leave it out for plain visualisations")
