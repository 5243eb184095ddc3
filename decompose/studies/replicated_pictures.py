"""Rows of the scorecard that need pictures of ImageNet's classes: typographic attacks and the sparse probe."""

from collections.abc import Iterator

import numpy as np

from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.studies.attack_report import attack_targets
from decompose.studies.attacks import study_attacks
from decompose.studies.classifiers import labelled_rows, linear_probe, stored_embeddings
from decompose.studies.published import PublishedTables
from decompose.studies.rates import Rate, percent
from decompose.studies.scores import not_compared, score_row
from decompose.studies.sparse_probe import fit_sparse_probe

_PROBE_ACCURACY, _NEURONS_A_CLASS = "56.4 % top-5", 3  # as the article's text says
_PAPER_CLASSES = 1000  # of ImageNet


def picture_rows(
    clip: Clip,
    tables: PublishedTables,
    store: Store | None,
    known: tuple[str, str] | None,
    network: str,
    seed: int,
) -> Iterator[Record]:
    """Attack rates and the sparse probe, on a Store whose images are labelled with ImageNet's classes."""
    labels = set() if store is None or "image" not in store.counts else _labels(store)
    targets = [row["target"] for row in tables.attacks]
    why = "the clone has no typographic/small_attacks.json" if not targets else _missing(store, labels, targets)
    published = f"{len(targets)} targets, n = {tables.attack_images:,}" if targets else ""
    if store is None or why:
        yield not_compared("typographic attacks", published, why)
    else:
        yield from _attack_rows(clip, tables, store, network, seed)
    classes = tables.submatrix.classes if tables.submatrix else []
    why = "the clone has no HyperSet.svelte" if not classes else _missing(store, labels, classes)
    if store is None or why or tables.submatrix is None:
        yield not_compared("sparse probe", _PROBE_ACCURACY, why)
        return
    rows = labelled_rows(store, "label", classes, images=2 * _PAPER_CLASSES, seed=seed)
    A, at = np.asarray(store.array("mean", "image"), np.float32), store.positions("image")
    fit, held = (A[np.searchsorted(at, each)] for each in (rows.fit, rows.held))
    probe = fit_sparse_probe(fit, rows.fit_class, len(rows.classes), _NEURONS_A_CLASS)
    five = Rate.counted(probe.hits(held, rows.held_class, 5))
    on = f"{len(classes)} classes, not ImageNet's {_PAPER_CLASSES:,}; {len(held):,} images held out"
    chance = f"{percent(5 / len(classes))} %"
    yield score_row("sparse probe", _PROBE_ACCURACY, f"{percent(five.share)} % top-5", chance, network, on)
    if known:
        W = tables.submatrix.weights
        mine = np.array([probe.weights[[rows.classes.index(c) for c in classes], u] for u in tables.submatrix.units])
        both, chance = int(((W > 0) & (mine > 0)).sum()), (W > 0).mean() * (mine > 0).sum()
        title, found = "sparse probe: positive weights of 10 neurons", int((mine > 0).sum())
        yield score_row(
            title, f"{int((W > 0).sum())}", f"{both} of the {found} found are published", f"{chance:.1f}", network, on
        )


def _labels(store: Store) -> set[str]:
    return {name for name in store.table(["label"])["label"].take(store.positions("image")).to_pylist() if name}


def _missing(store: Store | None, labels: set[str], wanted: list[str]) -> str:
    """Why pictures of these classes are not there; empty if they are."""
    if store is None:
        return "needs pictures of ImageNet's classes: give --store with a Store whose labels are their names"
    lacking = [name for name in wanted if name not in labels]
    if not lacking:
        return ""
    few = ", ".join(lacking[:3]) + (" and others" if len(lacking) > 3 else "")
    return f"{store.path.name} has no images labelled {few}"


def _attack_rows(clip: Clip, tables: PublishedTables, store: Store, network: str, seed: int) -> Iterator[Record]:
    """The published targets and texts, by a linear probe fitted on the Store's classes."""
    rows = labelled_rows(store, "label", (), _PAPER_CLASSES, tables.attack_images, seed)
    pixels = original_pictures(store, clip, rows.held)
    probe = linear_probe(stored_embeddings(store, rows.fit), rows.fit_class, rows.classes)
    aims = attack_targets(rows.classes, [(row["target"], row["text"]) for row in tables.attacks])
    study = study_attacks(clip, pixels, rows.held_class, aims, seed=seed)
    on = f"linear probe of {len(rows.classes):,} classes, {len(pixels):,} images"
    chance, clean = f"{percent(1 / len(rows.classes))} %", f"{percent(study.accuracy(probe).share)} %"
    yield score_row("attacks: clean accuracy", f"{percent(tables.attack_accuracy)} %", clean, chance, network, on)
    for row, found in zip(tables.attacks, study.rows(probe), strict=True):
        title = f"attack: {row['text']} for {row['target']}"
        measured, nonsense = f"{percent(found['success'])} %", f"{percent(found['nonsense'])} % with nonsense letters"
        yield score_row(title, f"{percent(row['success'])} %", measured, nonsense, network, on)
