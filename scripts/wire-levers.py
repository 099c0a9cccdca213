#!/usr/bin/env python3
"""Measures what each way of packing long values saves on the wire, on any corpus of messages.

    scripts/wire-levers.py --database ~/.coditect-data/context-storage/sessions.db
    scripts/wire-levers.py --history .         # an agent that reads a repository's files as they change

Prints each way as a share of the same rows packed one by one by gzip -6, which is what the budget
(25 %) is about; the first of the two numbers is of messages with a long value, the second of all.
Needs the programs zstd and git. ADR 0026 has the figures.
"""

import argparse
import gzip
import hashlib
import json
import random
import re
import sqlite3
import subprocess
import tempfile
from pathlib import Path

IN_ROW = 8 * 1024
PREFIX = 2 * 1024
REQUEST = 4 * 1024 * 1024
CHANGES = 1000
COLUMNS = ("message_id session_id role message_type content content_blocks timestamp agent cwd "
           "git_branch source_type sequence").split()


def from_database(path):
    """Returns the messages of a device's file in the order of the queue."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    rows = []
    for found in database.execute("select * from messages order by seq"):
        row = {name: found[name] for name in COLUMNS if found[name] is not None}
        if "content_blocks" in row:
            row["content_blocks"] = json.loads(row["content_blocks"])
        rows.append(row)
    return rows


def git(folder, *words):
    ran = subprocess.run(["git", "-C", folder, *words], capture_output=True, check=True)
    return ran.stdout.decode("utf-8", "replace")


def message(number, text):
    blocks = [{"content": text, "tool_use_id": f"toolu_{number:024x}", "type": "tool_result"}]
    return {"message_id": f"claude:{number:032x}", "session_id": f"session-{number // 400:08}",
            "role": "user", "message_type": "user", "content": text, "content_blocks": blocks,
            "timestamp": "2026-01-01T00:00:00.000000Z", "agent": "claude",
            "cwd": "/home/ann/src/project", "git_branch": "main", "source_type": "jsonl",
            "sequence": number % 400 + 1}


def from_history(folder, commits):
    """Makes the messages of an agent that did a repository's last commits: it reads a file before
    each change and again after it, with the numbers of lines, and runs all tests after each."""
    rng, rows, words = random.Random(1), [], []
    names = sorted(set(re.findall(r"^\s*fn (\w{12,})\(\)", "\n".join(
        path.read_text("utf-8", "replace") for path in Path(folder).rglob("*.rs")
        if "target" not in path.parts), re.M)))[:800]
    log = git(folder, "log", "--no-merges", "--reverse", f"-{commits}", "--format=%H %s").split("\n")
    for line in filter(None, log):
        commit, subject = line.split(" ", 1)
        words.append(subject)
        rows.append(message(len(rows), f"Next: {subject}. " + " ".join(rng.choices(words, k=6))))
        changed = git(folder, "show", "--format=", "--name-only", "--diff-filter=M", commit)
        for path in list(filter(None, changed.split("\n")))[:12]:
            for side in (f"{commit}~1", commit):
                try:
                    text = git(folder, "show", f"{side}:{path}")
                except subprocess.CalledProcessError:
                    continue
                lines = text.split("\n")[:2000]
                numbered = "".join(f"{at + 1:>6}\t{it}\n" for at, it in enumerate(lines))
                rows.append(message(len(rows), numbered))
        tests = "".join(f"        PASS [   {rng.random():.3f}s] acme::{name}\n" for name in names)
        rows.append(message(len(rows), tests))
    return rows


def encode(row):
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def part(row):
    """Returns the row by name only, and its bodies."""
    parted, bodies = dict(row), []
    for name in ("content", "content_blocks"):
        text = row.get(name)
        if text is not None and name == "content_blocks":
            text = encode(text).decode()
        if text is None or len(text.encode()) <= IN_ROW:
            continue
        digest = hashlib.sha256(text.encode()).hexdigest()
        bodies.append((digest, text.encode(), name == "content_blocks"))
        parted[name] = text[:PREFIX] if name == "content" else None
        parted.setdefault("bodies", {})[name] = [digest, len(text)]
    return parted, bodies


class Packer:
    """Packs by the zstd program, in a folder of its own."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp())

    def zstd(self, data, level, window, reference=None):
        (self.folder / "in").write_bytes(data)
        words = ["zstd", "-q", "-f", f"-{level}", f"--long={window}", "-c"]
        if reference is not None:
            (self.folder / "reference").write_bytes(reference)
            words.append(f"--patch-from={self.folder / 'reference'}")
        ran = subprocess.run([*words, str(self.folder / "in")], capture_output=True, check=True)
        return len(ran.stdout)


