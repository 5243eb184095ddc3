"""Makes shards on a Ray cluster; all workers must see the Store and the sources under the same paths."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atlas.errors import Refused
from atlas.sources.items import Item, raise_unreadable
from atlas.store.listing import ListedJobs, ShardJob
from atlas.store.manifest import PENDING
from atlas.store.shard_writer import CollectOptions, make_shards, prepare_item

if TYPE_CHECKING:
    import ray

    from atlas.model.clip import Clip

_SECONDS_OF_SILENCE = 10.0  # after which the user is told what is waited for
_SECONDS_TO_BEGIN = 120.0  # in which a worker has to answer: it imports PyTorch, perhaps over a network
_TRIES = 3  # workers that may die on a shard before its items are tried one by one
KILLS_WORKER = "it ends the process that reads it"


def make_shards_on_ray(jobs: ListedJobs, clip: "Clip", out: Path, options: CollectOptions, batch: int) -> Iterator[int]:
    """Make shards on Ray workers; yields the number of items of each finished shard.

    A worker that dies costs nothing but time; an item that ends its workers becomes a reject. Raises `Refused` if no
    node can run the work, or if a worker does not see `out` and the sources.
    """
    try:
        import ray
    except ImportError:
        raise Refused('--engine ray needs Ray: pip install "multimodal-atlas[ray]"') from None
    began_here = not ray.is_initialized()
    if began_here:
        ray.init(include_dashboard=False)
    try:
        yield from _Cluster(clip, out.absolute(), options, batch).make(jobs)
    finally:
        if began_here:
            ray.shutdown()


class _Cluster:
    def __init__(self, clip: "Clip", out: Path, options: CollectOptions, batch: int):
        import ray

        self.ray, self.out = ray, out
        self.threads = threads = torch.get_num_threads()
        gpus = 1 if clip.device.type == "cuda" else 0
        self.nodes = [node for node in ray.nodes() if node["Alive"] and _fits(node["Resources"], threads, gpus)]
        if not self.nodes:
            what = f"{threads} CPUs" + (" and a GPU" if gpus else "")
            raise Refused(
                f"no node of the Ray cluster has {what}, which a worker needs; set OMP_NUM_THREADS to fewer "
                "threads, or choose another --device"
            )
        self.slots = 2 * sum(int(node["Resources"]["CPU"]) // threads for node in self.nodes)
        shared = ray.put(clip)
        on_worker = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)
        make, trial = on_worker(_make), on_worker(_try)
        self.work: Callable[[ShardJob], ray.ObjectRef] = lambda job: make.remote(
            job, shared, out, options, batch, threads
        )
        self.probe = ray.remote(num_cpus=0)(_missing)
        self.trial: Callable[[Item], ray.ObjectRef] = lambda item: trial.remote(item, shared)

    def make(self, jobs: ListedJobs) -> Iterator[int]:
        """Make the shards; yields the number of items of each."""
        self._check_paths(jobs)
        running: dict[ray.ObjectRef, tuple[ShardJob, int]] = {}
        for job in jobs:
            running[self.work(job)] = (job, 1)
            while len(running) >= self.slots:
                yield from self._collect_one(running)
        while running:
            yield from self._collect_one(running)

    def _collect_one(self, running: "dict[ray.ObjectRef, tuple[ShardJob, int]]") -> Iterator[int]:
        done, _ = self.ray.wait(list(running))
        job, times = running.pop(done[0])
        errors = self.ray.exceptions
        deaths = (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError, errors.OutOfMemoryError)
        try:
            yield self.ray.get(done[0])
        except errors.RayTaskError as error:
            raise Refused(f"a worker failed at shard {job.name}: {_last_line(error)}") from None
        except deaths as error:
            print(f"a worker died at shard {job.name} ({_last_line(error)}); it is made again", file=sys.stderr)
            if times >= _TRIES:
                job = self._without_killers(job)
            running[self.work(job)] = (job, times + 1)

    def _without_killers(self, job: ShardJob) -> ShardJob:
        """The shard with each item as unreadable that ends the worker which reads it."""
        trials = [self.trial(item) for item in job.items]
        items = []
        for item, trial in zip(job.items, trials, strict=True):
            if self._dies(trial) and self._dies(self.trial(item)):  # twice: the node may have gone for another reason
                print(f"{item.id}: {KILLS_WORKER}", file=sys.stderr)
                item = replace(item, load=partial(raise_unreadable, KILLS_WORKER))
            items.append(item)
        return replace(job, items=items)

    def _dies(self, trial: "ray.ObjectRef") -> bool:
        try:
            self.ray.get(trial)
        except self.ray.exceptions.RayError:
            return True
        return False

    def _check_paths(self, jobs: ListedJobs) -> None:
        """Raise `Refused` unless a worker on each node sees the folder of the Store and the first source."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        paths, probes = [self.out / PENDING, *jobs.places()], {}
        for node in self.nodes:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            name = node.get("NodeManagerHostname") or node["NodeID"][:12]
            probes[self.probe.options(scheduling_strategy=here).remote(paths)] = name
        _, late = self.ray.wait(list(probes), num_returns=len(probes), timeout=_SECONDS_OF_SILENCE)
        if late:
            print(f"waiting for node {probes[late[0]]} of the Ray cluster to begin", file=sys.stderr)
            _, late = self.ray.wait(list(probes), num_returns=len(probes), timeout=_SECONDS_TO_BEGIN)
        if late:
            message = f"node {probes[late[0]]} of the Ray cluster did not answer in {_SECONDS_TO_BEGIN:.0f} s"
            raise Refused(message)
        for probe, name in probes.items():
            try:
                lost = self.ray.get(probe)
            except self.ray.exceptions.RayError as error:
                raise Refused(f"node {name} of the Ray cluster cannot run this package: {_last_line(error)}") from None
            if lost:
                raise Refused(f"node {name} does not see {lost[0]}: all nodes must share the folders, under one path")
        if (free := self.ray.available_resources().get("CPU", 0)) < self.threads:
            what = f"the Ray cluster has {free:g} CPUs free, and a worker needs {self.threads}: waiting for them"
            print(what, file=sys.stderr)


def _fits(resources: dict[str, float], cpus: int, gpus: int) -> bool:
    return resources.get("CPU", 0) >= cpus and resources.get("GPU", 0) >= gpus


def _make(job: ShardJob, clip: "Clip", out: Path, options: CollectOptions, batch: int, threads: int) -> int:
    torch.set_num_threads(threads)  # sums depend on the number of threads in their last bits
    return sum(make_shards([job], clip, out, options, batch))


def _try(item: Item, clip: "Clip") -> None:
    prepare_item(item, clip, thumb=8)


def _missing(paths: list[Path]) -> list[Path]:
    return [path for path in paths if not path.exists()]


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
