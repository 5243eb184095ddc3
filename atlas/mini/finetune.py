"""The last part of the embedded CLIP's training: `python -m atlas.mini.train` ends with it, `--start FILE` begins here.

Only the last stage and the attention pool go on; the text tower stands still. Beside the contrast of embeddings with
all names and words, the mean rectified activations must tell names apart: every name has one neuron, a neuron at most
two names, so that drawings of a concept and its rendered name can only agree by raising the same neuron. What a neuron
writes must tell them apart too: of all basis rows, its own is nearest to its name's text. Which neuron is whose follows
from what the model does already (linear assignment). So concepts are set on single neurons, as in a concept bottleneck
(Koh et al., ICML 2020); how far they answer to unseen styles and fonts is what `evaluate` measures.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from atlas.errors import Refused
from atlas.mini.batches import Batch
from atlas.mini.losses import both_ways, centred, soft_cross_entropy
from atlas.mini.passes import begin, conclude, fast, normalise, written

RATE, WARM = 1e-3, 40  # the learning rate, and the steps it takes to get there
TEMPERATURE = 0.07  # of the softmax over neurons
LIGHT = 0.3  # what that counts in the second half of the time: naming, which it cost, comes back then
SHARED = 2  # names a neuron, at most
KEPT, REPLAYED = 320, 3  # chunks of pictures whose features are kept, and how many of them join each new one


class Chunk(NamedTuple):
    """A few pictures as the third stage leaves them (n, channels, h, w), and their concepts (n, 2)."""

    features: Tensor
    keys: np.ndarray


class Finetuning:
    """A trained model whose last stage goes on for `seconds`, against a bank of text embeddings (m, d) with `keys`."""

    def __init__(self, model: Any, bank: Tensor, keys: np.ndarray, names: np.ndarray, run: Path, seconds: float):
        self.model, self.bank, self.keys, self.names, self.budget = model, bank, keys, names, seconds
        self.checkpoint = run / "finetune.pt"
        self.elapsed, self.step, self.curve = 0.0, 0, list[dict[str, float]]()
        self.stage, self.trained = model.visual.layer4, [*model.visual.layer4.parameters()]
        self.trained += model.visual.attnpool.parameters()
        self.optimiser = torch.optim.AdamW(self.trained, lr=RATE, betas=(0.9, 0.98), weight_decay=0.05)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda _: self.pace())
        self.rng, self.kept = np.random.default_rng(0), deque[Chunk](maxlen=KEPT)
        own = torch.from_numpy(names[:, None] == keys).float()
        self.called = functional.normalize(centred(own @ bank), dim=1)
        self.home = torch.zeros(len(names), model.visual.attnpool.v_proj.in_features)

    def pace(self) -> float:
        """Share of the learning rate: warm-up, and down in a straight line to nothing."""
        return min(1.0, (self.step + 1) / WARM) * max(1e-3, 1 - self.elapsed / self.budget)

    @torch.no_grad()
    def look(self, batch: Batch) -> Chunk:
        """New pictures, through the stages that stand still."""
        self.model.eval()
        with fast():
            return Chunk(begin(self.model.visual, normalise(batch.pixels)).half(), batch.keys)

    @torch.no_grad()
    def settle(self, batches: Iterator[Batch]) -> None:
        """Give every name its neuron, by the mean activations over as many pictures as are kept."""
        total, count = torch.zeros_like(self.home), torch.zeros(len(self.names), 1)
        for _ in range(KEPT):
            self.kept.append(self.look(next(batches)))
            activations = conclude(self.model.visual, _joined([self.kept[-1]]))[1]
            own = carried(self.kept[-1].keys, self.names)
            total += own.T @ functional.normalize(activations, dim=1)
            count += own.sum(0)[:, None]
        mean = torch.where(count > 0, total / count.clamp(min=1), total.sum(0) / count.sum())
        self.home = assign((mean - mean.mean(0)) / mean.std(0).clamp(min=1e-6))

    def update(self, new: Chunk) -> dict[str, float]:
        """One step on new pictures and some earlier ones, whose features need not be computed again."""
        chunks = [new, *(self.kept[i] for i in self.rng.permutation(len(self.kept))[:REPLAYED])]
        self.kept.append(new)
        self.stage.train()
        parts = self.loss(_joined(chunks), np.concatenate([chunk.keys for chunk in chunks]))
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.schedule.step()
        return {name: part.item() for name, part in parts.items()}

    def loss(self, features: Tensor, keys: np.ndarray) -> dict[str, Tensor]:
        """Contrast of embeddings with the bank, of a picture's neurons with one another, of basis rows with names."""
        with fast():
            embedding, activations = (part.float() for part in conclude(self.model.visual, features))
        scale = self.model.logit_scale.exp().clamp(max=100).detach()
        similar = scale * functional.normalize(embedding, dim=1) @ self.bank.T
        own = (carried(keys, self.names) @ self.home).clamp(max=1)
        basis = functional.normalize(written(self.model.visual), dim=1)
        weight = 1.0 if self.elapsed < self.budget / 2 else LIGHT
        return {
            "contrast": both_ways(similar, carried(keys, self.keys)),
            "neurons": weight * soft_cross_entropy(functional.normalize(activations, dim=1) / TEMPERATURE, own),
            "basis": weight * both_ways(self.called @ basis.T / TEMPERATURE, self.home),
        }

    def save(self) -> None:
        """Write the checkpoint."""
        state = {
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "home": self.home,
            "elapsed": self.elapsed, "step": self.step, "curve": self.curve,
        }  # fmt: skip
        write_checkpoint(state, self.checkpoint)

    def resume(self) -> bool:
        """Take up the checkpoint; False where there is none, or it is of another model: what stands still differs."""
        if not self.checkpoint.exists():
            return False
        with checkpoint(self.checkpoint) as state:
            own, taught = self.model.state_dict(), ("visual.layer4.", "visual.attnpool.")
            if not all(torch.equal(own[n], v) for n, v in state["model"].items() if not n.startswith(taught)):
                return False
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.elapsed, self.step, self.curve, self.home = (state[k] for k in ("elapsed", "step", "curve", "home"))
        return True


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write aside, then rename: a kill leaves the last one whole."""
    aside = path.with_suffix(".partial")
    try:
        torch.save(state, aside)
        aside.replace(path)
    except (OSError, RuntimeError) as error:  # torch tells of a full disk by a RuntimeError
        raise Refused(f"cannot write {aside}: {str(error).splitlines()[0]}; the last {path.name} is whole") from None


@contextmanager
def checkpoint(path: Path) -> Iterator[dict[str, Any]]:
    """What a checkpoint holds, to be taken up; Refused, with what to do, where that cannot be."""
    try:
        yield torch.load(path, weights_only=True)
    except Exception as error:  # a damaged file fails in any way, one of another corpus by what does not fit
        raise Refused(
            f"{path} is damaged, or of another corpus or recipe ({type(error).__name__}): "
            "delete it to begin anew, or give another --run"
        ) from error


def _joined(chunks: list[Chunk]) -> Tensor:
    features = torch.cat([chunk.features for chunk in chunks]).float()
    return features.contiguous(memory_format=torch.channels_last)


def assign(likeness: Tensor) -> Tensor:
    """Which neuron is whose, float (c, u) of one 1 a row and at most SHARED a column: the largest sum of (c, u)."""
    rows, places = linear_sum_assignment(likeness.tile(1, SHARED).numpy(), maximize=True)
    home = torch.zeros_like(likeness)
    home[rows, places % likeness.shape[1]] = 1
    return home


def carried(keys: np.ndarray, concepts: np.ndarray) -> Tensor:
    """Which of the concepts (m,) a picture's one or two keys (n, 2) name: float (n, m)."""
    return torch.from_numpy((keys[:, :1] == concepts) | (keys[:, 1:] == concepts)).float()
