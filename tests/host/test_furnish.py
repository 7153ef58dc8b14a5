#!/usr/bin/env python3
"""Disks and network cards on their way from the command line to the nodes that have them, with the machine that has no guest (run --fake).
usage: test_furnish.py TESSERA [TEST...]
"""
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys

from cluster import LIMIT_S, Skipped, check, main, wait_for

RUN = ("run", "--fake", "--node", "A", "--detach", "--memory", "64M")


def image(c, name, size=1 << 20):
    path = os.path.join(c.root, name)
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def locked(path):
    """Does somebody hold the lock of that file?"""
    with open(path, "r+b") as f:
        try:
            fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
            return False
        except BlockingIOError:
            return True


def start(c, name, *args, place="A:1,B:1"):
    return c.ok(*RUN, "--name", name, "--place", place, *args)


def refuse(c, words, *args, place="A:1,B:1"):
    done = c.run(*RUN, "--name", "v9", "--place", place, *args)
    check(done.returncode != 0, f"{args} is refused")
    check(words in done.stderr and "->" in done.stderr, f"{args} did not say '{words}' and what to do: {done.stderr}")
    check(not c.vm("A", "v9"), "nothing is left of it")


def disks_are_opened_on_their_node(c):
    c.up("A", "B")
    a, b = image(c, "a"), image(c, "b,with,commas")
    start(c, "v1", "--disk", a, "--disk", b.replace(",", ",,") + ",node=B,cache=none")
    check(locked(a) and locked(b), "both are in use")
    stats = json.loads(c.ok("stats", "v1", "--json", "--node", "A"))["nodes"]
    check("disk.0.reads" in stats["A"] and "disk.1.reads" not in stats["A"], f"the first is on A: {stats}")
    check("disk.1.reads" in stats["B"] and "disk.0.reads" not in stats["B"], f"the second is on B: {stats}")
    top = json.loads(c.ok("top", "v1", "--once", "--json", "--node", "A"))
    check([(d["disk"], d["node"]) for d in top["disks"]] == [(0, "A"), (1, "B")] and top["nets"] == [], f"top shows them: {top}")
    queues = {(q["device"], q["queue"]): q for q in top["queues"]}
    check({k: q["node"] for k, q in queues.items()} == {("blk0", 0): "A", ("blk0", 1): "B"}, f"and where queues are served: {top}")
    one, two = queues["blk0", 0], queues["blk0", 1]
    check(one["requests_per_s"] > 0 and two["requests_per_s"] == 2 * one["requests_per_s"], f"and how much they are asked for: {top}")
    check(abs(one["bytes_per_s"] - 4096 * one["requests_per_s"]) < 1 and one["waits_per_s"] == 0, f"bytes, and waits for memory: {top}")
    picture = c.ok("top", "v1", "--once", "--node", "A")
    check("disk1" in picture, "and to people")
    rows = [line.split()[:2] for line in picture.splitlines() if line.startswith("blk0.")]
    check(rows == [["blk0.1", "B"], ["blk0.0", "A"]], f"the busiest queue first: {picture}")
    c.ok("kill", "v1", "--node", "A")
    check(not locked(a) and not locked(b), "both are free")


def a_seed_is_a_disk_of_the_first_node(c):
    c.up("A", "B")
    start(c, "v1", "--disk", image(c, "b") + ",node=B", "--hostname", "web")
    stats = json.loads(c.ok("stats", "v1", "--json", "--node", "A"))["nodes"]
    check("disk.1.reads" in stats["A"] and "disk.0.reads" in stats["B"], f"it comes last: {stats}")
    c.kill("A", signal.SIGKILL)
    c.start("A", join="B")
    c.wait_state("A", "v1", "running")
    c.ok("kill", "v1", "--node", "A")


def paths_are_the_clients(c):
    c.up("A", "B")
    image(c, "here")
    c.tessera = os.path.abspath(c.tessera)
    done = c.run(*RUN, "--name", "v1", "--place", "A:1", "--disk", "here", cwd=c.root)
    check(done.returncode == 0, f"a path from where the client is: {done.stderr}")
    check(locked(os.path.join(c.root, "here")), "it is in use")
    c.ok("kill", "v1", "--node", "A")


