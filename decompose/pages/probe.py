"""The page of the sparse probe: accuracy, the submatrix of classes and neurons, and the neurons of every class."""

from collections.abc import Sequence

import numpy as np

from atlas.formatting import Record
from decompose.pages.fragment import render_fragment
from decompose.studies.rates import percent
from decompose.studies.sparse_probe import ProbeReport

PROBE_PAGE = "probe"
_COLUMNS, _ROWS = 10, 50  # of the submatrix, as in the paper


def probe_page(report: ProbeReport, names: Sequence[str]) -> str:
    """The HTML of the page. `names`: of all neurons."""
    neurons, classes = submatrix(report.probe.weights)
    most = max(1e-9, float(np.abs(report.probe.weights).max()))
    cells: list[Record] = [
        {
            "name": report.classes[c],
            "weights": [float(report.probe.weights[c, u]) for u in neurons],
            "shades": [round(100 * abs(float(report.probe.weights[c, u])) / most) for u in neurons],
        }
        for c in classes
    ]
    used = [
        {"name": name, "neurons": report.used(c), "right": int(report.right[c]), "of": int(report.of[c])}
        for c, name in enumerate(report.classes)
    ]
    return render_fragment(
        "probe.html", report=report, names=names, neurons=neurons, cells=cells, used=used, percent=percent
    )


def submatrix(W: np.ndarray) -> tuple[list[int], list[int]]:
    """The neurons that most classes use, and the classes that use any of them: those with the same neuron together.

    Of neurons that are used as often, those with the largest weights come first.
    """
    shared = np.lexsort((-np.abs(W).sum(0), -(W != 0).sum(0)))[:_COLUMNS]
    neurons = [int(u) for u in shared if W[:, u].any()]
    part = np.abs(W[:, neurons])
    using = np.flatnonzero(part.any(1))[:_ROWS]
    order = np.lexsort((-part[using].max(1), part[using].argmax(1)))
    return neurons, [int(using[i]) for i in order]
