"""Causal tests of a Store's labels: the change of the concept's logit when the neuron is raised or ablated.

n images, k labels
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas.analysis.naming import NONE
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.attribution import Templates, check_model
from decompose.labels import STRONGEST_THINGS
from decompose.receipts import receipt
from decompose.renderings import strongest_things, things_of
from decompose.responses import Responses

_TRIED_IMAGES = 32  # images that all labels of a layer are measured on
RECEIPT_COLUMNS = pa.schema(
    [("neuron", pa.int32()), ("concept", pa.string()), ("act", pa.string())]
    + [(name, pa.float32()) for name in ("effect", "low", "high", "p", "control")]
    + [("confirmed", pa.bool_())]
)


def confirm_labels(
    store: Store,
    clip: Clip,
    labels: pa.Table,
    images: int = _TRIED_IMAGES,
    chosen_by: int = STRONGEST_THINGS,
    templates: Templates = "neutral",
    controls: int = 64,
    seed: int = 0,
    directions: Directions | None = None,
) -> pa.Table:
    """Receipts of a Store's labels: neuron, concept, act, effect, low, high, p, control, confirmed; two rows a label.

    `labels`: a table of `label_neurons`, of neurons or, with `directions`, of these. `images`: how many of the Store's
    images to measure on; those that contributed to the fewest labels are used. `templates`, `controls` and `seed` are
    those of `decompose.receipt`. `control` is the mean effect of the matched control neurons.

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
    tried = np.sort(shuffled[np.argsort(uses[shuffled], kind="stable")[:images]])
    held = ~(top[:, :, None] == things.of[tried]).any(1).T
    some = Directions.neurons(neurons, clip.neurons) if directions is None else directions[neurons]
    pictures = original_pictures(store, clip, store.positions("image")[tried])
    found = receipt(clip, pictures, concepts, some, templates, controls=controls, held=held, seed=seed)
    rows = []
    for neuron, each in zip(np.repeat(neurons, 2).tolist(), found, strict=True):
        row = {name: getattr(each, name) for name in RECEIPT_COLUMNS.names[2:]}
        rows.append(row | {"neuron": neuron, "concept": each.text})
    return pa.Table.from_pylist(rows, RECEIPT_COLUMNS)
