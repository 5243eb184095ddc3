"""Text feature visualisation: texts optimised for a neuron, by a hill climb over the words of the tokenizer.

Goh et al. 2021 ("Multimodal Neurons") maximise a neuron's logit over texts by hill climbing with a language model as
penalty; neither the moves nor the language model are published. Here the gradient at the token embeddings proposes
moves, as in HotFlip (Ebrahimi et al. 2018), and each proposed text is evaluated. The language model is a bigram model
(`decompose.fluency`), which penalises rare words and unusual word order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn.functional import normalize

from atlas.analysis.significance import RANKED_WORDS
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.model.directions import Directions
from atlas.sources import vocabulary
from decompose.fluency import Bigrams
from decompose.lookup import basis_row

_LONGEST_WORDING, _RESTARTS, _CLIMB_STEPS = 4, 8, 40
_FLUENCY_WEIGHT = 0.01  # cosine that a text must gain to make up for words that are ten times less probable
_TRIED_WORDS = 8  # words proposed for each place
_AGREEMENT = 0.5  # Jaccard index of the words from which two restarts agree

WordNumbers = tuple[int, ...]  # numbers of words
_Gradient = Callable[
    [WordNumbers], Float[np.ndarray, "n v"]
]  # how much each word in each place would add, to first order
_Objective = Callable[[list[WordNumbers]], Float[np.ndarray, " t"]]


@lru_cache(maxsize=2)  # a second to count, and alike for every text of a model
def _bigrams(words: tuple[str, ...]) -> Bigrams:
    return Bigrams(words)


@dataclass(frozen=True)
class Lexicon:
    """The words of one token, and their bigram probabilities."""

    words: np.ndarray
    tokens: Int[np.ndarray, " v"]
    bigrams: Bigrams

    @classmethod
    def of(cls, clip: Clip) -> "Lexicon":
        """The frequent English words among a model's tokens, without those that training left at zero."""
        if not isinstance(clip.tokenizer, SimpleTokenizer):
            raise Refused(
                f"{clip.name} has a {type(clip.tokenizer).__name__}: only CLIP's own tokenizer can be climbed"
            )
        number = clip.tokenizer.encoder
        known = [
            (word, number[f"{word}</w>"]) for word in vocabulary.english_words(RANKED_WORDS) if f"{word}</w>" in number
        ]
        words, tokens = (np.array(each) for each in zip(*known, strict=True))
        alive = embedding_of(clip).weight.detach().cpu().float().numpy()[tokens].any(1)
        return cls(words[alive], tokens[alive], _bigrams(tuple(words[alive].tolist())))

    def spell(self, text: WordNumbers) -> str:
        """The text of word numbers, as a string."""
        return " ".join(self.words[list(text)])


def text_feature(
    clip: Clip,
    neuron: int | Directions,
    words: int = _LONGEST_WORDING,
    restarts: int = _RESTARTS,
    steps: int = _CLIMB_STEPS,
    penalty: float = _FLUENCY_WEIGHT,
    seed: int = 0,
) -> pa.Table:
    """Texts optimised for a neuron, or one direction: text, score, fluency, agree, common; best first, one row a text.

    `words`: words of a text, at most. `restarts`: climbs from random texts. `steps`: moves of a climb, at most.

    The climb maximises score + penalty * fluency. `score` is the cosine of the text's embedding with the basis row;
    `fluency` is the mean log10 probability of the words, each given the word before. `agree` is the number of restarts
    that ended on mostly the same words, this one included: a result of one restart alone is not reliable. `common` are
    the words of the text that at least half of the restarts found.

    Raises Refused for a neuron out of range or without effect on the embedding, for several directions, and for models
    with another tokenizer than CLIP's.
    """
    if min(words, restarts) < 1:
        raise Refused(f"words={words}, restarts={restarts}: ask for at least one of each")
    lexicon, aim = Lexicon.of(clip), basis_row(clip, neuron)
    if not aim.any():
        raise Refused("the neuron adds nothing to the embedding, so no text ranks above another")
    aim = aim / np.linalg.norm(aim)
    words = min(words, (tokenizer_of(clip).context_length or words + 2) - 2)
    random = np.random.default_rng(seed)

    def objective(texts: list[WordNumbers]) -> Float[np.ndarray, " t"]:
        cosine = clip.encode_texts([lexicon.spell(text) for text in texts]) @ aim
        return cosine + penalty * lexicon.bigrams.fluency(texts)

    def gradient(text: WordNumbers) -> Float[np.ndarray, "n v"]:
        return word_gradient(clip, lexicon, text, aim) + penalty * lexicon.bigrams.gains(text)

    starts = [tuple(random.choice(len(lexicon.words), words, replace=False).tolist()) for _ in range(restarts)]
    ends = [climb_text(start, objective, gradient, words, steps) for start in starts]
    return _table(lexicon, ends, objective(ends), penalty)


