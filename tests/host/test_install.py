#!/usr/bin/env python3
"""What 'meson install' would put where, laid out in a folder, is whole: the program runs there and knows where its script is, and systemd understands the unit.
usage: test_install.py BUILD_DIRECTORY

Nothing is installed by meson itself: that would overwrite its record of what an administrator has installed from this build."""
import json
import os
import shutil
import subprocess
import sys
import tempfile


PROGRAM, SCRIPT, UNIT, COMPLETION = "bin/tessera", "tessera/tessera-image-build", "system/tessera.service", "completions/tessera"


def output(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def main():
    build = sys.argv[1]
    if not shutil.which("meson"):
        print("SKIP: no meson")
        return 77
    installed = json.loads(output("meson", "introspect", build, "--installed").stdout)
    wrong = []
    with tempfile.TemporaryDirectory() as root:
        place = {}
        for source, path in installed.items():
            name = "/".join(path.split("/")[-2:])
            place[name] = target = root + path
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(source, target)
        missing = {PROGRAM, SCRIPT, UNIT, COMPLETION, "man1/tessera.1", "man8/tessera-node.8"} - set(place)
        if missing:
            wrong.append(f"not installed: {missing}")
            place.clear()
        else:
            r = output(place[PROGRAM], "--version")
            if r.returncode or not r.stdout.startswith("tessera "):
                wrong.append(f"the installed program does not run: {r.stdout}{r.stderr}")
            r = output(place[PROGRAM], "image", "build", "--mirror", "http://127.0.0.1:9/debian", "-o", os.path.join(root, "x.img"), env=dict(os.environ, PATH="/bin"))
            with open(place[COMPLETION], encoding="utf-8") as f:
                if f.read() != output(place[PROGRAM], "help", "--completion").stdout:
                    wrong.append("the completion is not the program's")
            script = place[SCRIPT]
            if script.removeprefix(root) not in r.stderr and "image: Debian" not in r.stderr: # not there, but sought there; or installed here indeed
                wrong.append(f"the installed program does not seek its script where it is: {r.stderr}")
            if not os.access(script, os.X_OK):
                wrong.append(f"{script} cannot be executed")
            with open(place[UNIT], encoding="utf-8") as f:
                unit = f.read()
            program = place[PROGRAM].removeprefix(root)
            if f"ExecStart={program} node $TESSERA_NODE_OPTIONS\n" not in unit or "KillMode=process\n" not in unit or "@" in unit:
                wrong.append(f"not the unit that was meant: {unit}")
            if shutil.which("systemd-analyze"):
                with open(place[UNIT], "w", encoding="utf-8") as f:
                    f.write(unit.replace(f"={program} ", f"={place[PROGRAM]} "))
                r = output("systemd-analyze", "verify", "--man=no", place[UNIT])
                if r.returncode or "tessera.service" in r.stderr:
                    wrong.append(f"systemd does not like the unit: {r.stderr}")
    for line in wrong:
        print("FAIL", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