def a_node_with_a_disk_takes_part(c):
    """Without --place."""
    c.up("A", "B", "C")
    c.ok(*RUN, "--name", "v1", "--disk", image(c, "b") + ",node=B")
    parts = json.loads(c.ok("info", "v1", "--json", "--node", "A"))["parts"]
    check([(p["node"], p["vcpus"], p["memory_bytes"]) for p in parts] == [("A", [0], 56 << 20), ("B", [], 8 << 20)], f"an eighth of the memory is B's: {parts}")
    c.ok("kill", "v1", "--node", "A")
    c.kill("B")
    wait_for(lambda: any(n["node"] == "B" and n["state"] == "lost" for n in c.ls("A")["nodes"]), "B to be missed")
    done = c.run(*RUN, "--name", "v2", "--disk", image(c, "b2") + ",node=B")
    check(done.returncode == 4 and "node B, which is to have a disk" in done.stderr and "->" in done.stderr, f"it cannot now: {done.stderr}")
    c.start("B", join="A")


def what_cannot_be_is_refused(c):
    c.up("A", "B", "C")
    a = image(c, "a")
    refuse(c, "/nowhere/x", "--disk", "/nowhere/x")
    done = c.run(*RUN, "--name", "v9", "--place", "A:1,B:1", "--disk", "/nowhere/x,node=B", "--json")
    error = json.loads(done.stdout or done.stderr)["error"]
    check(error["node"] == "B" and "No such file" in error["what"], f"it is B that does not have it: {error}")
    refuse(c, "there is no node Z", "--disk", a + ",node=Z")
    refuse(c, "node C has no part of v9", "--disk", a + ",node=C")
    refuse(c, "there is no node Z", "--net", "user,node=Z")
    refuse(c, "neither a file nor a block device", "--disk", "/dev/null")
    refuse(c, "cannot read 'fast=yes'", "--disk", a + ",fast=yes")
    refuse(c, "is no kind of network card", "--net", "token-ring")
    if os.getuid() == 0 and os.path.exists("/dev/net/tun"):
        refuse(c, "there is no bridge none0", "--net", "tap,bridge=none0")
    refuse(c, "at most 8 disks", *["--disk", "/x"] * 9)
    check(not locked(a), "what was opened before the refusal is free again")


def read_only_disks_are_shared_and_others_are_not(c):
    c.up("A", "B", lend="cpus=4,memory=512M")
    a = image(c, "a")
    start(c, "v1", "--disk", a)
    refuse(c, "is in use by ", "--disk", a)
    done = c.run(*RUN, "--name", "v9", "--place", "A:1,B:1", "--disk", a + ",node=B")
    if os.getuid() == 0:  # others do not see into a sandbox
        check(re.search(r"in use by process \d+ \(tessera fragment A v1", done.stderr), f"the holder is named: {done.stderr}")
    refuse(c, "in use by", "--disk", a + ",readonly")
    c.ok("kill", "v1", "--node", "A")
    start(c, "v1", "--disk", a + ",readonly", place="A:1")
    start(c, "v2", "--disk", a + ",readonly", "--disk", a + ",readonly,node=B")
    refuse(c, "in use by", "--disk", a)
    c.ok("kill", "v1", "--node", "A")
    c.ok("kill", "v2", "--node", "A")


def a_disk_is_free_when_its_vm_ends(c):
    c.up("A", "B")
    a = image(c, "a")
    for _ in range(5):
        start(c, "v1", "--disk", a + ",node=B")
        c.ok("kill", "v1", "--node", "A")
    start(c, "v1", "--disk", a + ",node=B")
    os.kill(c.fragments()[("B", "v1")], signal.SIGKILL)
    c.wait_state("A", "v1", "ended")
    c.wait_free("A")
    start(c, "v1", "--disk", a)
    c.ok("kill", "v1", "--node", "A")


def daemons_may_be_replaced(c):
    c.up("A", "B")
    a = image(c, "a")
    start(c, "v1", "--disk", a + ",node=B")
    c.kill("A", signal.SIGKILL)
    c.start("A", join="B")
    c.wait_mesh("A", "B")
    c.wait_state("A", "v1", "running")
    check(locked(a), "the disk is still in use")
    refuse(c, "is in use by ", "--disk", a)
    c.ok("kill", "v1", "--node", "A")
    check(not locked(a), "and then free")


