"""Prints the figures of a run of scripts/fuzz-api and checks the server that it leaves behind."""

import json
import pathlib
import sys
import urllib.request

url, folder, bad = sys.argv[1:]
folder = pathlib.Path(folder)


def ask(path, body=None, login=None):
    request = urllib.request.Request(url + path)
    if login:
        request.add_header("Authorization", f"Bearer {login['access_token']}")
        request.add_header("X-Device-ID", login["device_id"])
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def merged(field):
    sums = {}
    lines = (folder / "figures").read_text().splitlines() if (folder / "figures").exists() else []
    for line in lines:
        for name, value in json.loads(line)[field].items():
            if isinstance(value, dict):
                known = sums.setdefault(name, {})
                for key, count in value.items():
                    known[key] = known.get(key, 0) + count
            else:
                sums[name] = sums.get(name, 0) + value
    return sums


def share(counts, first):
    total = sum(counts.values())
    return 100 * sum(n for status, n in counts.items() if status[0] == first) / max(total, 1)


operations = merged("operations")
whole = {}
print(f"{'operation':<28} {'requests':>8} {'2xx':>6} {'4xx':>6}  statuses")
for name, counts in sorted(operations.items()):
    for status, count in counts.items():
        whole[status] = whole.get(status, 0) + count
    statuses = " ".join(f"{status}:{count}" for status, count in sorted(counts.items()))
    figures = f"{sum(counts.values()):>8} {share(counts, '2'):>5.1f}% {share(counts, '4'):>5.1f}%"
    print(f"{name:<28} {figures}  {statuses}")
print(
    f"{'all':<28} {sum(whole.values()):>8} {share(whole, '2'):>5.1f}% {share(whole, '4'):>5.1f}%"
)
outcomes = merged("outcomes")
print("pushed changes: " + ", ".join(f"{name} {n}" for name, n in sorted(outcomes.items())))

problems = []
if int(bad):
    problems.append(f"{bad} seeds found something")
if any(status[0] == "5" for status in whole):
    problems.append("a reply was 5xx")
if not whole:
    problems.append("nothing was sent")
for needed in ("push", "pull", "pushContext"):
    if not any(status[0] == "2" for status in operations.get(needed, {})):
        problems.append(f"{needed} never worked")
try:
    healthy = ask("/health/") == {"status": "healthy"}
    bootstrap = json.loads((folder / "data/bootstrap.json").read_text())
    login = ask("/api/v1/auth/license/", {"license_key": bootstrap["license_key"]})
    status = ask("/api/v1/context/status", login=login)
    print(f"afterwards: healthy, {status['messages']} messages, {status['tasks']} tasks stored")
    if not healthy:
        problems.append("the server is not healthy")
except OSError as error:
    problems.append(f"the server does not answer afterwards: {error}")
log = (folder / "server.log").read_text(errors="replace").splitlines()
faults = [line for line in log if "panic" in line.lower() or '"level":"ERROR"' in line]
print(f"server log: {len(log)} lines, {len(faults)} with a panic or an error")
if faults:
    problems.append("the log has faults")
    print("\n".join(faults[:20]))
for problem in problems:
    print(f"fuzz: error: {problem}", file=sys.stderr)
sys.exit(1 if problems else 0)
