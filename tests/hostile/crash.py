"""``make crash``: long verbs are killed at random moments, called again until they end, and looked at each time.

A case is one command line (:mod:`tests.hostile.works`) in a folder of its own with a folder for temporary files of its
own. It is killed one to three times, by SIGKILL or SIGTERM to the process itself or by Ctrl-C to its whole group, and
then left alone. After every kill: no process of it is alive, nothing of it is in ``/dev/shm``, no temporary file is
left, no recorded row is lost or changed, none is there twice. At the end its result is that of a call that was never
killed. Linux only: this process adopts whatever outlives its parent, in which session ever it is.
"""

import argparse
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile.works import SWEEP, WORKS, Row, Work

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDS_S, GONE_S = 30.0, 15.0
"""Within which a signalled process ends, and within which its children do."""
LONGEST_S = 900.0
_PR_SET_CHILD_SUBREAPER = 36
FAULTS = ("orphans", "leftovers", "lost", "doubled", "unequal", "hangs", "tracebacks", "failures")


@dataclass
class Figures:
    """What was done and what was found.

    Attributes:
        kills: By name of the work and signal.
        ended: By signal and exit status.
        found: Faults by kind, each in words.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: Counter[tuple[str, int]] = field(default_factory=Counter)
    cases: int = 0
    found: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in FAULTS})


def adopt() -> None:
    """Become the parent of every descendant whose own parent ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise SystemExit("this system does not hand orphans on: make crash needs Linux")


