"""Daemons on loopback for tests of a VM's life, with the machine that has no guest (run --fake): what src/node and src/cli do around a VM.

A Cluster starts daemons in a run directory of its own and, when it is closed, demands that nothing is left behind: no process, no socket, no file.
Waiting is for conditions, with one generous limit that only a hang reaches.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

LIMIT_S = 60


class Failed(Exception):
    """A check did not hold."""


class Skipped(Exception):
    """This host cannot show it; says why."""


def check(condition, what):
    if not condition:
        raise Failed(what)


def need_kvm(c):
    """Of this host, for guests of a few instructions."""
    able = {k["check"]: k for k in json.loads(c.run("doctor", "--json").stdout)["checks"]}
    for what in ("kvm", "kvm abilities", "userfaultfd"):
        if able.get(what, {"level": "FAIL"})["level"] == "FAIL":
            raise Skipped(able[what]["found"] if what in able else f"no {what}")


def wait_for(condition, what):
    """Until condition() is true; its value."""
    end = time.monotonic() + LIMIT_S
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, f"waited {LIMIT_S} s for: {what}")
        time.sleep(0.02)


class Cluster:
    """Nodes by name, each with its daemon's process."""

    def __init__(self, tessera):
        self.tessera = tessera
        self.root = tempfile.mkdtemp(prefix="tessera-test-")
        self.run_dir = os.path.join(self.root, "run")
        self.env = dict(os.environ, TESSERA_RUN_DIR=self.run_dir)
        self.env.pop("TESSERA_NODE", None)
        self.daemons = {}
        self.address = {}
        self.clients = []
        self.read = {}  # lines of each log already looked at

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.close(kind is None)
        finally:
            if kind:
                self.print_logs()
            shutil.rmtree(self.root, ignore_errors=True)

    def print_logs(self):
        for name in sorted(os.listdir(self.root)):
            if name.endswith(".log"):
                print(f"--- {name}")
                with open(os.path.join(self.root, name), encoding="utf-8", errors="replace") as log:
                    print(log.read(), end="")

    def start(self, name, lend="cpus=2,memory=512M", join=None, listen=None, wait=True):
        """Start (again) the daemon of a node; its address stays what it was."""
        listen = listen or self.address.get(name, "127.0.0.1:0")
        command = [self.tessera, "node", "--name", name, "--listen", listen, "--lend", lend]
        if join:
            command += ["--join", self.address[join]]
        with open(os.path.join(self.root, name + ".log"), "a", encoding="utf-8") as log:
            self.daemons[name] = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            self.wait_answers(name)
            self.address[name] = next(n["address"] for n in self.ls(name)["nodes"] if n["node"] == name)

    def wait_answers(self, name):
        wait_for(lambda: self.run("ls", "--node", name).returncode == 0 or self.daemons[name].poll() is not None, f"daemon {name} to answer")
        check(self.daemons[name].poll() is None, f"daemon {name} ended with {self.daemons[name].poll()}")

    def up(self, *names, lend="cpus=2,memory=512M"):
        """Start these nodes, joined, and wait until each sees all."""
        for name in names:
            self.start(name, lend=lend, join=names[0] if name != names[0] else None)
        self.wait_mesh(*names)

    def wait_mesh(self, *names):
        for name in names:
            wait_for(lambda n=name: {m["node"] for m in self.ls(n)["nodes"] if m["state"] in ("here", "up")} >= set(names), f"{name} to see {names}")

    def run(self, *args, **options):
        """A client, to its end."""
        return subprocess.run([self.tessera, *args], env=self.env, capture_output=True, text=True, timeout=LIMIT_S, check=False,
                              stdin=options.pop("stdin", subprocess.DEVNULL), **options)

    def ok(self, *args):
        done = self.run(*args)
        check(done.returncode == 0, f"{args} exited with {done.returncode}: {done.stderr}")
        return done.stdout

    def refused(self, code, words, *args):
        """The verb must fail with this code and say these words."""
        done = self.run(*args)
        check(done.returncode == code, f"{args} exited with {done.returncode}, not {code}: {done.stderr}")
        check(words in done.stderr, f"{args} did not say '{words}': {done.stderr}")
        check("->" in done.stderr, f"{args} did not say what to do: {done.stderr}")

    def client(self, *args):
        """A client that stays, with pipes."""
        p = subprocess.Popen([self.tessera, *args], env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.clients.append(p)
        return p

    def ls(self, node):
        done = self.run("ls", "--json", "--all", "--node", node)
        return json.loads(done.stdout) if done.returncode == 0 else {"nodes": [], "vms": []}

    def vm(self, node, name):
        return next((v for v in self.ls(node)["vms"] if v["vm"] == name), None)

    def wait_state(self, node, name, state):
        return wait_for(lambda: (lambda v: v if v and v["state"] == state else None)(self.vm(node, name)), f"{name} to be {state} at {node}")

    def wait_free(self, node):
        """Until no node that this one sees has anything lent."""
        wait_for(lambda: all(n["cpus_used"] == 0 and n["memory_used_bytes"] == 0 for n in self.ls(node)["nodes"] if n["state"] in ("here", "up")),
                 f"all nodes {node} sees to be free")

    def fragments(self):
        """Processes of fragments of this cluster, by (node, vm): those whose environment names our run directory."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    args = f.read().split(b"\0")
                with open(f"/proc/{pid}/environ", "rb") as f:
                    ours = f"TESSERA_RUN_DIR={self.run_dir}".encode() in f.read().split(b"\0")
                with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                    zombie = f.read().rsplit(")", 1)[1].split()[0] == "Z"
            except OSError:
                continue
            if ours and not zombie and len(args) > 3 and args[1] == b"fragment":
                found[args[2].decode(), args[3].decode()] = int(pid)
        return found

    def verdicts(self):
        """What fragments have said about ends: 'reason, node N', in the order of the nodes' logs; each is told once."""
        said = []
        for name in sorted(os.listdir(self.root)):
            if name.endswith(".log"):
                with open(os.path.join(self.root, name), encoding="utf-8", errors="replace") as f:
                    for line in f.readlines()[self.read.get(name, 0):]:
                        self.read[name] = self.read.get(name, 0) + 1
                        if "the VM ended: " in line:
                            said.append(line.split("the VM ended: ")[1].split(":")[0])
        return said

    def kill(self, name, sig=signal.SIGKILL):
        self.daemons[name].send_signal(sig)
        self.daemons[name].wait(LIMIT_S)
        return self.daemons.pop(name).returncode

    def close(self, demand):
        for p in self.clients:
            if p.poll() is None:
                p.kill()
            p.communicate()
        for name in list(self.daemons):
            p = self.daemons[name]
            if p.poll() is None:
                p.send_signal(signal.SIGCONT)
                p.terminate()
                try:
                    p.wait(10)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
            code = self.daemons.pop(name).returncode
            if demand:
                check(code == 0, f"daemon {name} ended with {code}")
        left = self.fragments()
        for pid in left.values():
            os.kill(pid, signal.SIGKILL)
        if demand:
            check(not left, f"fragments left behind: {left}")
            files = [os.path.join(d, f) for d, _, fs in os.walk(self.run_dir) for f in fs]
            check(not files, f"files left behind: {files}")


def main(tests, argv):
    """Run the tests named, or all: name -> function(tessera)."""
    tessera, wanted = argv[1], argv[2:] or list(tests)
    failed = skipped = 0
    for name in wanted:
        try:
            with Cluster(tessera) as cluster:
                tests[name](cluster)
            print(f"ok   {name}", flush=True)
        except Skipped as e:
            skipped += 1
            print(f"SKIP {name}: {e}", flush=True)
        except (Failed, subprocess.TimeoutExpired, OSError) as e:
            failed += 1
            print(f"FAIL {name}: {e}", flush=True)
    print(f"{len(wanted) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 77 if skipped == len(wanted) else 0)
