"""`collect`: run every item of a source through a model once, into a Store; resumable, locally or on Ray."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias, cast

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.console import Progress
from atlas.errors import Refused
from atlas.model.clip import Clip
from atlas.sources import spec
from atlas.sources.decoding import TRIED_AGAIN
from atlas.sources.items import Source
from atlas.sources.summary import Tallied, Tally
from atlas.store.check import refuse_damaged_listings
from atlas.store.comparison import can_be_read, compare_listing
from atlas.store.files import disk_faults, read_json, remove_if_empty, sha256, sync_folder, write_json
from atlas.store.listing import (
    ListedJobs,
    Stat,
    listed_before,
    listing_digest,
    refuse_damaged_listing,
    restate_listing,
    shard_name,
    write_listing,
)
from atlas.store.lock import writer_lock
from atlas.store.manifest import (
    LISTING_FILE,
    MANIFEST_FILE,
    PARTIAL,
    PENDING,
    REJECTS_FILE,
    STORE_FORMAT,
    Manifest,
    Request,
    read_if_there,
    settle,
)
from atlas.store.ray_engine import make_shards_on_ray
from atlas.store.shard_writer import THUMB_SIDE, CollectOptions, make_shards
from atlas.store.shards import KINDS, REJECT_SCHEMA
from atlas.store.store import Store
from atlas.store.target import check_disk, make_folder, refuse_other_content, refuse_other_request

SourceOrSpec: TypeAlias = str | Path | Source  # a source, or its spec


def collect(
    source: SourceOrSpec | Sequence[SourceOrSpec],
    clip: Clip,
    out: str | Path,
    *,
    seed: int = 0,
    thumb: int = THUMB_SIDE,
    batch: int = 64,
    engine: str = "local",
    append: bool = False,
) -> Store:
    """Run every item of `source` through `clip` once and store embeddings and reduced activations at `out`.

    `source`: a path, a spec such as "emoji", a `Source`, or a list of these. `seed`: of the random patch positions.
    `thumb`: longest side of thumbnails in pixels. `batch`: images per forward pass. `engine`: "local" or "ray"; both
    give identical Stores. `append`: add files that are new since the last run.

    If a run is interrupted, the same call continues it and gives the same bytes; for a finished Store it returns at
    once. Inputs that cannot be read are listed in `store.rejects` with the reason; those whose reason may pass are
    tried again by the next call. Raises `Refused` if the folder holds the Store of another request, if the sources
    hold added or changed files, if nothing is found, and if the disk is too small.

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
    if batch < 1:
        raise Refused(f"batch={batch}: a batch has at least one image")
    given = cast(Sequence[SourceOrSpec], source if isinstance(source, list | tuple) else [source])
    joined = Tallied(spec.join([spec.parse(str(s)) if isinstance(s, str | Path) else s for s in given]))
    asked = {"sources": [str(s) if isinstance(s, str | Path) else s.name for s in given], "seed": seed, "thumb": thumb}
    request: Request = json.loads(json.dumps({"model": clip.describe(), **asked}))  # as read again: without tuples
    make_folder(out)
    with disk_faults(out), writer_lock(out, wait=0.0):
        _Collection(joined, request, clip, out, options, batch, engine).bring_up_to_date(append)
    store = Store.open(out)
    print("\n".join(_summary(store, joined.tally)), file=sys.stderr)
    return store


def _summary(store: Store, tally: Tally) -> list[str]:
    """What came of all inputs, in lines."""
    shards = [read_json(shard.folder / "shard.json") for shard in store.shards]
    stretched, saturated = (sum(shard.get(name, 0) for shard in shards) for name in ("stretched", "saturated"))
    said = [f"{stretched:,} pictures that use few of their bits were stretched to 8"] if stretched else []
    if saturated:
        said += [f"{saturated:,} activations are beyond 65,504, the largest of half precision, and kept as that"]
    return [*tally.lines(Counter(store.rejects["reason"].to_pylist())), *said]