def ended(pid):
    """Gone, or waiting for whoever inherited it to notice."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def other_formats_have_a_reader(c):
    if not shutil.which("qemu-img") or not shutil.which("qemu-nbd"):
        raise Skipped("qemu-utils is not installed")
    c.up("A", "B")
    path = os.path.join(c.root, "a.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    start(c, "v1", "--disk", path + ",node=B")
    readers = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if reads(pid, path)]
    check(len(readers) == 1, f"one qemu-nbd reads it: {readers}")
    refuse(c, "is in use by another program", "--disk", path)
    refuse(c, "not in qcow2 format", "--disk", image(c, "raw") + ",format=qcow2")
    os.kill(c.fragments()[("B", "v1")], signal.SIGKILL)
    c.wait_state("A", "v1", "ended")
    start(c, "v1", "--disk", path)  # its reader is given the time to end
    wait_for(lambda: ended(readers[0]), "the first reader to be gone")
    c.ok("kill", "v1", "--node", "A")
    check(json.loads(c.ok("info", "v1", "--json", "--node", "A"))["end"]["reason"] == "killed", "nothing was forbidden at the end")
    refuse(c, "cannot connect to the disk", "--disk", f"nbd+unix:///?socket={c.root}/none")


def trouble_reaches_who_cares(c):
    if not shutil.which("qemu-img") or not shutil.which("qemu-nbd"):
        raise Skipped("qemu-utils is not installed")
    c.up("A", "B")
    path = os.path.join(c.root, "a.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1M"], check=True)
    start(c, "v1", "--disk", path + ",node=B")
    console = c.client("console", "v1", "--node", "A")
    wait_for(lambda: os.read(console.stdout.fileno(), 1000), "the console")
    for pid in filter(lambda pid: reads(pid, path), filter(str.isdigit, os.listdir("/proc"))):
        os.kill(int(pid), signal.SIGKILL)
    for node in "AB":
        said = wait_for(lambda n=node: json.loads(c.ok("info", "v1", "--json", "--node", n)).get("trouble"), f"{node} to tell of it")
        check(said.startswith(f"node B: disk {path}: its qemu-nbd is gone"), said)
    check("trouble      node B: disk" in c.ok("info", "v1", "--node", "A"), "for people, too")
    check(b"[node B: disk" in os.read(console.stderr.fileno(), 4096), "the console says so")
    check(c.vm("A", "v1")["state"] == "running", "the VM lives")
    c.ok("kill", "v1", "--node", "A")


def reads(pid, path):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            args = f.read().split(b"\0")
    except OSError:
        return False
    return args[0].endswith(b"qemu-nbd") and path.encode() in args


def user_networking_forwards_ports(c):
    c.up("A", "B")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    forward = f"user,node=B,forward=tcp:127.0.0.1:{port}:22"
    done = c.run(*RUN, "--name", "v1", "--place", "A:1,B:1", "--net", forward)
    if "passt" in done.stderr:
        raise Skipped(done.stderr.strip())
    check(done.returncode == 0, done.stderr)
    with socket.create_connection(("127.0.0.1", port)):
        pass
    refuse(c, "passt", "--net", f"user,forward=tcp:127.0.0.1:{port}:22")
    os.kill(c.fragments()[("B", "v1")], signal.SIGKILL)
    c.wait_state("A", "v1", "ended")
    wait_for(lambda: c.run(*RUN, "--name", "v2", "--place", "A:1,B:1", "--net", forward).returncode == 0, "passt to end with its fragment, however that ends")
    c.ok("kill", "v2", "--node", "A")


def a_reset_keeps_them(c):
    """New fragments open the same disks: nobody else gets them in between for good, and they are the guest's again."""
    c.up("A", "B")
    a, b = image(c, "a"), image(c, "b")
    p = c.client("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--memory", "64M", "--disk", a, "--disk", b + ",node=B", "--node", "A")
    for n in range(3):
        while b"fake guest" not in p.stdout.readline():
            check(p.poll() is None, "it runs")
        c.wait_state("A", "v1", "running")
        check(c.vm("A", "v1")["resets"] == n and locked(a) and locked(b), "its disks are in use")
        stats = json.loads(c.ok("stats", "v1", "--json", "--node", "B"))["nodes"]
        check("disk.0.reads" in stats["A"] and "disk.1.reads" in stats["B"], f"where they were: {stats}")
        p.stdin.write(b"reset\r" if n < 2 else b"poweroff\r")
        p.stdin.flush()
    p.communicate(timeout=LIMIT_S)
    check(p.returncode == 0 and not locked(a) and not locked(b), "both are free")


