"""Make shards from listed items: read ahead in threads, run the model once, reduce its maps, write, rename."""

import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from atlas.errors import Refused
from atlas.sources.decoding import CONTENT, CONTENT_BYTES, STRETCHED, Unreadable
from atlas.sources.items import Item
from atlas.store.files import describe_files, put_folder, save_array, write_json
from atlas.store.listing import ShardJob, id_hash
from atlas.store.manifest import PARTIAL, REJECTS_FILE
from atlas.store.shards import CONTENT_FILE, LATER_COLUMNS, REJECT_SCHEMA, ROW_SCHEMA, layer_folder

if TYPE_CHECKING:
    from atlas.model.clip import Clip


_LARGEST = 65504.0  # of half precision
THUMB_SIDE = 64  # pixels along the longest side of a thumbnail
_ITEMS_A_THREAD = 32  # items that a thread takes at a time


@dataclass(frozen=True)
class CollectOptions:
    """Options that decide the content of a Store, besides the model and the sources."""

    seed: int = 0
    thumb: int = THUMB_SIDE
    """Longest side of a thumbnail, in pixels."""

    def __post_init__(self) -> None:
        if not 8 <= self.thumb <= 512:
            raise Refused(f"thumb={self.thumb}: thumbnails are 8 to 512 pixels")


@dataclass
class Ready:
    """An item that was read: pixels for the model, thumbnail, and the size of the original in pixels."""

    item: Item
    pixels: np.ndarray | None = None
    thumb: bytes = b""
    width: int = 0
    height: int = 0
    content: bytes = b""  # blake2b of the encoded image
    stretched: bool = False  # few bits of many, or numbers of another range, scaled to 8


@dataclass
class Rejected:
    """An item that could not be read, with the reason."""

    item: Item
    reason: str


def prepare_item(item: Item, clip: "Clip", thumb: int) -> Ready | Rejected:
    """Load one item and resize it for the model; an item that cannot be read gives `Rejected`, not an error."""
    if item.load is None:
        return Ready(item)
    try:
        image = item.load()
        pixels = clip.prepare(image)
    except Unreadable as unreadable:
        return Rejected(item, str(unreadable))
    width, height = image.size
    content = image.info.get(CONTENT, b"")
    return Ready(item, pixels, _thumbnail(image, thumb), width, height, content, STRETCHED in image.info)


def _thumbnail(image: Image.Image, side: int) -> bytes:
    if max(image.size) > side:
        image = image.copy()
        image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    out = BytesIO()
    image.save(out, "WebP", quality=75, method=2)
    return out.getvalue()


def make_shards(
    wanted: Iterable[ShardJob], clip: "Clip", out: Path, options: CollectOptions, batch: int
) -> Iterator[int]:
    """Make shards one after the other; yields the number of items of each finished batch.

    With a GPU, threads read the next batches meanwhile. On a CPU, reading and the model take turns, because they would
    compete for the same cores.
    """
    ahead = 4 if clip.device.type == "cuda" else 0
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        ready: list[Ready] = []
        rejected: list[Rejected] = []
        arrays: list[dict[str, np.ndarray]] = []
        read = partial(_prepare_all, clip=clip, thumb=options.thumb)
        for job, end, results in _read_ahead(wanted, pool, read, batch, ahead):
            good = [result for result in results if isinstance(result, Ready)]
            rejected += [result for result in results if isinstance(result, Rejected)]
            if good:
                arrays.append(_measure(good, clip, options.seed))
                ready += good
            yield len(results)
            if end == len(job.items):
                write_shard(job, ready, rejected, arrays, _patches(ready, clip, options.seed), out)
                ready, rejected, arrays = [], [], []


def _prepare_all(items: Sequence[Item], clip: "Clip", thumb: int) -> list[Ready | Rejected]:
    return [prepare_item(item, clip, thumb) for item in items]


