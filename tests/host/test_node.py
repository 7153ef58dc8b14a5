#!/usr/bin/env python3
"""The life of daemons and VMs, on loopback, with the machine that has no guest (run --fake), or a few instructions for one where the end is KVM's.
usage: test_node.py TESSERA [TEST...]

      A ---- B        three daemons; VMs v1, v2 on some of them; the client speaks to any
       \\    /
         C            each test begins and ends with nothing there
"""
import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import stat
import struct
import sys
import termios

import tiny_kernel
from cluster import LIMIT_S, Skipped, check, main, need_kvm, wait_for

SPAN = ("run", "--fake", "--name", "v1", "--place", "A:2,B:1,C:1", "--memory", "900M")


def read_until(p, words):
    """From a client's stdout, up to these words."""
    got = b""
    while words not in got:
        more = os.read(p.stdout.fileno(), 65536)
        check(more, f"'{words}' did not come; got {got[-200:]}")
        got += more
    return got


def type_in(p, text):
    p.stdin.write(text.encode())
    p.stdin.flush()


def join(c):
    c.up("A", "B", "C")
    for name in "ABC":
        check([n["node"] for n in c.ls(name)["nodes"]] == ["A", "B", "C"], f"{name} lists the others")
    check("lost" not in c.ok("ls", "--node", "A"), "nobody is lost")
    c.refused(4, "several daemons", "ls")


def join_waits(c):
    c.start("A")
    c.kill("A", signal.SIGTERM)
    c.start("B", join="A")
    check(c.ls("B")["nodes"][0]["state"] == "here", "B serves while it waits")
    c.start("A")
    c.wait_mesh("A", "B")


def same_name(c):
    c.up("A", "B")
    done = c.run("node", "--name", "B", "--run-dir", os.path.join(c.root, "other"), "--join", c.address["A"])
    check(done.returncode == 3 and "already a node named B" in done.stderr, f"a second B is refused: {done.stderr}")
    done = c.run("node", "--name", "A")
    check(done.returncode == 3 and "already runs on this host" in done.stderr, f"a second A on this host is refused: {done.stderr}")
    done = c.run("node", "--name", "C", "--listen", "192.0.2.1:7000")
    check(done.returncode == 3 and "not yet encrypted" in done.stderr, f"an address others can reach is refused: {done.stderr}")
    c.wait_mesh("A", "B")


def other_version(c):
    c.start("A")
    host, port = c.address["A"].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as s:
        name, address = b"old", b"127.0.0.1:1"
        body = struct.pack("<I", 999999) + struct.pack("<H", len(name)) + name + struct.pack("<H", len(address)) + address + struct.pack("<QIQ", 1, 1, 1)
        s.sendall(struct.pack("<IHH", len(body), 64, 0) + body)
        got = s.recv(65536)
        check(struct.unpack("<IHH", got[:8])[1] == 65 and b"version" in got, f"another version is refused: {got}")
    check(len(c.ls("A")["nodes"]) == 1, "it is not listed")


def run_and_end(c):
    c.up("A", "B", "C")
    c.ok(*SPAN, "--detach", "--node", "A")
    check(set(c.fragments()) == {("A", "v1"), ("B", "v1"), ("C", "v1")}, "a fragment a node")
    info = json.loads(c.ok("info", "v1", "--json", "--node", "A"))
    check([p["node"] for p in info["parts"]] == ["A", "B", "C"], "its parts")
    check([p["vcpus"] for p in info["parts"]] == [[0, 1], [2], [3]], "its vCPUs")
    check(sum(p["memory_bytes"] for p in info["parts"]) == 900 << 20, "its memory")
    c.wait_state("C", "v1", "running")
    stats = json.loads(c.ok("stats", "v1", "--json", "--node", "B"))
    check({n: s["vcpus"] for n, s in stats["nodes"].items()} == {"A": 2, "B": 1, "C": 1}, f"statistics of all parts: {stats}")
    for p in info["parts"]:
        s = stats["nodes"][p["node"]]
        check(s["memory.guest_bytes"] == p["memory_bytes"] and 0 < s["memory.resident_bytes"] <= s["memory.resident_max_bytes"], f"its memory: {s}")
    c.ok("stop", "v1", "--node", "B")
    end = json.loads(c.ok("info", "v1", "--json", "--node", "A"))["end"]
    check(end["reason"] == "power-off", f"it was switched off: {end}")
    c.wait_free("A")


def run_again_at_once(c):
    c.up("A", "B", "C")
    for _ in range(20):
        c.ok(*SPAN, "--detach", "--node", "A")
        c.ok("kill", "v1", "--node", "A")


def ended_before(c):
    """Of VMs of one name that ended, whoever coordinated them, the last one is spoken of."""
    c.up("A", "B")
    for node, word, reason in (("B", "panic", "panic"), ("A", "poweroff", "power-off"), ("B", "reset", "reset")):
        p = c.client("run", "--fake", "--name", "v1", "--no-reboot", "--place", f"{node}:1", "--node", node)
        read_until(p, b"fake guest")
        type_in(p, word + "\r")
        p.communicate(timeout=LIMIT_S)
        for n in "AB":
            wait_for(lambda n=n, r=reason: json.loads(c.ok("info", "v1", "--json", "--node", n)).get("end", {}).get("reason") == r, f"{n} to say {reason}")


def foreground(c):
    c.up("A", "B")
    for word, code in (("poweroff", 0), ("reset", 10), ("panic", 11)):
        p = c.client("run", "--fake", "--name", "v1", "--no-reboot", "--place", "A:1,B:1", "--node", "A")
        read_until(p, b"fake guest: 2 CPUs on 2 nodes")
        type_in(p, word + "\r")
        out, err = p.communicate(timeout=LIMIT_S)
        check(p.returncode == code, f"{word}: exit code {p.returncode}, not {code}: {out} {err}")
    c.wait_free("A")


