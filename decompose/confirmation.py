"""Causal tests of a Store's labels: the change of the concept's logit when the neuron is raised or ablated.

n images, k labels
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from atlas.analysis.naming import NONE
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.attribution import check_model
from decompose.defaults import CONCEPT_TEMPLATES, MATCHED_CONTROLS
from decompose.labels import STRONGEST_THINGS
from decompose.prompting import Templates
from decompose.receipts import predictions_that_hold, receipt
from decompose.renderings import strongest_things, things_of
from decompose.responses import Responses, picked_rows

_TRIED_IMAGES = 32  # images that all labels of a layer are measured on
_POOL = 16  # times as many images are looked through for those on which neurons fire
_FIRES_ON = 8  # images on which a neuron should fire
RECEIPT_COLUMNS = pa.schema(
    [("neuron", pa.int32()), ("concept", pa.string()), ("act", pa.string())]
    + [(name, pa.float32()) for name in ("effect", "low", "high", "p", "control")]
    + [("confirmed", pa.bool_()), ("predicted", pa.float32()), ("images", pa.int32())]
    + [("balance", pa.float32()), ("q", pa.float32())]
)


def confirm_labels(
    store: Store,
    clip: Clip,
    labels: pa.Table,
    images: int = _TRIED_IMAGES,
    chosen_by: int = STRONGEST_THINGS,
    templates: Templates = CONCEPT_TEMPLATES,
    controls: int = MATCHED_CONTROLS,
    seed: int = 0,
    directions: Directions | None = None,
) -> pa.Table:
    """Receipts of a Store's labels, two rows a label: neuron, concept, act and the columns of `RECEIPT_COLUMNS`.

    `labels`: a table of `label_neurons`, of neurons or, with `directions`, of these. `images`: how many of the Store's
    images to measure on; of those that contributed to the fewest labels, images are taken on which the neurons fire,
    until each fires on eight. `templates`, `controls` and `seed` are those of `decompose.receipt`. `control` is the
    mean effect of the matched control neurons.

    An image of one of the `chosen_by` things that activate a neuron most does not count for that neuron, because its
    label was found on such images. Without labels the table is empty. Raises Refused for a Store of
    another model, and for one with fewer than two images.
    """
    check_model(store, clip)
    given = labels.filter(pc.field("label") != NONE)
    neurons, concepts = given["neuron"].to_pylist(), given["label"].to_pylist()
    if not neurons:
        return pa.Table.from_pylist([], RECEIPT_COLUMNS)
    things = things_of(store, "image")
    top = strongest_things(Responses.of(store, "image", directions), things, chosen_by)[neurons]
    uses = np.bincount(top.ravel(), minlength=len(things))[things.of]
    shuffled = np.random.default_rng(seed).permutation(len(uses))
    pool = np.sort(shuffled[np.argsort(uses[shuffled], kind="stable")[: _POOL * images]])
    fires = np.concatenate([A > 0 for _, A in Responses(picked_rows(store.array("mean", "image"), pool), directions)])[
        :, neurons
    ]
    tried = pool[_firing_images(fires & ~_shown(top, things.of[pool]), uses[pool], images)]
    held = ~_shown(top, things.of[tried])
    some = Directions.neurons(neurons, clip.neurons) if directions is None else directions[neurons]
    pictures = original_pictures(store, clip, store.positions("image")[tried])
    found = receipt(clip, pictures, concepts, some, templates, controls=controls, held=held, seed=seed)
    rows = []
    for neuron, each in zip(np.repeat(neurons, 2).tolist(), found, strict=True):
        row = {name: getattr(each, name) for name in RECEIPT_COLUMNS.names[2:]}
        rows.append(row | {"neuron": neuron, "concept": each.text})
    return pa.Table.from_pylist(rows, RECEIPT_COLUMNS)


def signs_that_hold(receipts: pa.Table) -> tuple[float, float]:
    """`predictions_that_hold` of the receipts that raise: share of predicted signs, and the typical factor in size."""
    raised = receipts.filter(pc.field("act") == "raise")
    return predictions_that_hold(raised["effect"].to_pylist(), raised["predicted"].to_pylist())


def _shown(top: Int[np.ndarray, "k c"], thing: Int[np.ndarray, " n"]) -> Bool[np.ndarray, "n k"]:
    """Whether each image shows one of the things that each neuron's label was chosen by."""
    return np.stack([np.isin(thing, chosen) for chosen in top], axis=1)


def _firing_images(fires: Bool[np.ndarray, "n k"], uses: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " m"]:
    """The numbers of `count` images, in order: in turn the one on which most of the neurons fire that still lack some.

    Of images with equally many, the one that contributed to the fewest labels is taken.
    """
    left, have, chosen = np.ones(len(fires), bool), np.zeros(fires.shape[1], int), []
    for _ in range(min(count, len(fires))):
        gain = fires @ (have < _FIRES_ON).astype(np.float32)
        best = int(np.lexsort((uses, -gain, ~left))[0])
        left[best], have = False, have + fires[best]
        chosen.append(best)
    return np.sort(np.array(chosen, np.int64))
