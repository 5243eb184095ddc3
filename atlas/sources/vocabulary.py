"""Word lists: frequent English words, countries, emotions, names of emoji, and subjects of pictures.

Each list is a tuple in a fixed order without repetitions. English words come from wordfreq, countries from pycountry
(ISO 3166-1), names of emoji from the package emoji (Unicode CLDR). Emotions and subjects are written out below.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from types import ModuleType

from atlas.errors import Refused
from atlas.formatting import Record

# Gloria Willcox, "The Feeling Wheel", Transactional Analysis Journal 12(4), 1982, in the drawing that "Multimodal
# Neurons in Artificial Neural Networks" (Goh et al., Distill 2021, CC-BY 4.0) decomposes: 130 entries, 126 different.
EMOTIONS = (
    "fearful", "scared", "helpless", "frightened", "anxious", "overwhelmed", "worried", "insecure", "inadequate",
    "inferior", "weak", "worthless", "insignificant", "rejected", "excluded", "persecuted", "threatened", "nervous",
    "exposed", "angry", "let down", "betrayed", "resentful", "humiliated", "disrespected", "ridiculed", "bitter",
    "indignant", "violated", "mad", "furious", "jealous", "aggressive", "provoked", "hostile", "frustrated",
    "infuriated", "annoyed", "distant", "withdrawn", "numb", "critical", "skeptical", "dismissive", "disgusted",
    "disapproving", "judgmental", "embarrassed", "disappointed", "appalled", "revolted", "awful", "nauseated",
    "detestable", "repelled", "horrified", "hesitant", "sad", "hurt", "depressed", "empty", "guilty", "remorseful",
    "ashamed", "despair", "powerless", "grief", "vulnerable", "fragile", "victimized", "lonely", "abandoned",
    "isolated", "happy", "optimistic", "inspired", "hopeful", "trusting", "intimate", "sensitive", "peaceful",
    "thankful", "loving", "powerful", "creative", "courageous", "accepted", "valued", "respected", "proud",
    "confident", "successful", "interested", "inquisitive", "curious", "content", "joyful", "free", "playful",
    "cheeky", "aroused", "surprised", "excited", "energetic", "eager", "amazed", "awe", "astonished", "confused",
    "perplexed", "disillusioned", "startled", "dismayed", "shocked", "bad", "tired", "unfocused", "sleepy",
    "stressed", "out of control", "busy", "rushed", "pressured", "bored", "apathetic", "indifferent",
)  # fmt: skip
# General subjects of pictures.
SUBJECTS = (
    "animal", "dog", "cat", "horse", "bird", "fish", "insect", "reptile", "wild animal", "farm animal",
    "flower", "tree", "plant", "garden", "fruit", "vegetable", "food", "dessert", "bread", "meal", "drink", "bottle",
    "person", "man", "woman", "child", "baby", "family", "crowd", "portrait", "face", "hair", "hand", "body",
    "smile", "wedding", "party", "dance", "concert", "sport", "ball game", "swimming", "work", "school",
    "vehicle", "car", "train", "bus", "ship", "boat", "airplane", "bicycle", "motorcycle", "road",
    "building", "house", "church", "castle", "bridge", "tower", "city", "street", "shop", "room", "kitchen", "bedroom",
    "office", "furniture", "window", "door", "landscape", "mountain", "beach", "sea", "river", "lake", "waterfall",
    "forest", "field", "desert", "sky", "cloud", "sunset", "night", "moon", "star", "snow", "rain", "fire",
    "clothes", "shoe", "hat", "bag", "jewellery", "uniform", "tool", "weapon", "machine", "musical instrument", "toy",
    "game", "ball", "money", "box", "lamp", "book", "newspaper", "text", "handwriting", "letter", "number", "sign",
    "symbol", "logo", "arrow", "button", "flag of a country", "map", "chart", "diagram", "clock", "computer",
    "screenshot", "phone", "camera", "medicine", "drawing", "painting", "cartoon", "sculpture", "pattern", "texture",
    "circle", "square", "heart",
)  # fmt: skip
# Coarse words that frequent English words and aliases of emoji contain; the built-in sources leave them out.
_COARSE = frozenset((
    "arse", "ass", "asshole", "bastard", "bitch", "bitches", "bullshit", "cock", "crap", "cunt", "damn", "dick",
    "fuck", "fucked", "fucker", "fuckin", "fucking", "fucks", "goddamn", "hankey", "nigga", "nigger", "piss", "pissed",
    "porn", "pussy", "retard", "shit", "shitty", "slut", "tits", "whore",
))  # fmt: skip
_PICTOGRAPHS = (range(0x1F300, 0x1F650), range(0x1F680, 0x1F700), range(0x1F900, 0x1FB00))  # Unicode blocks
_WORD = re.compile(r"[^\W\d_]{2,}(?:['’][^\W\d_]+)?")


def english_words(top: int = 1000) -> tuple[str, ...]:
    """The `top` most frequent English words, most frequent first; words of plain letters only."""
    plain = re.compile(r"[a-z]{2,}|a|i")
    ranked = _package("wordfreq").top_n_list("en", 2 * top + 100)
    return tuple([word for word in ranked if plain.fullmatch(word)][:top])


def without_coarse(words: Iterable[str]) -> tuple[str, ...]:
    """The words that are fit for any screen."""
    return tuple(word for word in words if word.lower() not in _COARSE)


def country_names() -> tuple[str, ...]:
    """Common names of countries and territories, in the order of their three-letter ISO codes."""
    return tuple(_plain_country(getattr(c, "common_name", c.name)) for c in _package("pycountry").countries)


def _plain_country(name: str) -> str:
    """ "Virgin Islands, British" -> "British Virgin Islands"; text in brackets is removed."""
    name = re.sub(r" \(.*?\)", "", name)
    turned = re.fullmatch(r"([^,]+), ((?:The )?[^,]*(?: of(?: the)?|British|U\.S\.))", name)
    return f"{turned[2].removeprefix('The ')} {turned[1]}" if turned else name


def emotion_words() -> tuple[str, ...]:
    """The 126 words of the feeling wheel."""
    return EMOTIONS


def emotion_families() -> dict[str, str]:
    """{emotion: family}: the family is one of the seven words at the hub; a word in two families gets the first."""
    hubs = ("fearful", "angry", "disgusted", "sad", "happy", "surprised", "bad")
    family, families = hubs[0], {}
    for word in EMOTIONS:
        family = word if word in hubs else family
        families[word] = family
    return families


def emoji_name(sequence: str) -> str | None:
    """English name of an emoji sequence in lower-case words, or None if Unicode has no name for it."""
    entry = _emoji(sequence)
    return entry["en"].strip(":").replace("_", " ").lower() if entry else None


def emoji_aliases(sequence: str) -> tuple[str, ...]:
    """Further names of an emoji, in plain words, that add to its name ("joy", but not "flag for Italy")."""
    name = set(_WORD.findall(emoji_name(sequence) or ""))
    plain = (alias.strip(":").replace("_", " ").lower() for alias in (_emoji(sequence) or {}).get("alias", ()))
    new = (alias for alias in plain if re.fullmatch(r"\D{3,}", alias) and not alias.startswith("flag for "))
    return tuple(dict.fromkeys(alias for alias in new if {*_WORD.findall(alias)} - name and not _same(alias, name)))


def _same(alias: str, name: set[str]) -> bool:
    """Whether the alias is the name without spaces ("thumbsup")."""
    letters = re.sub(r"\W", "", alias)
    return sorted(letters) == sorted("".join(name))


def emoji_names(skin: bool = False) -> tuple[str, ...]:
    """Names of all emoji in alphabetical order; with `skin` also of those with a skin tone."""
    return tuple(sorted(name for name in _aliases() if skin or "skin tone" not in name))


def emoji_phrases() -> tuple[str, ...]:
    """Names and aliases of all emoji without a skin tone, in alphabetical order."""
    return tuple(sorted({*emoji_names(), *(alias for name in emoji_names() for alias in _aliases()[name])}))


def emoji_words() -> tuple[str, ...]:
    """Single words of two or more letters in the names and aliases of emoji, in alphabetical order."""
    return tuple(sorted({word for phrase in emoji_phrases() for word in _WORD.findall(phrase)}))


def pictograph_names() -> tuple[str, ...]:
    """Unicode names of pictographs, in alphabetical order; a substitute where the package emoji is not installed."""
    named = (unicodedata.name(chr(code), "").lower() for block in _PICTOGRAPHS for code in block)
    return tuple(sorted({name for name in named if name and "emoji modifier" not in name}))


def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 class names of ImageNet in open_clip's wording."""
    return tuple(dict.fromkeys(import_module("open_clip.zero_shot_metadata").IMAGENET_CLASSNAMES))


