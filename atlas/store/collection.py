"""`collect`: run every item of a source through a model once, into a Store; resumable, locally or on Ray."""

import errno
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias, cast

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from atlas.console import Progress
from atlas.errors import Refused
from atlas.formatting import Record
from atlas.model.clip import Clip
from atlas.sources import spec
from atlas.sources.items import Source
from atlas.sources.summary import Tallied, Tally
from atlas.store.listing import ShardJob, compare_listing, listed_before, listing_digest, shard_jobs, write_listing
from atlas.store.shard_writer import CollectOptions, make_shards
from atlas.store.shards import REJECT_SCHEMA, read_json, sha256, write_json
from atlas.store.store import STORE_FORMAT, Manifest, Request, Store

_THUMB_BYTES = 1500  # mean size of a 64-pixel WebP, rounded up; used only to estimate the space needed


SourceOrSpec: TypeAlias = str | Path | Source  # a source, or its spec


def collect(
    source: SourceOrSpec | Sequence[SourceOrSpec],
    clip: Clip,
    out: str | Path,
    *,
    seed: int = 0,
    thumb: int = 64,
    batch: int = 64,
    engine: str = "local",
    append: bool = False,
) -> Store:
    """Run every item of `source` through `clip` once and store embeddings and reduced activations at `out`.

    `source`: a path, a spec such as "emoji", a `Source`, or a list of these. `seed`: of the random patch positions.
    `thumb`: longest side of thumbnails in pixels. `batch`: images per forward pass. `engine`: "local" or "ray"; both
    give identical Stores. `append`: add files that are new since the last run.

    If a run is interrupted, the same call continues it and gives the same bytes; for a finished Store it returns at
    once. Inputs that cannot be read are listed in `store.rejects` with the reason. Raises `Refused` if the folder
    holds the Store of another request, if nothing is found, and if the disk is too small.

    >>> import atlas, tempfile
    >>> from PIL import Image
    >>> folder = tempfile.TemporaryDirectory()
    >>> for name in ("red", "green", "blue"):
    ...     Image.new("RGB", (32, 32), name).save(f"{folder.name}/{name}.png")
    >>> store = collect(folder.name, atlas.Clip("mini", device="cpu"), f"{folder.name}/out")
    >>> store.counts, len(store.rejects), [id.split("/")[-1] for id in store.rows["id"].to_pylist()]
    ({'image': 3}, 0, ['blue.png', 'green.png', 'red.png'])
    >>> folder.cleanup()
    """
    out, options = Path(out), CollectOptions(seed, thumb)
    if engine not in ("local", "ray"):
        raise Refused(f"engine={engine!r}: engines are local and ray")
    given = cast(Sequence[SourceOrSpec], source if isinstance(source, list | tuple) else [source])
    joined = Tallied(spec.join([spec.parse(str(s)) if isinstance(s, str | Path) else s for s in given]))
    asked = {"sources": [str(s) if isinstance(s, str | Path) else s.name for s in given], "seed": seed, "thumb": thumb}
    request: Request = json.loads(json.dumps({"model": clip.describe(), **asked}))  # as read again: without tuples
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"cannot make the folder {out}: {error.strerror}; name another one") from None
    try:
        with filelock.FileLock(out / ".lock", timeout=0):
            shutil.rmtree(out / "partial", ignore_errors=True)
            manifest = _begin(joined, request, out, append)
            if not manifest["complete"]:
                print("\n".join(joined.tally.first_lines()), file=sys.stderr)
                _work(joined, clip, out, options, manifest, batch, engine)
    except filelock.Timeout:
        raise Refused(f"{out} is being written by another run; wait for it, or choose another folder") from None
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Refused(f"the disk of {out} is full; free some space, then the same command continues") from None
        raise
    store = Store.open(out)
    print("\n".join(_summary(store, joined.tally)), file=sys.stderr)
    return store


def _summary(store: Store, tally: Tally) -> list[str]:
    """What came of all inputs, in lines."""
    stretched = sum(read_json(shard.folder / "shard.json").get("stretched", 0) for shard in store.shards)
    said = [f"{stretched:,} pictures of 12 bits of grey or fewer were stretched to 8"] if stretched else []
    return [*tally.lines(Counter(store.rejects["reason"].to_pylist())), *said]


def _begin(source: Source, request: Request, out: Path, append: bool) -> Manifest:
    """The manifest to work on: a new one, that of an unfinished run, or one with a generation of added files."""
    if not (out / "store.json").exists():
        if others := [path.name for path in out.iterdir() if path.name not in (".lock", "partial")]:
            raise Refused(f"{out} holds {others[0]} and is no Store; name a new or empty folder")
        return _plan(source, out, request, [])
    manifest = cast(Manifest, read_json(out / "store.json"))
    _refuse_other_request(cast(Record, manifest["request"]), cast(Record, request), out)
    if manifest["listing"] == listing_digest(source):
        return manifest
    difference = compare_listing(source, out / "listing.parquet")
    if difference.changed or not append or not manifest["complete"]:
        advice = "collect them into another folder" if difference.changed else "add --append to take in added files"
        raise Refused(f"the sources of {out} differ from those it was begun with: {difference}; {advice}")
    return _plan(source, out, request, manifest["generations"]) if difference.added else manifest


