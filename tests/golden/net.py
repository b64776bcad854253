"""The net: what every verb says about a fixed set of inputs, reduced to the facts that any redesign must keep.

    python tests/golden/net.py            # run every case and say what differs from net.json
    python tests/golden/net.py --write    # write net.json anew: only for a change of numbers that is meant

Only :func:`run_case` knows how the command is called. Only :data:`RENAMED` knows that a key of JSON has
another name now.
"""

import contextlib
import hashlib
import io
import json
import math
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from net_cases import CASES, ESTIMATES, MADE, ONLY

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GOLDEN = HERE / "net.json"

RENAMED: dict[str, str] = {"kind": "profile_kind"}
"""Old name -> new name. A word is a key anywhere in a document; with a slash it is a piece of a path in net.json."""

_STEP_METRICS = "idle_fraction|overhead_ratio|rank_span_bubble|internal_idle|grid_idle|layer_rows_idle"

MOVED: tuple[tuple[str, str, str], ...] = (
    ("simulate|execute|explain", r"(model|hardware|durations/\w+)", r"about/\1"),
    ("sweep", r"results/([^/]+)/configuration/what-if", r"results/\1/configuration/what_if"),
    ("plan", "plans#", "ranked#"),
    ("plan", r"(chosen|runner_up|ranked/\*)/makespan_ns", r"\1/makespan"),
    ("plan", r"chosen/schedule#(lanes|tasks)", r"schedule#\1"),
    ("simulate|execute", rf"({_STEP_METRICS})", r"metrics/\1"),
    ("simulate|execute", "makespan_ns", "makespan"),
    ("sweep", r"results/([^/]+)/(?!configuration|error|digest|pareto)(.+)", r"results/\1/outcome/\2"),
)
"""Verbs, a whole path of net.json and where its fact is now: regular expressions."""

Fact = int | float | str | bool | None
Facts = dict[str, Fact]

_PROSE = {
    "text",
    "notes",
    "note",
    "warnings",
    "why",
    "how",
    "words",
    "description",
    "message",
    "fix",
    "label",
}
_PROSE |= {"bands", "paper_setup", "budget", "cost_model_error"}
_HOST = {
    "seconds",
    "host",
    "file",
    "version",
    "commit",
    "recorded_at",
    "torch",
    "clock",
    "data_folder",
    "peak_rss_bytes",
}
_FORM = {"digest", "schedule_digest", "job", "fx_nodes"}
"""Digests of files and jobs change with the form of the file; the lanes have a digest of the net's own."""

_SHAKY = {"low", "high"}
"""Ends of confidence intervals: of two draws they are far out, and hang on the last bits of the middle."""

_DROPPED = _PROSE | _HOST | _FORM | _SHAKY
_LANES = {"schedule", "lanes"}
_TABLES = {"operators", "spans", "transfers", "critical_path", "stretches", "ranked"}
"""Lists of many equal objects: one hash per column, so that a new column does no harm."""

_HASHED = {"slack"}
"""Objects with a key for every task."""
_NAMES = ("method", "id", "figure", "name", "profile", "rule")
"""Keys that name an element of a list, if each has another value."""

_SUM = re.compile(r"(\d+) values sum (\S+) [0-9a-f]{16}")
"""A column of numbers, see :func:`_column`."""

_MOST_WORDS, _MOST_CHARACTERS, _LONGEST_UNIT = 3, 48, 12
_MOST_NAMED, _MOST_COUNTED, _MOST_NUMBERS = 32, 8, 8


def run_case(words: Sequence[str]) -> dict[str, Any]:
    """The JSON document that the command prints for these words.

    Raises:
        RuntimeError: the command failed.
    """
    import torch

    from alrsim.cli.main import run

    out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run([*words, "--json", "-"])
    finally:
        torch.set_num_threads(threads)
    if status != 0:
        raise RuntimeError(f"alrsim {shlex.join(words)}\nended with {status}: {err.getvalue()}")
    document: dict[str, Any] = json.loads(out.getvalue())
    return _with_plans(document) if words[0] == "plan" and document["durations"] else document