def requests(pieces, size):
    """Divides encoded rows into requests as a device does."""
    out, held, count = [], b"", 0
    for piece in pieces:
        if held and (len(held) + len(piece) > size or count == CHANGES):
            out.append(held)
            held, count = b"", 0
        held, count = held + piece, count + 1
    return out + ([held] if held else [])


def chunks(data, average):
    """Cuts at lines whose hash says so: an edit changes the pieces that it touches."""
    out, held = [], b""
    for line in data.replace(b"\\n", b"\\n\n").split(b"\n"):
        held += line
        cut = int.from_bytes(hashlib.md5(line).digest()[:4], "big") % max(1, average // 50) == 0
        if (cut and len(held) > average // 4) or len(held) > average * 4:
            out.append(held)
            held = b""
    return out + ([held] if held else [])


def without_known(rows, size):
    """Leaves out bodies that an earlier request carried."""
    known, pieces, fresh, held, count = set(), [], set(), 0, 0
    for row in rows:
        parted, bodies = part(row)
        whole = encode(row)
        if held and (held + len(whole) > size or count == CHANGES):
            known |= fresh
            fresh, held, count = set(), 0, 0
        there = bodies and all(digest in known for digest, *_ in bodies)
        pieces.append(encode(parted) if there else whole)
        fresh |= {digest for digest, *_ in bodies}
        held, count = held + len(whole), count + 1
    return pieces


def unique_bodies(rows):
    seen, out = set(), []
    for row in rows:
        for digest, data, is_json in part(row)[1]:
            if digest not in seen:
                seen.add(digest)
                out.append((digest, data, is_json))
    return out


def replies(rows, as_values):
    """Returns what a new device is sent after the rows, newest first: each body as a text, or what
    is JSON as the value that it is, so that both forms of a text have the same bytes."""
    out = []
    for digest, data, is_json in reversed(unique_bodies(rows)):
        text = data if is_json and as_values else json.dumps(data.decode(), ensure_ascii=False).encode()
        out.append(b'{"hash":"' + digest.encode() + b'","text":' + text + b"}")
    return out


LABEL = re.compile("( *)(0|[1-9][0-9]{0,8})([\t\u2192])")


def take_text(text, at):
    """Takes numbers that count up off the lines of a text, as core::body::numbers does; returns the
    rest and what puts them back."""
    lines, runs, run = text.split("\n"), [], None
    labels = [LABEL.match(line) for line in lines]
    for line_at, label in enumerate(labels):
        if label and run:
            number, width = run["first"] + run["lines"], max(run["width"], len(label[2]))
            if (int(label[2]), label[3], len(label[1] + label[2])) == (number, run["mark"], width):
                run["lines"] += 1
                continue
        run = None
        if label:
            run = {"text": at, "line": line_at, "lines": 1, "first": int(label[2]),
                   "width": len(label[1] + label[2]), "mark": label[3]}
            runs.append(run)
    runs = [run for run in runs if run["lines"] >= 8]
    for run in runs:
        for line_at in range(run["line"], run["line"] + run["lines"]):
            lines[line_at] = lines[line_at][labels[line_at].end():]
    names = {"\t": "tab", "\u2192": "arrow"}
    return "\n".join(lines), [dict(run, mark=names[run["mark"]]) for run in runs]


def take(value, numbers, count):
    """Takes the numbers off all texts of a value, and notes them; count holds the texts so far."""
    if isinstance(value, str):
        value, runs = take_text(value, count[0])
        numbers += runs
        count[0] += 1
        return value
    if isinstance(value, list):
        return [take(it, numbers, count) for it in value]
    if isinstance(value, dict):
        return {name: take(value[name], numbers, count) for name in sorted(value)}
    return value


def unnumbered(piece):
    """Returns an encoded row as it is pushed: without the numbers of its lines."""
    row, noted = json.loads(piece), {}
    for name in ("content", "content_blocks"):
        numbers = []
        if row.get(name) is not None:
            row[name] = take(row[name], numbers, [0])
        if numbers:
            noted[name] = numbers
    return encode(dict(row, line_numbers=noted)) if noted else piece


def unnumbered_replies(rows, whole=True):
    """Returns what a new device is sent after the rows, as built: values where they are JSON, no
    numbers of lines; and without the beginning that the row has, unless whole is said."""
    out = []
    for digest, data, is_json in reversed(unique_bodies(rows)):
        text, numbers = data.decode(), []
        if not whole and not is_json:
            text = text[PREFIX:]
        value = take(json.loads(text) if is_json else text, numbers, [0])
        out.append(encode({"hash": digest, "value": value, "numbers": numbers}))
    return out


def by_reference(packer, rows, level):
    """Packs each new body against the earlier one that shares most of its pieces: two kilobytes
    from the fourth kilobyte on are the key, for lack of a better one a sample of its lines."""
    seen, total, recent = set(), 0, []
    for _, data, _ in unique_bodies(rows):
        sample = {line[7:60] for line in data.replace(b"\\n", b"\n").split(b"\n")[:400]}
        best = max(recent, key=lambda it: len(it[0] & sample), default=None)
        near = best and len(best[0] & sample) * 4 > len(sample)
        total += packer.zstd(data, level, 23, best[1] if near else None)
        recent = (recent + [(sample, data)])[-400:]
    parted = requests([encode(part(row)[0]) for row in rows if part(row)[1]], REQUEST)
    return total + sum(packer.zstd(data, level, 23) for data in parted)


def by_chunks(packer, rows, average, level):
    seen, pieces = set(), []
    for row in rows:
        parted, bodies = part(row)
        data = encode(parted)
        for _, body, _ in bodies:
            for chunk in chunks(body, average):
                digest = hashlib.sha256(chunk).digest()[:16]
                data += digest
                if digest not in seen:
                    seen.add(digest)
                    data += chunk
        pieces.append(data)
    return sum(packer.zstd(data, level, 23) for data in requests(pieces, REQUEST))


def measure(name, rows, level_max):
    packer = Packer()
    large = [row for row in rows if part(row)[1]]
    base = {id(it): sum(len(gzip.compress(encode(row), 6)) for row in it) for it in (large, rows)}
    plain = sum(len(encode(row)) for row in rows)
    print(f"{name}: {len(rows)} messages, {plain / 2**20:.2f} MiB; {len(large)} with long values; "
          f"one by one {base[id(large)] / 2**20:.2f} and {base[id(rows)] / 2**20:.2f} MiB")

    def show(what, way):
        shares = [way(of) / base[id(of)] for of in (large, rows)]
        print(f"  {what:<58} {shares[0]:.3f}  {shares[1]:.3f}", flush=True)

    def packed(pieces, level, size=REQUEST, window=23):
        return sum(packer.zstd(data, level, window) for data in requests(pieces, size))

    for level in (3, 7, level_max):
        show(f"up: requests of 4 MiB, level {level}",
             lambda of, level=level: packed([encode(row) for row in of], level))
    for level in (7, level_max):
        show(f"up: and without known bodies, level {level}",
             lambda of, level=level: packed(without_known(of, REQUEST), level))
    show("up: the same in requests of 16 MiB, window 16 MiB, level 7",
         lambda of: packed(without_known(of, 4 * REQUEST), 7, 4 * REQUEST, 24))
    for average in (1024, 4096):
        show(f"up: pieces by content of {average} bytes, known ones left out, level 7",
             lambda of, average=average: by_chunks(packer, of, average, 7))
    show("up: each new body against the nearest earlier one, level 7",
         lambda of: by_reference(packer, of, 7))
    for level in (7, 9, level_max):
        show(f"up: and no numbers of lines, level {level} (7: as built)",
             lambda of, level=level:
             packed([unnumbered(it) for it in without_known(of, REQUEST)], level))
    for level, as_values in ((3, False), (7, False), (3, True), (7, True), (level_max, True)):
        form = "as values" if as_values else "as texts"
        show(f"down: parted rows, then bodies {form}, level {level}",
             lambda of, level=level, as_values=as_values:
             packed([encode(part(row)[0]) for row in of], level)
             + packed(replies(of, as_values), level))
    for level in (7, 9, level_max):
        show(f"down: and no numbers of lines, level {level} (7: as built)",
             lambda of, level=level:
             packed([encode(part(row)[0]) for row in of], level)
             + packed(unnumbered_replies(of), level))
    show("down: the same, and no beginnings that rows have, level 7",
         lambda of: packed([encode(part(row)[0]) for row in of], 7)
         + packed(unnumbered_replies(of, whole=False), 7))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--database", type=Path, help="a device's sessions.db")
    parser.add_argument("--history", help="a git repository")
    parser.add_argument("--commits", type=int, default=120)
    parser.add_argument("--level-max", type=int, default=15)
    given = parser.parse_args()
    if given.database:
        measure(str(given.database.name), from_database(given.database), given.level_max)
    if given.history:
        rows = from_history(given.history, given.commits)
        measure(f"history of {given.commits} commits", rows, given.level_max)


if __name__ == "__main__":
    main()
