#!/usr/bin/env python3
"""Takes each guard away in turn, and expects every attack to succeed that docs/threat-model.md says ends there.

A guard is an admission policy of the chart, which only audits then, or a rule of the webhook, whose refusals are dropped. The sources are
changed for that, and put back at the end. With names, only these; without, all. Minutes each.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUARDS = ROOT / "charts/ringfence/guards"
# One that is there with a value alone, and is no guard that the operator puts back.
TEMPLATES = ROOT / "charts/ringfence/templates"
ADMIT = ROOT / "src/webhook/admit.rs"
DECIDES = "                ..decision.unwrap_or_else(Decision::from_fault)\n            })\n"
MUTANT = ROOT / "target/mutant"
DROPS = """            .map(|mut decision| {
                let mutant = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/target/mutant"));
                decision.denials.retain(|denial| mutant.as_ref().is_ok_and(|mutant| denial.policy != *mutant));
                decision
            })
"""
# Who is no guard that a change of a line takes away; and what only warns.
OTHERS = {"API server", "NetworkPolicy", "RBAC", "accepted-declaration", "definition", "egress proxy", "operator", "scan"}
LONGEST = 1800


def attacks():
    """Each guard with the tests that name it."""
    page = (ROOT / "docs/threat-model.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", page, re.MULTILINE)
    test = re.compile(r"\[([^\]]+)\]\(\.\./tests/bypass/(\w+)\.rs\)")
    return {guard: [f"{file}::{told.replace(' ', '_')}" for told, file in test.findall(cell)] for guard, cell in rows}


def replaced(path, old, new):
    """Changes a file, and returns what puts it back, its time of change too: else all would be compiled again."""
    text, times = path.read_text(), path.stat()
    if text.count(old) != 1:
        sys.exit(f"{path.relative_to(ROOT)} does not hold this once, so nothing can be taken away there: {old.strip()}")
    path.write_text(text.replace(old, new))

    def put_back():
        path.write_text(text)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    return put_back


def build():
    command = ["cargo", "test", "--workspace", "--locked", "--test", "bypass", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    made = (json.loads(line) for line in lines)
    return next(one["executable"] for one in made if one.get("executable") and one["target"]["name"] == "bypass")


def run(binary, tests):
    """Those that passed, those that failed, and what these said."""
    command = [binary, "--exact", *tests]
    try:
        out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LONGEST).stdout
    except subprocess.TimeoutExpired:
        sys.exit(f"no end after {LONGEST} s: {' '.join(tests)}")
    ended = dict(re.findall(r"^test (\S+) \.\.\. (ok|FAILED)$", out, re.MULTILINE))
    if set(ended) != set(tests):
        sys.exit(f"these did not run: {' '.join(set(tests) - set(ended))}\n{out[-2000:]}")
    # What each panic said, and where: no more of what was written while it ran.
    said = "\n".join(re.findall(r"^thread '.*panicked at .*(?:\n.*){1,2}", out, re.MULTILINE))
    return {name for name in tests if ended[name] == "ok"}, {name for name in tests if ended[name] != "ok"}, said


def main():
    known = {guard: tests for guard, tests in attacks().items() if guard not in OTHERS}
    names = sys.argv[1:] or sorted(known)
    for name in names:
        if name not in known:
            sys.exit(f"docs/threat-model.md names no guard {name}; it has: {' '.join(sorted(known))}")
    policies = [name for name in names if name.startswith("ringfence-")]
    rules = [name for name in names if name not in policies]
    binary = build()
    _, broken, said = run(binary, sorted({test for name in names for test in known[name]}))
    if broken:
        sys.exit(f"these fail while every guard stands, so they show nothing: {' '.join(sorted(broken))}\n{said}")
    survived = []
    # Whoever ends it by a signal finds the sources as they were, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))

    def tried(name):
        passed, _, _ = run(binary, known[name])
        survived.extend((name, test) for test in passed)
        print(f"{name}: {len(known[name]) - len(passed)} of {len(known[name])} attacks succeed without it", flush=True)

    for name in policies:
        file = f"{name.removeprefix('ringfence-')}.yaml"
        path = next(folder / file for folder in (GUARDS, TEMPLATES) if (folder / file).exists())
        put_back = replaced(path, "validationActions: [Deny]", "validationActions: [Audit]")
        try:
            tried(name)
        finally:
            put_back()
    if rules:
        put_back = replaced(ADMIT, DECIDES, DECIDES + DROPS)
        try:
            binary = build()
            for name in rules:
                MUTANT.write_text(name)
                tried(name)
        finally:
            MUTANT.unlink(missing_ok=True)
            put_back()
            ADMIT.touch()  # what was compiled is not what stands
    for name, test in survived:
        print(f"{test} passes without {name}: what refuses it is another guard, or nothing is tried")
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
