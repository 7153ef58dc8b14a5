#!/usr/bin/env python3
"""Is the second act of ./demo honest, and is the curve of ./bench lemp well-formed? The act is handed good results, then the same with one thing broken at a time."""

import contextlib
import io
import json
import os
import re
import sys
import tempfile
import unittest.mock
import xml.etree.ElementTree

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(TREE, "tools", "demo"), os.path.join(TREE, "tests", "bench")]
sys.dont_write_bytecode = True

import curve  # noqa: E402
import demo  # noqa: E402
import lemp  # noqa: E402


def write(folder, name, text):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
        f.write(text)


def good(out):
    """What two healthy VMs leave behind."""
    for name, rate in (("spread", 7.5), ("packed", 4.0)):
        folder = os.path.join(out, name)
        said = ["start", "guest ready", "start pages", "first page", "steps 7000", f"pages 250 8 pages, {rate:.3f} requests/s, 1.5 s, 510.0 ms, 600.0 ms, 3 3 by each worker",
                "guest complaints 0", "guest end", "end"]
        write(folder, "log", "".join(f"{at}.5 {line}\n" for at, line in enumerate(said)))
        write(folder, "status", "0\n")
        write(folder, "info", json.dumps({"parts": [{"node": "A", "vcpus": [0] if name == "spread" else [0, 1]}] + ([{"node": "B", "vcpus": [1]}] if name == "spread" else [])}))
        for when, faults in (("before", 100), ("after", 700)):
            write(folder, f"250.{when}", json.dumps({"nodes": {n: {"fault.read.count": faults, "fault.prefetch.count": 9, "bus.irqs_sent": faults} for n in "AB"}}))


def edit(folder, name, old, new):
    with open(os.path.join(folder, name), encoding="utf-8") as f:
        text = f.read()
    assert old in text, f"{old!r} is not in {name}"
    write(folder, name, text.replace(old, new, 1))


BROKEN = {
    "a wrong answer": lambda d: edit(d + "/spread", "log", "pages 250 8 pages", "failed: an answer is not the page that was asked for; pages"),
    "fewer pages": lambda d: edit(d + "/packed", "log", "pages 250 8", "pages 250 7"),
    "a worker that did nothing": lambda d: edit(d + "/spread", "log", " 3 3 by", " 6 by"),
    "a worker that did too little to say how fast": lambda d: edit(d + "/spread", "log", " 3 3 by", " 5 1 by"),
    "services that did not start": lambda d: edit(d + "/packed", "log", "guest ready", "guest failed MariaDB"),
    "an RCU stall": lambda d: edit(d + "/packed", "log", "complaints 0", "complaints 2"),
    "a console cut short": lambda d: edit(d + "/spread", "log", "guest complaints 0", ""),
    "a guest that panicked": lambda d: edit(d + "/spread", "status", "0", "11"),
    "a VM that never ended": lambda d: os.unlink(d + "/packed/status"),
    "a vCPU on the wrong node": lambda d: edit(d + "/spread", "info", '"B"', '"A"'),
    "vCPUs that were not overcommitted": lambda d: edit(d + "/packed", "info", '[0, 1]}', '[0]}, {"node": "B", "vcpus": [1]}'),
    "nothing gained": lambda d: edit(d + "/spread", "log", "7.500 requests/s", "3.900 requests/s"),
    "nothing at all": lambda d: [os.unlink(os.path.join(d, run, f)) for run in ("spread", "packed") for f in os.listdir(os.path.join(d, run))],
}


def outcome(change, lab_status=0):
    """What ./demo --act 2 says and its exit status when its lab leaves good results, changed."""

    def lab(options, progress, folder, out, lengths):
        good(out)
        change(out)
        return lab_status

    said = io.StringIO()
    with tempfile.TemporaryDirectory() as build, unittest.mock.patch.object(lemp, "run_lab", lab), unittest.mock.patch.object(lemp.stage, "build", lambda *_: None), \
            unittest.mock.patch.object(sys, "argv", ["demo", "--act", "2", "--build", build]), contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        status = demo.main()
    return said.getvalue(), said.getvalue().splitlines()[-1], status


def check_curve():
    """Every figure is there to be read, and what is written is XML."""
    spread, packed = [(25, 61.25), (40, 40.5), (250, 7.31), (500, 3.78)], [(25, 37.75), (40, 23.5), (250, 3.9), (500, 1.97)]
    drawn = xml.etree.ElementTree.fromstring(curve.svg(spread, packed, 1.8, 250, "a note"))
    words = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for (ms, a), (_, b) in zip(spread, packed):
        assert str(ms) in words and f"{a:.3g}" in words and f"{b:.3g}" in words and f"{a / b:.2f}" in words, (ms, words)
    assert "target: 1.8 from 250 ms on" in words and "a note" in words, words
    for e in drawn.iter():
        for x, y in re.findall(r"([0-9.-]+),([0-9.-]+)", e.get("points", "")):
            assert 0 <= float(x) <= curve.WIDTH and 0 <= float(y) <= curve.HEIGHT, (e.tag, e.attrib)


def main():
    said, last, status = outcome(lambda _: None)
    assert (last, status) == ("demo: ok", 0), said
    assert "1.88 x" in said and "7.50/s" in said and "150" in said, said
    for what, change in BROKEN.items():
        said, last, status = outcome(change)
        assert status == 1 and last.startswith("demo: FAILED: "), f"{what}: {said}"
    said, last, status = outcome(lambda _: None, 125)
    assert status == 1, said
    check_curve()
    print(f"{len(BROKEN) + 1} broken results are refused; the curve can be read")


if __name__ == "__main__":
    main()
