"""Every label of a Store put to the test: what its concept's logit does when the neuron is raised, or silenced.

n images that are tried, k labels
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas.analysis.naming import NONE
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.store.originals import prepared
from atlas.store.store import Store
from decompose.attribution import Templates, check_model
from decompose.labels import STRONGEST_THINGS
from decompose.receipts import receipt
from decompose.renderings import strongest_things, things_of
from decompose.responses import Responses

_TRIED_IMAGES = 32  # that all labels of a layer are tried on at once
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
    """Receipts of a Store's labels (`label_neurons`): neuron, concept, act, effect, low, high, p, control, confirmed.

    `control` is the mean effect of the matched neurons. Neurons (or `directions`, if the labels are of these) are tried
    on `images` images of the Store, those that fewest labels were chosen by; an image of what is among the
    `chosen_by` that one answers to most does not count for it. Raises Refused for a Store of another model, and for one
    with fewer than two images; no labels give no rows.
    """
    check_model(store, clip)
    given = labels.filter(pc.field("label") != NONE)
    neurons, concepts = given["neuron"].to_pylist(), given["label"].to_pylist()
    if not neurons:
        return pa.Table.from_pylist([], RECEIPT_COLUMNS)
    items = things_of(store, "image")
    top = strongest_things(Responses.of(store, "image", directions), items, chosen_by)[neurons]
    uses = np.bincount(top.ravel(), minlength=len(items))[items.of]
    shuffled = np.random.default_rng(seed).permutation(len(uses))
    tried = np.sort(shuffled[np.argsort(uses[shuffled], kind="stable")[:images]])
    held = ~(top[:, :, None] == items.of[tried]).any(1).T
    some = Directions.neurons(neurons, clip.neurons) if directions is None else directions[neurons]
    pictures = prepared(store, clip, store.positions("image")[tried])
    found = receipt(clip, pictures, concepts, some, templates, controls=controls, held=held, seed=seed)
    rows = []
    for neuron, each in zip(np.repeat(neurons, 2).tolist(), found, strict=True):
        row = {name: getattr(each, name) for name in RECEIPT_COLUMNS.names[2:]}
        rows.append(row | {"neuron": neuron, "concept": each.text})
    return pa.Table.from_pylist(rows, RECEIPT_COLUMNS)