def console(c):
    c.up("A", "B")
    c.ok("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--detach", "--node", "A")
    far, near = c.client("console", "v1", "--node", "B"), c.client("console", "v1", "--node", "A")
    for p in (far, near):
        read_until(p, b"fake guest")
    type_in(far, "hello\r")
    read_until(near, b"hello")
    agent = json.loads(c.ok("info", "v1", "--json", "--node", "B"))["agent_socket"]
    mode = os.stat(agent).st_mode
    check(stat.S_ISSOCK(mode) and mode & 0o777 == 0o600, f"the agent's socket is for the daemon's user only: {mode:o}")
    vsock = json.loads(c.ok("info", "v1", "--json", "--node", "B"))
    check(stat.S_ISSOCK(os.stat(vsock["vsock_socket"]).st_mode) and vsock["vsock_cid"] >= 3, f"vsock: {vsock}")
    c.refused(3, "cannot read 'cid=2'", "run", "--fake", "--name", "v2", "--vsock", "cid=2", "--node", "A")
    c.refused(2, "no console", "console", "v1", "--port", "tty9", "--node", "A")
    type_in(near, "flood\r")
    for p in (far, near):
        read_until(p, b"%08x" % 16383)
    type_in(near, "poweroff\r")
    for p in (far, near):
        p.communicate(timeout=LIMIT_S)
        check(p.returncode == 0, "both see it end")


def detach_key(c):
    c.up("A")
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(c.tessera, ["tessera", "run", "--fake", "--name", "v1"], c.env)
    got = b""
    while b"fake guest" not in got:
        got += os.read(fd, 4096)
    os.write(fd, b"\x03abc")
    while b"abc" not in got:
        got += os.read(fd, 4096)
    os.write(fd, b"\x1d")
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    check(os.waitstatus_to_exitcode(status) == 0, "detached")
    check(c.vm("A", "v1")["state"] == "running", "it runs on, ^C went to the guest")
    c.ok("kill", "v1")


def client_signals(c):
    c.up("A", "B")
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        p = c.client("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--node", "A")
        read_until(p, b"fake guest")
        p.send_signal(sig)
        p.communicate(timeout=LIMIT_S)
        check(p.returncode == 14, f"{sig}: exit code {p.returncode}")
        check(not c.fragments(), "nothing of it is left")
    p = c.client("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--node", "A")
    read_until(p, b"fake guest")
    p.kill()
    c.wait_state("A", "v1", "ended")
    c.wait_free("A")


def refusals(c):
    c.up("A", "B")
    at = ("--node", "A")
    run = ("run", "--fake", *at, "--name")
    c.refused(3, "no node named X", *run, "v1", "--place", "A:1,X:1")
    c.refused(3, "node B has 2 CPUs left", *run, "v1", "--place", "A:1,B:3")
    c.refused(3, "node B has 512M of memory left", *run, "v1", "--place", "A:1:1M,B:1:2G")
    c.refused(3, "all nodes together", *run, "v1", "--cpus", "5")
    c.refused(3, "all nodes together", *run, "v1", "--memory", "2G")
    c.refused(3, "cannot have", *run, "v1", "--memory", "4000T")
    c.refused(3, "cannot have 65", *run, "v1", "--cpus", "65")
    c.refused(3, "cannot have 0", *run, "v1", "--cpus", "0")
    c.refused(3, "cannot read --memory", *run, "v1", "--memory", "lots")
    c.refused(3, "cannot read 'A'", *run, "v1", "--place", "A")
    c.refused(3, "twice", *run, "v1", "--place", "A:1,A:1")
    c.refused(3, "no name for a VM", *run, "../v1")
    c.refused(2, "--name", "run", "--fake", *at)
    c.refused(2, "--kernel", "run", "--name", "v1", *at)
    c.refused(3, "cannot read the kernel", "run", "--name", "v1", "--kernel", "/no/such/kernel", *at)
    c.refused(3, "no VM named", "info", "v1", *at)
    c.refused(3, "no VM named", "console", "v1", *at)
    c.refused(3, "no VM named", "stop", "v1", *at)
    c.refused(3, "no VM named", "kill", "v1", *at)
    c.refused(3, "no VM named", "stats", "v1", *at)
    c.refused(2, "no verb", "frobnicate")
    c.refused(2, "no option", "ls", "--frobnicate")
    c.refused(2, "needs a value", "run", "--cpus")
    c.refused(4, "no daemon of node Z", "ls", "--node", "Z")
    error = json.loads(c.run("info", "v1", "--json", *at).stdout)["error"]
    check(error["code"] == 3 and error["what"] and error["todo"] and error["node"] == "A", f"errors as JSON: {error}")
    c.wait_free("A")


def placed_elsewhere(c):
    c.up("A", "B", "C")
    p = c.client("run", "--fake", "--name", "v1", "--place", "B:1,C:1", "--node", "A")
    read_until(p, b"fake guest: 2 CPUs on 2 nodes")
    check(set(c.fragments()) == {("B", "v1"), ("C", "v1")}, "a fragment on each node placed on, none here")
    info = json.loads(c.ok("info", "v1", "--json", "--node", "A"))
    check(info["coordinator"] == "B", f"the first node named has the devices: {info}")
    type_in(p, "hello\r")
    read_until(p, b"hello")
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=LIMIT_S)
    check(p.returncode == 14, f"exit code {p.returncode}")
    c.ok("run", "--fake", "--name", "v1", "--place", "C:1", "--detach", "--node", "A")
    c.ok("stop", "v1", "--node", "A")
    c.refused(3, "no node named X", "run", "--fake", "--name", "v1", "--place", "X:1,B:1", "--node", "A")
    c.refused(3, "no node named X", "run", "--fake", "--name", "v1", "--place", "B:1,X:1", "--node", "A")
    c.refused(3, "node B has 2 CPUs left", "run", "--fake", "--name", "v1", "--place", "B:3", "--node", "A")
    c.wait_free("A")


