#!/usr/bin/env python3
"""clang accepts every file without a warning, whatever compiler the build uses: found here rather than an hour later. usage: clang.py BUILD_ROOT

Unchanged files (no newer source or header since they were last found good) are not looked at again.
"""
import concurrent.futures
import json
import os
import shlex
import shutil
import subprocess
import sys

GCC_ONLY = {"-fno-tree-loop-distribute-patterns", "-fdiagnostics-color=always"}
CLANG_ONLY = ["-Wno-gnu-variable-sized-type-not-at-end", "-Wno-unknown-warning-option", "-fno-color-diagnostics"]  # as meson.build says


def newest_header(root):
    return max((os.stat(os.path.join(d, f)).st_mtime_ns for top in ("src", "tests") for d, _, fs in os.walk(os.path.join(root, top))
                for f in fs if f.endswith(".h")), default=0)


def command_for(entry):
    """The build's own command, with clang and no output."""
    words, out, skip = shlex.split(entry["command"]), ["clang"], False
    while words and not words[0].startswith("-"):
        words.pop(0)  # the compiler, and ccache before it
    for word in words:
        if skip or word in ("-o", "-MQ", "-MF"):
            skip = not skip
        elif word not in ("-MD", "-c") and word not in GCC_ONLY:
            out.append(word)
    return out + ["-fsyntax-only", "-Werror"] + CLANG_ONLY


def check(entry):
    r = subprocess.run(command_for(entry), cwd=entry["directory"], capture_output=True, text=True)
    return r.returncode, r.stderr


def main():
    build = os.path.abspath(sys.argv[1])
    if not shutil.which("clang"):
        print("SKIP: clang is not installed (tools/install-deps does it)")
        sys.exit(77)
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as f:
        entries = json.load(f)
    stamp = os.path.join(build, "clang-good.json")
    good = {}
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as f:
            good = json.load(f)
    headers, todo = newest_header(os.path.dirname(build)), []
    for e in entries:
        path = os.path.join(e["directory"], e["file"])
        key = e["command"]
        mark = [os.stat(path).st_mtime_ns, headers]
        if good.get(key) != mark:
            todo.append((e, key, mark))
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for (e, key, mark), (status, text) in zip(todo, pool.map(lambda t: check(t[0]), todo)):
            if status:
                bad += 1
                print(f"FAIL {e['file']}\n{text}")
            else:
                good[key] = mark
    with open(stamp, "w", encoding="utf-8") as f:
        json.dump({k: v for k, v in good.items() if any(k == e["command"] for e in entries)}, f)
    print(f"{len(entries)} files, {len(todo)} looked at, {bad} refused")
    sys.exit(1 if bad or not entries else 0)


if __name__ == "__main__":
    main()
