"""``make fuzz``: thousands of hostile inputs, each in a process of its own, and what became of them.

Good files of every kind (:mod:`tests.hostile.seeds`) are made bad, and options get values that nobody means. A run
fails if one input ends in a traceback, in "this is a bug" (exit 2), in a signal, in more than 20 s without an orderly
end after Ctrl-C, or with more than 2 GB. Inputs that were accepted are written to a table for somebody to look at.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.hostile.mutate import WORDS, mutate
from tests.hostile.seeds import READS, VERBS, Read, make_seeds

PATIENCE_S, GRACE_S, MOST_BYTES, ADDRESS_SPACE = 20.0, 15.0, 2 * 10**9, 16 * 10**9


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes:
        verdict: ``accepted``, ``refused``, ``long`` (ended in order by Ctrl-C), or a fault: ``bug``, ``traceback``,
            ``signal``, ``hang``, ``memory``, ``status``, ``silent`` (refused without a word), ``escape`` (control
            characters in the output).
        said: The end of what it printed.
    """

    number: int
    words: str
    done: str
    verdict: str
    seconds: float
    megabytes: int
    said: str


TURNS = "\u202a\u202b\u202d\u202e\u2066\u2067"
"""Characters that change the direction of text."""

FAULTS = ("bug", "traceback", "signal", "hang", "memory", "status", "silent", "escape")


def pick(number: int, seed: int, folder: Path) -> tuple[Read, list[str], str]:
    """The input of a number: a command line in a folder of good files, one of which or one option is bad."""
    chance = random.Random(f"{seed}/{number}")
    if chance.random() < 0.6:
        read = chance.choice(READS)
        done = mutate(folder / read.seed, chance)
        return read, [word.format(read.seed) for word in read.words.split()], f"{read.seed}: {done}"
    read = chance.choice(VERBS)
    words = read.words.split()
    added = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        name, takes = chance.choice(_options(words))
        value = chance.choice(WORDS)
        added.append([name, value] if takes else [name])
    more = [word for one in added for word in one]
    return read, [*words, *more], " ".join(repr(word)[:60] for word in more)


def _options(words: list[str]) -> list[tuple[str, bool]]:
    """Options of a verb, and whether each takes a value."""
    from alrsim.cli.main import application

    command: Any = application()
    context = command.make_context("alrsim", [words[0]], resilient_parsing=True)
    command = command.get_command(context, words[0])
    if hasattr(command, "list_commands"):
        command = command.get_command(context, words[1])
    found = [one for one in command.params if one.param_type_name == "option"]
    return [(one.opts[0], not one.is_flag) for one in found if one.opts[0] not in {"--help", "--executor", "--cluster"}]