def json_twins(c):
    """With --json, stdout is one document and its code is the exit status (of run, where a VM's end is told)."""
    c.up("A")
    run = ("run", "--fake", "--name", "v1", "--no-reboot", "--json", "--node", "A")

    def said(*args, code=0):
        done = c.run(*args, "--json", "--node", "A")
        check(done.returncode == code, f"{args}: exit code {done.returncode}")
        return json.loads(done.stdout)

    check(said("run", "--fake", code=2)["error"]["code"] == 2, "no name")
    check(said("stop", "v1", "--timeout", "x", code=2)["error"]["code"] == 2, "no timeout")
    for verb in ("stop", "kill", "console", "info", "stats"):
        check(said(verb, "v1", code=3)["error"]["code"] == 3, f"{verb}: no such VM")
    for word, code in (("poweroff", 0), ("reset", 10), ("panic", 11)):
        p = c.client(*run)
        check(b"fake guest" in p.stderr.readline(), "the console is on stderr")
        type_in(p, word + "\r")
        out, err = p.communicate(timeout=LIMIT_S)
        check(p.returncode == code and json.loads(out)["end"]["code"] == code, f"{word}: {p.returncode} {out} {err}")
    check(said("run", "--fake", "--name", "v1", "--detach") == {"vm": "v1", "state": "running"}, "detached")
    p = c.client("console", "v1", "--json", "--node", "A")
    check(b"fake guest" in p.stderr.readline(), "attached")
    p.terminate()
    out, _ = p.communicate(timeout=LIMIT_S)
    check(json.loads(out) == {"vm": "v1", "state": "running"} and p.returncode == 0, f"let go: {out}")
    check(said("stats", "v1")["vm"] == "v1" and said("info", "v1")["state"] == "running", "stats and info")
    check(said("kill", "v1")["end"]["reason"] == "killed", "killed")
    said("run", "--fake", "--name", "v1", "--detach")
    check(said("stop", "v1", "--timeout", "0") == {"vm": "v1", "state": "stopping"}, "only asked to stop")
    c.wait_state("A", "v1", "ended")
    check(said("console", "v1")["end"]["reason"] == "power-off", "the console of what has ended")


def strange_words(c):
    """Names with terminal escapes in them, and such as are no text at all: shown to people and in documents without harm."""
    c.up("A")
    strange, no_text = os.path.join(c.root, "k\x1b[31mred\u009b1m"), b"/no\xe4\x1b[31mway"
    with open(strange, "w", encoding="utf-8") as f:
        f.write("x")
    c.ok("run", "--fake", "--name", "v1", "--memory", "8M", "--kernel", strange, "--detach", "--node", "A")
    for args in (("info", "v1"), ("info", "v1", "--json")):
        said = c.ok(*args, "--node", "A")
        check("k?[31mred" in said and "\x1b" not in said and "\u009b" not in said, f"{args}: {said!r}")
    done = c.run("run", "--name", "v2", "--kernel", no_text, "--node", "A")
    check(done.returncode == 3 and "/no??[31mway" in done.stderr, f"to people: {done}")
    done = c.run("run", "--name", "v2", "--kernel", no_text, "--json", "--node", "A")
    check(done.returncode == 3 and "/no??[31mway" in json.loads(done.stdout)["error"]["what"], f"as a document: {done}")
    done = c.run("run", "--fake", "--name", "v2", "--append", b"\xe4", "--node", "A")
    check(done.returncode == 3 and "UTF-8" in done.stderr, f"no text for a VM's file: {done}")
    c.ok("kill", "v1", "--node", "A")


def early_words(c):
    """What a client says before its daemon has reached the coordinator's is not lost: keys, or the size of its terminal."""
    c.up("A", "B")
    for _ in range(8):
        c.ok("run", "--fake", "--name", "v1", "--place", "A:1:8M,B:1:8M", "--detach", "--node", "B")
        p = c.client("console", "v1", "--node", "A")
        type_in(p, "poweroff\r")
        p.communicate(timeout=LIMIT_S)
        check(p.returncode == 0, f"it ended with {p.returncode}")


def stats_side_by_side(c):
    """Each client gets the whole of an answer, though another one's is under way when it asks."""
    c.up("A")
    c.ok("run", "--fake", "--name", "v1", "--memory", "64M", "--detach", "--append", "ponder", "--node", "A")
    whole = set(json.loads(c.ok("stats", "v1", "--json", "--node", "A"))["nodes"]["A"])
    clients = [c.client("stats", "v1", "--json", "--node", "A") for _ in range(12)]
    for p in clients:
        out, err = p.communicate(timeout=LIMIT_S)
        check(p.returncode == 0 and set(json.loads(out)["nodes"].get("A", {})) == whole, f"not all of {whole}: {out} {err}")
    c.ok("kill", "v1", "--node", "A")


def balloon(c):
    c.up("A", "B")
    c.ok("run", "--fake", "--name", "v1", "--place", "A:1:64M,B:1:64M", "--detach", "--node", "B")

    def said(*args):
        return json.loads(c.ok("balloon", "v1", *args, "--json", "--node", "B"))

    full = {"vm": "v1", "memory_bytes": 128 << 20, "target_bytes": 128 << 20, "now_bytes": 128 << 20, "driver": True}
    check(said() == full, "nothing is asked of it")
    check(said("64M") == full | {"target_bytes": 64 << 20, "now_bytes": 96 << 20}, "it has begun")
    check(said() == full | {"target_bytes": 64 << 20, "now_bytes": 80 << 20}, "and goes on")
    text = c.ok("balloon", "v1", "--node", "A")
    check(text == "v1  started with 128M, asked to do with 64M, has 72M\n", f"for people: {text}")
    for size, words in (("129M", "v1 has 128M"), ("0", "no guest can do with 0 bytes"), ("1000K", "no guest"), ("2097153", "no guest")):
        c.refused(3, words, "balloon", "v1", size, "--node", "A")
    c.refused(3, "cannot read 'half'", "balloon", "v1", "half", "--node", "A")
    c.refused(3, "no VM named v2", "balloon", "v2", "64M", "--node", "A")
    c.refused(3, "no VM named v2", "balloon", "v2", "--node", "A")
    c.refused(2, "cannot take '1M'", "balloon", "v1", "64M", "1M", "--node", "A")
    c.refused(2, "needs a VM", "balloon")
    check(said()["target_bytes"] == 64 << 20, "nothing of that came through")
    p = c.client("console", "v1", "--node", "A")
    read_until(p, b"fake guest")
    type_in(p, "reset\r")
    wait_for(lambda: json.loads(c.ok("info", "v1", "--json", "--node", "A"))["resets"] == 1 and c.vm("A", "v1")["state"] == "running", "the guest to reset itself")
    check(said()["target_bytes"] == 64 << 20, "it holds after a reset")
    p.kill()
    p.communicate()
    said("128M")
    c.ok("kill", "v1", "--node", "A")
    c.refused(3, "v1 does not run now", "balloon", "v1", "64M", "--node", "A")


