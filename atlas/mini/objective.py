"""The embedded CLIP in training: the model, its heads and its losses."""

from functools import cached_property
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas.mini import corpus
from atlas.mini.batches import INKS, Batch, Drawings, unseen_drawings, unseen_words
from atlas.mini.feelings import feelings_shown
from atlas.mini.losses import bag_of_words, both_ways, hoyer, relational, soft_cross_entropy
from atlas.mini.neurons import NeuronContrast, carried, shared
from atlas.mini.passes import begin, conclude, fast, normalise, say
from atlas.mini.texts import CaptionTexts, Sayings, encode, inks
from atlas.mini.words import HELD_OUT, SPELLING, Words, spelt
from atlas.model.layers import OpenClip

_HERE = Path(__file__).parent
SIZE = 96
HEARD, FELT, _SPELT = 32, 48, 128  # texts without a picture in a step: any, feelings, and words in two spellings
MORE = 1500  # common words in the bank, beside names and the reading list
NEURONS, SPARSE = 1.5, 0.02  # weights of the contrast of neurons and of their l1 norm


class Objective:
    """The model, its heads, and the losses of a batch; `evaluate` measures it on held-out pictures."""

    def __init__(self, drawings: list[corpus.Drawing], seed: int):
        torch.manual_seed(seed)
        self.drawings, self.words = Drawings(drawings, SIZE), Words.choose(drawings)
        open_clip.add_model_config(_HERE / "mini.json")
        self.model: OpenClip = open_clip.create_model("mini").to(memory_format=torch.channels_last)
        self.tokenizer = open_clip.get_tokenizer("mini")
        self.heads = nn.ModuleDict(
            {"words": nn.Linear(256, len(self.words.known)), "letters": nn.Linear(256, SPELLING)}
        )
        self.names = sorted({n for n in self.drawings.names if n in corpus.unicode_names()})
        self.still = 0  # first stages that are not trained
        self.neurons = NeuronContrast(self.model.visual.attnpool.v_proj.in_features)
        self.bank, self.bank_keys = torch.zeros(0, 256), np.array([], str)
        self.letters, self.letters_keys = torch.zeros(0, 256), np.array([], str)
        self.used = torch.zeros(49408, dtype=torch.bool)
        self.rng = np.random.default_rng(seed)
        self.sayings = Sayings(self.drawings, self.words, self.rng)
        self.drawings.feel(feelings_shown(self.drawings.named, encode))

    def tokens(self, texts: list[str]) -> Tensor:
        """Token ids; the tokens are marked as used, for the export."""
        tokens = self.tokenizer(texts)
        self.used[tokens.unique()] = True
        return tokens

    @torch.no_grad()
    def say(self, texts: list[str]) -> Tensor:
        """Normalised embeddings (n, d) of many texts, without gradients."""
        with fast():
            chunks = [say(self.model, self.tokens(texts[i : i + 512])).float() for i in range(0, len(texts), 512)]
        return functional.normalize(torch.cat(chunks), dim=1)

    def refresh_banks(self) -> None:
        """Embed the negatives beside those of the batch.

        For images: all names, the reading list and a sample of other words. For words: many words spelt out.
        """
        more = [self.words.more[i] for i in self.rng.choice(len(self.words.more), MORE, replace=False)]
        written = [*self.words.read, *more]
        self.bank_keys = np.array([*self.names, *written])
        self.bank = self.say([f"an emoji of {n}" for n in self.names] + [f"the word {w}" for w in written])
        self.letters_keys = np.array([*self.sayings.named, *more])
        self.letters = self.say([spelt(w) for w in self.letters_keys])

    def loss(self, batch: Batch, features: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the losses, and each of them; `features`, of the third stage, replace the pixels if given."""
        count, more, colours = len(batch.captions), self.sayings.draw(HEARD, FELT, _SPELT), inks(self.rng)
        with fast():
            visual = self.model.visual
            if features is None:
                features = begin(visual, normalise(batch.pixels), self.still)
            raw_image, neurons = conclude(visual, features)
            raw_text = say(self.model, self.tokens([*batch.captions, *more.texts, *colours]))
        neurons = neurons.float()
        image, text = (functional.normalize(raw.float(), dim=1) for raw in (raw_image, raw_text))
        heard, felt, word, letters, colour = text[count:].split([HEARD, FELT, _SPELT, _SPELT, len(colours)])
        scale = self.model.logit_scale.exp().clamp(max=100)
        same = shared(batch.keys)
        named = torch.from_numpy(np.isin(batch.keys, self.names).any(1))
        parts = {
            "contrast": self._contrast(scale * image, text[:count], same, batch.keys),
            "words": 0.4 * bag_of_words(self.heads["words"](raw_image.float()), batch.words),
            "neurons": NEURONS * self.neurons.loss(neurons[named], same[named][:, named], batch.written[named]),
            "sparse": SPARSE * hoyer(neurons[named]),
            "letters": self._letters(raw_image.float(), raw_text.float(), batch, more),
            "inks": 0.5 * functional.cross_entropy(scale * image @ colour.T, batch.inks, ignore_index=-1),
            "spelling": self._spelling(scale * word, letters, more.words),
            "meaning": relational(heard, more.meanings[0]) + relational(felt, more.meanings[1], 0.05),
        }
        return torch.stack(list(parts.values())).sum(), parts

    def _contrast(self, image: Tensor, text: Tensor, same: Tensor, keys: np.ndarray) -> Tensor:
        """CLIP's loss with scaled images; images are also contrasted with the bank."""
        pairs, positive = image @ text.T, torch.cat([same, carried(keys, self.bank_keys)], 1)
        over_all = soft_cross_entropy(torch.cat([pairs, image @ self.bank.T], 1), positive)
        return (over_all + soft_cross_entropy(pairs.T, same)) / 2

    def _spelling(self, word: Tensor, letters: Tensor, words: np.ndarray) -> Tensor:
        """Contrast of scaled words with words spelt out: those of the batch, and the bank."""
        own = torch.from_numpy(words[:, None] == words).float()
        banked = torch.from_numpy(words[:, None] == self.letters_keys).float()
        within, beyond = word @ letters.T, word @ self.letters.T
        over_all = soft_cross_entropy(torch.cat([within, beyond], 1), torch.cat([own, banked], 1))
        return over_all + 0.25 * both_ways(within, own)

    def _letters(self, image: Tensor, text: Tensor, batch: Batch, more: CaptionTexts) -> Tensor:
        """Loss of the letters of rendered words, by image and by caption, and of words without a picture."""
        lettered = batch.lettered.nonzero()[:, 0]
        letters, head = batch.letters[lettered], self.heads["letters"]
        said = head(torch.cat([text[lettered], text[-2 * _SPELT - len(INKS) : -len(INKS)]]))
        loss = functional.binary_cross_entropy_with_logits
        return 10 * loss(head(image[lettered]), letters) + 3 * loss(
            said, torch.cat([letters, more.letters, more.letters])
        )

    @cached_property
    def unseen(self) -> tuple[tuple[Tensor, list[str]], ...]:
        """Held-out pictures for the curve: words and held-out words in unseen fonts, drawings in unseen styles."""
        return (
            unseen_words(self.words.read, 400, SIZE),
            unseen_words(sorted(HELD_OUT), 300, SIZE),
            unseen_drawings(800, SIZE),
        )

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Reading of rendered and of held-out words in unseen fonts, and naming in unseen styles."""
        self.model.eval()
        among = np.array([*self.words.read, *sorted(HELD_OUT)])
        words, names = self.say([f"the word {w}" for w in among]), self.say([f"an emoji of {n}" for n in self.names])
        read, held, drawn = (
            (functional.normalize(self.model.encode_image(normalise(pixels)), dim=1), np.array(truth))
            for pixels, truth in self.unseen
        )
        best = (drawn[0] @ names.T).topk(5, 1).indices.numpy()
        hits = np.array(self.names)[best] == drawn[1][:, None]
        return {
            "read": float((among[(read[0] @ words.T).argmax(1).numpy()] == read[1]).mean()),
            "held_out": float((among[(held[0] @ words.T).argmax(1).numpy()] == held[1]).mean()),
            "top1": float(hits[:, 0].mean()),
            "top5": float(hits.any(1).mean()),
        }
