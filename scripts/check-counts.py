#!/usr/bin/env python3
"""Compares what count-transcripts.py found with the rows of devices.

Usage: check-counts.py COUNTED.json SESSIONS.db [SESSIONS.db ...]

Reads the databases with Python's own SQLite, nothing of the product. Exits with 1 and prints the
differences when there are any.
"""

import json
import sqlite3
import sys

TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


def rows(database, sql):
    return database.execute(sql).fetchall()


def differences(counted, database):
    def one(sql):
        return rows(database, sql)[0][0]

    expected = {
        "sessions": (counted["sessions"], one("select count(*) from sessions")),
        "messages": (counted["messages"], one("select count(*) from messages")),
        "message ids": (
            counted["message_ids"],
            one("select count(distinct api_message_id) from messages"),
        ),
        "roles": (
            counted["roles"],
            dict(rows(database, "select role, count(*) from messages group by role")),
        ),
        "session ids": (
            counted["session_ids"],
            [row[0] for row in rows(database, "select session_id from sessions order by 1")],
        ),
    }
    for name, (there, here) in expected.items():
        if there != here:
            yield f"{name}: counted {there}, stored {here}"
    names = ", ".join(TOKENS)
    stored = {
        (row[0], row[1]): row[2:]
        for row in rows(database, f"select session_id, api_message_id, {names} from token_economics")
    }
    for row in counted["tokens"]:
        key = (row["session_id"], row["api_message_id"])
        there = tuple(row[name] for name in TOKENS)
        here = stored.pop(key, (0,) * len(TOKENS))
        if there != here:
            yield f"tokens of {key}: counted {there}, stored {here}"
    for key in stored:
        yield f"tokens of {key}: stored and not counted"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        counted = json.load(file)
    failed = False
    for path in sys.argv[2:]:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        found = list(differences(counted, database))
        for line in found[:20]:
            print(f"{path}: {line}")
        failed |= bool(found)
        totals = ", ".join(f"{name} {counted['token_totals'][name]}" for name in TOKENS)
        print(
            f"{path}: {counted['sessions']} sessions, {counted['messages']} messages "
            f"{counted['roles']}, {counted['message_ids']} message ids, {totals}: "
            f"{len(found)} differences"
        )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