def user_networking_survives_resets(c):
    """The new fragment's passt gets the ports of the old one's, which ends a moment after its fragment."""
    c.up("A", "B")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for _ in range(3):
        p = c.client("run", "--fake", "--name", "v1", "--place", "A:1,B:1", "--memory", "64M", "--net", f"user,node=B,forward=tcp:127.0.0.1:{port}:22", "--node", "A")
        for word in (b"reset\r", b"reset\r", b"poweroff\r"):
            line = p.stdout.readline()
            while b"fake guest" not in line:
                if not line and b"passt" in (err := p.communicate()[1]) and b"bind" not in err:
                    raise Skipped(err.decode().strip())
                check(line, "it comes up")
                line = p.stdout.readline()
            with socket.create_connection(("127.0.0.1", port)):
                pass
            p.stdin.write(word)
            p.stdin.flush()
        p.communicate(timeout=LIMIT_S)
        check(p.returncode == 0, "to its end")


def ssh_finds_the_guest(c):
    """A program called ssh that tells how it was called stands in for the real one."""
    c.up("A", "B")
    folder = os.path.join(c.root, "bin")
    os.makedirs(folder)
    with open(os.path.join(folder, "ssh"), "w", encoding="ascii") as f:
        f.write('#!/bin/sh\necho "$@"\nexit 7\n')
    os.chmod(f.name, 0o755)
    c.env["PATH"] = folder + ":" + c.env["PATH"]
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    start(c, "v1")
    done = c.run("ssh", "v1", "--node", "A")
    check(done.returncode == 3 and "forward=tcp:PORT:22" in done.stderr, f"without a card: {done.returncode} {done.stderr}")
    done = c.run("ssh", "v2", "--node", "A", "--json")
    check(done.returncode == 3 and "error" in json.loads(done.stdout), "no such VM")
    c.ok("kill", "v1", "--node", "A")
    for where, given, words in (("A", "", "127.0.0.1"), ("B", "", "127.0.0.1"), ("B", "0.0.0.0:", "127.0.0.1"), ("A", "127.0.0.2:", "127.0.0.2")): # all nodes are on this host
        done = c.run(*RUN, "--name", "v1", "--place", "A:1,B:1", "--net", f"user,node={where},forward=udp:{port}:22,forward=tcp:{given}{port}:22")
        if "passt" in done.stderr:
            raise Skipped(done.stderr.strip())
        check(done.returncode == 0, done.stderr)
        done = c.run("ssh", "v1", "--node", "A", "--user", "root", "--", "uname", "-r")
        check(done.returncode == 7, f"its exit status is ours: {done.returncode} {done.stderr}")
        check(done.stdout.split() == ["-p", str(port), "-o", "HostKeyAlias=tessera-v1", "-o", "StrictHostKeyChecking=accept-new", f"root@{words}", "uname", "-r"],
              f"how ssh was called: {done.stdout}")
        if given == "127.0.0.2:":
            done = c.run("ssh", "v1", "--node", "B")
            check(done.returncode not in (0, 7) and "node A's 127.0.0.2" in done.stderr, f"a loopback address of another node: {done.returncode} {done.stderr}")
        c.ok("kill", "v1", "--node", "A")


TESTS = {f.__name__: f for f in (disks_are_opened_on_their_node, a_reset_keeps_them, user_networking_survives_resets, a_seed_is_a_disk_of_the_first_node, paths_are_the_clients, a_node_with_a_disk_takes_part, what_cannot_be_is_refused,
	read_only_disks_are_shared_and_others_are_not,
                                 a_disk_is_free_when_its_vm_ends, daemons_may_be_replaced, other_formats_have_a_reader, trouble_reaches_who_cares,
                                 	user_networking_forwards_ports, ssh_finds_the_guest)}

if __name__ == "__main__":
    main(TESTS, sys.argv)
