"""Good input made bad: bytes, structures and words changed by a seeded generator."""

import gzip
import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import yaml

WORDS = (
    "", " ", "0", "-1", "1", "2", "3", "16", "1000000", "99999999999999999999", "1e30", "1e-320", "nan", "inf", "-inf",
    "0.5", "1/3", "1/0", "0x10", "1_000", "\u0661", "true", "None", "[]", "{}", "=", ",", "a,,b", "a=b", "f=1",
    "f=1,b=1,w=1", "bp:1f1b", "lr:lr-free", "auto", "all", "fp16", "int8", "h100", "mlp", "threads", "sequential",
    "link", "layer", "\N{COLLISION SYMBOL}", "\x1b[2J\x07", "\u202eabc", "../../x", "/dev/null", "/dev/full", "/", ".",
    "no/such/folder/file.json", "mlp.graph.json", "schedule.csv", "profile.yaml", "x" * 5000, "--", "-", "a\nb",
)  # fmt: skip
"""What is typed for an option."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "\x1b[2J",
    "\u202e", [], {}, [[]], {"": ""}, [None], "0F0", "u0", "bp", "fp32", "1/3", "9" * 400,
)  # fmt: skip
"""What stands in a document instead of a value."""


TOKENS = ("", "0F0", "1B9", "9F9", "0F-1", "0W0", "(0F0;0B0)OVERLAP_F_B", "F", "0X0", '"')


def mutate(path: Path, chance: random.Random) -> str:
    """Change a file in place; what was done, in words."""
    data = path.read_bytes()
    packed = path.suffix == ".gz"
    if packed and chance.random() < 0.8:
        text, done = _document(gzip.decompress(data), ".json", chance)
        path.write_bytes(gzip.compress(text))
        return done
    if path.suffix == ".sqlite" and chance.random() < 0.7:
        return _store(path, chance)
    if path.suffix in {".json", ".yaml", ".csv"} and chance.random() < 0.85:
        data, done = _document(data, path.suffix, chance)
    else:
        data, done = _bytes(data, chance)
    path.write_bytes(data)
    return done


def _bytes(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    at = chance.randrange(len(data) or 1)
    kind = chance.choice(("flip", "cut", "double", "insert", "empty", "zeros"))
    if kind == "flip":
        count = chance.choice((1, 1, 1, 8))
        changed = bytearray(data)
        for _ in range(count):
            place = chance.randrange(len(data) or 1)
            changed[place : place + 1] = bytes([changed[place] ^ (1 << chance.randrange(8))]) if data else b""
        return bytes(changed), f"{count} bits flipped"
    if kind == "insert":
        added = chance.choice((b"\0", b"\xff\xfe", b"{", b'"', b",", b"\n", b"9" * 300, "\u0661".encode()))
        return data[:at] + added + data[at:], f"{added[:8]!r} inserted at {at}"
    made = {"cut": data[:at], "double": data + data, "empty": b"", "zeros": data[:at] + b"\0" * 64 + data[at + 64 :]}
    return made[kind], f"{kind} at {at}"


def _document(data: bytes, suffix: str, chance: random.Random) -> tuple[bytes, str]:
    """A change that leaves the document well formed."""
    if suffix == ".csv":
        return _cells(data, chance)
    document = json.loads(data) if suffix == ".json" else yaml.safe_load(data)
    done = []
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = list(_places(document))
        if not places:
            break
        holder, key, where = chance.choice(places)
        kind = chance.choice(("replace", "replace", "drop", "double", "swap", "number", "nest"))
        if kind == "drop":
            del holder[key]
            done.append(f"drop {where}")
            continue
        if kind == "swap":
            other, again, _ = chance.choice(places)
            holder[key], other[again] = other[again], holder[key]
            if holder is other or _contains(holder[key], holder) or _contains(other[again], other):
                holder[key] = None  # a document that contains itself cannot be written
        elif kind == "double" and isinstance(holder, list):
            holder.insert(key, holder[key])
        elif kind == "number" and isinstance(holder[key], int | float):
            holder[key] = chance.choice((holder[key] * 2, -holder[key], holder[key] * 1e9, holder[key] + 1, 0))
        elif kind == "nest":
            holder[key] = [holder[key]]
        else:
            kind, holder[key] = "replace", chance.choice(VALUES)
        done.append(f"{kind} {where}: {holder[key]!r:.40}")
    text = json.dumps(document) if suffix == ".json" else yaml.safe_dump(document, sort_keys=False)
    return text.encode(), "; ".join(done)


def _contains(value: Any, sought: Any) -> bool:
    if value is sought:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_contains(one, sought) for one in inner)


def _places(value: Any, where: str = "$") -> Any:
    """Every place in a document: what holds it, its key, and its path."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key, f"{where}.{key}"
        yield from _places(value[key], f"{where}.{key}")


def _cells(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    rows = [line.split(",") for line in data.decode().splitlines()]
    row = chance.choice(rows)
    place = chance.randrange(len(row))
    kind = chance.choice(("replace", "drop", "double", "move"))
    token = row.pop(place)
    if kind == "replace":
        row.insert(
            place, chance.choice(("", "0F0", "1B9", "9F9", "0F-1", "0W0", "(0F0;0B0)OVERLAP_F_B", "F", "0X0", '"'))
        )
    elif kind == "double":
        row[place:place] = [token, token]
    elif kind == "move":
        chance.choice(rows).insert(0, token)
    return "\n".join(",".join(one) for one in rows).encode(), f"{kind} {token}"


def _store(path: Path, chance: random.Random) -> str:
    """Rows of a table edited by somebody."""
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    table = chance.choice(tables)
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    column, value = chance.choice(columns), chance.choice((None, "", "x", -1, 10**15, 0.5, "{}", "[]", "null", b"\0"))
    kind = chance.choice(("update", "update", "delete", "drop", "rename"))
    try:
        if kind == "update":
            connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
        elif kind == "delete":
            connection.execute(f"DELETE FROM {table}")
        elif kind == "drop":
            connection.execute(f"DROP TABLE {table}")
        else:
            connection.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO other")
        connection.commit()
    except sqlite3.Error as error:
        kind = f"{kind} (refused by SQLite: {error})"
    connection.close()
    return f"{kind} {table}.{column} = {value!r}"
