"""Runs commands at once on one Store: the machinery of a slow test and of a bench.

A command that is told to wait, or that the Store has changed meanwhile, is run again when the others have ended. The
end must be one that the same commands give one after the other, in some order.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations_with_replacement, permutations
from multiprocessing import get_context
from pathlib import Path

from atlas.store import listing
from tests.kills import COMMANDS, SHARD_ROWS, STORE, content, finish, photos, run_in_fork, warm

NAMES = ("append", "stats", "index", "map", "label", "nmf", "dream", "page", "export", "check")
AGAIN = ("is being written by another run", "has changed while this ran")  # what a command says that is to wait
STALE = ("was made of", "is not there yet", "no longer", "was derived from")  # a part of another state of the Store
OTHERS = {"dream": ["dream", STORE, "4-6", "--steps", "4"]}  # what the second of two equal commands is asked


@dataclass
class Tally:
    """What became of the runs at once."""

    runs: int = 0
    processes: int = 0
    waited: int = 0  # processes that were told to wait, and run again
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.runs} runs of {self.processes} processes, {self.waited} told to wait; {len(self.faults)} faults"


def words_of(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The commands with their arguments; every second of equal ones is asked for something else, where it can be."""
    found, met = [], dict.fromkeys(names, 0)
    for name in names:
        other = OTHERS.get(name) if met[name] % 2 else None
        found.append((name, other or COMMANDS.get(name, [name, STORE])))
        met[name] += 1
    return found


def base(place: Path) -> Path:
    """A folder with a Store that has every part, and twenty pictures that it has not taken in yet."""
    folder = place / "base"
    photos(folder / "photos", 0, 40)
    for name in COMMANDS:
        finish(name, folder)
    photos(folder / "photos", 40, 20)
    return folder


def at_once(place: Path, pairs: Iterable[Sequence[str]], processes: Sequence[int]) -> Tally:
    """Run each pair of commands at once, in so many processes; returns what became of them."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_at_once, place, list(pairs), processes).result()


def every_pair() -> Iterator[tuple[str, str]]:
    yield from combinations_with_replacement(NAMES, 2)


def _at_once(place: Path, pairs: Sequence[Sequence[str]], processes: Sequence[int]) -> Tally:
    listing.SHARD_ROWS = SHARD_ROWS
    warm()
    whole, tally = base(place), Tally()
    shutil.copytree(whole, place / "again")
    for name in set(NAMES) & set(COMMANDS) - {"append"}:
        finish(name, place / "again")
    if content(place / "again") != content(whole):
        tally.faults.append("commands that are run again change the Store")
    for pair in pairs:
        for count in processes:
            asked, trial = words_of([*pair] * (count // 2)), place / "trial"
            shutil.copytree(whole, trial)
            fault = _run(asked, trial, tally) or _other_end(asked, whole, trial)
            if fault:
                tally.faults.append(f"{' + '.join(name for name, _ in asked)}: {fault}")
            print(f"{' + '.join(name for name, _ in asked)}: {fault or 'held'}", file=sys.stderr, flush=True)
            shutil.rmtree(trial)
    return tally


def _run(asked: Sequence[tuple[str, list[str]]], trial: Path, tally: Tally) -> str:
    """Run commands at once, then those that were told to wait; returns a fault, or nothing."""
    said = [trial.parent / f"said-{i}" for i in range(len(asked))]
    for file in said:
        file.unlink(missing_ok=True)
    children = [run_in_fork(name, trial, words, file) for (name, words), file in zip(asked, said, strict=True)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    tally.runs, tally.processes = tally.runs + 1, tally.processes + len(asked)
    again = []
    for each, code, file in zip(asked, codes, said, strict=True):
        text = file.read_text()
        if "Traceback" in text:
            return f"{each[0]} ended in a traceback: {text.splitlines()[-1][:300]}"
        if code and each[0] == "check":
            continue  # it says what it saw of a Store that others were writing
        if code:
            if not any(sign in text for sign in (*AGAIN, *STALE)):
                return f"{each[0]} ended with {code}: {text.strip().splitlines()[-1][:300] if text.strip() else ''}"
            again.append(each)
    tally.waited += len(again)
    for name, words in again:
        code = os.waitstatus_to_exitcode(os.waitpid(run_in_fork(name, trial, words, said[0]), 0)[1])
        if code and not any(sign in said[0].read_text() for sign in STALE):
            return f"{name}, run again, ended with {code}: {said[0].read_text().strip().splitlines()[-1][:300]}"
    return ""


def _other_end(asked: Sequence[tuple[str, list[str]]], whole: Path, trial: Path) -> str:
    """What differs from every end that the commands have one after the other; nothing if one is the same."""
    found, place, differing = content(trial), trial.parent / "order", ""
    if not {"append", "dream"} & {name for name, _ in asked} and found == content(whole):
        return ""  # what these commands make is there already, as `_at_once` has seen
    for order in dict.fromkeys(permutations(" ".join([name, *words]) for name, words in asked)):
        shutil.copytree(whole, place)
        for name, *words in map(str.split, order):
            os.waitpid(run_in_fork(name, place, words), 0)
        expected = content(place)
        shutil.rmtree(place)
        if found == expected:
            return ""
        names = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
        differing = f"{len(names)} files differ, such as {names[:4]}"
    return differing