def top(c):
    c.up("A", "B")
    p = c.client("run", "--fake", "--name", "v1", "--place", "A:2,B:1", "--node", "A")
    read_until(p, b"fake guest")
    one = json.loads(c.ok("top", "v1", "--once", "--json", "--node", "B"))
    check([(v["vcpu"], v["node"]) for v in one["vcpus"]] == [(0, "A"), (1, "A"), (2, "B")], f"each vCPU, where it is: {one}")
    check([(k["from"], k["to"]) for k in one["pairs"]] == [("A", "B"), ("B", "A")], f"each pair, both ways: {one}")
    check(one["state"] == "running" and one["interval_ms"] >= 1000, f"and the rest: {one}")
    check([(g["gfn"], g["faults"]) for g in one["pages"]] == [(f"0x{0x100 + k:x}", 200 - 2 * k) for k in range(10)], f"both nodes' hottest pages: {one}")
    check([(q["device"], q["queue"], q["node"]) for q in one["queues"]] == [("blk0", 0, "A"), ("blk0", 1, "A"), ("blk0", 2, "B")], f"each queue, where it is served: {one}")
    check("VCPU" in c.ok("top", "v1", "--once", "--node", "B"), "for people")
    live, said, seen = c.client("top", "v1", "--json", "--node", "A"), "", []
    while not seen or not any(v["faults_per_s"] > 0 for v in seen[-1]["vcpus"]):  # the fake guest calls keys faults
        type_in(p, "x")
        said += os.read(live.stdout.fileno(), 65536).decode()
        with contextlib.suppress(json.JSONDecodeError):
            document, end = json.JSONDecoder().raw_decode(said)
            seen.append(document)
            said = said[end:].lstrip()
    check({v["node"] for v in seen[-1]["vcpus"] if v["faults_per_s"] > 0} == {"A"}, f"where they are typed: {seen[-1]}")
    live.send_signal(signal.SIGINT)
    live.communicate(timeout=LIMIT_S)
    check(live.returncode == 0, "^C ends it")
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 18, 80, 0, 0))
        os.execve(c.tessera, ["tessera", "top", "v1", "--node", "A"], c.env)
    got = b""
    while b"VCPU" not in got:
        got += os.read(fd, 4096)
    os.kill(pid, signal.SIGINT)  # as ^C does, which would throw away what the terminal has not shown yet
    with contextlib.suppress(OSError):  # the terminal is gone
        while more := os.read(fd, 4096):
            got += more
    _, status = os.waitpid(pid, 0)
    os.close(fd)
    check(os.waitstatus_to_exitcode(status) == 0 and got.startswith(b"\x1b[?1049h") and got.endswith(b"\x1b[?25h\x1b[?1049l"), f"the terminal is as before: {status} {got}")
    screen = got.split(b"\x1b[H")[1].split(b"\x1b[J")[0].decode().replace("\x1b[K", "").splitlines()
    shows = [next((k for k, line in enumerate(screen) if word in line), None) for word in ("VCPU", "FROM", "blk0.2", "0x100")]
    check(len(screen) < 18 and None not in shows and shows == sorted(shows), f"some of all on a screen of 18 lines: {screen}")
    type_in(p, "\rpoweroff\r")
    p.communicate(timeout=LIMIT_S)
    check(c.run("top", "v1", "--once", "--node", "A").returncode == 3, "of a VM that has ended there is nothing to see")


def name_taken(c):
    c.up("A", "B")
    c.ok("run", "--fake", "--name", "v1", "--place", "A:1", "--detach", "--node", "A")
    wait_for(lambda: c.vm("B", "v1"), "B to hear of v1")
    for node in "AB":
        c.refused(3, "already a VM named v1", "run", "--fake", "--name", "v1", "--place", f"{node}:1", "--detach", "--node", node)
    check(c.vm("A", "v1")["state"] == "running", "the first one is unhurt")
    c.ok("kill", "v1", "--node", "B")


def name_raced(c):
    c.up("A", "B", lend="cpus=16,memory=512M")
    for k in range(20):
        both = [c.client("run", "--fake", "--name", f"v{k}", "--place", f"{n}:1:4M", "--detach", "--node", n) for n in "AB"]
        for p in both:
            p.communicate(timeout=LIMIT_S)
        check(all(p.returncode in (0, 3) for p in both), f"each runs or is refused: {[p.returncode for p in both]}")
        names = [v["vm"] for v in c.ls("A")["vms"] if v["state"] == "running"]
        check(names.count(f"v{k}") <= 1, f"one of a name: {names}")
        c.run("kill", f"v{k}", "--node", "A")
    c.wait_free("A")


def sixteen_nodes(c):
    names = [f"n{k:02}" for k in range(16)]
    c.up(*names, lend="cpus=4,memory=64M")
    c.ok("run", "--fake", "--name", "big", "--place", ",".join(f"{n}:4" for n in names), "--memory", "1G", "--detach", "--node", "n00")
    check(len(c.fragments()) == 16, "a fragment a node")
    info = json.loads(c.ok("info", "big", "--json", "--node", "n15"))
    check(info["cpus"] == 64 and [v for p in info["parts"] for v in p["vcpus"]] == list(range(64)), "64 vCPUs in order")
    c.refused(3, "n15 has nothing left to lend", "run", "--fake", "--name", "more", "--node", "n15")
    os.kill(c.fragments()["n07", "big"], signal.SIGKILL)
    end = c.wait_state("n00", "big", "ended")["end"]
    check(end["node"] == "n07", f"all agree on who died: {end}")
    check(not c.fragments(), "nothing of it is left")


