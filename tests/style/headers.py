#!/usr/bin/env python3
"""Every header compiles alone, seeing only the rooms its room may include. usage: headers.py ROOT BUILD_ROOT CC..."""
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402

FLAGS = ["-std=gnu17", "-D_GNU_SOURCE", '-DTESSERA_VERSION="0"', "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unused-variable",
         "-Wno-missing-field-initializers", "-Werror", "-fsyntax-only", "-x", "c"]


def compiles(cc, folder, includes, header):
    """One translation unit that is nothing but the header, twice: its guard works too."""
    text = f'#include "{header}"\n#include "{header}"\n'
    flags = [f for i in includes for f in ("-I", i)]
    r = subprocess.run(cc + FLAGS + flags + ["-"], input=text, cwd=folder, capture_output=True, text=True)
    return r.returncode == 0, r.stderr


def see_it_fail(cc):
    """A header that leans on its includer must be seen failing."""
    with tempfile.TemporaryDirectory() as folder:
        house.write(folder, "leans.h", "/* x */\n#ifndef LEANS_H\n#define LEANS_H\nuint32_t leans(void);\n#endif\n")
        return not compiles(cc, folder, [folder], "leans.h")[0]


def main():
    root, build, cc = sys.argv[1], sys.argv[2], sys.argv[3:]
    tree = house.Tree(root)
    bad = 0 if see_it_fail(cc) else 1
    if bad:
        print("FAIL a header that leans on its includer was accepted")
    headers = [n for n in tree.c_files("src/", "tests/") if n.endswith(".h")]
    for name in headers:
        room = house.room_of(name)
        includes = [os.path.join(build, "rooms", room)] if room else [root, os.path.join(root, "src")]
        good, why = compiles(cc, root, includes, name[len("src/"):] if room else name)
        if not good:
            bad += 1
            print(f"FAIL {name}\n{why}")
    print(f"{len(headers)} headers, {bad} do not compile alone")
    sys.exit(1 if bad or not headers else 0)


if __name__ == "__main__":
    main()