def _refuse_other_request(held: Record, asked: Record, out: Path) -> None:
    for name in asked:
        if held.get(name) != asked[name]:
            one, other = held.get(name), asked[name]
            if isinstance(one, dict) and isinstance(other, dict):
                name, one, other = next((k, one.get(k), other[k]) for k in other if one.get(k) != other[k])
            raise Refused(f"{out} was collected with {name} = {one}, and this asks for {other}; name another folder")


def _plan(source: Source, out: Path, request: Request, earlier: list[dict[str, int]]) -> Manifest:
    """Write listing.parquet and an unfinished store.json with a new generation."""
    first = earlier[-1]["end_shard"] if earlier else 0
    held = out / "listing.parquet" if earlier else None
    known = listed_before(held, first) if held else set()
    fresh = (item for item in source if item.id not in known)
    aside = out / "partial" / "listing.parquet"
    aside.parent.mkdir(exist_ok=True)
    listing = write_listing(fresh, aside, held, first)
    if not any(listing.counts.values()):
        raise Refused(f"{', '.join(request['sources'])}: nothing found to collect")
    generation = {"first_shard": first, "end_shard": listing.shards, **listing.counts}
    manifest: Manifest = {
        "format": STORE_FORMAT,
        "complete": False,
        "request": request,
        "listing": listing.sha256,
        "generations": [*earlier, generation],
    }
    aside.replace(out / "listing.parquet")
    write_json(out / "store.json", manifest)
    return manifest


def _work(
    source: Source, clip: Clip, out: Path, options: CollectOptions, manifest: Manifest, batch: int, engine: str
) -> None:
    """Make the missing shards, then finish the Store."""
    generation = manifest["generations"][-1]
    known = listed_before(out / "listing.parquet", generation["first_shard"])
    fresh = (item for item in source if item.id not in known)
    shards = out / "shards"
    shards.mkdir(exist_ok=True)
    there = {path.name for path in shards.iterdir()}
    wanted = (job for job in shard_jobs(fresh, generation["first_shard"]) if job.name not in there)
    total = sum(generation[kind] for kind in ("image", "word", "text"))
    _check_disk(out, clip, total)
    with Progress(total, f"collect {out.name}") as progress:
        progress.advance(sum(read_json(shards / name / "shard.json")["listed"] for name in there))
        make = _on_ray if engine == "ray" else make_shards
        for count in make(wanted, clip, out, options, batch):
            progress.advance(count)
    _finish(out, manifest)


def _check_disk(out: Path, clip: Clip, rows: int) -> None:
    numbers = clip.dim + sum(4 * layer.neurons for layer in clip.layers() if layer.path in clip.hooked)
    need, free = rows * (2 * numbers + _THUMB_BYTES), shutil.disk_usage(out).free
    if need > free:
        raise Refused(
            f"{out} needs about {need / 1e9:.1f} GB for {rows:,} rows, and its disk has {free / 1e9:.1f} GB free; "
            "name a folder on a larger disk, fewer layers or fewer inputs"
        )


def _finish(out: Path, manifest: Manifest) -> None:
    """Write rejects.parquet and the checksums of the shards, and mark the Store as complete."""
    folders = sorted((out / "shards").iterdir())
    parts = [pq.read_table(folder / "rejects.parquet") for folder in folders if (folder / "rejects.parquet").exists()]
    rejects = pa.concat_tables(parts) if parts else REJECT_SCHEMA.empty_table()
    partial = out / "partial" / "rejects.parquet"
    partial.parent.mkdir(exist_ok=True)
    pq.write_table(rejects, partial)
    partial.replace(out / "rejects.parquet")
    if not any(read_json(folder / "shard.json")["rows"] for folder in folders):
        first = rejects.slice(0, 1).to_pylist()[0]
        shutil.rmtree(out / "shards")
        raise Refused(f"every input was refused, {len(rejects):,} in all; the first: {first['id']}: {first['reason']}")
    packages = ("multimodal-atlas", "torch", "open_clip_torch", "numpy", "pillow", "pyarrow")
    manifest = {
        **manifest,
        "complete": True,
        "versions": {name: version(name) for name in packages},
        "shards": {folder.name: sha256(folder / "shard.json") for folder in folders},
    }
    shutil.rmtree(out / "partial")
    write_json(out / "store.json", manifest)


def _on_ray(wanted: Iterable[ShardJob], clip: Clip, out: Path, options: CollectOptions, batch: int) -> Iterator[int]:
    """Make the shards on Ray workers; `out` must be a folder that all of them can write to."""
    try:
        import ray
    except ImportError:
        raise Refused('--engine ray needs Ray: pip install "multimodal-atlas[ray]"') from None
    began_here = not ray.is_initialized()
    if began_here:
        ray.init(include_dashboard=False, log_to_driver=False)
    gpus = 1 if clip.device.type == "cuda" else 0
    threads = torch.get_num_threads()

    @ray.remote(num_cpus=threads, num_gpus=gpus)
    def make(job: ShardJob, clip: Clip) -> int:
        torch.set_num_threads(threads)  # sums depend on the number of threads in their last bits
        return sum(make_shards([job], clip, out.absolute(), options, batch))

    try:
        shared = ray.put(clip)
        running: list[ray.ObjectRef] = []
        slots = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
        for job in wanted:
            running.append(make.remote(job, shared))
            if len(running) >= slots:
                done, running = ray.wait(running)
                yield from ray.get(done)
        while running:
            done, running = ray.wait(running)
            yield from ray.get(done)
    finally:
        if began_here:
            ray.shutdown()