def births_that_fail(c):
    c.up("A", "B", "C")
    for step in ("prepare", "connect", "start"):
        for index, node in enumerate("ABC"):
            c.refused(3, f"node {node} was told to fail at {step}", *SPAN, "--append", f"fail={step}:{index}", "--node", "A")
            check(not c.fragments(), "nothing of it is left")
    p = c.client(*SPAN, "--append", "hang=connect:1", "--node", "A")
    wait_for(lambda: len(c.fragments()) == 3, "its fragments")
    os.kill(c.fragments()["C", "v1"], signal.SIGKILL)
    _, err = p.communicate(timeout=LIMIT_S)
    check(p.returncode == 1 and b"killed by signal 9" in err and b"C" in err, f"the loss of a fragment is told: {err}")
    check(not c.fragments(), "nothing of it is left")
    c.ok(*SPAN, "--detach", "--node", "A")
    c.ok("kill", "v1", "--node", "A")


def daemon_dies_in_birth(c):
    c.up("A", "B", "C")
    for victim in "BC":
        p = c.client(*SPAN, "--append", "hang=connect:1", "--node", "A")
        wait_for(lambda: len(c.fragments()) == 3, "its fragments")
        c.kill(victim)
        _, err = p.communicate(timeout=LIMIT_S)
        check(p.returncode == 4 and f"node {victim} was lost".encode() in err, f"the client is told: {p.returncode} {err}")
        wait_for(lambda: not c.fragments(), "its parts to go")
        c.start(victim, join="A")
        c.wait_mesh("A", "B", "C")
    p = c.client(*SPAN, "--append", "hang=connect:1", "--node", "A")
    wait_for(lambda: len(c.fragments()) == 3, "its fragments")
    c.kill("A")
    wait_for(lambda: not c.fragments(), "its parts to go")
    c.start("A", join="B")
    p.communicate(timeout=LIMIT_S)
    check(p.returncode != 0, "the client is told")
    c.wait_mesh("A", "B", "C")
    c.wait_free("A")


def birth_killed(c):
    c.up("A", "B", "C")
    for step in ("connect:0", "connect:2"):
        p = c.client(*SPAN, "--append", f"hang={step}", "--node", "A")
        wait_for(lambda: len(c.fragments()) == 3, "its fragments")
        check(c.vm("A", "v1")["state"] == "starting", "it is being started")
        c.run("kill", "v1", "--node", "B")
        p.communicate(timeout=LIMIT_S)
        check(p.returncode == 14, f"the client is told: {p.returncode}")
        check(not c.fragments(), "nothing of it is left")
    p = c.client(*SPAN, "--append", "hang=connect:1", "--node", "A")
    wait_for(lambda: len(c.fragments()) == 3, "its fragments")
    p.send_signal(signal.SIGTERM)
    p.communicate(timeout=LIMIT_S)
    check(p.returncode == 14 and not c.fragments(), "SIGTERM rolls it back")


def fragment_stopped(c):
    c.up("A", "B")
    c.ok("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--detach", "--node", "A")
    os.kill(c.fragments()["B", "v1"], signal.SIGSTOP)
    c.run("kill", "v1", "--node", "A")
    check(not c.fragments(), "a fragment that does not answer is killed")
    c.wait_free("A")


def fragment_killed(c):
    c.up("A", "B", "C")
    for victim in "ABC":
        c.ok(*SPAN, "--detach", "--node", "A")
        p = c.client("console", "v1", "--node", "A")
        read_until(p, b"fake guest")
        os.kill(c.fragments()[victim, "v1"], signal.SIGKILL)
        _, err = p.communicate(timeout=LIMIT_S)
        check(p.returncode == 13 and f"node {victim}".encode() in err, f"the console tells: {p.returncode} {err}")
        end = c.wait_state("A", "v1", "ended")["end"]
        check(end["reason"] == "lost-node" and end["node"] == victim, f"why it ended: {end}")
        check(not c.fragments(), "nothing of it is left")
        c.wait_free("A")


def node_error(c):
    """KVM refuses to run the guest any further: its instructions are where there is no memory. Two real fragments, on whatever KVM this host has."""
    need_kvm(c)
    c.up("A", "B")
    kernel = os.path.join(c.root, "lost")
    tiny_kernel.write(kernel, tiny_kernel.say(b"ready") + tiny_kernel.wait_for_key() + tiny_kernel.say(b", into the hole") + tiny_kernel.jump(0xD0000000))
    for place, node in (("A:1", "A"), ("A:1,B:1", "A"), ("B:1,A:1", "B")):
        for _ in range(5):
            p = c.client("run", "--name", "v1", "--kernel", kernel, "--memory", "64M", "--place", place, "--unsafe-mmu", "--node", "A")
            read_until(p, b"ready")
            type_in(p, "x")
            out, err = p.communicate(timeout=LIMIT_S)
            check(p.returncode == 15, f"exit code {p.returncode}: {err}")
            check(f"v1 ended: node-error, node {node}: KVM internal error".encode() in err, f"what, and where: {err}")
            check(out == b", into the hole", f"all that the guest said before: {out}")
            end = json.loads(c.ok("info", "v1", "--json", "--node", "A"))["end"]
            check((end["reason"], end["node"], end["code"]) == ("node-error", node, 15), f"as JSON: {end}")
            said = c.verdicts()
            check(said == [f"node-error, node {node}"] * len(place.split(",")), f"one cause for all fragments: {said}")
            c.wait_free("A")


