"""What a random request cannot know: who is logged in, which ids exist, what a row hashes to.

Schemathesis makes requests from the OpenAPI document; this module puts into most of the
well-formed ones what earlier replies said (ids, cursors, tokens), so that they get further than
the first check. Requests that are wrong on purpose stay as they are. It also counts.

Environment: FUZZ_URL, FUZZ_BOOTSTRAP (the file with the first credentials), FUZZ_SEED, FUZZ_FIGURES
(the file that gets the counts).
"""

import atexit
import copy
import hashlib
import json
import os
import random
import re
import threading
import time
import uuid

import requests
import schemathesis

URL = os.environ["FUZZ_URL"].rstrip("/")
with open(os.environ["FUZZ_BOOTSTRAP"], encoding="utf-8") as first:
    BOOTSTRAP = json.load(first)
LICENSE = BOOTSTRAP["license_key"]
FIGURES = os.environ["FUZZ_FIGURES"]
CHANCE = random.Random(int(os.environ.get("FUZZ_SEED", "0")))
LOCK = threading.RLock()
UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
# Values kept of each kind; the oldest go first.
POOL_MAX = 200
# An access token lasts fifteen minutes.
RENEW_SECONDS = 300
TIMES = ["", "2026-02-03T04:05:06Z", "0001-01-01T00:00:00.5+14:00", "9999-12-31 23:59:59"]


def post(path, body):
    reply = requests.post(f"{URL}/api/v1{path}", json=body, timeout=30)
    reply.raise_for_status()
    return reply.json()


class Run:
    """The login that all requests are sent with; no request may end it."""

    def __init__(self):
        self.login = post("/auth/license/", {"license_key": LICENSE, "device": {"name": "fuzz"}})
        self.renewed = time.monotonic()
        self.document = requests.get(f"{URL}/api/v1/openapi.json", timeout=30).json()

        status = requests.get(
            f"{URL}/api/v1/context/status",
            headers={"Authorization": f"Bearer {self.login['access_token']}"},
            timeout=30,
        )
        # Requests that name no device count for this one.
        self.web_device = status.json()["device_id"]

    def bearer(self):
        with LOCK:
            if time.monotonic() - self.renewed > RENEW_SECONDS:
                token = self.login["refresh_token"]
                self.login = post("/auth/refresh/", {"refresh_token": token})
                self.renewed = time.monotonic()
            return self.login["access_token"]


RUN = Run()
DEVICE, USER, TENANT = (RUN.login[name] for name in ("device_id", "user_id", "tenant_id"))
PROTECTED = {DEVICE, USER, TENANT, RUN.web_device}
SCOPES = [f"user:{USER}", f"org:{TENANT}"]
TABLES = {
    schema["x-table"]["cloud"]: schema
    for schema in RUN.document["components"]["schemas"].values()
    if isinstance(schema, dict) and "x-table" in schema
}


class Pool:
    """Values of replies by the name they had there."""

    def __init__(self):
        self.values = {}

    def add(self, name, value):
        known = self.values.setdefault(name, [])
        if value not in known:
            known.append(value)
            del known[:-POOL_MAX]

    def remove(self, name, value):
        known = self.values.get(name, [])
        if value in known:
            known.remove(value)

    def any(self, *names):
        found = [value for name in names for value in self.values.get(name, [])]
        return CHANCE.choice(found) if found else None


POOL = Pool()
POOL.add("device_id", DEVICE)
for scope in SCOPES:
    POOL.add("scope", scope)
# Token of each (device, file); rows by table as (id, version).
TOKENS, ROWS = {}, {}


@schemathesis.auth(refresh_interval=60)
class Bearer:
    def get(self, case, context):
        return RUN.bearer()

    def set(self, case, data, context):
        case.headers["Authorization"] = f"Bearer {data}"


# --- before a request ----------------------------------------------------------------------------


@schemathesis.hook
def before_call(context, case, kwargs):
    with LOCK:
        if is_positive(case):
            if CHANCE.random() < 0.9:
                make_credible(case)
        elif isinstance(case.body, dict) and CHANCE.random() < 0.8:
            pass_first_checks(case.body)
        protect_own_login(case)


