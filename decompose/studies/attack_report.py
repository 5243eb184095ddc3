"""A Store's images under typographic attacks: classifiers, targets, the neurons behind flips, examples."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, UInt8

from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.attribution import check_model
from decompose.defaults import PICTURE_TEMPLATES
from decompose.prompting import Templates
from decompose.renderings import display_texts
from decompose.studies.attacks import AttackStudy, Target, overlaid, rank_texts, study_attacks, success_rate, try_texts
from decompose.studies.carriers import Carriers, find_carriers, flip_contributions
from decompose.studies.classifiers import (
    LabelledRows,
    LinearClassifier,
    linear_probe,
    stored_embeddings,
    zero_shot,
)
from decompose.studies.rates import Rate

MOST_ABLATED = 128  # images that neurons are ablated on
_EXAMPLES, _EXAMPLE_NEURONS = 6, 5
_UNTRAINED = 40  # images that an untrained network sees
_TARGETS = 9  # as many as the paper's table has


@dataclass(frozen=True)
class FlipExample:
    """An image that the text changed, and the neurons that changed it most (each with what it adds to the margin)."""

    before: UInt8[np.ndarray, "s s 3"]
    after: UInt8[np.ndarray, "s s 3"]
    label: str
    text: str
    answer: str
    neurons: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class AttackReport:
    """All figures of `decompose attack`."""

    model: str
    by: str
    classes: tuple[str, ...]
    images: int
    single: bool
    baseline: list[Record]  # one row a classifier: clean accuracy
    rows: list[Record]  # one row a classifier and target
    carriers: dict[str, Carriers | None]  # by classifier
    searched: list[Record] = field(default_factory=list)  # one row a target and text tried
    examples: list[FlipExample] = field(default_factory=list)
    untrained: Record = field(default_factory=dict)  # accuracy and success of a network with random weights, zero-shot


def report_attacks(
    store: Store,
    clip: Clip,
    rows: LabelledRows,
    targets: Sequence[tuple[str, str]] = (),
    by: str = "label",
    single: bool = False,
    templates: Templates = PICTURE_TEMPLATES,
    search: int = 0,
    k: int = 10,
    seed: int = 0,
) -> AttackReport:
    """Attack the held-out images of a Store, and report what follows.

    `targets`: classes and the text for each; nine classes with their own names without them. `search`: how many texts
    to try for each target, by the basis and at random (0: none). `k`: how many neurons are ablated.
    """
    check_model(store, clip)
    pixels = original_pictures(store, clip, rows.held)
    probe = linear_probe(stored_embeddings(store, rows.fit), rows.fit_class, rows.classes)
    classifiers = (zero_shot(clip, rows.classes, templates), probe)
    aims = attack_targets(rows.classes, targets)
    found = study_attacks(clip, pixels, rows.held_class, aims, single, seed=seed)
    return AttackReport(
        clip.name,
        by,
        rows.classes,
        len(pixels),
        single,
        [{"classifier": each.name} | found.accuracy(each).columns("accuracy") for each in classifiers],
        [row for each in classifiers for row in found.rows(each)],
        {each.name: attack_carriers(clip, pixels, found, each, single, k, seed) for each in classifiers},
        searched_texts(store, clip, pixels, rows.held_class, classifiers[0], aims, search, single, seed),
        _examples(clip, pixels, found, classifiers[0], single),
        untrained_attack(clip, pixels, rows.held_class, rows.classes, aims, single, templates, seed),
    )


def untrained_attack(
    clip: Clip,
    pixels: UInt8[np.ndarray, "n s s 3"],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    targets: Sequence[Target],
    single: bool = False,
    templates: Templates = PICTURE_TEMPLATES,
    seed: int = 0,
) -> Record:
    """Accuracy, and success over all targets, of an untrained network on the first images."""
    pixels, labels = pixels[:_UNTRAINED], labels[:_UNTRAINED]
    other = untrained_clip(clip, seed)
    classifier = zero_shot(other, classes, templates)
    study = study_attacks(other, pixels, labels, targets, single, controls=1, seed=seed)
    before, hits, of = classifier.choose_classes(study.E), 0, 0
    for attack in study.attacks:
        rate = success_rate(before, classifier.choose_classes(attack.E), labels, attack.target.number)
        hits, of = hits + rate.hits, of + rate.of
    return {"images": len(pixels)} | study.accuracy(classifier).columns("accuracy") | Rate(hits, of).columns("success")


def attack_carriers(
    clip: Clip,
    pixels: UInt8[np.ndarray, "n s s 3"],
    study: AttackStudy,
    classifier: LinearClassifier,
    single: bool = False,
    k: int = 10,
    seed: int = 0,
) -> Carriers | None:
    """The neurons behind the flips of all attacks together, chosen on half of the images and ablated on the other."""
    n, m = len(pixels), len(study.attacks)
    right = np.tile(study.labels, m)
    after = np.concatenate([classifier.choose_classes(attack.E) for attack in study.attacks])
    was_right = np.tile(classifier.choose_classes(study.E) == study.labels, m)
    aimed = np.repeat([attack.target.number for attack in study.attacks], n)
    rng = np.random.default_rng(seed)
    second = np.tile(rng.permutation(n) % 2 == 1, m) & (aimed != right)
    few = rng.permutation(np.flatnonzero(second))[:MOST_ABLATED]
    use = np.sort(np.concatenate([np.flatnonzero(~second & (aimed != right)), few]))
    held = np.isin(use, few)
    attacked = np.zeros((len(use), *pixels.shape[1:]), np.uint8)  # only those that are ablated are drawn
    for at in np.flatnonzero(held):
        image = use[at] % n
        attacked[at] = overlaid(pixels[image : image + 1], study.attacks[use[at] // n].target.text, single)[0]
    before = np.tile(study.A, (m, 1))[use]
    with_text = np.concatenate([attack.A for attack in study.attacks])[use]
    wrong = np.where(was_right, after, right)[use]
    return find_carriers(
        clip, pixels[use % n], attacked, before, with_text, classifier, wrong, right[use], held, k, seed=seed
    )


def searched_texts(
    store: Store,
    clip: Clip,
    pixels: UInt8[np.ndarray, "n s s 3"],
    labels: Int[np.ndarray, " n"],
    classifier: LinearClassifier,
    targets: Sequence[Target],
    count: int,
    single: bool = False,
    seed: int = 0,
) -> list[Record]:
    """Success of the `count` texts that the basis ranks first for each target, and of as many drawn at random.

    Those of a target are in the order of their success on one half of the images (`first_half`); `success` is that on
    the other half, so that it is not that of a lucky choice. The texts are the Store's rendered words. Raises
    Refused for a Store without words.
    """
    if not count:
        return []
    if "word" not in store.counts:
        raise Refused(f"{store.path} holds no rendered words to search among; collect some, as words:emoji")
    texts: list[str] = display_texts(store.table(["label", "caption"]).take(store.positions("word")))
    A = np.asarray(store.array("mean", "word"), np.float32)
    different, scores = tuple(dict.fromkeys(texts)), rank_texts(A, texts, clip.basis(), classifier)
    rng, found = np.random.default_rng(seed), []
    order = np.random.default_rng((seed, 1)).permutation(len(pixels))
    for target in targets:
        best = np.argsort(-scores[:, target.number], kind="stable")[:count].tolist()
        drawn = rng.choice(len(different), min(count, len(different)), replace=False).tolist()
        tried = [("basis", different[i]) for i in best] + [("random", different[i]) for i in drawn]
        first, other = (
            try_texts(clip, pixels[half], labels[half], classifier, target.number, [text for _, text in tried], single)
            for half in (order[::2], order[1::2])
        )
        name = classifier.classes[target.number]
        rows = [
            {"target": name, "chosen_by": how, "text": text, "first_half": one.share} | rate.columns("success")
            for (how, text), one, rate in zip(tried, first, other, strict=True)
        ]
        found += sorted(rows, key=lambda row: -(row["first_half"] or 0))
    return found


def attack_targets(classes: Sequence[str], asked: Sequence[tuple[str, str]] = ()) -> list[Target]:
    """The targets by number; without any, classes spread evenly, each with its own name as the text."""
    if unknown := [name for name, _ in asked if name not in classes]:
        raise Refused(f"{unknown[0]!r} is none of the {len(classes)} classes; name it among --classes")
    if asked:
        return [Target(list(classes).index(name), text) for name, text in asked]
    few = np.unique(np.linspace(0, len(classes) - 1, _TARGETS).astype(int))
    return [Target(i, classes[i]) for i in map(int, few)]


def _examples(
    clip: Clip,
    pixels: UInt8[np.ndarray, "n s s 3"],
    study: AttackStudy,
    classifier: LinearClassifier,
    single: bool,
) -> list[FlipExample]:
    """Images that were right and are not with the text; those that become the attack's class come first."""
    before, W, found = classifier.choose_classes(study.E), clip.basis(), []
    for attack in study.attacks:
        after = classifier.choose_classes(attack.E)
        flipped = (before == study.labels) & (after != before)
        for i in (
            np.flatnonzero(flipped & (after == attack.target.number))[:2].tolist()
            or np.flatnonzero(flipped)[:1].tolist()
        ):
            found.append((after[i] != attack.target.number, i, attack, int(after[i])))
    chosen = sorted(found, key=lambda each: each[0])[:_EXAMPLES]
    return [
        FlipExample(
            pixels[i],
            overlaid(pixels[i : i + 1], attack.target.text, single)[0],
            classifier.classes[study.labels[i]],
            attack.target.text,
            classifier.classes[answer],
            _strongest(
                flip_contributions(
                    study.A[i : i + 1],
                    attack.A[i : i + 1],
                    W,
                    classifier,
                    np.array([answer]),
                    study.labels[i : i + 1],
                )[0]
            ),
        )
        for _, i, attack, answer in chosen
    ]


def _strongest(contributions: Float[np.ndarray, " u"]) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-contributions, kind="stable")[:_EXAMPLE_NEURONS]
    return tuple((int(i), float(contributions[i])) for i in order)


def attack_records(report: AttackReport) -> Record:
    """The figures of a report, as JSON has them."""
    carried = {name: each and vars(each) | {"regained": each.regained} for name, each in report.carriers.items()}
    return {
        "model": report.model,
        "by": report.by,
        "classes": report.classes,
        "images": report.images,
        "single": report.single,
        "baseline": report.baseline,
        "targets": report.rows,
        "carriers": carried,
        "searched": report.searched,
        "untrained": report.untrained,
    }
