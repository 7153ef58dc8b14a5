#!/usr/bin/env python3
"""The logger holds the only mutable static of the house: looks for writable data in the rooms' objects. usage: statics.py LIBRARY..."""
import re
import subprocess
import sys

LOGGER = "src_base_log.c.o"
GENERATED = {("src_vm_acpi.c.o", "dsdt_aml_code")}  # iasl does not write const


def writable(library):
    """(object, symbol) of everything in .data, .bss or thread-local storage."""
    out = subprocess.run(["objdump", "-t", library], check=True, capture_output=True, text=True).stdout
    member = "?"
    for line in out.splitlines():
        m = re.match(r"(\S+):\s+file format", line)
        if m:
            member = m.group(1).split("/")[-1]
        m = re.match(r"[0-9a-f]{16} .{7} (\.data|\.bss|\.tdata|\.tbss|\*COM\*)(\.(?!rel\.ro)\S+)?\s+([0-9a-f]+)\s+(\S+)$", line)
        if m and int(m.group(3), 16) and m.group(4) != m.group(1):
            yield member, m.group(4)


def main():
    found = sorted({pair for library in sys.argv[1:] for pair in writable(library)})
    bad = [pair for pair in found if pair[0] != LOGGER and pair not in GENERATED]
    for member, symbol in bad:
        print(f"FAIL {member}: {symbol} can change; give it an owner")
    seen = any(member == LOGGER for member, _ in found)
    if not seen:
        print("FAIL the logger's own static was not seen: this check is blind")
    sys.exit(1 if bad or not seen else 0)


if __name__ == "__main__":
    main()
