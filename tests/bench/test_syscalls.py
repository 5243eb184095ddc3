"""The n-th write, rename or sync of a command fails in the C library: `pytest tests/bench/test_syscalls.py -s`.

For every n of a small run, with four codes in turn: one line or success, nothing finished is lost, and the run that
follows ends with the bytes of a run that nothing disturbed. A small library, which is loaded before all others, makes
the call fail, so that Arrow's, FAISS' and safetensors' own calls fail too.
"""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

CODES = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES", "EINTR")}
CALLS = ("write", "rename", "fsync")
MOST = 400  # calls of one kind of a command; those of a small run are fewer
SHARD_ROWS = 256  # three shards, so that there are not too many calls
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static long *seen; static long nth; static int which, code; static char place[4096];
__attribute__((constructor)) static void begin(void) {
  seen = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}
void arm(int call, long n, int error, const char *where) {
  which = call; nth = n; code = error; *seen = 0; strncpy(place, where, 4095);
}
long calls(void) { return *seen; }
static int fails(int call) {
  if (call != which || __sync_add_and_fetch(seen, 1) != nth) return 0;
  errno = code; return 1;
}
static int inside(int fd) {
  char link[64], path[4096]; ssize_t size; int before = errno;
  snprintf(link, 64, "/proc/self/fd/%d", fd);
  size = readlink(link, path, 4095); errno = before;
  if (size < 0) return 0;
  path[size] = 0; return !strncmp(path, place, strlen(place));
}
#define REAL(name) static typeof(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
ssize_t write(int fd, const void *data, size_t size) {
  REAL(write); if (which == 1 && inside(fd) && fails(1)) return -1; return real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
  REAL(pwrite); if (which == 1 && inside(fd) && fails(1)) return -1; return real(fd, data, size, at);
}
size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
  REAL(fwrite); if (which == 1 && inside(fileno(file)) && fails(1)) return 0; return real(data, size, count, file);
}
int rename(const char *from, const char *to) { REAL(rename); return fails(2) ? -1 : real(from, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned int flags) {
  REAL(renameat2); return fails(2) ? -1 : real(a, from, b, to, flags);
}
int fsync(int fd) { REAL(fsync); return fails(3) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails(3) ? -1 : real(fd); }
"""


def test_every_call_may_fail(tmp_path: Path) -> None:
    if not shutil.which("cc") or sys.platform != "linux":
        pytest.skip("needs a C compiler, and Linux")
    library = tmp_path / "shim.so"
    (tmp_path / "shim.c").write_text(SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, tmp_path / "shim.c", "-ldl"], check=True)
    command = [sys.executable, "-m", "tests.bench.test_syscalls", str(library), str(tmp_path), str(MOST)]
    done = subprocess.run(command, env=os.environ | {"LD_PRELOAD": str(library)}, stdout=subprocess.PIPE, check=False)
    found = json.loads(done.stdout)
    for name, counts in found["counts"].items():
        print(f"\n{name}: {counts}", end="")
    assert found["faults"] == []


def main(library: str, folder: str, most: int, names: list[str]) -> None:
    """Let at most so many calls of each kind fail, of each command or of some; print what came of it as JSON."""
    from atlas.store import listing
    from atlas.store.store import Store
    from tests import kills

    shim, place = ctypes.CDLL(library), Path(folder)
    shim.calls.restype = ctypes.c_long
    listing.SHARD_ROWS = SHARD_ROWS
    kills.warm()
    faults, counts, done = [], {}, set[str]()

    def run(name: str, where: Path, arm: Callable[[], object]) -> tuple[int, str]:
        said = place / "said"
        said.unlink(missing_ok=True)
        status = os.waitpid(kills.run_in_fork(name, where, said=said, first=arm), 0)[1]
        return os.waitstatus_to_exitcode(status), said.read_text()

    for name, base in kills.stages(place / "work", first=8, added=4):
        if names and set(names) <= done:
            break
        if names and name not in names:
            continue
        done.add(name)
        whole = shutil.copytree(base, place / "whole")
        before = Store.open(base / kills.STORE).everything_derived() if (base / kills.STORE).exists() else None
        kills.finish(name, whole)
        expected = kills.content(whole)
        shutil.rmtree(whole)
        for number, call in enumerate(CALLS, 1):
            trial = place / "trial"
            shutil.copytree(base, trial)
            run(name, trial, lambda: shim.arm(number, 0, 0, os.fsencode(trial)))  # noqa: B023 - called at once
            last = shim.calls()
            shutil.rmtree(trial)
            step = -(-last // most)
            ended = {code: Counter[str]() for code in CODES}
            for i, n in enumerate(range(1, last + 1, step)):
                code = list(CODES)[i % len(CODES)]
                shutil.copytree(base, trial)
                exit_code, said = run(name, trial, lambda: shim.arm(number, n, CODES[code], os.fsencode(trial)))  # noqa: B023
                where = f"{name} {call} {n} of {last} {code}"
                if "Traceback" in said or exit_code not in (0, 1, 2):
                    faults.append(f"{where}: {exit_code} {said.strip().splitlines()[-1:]}"[:400])
                elif exit_code and not said.strip():
                    faults.append(f"{where}: {exit_code} without a word")
                ended[code]["a line" if exit_code else "success"] += 1
                if before is not None and not kills.holds(trial, before):
                    faults.append(f"{where}: something finished is lost")
                if not exit_code and kills.content(trial) != expected:
                    faults.append(f"{where}: success with other bytes")
                if run(name, trial, lambda: shim.arm(0, 0, 0, b""))[0] or kills.content(trial) != expected:
                    faults.append(f"{where}: the run that followed ended otherwise")
                shutil.rmtree(trial)
            counts[f"{name} {call}"] = f"{last} calls; {json.dumps(ended)}"
            print(name, call, counts[f"{name} {call}"], faults, file=sys.stderr, flush=True)
    print(json.dumps({"counts": counts, "faults": faults}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