def run_one(number: int, seed: int, seeds: Path) -> Outcome:
    """One input in a forked process."""
    with tempfile.TemporaryDirectory(prefix="alrsim-fuzz-") as made:
        folder = Path(made) / "work"
        shutil.copytree(seeds, folder)
        read, words, done = pick(number, seed, folder)
        log = Path(made) / "log"
        begun = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(words, folder, log)
        late, status, usage = "", None, None
        while status is None:
            ended, raw, usage = os.wait4(child, os.WNOHANG)
            waited = time.monotonic() - begun
            if ended:
                status = raw
            elif waited > PATIENCE_S and not late:
                os.kill(child, signal.SIGINT)
                late = "long"
            elif waited > PATIENCE_S + GRACE_S:
                os.killpg(child, signal.SIGKILL)
                late = "hang"
                status = os.wait4(child, 0)[1]
            else:
                time.sleep(0.01)
        text = log.read_bytes().decode("utf-8", "replace")
        assert usage is not None
        kilobytes = usage.ru_maxrss - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Outcome(
            number,
            " ".join(words)[:300],
            done[:300],
            _verdict(read, status, late, text, kilobytes * 1024),
            round(time.monotonic() - begun, 2),
            max(0, kilobytes // 1024),
            text[-1500:],
        )


def _verdict(read: Read, status: int, late: str, text: str, used: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if late == "hang" or (late and not read.slow):
        return "hang"
    if "Traceback (most recent call last)" in text:
        return "traceback"
    if "this is a bug" in text or code == 2:
        return "bug"
    if code < 0:
        return "signal"
    if used > MOST_BYTES:
        return "memory"
    if any(
        (ord(letter) < 32 and letter not in "\n\t\r") or letter in "\u202a\u202b\u202d\u202e\u2066\u2067"
        for letter in text
    ):
        return "escape"
    if late:
        return "long" if code == 130 else "hang"
    if code == 1 and "error" not in text:
        return "silent"
    return {0: "accepted", 1: "refused"}.get(code, "status")


def _child(words: list[str], folder: Path, log: Path) -> None:
    """Run a command line and leave; never returns."""
    status = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if words[0] == "load":
            status = _load(words[1])
        else:
            from alrsim.cli.main import run

            status = run(words)
        sys.stdout.flush()
        sys.stderr.flush()
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _load(file: str) -> int:
    import alrsim as al

    try:
        print(al.load(file))
    except al.AlrsimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def work(numbers: range, seed: int, seeds: Path, seconds: float) -> None:
    """Run inputs one after another and print a line of JSON for each."""
    import matplotlib.figure  # noqa: F401
    import onnx  # noqa: F401
    import torch

    import alrsim.cli.main
    import alrsim.execution.executor
    import alrsim.training.loop  # noqa: F401

    torch.set_num_threads(1)
    ends = time.monotonic() + seconds
    for number in numbers:
        if time.monotonic() > ends:
            break
        print(json.dumps(asdict(run_one(number, seed, seeds))), flush=True)


def main() -> None:
    """Share the inputs among processes, and print what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input: repeats one that failed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3000, help="no input begins later than that")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--part", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    seeds = asked.out.resolve() / "seeds"
    numbers = range(asked.first, asked.first + asked.inputs)
    if asked.part is not None:
        work(numbers[asked.part :: asked.workers], asked.seed, seeds, asked.seconds)
        return
    make_seeds(seeds)
    line = [sys.executable, "-m", "tests.hostile.fuzz", *sys.argv[1:], "--part"]
    outcomes = asked.out / "outcomes.jsonl"
    with outcomes.open("w") as file:
        parts = [subprocess.Popen([*line, str(part)], stdout=file, process_group=0) for part in range(asked.workers)]
        try:
            while any(part.poll() is None for part in parts):
                time.sleep(1)
                lines = len(outcomes.read_bytes().splitlines())
                print(f"\r{lines} of {asked.inputs}", end="", file=sys.stderr, flush=True)
        finally:
            for part in parts:
                part.terminate()
    found = [Outcome(**json.loads(line)) for line in outcomes.read_text().splitlines()]
    sys.exit(report(found, asked.out, all(part.returncode == 0 for part in parts)))


def report(found: list[Outcome], out: Path, whole: bool) -> int:
    """Print the figures and write the tables; 1 if there is a fault."""
    count = Counter(one.verdict for one in found)
    slowest, largest = max(found, key=lambda one: one.seconds), max(found, key=lambda one: one.megabytes)
    print(f"\n{len(found)} inputs: " + ", ".join(f"{number} {verdict}" for verdict, number in count.most_common()))
    print(f"slowest {slowest.seconds} s (input {slowest.number}), largest {largest.megabytes} MB ({largest.number})")
    accepted = [one for one in found if one.verdict == "accepted"]
    (out / "accepted.md").write_text(
        "| input | command | what was done |\n|---|---|---|\n"
        + "".join(f"| {one.number} | `{one.words}` | {one.done!r} |\n" for one in accepted)
    )
    print(f"{len(accepted)} accepted inputs to look at: {out / 'accepted.md'}")
    faults = [one for one in found if one.verdict in FAULTS]
    for one in sorted(faults, key=lambda one: (one.verdict, one.words)):
        print(f"\n{one.verdict} {one.number}: {one.words!r}\n  {one.done!r}\n  {one.seconds} s\n  {one.said[-500:]!r}")
    if not whole:
        print("a part of the inputs was not run: one of the processes failed")
    return int(bool(faults) or not whole)


if __name__ == "__main__":
    main()