def is_positive(case):
    return case.meta is None or case.meta.generation.mode.is_positive


def make_credible(case):
    area = area_of(case.path)
    for name in list(case.path_parameters or {}):
        known = POOL.any(f"{area}.id", f"{area}.{name}") if name == "id" else None
        known = known or POOL.any(name, f"{area}.{name}")
        if known and CHANCE.random() < 0.8:
            case.path_parameters[name] = known
    if isinstance(case.query, dict):
        reuse_query(case.query)
    if "X-Device-ID" in (case.headers or {}):
        case.headers["X-Device-ID"] = POOL.any("device_id")
    if not isinstance(case.body, dict):
        return
    reuse(case.body, area)
    special = SPECIAL.get(case.operation.definition.raw.get("operationId"))
    if special:
        special(case.body)


def pass_first_checks(body):
    """Lets a request that is wrong somewhere else get there."""
    if isinstance(body.get("api_version"), str):
        body["api_version"] = RUN.document["info"]["version"]
    if UUID.match(str(body.get("device"))):
        body["device"] = POOL.any("device_id")
    if isinstance(body.get("scope"), str) and ":" in body["scope"]:
        body["scope"] = CHANCE.choice(SCOPES)


def area_of(path):
    """Returns what a path is about: `teams` of /api/v1/teams/{id}/members."""
    parts = [part for part in path.split("/") if part and not part.startswith("{")]
    # Records have ids of their own below this one.
    if parts[2:3] == ["context"]:
        parts = parts[1:]
    return parts[2] if len(parts) > 2 else path


def reuse_query(query):
    if "epoch" in query and CHANCE.random() < 0.8:
        query["epoch"] = POOL.any("epoch") or query["epoch"]
    if "cursor" in query and CHANCE.random() < 0.8:
        query["cursor"] = POOL.any("position") or 0
    for name in ("scope", "session_id", "task_id", "project_id", "user_id"):
        if name in query and CHANCE.random() < 0.6:
            query[name] = POOL.any(name) or query[name]


def reuse(value, area):
    """Replaces ids and scopes in a body by ones that exist."""
    if isinstance(value, list):
        for item in value:
            reuse(item, area)
    if not isinstance(value, dict):
        return
    for name, old in value.items():
        if isinstance(old, (dict, list)):
            reuse(old, area)
        elif isinstance(old, str) and (UUID.match(old) or name in ("scope", "epoch")):
            known = POOL.any(f"{area}.{name}", name)
            if known and CHANCE.random() < 0.6:
                value[name] = known


def login_with_license(body):
    if CHANCE.random() < 0.8:
        body["license_key"] = LICENSE
    if isinstance(body.get("device"), dict) and CHANCE.random() < 0.7:
        body["device"].pop("id", None)


def login_with_password(body):
    if CHANCE.random() < 0.8:
        body["email"], body["password"] = BOOTSTRAP["email"], BOOTSTRAP["password"]
        body.pop("tenant_id", None)


def refresh(body):
    known = POOL.values.get("refresh_token")
    if known and CHANCE.random() < 0.7:
        body["refresh_token"] = known.pop()


def pull(body):
    body["api_version"] = RUN.document["info"]["version"]
    body["device"] = POOL.any("device_id")
    for position in body.get("positions", []):
        if CHANCE.random() < 0.9:
            position["scope"] = POOL.any("scope")
        if position.get("cursor") and CHANCE.random() < 0.8:
            position["cursor"] = POOL.any("cursor")
        if position.get("cursor") is None:
            position.pop("cursor", None)
        position.pop("token", None)
    if body.get("table") and CHANCE.random() < 0.8:
        file = TABLES.get(body["table"], {}).get("x-table", {}).get("file", "org")
        for position in body.get("positions", []):
            position["file"] = file