def descendants() -> dict[int, str]:
    """Living processes below this one, with their command lines; the dead are collected."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                parents.setdefault(int(parent), []).append(int(entry.name))
    found, left = {}, [os.getpid()]
    while left:
        for child in parents.get(left.pop(), ()):
            left.append(child)
            with suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:150]
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return found


def shared() -> set[str]:
    """What is in ``/dev/shm`` and not in use: what other programs hold is theirs."""
    held = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            held |= {line.split()[5] for line in maps.read_text().splitlines() if "/dev/shm/" in line}
    return {str(entry) for entry in Path("/dev/shm").rglob("*")} - held


def temporary(folder: Path, work: Work, *, ended: bool) -> list[str]:
    """Files that nobody asked for: in the folder for temporary files, and hidden or passing ones in the other."""
    tmp = [f"$TMPDIR/{one.relative_to(folder / 'tmp')}" for one in (folder / "tmp").rglob("*")]
    endings = work.passing if ended else ()
    for one in (folder / "work").rglob("*"):
        if one.name.startswith(".") or (endings and one.name.endswith(endings)):
            tmp.append(str(one.relative_to(folder / "work")))
    return tmp


def start(work: Work, folder: Path) -> subprocess.Popen[bytes]:
    """The command line, as somebody types it, as the leader of a session.

    The cache that torch keeps in the folder for temporary files, whatever ends its process, is put elsewhere.
    """
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "alrsim", *work.line(folder / "work")],
            cwd=folder / "work",
            env={**os.environ, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1", **cache},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def prepare(folder: Path, graph: Path) -> None:
    """The two folders of a case, with what its command line reads."""
    for name in ("work", "tmp"):
        (folder / name).mkdir(parents=True)
    shutil.copy(graph, folder / "work" / "mlp.graph.json")
    (folder / "work" / "sweep.yaml").write_text(SWEEP)


def whole(work: Work, folder: Path) -> tuple[float, Any]:
    """Seconds and result of a call that is left alone.

    Raises:
        SystemExit: it fails.
    """
    begun = time.monotonic()
    process = start(work, folder)
    try:
        status = process.wait(LONGEST_S)
    except BaseException:
        _end([process.pid])
        raise
    if status:
        raise SystemExit(f"{work.name} fails unharmed: {said(folder)}")
    return time.monotonic() - begun, work.result(folder / "work")


def said(folder: Path) -> str:
    """The end of what a call printed."""
    return (folder / "log").read_bytes().decode("utf-8", "replace")[-1500:]


class Case:
    """One command line, killed and called again."""

    def __init__(self, number: int, work: Work, folder: Path, figures: Figures) -> None:
        self._name = f"case {number}, {work.name}"
        self._work, self._folder, self._figures = work, folder, figures
        self._shared = shared()
        self._rows: list[Row] = []

    def kill(self, how: signal.Signals, after: float, *, loaded: bool) -> bool:
        """Kill a call after so many seconds; whether it was still running.

        Args:
            loaded: Its own code is running by then, so that Ctrl-C may not end in a traceback of Python's start.
        """
        process = start(self._work, self._folder)
        with suppress(subprocess.TimeoutExpired):
            process.wait(after)
        running = process.poll() is None
        if running:
            what = f"{how.name} after {after:.2f} s"
            self._figures.kills[self._work.name, how.name] += 1
            os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
            try:
                status = process.wait(ENDS_S)
                self._figures.ended[how.name, status] += 1
                asked = how != signal.SIGKILL
                if asked and loaded and "Traceback (most recent call last)" in said(self._folder):
                    self._tell("tracebacks", f"{what}: {said(self._folder)[-400:]!r}")
                if asked and status not in (0, 130, 143):
                    self._tell("failures", f"{what}: status {status}: {said(self._folder)[-400:]!r}")
            except subprocess.TimeoutExpired:
                self._tell("hangs", f"{what}: runs on {ENDS_S:.0f} s later")
                _end([process.pid])
                process.wait()
        elif process.returncode:
            self._tell("failures", f"a call that goes on: {said(self._folder)!r}")
            what = "a failure"
        else:
            what = "the end"
        self._look(what, ended=not running)
        return running

    def finish(self, expected: Any) -> None:
        """Let a last call end, and compare its result."""
        try:
            if self.kill(signal.SIGKILL, LONGEST_S, loaded=True):
                self._tell("hangs", f"a call that goes on takes more than {LONGEST_S:.0f} s")
                return
            if self._work.result(self._folder / "work") != expected:
                self._tell("unequal", "the result after going on is another")
        except (OSError, ValueError, KeyError) as error:
            self._tell("unequal", f"no result after going on: {type(error).__name__}: {error}")

    def _look(self, what: str, *, ended: bool) -> None:
        alive = _wait_gone()
        for pid, words in alive.items():
            self._tell("orphans", f"{what}: {words or pid}")
        _end([pid for pid, words in alive.items() if "resource_tracker" not in words])
        _end(_wait_gone())  # trackers remove what the others shared, unless they are killed at once
        _wait_gone()
        for name in sorted(shared() - self._shared):
            self._tell("leftovers", f"{what}: {name}")
            self._shared.add(name)
        for name in temporary(self._folder, self._work, ended=ended):
            self._tell("leftovers", f"{what}: {name}")
            with suppress(OSError):  # told once
                path = self._folder / ("tmp" if name.startswith("$") else "work") / name.removeprefix("$TMPDIR/")
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            rows = self._work.rows(self._folder / "work")
        except Exception as error:
            self._tell("lost", f"{what}: nothing can be read: {type(error).__name__}: {error}")
            return
        doubled = [key for key, count in Counter(key for key, _ in rows).items() if count > 1]
        for key in doubled:
            self._tell("doubled", f"{what}: {key}")
        for key, row in set(self._rows) - set(rows):
            self._tell("lost", f"{what}: {key}: {row[:100]}")
        self._rows = rows

    def _tell(self, kind: str, words: str) -> None:
        self._figures.found[kind].append(f"{self._name}: {words}")


def _wait_gone() -> dict[int, str]:
    """What is still alive when the time for it is over."""
    until = time.monotonic() + GONE_S
    while (alive := descendants()) and time.monotonic() < until:
        time.sleep(0.05)
    return alive


def _end(pids: Sequence[int] | dict[int, str]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def cases(works: Sequence[Work], seed: int, first: int) -> Iterator[tuple[int, Work, random.Random]]:
    """Numbers without end; each work has its turn, and its own chances by its number."""
    number = first
    while True:
        yield number, works[number % len(works)], random.Random(f"{seed}/{number}")
        number += 1


def run(works: Sequence[Work], folder: Path, figures: Figures, *, seed: int, first: int, seconds: float) -> None:
    """Cases until the time is over; no call begins later than that, but for the last one of a case."""
    ends = time.monotonic() + seconds
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "alrsim", "--version"], check=True, capture_output=True)
    loaded = 2 * (time.monotonic() - begun)
    graph = folder / "mlp.graph.json"
    words = f"graph mlp --option hidden=8 --batch 8 -o {graph}"
    subprocess.run([sys.executable, "-m", "alrsim", *words.split()], check=True, capture_output=True)
    alone: dict[str, tuple[float, Any]] = {}
    for number, work, chance in cases(works, seed, first):
        if time.monotonic() > ends:
            return
        if work.name not in alone:
            prepare(folder / work.name, graph)
            alone[work.name] = whole(work, folder / work.name)
        takes, expected = alone[work.name]
        place = folder / str(number)
        prepare(place, graph)
        case = Case(number, work, place, figures)
        figures.cases += 1
        for _ in range(chance.choice((1, 2, 3))):
            after = chance.uniform(0, takes)
            if time.monotonic() > ends or not case.kill(chance.choice(SIGNALS), after, loaded=after > loaded):
                break
        case.finish(expected)
        shutil.rmtree(place)
        print(f"\r{figures.cases} cases, {figures.kills.total()} kills", end="", file=sys.stderr, flush=True)


def report(figures: Figures) -> int:
    """Print the figures; 1 if there is a fault."""
    print(f"\n{figures.cases} cases, {figures.kills.total()} kills")
    names = list(dict.fromkeys(name for name, _ in figures.kills))
    print(f"{'':<22}" + "".join(f"{one.name:>9}" for one in SIGNALS))
    for name in names:
        print(f"{name:<22}" + "".join(f"{figures.kills[name, one.name]:>9}" for one in SIGNALS))
    for (how, status), count in sorted(figures.ended.items()):
        print(f"{how}: status {status} {count} times")
    print(", ".join(f"{len(figures.found[kind])} {kind}" for kind in FAULTS))
    for kind in FAULTS:
        for words in figures.found[kind]:
            print(f"{kind}: {words}")
    return int(any(figures.found.values()) or not figures.kills)


def main() -> None:
    """Kill for a stated time, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.crash", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3000, help="no call begins later, but to finish a case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case: repeats one")
    parser.add_argument("--only", default="", help="works whose name holds this, such as train or torchrun")
    asked = parser.parse_args()
    works = [work for work in WORKS if asked.only in work.name]
    if not works:
        raise SystemExit(f"no work's name holds {asked.only!r}: " + ", ".join(work.name for work in WORKS))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and so would ours
    adopt()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="alrsim-crash-") as folder:
        try:
            run(works, Path(folder), figures, seed=asked.seed, first=asked.first, seconds=asked.seconds)
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
        finally:
            _end(descendants())
    sys.exit(report(figures))


if __name__ == "__main__":
    main()