def _with_plans(document: dict[str, Any]) -> dict[str, Any]:
    """A plan of durations as it was told when net.json was written: rules by name."""
    rows = {row["rule"]: row for row in document["ranked"]}
    names = {key: document[key]["rule"] for key in ("chosen", "runner_up")}
    return {
        **document,
        **names,
        "plans": rows,
        "stages": rows["lr"]["stages"],
        "microbatches": rows["lr"]["microbatches"],
    }


class Net:
    """Runs cases; files that several of them need are made once, in ``made``."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def facts(self, name: str) -> Facts:
        """The facts of one case, as this version of the program tells them."""
        with tempfile.TemporaryDirectory() as tmp:
            document = self._run(CASES[name], tmp)
            text = json.dumps(document)
            for folder, word in ((tmp, "{tmp}"), (str(self.made), "{made}"), (str(ROOT), "{root}")):
                text = text.replace(folder, word)
        document = _old_names(json.loads(text))
        if name in ONLY:
            document = {key: value for key, value in document.items() if key in ONLY[name]}
        return dict(sorted(_walk("", document)))

    def _run(self, line: str, tmp: str) -> dict[str, Any]:
        words = shlex.split(line)
        for word in words:
            folder, _, file = word.partition("/")
            if folder == "{made}" and file in MADE and not (self.made / file).exists() and MADE[file] != line:
                self._run(MADE[file], tmp)
        places = {
            "{inputs}": HERE / "inputs",
            "{traces}": ROOT / "traces" / "cpu-2core",
            "{made}": self.made,
            "{tmp}": tmp,
        }
        for place, folder in places.items():
            words = [word.replace(place, str(folder)) for word in words]
        return run_case(words)


def differences(name: str, wanted: Facts, found: Facts) -> list[str]:
    """One line for each stored fact that is not found as it was; facts that were added are none."""
    loose = CASES[name].split()[0] in ESTIMATES
    lines = []
    for old, value in wanted.items():
        path = _new_path(CASES[name].split()[0], old)
        if path not in found:
            lines.append(f"{path}: is missing, was {value!r}")
        elif not _same(value, found[path], loose):
            lines.append(f"{path}: is {found[path]!r}, was {value!r}")
    return lines


def _same(one: Fact, other: Fact, loose: bool) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        if isinstance(one, bool) or isinstance(other, bool):
            return one is other
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-5) if loose else one == other
    if loose and isinstance(one, str) and isinstance(other, str):
        sums = [_SUM.fullmatch(text) for text in (one, other)]
        if sums[0] and sums[1]:
            (count, total), (other_count, other_total) = sums[0].groups(), sums[1].groups()
            return count == other_count and _same(float(total), float(other_total), loose)
    return one == other


def _old_names(value: Any) -> Any:
    """The document with the keys of the day when net.json was written."""
    old = {new: old for old, new in RENAMED.items() if "/" not in old}
    if isinstance(value, dict):
        return {old.get(key, key): _old_names(one) for key, one in value.items()}
    return [_old_names(one) for one in value] if isinstance(value, list) else value


def _new_path(verb: str, path: str) -> str:
    for verbs, old, new in MOVED:
        if re.fullmatch(verbs, verb) and (found := re.fullmatch(old, path)):
            path = found.expand(new)
    for old, new in RENAMED.items():
        if "/" in old:
            path = path.replace(old, new)
    return path


def _walk(path: str, value: Any) -> Iterator[tuple[str, Fact]]:
    """Every fact with its path, the reduction itself."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _member(f"{path}/{key}" if path else str(key), str(key), one)
    elif isinstance(value, list):
        yield from _list(path, value)
    elif not (isinstance(value, str) and _is_prose(value)):
        yield path, _fact(value)