def _read_ahead(
    wanted: Iterable[ShardJob],
    pool: ThreadPoolExecutor,
    read: Callable[[Sequence[Item]], list[Ready | Rejected]],
    batch: int,
    depth: int,
) -> Iterator[tuple[ShardJob, int, list[Ready | Rejected]]]:
    """Yield batches of read items in order, each with its shard and its end there; `depth` more are being read."""
    waiting: deque[tuple[ShardJob, int, list[Future[list[Ready | Rejected]]]]] = deque()

    def first() -> tuple[ShardJob, int, list[Ready | Rejected]]:
        job, end, futures = waiting.popleft()
        return job, end, [result for future in futures for result in future.result()]

    for job in wanted:
        for start in range(0, len(job.items), batch):
            items = job.items[start : start + batch]
            handfuls = [items[i : i + _ITEMS_A_THREAD] for i in range(0, len(items), _ITEMS_A_THREAD)]
            waiting.append((job, start + len(items), [pool.submit(read, handful) for handful in handfuls]))
            if len(waiting) > depth:
                yield first()
    while waiting:
        yield first()


def _measure(ready: Sequence[Ready], clip: "Clip", seed: int) -> dict[str, np.ndarray]:
    """The arrays of one batch, from one forward pass: {array name, with the layer's folder if it has one: array}."""
    if ready[0].pixels is None:
        texts = {"embedding": clip.encode_texts([r.item.caption for r in ready]).astype(np.float16)}
        return _finite(texts, ready, clip)
    pixels = np.stack([r.pixels for r in ready if r.pixels is not None])
    arrays = {}
    for embedding, maps in _forward(clip, pixels):
        parts = {"embedding": embedding.astype(np.float16)}
        for layer, A in maps.items():
            folder = layer_folder(clip.hooked, layer)
            at = patch_positions([r.item.id for r in ready], clip.grid(layer), seed)
            done = sum(len(a) for a in arrays.get("embedding", []))
            parts |= reduce_map(A, at[done : done + len(A)], clip.rectified(layer), folder)
        for name, part in parts.items():
            arrays.setdefault(name, []).append(part)
    return _finite({name: np.concatenate(parts) for name, parts in arrays.items()}, ready, clip)


def _finite(arrays: dict[str, np.ndarray], ready: Sequence[Ready], clip: "Clip") -> dict[str, np.ndarray]:
    """The arrays of a batch. Raises Refused, with layer and item, for numbers that are not finite, or no embedding."""
    silent = ~arrays["embedding"].any(1)  # also if its norm is infinite
    if silent.any():
        first = ready[int(np.argmax(silent))].item.id
        raise Refused(f"the embedding of {first} is zero, or too long to be scaled to unit length: check the weights")
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argmin(np.isfinite(array.reshape(len(array), -1)).all(1)))
            what = "the embedding" if name.endswith("embedding") else f"{name} of layer {_layer_of(name, clip)}"
            raise Refused(f"{what} of {ready[row].item.id} holds numbers that are not finite: check the weights")
    return arrays


def _layer_of(name: str, clip: "Clip") -> str:
    """The layer that an array of a shard is of."""
    return next((p for p in clip.hooked if (f := layer_folder(clip.hooked, p)) and name.startswith(f)), clip.layer)


