#!/usr/bin/env python3
"""Compares canonical dumps of the server and of devices, row by row.

Usage: compare-replicas.py SERVER.jsonl DEVICE.jsonl [DEVICE.jsonl ...]

Every line is one row: table, scope, id, version, device, origin, hash, deleted, row. A device must
hold every row of the server whose table comes down, and of the tables that only go up those that
it was first to push (others of these only if it made the same rows); and it must hold nothing
else. Prints the differences and exits with 1 when
there are any. The device's own scope is written as on the wire.
"""

import json
import sys

UP_ONLY = {
    "platform_usage_stats",
    "org_calibration_history",
    "org_quality_metrics",
    "context_tool_analytics",
    "context_token_economics",
    "context_activity_associations",
    "projects_content_hashes",
}


def read(path):
    device, rows = None, {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if "this_device" in entry:
                device = entry["this_device"]
                continue
            key = (entry["table"], entry["scope"], entry["id"])
            if key in rows:
                sys.exit(f"{path}: {key} appears twice")
            rows[key] = entry
    return device, rows


def differences(server, device, rows):
    expected = {
        key: entry
        for key, entry in server.items()
        if key[0] not in UP_ONLY or entry["origin"] == device
    }
    for key in rows.keys() & server.keys():
        if key[0] in UP_ONLY:
            expected[key] = server[key]
    for key in sorted(expected.keys() - rows.keys()):
        yield f"missing {key}"
    for key in sorted(rows.keys() - expected.keys()):
        yield f"extra {key}"
    for key in sorted(expected.keys() & rows.keys()):
        for field in ("version", "device", "origin", "hash", "deleted", "row"):
            if expected[key].get(field) != rows[key].get(field):
                yield f"{field} of {key}: {expected[key].get(field)} != {rows[key].get(field)}"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    _, server = read(sys.argv[1])
    failed = False
    for path in sys.argv[2:]:
        device, rows = read(path)
        if device is None:
            sys.exit(f"{path}: no line names the device")
        found = list(differences(server, device, rows))
        for line in found[:20]:
            print(f"{path}: {line}")
        failed |= bool(found)
        print(f"{path}: {len(rows)} rows, {len(found)} differences")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
