"""Measure the embedded CLIP on styles, fonts and words that it never saw: `python -m atlas.mini.evaluate`.

Names are prompted "an emoji of {name}", words "the word {word}". Shares have a 95 % interval over names, words,
countries or classes. The figures are printed and written beside the weights as evidence.json, from which `card` makes
the model card.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from atlas.console import answer
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.mini import corpus, packages, words
from atlas.mini.confusions import attack_figures, stroop_figures
from atlas.mini.emergence import count, matched, multimodal_figures
from atlas.mini.intervals import share
from atlas.mini.unseen import SEEN_FONTS, UNSEEN, embed, held_out_drawings, nearest_name
from atlas.model.clip import Clip
from atlas.sources import vocabulary, word_images

_HERE = Path(__file__).parent
LENGTHS = {"3 to 5 letters": range(3, 6), "6 to 8 letters": range(6, 9), "9 letters or more": range(9, 20)}
PSEUDO = 200  # pseudo-words that reading is tested on
_FACES = {  # emoji whose family on the feeling wheel is not in doubt
    "fearful": ("fearful face", "anxious face with sweat", "face screaming in fear", "worried face"),
    "angry": ("angry face", "enraged face", "face with steam from nose", "face with symbols on mouth"),
    "disgusted": ("nauseated face", "face vomiting"),
    "sad": ("crying face", "loudly crying face", "disappointed face", "pensive face", "frowning face"),
    "happy": (
        "grinning face", "beaming face with smiling eyes", "smiling face with hearts", "smiling face",
        "smiling face with heart-eyes", "partying face",
    ),
    "surprised": ("astonished face", "hushed face", "exploding head", "face with open mouth"),
    "bad": ("sleeping face", "sleepy face", "tired face", "weary face", "yawning face"),
}  # fmt: skip


def naming_figures(clip: Clip) -> Record:
    """Zero-shot names of drawings in unseen styles among all emoji names: top-1 and top-5, by style and over all."""
    names = np.array(vocabulary.emoji_names())
    T = clip.encode_texts([f"an emoji of {name}" for name in names])
    figures, all_hits, labels = {}, [], []
    for vendor in UNSEEN:
        items = held_out_drawings((vendor,))
        E = embed(clip, items)
        own = [item.label for item in items]
        hits = names[np.argsort(-(E @ T.T), 1)[:, :5]] == np.array(own)[:, None]
        figures[vendor] = {"top1": share(hits[:, 0], own), "top5": share(hits.any(1), own)}
        all_hits.append(hits)
        labels += own
    hits = np.concatenate(all_hits)
    figures["all"] = {"top1": share(hits[:, 0], labels), "top5": share(hits.any(1), labels)}
    return {"names": len(names), **figures}


def reading(clip: Clip, sample: int = 1000) -> Record:
    """Words rendered in unseen fonts, found among all words: words rendered in training, and words that never were.

    Held-out words are counted by kind and by length. Pseudo-words, which mean nothing, are found among themselves.
    """
    known = words.reading_list()
    among = [*known, *sorted(words.HELD_OUT)]
    rng = np.random.default_rng(5)
    picked = [known[i] for i in rng.choice(len(known), sample, replace=False)]
    each = list(zip(picked, rng.choice(packages.HELD_OUT_FONTS, sample), strict=True))
    figures: Record = {"words": len(among), "seen": share(_read(clip, each, among))}
    each = [(word, font) for word in sorted(words.HELD_OUT) for font in packages.HELD_OUT_FONTS]
    hits, truth = _read(clip, each, among), np.array([word for word, _ in each])
    for name in ("nouns", "countries", "feelings"):
        of_kind = np.isin(truth, getattr(words, f"HELD_OUT_{name.upper()}"))
        figures[f"held-out {name}"] = share(hits[of_kind], truth[of_kind])
    for name, lengths in LENGTHS.items():
        as_long = np.array([len(word) in lengths for word in truth])
        figures[f"held-out, {name}"] = share(hits[as_long], truth[as_long])
    made_up = sorted({words.pseudo_word(rng) for _ in range(PSEUDO)})
    each = [(word, font) for word in made_up for font in packages.HELD_OUT_FONTS[::3]]
    figures["pseudo-words"] = share(_read(clip, each, made_up), [word for word, _ in each])
    return figures


def _read(clip: Clip, each: list[tuple[str, str]], among: list[str]) -> np.ndarray:
    """Whether each word, rendered in a font, is the nearest of all texts "the word ..."."""
    T = clip.encode_texts([f"the word {word}" for word in among])
    pages = [word_images.render_word(word, str(font), 40) for word, font in each]
    return nearest_name(clip, pages, T, among) == np.array([word for word, _ in each])


def feeling_figures(clip: Clip) -> Record:
    """The wheel's families in its words' text embeddings, and families of faces in unseen styles, zero-shot."""
    family = vocabulary.emotion_families()
    hubs = list(dict.fromkeys(family.values()))
    truth = [hubs.index(family[word]) for word in family]
    T = clip.encode_texts([f"feeling {word}" for word in family])
    found = KMeans(len(hubs), n_init="auto", random_state=0).fit_predict(T)
    rng = np.random.default_rng(0)
    chance = [normalized_mutual_info_score(truth, rng.permutation(found)) for _ in range(1000)]
    nmi = normalized_mutual_info_score(truth, found)
    T = clip.encode_texts([f"an emoji of {word}" for word in family])
    of_hub = np.array([[family[word] == hub for word in family] for hub in hubs])
    own = {name: hub for hub, names in _FACES.items() for name in names}
    items = [item for item in held_out_drawings(UNSEEN) if item.label in own]
    similarity = embed(clip, items) @ T.T
    best = np.stack([np.sort(similarity[:, mine], 1)[:, -5:].mean(1) for mine in of_hub], 1).argmax(1)
    return {
        "nmi": nmi,
        "nmi_p": (1 + sum(c >= nmi for c in chance)) / (1 + len(chance)),
        "nmi_by_chance": float(np.mean(chance)),
        "ari": adjusted_rand_score(truth, found),
        "faces": share(
            [hubs[b] == own[item.label] for b, item in zip(best, items, strict=True)], [item.label for item in items]
        ),
    }


def region_figures(clip: Clip) -> Record:
    """Flag to country and back, by text and by rendered name, among all flags of each unseen style."""
    to_country, by_text, by_word, countries = [], [], [], []
    for vendor in UNSEEN:
        items = [item for item in held_out_drawings((vendor,)) if item.label in corpus.flags()]
        if len(items) < 190:
            continue
        own = np.arange(len(items))
        E = embed(clip, items)
        T = clip.encode_texts([f"the flag of {item.label}" for item in items])
        W = clip.encode_images([word_images.render_word(item.label, "open-sans", 40) for item in items])
        to_country.append((E @ T.T).argmax(1) == own)
        by_text.append((T @ E.T).argmax(1) == own)
        by_word.append((W @ E.T).argmax(1) == own)
        countries += [item.label for item in items]
    return {
        "styles": len(to_country),
        "flag to country": share(np.concatenate(to_country), countries),
        "country to flag": share(np.concatenate(by_text), countries),
        "rendered country to flag": share(np.concatenate(by_word), countries),
    }


def speed(clip: Clip) -> dict[str, float]:
    """Seconds to load after imports, and images embedded per second on two threads: 20 runs of 512 images.

    The slowest and the fastest run are far apart where other programs use the processor.
    """
    began = time.perf_counter()
    Clip("mini")
    load = time.perf_counter() - began
    pixels = np.random.default_rng(0).integers(0, 256, (512, 96, 96, 3), np.uint8)
    runs = []
    for _ in range(20):
        began = time.perf_counter()
        clip.encode_images(pixels)
        runs.append(len(pixels) / (time.perf_counter() - began))
    return {
        "load_seconds": load,
        "images_per_second": float(np.median(runs)),
        "slowest": min(runs),
        "fastest": max(runs),
    }


def report(name: str, value: object, indent: int = 0) -> None:
    """Print a figure, or a group of figures below its name."""
    margin = "  " * indent
    if isinstance(value, dict) and {"share", "low", "high", "n"} <= set(value):
        figure = "{share:6.1%}  ({low:.1%} to {high:.1%}, n = {n} of {things})".format(**value)
        print(f"{margin}{name:32} {figure}")
    elif isinstance(value, dict):
        print(f"{margin}{name}")
        for key, inner in value.items():
            report(key, inner, indent + 1)
    elif name == "examples" and isinstance(value, list):
        for pair in value[:20]:
            evidence = "drawn {drawn:.3f}  written {written:.3f}  p {p:.1e}".format(**pair)
            print(f"{margin}{pair['concept']:16} neuron {pair['neuron']:4}  {evidence}")
    else:
        print(f"{margin}{name:32} {value:.4g}" if isinstance(value, float) else f"{margin}{name:32} {value}")


def measure(weights: Path, out: Path, earlier: Sequence[Path] = (), second: Path | None = None) -> Record:
    """Measure everything, print each part as it is done, and write all as JSON.

    Multimodal neurons of `earlier` weights are counted too; the neurons of `second`, another seed, are matched.
    """
    for family in (*packages.HELD_OUT_FONTS, *SEEN_FONTS):
        word_images.check_font(family)
    clip = Clip("mini", pretrained=weights)
    torch.set_num_threads(2)
    figures: Record = {}
    measures = {
        "naming": naming_figures,
        "reading": reading,
        "neurons": multimodal_figures,
        "feelings": feeling_figures,
        "regions": region_figures,
        "attack": attack_figures,
        "stroop": stroop_figures,
        "speed": speed,
    }
    for name, function in measures.items():
        figures[name] = function(clip)
        report(name, figures[name])
        sys.stdout.flush()
    figures["neurons"]["earlier"] = {path.stem: count(Clip("mini", pretrained=path)) for path in earlier}
    if second:
        figures["second seed"] = matched(clip, Clip("mini", pretrained=second))
        report("second seed", figures["second seed"])
    try:
        out.write_text(json.dumps(figures, indent=1), "utf-8")
    except OSError as error:
        raise Refused(f"cannot write {out}: {error.strerror}") from None
    return figures


def run(args: argparse.Namespace) -> int:
    """Measure, and print where the figures are."""
    out = args.out or args.weights.with_name("evidence.json")
    measure(args.weights, out, args.earlier, args.second)
    print(out)
    return 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=_HERE / "mini.safetensors")
    parser.add_argument("--earlier", type=Path, action="append", default=[], help="weights whose neurons are counted")
    parser.add_argument("--second", type=Path, help="weights of another seed, whose neurons are matched")
    parser.add_argument("--out", type=Path, help="file for the figures (evidence.json beside the weights)")
    parser.set_defaults(function=run)
    return answer("evaluate", lambda: (args := parser.parse_args()).function(args))


if __name__ == "__main__":
    sys.exit(main())