def push(body):
    body["api_version"] = RUN.document["info"]["version"]
    body["device"] = POOL.any("device_id")
    if CHANCE.random() < 0.9:
        body["scope"] = CHANCE.choice(SCOPES)
    if CHANCE.random() < 0.7:
        body["sent_at_ms"] = int(time.time() * 1000)
    body["batch_id"] = POOL.any("batch_id") if CHANCE.random() < 0.03 else str(uuid.uuid4())
    POOL.add("batch_id", body["batch_id"])
    changes = [change for change in body.get("changes", []) if isinstance(change, dict)]
    changes = with_earlier(changes)
    entries = [TABLES[change["table"]] for change in changes if change.get("table") in TABLES]
    if entries and CHANCE.random() < 0.95:
        body["file"] = CHANCE.choice(entries)["x-table"]["file"]
        body["changes"] = [change for change in changes if in_file(change, body["file"])]
    for change in body.get("changes", []):
        settle(change, body["device"])
    if CHANCE.random() < 0.97:
        token = TOKENS.get((body["device"], body["file"]))
        body.pop("token", None)
        if token:
            body["token"] = token


# Changes that were generated, to be sent again beside others.
SEEN = []


def with_earlier(changes):
    """Fills a batch up with changes of earlier ones: the generator makes short ones."""
    SEEN.extend(copy.deepcopy(changes))
    del SEEN[:-500]
    if SEEN and CHANCE.random() < 0.6:
        changes = changes + copy.deepcopy(CHANCE.choices(SEEN, k=CHANCE.randint(1, 40)))
    return changes


def in_file(change, file):
    entry = TABLES.get(change.get("table"))
    return entry is None or entry["x-table"]["file"] == file


def settle(change, device):
    """Makes a change agree with itself: row and operation, id and key, hash and content."""
    entry = TABLES.get(change.get("table"))
    if entry is None:
        return
    table, row = entry["x-table"], change.get("row")
    known = ROWS.get(table["cloud"])
    if known and CHANCE.random() < 0.5:
        change["id"], version = CHANCE.choice(known)
        if CHANCE.random() < 0.8:
            change["base"] = version
    if change.get("op") == "delete" or not isinstance(row, dict):
        change["op"] = "delete"
        change.pop("row", None)
        return
    if CHANCE.random() < 0.05:
        return
    for name in table.get("required", []):
        if name not in row and CHANCE.random() < 0.95:
            row[name] = filler(entry["properties"][name])
    keys = [row.get(name) for name in table["key"]]
    if keys and all(isinstance(key, str) for key in keys):
        change["id"] = derived_id(table, keys, device)
    change["hash"] = content_hash(entry, row)


def filler(column):
    return {"integer": 1, "number": 0.5, "boolean": True}.get(column.get("type"), "x")


