#!/usr/bin/env python3
"""Is ./demo honest? Its judge is handed good results, then the same with one thing broken at a time, each of which must end in 'demo: FAILED'."""

import contextlib
import io
import json
import os
import sys
import tempfile
import unittest.mock

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TREE, "tools", "demo"))
sys.dont_write_bytecode = True

import demo  # noqa: E402

SUMS = ["a" * 64, "b" * 64]
OWN = 112 << 20


def console(jobs_s, fill):
    said = [f"1 memory {190 << 20}", "1 cpu 0 node 0", "1 cpu 1 node 1", "1 ready boot", "1 ready warm",
            f"9 job 0 3.0 {3 + jobs_s} {SUMS[0]} 1000", f"9 job 1 3.0 {3 + jobs_s} {SUMS[1]} 1000", "9 ready jobs"]
    if fill:
        said += [f"20 fill {120 << 20} 0 8.5", "20 filled 0", "20 ready fill"]
    return ["0 start", *said, "21 complaints 0", "21 end"]


def thread(pid, name, core):
    fields = ["S"] + ["0"] * 60
    fields[14 - 3], fields[39 - 3] = "150", str(core)
    return " ".join([str(pid), name, *fields])


def write(folder, name, text):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        f.write(text)


def good(out):
    """What two healthy VMs leave behind."""
    for name, places, fill in (("spread", ("A", "B"), True), ("packed", ("A", "A"), False)):
        folder = os.path.join(out, name)
        write(folder, "log", "\n".join(console(1.0 if fill else 2.0, fill)))
        write(folder, "status", "0\n")
        parts = [{"node": n, "pid": pid, "vcpus": [v for v in (0, 1) if places[v] == n], "memory_bytes": OWN} for n, pid in (("A", 100), ("B", 200))]
        stats = {n: {"fault.read.count": 7, "fault.read.p50_ns": 5000, "page.bytes_sent": 4096} for n in ("A", "B")}
        for phase in ("boot", "warm", "jobs") + (("fill",) if fill else ()):
            write(folder, phase + ".stats", json.dumps({"nodes": stats}))
            write(folder, phase + ".info", json.dumps({"parts": parts}))
            write(folder, phase + ".threads", "\n".join(thread(100 if places[v] == "A" else 200, f"vcpu{v}", "AB".index(places[v])) for v in (0, 1)))
            write(folder, phase + ".memory", "".join(f"{pid} VmHWM {(OWN + (20 << 20)) >> 10}\n" for pid in (100, 200)))


def edit(folder, name, old, new):
    path = os.path.join(folder, name)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert old in text, f"{old!r} is not in {name}"
    write(folder, name, text.replace(old, new, 1))


BROKEN = {
    "a wrong checksum": lambda d: edit(d + "/spread", "log", SUMS[1], "c" * 64),
    "a wrong checksum when overcommitted": lambda d: edit(d + "/packed", "log", SUMS[0], "c" * 64),
    "a job that was not done": lambda d: edit(d + "/spread", "log", "job 1", "gob 1"),
    "a wrong word of memory": lambda d: edit(d + "/spread", "log", f"fill {120 << 20} 0", f"fill {120 << 20} 1"),
    "memory never filled": lambda d: edit(d + "/spread", "log", "fill ", "full "),
    "little memory filled": lambda d: edit(d + "/spread", "log", f"fill {120 << 20}", f"fill {12 << 20}"),
    "a guest that panicked": lambda d: edit(d + "/spread", "status", "0", "11"),
    "a VM that never ended": lambda d: os.unlink(d + "/packed/status"),
    "an RCU stall": lambda d: edit(d + "/packed", "log", "complaints 0", "complaints 2"),
    "a console cut short": lambda d: edit(d + "/spread", "log", "complaints 0", ""),
    "one CPU only": lambda d: edit(d + "/spread", "log", "1 cpu 1 node 1\n", ""),
    "one NUMA node": lambda d: edit(d + "/spread", "log", "cpu 1 node 1", "cpu 1 node 0"),
    "a vCPU on the wrong node": lambda d: edit(d + "/spread", "fill.info", "[1]", "[]"),
    "a full copy of memory": lambda d: edit(d + "/spread", "fill.memory", str((OWN + (20 << 20)) >> 10), str((2 * OWN + (20 << 20)) >> 10)),
    "nothing gained": lambda d: edit(d + "/packed", "log", "job 0 3.0 5.0", "job 0 3.0 3.5") or edit(d + "/packed", "log", "job 1 3.0 5.0", "job 1 3.0 3.5"),
    "nothing at all": lambda d: [os.unlink(os.path.join(d, run, f)) for run in ("spread", "packed") for f in os.listdir(os.path.join(d, run))],
}


def outcome(change, lab_status=0):
    """The last line and the exit status of ./demo whose lab leaves good results, changed."""

    def lab(options, progress, folder, out, plan):
        good(out)
        change(out)
        return lab_status

    said = io.StringIO()
    with tempfile.TemporaryDirectory() as build, unittest.mock.patch.multiple(demo, build=lambda *_: None, make_initrd=lambda *_: SUMS, run_lab=lab), \
            unittest.mock.patch.object(sys, "argv", ["demo", "--act", "1", "--build", build]), contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        status = demo.main()
    return said.getvalue(), said.getvalue().splitlines()[-1], status


SYMBOLS = """\
0000000000031980 D runqueues
0000000000032640 d sched_clock_data
ffffffff82a07000 D first
ffffffff82a079c0 D jiffies
ffffffff82a07a00 d __key.1
ffffffff82a09010 D last
"""
NAMES = {0x2A07: ["first", "jiffies"], 0x2A08: ["__key.1+"], 0x2A09: ["last"], 0xDA32: ["CPU 1's runqueues+", "CPU 1's sched_clock_data"], 0xDA33: ["CPU 1's allocations"]}


def names_of_pages():
    """What lies in guest pages, from symbols of the image and of a CPU's own area."""
    with tempfile.TemporaryDirectory() as folder:
        write(folder, "kallsyms", SYMBOLS)
        return demo.report.page_names(os.path.join(folder, "kallsyms"), [0x10, 0x2A07, 0x2A08, 0x2A09, 0x2A0A, 0xDA32, 0xDA33, 0xDC00], {1: 0xDA00})


def main():
    wrong = 0
    if names_of_pages() != NAMES:
        print(f"names of pages: {names_of_pages()}")
        wrong += 1
    text, last, status = outcome(lambda d: None)
    if (last, status) != ("demo: ok", 0) or "2.00 x" not in text or "node B, core 1" not in text:
        print(f"good results: {status}\n{text}")
        wrong += 1
    for name, change in BROKEN.items():
        _, last, status = outcome(change)
        if not last.startswith("demo: FAILED: ") or status == 0:
            print(f"{name}: ended with {last!r} and {status}")
            wrong += 1
    _, last, status = outcome(lambda d: None, 125)
    if last != "demo: FAILED: ./lab ended with 125" or status == 0:
        print(f"a lab that failed: ended with {last!r} and {status}")
        wrong += 1
    print(f"{len(BROKEN) + 3} results judged, {wrong} wrongly")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
