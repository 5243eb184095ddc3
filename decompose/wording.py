"""Text feature visualisation: the wording that a neuron answers to most, by a hill climb over a tokenizer's words.

Goh et al. 2021 ("Multimodal Neurons") maximise a neuron's logit over texts by hill climbing under a language model's
penalty; neither moves nor model are published. Here moves are proposed by the gradient at the token embeddings, as in
HotFlip (Ebrahimi et al. 2018), and tried in earnest; the language model is one of bigrams (`decompose.fluency`): it
keeps rare words out, and words from standing where nobody puts them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
_FLUENCY_WEIGHT = 0.01  # cosine that a text has to win whose words are ten times less likely, each after the one before
_TRIED_WORDS = 8  # words tried at each place
_AGREEMENT = 0.5  # share of words, of all in either text, from which two restarts agree

WordNumbers = tuple[int, ...]  # numbers of words
_Gradient = Callable[
    [WordNumbers], Float[np.ndarray, "n v"]
]  # how much each word in each place would add, to first order
_Objective = Callable[[list[WordNumbers]], Float[np.ndarray, " t"]]


@dataclass(frozen=True)
class Lexicon:
    """The words that are one token each, and how one follows another."""

    words: np.ndarray
    tokens: Int[np.ndarray, " v"]
    bigrams: Bigrams

    @classmethod
    def of(cls, clip: Clip) -> "Lexicon":
        """The frequent English words among a model's tokens, but for those that its training left at zero."""
        if not isinstance(clip.tokenizer, SimpleTokenizer):
            raise Refused(
                f"{clip.name} has a {type(clip.tokenizer).__name__}: only CLIP's own tokenizer can be climbed"
            )
        number = clip.tokenizer.encoder
        known = [(word, number[f"{word}</w>"]) for word in vocabulary.english(RANKED_WORDS) if f"{word}</w>" in number]
        words, tokens = (np.array(each) for each in zip(*known, strict=True))
        alive = embedding_of(clip).weight.detach().cpu().float().numpy()[tokens].any(1)
        return cls(words[alive], tokens[alive], Bigrams(words[alive].tolist()))

    def spell(self, text: WordNumbers) -> str:
        """The text as it is read."""
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
    """Texts of at most `words` words that climb highest for a neuron or direction: text, score, fluency, agree, common.

    `score` is the cosine of the text's embedding with the neuron's basis row, `fluency` the mean log10 probability of
    its words, each after the one before; the climb maximises score + penalty * fluency, and rows are ordered by it.
    `agree` counts the restarts, of all, that ended on mostly the same words, itself included: 1 of 8 is luck, 8 of 8 a
    maximum worth the name. `common` are those of its words that half of the restarts or more ended on: what the neuron
    is about, where the words beside them are what each climb happened upon.

    Raises Refused for a neuron out of range or without effect on the embedding, several directions, and models with
    another tokenizer than CLIP's.
    """
    if min(words, restarts) < 1:
        raise Refused(f"words={words}, restarts={restarts}: ask for at least one of each")
    lexicon, aim = Lexicon.of(clip), basis_row(clip, neuron)
    if not aim.any():
        raise Refused("the neuron adds nothing to the embedding, so that no text is better for it than another")
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
    """The text where no move tried is better: steepest ascent by replacing, inserting or leaving out one word."""
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
    """Texts one move away: the words of most gain put in each place or before it, or a word left out; none twice."""
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
    """What each word of the lexicon would add to the text's cosine with `aim` in each place, to first order.

    Up to a constant a place: what the word that stands there gives is not taken off.
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
    """CLIP's own tokenizer; Refused for a model that has another."""
    tokenizer: Any = clip.tokenizer
    if not isinstance(tokenizer, SimpleTokenizer):
        raise Refused(f"{clip.name} has a {type(tokenizer).__name__}: only CLIP's own tokenizer can be climbed over")
    return tokenizer


def embedding_of(clip: Clip) -> nn.Embedding:
    """The text tower's table of token embeddings; Refused for a tower that has none by that name."""
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