def resets(c):
    """A guest that resets itself goes on in the same places, under its clients' eyes, whoever else wants its places, and after its daemon was another."""
    c.up("A", "B")
    near = c.client("run", "--fake", "--name", "v1", "--place", "A:2:400M,B:2:400M", "--node", "A")
    read_until(near, b"fake guest")
    far = c.client("console", "v1", "--node", "B")
    read_until(far, b"fake guest")
    thief = c.client("run", "--fake", "--name", "v2", "--place", "B:1:200M", "--detach", "--node", "B")
    for n in range(1, 4):
        before = c.fragments()
        type_in(near, f"word{n}\rreset\r")
        for p in (near, far):
            read_until(p, f"word{n}\rreset\rfake guest: 4 CPUs on 2 nodes\r\n".encode())
            while thief.poll() is not None:
                check(thief.returncode == 3, f"there is no place for another: {thief.communicate()}")
                thief = c.client("run", "--fake", "--name", "v2", "--place", "B:1:200M", "--detach", "--node", "B")
                break
        c.wait_state("B", "v1", "running")
        check(set(c.fragments()) == set(before) and not set(c.fragments().values()) & set(before.values()), "new fragments in the old ones' places")
        check(c.vm("B", "v1")["resets"] == n, "it is counted")
        if n == 2:
            c.kill("A")
            c.start("A", join="B")
            c.wait_mesh("A", "B")
    thief.communicate(timeout=LIMIT_S)
    type_in(near, "poweroff\r")
    for p in (near, far):
        _, err = p.communicate(timeout=LIMIT_S)
        check(p.returncode == 0 and b"v1 was reset by its guest and starts again" in err, f"both stayed to the end: {p.returncode} {err}")
    c.wait_free("A")


def real_resets(c):
    """The same with a machine: two fragments on this host's KVM."""
    need_kvm(c)
    c.up("A", "B")
    kernel = os.path.join(c.root, "resets")
    tiny_kernel.write(kernel, tiny_kernel.say(b"up ") + tiny_kernel.wait_for_key() + tiny_kernel.say(b"down ") + tiny_kernel.reset())
    for place in ("A:1", "A:1,B:1", "B:1,A:1"):
        p = c.client("run", "--name", "v1", "--kernel", kernel, "--memory", "64M", "--place", place, "--unsafe-mmu", "--node", "A")
        read_until(p, b"up ")
        for _ in range(3):
            type_in(p, "x")
            read_until(p, b"down up ")
        check(c.vm("A", "v1")["resets"] == 3, "three times")
        c.ok("kill", "v1", "--node", "A")
        p.communicate(timeout=LIMIT_S)
        c.wait_free("A")


def resets_that_end(c):
    c.up("A", "B")
    run = ("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--node", "A")
    p = c.client(*run)
    for n in range(5):
        read_until(p, b"fake guest")
        type_in(p, "reset\r")
    _, err = p.communicate(timeout=LIMIT_S)
    check(p.returncode == 10 and b"5 times in a row" in err, f"not for ever: {p.returncode} {err}")
    check(not c.fragments() and all(n["cpus_used"] == 0 for n in c.ls("A")["nodes"]), "what it was lent has been given back")
    p = c.client(*run)
    read_until(p, b"fake guest")
    type_in(p, "deaf\r")
    read_until(p, b"deaf")
    stop = c.client("stop", "v1", "--node", "B")
    read_until(p, b"power button")
    type_in(p, "reset\r")
    stop.communicate(timeout=LIMIT_S)
    check(stop.returncode == 10, "who asked for its end gets it")
    p.communicate(timeout=LIMIT_S)
    p = c.client(*run, "--append", "fail=again:1")
    read_until(p, b"fake guest")
    type_in(p, "reset\r")
    _, err = p.communicate(timeout=LIMIT_S)
    words = b"v1 ended: node-error, node B: it reset itself and was not started again: node B was told to fail at again"
    check(p.returncode == 15 and words in err, f"it cannot start again: {p.returncode} {err}")
    check(not c.fragments(), "nothing of it is left")
    c.wait_free("A")


def sandboxed(c):
    """Every thread of a fragment is locked up; what it must not do ends its VM, and nothing else."""
    sandbox = next(k for k in json.loads(c.run("doctor", "--json").stdout)["checks"] if k["check"] == "sandbox")
    if sandbox["level"] != "OK":
        raise Skipped(sandbox["found"])
    c.up("A", "B", "C")
    c.ok("run", "--fake", "--name", "v2", "--place", "B:1:4M,A:1:4M", "--detach", "--node", "C")
    p = c.client("run", "--fake", "--name", "v1", "--place", "B:1:4M,A:1:4M", "--node", "C")
    read_until(p, b"fake guest")
    users = set()
    for (node, vm), pid in c.fragments().items():
        check(not os.listdir(f"/proc/{pid}/root"), f"{node} {vm}: an empty root")
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8") as f:
                status = dict(line.rstrip("\n").split(":\t") for line in f if ":\t" in line)
            check(status["Seccomp"] == "2" and status["NoNewPrivs"] == "1" and int(status["CapPrm"], 16) == 0, f"{node} {vm}, thread {task}: {status}")
            users.add((vm, status["Uid"]))
    check(os.geteuid() != 0 or len({uid for _, uid in users}) == 2, f"a user a VM: {users}")
    killed = c.fragments()["B", "v1"]
    type_in(p, "forbidden\r")
    _, err = p.communicate(timeout=LIMIT_S)
    words = f"v1 ended: lost-node, node B: its fragment (process {killed}) was killed by its sandbox (system call 41)"  # socket
    check(p.returncode == 13 and words.encode() in err, f"the client is told: {p.returncode} {err}")
    check(c.verdicts() == ["lost-node, node B"], "its peer blames it")
    check("killed by its sandbox (system call 41)" in json.loads(c.ok("info", "v1", "--json", "--node", "A"))["end"]["what"], "so does info")
    check(set(c.fragments()) == {("A", "v2"), ("B", "v2")} and c.vm("A", "v2")["state"] == "running", "the other VM runs on")
    c.ok("stop", "v2", "--node", "A")
    c.wait_free("A")


def no_sandbox(c):
    c.up("A")
    p = c.client("run", "--fake", "--name", "v1", "--no-sandbox")
    read_until(p, b"fake guest")
    type_in(p, "forbidden\r")
    read_until(p, b"it was allowed")
    type_in(p, "poweroff\r")
    _, err = p.communicate(timeout=LIMIT_S)
    check(p.returncode == 0 and b"without a sandbox" in err, f"and a warning: {err}")


