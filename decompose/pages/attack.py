"""The page of typographic attacks: success by target, before and after, the neurons between; and the Stroop test."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from atlas.formatting import Record
from decompose.pages.fragment import render_fragment
from decompose.studies.attack_report import AttackReport
from decompose.studies.carriers import Carriers
from decompose.studies.rates import percent
from decompose.studies.stroop import StroopStudy

ATTACK_PAGE, STROOP_PAGE = "attack", "stroop"  # names of the pages


def attack_page(report: AttackReport) -> tuple[str, dict[str, bytes]]:
    """The page of attacks as HTML, and its pictures by file name."""
    beside = {}
    for i, each in enumerate(report.examples):
        beside |= {f"before-{i}.webp": _webp(each.before), f"after-{i}.webp": _webp(each.after)}
    return render_fragment("attack.html", report=report, percent=percent, carried=carrier_text), beside


def stroop_page(study: StroopStudy, model: str, rows: Sequence[Record]) -> str:
    """The HTML of the page of the Stroop test. `rows`: of the model's answers and of an untrained network's."""
    said = [
        [_most_said(study, ink, word) for ink in range(len(study.inks))] for word in (-1, *range(1, len(study.inks)))
    ]
    return render_fragment(
        "stroop.html",
        study=study,
        model=model,
        rows=rows,
        said=said,
        fonts=len(np.unique(study.font)),
        percent=percent,
        carried=stroop_carrier_text,
    )


def stroop_carrier_text(found: Carriers) -> str:
    """What ablation does to the answers of the Stroop test, in words: how often they are the word, and right."""
    low, high = np.percentile(found.wrong_matched, (2.5, 97.5))
    return (
        f"The answer is the word in {percent(found.wrong)} % of {found.images:,} other images. With these neurons "
        f"ablated it is the word in {percent(found.wrong_ablated)} %; with matched neurons in "
        f"{percent(float(np.mean(found.wrong_matched)))} % ({percent(float(low))} to {percent(float(high))}; "
        f"{len(found.wrong_matched)} sets, p {found.p_wrong:.3f}). " + carrier_text(found, "these images")
    )


def carrier_text(found: Carriers, on: str = "") -> str:
    """What ablation does, in words. `on`: what the shares were measured on."""
    on = on or f"{found.images:,} pairs of another image and a text"
    low, high = np.percentile(found.matched, (2.5, 97.5))
    return (
        f"On {on} {percent(found.clean)} % of the answers are right without the text and "
        f"{percent(found.attacked)} % with it. With these neurons ablated {percent(found.ablated)} % are right with "
        f"the text, and {percent(found.clean_ablated)} % without it. Matched neurons give "
        f"{percent(float(np.mean(found.matched)))} % ({percent(float(low))} to {percent(float(high))}); "
        f"{len(found.matched)} sets, p {found.p:.3f}."
    )


def _most_said(study: StroopStudy, ink: int, word: int) -> Record:
    """The ink that the model says most for one word in one ink, over the fonts."""
    kinds = ("neutral",) if word < 0 else ("congruent", "incongruent")
    here = [i for i, kind in enumerate(study.subset) if kind in kinds and (study.ink[i], study.word[i]) == (ink, word)]
    if not here:
        return {"said": "–", "right": False}
    most = int(np.bincount(study.said[here]).argmax())
    return {"said": study.inks[most], "right": most == ink}


def _webp(pixels: UInt8[np.ndarray, "s s 3"]) -> bytes:
    written = BytesIO()
    Image.fromarray(pixels).save(written, "WebP", quality=85)
    return written.getvalue()
