#!/usr/bin/env python3
"""shellcheck over every shell script of the tree. usage: shell.py ROOT"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402


def main():
    if not shutil.which("shellcheck"):
        print("SKIP: shellcheck is not installed (tools/install-deps does it)")
        sys.exit(77)
    tree = house.Tree(sys.argv[1])
    scripts = [n for n in tree.files if tree.text[n].startswith(("#!/bin/sh", "#!/bin/bash", "#!/usr/bin/env bash"))]
    r = subprocess.run(["shellcheck", "-S", "warning"] + scripts, cwd=sys.argv[1])
    print(f"{len(scripts)} scripts")
    sys.exit(r.returncode)


if __name__ == "__main__":
    main()
