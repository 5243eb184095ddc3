"""The derived parts of a Store: the folder of each, and the command that makes it."""

from atlas.store.store import Part

STATS = Part("neurons/stats", "atlas stats {store}")
BASIS = Part("neurons/basis", "atlas stats {store}")
NEIGHBOURS = Part("neurons/neighbours", "atlas stats {store}")
TEXTS = Part("neurons/texts", "atlas stats {store}")
TERMS = Part("index/terms", "atlas stats {store}")  # the built-in vocabulary, embedded
EMBEDDINGS = Part("index/embedding", "atlas index {store}")
MAP = Part("layout/map", "atlas map {store}")
NEURON_MAP = Part("layout/neurons", "atlas map {store}")
CELLS = Part("layout/cells", "atlas map {store}")  # the activation atlas
DRAWINGS = Part("neurons/drawings", "atlas dream {store} NEURON...")  # feature visualisations
TEXT_DRAWINGS = Part("drawings/texts", "atlas dream {store} --text TEXT...")
CELL_ICONS = Part("layout/icons", "atlas dream {store} --cells")  # drawings of the cells of the activation atlas

# Tables about neurons that `decompose` writes; names and pages use them if they are there.
LABELS = Part("neurons/labels", "decompose label {store}")
FACETS = Part("neurons/facets", "decompose label {store}")
RECEIPTS = Part("neurons/receipts", "decompose label {store}")
