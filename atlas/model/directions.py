"""Directions of a layer: neurons, NMF components, latents of sparse autoencoders, mean differences, linear probes.

Directions can replace neuron numbers everywhere. A direction has two vectors over the layer's neurons, which may
differ: activations are read with one, and changes are written with the other.

    A (n, u) activations of u neurons    W (u, e) basis    D (k, u) dictionary
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from safetensors import safe_open
from safetensors.numpy import save_file

from atlas.arrays import accepts
from atlas.errors import Refused
from atlas.model.latents import LatentRule

_PARTS = ("read", "write", "bias")  # keys of a file of directions
_RULE = "rule."  # begins the keys of its autoencoder's rule


@dataclass(frozen=True)
class Directions:
    """k directions of a layer of u neurons, in single precision; a number, slice or list as index selects some.

    Raises Refused for arrays whose shapes do not fit, and for values that are not finite.
    """

    read: Float[np.ndarray, "k u"]  # activations are A @ read.T + bias
    write: Float[np.ndarray, "k u"]  # change of the layer's neurons for one unit of each direction
    names: tuple[str, ...]
    bias: Float[np.ndarray, " k"]
    rectified: bool = False  # whether activations end in a ReLU
    rule: LatentRule | None = None  # of the autoencoder whose latents some of the directions are
    latents: Int[np.ndarray, " k"] | None = None  # their numbers in the rule; -1: no latent of it

    def __post_init__(self) -> None:
        for part in _PARTS:  # models compute in single precision, which torch does not mix with double
            object.__setattr__(self, part, np.asarray(getattr(self, part), np.float32))
        k = len(self.names)
        shapes = self.read.shape, self.write.shape, self.bias.shape
        if len(shapes[0]) != 2 or shapes != ((k, shapes[0][1]), (k, shapes[0][1]), (k,)):
            raise Refused(f"{k} directions need read and write (k, u) and bias (k,), got {shapes}")
        if not all(np.isfinite(each).all() for each in (self.read, self.write, self.bias)):
            raise Refused("a direction holds values that are not finite; leave it out")

        if self.rule is not None:
            object.__setattr__(self, "latents", np.arange(k) if self.latents is None else np.asarray(self.latents))

    def __len__(self) -> int:
        return len(self.names)

    def __add__(self, other: "Directions") -> "Directions":
        """The directions of both, one after the other."""
        if (self.width, self.rectified) != (other.width, other.rectified):
            raise Refused("only directions of one layer, all rectified or none, can be joined")
        if self.rule is not None and other.rule is not None and self.rule is not other.rule:
            raise Refused("latents of two autoencoders with rules of their own cannot be joined")
        read, write, bias = (np.concatenate([getattr(self, part), getattr(other, part)]) for part in _PARTS)
        numbers = [np.full(len(each), -1) if each.latents is None else each.latents for each in (self, other)]
        rule = self.rule if self.rule is not None else other.rule
        return Directions(
            read, write, self.names + other.names, bias, self.rectified, rule, np.concatenate(numbers) if rule else None
        )

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray) -> "Directions":
        try:
            chosen = np.atleast_1d(np.arange(len(self))[which])
        except IndexError:
            raise Refused(f"direction {which} is out of range: there are {len(self)}, from 0") from None
        names = tuple(self.names[i] for i in chosen)
        latents = None if self.latents is None else self.latents[chosen]
        return Directions(
            self.read[chosen], self.write[chosen], names, self.bias[chosen], self.rectified, self.rule, latents
        )

    @property
    def width(self) -> int:
        """The number of neurons of the layer."""
        return self.read.shape[1]

    @accepts(A=2)
    def activations(self, A: Float[np.ndarray, "n u"]) -> Float[np.ndarray, "n k"]:
        """Activations (n, k) of the directions on the rows of A."""
        if self.rule is not None and self.latents is not None:
            ruled = self.latents >= 0
            if ruled.all():
                return self.rule.activations(A, self.latents)
            Z = A @ self.read.T + self.bias
            Z = np.maximum(Z, 0) if self.rectified else Z
            Z[:, ruled] = self.rule.activations(A, self.latents[ruled])
            return Z
        Z = A @ self.read.T + self.bias
        return np.maximum(Z, 0) if self.rectified else Z

    @accepts(W=2)
    def basis(self, W: Float[np.ndarray, "u e"]) -> Float[np.ndarray, "k e"]:
        """The change of the embedding for one unit of each direction: write @ W. Raises Refused if it is not finite."""
        if len(W) != self.width:
            raise Refused(f"the directions are of a layer of {self.width} neurons, the model's has {len(W)}")
        with np.errstate(over="ignore", invalid="ignore"):
            V = self.write @ W
        if not np.isfinite(V).all():
            raise Refused("a direction is so long that its basis row overflows; scale the directions down")
        return V

    @classmethod
    @accepts(ids="whole numbers")
    def neurons(cls, ids: Sequence[int] | Int[np.ndarray, " k"], u: int) -> "Directions":
        """Some neurons of a layer of u neurons, as directions."""
        ids = np.asarray(ids)
        if wrong := [int(i) for i in ids if not 0 <= i < u]:
            raise Refused(f"neuron {wrong[0]} is out of range: the layer has neurons 0 to {u - 1}")
        rows = np.zeros((len(ids), u), np.float32)
        rows[np.arange(len(ids)), ids] = 1
        return cls(rows, rows, tuple(f"neuron {i}" for i in ids), np.zeros(len(ids), np.float32))

    @classmethod
    @accepts(D=2, names="texts")
    def components(cls, D: Float[np.ndarray, "k u"], names: Sequence[str] | None = None) -> "Directions":
        """Components of a factorisation A = Z D with codes Z >= 0; D may hold both signs (`SparseNMF.signed_`).

        Activations are the least-squares codes (by the pseudo-inverse of D), those below zero set to zero. So raising
        one component by a unit raises its own activation by one, and no other's.
        """
        D = D.astype(np.float32)
        if not np.isfinite(D).all():
            raise Refused("D holds numbers that are not finite")
        read = np.linalg.pinv(D.astype(np.float64)).T.astype(np.float32)
        names = tuple(names) if names is not None else tuple(f"component {i}" for i in range(len(D)))
        return cls(read, D, names, np.zeros(len(D), np.float32), rectified=True)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: read, write and bias; names and `rectified` as its metadata."""
        said = {"names": json.dumps(self.names), "rectified": json.dumps(self.rectified)}
        arrays = {part: getattr(self, part) for part in _PARTS}
        if self.rule is not None and self.latents is not None:
            parts = {name: getattr(self.rule, name) for name in ("read", "bias", "threshold")}
            arrays |= {f"{_RULE}{name}": part for name, part in parts.items() if part is not None}
            arrays["latents"] = self.latents
            said["rule"] = json.dumps({name: getattr(self.rule, name) for name in ("top", "standard", "signed")})
        save_file({name: np.ascontiguousarray(each) for name, each in arrays.items()}, path, said)

    @classmethod
    def load(cls, path: str | Path, u: int | None = None) -> "Directions":
        """Directions from a file that `save` wrote, or a sparse autoencoder in a file or folder (`sae`).

        `u`: the number of neurons the layer must have. Raises Refused for other files.
        """
        from atlas.model.saefiles import sae_tensors  # it loads PyTorch

        arrays, _ = sae_tensors(Path(path))
        if not {*_PARTS} <= set(arrays):
            return cls.sae(path, u)
        with safe_open(path, "numpy") as file:
            said = file.metadata() or {}
        try:
            names = json.loads(said["names"]) if "names" in said else range(len(arrays["bias"]))
            rectified = bool(json.loads(said.get("rectified", "false")))
        except ValueError:
            raise Refused(f"{path}: its names are not a JSON list; write the file with Directions.save") from None
        rule, latents = _saved_rule(arrays, said)
        found = cls(arrays["read"], arrays["write"], tuple(map(str, names)), arrays["bias"], rectified, rule, latents)
        if u is not None and found.width != u:
            raise Refused(f"{path} holds directions of a layer of {found.width} neurons, not of {u}")
        return found

    @classmethod
    def sae(
        cls, path: str | Path, u: int | None = None, centred: bool | None = None, kind: str | None = None
    ) -> "Directions":
        """Latents of a sparse autoencoder, from a file (safetensors, torch, npz) or the folder that its library wrote.

        `atlas.model.autoencoders` has the layouts. Activations are those of the library's own encoder, with its
        thresholds, its k largest and its normalisation. `u`: the number of neurons the layer must have. `centred`:
        whether the encoder reads A less the decoder's bias; by default as the library does. `kind`: standard, topk,
        batchtopk, jumprelu or gated, where neither the file nor a configuration beside it tells. Raises Refused for
        what is not understood, and for what may be of several kinds.
        """
        from atlas.model.autoencoders import read_autoencoder

        found = read_autoencoder(path, u, centred, kind)
        names = tuple(f"latent {i}" for i in range(len(found.read)))
        rectified = found.rule is None or not found.rule.signed
        return cls(found.read, found.write, names, found.bias, rectified, found.rule)

    @classmethod
    @accepts(A=2, mask="marks")
    def difference(cls, A: Float[np.ndarray, "n u"], mask: Bool[np.ndarray, " n"], name: str) -> "Directions":
        """The mean of A's rows where `mask` is true, less the mean of the other rows, scaled to unit norm."""
        _two_classes(A, mask, name)
        step = A[mask].mean(0, dtype=np.float64) - A[~mask].mean(0, dtype=np.float64)
        norm = np.linalg.norm(step)
        if norm == 0:
            raise Refused(f"{name}: the means of the two groups are equal, so there is no direction between them")
        row = (step / norm).astype(np.float32)[None]
        return cls(row, row, (name,), np.zeros(1, np.float32))

    @classmethod
    @accepts(A=2, y="marks")
    def probe(
        cls, A: Float[np.ndarray, "n u"], y: Bool[np.ndarray, " n"], name: str, penalty: float = 1.0
    ) -> "Directions":
        """A logistic probe for y on standardised activations; its activations are logits. `penalty`: its L2 penalty.

        The probe reads with its weights. It writes its activation pattern (Haufe et al. 2014, "On the interpretation
        of weight vectors of linear models"), because weights are a filter that says little about the concept: the
        pattern is the change of A, over its rows, that goes with one unit of the logit.
        """
        from sklearn.linear_model import LogisticRegression

        _two_classes(A, y, name)
        mean, spread = A.mean(0, dtype=np.float64), A.std(0, dtype=np.float64)
        scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
        fitted = LogisticRegression(C=1 / penalty, max_iter=1000).fit((A - mean) * scale, y)
        read = fitted.coef_[0] * scale
        logits = (A - mean) @ read
        if not logits.any():
            raise Refused(f"{name}: no neuron tells the two groups apart, so there is no direction between them")
        write = (A - mean).T @ logits / (logits @ logits)
        bias = fitted.intercept_[0] - mean @ read
        rows = [each.astype(np.float32)[None] for each in (read, write)]
        return cls(rows[0], rows[1], (name,), np.array([bias], np.float32))


def _two_classes(A: Float[np.ndarray, "n u"], mask: Bool[np.ndarray, " n"], name: str) -> None:
    if len(A) != len(mask) or not 0 < mask.sum() < len(mask):
        raise Refused(f"{name}: give {len(A)} labels, some of them true and some false; {int(mask.sum())} are true")


def _saved_rule(
    arrays: Mapping[str, np.ndarray], said: Mapping[str, str]
) -> tuple[LatentRule | None, Int[np.ndarray, " k"] | None]:
    """The rule in a file that `save` wrote, and the numbers of its latents."""
    if "rule" not in said:
        return None, None
    stated = json.loads(said["rule"])
    read, bias, threshold = arrays[f"{_RULE}read"], arrays[f"{_RULE}bias"], arrays.get(f"{_RULE}threshold")
    return LatentRule(read, bias, threshold, **stated), arrays["latents"]