def causes_at_once(c):
    """A guest's own end and a fragment's death in the same moment: one cause for all, and only one of these two."""
    c.up("A", "B", "C")
    seen = set()
    for k in range(12):
        p = c.client(*SPAN, "--node", "A")
        read_until(p, b"fake guest")
        victim = "BC"[k % 2]
        pid = c.fragments()[victim, "v1"]
        type_in(p, "panic\r")
        with contextlib.suppress(ProcessLookupError): # the panic was quicker
            os.kill(pid, signal.SIGKILL)
        _, err = p.communicate(timeout=LIMIT_S)
        ends = [c.vm(n, "v1")["end"] for n in "ABC" if c.wait_state(n, "v1", "ended")]
        said = c.verdicts()
        check(len(said) >= 2 and len(set(said)) == 1, f"one cause for all fragments: {said}")
        check(all(e == ends[0] for e in ends), f"one cause for all daemons: {ends}")
        end = (p.returncode, ends[0]["reason"], ends[0]["node"])
        check(end in ((11, "panic", "A"), (13, "lost-node", victim)), f"a cause that happened: {end} {err}")
        check(not c.fragments(), "nothing of it is left")
        seen.add(end)
    c.wait_free("A")


def daemon_restarts(c):
    c.up("A", "B", "C")
    c.ok(*SPAN, "--detach", "--node", "A")
    p = c.client("console", "v1", "--node", "A")
    read_until(p, b"fake guest")
    before = c.fragments()
    for victim in ("A", "B", "C"):
        for sig in (signal.SIGKILL, signal.SIGTERM):
            c.kill(victim, sig)
            check(c.fragments() == before, f"daemon {victim}'s end does not disturb the VM")
            c.start(victim, join="B" if victim == "A" else "A")
            c.wait_mesh("A", "B", "C")
            c.wait_state("A", "v1", "running")
            node = next(n for n in c.ls(victim)["nodes"] if n["node"] == victim)
            check(node["cpus_used"] == (2 if victim == "A" else 1), f"what is lent is known again: {node}")
            type_in(p, f"after {victim} {sig}\r")
            read_until(p, f"after {victim} {sig}".encode())
    c.ok("stop", "v1", "--node", "C")
    p.communicate(timeout=LIMIT_S)
    check(p.returncode == 0, "the console saw its end")
    c.wait_free("A")


def vm_files(c):
    """run --file, info --yaml, and back again; the file outlives its client and the daemon, and other nodes can show it."""
    c.up("A", "B")
    key, first, second = (os.path.join(c.root, name) for name in ("k.pub", "v1.yaml", "again.yaml"))
    with open(key, "w", encoding="utf-8") as f:
        f.write("ssh-ed25519 AAAA me\n")
    with open(first, "w", encoding="utf-8") as f:
        f.write('# a VM\nname: v1\nfake: true\nplace: "A:1:64M,B:1:64M"\nappend: "quiet  x=\'1\' # no comment"\nssh-key:\n  - k.pub\n')
    c.refused(2, "v1.yaml:2: there is no option nam", "run", "--file", broken(c, first, "name:", "nam:"), "--node", "A")
    c.ok("run", "--file", first, "--detach", "--node", "A")
    text = c.ok("info", "v1", "--yaml", "--node", "B")
    check(f"- {key}\n" in text and "detach: true" in text and "node" not in text, f"what was asked for: {text}")
    c.kill("A")
    c.start("A", join="B")
    c.wait_mesh("A", "B")
    c.wait_state("A", "v1", "running")
    check(c.ok("info", "v1", "--yaml", "--node", "A") == text, "a daemon that was started again knows it from the fragment")
    c.ok("kill", "v1", "--node", "A")
    with open(second, "w", encoding="utf-8") as f:
        f.write(text)
    c.ok("run", "-f", second, "--node", "A")
    check(c.ok("info", "v1", "--yaml", "--node", "B") == text, "a file that was printed prints itself")
    c.ok("kill", "v1", "--node", "A")
    c.ok("run", "-f", second, "--cpus", "2", "--name", "v2", "--place", "B:2", "--node", "A")
    text = c.ok("info", "v2", "--yaml", "--node", "A")
    check("name: v2" in text and "cpus: 2" in text and "place: B:2\n" in text, f"the command line wins: {text}")
    c.ok("kill", "v2", "--node", "A")
    c.refused(3, "no VM named v3", "info", "v3", "--yaml", "--node", "A")


def broken(c, path, old, new):
    """A copy with something else in it, under the same name in another folder."""
    folder = os.path.join(c.root, "broken")
    os.makedirs(folder, exist_ok=True)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    path = os.path.join(folder, os.path.basename(path))
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new, 1))
    return path


def vm_ends_without_daemon(c):
    c.up("A", "B", "C")
    c.ok(*SPAN, "--detach", "--node", "A")
    c.kill("B")
    os.kill(c.fragments()["B", "v1"], signal.SIGKILL)
    end = c.wait_state("A", "v1", "ended")["end"]
    check(end["reason"] == "lost-node" and end["node"] == "B", f"why it ended: {end}")
    c.start("B", join="A")
    c.wait_mesh("A", "B", "C")
    c.wait_free("A")
    c.ok(*SPAN, "--detach", "--node", "A")
    c.kill("A")
    os.kill(c.fragments()["A", "v1"], signal.SIGKILL)
    wait_for(lambda: not c.fragments(), "its other parts to stop")
    c.start("A", join="B")
    c.wait_mesh("A", "B", "C")
    c.wait_free("A")
    c.ok(*SPAN, "--detach", "--node", "A")
    c.ok("kill", "v1", "--node", "A")


