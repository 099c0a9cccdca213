#!/usr/bin/env python3
"""Counts what is in a folder of Claude Code transcripts and prints it as JSON.

Shares no code with the product: it is the second opinion that an import is compared with.

    count-transcripts.py DIR        DIR is the agent's folder (with projects/), or any folder or
                                    file of transcripts

Counted are records by type, sessions and messages (`user`, `assistant` and `system` records, each record id once),
API message ids, how many of them are split over several records, and for each id the greatest
value of each token number. A line may hold several objects; what cannot be read is listed.
"""

import json
import os
import sys

ROLES = ("user", "assistant", "system")
TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)


def transcript_files(path):
    if os.path.isfile(path):
        return [path]
    inside = os.path.join(path, "projects")
    root = inside if os.path.isdir(inside) else path
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in ("tool-results", "memory")]
        found += [os.path.join(folder, name) for name in names if name.endswith(".jsonl")]
    return sorted(found)


def objects_of(line):
    """Returns the whole objects at the start of a line, and whether that was all of it."""
    decoder = json.JSONDecoder()
    text = line.decode("utf-8", "replace").strip("\x00\ufeff \t\r\n")
    objects, at = [], 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            return objects, False
        if not isinstance(value, dict):
            return objects, False
        objects.append(value)
        while at < len(text) and text[at] in " \t\r\n\x00":
            at += 1
    return objects, len(objects) <= 1


def number(usage, name):
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


class Count:
    def __init__(self):
        self.files = 0
        self.records = 0
        self.types = {}
        self.sessions = set()
        self.messages = {}
        self.parts = {}
        self.tokens = {}
        self.damaged = []

    def read(self, path):
        self.files += 1
        name = os.path.basename(path)[: -len(".jsonl")]
        with open(path, "rb") as file:
            offset = 0
            for line_number, line in enumerate(file, 1):
                objects, whole = objects_of(line)
                if not whole:
                    place = {"file": path, "line": line_number, "byte_offset": offset}
                    self.damaged.append(place)
                for place_in_line, record in enumerate(objects):
                    self.add(record, name, (path, line_number, place_in_line))
                offset += len(line)

    def add(self, record, file_name, place):
        self.records += 1
        kind = record.get("type") or ""
        self.types[kind] = self.types.get(kind, 0) + 1
        if record.get("type") not in ROLES:
            return
        identity = record.get("uuid") or place
        if identity in self.messages:
            return
        session = record.get("sessionId") or file_name
        message = record.get("message")
        message = message if isinstance(message, dict) else {}
        self.sessions.add(session)
        self.messages[identity] = message.get("role") or record["type"]
        if record["type"] == "assistant" and message.get("id"):
            self.add_usage((session, message["id"]), record, message)

    def add_usage(self, key, record, message):
        self.parts[key] = self.parts.get(key, 0) + 1
        best = self.tokens.setdefault(key, dict.fromkeys(TOKENS, 0))
        made_up = message.get("model") == "<synthetic>" or record.get("isApiErrorMessage")
        usage = message.get("usage")
        if isinstance(usage, dict) and not made_up:
            for name in TOKENS:
                best[name] = max(best[name], number(usage, name))

    def result(self):
        roles = dict.fromkeys(ROLES, 0)
        for role in self.messages.values():
            roles[role] = roles.get(role, 0) + 1
        totals = {name: sum(best[name] for best in self.tokens.values()) for name in TOKENS}
        per_id = sorted(
            ({"session_id": s, "api_message_id": m, **best} for (s, m), best in self.tokens.items()),
            key=lambda row: (row["session_id"], row["api_message_id"]),
        )
        return {
            "files": self.files,
            "records": self.records,
            "types": self.types,
            "sessions": len(self.sessions),
            "messages": len(self.messages),
            "roles": roles,
            "message_ids": len(self.tokens),
            "split_message_ids": sum(parts > 1 for parts in self.parts.values()),
            "token_totals": totals,
            "session_ids": sorted(self.sessions),
            "tokens": per_id,
            "damaged": self.damaged,
        }


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    count = Count()
    for path in transcript_files(sys.argv[1]):
        count.read(path)
    json.dump(count.result(), sys.stdout, indent=1, sort_keys=True)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
