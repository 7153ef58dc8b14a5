#!/usr/bin/env python3
"""Check a Murphi model (src/proto/page.m, the coherence protocol; handoff.m, the hand-off of a part) with rumur, then with a bug seeded into it, which must be found.

usage: run.py MODEL WORK_DIR [--nodes N] [--bug NAME] -- CC...     exit 77: no rumur here
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

# model: {name: (text in it, replacement)}
BUGS = {"page": {
    "inv-keeps-the-copy": ("elsif recall = inv then\n    state[n] := I;", "elsif recall = inv then\n    state[n] := S;"),
    "write-back-is-forgotten": ("owner := NODES;\n      settle(l.bytes, l.fresh);", "owner := NODES;"),
    "fetch-ignores-the-hold": ("if held[n] > 0 then recalled[n] := l.kind; else answer(n, l.kind); end;", "answer(n, l.kind);"),
    "nobody-is-asked": ("elsif serving_m & sharer[k] then", "elsif serving_m & sharer[k] & k != NODES - 1 then"),
    "request-is-lost": ("assert \"nobody asks for what it has\" owner != n;\n      want[n] := want_m;", "if serving = NODES then want[n] := want_m; end;"),
}, "handoff": {
    "source-keeps-it": ("st[n] := forwarding;\n  body[n] := absent;", "st[n] := forwarding;\n  body[n] := runs;"),
    "abort-after-commit": ("(st[n] = asking | st[n] = freezing | st[n] = shipped) ==>", "(st[n] = asking | st[n] = freezing | st[n] = shipped | st[n] = forwarding) ==>"),
    "direct-words-at-once": ("| (st[n] = arrived & origin = sender & waiting[n][sender])", ""),
    "kept-words-are-forgotten": ("if i <= kept[n][k] then send", "if i < kept[n][k] then send"),
    "lost-target-is-waited-for": ("undo(b);\n      st[b] := here;", "undo(b);"),
}}


def seed(text, name, bug, nodes):
    if bug:
        old, new = BUGS[name][bug]
        if text.count(old) != 1:
            sys.exit(f"model: the text of bug {bug} is in the model {text.count(old)} times, not once")
        text = text.replace(old, new)
    return re.sub(r"NODES: \d+;", f"NODES: {nodes};", text, count=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("work")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--bug")
    parser.add_argument("cc", nargs="+")
    options = parser.parse_args()
    if not shutil.which("rumur"):
        print("SKIP: rumur is not installed (Debian package rumur)")
        return 77
    name = os.path.basename(options.model).removesuffix(".m")
    base = os.path.join(options.work, f"{name}_{options.nodes}_{options.bug or 'good'}")
    with open(options.model, encoding="utf-8") as model, open(base + ".m", "w", encoding="utf-8") as out:
        out.write(seed(model.read(), name, options.bug, options.nodes))
    deadlock = "off" if name == "handoff" else "stuttering"  # a move that is over is no deadlock
    subprocess.run(["rumur", "--threads", "1", "--colour", "off", "--deadlock-detection", deadlock, "--output", base + ".c", base + ".m"], check=True)
    subprocess.run([*options.cc, "-O2", "-w", "-mcx16", base + ".c", "-lpthread", "-o", base], check=True)
    run = subprocess.run([base], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in run.stdout.split("\n")]
    print("\n".join(line for line in lines if "error" in line.lower() or "failed" in line or "liveness" in line or "states, " in line))
    if options.bug:
        found = run.returncode == 1 and re.search(r"[1-9]\d* error\(s\) found", run.stdout) is not None
        print(f"model: seeded bug {options.bug} {'found' if found else 'NOT FOUND'}")
        return not found
    if run.returncode:
        print(run.stdout[-4000:])
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