def _member(path: str, key: str, value: Any) -> Iterator[tuple[str, Fact]]:
    if key in _DROPPED or key.endswith("_seconds"):
        return
    if key == "source" and len(str(value)) > _LONGEST_UNIT:  # where a figure was read, not where a message is sent
        return
    if key in _LANES and isinstance(value, dict) and all(isinstance(lane, str) for lane in value.values()):
        yield f"{path}#tasks", sum(len(lane.split()) for lane in value.values())
        yield f"{path}#lanes", _digest(list(value.items()))
    elif key in _HASHED and isinstance(value, dict):
        yield f"{path}#", _column([_fact(value[name]) for name in sorted(value)])
    elif key in _TABLES and isinstance(value, list):
        yield from _table(path, value)
    else:
        yield from _walk(path, value)


def _list(path: str, values: list[Any]) -> Iterator[tuple[str, Fact]]:
    yield f"{path}#", len(values)
    if values and all(isinstance(one, dict) for one in values):
        names = _names(values)
        if names and len(values) <= _MOST_NAMED:
            for name, one in zip(names, values, strict=True):
                yield from _walk(f"{path}/{name}", one)
        elif len(values) > _MOST_COUNTED:
            yield from _table(path, values)
        else:
            for index, one in enumerate(values):
                yield from _walk(f"{path}/{index}", one)
        return
    flat = list(_flat(values))
    numbers = [one for one in flat if isinstance(one, float | int)]
    if len(flat) > _MOST_NUMBERS and len(numbers) == len(flat):
        yield from (
            (f"{path}#first", _fact(flat[0])),
            (f"{path}#last", _fact(flat[-1])),
            (f"{path}#sum", _fact(sum(flat))),
        )
    elif len(flat) > _MOST_NUMBERS:
        yield f"{path}#values", _column([_fact(one) for one in flat])
    else:
        for index, one in enumerate(values):
            yield from _walk(f"{path}/{index}", one)


def _table(path: str, rows: list[Any]) -> Iterator[tuple[str, Fact]]:
    """The number of rows, and every column as one fact."""
    yield f"{path}#", len(rows)
    facts = [dict(_walk("", row)) for row in rows]
    for column in dict.fromkeys(key for row in facts for key in row):
        yield f"{path}/*/{column}", _column([row.get(column) for row in facts])


def _names(values: list[dict[str, Any]]) -> list[str]:
    for key in _NAMES:
        names = [one.get(key) for one in values]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return [str(name) for name in names]
    return []


def _flat(values: list[Any]) -> Iterator[Any]:
    for one in values:
        if isinstance(one, list):
            yield from _flat(one)
        else:
            yield one


def _column(values: list[Fact]) -> str:
    numbers = [value for value in values if isinstance(value, float | int)]
    total = f" sum {_fact(sum(numbers))}" if numbers else ""
    return f"{len(values)} values{total} {_digest(values)}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


def _fact(value: Any) -> Fact:
    """Six digits of a number; whole numbers are whole, whatever their type."""
    if isinstance(value, float):
        rounded = float(f"{value:.6g}") if abs(value) > 1e-12 else 0.0
        return int(value) if value.is_integer() else rounded
    if value is None or isinstance(value, str | int):
        return value
    return _digest(value)


def _is_prose(text: str) -> bool:
    return len(text) > _MOST_CHARACTERS or text.count(" ") > _MOST_WORDS - 1


def load() -> dict[str, Facts]:
    """What net.json holds."""
    found: dict[str, Facts] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Run all cases; write or compare."""
    found: dict[str, Facts] = {}
    with tempfile.TemporaryDirectory() as made:
        net = Net(Path(made))
        for name in CASES:
            begun = time.process_time()
            found[name] = net.facts(name)
            print(f"{time.process_time() - begun:6.2f} s {len(found[name]):5d} facts  {name}", flush=True)
    print(f"{time.process_time():.1f} s of CPU, {sum(map(len, found.values()))} facts of {len(found)} cases")
    if "--write" in sys.argv[1:]:
        GOLDEN.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        return 0
    wanted = load()
    wrong = [f"{name}: {line}" for name in CASES for line in differences(name, wanted[name], found[name])]
    print("\n".join(wrong) or "all as it was")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
