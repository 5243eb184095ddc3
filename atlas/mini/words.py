"""The words of the embedded CLIP: which it reads, which it only hears of, which are held out, how they are spelt."""

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import wordfreq

from atlas.mini import corpus
from atlas.sources import vocabulary

# Never rendered in training, so that reading them is reading and not recognising. Their drawings and texts are seen.
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
LEVELS = (1, 2, 3, 4, 5)
SPELLING = 26 * sum(LEVELS)  # bits of `spelling`


@dataclass
class Words:
    """`read`: rendered often, and scored; `rare`: rendered now and then, for spelling; `known`: of names, scored."""

    read: list[str]
    rare: list[str]
    known: dict[str, int]

    @classmethod
    def choose(cls, drawings: list[corpus.Drawing], rare: int = 9000) -> "Words":
        """The reading list, other common words now and then, and to know the words of names and keywords."""
        read, names = set(reading_list()), {w for name in corpus.unicode_names() for w in parts(name)}
        keywords = {w for d in drawings for k in d.keywords for w in parts(k)}
        known = read | names | {w for w in keywords if wordfreq.zipf_frequency(w, "en") > 3.5}
        seldom = [w for w in plain(rare) if renderable(w) and w not in read]
        return cls(sorted(read), seldom, {word: i for i, word in enumerate(sorted(known))})


@cache
def reading_list(common: int = 700) -> tuple[str, ...]:
    """Words of emoji names that are in use, countries, feelings, and the commonest of English; none is held out."""
    names = {w for name in corpus.unicode_names() for w in parts(name) if wordfreq.zipf_frequency(w, "en") > 2.5}
    places = {w for name in corpus.flags() for w in parts(name)}
    return tuple(sorted(filter(renderable, names | places | set(plain(common)) | set(vocabulary.emotion_words()))))


@cache
def plain(count: int) -> tuple[str, ...]:
    """The `count` commonest English words of three to twelve plain letters."""
    return tuple([w for w in wordfreq.top_n_list("en", 3 * count) if re.fullmatch("[a-z]{3,12}", w)][:count])


def parts(text: str) -> list[str]:
    """The plain words of a name or keyword."""
    return re.findall("[a-z]{3,14}", text)


@cache
def renderable(text: str) -> bool:
    """May the text be drawn as letters: no word of it, nor its singular, nor a part that icons glue in, is held out."""
    words = re.findall("[a-z]+", text.lower())
    forms = {form for w in words for form in (w, w.removesuffix("s"), w.removesuffix("es"))}
    glued = [w for w in words if wordfreq.zipf_frequency(w, "en") == 0]  # "sliceofpizza"; "armchair" is a word
    return not forms & HELD_OUT and not any(held in w for w in glued for held in HELD_OUT)


@cache
def spelling(word: str) -> np.ndarray:
    """Which letters stand in the whole word, its halves, its thirds, ... its fifths: float32 (390,).

    The pyramidal histogram of characters of Almazan et al. (Word Spotting and Recognition with Embedded Attributes,
    TPAMI 2014): told from pixels and from text alike, it lets a word be read that was never seen.
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