def derived_id(table, keys, device):
    parts = [table["cloud"].encode()]
    if table["per_device"]:
        parts.append(uuid.UUID(device).bytes)
    parts += [key.encode() for key in keys]
    data = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    digest = bytearray(hashlib.sha256(data).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def content_hash(entry, row):
    """Returns the hash of a row, as RFC 8785 has it but for numbers with an exponent."""
    columns = entry["properties"]
    hashed = {
        name: canonical(value)
        for name, value in row.items()
        if name == "extra" or columns.get(name, {}).get("x-merge") in ("lww", "owner")
    }
    text = json.dumps(utf16_sorted(hashed), ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value):
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def utf16_sorted(value):
    if isinstance(value, list):
        return [utf16_sorted(item) for item in value]
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be", "replace"))
        return {name: utf16_sorted(item) for name, item in items}
    return canonical(value)


def put_task(body):
    for name in ("started_at", "completed_at"):
        if isinstance(body.get(name), str) and CHANCE.random() < 0.9:
            body[name] = CHANCE.choice(TIMES)
    if CHANCE.random() < 0.3:
        body["task_id"], body["session_id"] = CHANCE.choice("ab"), "s"


def put_record(body):
    for name in ("start_date", "end_date", "date", "measured_at", "calibrated_at"):
        if isinstance(body.get(name), str) and CHANCE.random() < 0.9:
            body[name] = CHANCE.choice(TIMES)
    if "id" in body and CHANCE.random() < 0.5:
        body.pop("id")
    if "track_id" in body and CHANCE.random() < 0.5:
        body["track_id"], body["project_id"] = CHANCE.choice("ABC"), "p"
        body.pop("id", None)


def push_context(body):
    if isinstance(body.get("messages"), list) and CHANCE.random() < 0.9:
        for name in ("type", "content", "role", "metadata"):
            body.pop(name, None)
    for message in body.get("messages") or [body]:
        if not isinstance(message, dict) or CHANCE.random() < 0.1:
            continue
        if not message.get("type") and not message.get("content") and message is not body:
            message["content"] = CHANCE.choice(["", "x", "continue"]) + str(CHANCE.random())
        if body.get("messages") is None and not (message.get("type") or message.get("content")):
            message["content"] = "single " + str(CHANCE.random())
        metadata = message.get("metadata")
        if isinstance(metadata, dict):
            for name in ("source_id", "agent", "project_id"):
                if not isinstance(metadata.get(name, ""), str):
                    metadata.pop(name)
            metadata["timestamp"] = CHANCE.choice(TIMES[1:])
            metadata["source"] = CHANCE.choice("abc")


SPECIAL = {
    "pushContext": push_context,
    "putTask": put_task,
    "loginWithLicense": login_with_license,
    "loginWithPassword": login_with_password,
    "refresh": refresh,
    "logout": refresh,
    "pull": pull,
    "push": push,
}
for kind in ("Sprint", "Track", "Metric", "Calibration", "Checkpoint"):
    SPECIAL["create" + kind] = SPECIAL["edit" + kind] = put_record


def protect_own_login(case):
    """Keeps a request from locking out the run's own device or person."""
    for name, value in (case.path_parameters or {}).items():
        if case.method != "GET" and str(value).lower() in PROTECTED:
            case.path_parameters[name] = str(uuid.uuid4())


# --- after a reply -------------------------------------------------------------------------------

COUNTS, OUTCOMES = {}, {}


@schemathesis.hook
def after_call(context, case, response):
    operation = case.operation.definition.raw.get("operationId") or case.operation.label
    with LOCK:
        statuses = COUNTS.setdefault(operation, {})
        key = str(response.status_code)
        statuses[key] = statuses.get(key, 0) + 1
        try:
            reply = response.json()
        except ValueError:
            reply = None
        if case.method == "DELETE" and response.status_code == 204 and "/devices/" in case.path:
            POOL.remove("device_id", str((case.path_parameters or {}).get("id", "")).lower())
        if isinstance(reply, dict):
            remember(reply, area_of(case.path))
            if operation == "push":
                remember_push(case, response.status_code, reply)


def remember(value, area, depth=0):
    # The login of a run beside this one.
    if value.get("name") == "fuzz" and "id" in value:
        PROTECTED.add(value["id"])
    for name, item in value.items():
        if isinstance(item, list) and depth < 3:
            for entry in item[:50]:
                if isinstance(entry, dict):
                    remember(entry, area, depth + 1)
                elif name == "scopes":
                    POOL.add("scope", entry)
        elif isinstance(item, dict) and depth < 3:
            remember(item, area, depth + 1)
        elif name == "cursor" and isinstance(item, str) and ":" in item:
            POOL.add("cursor", item)
        elif name in ("cursor", "sync_cursor") and isinstance(item, int):
            POOL.add("position", item)
        elif name == "refresh_token":
            POOL.add(name, item)
        elif isinstance(item, str) and name == "id":
            POOL.add(f"{area}.id", item)
        elif isinstance(item, str) and (name.endswith("_id") or name in ("scope", "epoch")):
            POOL.add(name, item)


def remember_push(case, status, reply):
    body = case.body if isinstance(case.body, dict) else {}
    place = (body.get("device"), body.get("file"))
    if status == 200:
        TOKENS[place] = reply["token"]
    if reply.get("code") == "file_fenced":
        POOL.remove("device_id", body.get("device"))
    changes = body.get("changes") or []
    for change, outcome in zip(changes, reply.get("outcomes", [])):
        name = outcome["status"] + (f" {outcome['code']}" if outcome.get("code") else "")
        OUTCOMES[name] = OUTCOMES.get(name, 0) + 1
        stored = outcome.get("stored")
        if stored:
            known = ROWS.setdefault(stored["table"], [])
            known.append((stored["id"], stored["version"]))
            del known[:-20]


@atexit.register
def write_figures():
    with open(FIGURES, "a", encoding="utf-8") as file:
        file.write(json.dumps({"operations": COUNTS, "outcomes": OUTCOMES}) + "\n")
