"""Kills commands at random moments and runs them again: the machinery of a slow test and of a bench.

Each command runs in a fork of a process that has imported everything, so that a trial takes no longer than the command
itself. That process is a new one: OpenMP ends a fork of one that has already used its threads.
"""

import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

import atlas
from atlas import cli
from atlas.store import listing
from atlas.store.store import Store
from decompose import cli as decompose_cli

STORE, EXPORT = "store", "export.parquet"
SHARD_ROWS = 16
COMMANDS = {
    "collect": ["collect", "photos", "words:emotions?fonts=open-sans&sizes=32", "texts:emotions", STORE],
    "append": ["collect", "photos", "words:emotions?fonts=open-sans&sizes=32", "texts:emotions", STORE, "--append"],
    "stats": ["stats", STORE],
    "index": ["index", STORE],
    "map": ["map", STORE, "--neighbors", "5"],
    "label": ["label", STORE],
    "nmf": ["nmf", STORE, "-k", "3"],
    "dream": ["dream", STORE, "1-3", "--steps", "4"],
    "page": ["page", STORE],
    "export": ["export", STORE, EXPORT],
}
TRIES = 10  # to kill a command before it has ended
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
OF_DECOMPOSE = ("label", "nmf")


@dataclass
class Count:
    """What became of one command's trials."""

    trials: int = 0
    killed: int = 0  # before it had ended
    lost: int = 0  # something finished was gone or unreadable after the kill
    other: int = 0  # the rerun ended with other bytes
    left: int = 0  # the rerun left files behind

    def __str__(self) -> str:
        faults = f"{self.lost} lost, {self.other} with other bytes, {self.left} with leftovers"
        return f"{self.trials} kills, {self.killed} of them while it ran; {faults}"


def warm() -> None:
    """Import what the commands import, here once instead of in every fork."""
    import pkgutil
    from importlib import import_module

    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        import umap  # noqa: F401

    for package in ("atlas.analysis", "atlas.dream", "atlas.pages", "atlas.store", "decompose", "decompose.pages"):
        for module in pkgutil.iter_modules(import_module(package).__path__):
            if module.name != "__main__":
                import_module(f"{package}.{module.name}")
    torch.optim.Adam([torch.zeros(1, requires_grad=True)]).step()
    atlas.Clip("mini")


def photos(folder: Path, first: int, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        noise = np.random.default_rng(i).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{i:03d}.png")


def run_in_fork(
    name: str,
    place: Path,
    words: Sequence[str] = (),
    said: Path = Path(os.devnull),
    first: Callable[[], object] = lambda: None,
) -> int:
    """Start a command in a fork whose working folder is `place`; returns its process id.

    `words`: its arguments, in place of those in `COMMANDS`; `said`: file that gets what it prints; `first`: is called
    before the command.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(place)
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout = sys.stderr = open(said, "a")  # noqa: SIM115 - the process ends at once
        main: Callable[[Sequence[str]], int] = decompose_cli.main if name in OF_DECOMPOSE else cli.main
        first()
        code = main(words or COMMANDS[name])
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def finish(name: str, place: Path) -> float:
    """Run a command to its end; returns the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(run_in_fork(name, place), 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{name} ended with {os.waitstatus_to_exitcode(status)} in {place}")
    return time.monotonic() - began


def content(place: Path) -> dict[str, bytes]:
    """Every file of the Store and the export, but the lock."""
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in files if "photos" not in path.parts}


def holds(place: Path, parts: Sequence[str]) -> bool:
    """Whether a Store can be opened, and none of its parts is missing or damaged."""
    try:
        store = Store.open(place / STORE)
        folders = [store.path / name / "made.json" for name in parts]
        return all(folder.exists() for folder in folders) and not [f for f in store.check() if "killed run" not in f]
    except ValueError:
        return False


def stages(place: Path, first: int = 40, added: int = 20) -> Iterator[tuple[str, Path]]:
    """Yield each command with a folder in which it is to be run, everything before it done."""
    base = place / "base"
    photos(base / "photos", 0, first)
    for name in COMMANDS:
        if name == "append":
            photos(base / "photos", first, added)
        yield name, base
        finish(name, base)


def kill_once(name: str, base: Path, trial: Path, moments: random.Random, seconds: float) -> tuple[bool, float]:
    """Kill a command at a random moment of the seconds that it takes; returns whether it was running, and its seconds.

    A command that had ended before is begun again, and takes fewer seconds than was believed.
    """
    for _ in range(TRIES):
        shutil.copytree(base, trial)
        began = time.monotonic()
        child = run_in_fork(name, trial)
        moment = moments.random() * seconds
        while time.monotonic() - began < moment and not os.waitid(os.P_PID, child, ENDED):
            time.sleep(0.001)
        spent = time.monotonic() - began
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return True, seconds
        seconds = min(seconds, spent)
        shutil.rmtree(trial)
    shutil.copytree(base, trial)
    return False, seconds


def kill(place: Path, trials: int, seed: int = 0, names: Sequence[str] = tuple(COMMANDS)) -> dict[str, Count]:
    """Kill each command `trials` times at a random moment; returns what became of them."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(kill_here, place, trials, seed, names).result()


def kill_here(place: Path, trials: int, seed: int, names: Sequence[str]) -> dict[str, Count]:
    """Do what `kill` does in this process, which has used no threads yet."""
    listing.SHARD_ROWS = SHARD_ROWS
    warm()
    moments, counts = random.Random(seed), {}
    for name, base in stages(place):
        if name not in names:
            continue
        count = counts[name] = Count()
        whole = place / "whole"
        shutil.copytree(base, whole)
        seconds, expected = finish(name, whole), content(whole)
        before = Store.open(base / STORE).everything_derived() if (base / STORE).exists() else None
        for _ in range(trials):
            trial = place / "trial"
            killed, seconds = kill_once(name, base, trial, moments, seconds)
            count.trials += 1
            count.killed += killed
            count.lost += before is not None and not holds(trial, before)
            finish(name, trial)
            found = content(trial)
            count.left += bool(set(found) - set(expected))
            count.other += any(found.get(file) != expected[file] for file in expected)
            shutil.rmtree(trial)
            print(f"{name}: {count}", file=sys.stderr, flush=True)
        shutil.rmtree(whole)
    return counts