def picture_words() -> tuple[str, ...]:
    """Words for what pictures show, general subjects first: the built-in vocabulary of Stores without texts.

    Countries are included if pycountry is installed, and names and aliases of emoji if emoji is.
    """
    lists = [SUBJECTS, imagenet_classes(), EMOTIONS]
    for wanted, otherwise in ((country_names, tuple), (emoji_phrases, pictograph_names)):
        try:
            lists.append(wanted())
        except Refused:
            lists.append(otherwise())
    distinct: dict[str, str] = {}
    for text in without_coarse(text for each in lists for text in each):
        distinct.setdefault(text.lower(), text)
    return tuple(distinct.values())


@cache
def _aliases() -> dict[str, tuple[str, ...]]:
    """{name: aliases} of all fully qualified emoji and components."""
    package = _package("emoji")
    whole = package.STATUS["fully_qualified"], package.STATUS["component"]
    sequences = (sequence for sequence, entry in package.EMOJI_DATA.items() if entry["status"] in whole)
    return {emoji_name(sequence) or "": emoji_aliases(sequence) for sequence in sequences}


def _emoji(sequence: str) -> Record | None:
    data = _package("emoji").EMOJI_DATA
    return data.get(sequence) or data.get(sequence + "\ufe0f")  # some lists omit the variation selector


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise Refused(f'the word lists need {name}: pip install "multimodal-atlas[demo]"') from None
