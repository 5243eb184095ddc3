"""Words of other languages beside English ones: names of emoji, as the package emoji carries them (Unicode CLDR)."""

from collections.abc import Collection
from importlib import import_module

import numpy as np

LANGUAGES = {"de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese"}
MOST_PAIRS = 120  # of a language


def foreign_words(known: Collection[str], seed: int = 0) -> dict[str, list[tuple[str, str]]]:
    """Pairs (English, foreign) by language: single words in Latin letters, at most MOST_PAIRS drawn at random.

    Only English words among `known` count, and foreign words that are not. Empty without the package emoji.
    """
    try:
        package = import_module("emoji")
    except ImportError:
        return {}
    rng, own, found = np.random.default_rng(seed), set(known), {}
    for code, name in LANGUAGES.items():
        package.config.load_language(code)
        pairs = {}
        for entry in package.EMOJI_DATA.values():
            english, foreign = (entry.get(each, "").strip(":").replace("_", " ").lower() for each in ("en", code))
            if english in own and foreign not in own and foreign.isalpha() and english.isalpha():
                pairs.setdefault(english, foreign)
        listed = sorted(pairs.items())
        found[name] = [listed[i] for i in sorted(rng.permutation(len(listed))[:MOST_PAIRS].tolist())]
    return {name: pairs for name, pairs in found.items() if pairs}
