#!/usr/bin/env python3
"""VMs come and go by the hundred and leave nothing: no process, no socket, no file, no descriptor, no memory. With the machine that has no guest on three
nodes, with the same and disks and network cards on two (raw and qcow2 disks, a seed, user networks, tap interfaces where this host lets us make them), and
with guests of a few instructions on two, where this host's KVM will do. Each ends in another way in turn.
usage: test_churn.py TESSERA TIMES [WORD OF A CASE]
"""
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import tiny_kernel
from cluster import LIMIT_S, Cluster, Failed, Skipped, check, need_kvm, wait_for

WARM = 40  # the daemons keep what ended last (32 VMs), and their allocators what they once needed
MORE_KIB = 1024  # that a daemon may hold in the end: some pages of its allocator are a matter of luck


def held(c):
    """Of each daemon: its descriptors and its resident memory in KiB."""
    found = {}
    for name, daemon in c.daemons.items():
        with open(f"/proc/{daemon.pid}/status", encoding="utf-8") as f:
            rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
        found[name] = (len(os.listdir(f"/proc/{daemon.pid}/fd")), rss)
    return found


def by_stop(c, name):
    c.ok("stop", name, "--node", "B")


def by_kill(c, name):
    c.ok("kill", name, "--node", "C" if "C" in c.daemons else "B")


def by_death(c, name):
    os.kill(c.fragments()["B", name], signal.SIGKILL)
    wait_for(lambda: c.vm("A", name)["state"] == "ended", f"{name} to end")


def attended(c, run, words, code):
    """In the foreground, until the last of these words ends it, or the guest itself."""
    p = c.client(*run)
    for word in words:
        while b"fake guest" not in p.stdout.readline():
            check(p.poll() is None, f"it is gone: {run}")
        p.stdin.write(word)
        p.stdin.flush()
    out, err = p.communicate(timeout=LIMIT_S)
    c.clients.remove(p)
    check(p.returncode == code, f"{words} ended it with {p.returncode}: {out} {err}")


def fake(c, n):
    """One VM's life. Names come again, so that a VM meets what an earlier one of its name may have left."""
    name = f"v{n % 7}"
    run = ("run", "--fake", "--name", name, "--place", "A:1:8M,B:1:8M,C:1:8M", "--node", "A")
    detached = (by_stop, by_kill, by_death)
    way = n % (len(detached) + 3)
    if way < len(detached):
        c.ok(*run, "--detach")
        detached[way](c, name)
    elif way == 3:
        attended(c, run, [b"poweroff\r"], 0)
    elif way == 4:
        attended(c, run, [b"reset\r", b"reset\r", b"poweroff\r"], 0)
    else:
        c.refused(3, "was told to fail", *run, "--append", f"fail={('prepare', 'connect', 'start')[n // 6 % 3]}:{n // 18 % 3}")