@dataclass(frozen=True)
class _Collection:
    """One call of `collect`, under the writer's lock."""

    source: Tallied
    request: Request
    clip: Clip
    out: Path
    options: CollectOptions
    batch: int
    engine: str

    def bring_up_to_date(self, append: bool) -> None:
        """Finish the run that was begun, or begin one; then deal with what has changed in the sources since."""
        finished = settle(self.out)
        begun = read_if_there(self.out / PENDING / MANIFEST_FILE)
        if finished:
            refuse_damaged_listings(self.out, finished)
        if begun:
            listed, aside = self.out / PENDING / LISTING_FILE, self.out / PENDING
            refuse_damaged_listing(listed, begun["listing"], aside if finished else self.out)
        if held := begun or finished:
            refuse_other_request(held["request"], self.request, self.out)
        else:
            refuse_other_content(self.out)
        begun = begun or self._begin_again(finished) if held else self._plan(None)
        if begun:
            finished, unlisted = self._run(begun, finished)
            if not append:
                if unlisted:
                    message = f"{unlisted:,} items appeared after the listing; --append takes them in"
                    print(message, file=sys.stderr)
                return
        if finished:
            self._compare(self._note_sources(finished), append)

    def _note_sources(self, finished: Manifest) -> Manifest:
        """Record where the sources are now, if the request names them in another way."""
        now = self.request["sources"]
        if now != finished.get("sources", finished["request"]["sources"]):
            finished = {**finished, "sources": now}
            write_json(self.out / MANIFEST_FILE, finished)
        return finished

    def _compare(self, finished: Manifest, append: bool) -> None:
        """Take in what has changed in the sources of a finished Store. Raises `Refused` for what has no place in it."""
        if again := self._retried(finished):
            finished, _ = self._run(again, finished)
        if finished["listing"] == listing_digest(self.source):
            return
        found = compare_listing(self.source, self.out, finished)
        if found.touched:
            finished = self._commit_listing(finished, found.touched)
        if found.added and append:
            finished, _ = self._run(self._plan(finished), finished)
        other = found.changed or found.anew
        if other or (found.added and not append):
            advice = "collect them into another folder" if other else "add --append to take in added files"
            raise Refused(f"the sources of {self.out} differ from those it was begun with: {found}; {advice}")
        if found.gone:
            print(f"{len(found.gone):,} files are gone (such as {found.gone[0]}); their rows stay", file=sys.stderr)

    # -- what is to be done --------------------------------------------------------------------------------------------

    def _plan(self, finished: Manifest | None) -> Manifest:
        """Begin a run: write its listing, and a store.json with a new generation, into `pending`."""
        earlier = finished["generations"] if finished else []
        first = earlier[-1]["end_shard"] if earlier else 0
        held = self.out / LISTING_FILE if earlier else None
        known = listed_before(held, first) if held else set()
        aside = self._new_pending()
        listing = write_listing(
            (item for item in self.source if item.id not in known), aside / LISTING_FILE, held, first
        )
        if not any(listing.counts.values()):
            raise Refused(f"{', '.join(self.request['sources'])}: nothing found to collect")
        generations = [*earlier, {"first_shard": first, "end_shard": listing.shards, **listing.counts}]
        if finished:
            return self._begun({**finished, "listing": listing.sha256, "generations": generations}, aside)
        state: Manifest = {"format": STORE_FORMAT, "complete": False, "request": self.request}  # type: ignore[typeddict-item]
        return self._begun({**state, "listing": listing.sha256, "generations": generations}, aside)

    def _begin_again(self, finished: Manifest | None) -> Manifest | None:
        """A run that makes the shards which a finished Store has lost; None if it has them all."""
        shards = self.out / "shards"
        if finished is None or all((shards / name).is_dir() for name in finished.get("shards", {})):
            return None
        aside = self._new_pending()
        shutil.copyfile(self.out / LISTING_FILE, aside / LISTING_FILE)
        return self._begun(finished, aside)

    def _retried(self, finished: Manifest) -> Manifest | None:
        """A run that makes again the shards whose items could not be read for a passing reason, and now can."""
        rejects = pq.read_table(self.out / REJECTS_FILE, columns=["id", "reason"]).to_pylist()
        failed = {row["id"] for row in rejects if row["reason"].endswith(TRIED_AGAIN)}
        if not failed:
            return None
        stats = {item.id: Stat.of(item) for item in self.source if item.id in failed and can_be_read(item)}
        if not stats:
            return None
        listed = pq.read_table(self.out / LISTING_FILE, columns=["id", "shard"]).to_pylist()
        names = _names_by_number(finished)
        remade = {}
        for number in sorted({row["shard"] for row in listed if row["id"] in stats}):
            plain, _, times = names[number].partition(".")
            remade[str(number)] = f"{plain}.{int(times or 0) + 1}"
        aside = self._new_pending()
        digest = restate_listing(self.out / LISTING_FILE, aside / LISTING_FILE, stats)
        return self._begun({**finished, "listing": digest, "remade": remade}, aside)

    def _new_pending(self) -> Path:
        aside = self.out / PARTIAL / PENDING
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        return aside

    def _begun(self, manifest: Manifest, aside: Path) -> Manifest:
        """Put a run, whose listing is written, in the place of the one in progress."""
        begun: Manifest = {**manifest, "complete": False}
        write_json(aside / MANIFEST_FILE, begun)
        sync_folder(aside)
        aside.replace(self.out / PENDING)
        return begun

    # -- work ----------------------------------------------------------------------------------------------------------

    def _run(self, begun: Manifest, finished: Manifest | None) -> tuple[Manifest, int]:
        """Make the missing shards and commit; returns the finished manifest and the number of unlisted items."""
        shards = self.out / "shards"
        shards.mkdir(exist_ok=True)
        names = {n: shard_name(n) for n in range(begun["generations"][-1]["end_shard"])}
        names |= _names_by_number(finished) if finished else {}
        names |= {int(number): name for number, name in begun.get("remade", {}).items()}
        wanted = {number: name for number, name in names.items() if not (shards / name).is_dir()}
        done = sum(read_json(shards / name / "shard.json")["listed"] for n, name in names.items() if n not in wanted)
        total = sum(generation.get(kind, 0) for generation in begun["generations"] for kind in KINDS)
        check_disk(self.out, self.clip, total - done)
        jobs = ListedJobs(self.source, self.out / PENDING / LISTING_FILE, wanted)
        if wanted:
            if self.source.tally.kinds:  # not where a run goes on from the listing that it began with
                print("\n".join(self.source.tally.first_lines()), file=sys.stderr)
            with Progress(total, f"collect {self.out.name}") as progress:
                progress.advance(done)
                make = make_shards_on_ray if self.engine == "ray" else make_shards
                for count in make(jobs, self.clip, self.out, self.options, self.batch):
                    progress.advance(count)
        return _commit(self.out, begun, names, total), jobs.unlisted

    def _commit_listing(self, finished: Manifest, stats: Mapping[str, Stat]) -> Manifest:
        """Commit a finished Store with new times of change of some files, whose content is the same."""
        aside = self._new_pending()
        digest = restate_listing(self.out / LISTING_FILE, aside / LISTING_FILE, stats)
        files = finished.get("files", {}) | {LISTING_FILE: sha256(aside / LISTING_FILE)}
        write_json(aside / MANIFEST_FILE, {**finished, "listing": digest, "files": files})
        sync_folder(aside)
        aside.replace(self.out / PENDING)
        return cast(Manifest, settle(self.out))


