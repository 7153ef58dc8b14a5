#!/usr/bin/env python3
"""man/tessera.1 is what the program's option table says, and both man pages and the completion are well formed. usage: manual.py TESSERA ROOT"""
import os
import re
import subprocess
import sys


def output(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


def main():
    tessera, root = sys.argv[1:3]
    wrong = []
    page = os.path.join(root, "man", "tessera.1")
    with open(page, encoding="utf-8") as f:
        if f.read() != output(tessera, "help", "--man"):
            wrong.append("man/tessera.1 is old: run 'build/tessera help --man > man/tessera.1'")
    for name in ("tessera.1", "tessera-node.8"):
        with open(os.path.join(root, "man", name), encoding="utf-8") as f:
            for n, line in enumerate(f, 1):
                if re.match(r"[.']", line) and not re.match(r"\.(\\\"|TH|SH|SS|TP|PP|B|I|BR|RI|IR|BI|nf|fi|br)\b", line) and not line.startswith('.\\"'):
                    wrong.append(f"man/{name}:{n}: no such request: {line.strip()}")
    subprocess.run(["bash", "-n"], input=output(tessera, "help", "--completion"), text=True, check=True)
    complete = output(tessera, "help", "--completion") + "COMP_WORDS=(tessera ru); COMP_CWORD=1; _tessera; echo ${COMPREPLY[*]}\n" \
        "COMP_WORDS=(tessera stop --ti); COMP_CWORD=2; _tessera; echo ${COMPREPLY[*]}\n" \
        "COMP_WORDS=(tessera image b); COMP_CWORD=2; _tessera; echo ${COMPREPLY[*]}\n" \
        "COMP_WORDS=(tessera image build --mi); COMP_CWORD=3; _tessera; echo ${COMPREPLY[*]}\n"
    if output("bash", "-c", complete).split() != ["run", "--timeout", "build", "--mirror"]:
        wrong.append("completion does not complete 'tessera ru', 'tessera stop --ti', 'tessera image b' and 'tessera image build --mi'")
    for verb in re.search(r'1:\*\) words="([^"]*)"', complete).group(1).split():
        if verb not in output(tessera, "help", verb):
            wrong.append(f"no help for {verb}")
    print("\n".join(wrong) or "ok")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
