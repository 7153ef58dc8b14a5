#!/usr/bin/env python3
"""./check counts right, says why, and leaves nothing behind: tried on a scratch project of shell scripts. usage: check.py ROOT"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

MESON = """project('scratch', version: '1')
sh = find_program('sh')
test('good', sh, args: ['-c', 'exit 0'], suite: 'unit')
test('partly', sh, args: ['-c', 'echo "SKIP inner: no left shoe"'], suite: 'unit')
test('away', sh, args: ['-c', 'echo "SKIP: no right shoe"; exit 77'], suite: 'unit')
test('bad', sh, args: ['-c', 'exit 3'], suite: 'sim')
test('slow', sh, args: ['-c', 'sleep 1000'], suite: 'model', timeout: 1)
test('litters', sh, args: ['-c', 'setsid sleep 1001 >/dev/null 2>&1 & echo $! >"$0"', meson.project_source_root() / 'litter'], suite: 'host')
test('hangs', sh, args: ['-c', 'trap "" TERM; echo $$ >"$0"; sleep 1002; sleep 1003', meson.project_source_root() / 'started'],
  suite: 'explore', timeout: 600)
"""


def scratch(root, folder):
    os.makedirs(os.path.join(folder, "tools"))
    shutil.copy(os.path.join(root, "tools/run-checks"), os.path.join(folder, "tools/run-checks"))
    with open(os.path.join(folder, "meson.build"), "w", encoding="utf-8") as f:
        f.write(MESON)


def run(folder, *args):
    r = subprocess.run([sys.executable, "tools/run-checks", *args], cwd=folder, capture_output=True, text=True, timeout=120)
    return r.returncode, r.stdout


def number(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        return int(f.read())


def alive(pid):
    return os.path.exists(f"/proc/{pid}")


def interrupted(folder):
    """Start the hanging suite, wait until its test runs, press Ctrl-C."""
    os.mkfifo(os.path.join(folder, "started"))
    child = subprocess.Popen([sys.executable, "tools/run-checks", "explore"], cwd=folder, stdout=subprocess.PIPE, text=True)
    test = number(folder, "started")
    child.send_signal(signal.SIGINT)
    out = child.communicate(timeout=120)[0]
    return child.returncode, out, alive(test)


def main():
    failed = 0

    def expect(what, good):
        nonlocal failed
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {what}")

    with tempfile.TemporaryDirectory() as folder:
        scratch(sys.argv[1], folder)
        status, out = run(folder, "unit")
        last = out.splitlines()[-1]
        expect(f"sum of a good suite: {last}", last == "2 passed, 0 failed, 1 skipped" and status == 0)
        expect("reasons are told", "SKIP unit/away (skipped): no right shoe" in out and "unit/partly (in part)" in out and "no left shoe" in out)
        status, out = run(folder, "unit", "sim", "--json")
        told = json.loads(out)
        expect("JSON counts a failure", status == 1 and (told["passed"], told["failed"], told["skipped"]) == (2, 1, 1))
        status, out = run(folder, "model")
        expect("a timeout is a failure", status == 1 and out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped")
        status, out = run(folder, "guest")
        expect("nothing ran is no success", status == 1 and out.splitlines()[-1] == "0 passed, 0 failed, 0 skipped")
        status, out = run(folder, "host")
        expect("what a test leaves running is ended and named", status == 0 and "sleep" in out and not alive(number(folder, "litter")))
        status, out, left = interrupted(folder)
        expect("Ctrl-C ends everything, tests that ignore it too",
               status == 1 and out.splitlines()[-1].startswith("0 passed, ") and not left)
        with open(os.path.join(folder, "meson.build"), "a", encoding="utf-8") as f:
            f.write("nonsense(\n")
        status, out = run(folder, "unit")
        expect("a build that breaks is a failure", status == 1 and out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