def climb_text(start: WordNumbers, objective: _Objective, gradient: _Gradient, longest: int, steps: int) -> WordNumbers:
    """A local maximum: steepest ascent from `start` by replacing, inserting or removing one word at a time."""
    text, height = start, objective([start])[0]
    for _ in range(steps):
        tried = neighbouring_texts(text, gradient(text), longest)
        heights = objective(tried) if tried else np.array([-np.inf])
        if heights.max() <= height + 1e-6:
            break
        text, height = tried[int(heights.argmax())], heights.max()
    return text


def neighbouring_texts(
    text: WordNumbers, gain: Float[np.ndarray, "n v"], longest: int, tries: int = _TRIED_WORDS
) -> list[WordNumbers]:
    """Texts one move away, without repeats: a word of most gain in or before each place, or a word removed."""
    found: list[WordNumbers] = []
    for place, gains in enumerate(gain):
        best = np.argpartition(-gains, min(tries, len(gains) - 1))[:tries].tolist()
        before, after = text[:place], text[place + 1 :]
        found += [(*before, word, *after) for word in best]
        if len(text) > 1:
            found.append((*before, *after))
        if len(text) < longest:
            found += [(*before, word, text[place], *after) for word in best]
            found += [(*before, text[place], word, *after) for word in best] * (place == len(text) - 1)
    return [other for other in dict.fromkeys(found) if len(set(other)) == len(other) and other != text]


def word_gradient(
    clip: Clip, lexicon: Lexicon, text: WordNumbers, aim: Float[np.ndarray, " e"]
) -> Float[np.ndarray, "n v"]:
    """The change of the text's cosine with `aim` for each word of the lexicon in each place, to first order.

    It is up to a constant a place: the contribution of the word that is there is not subtracted.
    """
    held: list[Tensor] = []

    def hold(_: nn.Module, __: object, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[0]

    module = embedding_of(clip)
    tokens = clip.tokenizer([lexicon.spell(text)]).to(clip.device)
    hook = module.register_forward_hook(hold)
    try:
        with torch.enable_grad():
            x = normalize(clip.model.encode_text(tokens).float(), dim=-1)
            (slope,) = torch.autograd.grad(x[0] @ torch.from_numpy(aim).to(x), held[0])
    finally:
        hook.remove()
    places = slope[0, 1 : len(text) + 1]  # after the token that starts a text
    return (places.float() @ module.weight[torch.from_numpy(lexicon.tokens)].float().T).detach().cpu().numpy()


def tokenizer_of(clip: Clip) -> SimpleTokenizer:
    """The model's tokenizer. Raises Refused unless it is CLIP's own."""
    tokenizer: object = clip.tokenizer
    if not isinstance(tokenizer, SimpleTokenizer):
        raise Refused(f"{clip.name} has a {type(tokenizer).__name__}: only CLIP's own tokenizer can be climbed over")
    return tokenizer


def embedding_of(clip: Clip) -> nn.Embedding:
    """The table of token embeddings of the text tower. Raises Refused for a tower without one."""
    for name, module in clip.model.named_modules():
        if name.rpartition(".")[2] == "token_embedding" and isinstance(module, nn.Embedding):
            return module
    raise Refused(f"{clip.name} has no table of token embeddings to climb over")


def _table(lexicon: Lexicon, ends: list[WordNumbers], heights: Float[np.ndarray, " t"], penalty: float) -> pa.Table:
    rows = []
    for text in dict.fromkeys(ends[i] for i in np.argsort(-heights, kind="stable")):
        fluency = float(lexicon.bigrams.fluency([text])[0])
        shares = [len({*text} & {*other}) / len({*text} | {*other}) for other in ends]
        agree = sum(share >= _AGREEMENT for share in shares)
        score = float(heights[ends.index(text)]) - penalty * fluency
        common = tuple(word for word in text if 2 * sum(word in other for other in ends) >= len(ends))
        row = {"text": lexicon.spell(text), "score": score, "fluency": fluency, "agree": agree}
        rows.append(row | {"common": lexicon.spell(common)})
    return pa.Table.from_pylist(rows)
