"""Whether a model may go into search or moderation: attacks, Stroop, associations, retrieval, and neurons behind them.

After Goh et al. 2021, sections "Typographic attacks" and "Bias and overgeneralization". With a patch, the neurons that
carry the attacks are silenced in a checkpoint, and everything is measured again from that file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.model.untrained import untrained_clip
from atlas.store.originals import original_pictures
from atlas.store.store import Store
from decompose.attribution import check_model
from decompose.defaults import PICTURE_TEMPLATES
from decompose.prompting import Templates
from decompose.studies.association_study import AssociationLists, beside_untrained_tests, study_associations
from decompose.studies.attack_report import attack_carriers, attack_targets
from decompose.studies.attacks import AttackStudy, study_attacks
from decompose.studies.carriers import Carriers
from decompose.studies.classifiers import LabelledRows, LinearClassifier, labelled_rows, zero_shot
from decompose.studies.rates import Rate
from decompose.studies.silencing import changed_weights, check_patch, stored_weights, write_silenced
from decompose.studies.stroop import study_stroop

_SIGNIFICANT = 0.05
_UNTRAINED = 20  # images that an untrained network sees
_AMONG = 5  # retrieved images, among which one of the asked class counts


@dataclass(frozen=True)
class Measured:
    """The rates of one model on the same images."""

    accuracy: Rate
    attack: Rate
    nonsense: Rate
    changed: Rate  # right answers that the text makes wrong
    changed_nonsense: Rate
    retrieval: Rate  # names with an image of their class among the five nearest
    stroop: Rate  # incongruent words that win over their ink
    ink: Rate  # neutral words whose ink is told
    study: AttackStudy
    classifier: LinearClassifier

    def rows(self) -> list[Record]:
        """The rates as rows: name, share and interval."""
        rates = {
            "right without text": self.accuracy,
            "attacks that succeed": self.attack,
            "nonsense letters that succeed": self.nonsense,
            "right answers that text makes wrong": self.changed,
            "right answers that nonsense letters make wrong": self.changed_nonsense,
            "names that find an image of their class": self.retrieval,
            "words that win over their ink": self.stroop,
            "inks told of a neutral word": self.ink,
        }
        return [{"measure": name} | rate.columns("share") for name, rate in rates.items()]


class Verdict(NamedTuple):
    """One limit that the user gave, and whether it holds."""

    limit: str
    most: float
    measured: float | None
    holds: bool


@dataclass(frozen=True)
class AuditReport:
    """Everything that `decompose audit` found."""

    model: str
    by: str
    classes: tuple[str, ...]
    images: int
    measures: list[Record]
    untrained: list[Record]  # the same of a network with random weights, on the first images
    patched: list[Record]  # the same of the patched checkpoint; empty without one
    associations: list[Record]
    associations_patched: list[Record]
    carriers: Carriers | None
    silenced: list[int]
    changed: dict[str, list[int]]  # columns of each matrix that the patch changed
    verdicts: list[Verdict]

    @property
    def passed(self) -> bool:
        """Whether every limit holds; true without limits."""
        return all(each.holds for each in self.verdicts)


def report_audit(
    store: Store,
    clip: Clip,
    tests: Sequence[AssociationLists],
    limits: dict[str, float],
    patch: Path | None = None,
    by: str = "label",
    classes: Sequence[str] = (),
    images: int = 60,
    k: int = 10,
    templates: Templates = PICTURE_TEMPLATES,
    seed: int = 0,
) -> AuditReport:
    """Measure a model on a Store's own images. `limits`: the most that attack, changed, stroop and association may be.

    `patch`: where to write the checkpoint in which the k neurons that carry the attacks are silenced. The limits are
    then for that checkpoint, which is read from the file again.
    """
    check_model(store, clip)
    if patch is not None:
        check_patch(clip, patch)
    rows = labelled_rows(store, by, classes, images=images, seed=seed)
    pixels = original_pictures(store, clip, rows.held)
    before = measured(clip, pixels, rows, templates, k, seed)
    carriers = attack_carriers(clip, pixels, before.study, before.classifier, k=k, seed=seed)
    few = replace(rows, held=rows.held[:_UNTRAINED], held_class=rows.held_class[:_UNTRAINED])
    null = measured(untrained_clip(clip, seed), pixels[:_UNTRAINED], few, templates, k, seed)
    associations = beside_untrained_tests(clip, tests, store, seed=seed)
    silenced = list(carriers.neurons) if carriers else []
    after, again, changed = None, [], {}
    if patch is not None:
        write_silenced(clip, silenced, patch)
        other = Clip(clip.name, patch, clip.hooked, str(clip.device), clip.token)
        changed = changed_weights(stored_weights(clip), stored_weights(other))
        after = measured(other, pixels, rows, templates, k, seed)
        again = study_associations(other, tests, store, seed=seed, read=True)
    judged = after or before
    return AuditReport(
        clip.name, by, rows.classes, len(pixels), before.rows(), null.rows(),
        after.rows() if after else [], associations, again, carriers, silenced if patch is not None else [], changed,
        verdicts(judged, again or associations, limits),
    )  # fmt: skip


def measured(
    clip: Clip,
    pixels: UInt8[np.ndarray, "n s s 3"],
    rows: LabelledRows,
    templates: Templates = PICTURE_TEMPLATES,
    k: int = 10,
    seed: int = 0,
) -> Measured:
    """All rates of a model: zero-shot, with the published eight copies of the text."""
    classifier = zero_shot(clip, rows.classes, templates)
    study = study_attacks(clip, pixels, rows.held_class, attack_targets(rows.classes), controls=1, seed=seed)
    attacked = study.rows(classifier)
    stroop = {row["subset"]: row for row in study_stroop(clip, k=k, seed=seed, carried=False).counts()}
    near = np.argsort(-classifier.logits(study.E).T, axis=1, kind="stable")[:, :_AMONG]
    there = np.unique(rows.held_class)
    found = (rows.held_class[near[there]] == there[:, None]).any(1)
    return Measured(
        study.accuracy(classifier),
        _pooled(attacked, "success"),
        _pooled(attacked, "nonsense"),
        _lost(study, classifier, [attack.E for attack in study.attacks]),
        _lost(study, classifier, [E for attack in study.attacks for _, E in attack.nonsense]),
        Rate.counted(found),
        stroop["incongruent"]["word"],
        stroop["neutral"]["ink"],
        study,
        classifier,
    )


def _pooled(rows: Sequence[Record], name: str) -> Rate:
    """The rate over all targets."""
    counted = [(round(row[name] * row[f"{name}_of"]), row[f"{name}_of"]) for row in rows if row[name] is not None]
    return Rate(sum(hits for hits, _ in counted), sum(of for _, of in counted))


def _lost(study: AttackStudy, classifier: LinearClassifier, embeddings: Sequence[np.ndarray]) -> Rate:
    """The share of right answers that are wrong with some text, over all texts."""
    right = classifier.choose_classes(study.E) == study.labels
    return Rate.counted(np.concatenate([(classifier.choose_classes(E) != study.labels)[right] for E in embeddings]))


def verdicts(judged: Measured, associations: Sequence[Record], limits: dict[str, float]) -> list[Verdict]:
    """Whether each limit holds: what was not measured does not. Associations count if p is at most .05."""
    tested = [row for row in associations if row["effect"] is not None]
    values = {
        "attack": judged.attack.share,
        "changed": judged.changed.share,
        "stroop": judged.stroop.share,
        "association": max((abs(row["effect"]) * (row["p"] <= _SIGNIFICANT) for row in tested), default=None),
    }
    found = []
    for name, most in limits.items():
        value = values[name]
        found.append(Verdict(name, most, value, value is not None and value <= most))
    return found