def daemon_stopped(c):
    c.up("A", "B", "C")
    c.ok(*SPAN, "--detach", "--node", "A")
    c.daemons["C"].send_signal(signal.SIGSTOP)
    wait_for(lambda: next(n for n in c.ls("A")["nodes"] if n["node"] == "C")["state"] == "lost", "C to be seen as lost")
    c.refused(4, "node C cannot be reached", "run", "--fake", "--name", "v2", "--place", "A:0:64M,C:1", "--node", "A")
    check(c.vm("A", "v1")["state"] == "running", "the VM runs on")
    c.daemons["C"].send_signal(signal.SIGCONT)
    c.wait_mesh("A", "B", "C")
    c.ok("kill", "v1", "--node", "A")


def stop_and_kill(c):
    c.up("A", "B")
    p = c.client("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--node", "A")
    read_until(p, b"fake guest")
    type_in(p, "deaf\r")
    read_until(p, b"deaf")
    done = c.run("stop", "v1", "--timeout", "1", "--node", "B")
    words = "v1 ended: killed, node A: tessera stop: the guest did not switch itself off within 1 s of its power button"
    check(done.returncode == 14 and words in done.stderr, f"a deaf guest is killed: {done.returncode} {done.stderr}")
    p.communicate(timeout=LIMIT_S)
    check(p.returncode == 14, "and its client is told")
    for words, code, reason in (("", 0, "power-off"), ("deaf\r", 14, "killed")):
        p = c.client("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--node", "A")
        read_until(p, b"fake guest")
        type_in(p, words + "!")
        read_until(p, b"!")
        done = c.run("stop", "v1", "--timeout", "1", "--json", "--node", "B")
        end = json.loads(done.stdout)["end"]
        check((done.returncode, end["code"], end["reason"]) == (code, code, reason), f"as JSON: {done.returncode} {end}")
        p.communicate(timeout=LIMIT_S)
    c.ok("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--detach", "--node", "A")
    c.ok("kill", "v1", "--node", "B")
    c.wait_free("A")


def quit_verb(c):
    c.up("A", "B")
    c.ok("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--detach", "--node", "A")
    c.ok("quit", "--node", "B")
    c.daemons.pop("B").wait(LIMIT_S)
    check(len(c.fragments()) == 2, "the VM runs on")
    c.start("B", join="A")
    c.wait_mesh("A", "B")
    c.ok("quit", "--kill-vms", "--node", "B")
    c.daemons.pop("B").wait(LIMIT_S)
    check(not c.fragments(), "the VM is gone")
    c.wait_free("A")


def garbage(c):
    c.up("A", "B")
    host, port = c.address["A"].rsplit(":", 1)
    path = os.path.join(c.run_dir, "A", "control.sock")
    pieces = [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70000, struct.pack("<IHH", 4, 64, 0) + b"abcd", struct.pack("<IHH", 0, 3, 0),
              struct.pack("<IHH", 1 << 31, 64, 0), struct.pack("<IHH", 5, 9999, 0) + b"abcde", b""]
    for piece in pieces:
        for kind, target in ((socket.AF_INET, (host, int(port))), (socket.AF_UNIX, path)):
            with socket.socket(kind) as s:
                s.settimeout(LIMIT_S)
                s.connect(target)
                try:
                    s.sendall(piece)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except OSError:
                    pass  # it has hung up on us
    check(next(n for n in c.ls("A")["nodes"] if n["node"] == "A")["garbage"] >= 5, "it is counted")
    c.ok("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--detach", "--node", "A")
    frag = json.loads(c.ok("info", "v1", "--json", "--node", "A"))["parts"][1]["address"]
    for piece in pieces:
        try:
            with socket.create_connection((frag.rsplit(":", 1)[0], int(frag.rsplit(":", 1)[1]))) as s:
                s.sendall(piece)
        except ConnectionError:
            pass
    check(c.vm("A", "v1")["state"] == "running", "the VM does not mind")
    c.ok("kill", "v1", "--node", "A")


def doctor(c):
    alone = json.loads(c.run("doctor", "--json").stdout)["checks"]
    check({"kernel", "kvm", "userfaultfd", "memory"} <= {k["check"] for k in alone}, "this host is checked without a daemon")
    c.up("A", "B")
    done = c.run("doctor", "--json", "--node", "A")
    checks = json.loads(done.stdout)["checks"]
    for node, other in ("AB", "BA"):
        mine = {k["check"]: k for k in checks if k["node"] == node}
        check(set(mine) >= {k["check"] for k in alone}, f"node {node} is checked: {sorted(mine)}")
        check("round trip" in mine[f"net {other}"]["found"], f"the network is measured: {mine}")
    check(all(k["why"] and (k["level"] == "OK") == (not k["fix"]) for k in checks), "each line says why; each that is not OK, what to do")
    check((done.returncode == 3) == any(k["level"] == "FAIL" for k in checks), f"exit code {done.returncode}")
    mmu = next((k for k in checks if k["check"] == "mmu"), None)
    if mmu and mmu["level"] == "FAIL":
        c.refused(3, mmu["found"].split(":")[0], "run", "--name", "v1", "--kernel", c.tessera, "--place", "A:1,B:1", "--node", "A")
    stock = next((k for k in checks if k["check"] == "stock kernel"), None)
    if stock and stock["level"] == "FAIL":
        c.refused(3, "node A cannot run a stock kernel", "run", "--name", "v1", "--kernel", c.tessera, "--place", "A:1", "--node", "A")


TESTS = {f.__name__: f for f in (join, join_waits, same_name, other_version, run_and_end, run_again_at_once, ended_before, foreground, console, detach_key,
                                 client_signals, refusals, placed_elsewhere, json_twins, strange_words, early_words, stats_side_by_side, balloon, top, name_taken, name_raced, sixteen_nodes, births_that_fail,
                                 daemon_dies_in_birth, birth_killed, fragment_stopped, fragment_killed, node_error, resets, real_resets, resets_that_end, sandboxed, no_sandbox, causes_at_once, daemon_restarts, vm_files, vm_ends_without_daemon,
                                 daemon_stopped, stop_and_kill, quit_verb, garbage, doctor)}

if __name__ == "__main__":
    main(TESTS, sys.argv)