class Furniture:
    """Of a cluster's VMs: options that ask for it, and what is left of it."""

    def __init__(self, c):
        self.c = c
        self.raw = os.path.join(c.root, "raw")
        with open(self.raw, "wb") as f:
            f.truncate(1 << 20)
        self.options = ["--disk", self.raw, "--hostname", "web"]
        self.folders = self.nbd_folders()
        self.mark = None  # in the command lines of the passts
        self.taps = []
        if shutil.which("qemu-nbd") and shutil.which("qemu-img"):
            image = os.path.join(c.root, "image.qcow2")
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1M"], check=True)
            self.options += ["--disk", image + ",node=B"]
        if shutil.which("passt"):
            with socket.create_server(("127.0.0.1", 0)) as s:
                port = s.getsockname()[1]
            self.mark = f"127.0.0.1/{port}:22"
            self.options += ["--net", f"user,forward=tcp:127.0.0.1:{port}:22", "--net", "user,node=B"]
        tap = f"tss{os.getpid() % 1000000}"
        trial = c.run("run", "--fake", "--name", "trial", "--memory", "8M", "--net", f"tap,name={tap}", "--detach", "--node", "A")
        if trial.returncode == 0:
            c.ok("kill", "trial", "--node", "A")
            self.taps = [tap]
            self.options += ["--net", f"tap,name={tap}"]

    @staticmethod
    def nbd_folders():
        return {f for f in os.listdir("/tmp") if f.startswith("tessera-nbd-")}

    def helpers(self):
        """Processes that serve this cluster's VMs, by what they are."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    line = f.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            words = line.split()
            ours = self.c.root in line or (self.mark and self.mark in line)
            if ours and (words[0].endswith(("passt", "qemu-nbd")) or "passt" in words[0] or words[1:2] == ["dial"]):
                found.append(f"{pid}: {line}")
        return found

    def locked(self):
        with open(self.raw, "r+b") as f:
            try:
                fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLK
                return False
            except BlockingIOError:
                return True

    def judge(self):
        wait_for(lambda: not self.helpers(), f"helpers to end: {self.helpers()}")
        wait_for(lambda: not self.nbd_folders() - self.folders, "folders of sockets to be removed")
        check(not self.locked(), "the disk is free")
        check(not [t for t in self.taps if os.path.exists(f"/sys/class/net/{t}")], "the tap interface is gone")


def furnished(c, n):
    """As fake(), with disks and network cards."""
    if n == 0:
        c.furniture = Furniture(c)
        print(f"     with {' '.join(c.furniture.options).replace(c.root, '')}", flush=True)
    run = ("run", "--fake", "--name", f"v{n % 7}", "--place", "A:1:8M,B:1:8M", "--node", "A", *c.furniture.options)
    detached = (by_stop, by_kill, by_death)
    way = n % (len(detached) + 2)
    if way < len(detached):
        c.ok(*run, "--detach")
        detached[way](c, f"v{n % 7}")
    elif way == 3:
        attended(c, run, [b"reset\r", b"poweroff\r"], 0)
    else:
        c.refused(3, "was told to fail", *run, "--append", f"fail={('prepare', 'connect', 'start')[n // 5 % 3]}:{n // 15 % 2}")


def real(c, n):
    """It resets itself as soon as it is up, or waits to be killed."""
    run = ("run", "--name", "v1", "--memory", "16M", "--place", "A:1,B:1" if n % 2 else "A:1", "--unsafe-mmu", "--node", "A")
    if n % 3:
        attended(c, run + ("--no-reboot", "--kernel", os.path.join(c.root, "resets")), [], 10)
    else:
        c.ok(*run, "--detach", "--kernel", os.path.join(c.root, "waits"))
        by_kill(c, "v1")


def churn(c, one, times):
    before = None
    for n in range(times):
        if n == min(WARM, times // 2):
            before = held(c)
        one(c, n)
    wait_for(lambda: not c.fragments(), "the last fragments to go")
    c.wait_free("A")
    wait_for(lambda: all(fds <= before[name][0] for name, (fds, _) in held(c).items()), # a client's stream is closed a moment after the client has gone
             f"all nodes to hold no more descriptors than {[fds for fds, _ in before.values()]}")
    for name, (_, rss) in held(c).items():
        check(rss <= before[name][1] + MORE_KIB, f"node {name} holds {rss} KiB, {before[name][1]} before")
        left = os.listdir(os.path.join(c.run_dir, name, "vms"))
        check(not left, f"node {name} has {left}")
    if hasattr(c, "furniture"):
        c.furniture.judge()
    after = held(c)
    print("     descriptors and KiB of the daemons: " + ", ".join(f"{n} {before[n][0]} and {before[n][1]}, then {after[n][0]} and {after[n][1]}" for n in after), flush=True)


def case(tessera, what, nodes, one, times):
    with Cluster(tessera) as c:
        if one is real:
            need_kvm(c)
            tiny_kernel.write(os.path.join(c.root, "resets"), tiny_kernel.say(b"up") + tiny_kernel.reset())
            tiny_kernel.write(os.path.join(c.root, "waits"), tiny_kernel.say(b"up") + tiny_kernel.wait_for_key())
        c.up(*nodes, lend="cpus=4,memory=256M")
        began = time.monotonic()
        churn(c, one, times)
        print(f"ok   {times} {what}, {(time.monotonic() - began) * 1000 / times:.0f} ms each", flush=True)


def main():
    tessera, times = sys.argv[1], int(sys.argv[2])
    cases = (("VMs without a guest on three nodes", "ABC", fake), ("VMs with disks and network cards on two nodes", "AB", furnished),
             ("tiny guests on one node and on two", "AB", real))
    for what, nodes, one in cases:
        if len(sys.argv) > 3 and sys.argv[3] not in what:
            continue
        try:
            case(tessera, what, nodes, one, times)
        except Skipped as e:
            print(f"SKIP {what}: {e}", flush=True)
        except (Failed, subprocess.TimeoutExpired, OSError) as e:
            print(f"FAIL {what}: {e}", flush=True)
            sys.exit(1)


if __name__ == "__main__":
    main()