def _forward(clip: "Clip", pixels: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Yield the embeddings and maps of a batch; in halves if the GPU's memory is too small for it."""
    try:
        readout = clip.read(pixels)
    except torch.cuda.OutOfMemoryError:
        if len(pixels) == 1:
            raise Refused("the GPU's memory does not hold a single image; choose --device cpu") from None
        half = len(pixels) // 2
        print(f"CUDA is out of memory: this batch of {len(pixels)} images is read in halves", file=sys.stderr)
        torch.cuda.empty_cache()
        yield from _forward(clip, pixels[:half])
        yield from _forward(clip, pixels[half:])
    else:
        yield readout.embedding, readout.maps


def patch_positions(ids: Sequence[str], grid: tuple[int, int], seed: int) -> np.ndarray:
    """One random position per image, not on the edge of maps 5 or more wide: int64 (n,), row * width + column."""
    height, width = grid
    edge = 1 if min(grid) >= 5 else 0  # as in Carter et al. 2019; of a 3 x 3 map only the centre would be left
    hashes = [id_hash(id, seed) for id in ids]
    rows = [edge + h % (height - 2 * edge) for h in hashes]
    columns = [edge + (h >> 32) % (width - 2 * edge) for h in hashes]
    return np.array(rows, np.int64) * width + np.array(columns, np.int64)


def reduce_map(A: Tensor, at: np.ndarray, rectified: bool, folder: str = "") -> dict[str, np.ndarray]:
    """Reduce maps (n, u, h, w) over positions to max, argmax, mean (after the ReLU) and patch: (n, u) each.

    Finite values beyond half precision become its largest, and infinite ones NaN, which is refused.
    """
    flat = A.flatten(2)
    largest, where = flat.max(2)
    mean = (flat.relu() if rectified else flat).mean(2)
    index = torch.from_numpy(at).to(flat.device)[:, None, None].expand(-1, flat.shape[1], 1)
    patch = flat.gather(2, index)[:, :, 0]
    arrays = {"max": largest, "mean": mean, "patch": patch}
    arrays = {name: a.masked_fill(a.isinf(), torch.nan).clamp(-_LARGEST, _LARGEST) for name, a in arrays.items()}
    halves = {name: a.half().cpu().numpy() for name, a in arrays.items()}
    halves["argmax"] = where.to(torch.int32).cpu().numpy().astype(np.uint16)
    return {f"{folder}/{name}" if folder else name: a for name, a in halves.items()}


def write_shard(
    job: ShardJob,
    ready: Sequence[Ready],
    rejected: Sequence[Rejected],
    arrays: Sequence[dict[str, np.ndarray]],
    patches: np.ndarray,
    out: Path,
) -> None:
    """Write a shard to another folder, sync it and rename it into place, so that it is there whole or not at all."""
    aside = out / PARTIAL / job.name
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    pq.write_table(_rows(ready, patches), aside / "rows.parquet", compression="zstd")
    for name in arrays[0] if arrays else ():
        (aside / name).parent.mkdir(exist_ok=True)
        save_array(aside / f"{name}.npy", np.concatenate([part[name] for part in arrays]))
    if any(each.content for each in ready):
        digests = [each.content.ljust(CONTENT_BYTES, b"\0") for each in ready]
        save_array(aside / CONTENT_FILE, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, CONTENT_BYTES))
    if rejected:
        columns = [[getattr(r.item, name) for r in rejected] for name in REJECT_SCHEMA.names[:-1]]
        pq.write_table(pa.table([*columns, [r.reason for r in rejected]], REJECT_SCHEMA), aside / REJECTS_FILE)
    content = {"kind": job.kind, "rows": len(ready), "listed": len(job.items), "files": describe_files(aside)}
    if stretched := sum(r.stretched for r in ready):
        content["stretched"] = stretched
    if saturated := sum(_saturated(part) for each in arrays for part in each.values()):
        content["saturated"] = saturated
    write_json(aside / "shard.json", content)
    put_folder(aside, out / "shards" / job.name)


def _saturated(array: np.ndarray) -> int:
    """How many values of an array in half precision are the largest that there is, of either sign."""
    if array.dtype != np.float16:
        return 0
    return int(np.count_nonzero(array.view(np.uint16) & 0x7FFF == 0x7BFF))


def _patches(ready: Sequence[Ready], clip: "Clip", seed: int) -> np.ndarray:
    """Row and column (n, 2) of each image's random position in the map of the first layer; -1 for texts."""
    grid = clip.grid(clip.hooked[0])
    at = patch_positions([r.item.id for r in ready], grid, seed)
    seen = np.array([r.pixels is not None for r in ready], bool)
    return np.where(seen[:, None], np.stack([at // grid[1], at % grid[1]], 1), -1)


def _rows(ready: Sequence[Ready], patches: np.ndarray) -> pa.Table:
    columns = {name: [getattr(r.item, name) for r in ready] for name in ROW_SCHEMA.names[:6]}
    columns |= {name: [getattr(r, name) for r in ready] for name in ("width", "height", "thumb")}
    columns |= {"split": [r.item.split for r in ready], "captions": [list(r.item.captions) for r in ready]}
    columns |= {"patch_row": patches[:, 0], "patch_col": patches[:, 1]}
    schema = pa.schema([*ROW_SCHEMA, *LATER_COLUMNS])
    return pa.table([pa.array(columns[each.name], each.type) for each in schema], schema)