def _names_by_number(finished: Manifest) -> dict[int, str]:
    """The folder of each shard of a finished Store."""
    return dict(enumerate(finished.get("shards", {})))


def _commit(out: Path, begun: Manifest, names: Mapping[int, str], total: int) -> Manifest:
    """Check that every listed item is a row or a reject, write rejects.parquet and store.json, and settle them."""
    folders = [out / "shards" / name for name in names.values()]
    if missing := [folder.name for folder in folders if not folder.is_dir()]:
        raise Refused(
            f"{len(missing):,} shards, such as {missing[0]}, are not in {out} after they were made; {out} must be a "
            "folder that all workers share"
        )
    parts = [pq.read_table(folder / REJECTS_FILE) for folder in folders if (folder / REJECTS_FILE).exists()]
    rejects = pa.concat_tables(parts) if parts else REJECT_SCHEMA.empty_table()
    rows = sum(read_json(folder / "shard.json")["rows"] for folder in folders)
    if rows + len(rejects) != total:
        raise Refused(
            f"{out} lists {total:,} items and holds {rows:,} rows and {len(rejects):,} rejects; collect again"
        )
    pending = out / PENDING
    pq.write_table(rejects, pending / REJECTS_FILE)
    if not rows:
        finished = read_if_there(out / MANIFEST_FILE)  # one that has lost its shards keeps what it says of them
        if finished is None:
            (pending / REJECTS_FILE).replace(out / REJECTS_FILE)
        shutil.rmtree(pending)
        for folder in folders:
            if finished is None or sha256(folder / "shard.json") != finished.get("shards", {}).get(folder.name):
                shutil.rmtree(folder)
        remove_if_empty(out / "shards")
        first = rejects.slice(0, 1).to_pylist()[0]
        raise Refused(f"every input was refused, {len(rejects):,} in all; the first: {first['id']}: {first['reason']}")
    packages = ("multimodal-atlas", "torch", "open_clip_torch", "numpy", "pillow", "pyarrow")
    finished = {
        **{name: value for name, value in begun.items() if name != "remade"},
        "complete": True,
        "versions": {name: version(name) for name in packages},
        "shards": {folder.name: sha256(folder / "shard.json") for folder in folders},
        "files": {name: sha256(pending / name) for name in (LISTING_FILE, REJECTS_FILE)},
    }
    sync_folder(pending)
    write_json(pending / MANIFEST_FILE, finished)
    return cast(Manifest, settle(out))
